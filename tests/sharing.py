"""Holders of a shared key in this process: real ceremonies through the pure rounds, cards, certificates, evaluations.

    card = prepared(settings)                    # what `keys init --threshold` writes
    holders = Holders(card)                      # north, south, west
    made = holders.generate(2)                   # then refresh(), reshare(...), rotate()
    made.write(folder)                           # the files that holders give to the operator
    settings, holders, made = shared_ledger(database_url, folder)      # all of that, and the ledger begun
    settings, holders, made = copied_shared_ledger(database_url, folder)      # the same, made once for all tests

`Holders.secret` computes the key k itself from the shares, in plain integers: an oracle that no program of the product
has.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import make_url

from ledger.client.verify.log import LogReport, verify_log
from ledger.protocol import sodium, voprf
from ledger.protocol.ceremony import rounds
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.identifiers import Kind, canonical
from ledger.server.db.engine import open_engine
from ledger.server.keys.cards import NewSharing, prepare_for_holders
from ledger.server.log.genesis import init_keys
from ledger.server.reports.reports import submit_report
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from ledger.tlog.ceremony_files import (
    Ceremony,
    ParticipantFile,
    file_text,
    make_certificate,
    make_endorsement_file,
    make_participant,
)
from ledger.tlog.checkpoint import parse_verifier_key
from ledger.tlog.key_statement import Endorsement, KeyStatement, endorse, make_card, parse_card
from ledger.tlog.ledger_card import LedgerCard
from tests.rotations import log_of
from tests.server.conftest import Clock
from tests.support import (
    Platform,
    ledger_settings,
    lookup_request,
    opened,
    publish,
    report_payload,
    sqlite_schema,
    submit_lookup,
)

OPERATOR = "Ledger Operator Ltd"
NAMES = ("north", "south", "west")


@dataclass
class Holder:
    """One organisation with its keys; `shares` are its secrets by (epoch, generation), with their indexes."""

    participant: ParticipantFile
    signing: Ed25519PrivateKey
    static: bytes
    url: str
    shares: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id in statements."""
        return self.participant.holder


@dataclass(frozen=True)
class Made:
    """What a ceremony left: the statement, cards and certificate texts by holder, endorsements of those who leave."""

    statement: KeyStatement
    cards: dict[str, dict[str, Any]]
    certificates: dict[str, bytes]
    endorsements: dict[str, dict[str, Any]]
    leaving: tuple[Endorsement, ...] = ()

    @property
    def sharing(self) -> NewSharing:
        """As the server reads it."""
        return NewSharing.of([parse_card(json.dumps(card).encode()) for card in self.cards.values()], self.leaving)

    def moved(self, name: str, holder: Holder) -> dict[str, Any]:
        """The card of a holder at its present address."""
        index = next(stated.key.index for stated in self.statement.holders if stated.key.holder == name)
        return make_card(self.statement, index, holder.url, holder.signing)

    def write(self, folder: Path) -> Made:
        """Write `ID.card.json`, `ID.certificate.json` and `ID.endorsement.json` to `folder`."""
        folder.mkdir(exist_ok=True)
        for holder, card in self.cards.items():
            (folder / f"{holder}.card.json").write_text(json.dumps(card))
        for holder, text in self.certificates.items():
            (folder / f"{holder}.certificate.json").write_bytes(text)
        for holder, members in self.endorsements.items():
            (folder / f"{holder}.endorsement.json").write_text(json.dumps(members))
        return self

    def options(self, folder: Path, *kinds: str) -> list[str]:
        """Command line options (`--card FILE ...`) for the files of `write`."""
        names: dict[str, list[str]] = {
            "card": list(self.cards),
            "certificate": list(self.certificates),
            "endorsement": list(self.endorsements),
        }
        return [
            text
            for kind in kinds
            for holder in names[kind]
            for text in (f"--{kind}", str(folder / f"{holder}.{kind}.json"))
        ]


