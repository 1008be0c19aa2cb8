"""What many tests need: a fresh ledger, a running server, a platform that reports and looks up."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, make_url

from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind, canonical
from ledger.protocol.request_digest import question_digest
from ledger.protocol.tags import subject_commitment, tag
from ledger.protocol.threshold import KeySet, Share, combine, verify_share
from ledger.rules import reports as core_reports
from ledger.server.db import migrate
from ledger.server.db.engine import open_engine
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log.checkpoint_lock import CheckpointLock
from ledger.server.log.genesis import init_keys
from ledger.server.log.publisher import PublisherVerdict, publish_once
from ledger.server.lookups.service import LookupRequest, QueuedLookup, stale_epoch
from ledger.server.platforms.members import Member, add_platform
from ledger.server.runtime import Runtime, open_runtime, utc_now
from ledger.server.settings import GivenSettings, Settings
from tests.forked import ForkedProcess

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
"""A folder `shared` beside the checkout, where real data and vectors may lie; tests that need it skip without."""

ORDER_KEY = b"o" * 32
CONSENT = "separate-consent-2026-11-03-8842"
"""A reference to consent, as reports and lookups under the CN profile need one."""


@cache
def sqlite_schema() -> bytes:
    """A SQLite database with the schema and nothing in it: writing it is many times faster than migrating."""
    with tempfile.TemporaryDirectory(prefix="rcl-schema-") as folder:
        path = Path(folder) / "ledger.db"
        migrate.upgrade(f"sqlite:///{path}")
        return path.read_bytes()


def new_ledger(database_url: str, folder: Path, **overrides: Any) -> Settings:
    """Settings of a fresh ledger with keys, guard, schema and genesis."""
    settings = ledger_settings(database_url, folder, **overrides)
    file = make_url(database_url).database
    if database_url.startswith("sqlite") and file is not None and not Path(file).exists():
        Path(file).write_bytes(sqlite_schema())
    init_keys(settings, datetime.now(UTC))
    return settings


def ledger_settings(database_url: str, folder: Path, **overrides: Any) -> Settings:
    """Settings as tests have them: everything in `folder`, and quick rounds."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "keys_dir": folder / "keys",
        "guard_dir": folder / "guard",
        "snapshots_dir": folder / "snapshots",
        "attachments_dir": folder / "attachments",
        "publish_interval_ms": 100,
        "auth_refresh_seconds": 0.3,
        **overrides,
    }
    # Asking the environment for each setting would take milliseconds.
    return GivenSettings(**values)


def publish(settings: Settings) -> PublisherVerdict:
    """One round of the publisher."""
    key = load_log_key(settings)
    engine = open_engine(settings.database_url, pool_size=1)
    guard = CheckpointLock(settings.guard_dir, settings.origin, raw_public(key))
    try:
        assert guard.try_lock()
        return publish_once(engine, guard, key, settings.origin, datetime.now(UTC))
    finally:
        guard.close()
        engine.dispose()


@dataclass
class Platform:
    """A member in a test: its keys, and how it makes what it sends."""

    name: str
    control_group: str
    kid: str
    profile: str = "CN"
    scopes: tuple[str, ...] = ("lookup", "report", "log")
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def enrol(self, settings: Settings) -> Platform:
        """Add this platform to the ledger."""
        engine = open_engine(settings.database_url, pool_size=1)
        try:
            return self.join(engine)
        finally:
            engine.dispose()

    def join(self, engine: Engine) -> Platform:
        """Add this platform to the ledger that this engine is connected to."""
        add_platform(
            engine,
            name=self.name,
            control_group=self.control_group,
            profile=self.profile,
            scopes=self.scopes,
            kid=self.kid,
            public_key=raw_public(self.key),
            now=datetime.now(UTC),
        )
        return self

    def member(self) -> Member:
        """As a request sees it."""
        return Member(self.name, self.control_group, self.profile, frozenset(self.scopes), "active", None)


