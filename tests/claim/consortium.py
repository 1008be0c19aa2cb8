"""A consortium that is set up with the commands of people: a ledger server, three holders with services of their own,
members that report and look up, and a recording proxy before each server.

north and south are independent; west belongs to the operator of the ledger. Everything is in one folder, with a part
for each party.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.operator.platforms import enrol
from ledger.client import RefundLedger
from ledger.client.identity.keyfiles import load_signing_key
from ledger.errors import SnapshotUnknown
from ledger.holder.folder import LOCK_NAME
from ledger.holder.shares import active_shares
from ledger.protocol.identifiers import Kind, canonical
from ledger.protocol.threshold import KeySet
from ledger.server.db.engine import open_engine
from ledger.server.keys.files import load_log_key
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from ledger.tlog.checkpoint import open_checkpoint, parse_verifier_key
from ledger.tlog.key_statement import KeyStatement
from ledger.tlog.merkle import TILE_WIDTH, decode_bundle, tile_path
from tests.claim.attacker import Candidate
from tests.claim.recorder import Recorder
from tests.counts import trials
from tests.holder.ceremony_kit import Exchange
from tests.holder.ceremony_kit import run as run_holder
from tests.holder.kit import Caller, holder_schema
from tests.kit import report_arguments
from tests.support import RunningServer, ledger_settings, server_environment, sqlite_schema

OPERATOR = "Ledger Operations Ltd"
ORGANISATIONS = {"north": "North Bank", "south": "South University", "west": OPERATOR}
HOLDERS = tuple(ORGANISATIONS)
OWN = "west"
"""The holder that the operator runs."""
CANDIDATES = trials(10_000, 20_000)
LISTED = 100
MEMBER_DAILY = 2_000
REFRESH_SECONDS = 0.5
"""How often the holders' services read admissions again."""
PATIENCE_SECONDS = 15.0


def phone(number: int) -> str:
    """A made-up mobile number."""
    return f"+861380013{number:04d}"


def wallet(number: int) -> str:
    """A made-up wallet."""
    return f"alipay/2088{number:012d}"