class Holders:
    """All organisations that take part in ceremonies of one ledger. `now` is the statement in force."""

    def __init__(self, card: LedgerCard, names: Sequence[str] = NAMES, operator: str | None = None) -> None:
        self.card = card
        self.holders: dict[str, Holder] = {}
        self.thresholds: dict[tuple[int, int], int] = {}
        self.now: KeyStatement | None = None
        self.attempt = 0
        for name in names:
            self.add(name, OPERATOR if name == operator else f"{name.capitalize()} Ltd")

    def copy(self) -> Holders:
        """The same organisations with the same keys and shares; what the copy does later does not change these."""
        copied = Holders(self.card, ())
        copied.holders = {name: replace(holder, shares=dict(holder.shares)) for name, holder in self.holders.items()}
        copied.thresholds, copied.now, copied.attempt = dict(self.thresholds), self.now, self.attempt
        return copied

    def add(self, name: str, organisation: str) -> Holder:
        """One more organisation, without a share."""
        signing, static = Ed25519PrivateKey.generate(), sodium.scalar_reduce(secrets.token_bytes(64))
        participant = make_participant(
            self.card, name, organisation, sodium.scalarmult_base(static), secrets.token_bytes(32), signing
        )
        self.holders[name] = Holder(participant, signing, static, f"https://{name}.example")
        return self.holders[name]

    def generate(self, threshold: int = 2) -> Made:
        """The first key."""
        return self._hold(CeremonyKind.GENERATE, threshold, list(self.holders))

    def refresh(self) -> Made:
        """The next generation of the same key and holders."""
        return self._hold(CeremonyKind.REFRESH, self._known.keys.threshold, self._names())

    def reshare(self, threshold: int, names: Sequence[str]) -> Made:
        """The next generation of the same key, held by `names`."""
        present = self._names()
        leaving = [name for name in present if name not in names]
        return self._hold(CeremonyKind.RESHARE, threshold, [*present, *[n for n in names if n not in present]], leaving)

    def rotate(self) -> Made:
        """The next epoch's key."""
        return self._hold(CeremonyKind.ROTATE, self._known.keys.threshold, self._names())

    def secret(self, epoch: int, generation: int, indexes: Sequence[int] = ()) -> bytes:
        """The key k, from the shares at `indexes` (default: the first t) in plain integers."""
        shares = {
            index: int.from_bytes(share, "little")
            for holder in self.holders.values()
            for index, share in [holder.shares.get((epoch, generation), (0, b""))]
            if index
        }
        chosen = indexes or sorted(shares)[: self.thresholds[epoch, generation]]
        total, order = 0, sodium.GROUP_ORDER
        for i in chosen:
            top = bottom = 1
            for j in chosen:
                if j != i:
                    top, bottom = top * j % order, bottom * (j - i) % order
            total += shares[i] * top * pow(bottom, -1, order)
        return (total % order).to_bytes(32, "little")

    def element(self, epoch: int, generation: int, kind: Kind, value: str) -> bytes:
        """T of an identifier, with the secret itself."""
        return sodium.scalarmult(self.secret(epoch, generation), voprf.hash_to_group(canonical(kind, value)))

    @property
    def _known(self) -> KeyStatement:
        assert self.now is not None
        return self.now

    def _names(self) -> list[str]:
        return [holder.key.holder for holder in self._known.holders]

    def _hold(self, kind: CeremonyKind, threshold: int, names: Sequence[str], leaving: Sequence[str] = ()) -> Made:
        """Run the three rounds of a ceremony among `names`, and keep the shares."""
        self.attempt += 1
        ceremony = Ceremony(
            kind,
            self.attempt,
            threshold,
            tuple([self.holders[name].participant for name in names]),
            tuple(leaving),
            self.now if kind is not CeremonyKind.GENERATE else None,
        )
        session = ceremony.session()
        number = {name: ceremony.number(name) for name in names}
        before = (0, 0) if self.now is None else (self.now.epoch, self.now.keys.generation)
        old: dict[str, bytes | None] = {
            name: self.holders[name].shares[before][1] if before in self.holders[name].shares else None
            for name in names
        }
        dealt = {
            name: rounds.deal(
                session,
                number[name],
                self.holders[name].static,
                secrets.token_bytes(rounds.entropy_bytes(session, number[name])),
                old[name] if kind is not CeremonyKind.GENERATE else None,
            )
            for name in names
        }
        messages = {number[name]: step.message for name, step in dealt.items()}
        certified = {
            name: rounds.certify(session, dealt[name].state, self.holders[name].static, messages) for name in names
        }
        certificates = {number[name]: step.message for name, step in certified.items()}
        keeps = kind in (CeremonyKind.REFRESH, CeremonyKind.ROTATE)
        results = {
            name: rounds.finish(session, certified[name].state, certificates, old[name] if keeps else None)
            for name in names
        }
        statement = ceremony.statement(results[names[0]])
        place = (statement.epoch, statement.keys.generation)
        cards, endorsements, left = {}, {}, []
        for name in names:
            holder, result = self.holders[name], results[name]
            assert ceremony.statement(result).canonical == statement.canonical
            if result.index is None or result.share is None:
                signature = endorse(statement, holder.signing)
                left.append(signature)
                endorsements[name] = make_endorsement_file(statement, name, signature, holder.signing)
                continue
            holder.shares[place] = (result.index, result.share)
            cards[name] = make_card(statement, result.index, holder.url, holder.signing)
        files = {
            name: file_text(
                dict(make_certificate(ceremony, name, step.message, self.holders[name].signing).members)
            ).encode()
            for name, step in certified.items()
        }
        self.now = statement
        self.thresholds[place] = threshold
        return Made(statement, cards, files, endorsements, tuple(left))


