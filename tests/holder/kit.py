"""Holders of a shared key, a signed log and platforms, all in this process, for tests of the holder's service.

Shares are made in plain integers (the ceremonies have tests of their own); folders, statements, signatures, log entries
and checkpoints are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from api.holder.app import HolderApp
from ledger.errors import NotFound
from ledger.holder.admission import admit_platform
from ledger.holder.database import open_holder_database
from ledger.holder.folder import HolderFolder, init_folder
from ledger.holder.runtime import HolderRuntime, open_holder_runtime
from ledger.holder.settings import HolderSettings
from ledger.holder.shares import HeldShare, ShareFile, share_path, share_text
from ledger.protocol import sodium, voprf
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.rotation import prove_multiple
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.threshold import HolderKey, KeySet, Share, combine, verify_share
from ledger.server.keys.files import write_secret
from ledger.tlog.ceremony_files import MULTIPLE_CONTEXT
from ledger.tlog.checkpoint import Checkpoint, sign, verifier_key
from ledger.tlog.entries import GovernanceType, PlatformState, governance_leaf, platform_status_body
from ledger.tlog.key_statement import (
    Endorsement,
    KeyStatement,
    PreviousKeys,
    StatedHolder,
    endorse,
    endorsement_json,
    make_statement,
)
from ledger.tlog.ledger_card import LedgerCard
from ledger.tlog.merkle import TILE_WIDTH, CompactTree, encode_bundle, parse_tile_path

SERVICE = "ledger.example"
NAMES = ("north", "south", "west")
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class TurnedClock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def turn(self, **parts: float) -> None:
        """Set the clock forward."""
        self.moment += timedelta(**parts)


class SignedLog:
    """A log with its key: entries, and what its server serves of them."""

    def __init__(self, entries: Sequence[bytes] = (), key: Ed25519PrivateKey | None = None) -> None:
        self.entries = list(entries)
        self.key = key or Ed25519PrivateKey.generate()
        self.origin = f"{SERVICE}/log"
        self.verifier_key = verifier_key(self.origin, self.key.public_key().public_bytes_raw())
        self.broken: Exception | None = None
        self.fetched: list[str] = []

    def fork(self, size: int) -> SignedLog:
        """Another log of the same key with the first `size` entries."""
        return SignedLog(self.entries[:size], self.key)

    def append(self, sort: GovernanceType, body: dict[str, Any]) -> int:
        """Add an entry; its index."""
        self.entries.append(governance_leaf(len(self.entries), sort, START, body))
        return len(self.entries) - 1

    def fill(self, count: int) -> None:
        """Add entries that mean nothing to a holder."""
        for number in range(count):
            self.append(GovernanceType.SNAPSHOT, {"number": number})

    def status(self, platform: str, *, suspended: bool = False, revoked: Sequence[tuple[str, bytes]] = ()) -> None:
        """Add a `platform_status` entry."""
        state = PlatformState.SUSPENDED if suspended else PlatformState.ACTIVE
        keys = [(kid, key, True) for kid, key in revoked]
        body = platform_status_body(platform=platform, control_group="g", profile="CN", status=state, keys=keys)
        self.append(GovernanceType.PLATFORM_STATUS, body)

    def publish(
        self,
        epoch: int,
        statement: KeyStatement | None = None,
        endorsements: Sequence[Endorsement] = (),
        next_epoch: int | None = None,
    ) -> int:
        """Add a `key_rotation` entry; its index."""
        body: dict[str, Any] = {"epoch": epoch, "holders": [], "retired": []}
        if next_epoch is not None:
            body["next"] = {"epoch": next_epoch, "holders": []}
        if statement is not None:
            body["statement"] = statement.json
            body["endorsements"] = [endorsement_json(endorsement) for endorsement in endorsements]
        return self.append(GovernanceType.KEY_ROTATION, body)

    def note(self, size: int | None = None) -> str:
        """The signed checkpoint at a size."""
        tree = CompactTree()
        for entry in self.entries[:size]:
            tree.append(entry)
        return sign(Checkpoint(self.origin, tree.size, tree.root()), self.key)

    def fetch(self, path: str) -> bytes:
        """What the server of the log answers."""
        if self.broken is not None:
            raise self.broken
        self.fetched.append(path)
        if path == "checkpoint":
            return self.note().encode()
        level, index, width = parse_tile_path("entries", path.removeprefix("tile/entries/"))
        assert level == "entries"
        entries = self.entries[index * TILE_WIDTH :][: width or TILE_WIDTH]
        if len(entries) < (width or TILE_WIDTH):
            raise NotFound("There is no such tile.")
        return encode_bundle(entries)


@dataclass
class Sharing:
    """One sharing of a key: its statement, the shares by index, and the endorsements of all its holders."""

    statement: KeyStatement
    secret: int
    shares: dict[int, bytes]
    endorsements: list[Endorsement]


class Consortium:
    """Three holders with their folders, of which two together can use the key, and the log."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES, threshold: int = 2) -> None:
        self.log = SignedLog()
        self.threshold = threshold
        receiving = sodium.scalarmult_base(voprf.derive_secret(bytes(32), b"receiving"))
        self.card = LedgerCard(SERVICE, "test", "Operator Ltd", self.log.verifier_key, "http://127.0.0.1:1", receiving)
        self.folders: dict[str, HolderFolder] = {
            name: init_folder(folder / name, self.card, name, f"{name.capitalize()} Ltd", f"https://{name}.example")
            for name in names
        }
        self.sharings: list[Sharing] = []

    def generate(self, *, publish: bool = True) -> Sharing:
        """The first key; its shares are in the folders, and its statement in the log."""
        sharing = self._share(1, CeremonyKind.GENERATE, 1, secrets.randbelow(sodium.GROUP_ORDER - 1) + 1, None, None)
        if publish:
            self.log.publish(1, sharing.statement, sharing.endorsements)
        return sharing

    def refresh(self, *, publish: bool = True) -> Sharing:
        """The next generation of the same key."""
        last = self.sharings[-1]
        keys = last.statement.keys
        previous = PreviousKeys(last.statement.epoch, keys.generation, keys.public_key)
        epoch = last.statement.epoch
        sharing = self._share(epoch, CeremonyKind.REFRESH, keys.generation + 1, last.secret, previous, None)
        if publish:
            self.log.publish(epoch, sharing.statement, sharing.endorsements)
        return sharing

    def rotate(self, *, publish: bool = True) -> Sharing:
        """The key of the next epoch, announced in the log."""
        last = self.sharings[-1]
        keys, epoch = last.statement.keys, last.statement.epoch
        factor = secrets.randbelow(sodium.GROUP_ORDER - 2) + 2
        secret = last.secret * factor % sodium.GROUP_ORDER
        new = sodium.scalarmult_base(as_scalar(secret))
        proof = prove_multiple(as_scalar(factor), keys.public_key, new, MULTIPLE_CONTEXT, secrets.token_bytes(64))
        previous = PreviousKeys(epoch, keys.generation, keys.public_key)
        sharing = self._share(epoch + 1, CeremonyKind.ROTATE, 1, secret, previous, proof)
        if publish:
            self.log.publish(epoch, sharing.statement, sharing.endorsements, next_epoch=epoch + 1)
        return sharing

    def _share(
        self,
        epoch: int,
        kind: CeremonyKind,
        generation: int,
        secret: int,
        previous: PreviousKeys | None,
        proof: bytes | None,
    ) -> Sharing:
        """Share a secret with a fresh polynomial, and write a share file into each folder."""
        order = sodium.GROUP_ORDER
        polynomial = [secret, *[secrets.randbelow(order) for _ in range(self.threshold - 1)]]
        indexes = dict(enumerate(self.folders.values(), 1))
        shares = {
            index: as_scalar(sum(value * index**power for power, value in enumerate(polynomial)) % order)
            for index in indexes
        }
        statement = make_statement(
            service=SERVICE,
            environment="test",
            log_key=self.log.verifier_key,
            epoch=epoch,
            kind=kind,
            generation=generation,
            threshold=self.threshold,
            public_key=sodium.scalarmult_base(as_scalar(secret)),
            holders=[
                StatedHolder(
                    HolderKey(index, holder.holder, sodium.scalarmult_base(shares[index])),
                    holder.organisation,
                    False,
                    holder.signing_key().public_key().public_bytes_raw(),
                )
                for index, holder in indexes.items()
            ],
            previous=previous,
            multiple_proof=proof,
        )
        endorsements = [endorse(statement, holder.signing_key()) for holder in indexes.values()]
        participants = tuple([holder.participant().members for holder in indexes.values()])
        for (index, holder), endorsement in zip(indexes.items(), endorsements, strict=True):
            share = HeldShare(epoch, generation, index, shares[index], statement)
            text = share_text(ShareFile(share, endorsement, participants))
            write_secret(share_path(holder.path, epoch, generation), text)
        self.sharings.append(Sharing(statement, secret, shares, endorsements))
        return self.sharings[-1]


