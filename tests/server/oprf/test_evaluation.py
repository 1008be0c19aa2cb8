"""Blinded evaluation under a daily quota, on both engines."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.errors import BatchSizeInvalid, IdentityPoint, InvalidPoint, QuotaExceeded, StaleEpoch
from ledger.protocol import sodium, voprf
from ledger.protocol.encoding import day_floor
from ledger.server.db.engine import reading
from ledger.server.oprf import budgets
from ledger.server.oprf import evaluation as oprf
from ledger.server.oprf.budget_queries import read_oprf_use
from ledger.server.runtime import Runtime, open_runtime
from tests.support import Platform, new_ledger

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

NOW = datetime(2026, 3, 1, 22, 30, 15, tzinfo=UTC)
MEMBER = Platform("acme", "acme-group", "acme-1").member()


@pytest.fixture
def rt(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A new ledger whose clock shows NOW and whose default quota is 100 elements a day."""
    settings = new_ledger(database_url, tmp_path, oprf_daily_quota_elements=100)
    runtime = open_runtime(settings, lambda: NOW)
    yield runtime
    runtime.close()


def points(count: int) -> list[bytes]:
    """Return random group elements."""
    return [sodium.point_from_hash(secrets.token_bytes(64)) for _ in range(count)]


def used(rt: Runtime, moment: datetime = NOW) -> int:
    """Return the elements counted for MEMBER on the day of `moment`."""
    with reading(rt.engine) as connection:
        return read_oprf_use(connection, MEMBER.platform, day_floor(moment))


def test_an_evaluation_verifies_and_is_counted(rt: Runtime) -> None:
    blinded = points(7)
    evaluation = oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, blinded)
    voprf.verify(rt.keys.in_state("current")[0].row.public_key, blinded, evaluation.evaluated, evaluation.proof)
    assert used(rt) == 7


def test_two_evaluations_of_the_same_batch_have_different_proofs(rt: Runtime) -> None:
    blinded = points(2)
    first, second = (oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, blinded) for _ in range(2))
    assert first.evaluated == second.evaluated
    assert first.proof != second.proof


def test_the_quota_is_exact_and_says_when_it_renews(rt: Runtime) -> None:
    oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, points(60))
    with pytest.raises(QuotaExceeded) as caught:
        oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, points(41))
    assert caught.value.details["retry_after_seconds"] == 3600 + 29 * 60 + 45
    assert used(rt) == 60, "a refused batch is not counted"
    oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, points(40))
    assert used(rt) == 100
    with pytest.raises(QuotaExceeded):
        oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, points(1))


def test_a_batch_above_the_whole_quota_is_refused_on_a_fresh_day(rt: Runtime) -> None:
    with pytest.raises(QuotaExceeded):
        oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, points(101))
    assert used(rt) == 0


def test_a_new_utc_day_renews_the_quota(rt: Runtime) -> None:
    budgets.deduct(rt.oprf, MEMBER, 100, NOW)
    tomorrow = datetime(2026, 3, 2, tzinfo=UTC)
    with pytest.raises(QuotaExceeded):
        budgets.deduct(rt.oprf, MEMBER, 1, datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC))
    budgets.deduct(rt.oprf, MEMBER, 100, tomorrow)
    assert (used(rt), used(rt, tomorrow)) == (100, 100)


def test_a_platforms_own_quota_goes_before_the_default(rt: Runtime) -> None:
    small = replace(MEMBER, oprf_daily_quota_elements=3)
    budgets.deduct(rt.oprf, small, 3, NOW)
    with pytest.raises(QuotaExceeded):
        budgets.deduct(rt.oprf, small, 1, NOW)
    none = replace(MEMBER, platform="none", oprf_daily_quota_elements=0)
    with pytest.raises(QuotaExceeded):
        budgets.deduct(rt.oprf, none, 1, NOW)


def test_malformed_batches_cost_nothing(rt: Runtime) -> None:
    good = points(3)
    for batch, error in (
        ([*good, b"\xff" * 32], InvalidPoint),
        ([*good, bytes(32)], IdentityPoint),
        ([*good, good[0][:31]], InvalidPoint),
        ([], BatchSizeInvalid),
        (good * 334, BatchSizeInvalid),
    ):
        with pytest.raises(error):
            oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch, batch)
    with pytest.raises(StaleEpoch) as caught:
        oprf.evaluate(rt.oprf, MEMBER, rt.keys.epoch + 1, good)
    assert caught.value.details == {"epoch": rt.keys.epoch}
    assert used(rt) == 0


def test_parallel_requests_never_exceed_the_quota(rt: Runtime) -> None:
    """More threads than the quota allows, each with a different number of elements."""
    granted: list[int] = []
    barrier = threading.Barrier(8)

    def run(elements: int) -> None:
        barrier.wait()
        for _ in range(10):
            try:
                budgets.deduct(rt.oprf, MEMBER, elements, NOW)
                granted.append(elements)
            except QuotaExceeded:
                continue

    threads = [threading.Thread(target=run, args=(elements,)) for elements in (1, 2, 3, 4, 5, 6, 7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == used(rt)
    assert 92 < used(rt) <= 100, "360 were asked for: somebody was refused, when at most 8 were left"