def make_candidates(count: int = CANDIDATES) -> tuple[Candidate, ...]:
    """Return the candidates: half phone numbers, half wallets."""
    # The form of `canonical` for all of them, of which the test compares the listed ones: it takes 30 us each.
    phones = [(Kind.PHONE, f"phone:{phone(number)}".encode()) for number in range(count // 2)]
    wallets = [(Kind.PAYMENT, f"payment:{wallet(number)}".encode()) for number in range(count // 2)]
    return (*phones, *wallets)


class HolderProcess(RunningServer):
    """`refund-ledger holder serve` in a process of its own."""

    def __init__(self, folder: Path, log_url: str) -> None:
        self._forked = True
        self._arguments = ["--json", "holder", "serve", "--port", "0"]
        prefix = "REFUND_LEDGER_HOLDER_"
        own = {
            "DIR": str(folder),
            "LEDGER_URL": log_url,
            "REFRESH_SECONDS": str(REFRESH_SECONDS),
        }
        self._environment = {**os.environ, **{prefix + name: value for name, value in own.items()}}
        self.url = ""
        self.said = {}
        self.log = []
        self.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid


@dataclass
class Consortium:
    """The running parties. `listed` are the candidates about whom acme reported; `statements` are those of the two
    generations of the key, both of which holders serve."""

    root: Path
    settings: Settings
    exchange: Exchange
    recorders: dict[str, Recorder]
    candidates: tuple[Candidate, ...]
    listed: frozenset[Candidate] = frozenset()
    statements: tuple[KeyStatement, ...] = ()
    server: RunningServer | None = None
    services: dict[str, HolderProcess] = field(default_factory=dict)

    @property
    def some(self) -> tuple[Candidate, ...]:
        """Return all listed candidates with some others; with LONG_TESTS=1 all candidates."""
        others = [candidate for candidate in self.candidates if candidate not in self.listed]
        return (*sorted(self.listed), *others[: trials(1_000, len(others))])

    # --- commands -------------------------------------------------------------------------------------------------

    def ledger_command(self, *words: object) -> dict[str, Any]:
        """Run one of the operator's commands at the ledger."""
        output.reset()
        done = CliRunner().invoke(app, [*map(str, words), "--json"], env=server_environment(self.settings))
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    def holder_command(self, holder: str, *words: object) -> dict[str, Any]:
        """Run a command of a holder's own people."""
        return run_holder(*words, "--folder", self.folder(holder))

    def folder(self, holder: str) -> Path:
        """Return a holder's folder."""
        return self.exchange.folder(holder)

    def status(self, holder: str, group: str) -> int:
        """Return how many elements `holder status` says that a control group can have evaluated now."""
        groups = self.holder_command(holder, "status")["control_groups"]
        return sum([row["today"] + row["granted"] for row in groups if row["control_group"] == group])

    # --- members --------------------------------------------------------------------------------------------------

    def enrol(self, name: str, group: str) -> Caller:
        """Enrol a platform at the ledger, which is the operator's own decision; return it with its key."""
        folder = self.root / "members" / name
        folder.mkdir(parents=True)
        engine = open_engine(self.settings.database_url, pool_size=1)
        enrol(
            self.settings, engine, name=name, control_group=group, profile="CN",
            scopes=["lookup", "report", "appeal", "log"], kid=f"{name}-1", quota=None, key_path=folder / f"{name}.pem",
            suite_path=folder / f"{name}.suite.json", url=self.recorders["ledger"].url,
        )  # fmt: skip
        engine.dispose()
        for holder in HOLDERS:
            card = f"{holder}.card.json"
            (folder / card).write_bytes((self.exchange.files / card).read_bytes())
        return Caller(name, group, f"{name}-1", load_signing_key(folder / f"{name}.pem"))

    def admit(self, caller: Caller, daily: int, holders: Sequence[str] = HOLDERS) -> None:
        """Have holders admit a platform."""
        path = self.public_key_file(caller)
        for holder in holders:
            self.holder_command(
                holder, "admit", "--platform", caller.name, "--control-group", caller.control_group, "--key", path,
                "--kid", caller.kid, "--daily", daily,
            )  # fmt: skip

    def public_key_file(self, caller: Caller) -> Path:
        """Write the public key of a platform, as it gives it to holders, and return the file."""
        path = self.exchange.files / f"{caller.kid}.public.pem"
        public = caller.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(public)
        return path

    def connect(self, name: str) -> RefundLedger:
        """Open a member's SDK."""
        folder = self.root / "members" / name
        return RefundLedger(
            folder / f"{name}.suite.json", folder / f"{name}.pem", cards=folder, state_dir=folder / "state"
        )

    # --- material -------------------------------------------------------------------------------------------------

    def log(self) -> tuple[bytes, ...]:
        """Return all entries of the public log, fetched without a token."""
        import urllib.request

        def fetch(path: str) -> bytes:
            with urllib.request.urlopen(f"{self.recorders['ledger'].url}/log/{path}") as answer:
                return bytes(answer.read())

        origin, key = parse_verifier_key(self.card_of_ledger["log"]["key"])
        size = open_checkpoint(fetch("checkpoint").decode(), origin, key).size
        entries: list[bytes] = []
        for first in range(0, size, TILE_WIDTH):
            width = min(TILE_WIDTH, size - first)
            entries += decode_bundle(fetch(tile_path("entries", first // TILE_WIDTH, width)))
        return tuple(entries)

    @property
    def card_of_ledger(self) -> dict[str, Any]:
        """Return the members of ledger.json."""
        return dict(json.loads((self.exchange.files / "ledger.json").read_text()))

    def keys(self, generation: int) -> KeySet:
        """Return the sharing of a generation."""
        return self.statements[generation - 1].keys

    def share(self, holder: str, generation: int) -> bytes:
        """Return the true share of a holder, for comparisons."""
        return active_shares(self.folder(holder))[generation - 1].secret

    def ledger_database(self) -> dict[str, bytes]:
        """Return the files of the ledger's database, with its write-ahead log."""
        files = self.files(self.root / "operator")
        return {name: data for name, data in files.items() if Path(name).name.startswith("ledger.db")}

    def files(self, *folders: Path) -> dict[str, bytes]:
        """Return all files below folders, with those that SQLite keeps beside its databases."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != LOCK_NAME
        }


@contextmanager
def running_consortium(root: Path) -> Iterator[Consortium]:
    """Set a consortium up, let acme report, publish a snapshot, and stop all processes at the end."""
    with ExitStack() as stack:
        recorders = {name: Recorder() for name in ("ledger", *HOLDERS)}
        for recorder in recorders.values():
            stack.callback(recorder.close)
        operator = root / "operator"
        operator.mkdir()
        settings = ledger_settings(
            f"sqlite:///{operator / 'ledger.db'}", operator, publish_interval_ms=250, auth_refresh_seconds=1.0
        )
        (operator / "ledger.db").write_bytes(sqlite_schema())
        consortium = Consortium(root, settings, Exchange(root), recorders, make_candidates())
        make_key(consortium)
        for holder in HOLDERS:
            (consortium.folder(holder) / "holder.db").write_bytes(holder_schema())
        for name in ("acme", "bolt"):
            consortium.admit(consortium.enrol(name, f"{name}-group"), MEMBER_DAILY)
        consortium.server = RunningServer(settings, ["--no-snapshotter"])
        stack.callback(consortium.server.kill)
        recorders["ledger"].target = consortium.server.url
        for holder in HOLDERS:
            consortium.services[holder] = HolderProcess(consortium.folder(holder), recorders["ledger"].url)
            stack.callback(consortium.services[holder].kill)
            recorders[holder].target = consortium.services[holder].url
        list_persons(consortium)
        yield consortium


def make_key(consortium: Consortium) -> None:
    """Hold the ceremonies: from `keys init --threshold` to the ledger's first entries, then a refresh."""
    exchange, url = consortium.exchange, consortium.recorders["ledger"].url
    exchange.files.mkdir()
    prepared = consortium.ledger_command("keys", "init", "--threshold", "--organisation", OPERATOR, "--url", url)
    (exchange.files / "ledger.json").write_bytes(Path(prepared["ledger_card"]).read_bytes())
    for holder, organisation in ORGANISATIONS.items():
        run_holder(
            "init", "--ledger", exchange.files / "ledger.json", "--id", holder, "--organisation", organisation,
            "--url", consortium.recorders[holder].url, "--folder", exchange.folder(holder),
            "--out", exchange.files / f"{holder}.participant.json",
        )  # fmt: skip
    exchange.all_rounds("deal", HOLDERS, "--threshold", 2)
    cards = [word for path in exchange.of("card", HOLDERS) for word in ("--card", path)]
    begun = consortium.ledger_command("keys", "init", *cards)
    assert (begun["threshold"], begun["holders"]) == (2, 3)
    first = exchange.cards(HOLDERS)
    shutil.copytree(exchange.files, exchange.files / "first")  # what parties keep of the first ceremony
    exchange.all_rounds("refresh", HOLDERS)
    assert consortium.ledger_command("keys", "publish", *cards)["generation"] == 2
    consortium.statements = (first, exchange.cards(HOLDERS))


def list_persons(consortium: Consortium) -> None:
    """Have acme report persons with a phone and a wallet each, publish a snapshot, and let bolt fetch it."""
    step = CANDIDATES // LISTED
    numbers = [step // 3 + place * step for place in range(LISTED // 2)]
    phones = [(Kind.PHONE, canonical(Kind.PHONE, phone(number))) for number in numbers]
    wallets = [(Kind.PAYMENT, canonical(Kind.PAYMENT, wallet(number))) for number in numbers]
    consortium.listed = frozenset([*phones, *wallets])
    assert consortium.listed <= set(consortium.candidates)
    assert len(consortium.listed) == LISTED
    with consortium.connect("acme") as acme:
        buyers = acme.tag_many([{"phone": phone(number), "payment": wallet(number)} for number in numbers])
        results = acme.reports.create_many([(buyer, report_arguments()) for buyer in buyers])
        assert [result.state for result in results] == ["accepted"] * len(numbers)
    engine = builder_engine(consortium.settings)
    key = load_log_key(consortium.settings)
    build_and_publish(consortium.settings, engine, key, datetime.now(UTC), random_bytes=secrets.token_bytes)
    engine.dispose()
    with consortium.connect("bolt") as bolt:
        in_time(lambda: _fetched(bolt), "the server does not serve the snapshot")


def _fetched(member: RefundLedger) -> bool:
    try:
        member.refresh_snapshot()
    except SnapshotUnknown:
        return False
    return True


def in_time(ready: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is true; fail with `what` when it does not come."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, what
        time.sleep(0.05)