def as_scalar(number: int) -> bytes:
    """A number as a scalar."""
    return number.to_bytes(32, "little")


@cache
def holder_schema() -> bytes:
    """A SQLite database with the tables of a holder and no rows."""
    with tempfile.TemporaryDirectory(prefix="rcl-holder-") as folder:
        path = Path(folder) / "holder.db"
        open_holder_database(HolderSettings(database_url=f"sqlite:///{path}")).dispose()
        return path.read_bytes()


def holder_settings(folder: Path, **changes: Any) -> HolderSettings:
    """Settings of the holder whose folder this is, with an empty database."""
    settings = HolderSettings(**{"dir": folder, "metrics_token": "m" * 16, **changes})
    path = folder / "holder.db"
    if settings.database_url is None and not path.exists():
        path.touch(0o600)
        path.write_bytes(holder_schema())
    return settings


@dataclass
class Caller:
    """A platform that calls holders: its key, and how it signs tokens."""

    name: str
    control_group: str
    kid: str = "k1"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def admitted(self, engine: Engine, **changes: Any) -> Caller:
        """Admit this platform."""
        values = {"platform": self.name, "control_group": self.control_group, "kid": self.kid, "now": START, **changes}
        admit_platform(engine, public_key=self.public_key, **values)
        return self

    def claims(self, audience: str, body: bytes, now: datetime) -> dict[str, Any]:
        """The claims of a good token."""
        issued_at = int(now.timestamp())
        return {
            "iss": self.name,
            "aud": audience,
            "iat": issued_at,
            "exp": issued_at + 60,
            "jti": secrets.token_urlsafe(16),
            "body": b64url(sha256(body).digest()),
        }

    def token(self, audience: str, body: bytes, now: datetime, /, **changes: Any) -> str:
        """A token; a change to None leaves a claim out."""
        claims = {**self.claims(audience, body, now), **changes}
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": self.kid})

    def renewed(self, kid: str) -> Caller:
        """The same platform with another key."""
        return replace(self, kid=kid, key=Ed25519PrivateKey.generate())