def element_of(rt: Runtime, kind: Kind, raw: str) -> bytes:
    """The element of an identifier, made with the server's own key (tests of blinding go the long way)."""
    blind = voprf.derive_secret(secrets.token_bytes(32), b"test blind")
    blinded = voprf.blind([canonical(kind, raw)], [blind])
    evaluation = voprf.evaluate(rt.keys.in_state("current")[0].need_secret(), blinded, secrets.token_bytes(64))
    keys = KeySet.single(rt.keys.holder, rt.keys.in_state("current")[0].row.public_key)
    share = verify_share(keys, blinded, Share(1, 1, evaluation.evaluated, evaluation.proof))
    return combine([blind], [share])[0]


def mint(key: Ed25519PrivateKey, kid: str, platform: str, audience: str, **changes: Any) -> str:
    """A self-signed token, good for ten minutes."""
    now = datetime.now(UTC)
    claims: dict[str, Any] = {"iss": platform, "aud": audience, "iat": now, "exp": now + timedelta(minutes=10)}
    return jwt.encode({**claims, **changes}, key, algorithm="EdDSA", headers={"kid": kid})


UPLOADED = {"source": "claim_upload", "received_at": "2024-01-01T00:00:00Z"}
"""Where an original file came from, before any notice of these tests."""


def evidence(*types: str) -> list[dict[str, Any]]:
    """Evidence items of these types, each with its own SHA-256; an original file came with the claim."""
    items: list[dict[str, Any]] = [{"type": name, "sha256": b64url(secrets.token_bytes(32))} for name in types]
    for item in items:
        if item["type"] == "original_file":
            item["origin"] = UPLOADED
    return items


