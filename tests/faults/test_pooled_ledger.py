"""A whole ledger behind PgBouncer: reports, lookups and every thread of a server, in session and in transaction
mode."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.drills import Load
from tests.faults.harness import audit
from tests.pooler import pgbouncer
from tests.support import Platform, new_ledger, opened, publish

REPORTS = 25


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_it_works_behind_a_pooler(
    make_database: Callable[..., str], postgresql_schema: Callable[[], str], tmp_path: Path, mode: str
) -> None:
    with pgbouncer(make_database("postgresql", postgresql_schema()), mode) as url:
        settings = new_ledger(url, tmp_path)
        platform = Platform("acme", "east", "acme-1").enrol(settings)
        with opened(settings, upkeep=True) as rt:
            load = Load(rt, platform)
            load.start()
            end = time.monotonic() + 30
            while len(load.acknowledged.reports) < REPORTS:
                assert time.monotonic() < end
                time.sleep(0.02)
            load.stop()
            assert [good for _, _, good in load.reports.seen + load.lookups.seen if not good] == []
        assert (publish(settings).signed_size or 0) > REPORTS
        audit(settings, load.acknowledged, load.people)