def prepared(settings: Settings) -> LedgerCard:
    """The keys of a ledger before its holders have met, and its card."""
    return prepare_for_holders(settings, OPERATOR, "https://ledger.example")[0]


def shared_ledger(database_url: str, folder: Path, **overrides: Any) -> tuple[Settings, Holders, Made]:
    """A new ledger whose key 2 of 3 holders share, on a database without or with the schema."""
    settings = ledger_settings(database_url, folder, **overrides)
    file = make_url(database_url).database
    if database_url.startswith("sqlite") and file is not None and not Path(file).exists():
        Path(file).write_bytes(sqlite_schema())
    holders = Holders(prepared(settings))
    first = holders.generate()
    init_keys(settings, datetime.now(UTC), first.sharing)
    return settings, holders, first


@cache
def _seed() -> tuple[dict[str, bytes], dict[str, bytes], Holders, Made]:
    """The files of a new shared ledger before and after its database begins, its holders, and their first ceremony."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    with tempfile.TemporaryDirectory(prefix="rcl-shared-") as name:
        folder = Path(name)
        settings = ledger_settings(f"sqlite:///{folder / 'ledger.db'}", folder)
        (folder / "ledger.db").write_bytes(sqlite_schema())
        holders = Holders(prepared(settings))
        before = contents(settings.keys_dir)
        first = holders.generate()
        init_keys(settings, datetime.now(UTC), first.sharing)
        return before, contents(folder), holders, first


def copied_shared_ledger(database_url: str, folder: Path) -> tuple[Settings, Holders, Made]:
    """As `shared_ledger`, with the same keys for all tests of a process: made once, and copied for each test. On
    PostgreSQL only the keys are copied, and the ledger begins in the database."""
    settings = ledger_settings(database_url, folder)
    before, after, holders, first = _seed()
    file = Path(str(make_url(database_url).database))
    if database_url.startswith("sqlite"):
        files = {file if name == "ledger.db" else folder / name: content for name, content in after.items()}
    else:
        files = {settings.keys_dir / name: content for name, content in before.items()}
    for path, content in files.items():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(0o600)
        path.write_bytes(content)
    if file not in files:
        init_keys(settings, datetime.now(UTC), first.sharing)
    return settings, holders.copy(), first


@dataclass
class SharedLedger:
    """An open ledger whose key several holders share; acme reports, bolt looks up."""

    rt: Runtime
    clock: Clock
    holders: Holders
    first: Made
    acme: Platform
    bolt: Platform

    def subjects(self, number: int, epoch: int = 1, generation: int = 1) -> list[tuple[Kind, bytes]]:
        """Phone and payment of a person, as t holders would evaluate them."""
        raw = (
            (Kind.PHONE, f"+861380013{number:04d}"),
            (Kind.PAYMENT, f"alipay/2088{number:012d}"),
        )
        return [(kind, self.holders.element(epoch, generation, kind, value)) for kind, value in raw]

    def report(self, number: int, epoch: int = 1, generation: int = 1) -> dict[str, Any]:
        """acme reports a person."""
        payload = report_payload(self.rt, self.acme, self.subjects(number, epoch, generation), epoch=epoch)
        stored = submit_report(self.rt.reports, self.acme.member(), payload, payload["signature"]).result(10)
        return dict(json.loads(stored.body))

    def seen(self, number: int, epoch: int = 1, generation: int = 1) -> tuple[Any, ...]:
        """What a lookup under `epoch` says of a person."""
        request = lookup_request(self.rt, self.subjects(number, epoch, generation), epoch=epoch)
        answer = json.loads(submit_lookup(self.rt, self.bolt.member(), request).result(10))
        return tuple(answer[name] for name in ("tier", "points", "events", "reporters", "matched_kinds"))

    def verified(self) -> LogReport:
        """What an auditor's check of the whole log says, after the publisher has signed."""
        publish(self.rt.settings)
        return verify_log(log_of(self.rt), *parse_verifier_key(self.rt.keys.log_verifier_key))


@contextmanager
def opened_shared(settings: Settings, holders: Holders, first: Made) -> Iterator[SharedLedger]:
    """Open a ledger of `shared_ledger`, with its members."""
    engine = open_engine(settings.database_url, pool_size=1)
    acme = Platform("acme", "acme-group", "acme-1").join(engine)
    bolt = Platform("bolt", "bolt-group", "bolt-1", profile="EU").join(engine)
    engine.dispose()
    clock = Clock()
    with opened(settings, clock) as rt:
        yield SharedLedger(rt, clock, holders, first, acme, bolt)
