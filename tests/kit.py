"""A running ledger with enrolled platforms and their files, for tests of the SDK and the command line."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.cli.operator.platforms import enrol
from ledger.client import Evidence, RefundLedger, evidence
from ledger.server.context import Context
from ledger.server.db.engine import open_engine, reading
from ledger.server.log.policies import read_timeline
from ledger.server.settings import Settings
from tests.support import CONSENT, RunningServer, new_ledger, serving

PLATFORMS = {"acme": "east", "corner": "east", "bazaar": "west", "asker": "north"}


@dataclass
class Running:
    """A running ledger and the files of its platforms (`acme.pem`, `acme.suite.json`, ...)."""

    settings: Settings
    server: RunningServer
    folder: Path

    def suite(self, name: str, url: str | None = None, **changes: Any) -> Path:
        """A copy of the platform's suite file that points to `url` (default: the server), with `changes`."""
        value = json.loads((self.folder / f"{name}.suite.json").read_text())
        path = self.folder / f"{name}-{secrets.token_hex(4)}.suite.json"
        path.write_text(json.dumps({**value, "url": url or self.server.url, **changes}))
        return path

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


def make_running(folder: Path) -> Iterator[Running]:
    """A fresh ledger on SQLite, enrolled platforms, and the server; everything ends with the generator."""
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder, webhook_allow_private=True)
    engine = open_engine(settings.database_url, pool_size=1)
    for name, group in PLATFORMS.items():
        enrol(
            settings,
            engine,
            name=name,
            control_group=group,
            profile="CN",
            scopes=["lookup"] if name == "asker" else ["lookup", "report", "appeal", "log"],
            kid=f"{name}-1",
            quota=None,
            key_path=folder / f"{name}.pem",
            suite_path=folder / f"{name}.suite.json",
            url="http://127.0.0.1:1",
        )
    engine.dispose()
    with serving(settings) as server:
        yield Running(settings, server, folder)


Connect = Callable[..., RefundLedger]


def person() -> dict[str, str]:
    """Return identifiers of a new person."""
    return {
        "phone": f"+86 138 {secrets.randbelow(10**4):04d} {secrets.randbelow(10**4):04d}",
        "payment": f"wallet/{secrets.token_hex(8)}",
    }


def reviewing(settings: Settings) -> Iterator[Context]:
    """What reviewers work with, in this process, beside the server."""
    engine = open_engine(settings.database_url, pool_size=1)
    try:
        with reading(engine) as connection:
            policies = read_timeline(connection)
        yield Context(
            engine,
            policies,
            settings.service,
            lambda: datetime.now(UTC),
            lambda: secrets.token_bytes(32),
            settings.environment,
        )
    finally:
        engine.dispose()


@contextmanager
def giving_up(refund_ledger: RefundLedger) -> Iterator[None]:
    """Calls in the block give up where they would pause before their next attempt, with the error of the last one: as
    in an outage that outlasts every budget, whatever time an attempt takes."""
    transport = refund_ledger._session.transport
    pause = transport._sleep

    def give_up(_: float) -> None:
        error = sys.exception()
        assert error is not None
        raise error

    transport._sleep = give_up
    try:
        yield
    finally:
        transport._sleep = pause


def carrier_record() -> list[Evidence]:
    """What `fake_return_tracking` needs."""
    return [evidence("carrier_record", sha256=secrets.token_bytes(32))]


def report_arguments(**changes: Any) -> dict[str, Any]:
    """A report that counts at once: false return tracking, notice four days old."""
    now = datetime.now(UTC)
    return {
        "conduct": "fake_return_tracking",
        "evidence": carrier_record(),
        "order": secrets.token_hex(8),
        "amount_minor": 12_900,
        "currency": "CNY",
        "outcome": "refund_refused",
        "act_ended_at": now - timedelta(days=6),
        "notice_sent_at": now - timedelta(days=4),
        "notice_ref": "notice-1",
        "decided_by": "agent-7",
        "consent_ref": CONSENT,
        **changes,
    }


def reports_of(ledger: RefundLedger, order: str) -> list[str]:
    """Ids of this platform's reports of an order."""
    return [view.id for view in ledger.reports.list(order=order).reports]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Shared by the tests of several files (`tests.shared_server`): use buyers and orders of your own."""
    yield from make_running(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def reviewers(running: Running) -> Iterator[Context]:
    """What reviewers work with on the running ledger."""
    yield from reviewing(running.settings)


@pytest.fixture
def connect(running: Running, tmp_path: Path) -> Iterator[Connect]:
    """`connect("acme", url=None, **options)` opens an SDK with a state folder of its own.

    The running ledger itself has 20 s for a lookup, and each has 20 s for tags: on a busy machine 300 ms, or 2 s, are
    not always enough."""
    opened: list[RefundLedger] = []

    def make(name: str = "acme", url: str | None = None, **settings: Any) -> RefundLedger:
        settings.setdefault("state_dir", tmp_path / f"state-{name}")
        settings.setdefault("subject_budget_seconds", 20)
        if url is None:
            settings.setdefault("lookup_budget_seconds", 20)
        refund_ledger = RefundLedger(running.suite(name, url), running.key(name), **settings)
        opened.append(refund_ledger)
        return refund_ledger

    yield make
    for item in opened:
        item.close()
