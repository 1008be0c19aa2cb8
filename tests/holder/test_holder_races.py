"""Processes that share a holder's database, on both engines: tokens are taken once, budgets are exact, and a process
that is killed between budget and answer has counted once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from alembic import command
from sqlalchemy import Engine, inspect

from ledger.errors import QuotaExceeded, TokenUsed
from ledger.holder import budget_queries
from ledger.holder.admission import admit_platform
from ledger.holder.budgets import GroupLimits, grant_elements, spend
from ledger.holder.database import HOLDER_HISTORY, open_holder_database
from ledger.holder.settings import HolderSettings
from ledger.holder.tables import HolderBase
from ledger.protocol.encoding import day_floor
from ledger.server.db import migrate
from ledger.server.db.engine import reading
from tests.counts import trials
from tests.forked import ForkedProcess
from tests.holder.holder_process import COUNT, ELEMENTS, GROUP, token
from tests.holder.kit import START, Caller
from tests.support import ROOT

LIMITS = GroupLimits(1000, 10_000, 10_000)
Start = Callable[..., ForkedProcess]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The engine of an empty holder's database."""
    engine = open_holder_database(HolderSettings(database_url=database_url))
    yield engine
    engine.dispose()


@pytest.fixture
def start(engine: Engine, database_url: str) -> Iterator[Start]:
    """`start(action, seed, daily=1000)` runs `holder_process` until it is ready."""
    processes: list[ForkedProcess] = []

    def run(action: str, seed: str, daily: int = 1000) -> ForkedProcess:
        process = ForkedProcess(
            "tests.holder.holder_process",
            [database_url, action, seed, str(daily)],
            environment=os.environ,
            folder=ROOT,
            talk=True,
            stderr=2,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in processes:
        process.close()
        process.wait(20)


def go(process: ForkedProcess) -> None:
    """Let it begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def outcome(process: ForkedProcess) -> Counter[str]:
    """What it printed at its end."""
    assert process.stdout is not None
    return Counter(json.loads(process.stdout.readline()))


def used(engine: Engine) -> int:
    """The elements counted for the group today."""
    with reading(engine) as connection:
        return budget_queries.read_group_use(connection, day_floor(START)).get(GROUP, 0)


def test_a_token_is_taken_once_by_all_processes_together(engine: Engine, start: Start) -> None:
    processes = [start("spend", "shared") for _ in range(trials(2, 4))]
    for process in processes:
        go(process)
    total: Counter[str] = sum((outcome(process) for process in processes), Counter())
    assert total == {"ok": COUNT, "token_used": COUNT * (len(processes) - 1)}
    assert used(engine) == COUNT * ELEMENTS


def test_a_budget_is_exact_for_all_processes_together(engine: Engine, start: Start) -> None:
    daily, granted = 100, 50
    values = {"platform": "acme", "control_group": GROUP, "kid": "k1", "now": START}
    admit_platform(engine, public_key=Caller("acme", GROUP).public_key, **values)  # type: ignore[arg-type]
    grant_elements(engine, control_group=GROUP, elements=granted, reason="test", days=1, now=START)
    processes = [start("spend", f"own {number}", daily) for number in range(trials(2, 4))]
    for process in processes:
        go(process)
    total: Counter[str] = sum((outcome(process) for process in processes), Counter())
    assert total["ok"] == (daily + granted) // ELEMENTS
    assert used(engine) == daily
    with reading(engine) as connection:
        (grant,) = budget_queries.read_group_grants(connection)
    assert grant.used == total["ok"] * ELEMENTS - daily


def test_a_process_that_is_killed_before_it_answers_has_counted_once(engine: Engine, start: Start) -> None:
    process = start("hang", "killed")
    go(process)
    assert outcome(process) == {"ok": 1}
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert used(engine) == ELEMENTS
    with pytest.raises(TokenUsed):
        spend(engine, GROUP, LIMITS, ELEMENTS, token("killed", 0), START)
    assert used(engine) == ELEMENTS
    spend(engine, GROUP, LIMITS, ELEMENTS, token("killed", 1), START)
    assert used(engine) == 2 * ELEMENTS


def test_a_refusal_leaves_the_token_and_the_budget_as_they_were(engine: Engine) -> None:
    with pytest.raises(QuotaExceeded):
        spend(engine, GROUP, LIMITS, 1001, token("large", 0), START)
    spend(engine, GROUP, LIMITS, 1000, token("large", 0), START)
    assert used(engine) == 1000


def test_the_migration_makes_the_tables_of_the_models(database_url: str, engine: Engine) -> None:
    assert set(inspect(engine).get_table_names()) == {*HolderBase.metadata.tables, "alembic_version"}
    command.check(migrate.alembic_config(database_url, HOLDER_HISTORY))
    migrate.downgrade(database_url, history=HOLDER_HISTORY)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(database_url, history=HOLDER_HISTORY)
    migrate.check_current(engine, HOLDER_HISTORY)