@dataclass
class HolderAnswer:
    """An answer of the service."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["code"])


class HolderService:
    """The service of one holder in this process."""

    def __init__(self, settings: HolderSettings, consortium: Consortium, clock: TurnedClock) -> None:
        self.clock, self.settings = clock, settings
        self.logged = BytesIO()
        self.rt: HolderRuntime = open_holder_runtime(settings, clock, fetch=consortium.log.fetch)
        # No thread reads the state again here; on a busy machine it would be out of date before the test asks.
        self.rt.state._monotonic = lambda: self.rt.state.latest.started
        self.app = HolderApp(self.rt, self.logged)
        self.holder = self.rt.folder.holder

    def close(self) -> None:
        """End it."""
        self.rt.close()
        self.app.close()

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> HolderAnswer:
        """Send a request, and return its answer."""
        path, _, query = path.partition("?")
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": fields}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        async def call() -> None:
            await self.app(scope, receive, send)
            await asyncio.sleep(0)  # the access line is written at the end of the turn

        asyncio.run(call())
        start, content = sent
        headers_sent = {name.decode(): value.decode() for name, value in start["headers"]}
        return HolderAnswer(start["status"], headers_sent, content["body"])

    def post(self, path: str, token: str, body: bytes) -> HolderAnswer:
        """POST a JSON body with a token."""
        return self.request("POST", path, body, authorization=f"Bearer {token}", content_type="application/json")

    def evaluate(
        self, caller: Caller, elements: Sequence[bytes], *, epoch: int = 1, generation: int | None = None, **claims: Any
    ) -> HolderAnswer:
        """Ask for an evaluation with a new token."""
        body = evaluation_body(elements, epoch, generation)
        return self.post("/v1/oprf/evaluate", caller.token(self.holder, body, self.clock(), **claims), body)


def evaluation_body(elements: Sequence[bytes], epoch: int = 1, generation: int | None = None) -> bytes:
    """The body of a request for an evaluation."""
    members: dict[str, Any] = {"epoch": epoch, "blinded": [b64url(element) for element in elements]}
    if generation is not None:
        members["generation"] = generation
    return json.dumps(members).encode()


@cache
def points(count: int) -> tuple[bytes, ...]:
    """Blinded elements, `count` of them."""
    return tuple([voprf.hash_to_group(number.to_bytes(4, "big")) for number in range(count)])


def share_of(answer: HolderAnswer) -> Share:
    """The share in an answer."""
    assert answer.status == 200, answer.body
    value = answer.json
    evaluated = tuple([unb64url(element, 32) for element in value["evaluated"]])
    return Share(value["generation"], value["index"], evaluated, unb64url(value["proof"], 64))


def combined(keys: KeySet, blinds: Sequence[bytes], blinded: Sequence[bytes], shares: Sequence[Share]) -> list[bytes]:
    """The elements T of a batch."""
    return combine(blinds, [verify_share(keys, blinded, share) for share in shares])