def report_payload(
    rt: Runtime,
    platform: Platform,
    subjects: list[tuple[Kind, bytes]],
    /,
    *,
    order: str | None = None,
    now: datetime | None = None,
    epoch: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A signed report about these (kind, element) pairs: by default false return tracking, notice four days old."""
    now, epoch = now or rt.now(), epoch or rt.keys.epoch
    salts = [secrets.token_bytes(32) for _ in subjects]
    body: dict[str, Any] = {
        "v": 1,
        "service": rt.settings.service,
        "platform": platform.name,
        "kid": platform.kid,
        "epoch": epoch,
        "subjects": [
            {"kind": kind.value, "c": b64url(subject_commitment(salt, epoch, kind, element))}
            for salt, (kind, element) in zip(salts, subjects, strict=True)
        ],
        "order_ref": b64url(core_reports.order_ref(ORDER_KEY, order or secrets.token_hex(8))),
        "conduct": "fake_return_tracking",
        "evidence": evidence("carrier_record"),
        "amount_minor": 12_900,
        "currency": "CNY",
        "outcome": "refund_refused",
        "act_ended_at": format_time(now - timedelta(days=6)),
        "notice_sent_at": format_time(now - timedelta(days=4)),
        "notice_ref": "notice-1",
        "decided_by": "agent-7",
        "consent_ref": CONSENT,
    }
    for name, value in changes.items():
        if value is None:
            body.pop(name, None)
        else:
            body[name] = value
    return {
        "body": body,
        "signature": b64url(core_reports.sign(body, platform.key)),
        "subjects": [
            {"kind": kind.value, "element": b64url(element), "salt": b64url(salt)}
            for salt, (kind, element) in zip(salts, subjects, strict=True)
        ],
    }


def lookup_request(rt: Runtime, subjects: list[tuple[Kind, bytes]], **changes: Any) -> LookupRequest:
    """A lookup of these (kind, element) pairs, with a nonce and a digest of its own."""
    nonce = secrets.token_bytes(16)
    sent = {
        "epoch": rt.keys.epoch,
        "subjects": [[kind.value, b64url(tag(kind, element))] for kind, element in subjects],
    }
    values: dict[str, Any] = {
        "epoch": rt.keys.epoch,
        "subjects": tuple((kind, tag(kind, element)) for kind, element in subjects),
        "purpose": "refund_review",
        "order_ref": core_reports.order_ref(ORDER_KEY, "lookup"),
        "claim": "damaged",
        "consent_ref": CONSENT,
        "nonce": b64url(nonce),
        "digest": b64url(question_digest(sent, nonce)),
    }
    return LookupRequest(**{**values, **changes})


def submit_lookup(rt: Runtime, member: Member, request: LookupRequest) -> Future[bytes]:
    """Queue a lookup for the database, whatever memory knows, without waiting for `min_index`. Raises StaleEpoch for
    an epoch that is not looked up, PolicyUnreadable, ConsentMissing, InvalidRequest, Overloaded."""
    rt.lookups.check_consent(member, request, rt.now())
    if not rt.keys.looks_up(request.epoch):
        rt.lookups.reread_epochs()
    if not rt.keys.looks_up(request.epoch):
        raise stale_epoch(rt.keys.epoch)
    return rt.lookups.batcher.submit(QueuedLookup(member, request))


def with_settings(rt: Runtime, settings: Settings) -> Runtime:
    """`rt` with other settings in all services that read them for each request."""
    return replace(
        rt,
        settings=settings,
        appeals=replace(rt.appeals, settings=settings),
        pictures=replace(rt.pictures, settings=settings),
        oprf=replace(rt.oprf, settings=settings),
        webhooks=replace(rt.webhooks, settings=settings),
    )


@contextmanager
def opened(settings: Settings, now: Callable[[], datetime] = utc_now, *, upkeep: bool = False) -> Iterator[Runtime]:
    """A runtime, closed at the end. Its first round of maintenance would meet a test's own clock at any moment."""
    runtime = open_runtime(settings, now, upkeep=upkeep)
    try:
        yield runtime
    finally:
        runtime.close()


class RunningServer:
    """`refund-ledger serve` in a process of its own: publisher and API, over real HTTP on a free port.

    It is forked from a process that has imported everything (`tests.forked`), unless the test is about processes:
    `forked=False` starts it as a shell would.
    """

    def __init__(
        self, settings: Settings, arguments: Sequence[str] = (), *, forked: bool = True, **environment: str
    ) -> None:
        self.settings = settings
        self._forked = forked
        self._arguments = ["--json", "serve", "--port", "0", *arguments]
        self._environment = {**os.environ, **server_environment(settings), **environment}
        self.url = ""
        self.said: dict[str, Any] = {}
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = self._forked_process() if self._forked else self._spawned_process()
        self._collector = threading.Thread(target=self._collect, args=(self._process,), daemon=True)
        self._collector.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            self.said = json.loads(line)
            self.url = self.said["url"]
        except (ValueError, KeyError) as error:
            self.kill()
            raise RuntimeError(f"the server did not start: {line!r} {''.join(self.log)}") from error

    def _forked_process(self) -> ForkedProcess:
        return ForkedProcess("ledger", self._arguments, environment=self._environment, folder=ROOT)

    def _spawned_process(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledger", *self._arguments],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _collect(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.log.extend(process.stderr)

    def kill(self) -> None:
        """SIGKILL to the server and everything it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._finish()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._process.terminate()
        try:
            code = self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._finish()
        return code

    def _finish(self) -> None:
        self._process.wait(timeout=60)
        self._collector.join(timeout=60)
        if self._process.stdout is not None:
            self._process.stdout.close()


def server_environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a process use these settings."""
    prefix = "REFUND_LEDGER_"
    values = settings.model_dump(mode="json", exclude_none=True)
    return {prefix + name.upper(): str(value) for name, value in values.items()}


@contextmanager
def serving(settings: Settings, *, forked: bool = True, **environment: str) -> Iterator[RunningServer]:
    """A running server, stopped at the end."""
    server = RunningServer(settings, forked=forked, **environment)
    try:
        yield server
    finally:
        server.kill()
