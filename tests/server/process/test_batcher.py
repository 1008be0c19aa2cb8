"""The batcher: items are processed together, and the failure of one item does not fail the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Conflict, DatabaseUnavailable, LedgerError, Overloaded, Unavailable
from ledger.server.process.batcher import Batcher
from tests.processes import until


class Work:
    """Doubles numbers. Odd numbers are refused, and 13 raises for the whole batch that contains it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int | LedgerError]:
        self.gate.wait(10)
        self.batches.append(list(items))
        if 13 in items:
            raise RuntimeError("thirteen")
        return [Conflict("odd") if item % 2 else item * 2 for item in items]


def make(work: Work, *, max_batch: int = 100, queue_limit: int = 1000) -> Batcher[int, int]:
    return Batcher("test", work, max_batch=max_batch, linger_ms=0, queue_limit=queue_limit)


def outcome(future: Future[int]) -> int | str:
    try:
        return future.result(timeout=10)
    except Exception as error:
        return type(error).__name__


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 7))
def test_each_item_gets_its_own_outcome(items: list[int], max_batch: int) -> None:
    batcher = make(Work(), max_batch=max_batch)
    outcomes = [outcome(future) for future in batcher.submit_many(items)]
    batcher.close()
    expected = ["RuntimeError" if item == 13 else "Conflict" if item % 2 else item * 2 for item in items]
    assert outcomes == expected


def test_what_waits_goes_together() -> None:
    work = Work()
    work.gate.clear()
    batcher = make(work, max_batch=5)
    futures = [batcher.submit(2)]
    futures += batcher.submit_many([4] * 9)
    work.gate.set()
    assert [future.result(60) for future in futures] == [4] + [8] * 9
    batcher.close()
    assert max(len(batch) for batch in work.batches) == 5


def test_an_outage_is_reported_to_all_and_nothing_is_tried_singly() -> None:
    calls: list[int] = []

    def away(items: Sequence[int]) -> list[int | LedgerError]:
        calls.append(len(items))
        raise DatabaseUnavailable("away")

    batcher: Batcher[int, int] = Batcher("test", away, max_batch=10, linger_ms=20, queue_limit=10)
    futures = batcher.submit_many([1, 2, 3])
    assert [outcome(future) for future in futures] == ["DatabaseUnavailable"] * 3
    batcher.close()
    assert sum(calls) == 3


def test_a_full_queue_refuses_all_of_a_group() -> None:
    work = Work()
    work.gate.clear()
    batcher = make(work, queue_limit=3, max_batch=1)
    first = batcher.submit(2)
    while not first.running():
        pass
    batcher.submit_many([2, 2])
    with pytest.raises(Overloaded):
        batcher.submit_many([2, 2])
    last = batcher.submit(6)
    work.gate.set()
    assert last.result(60) == 12
    batcher.close()


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    work = Work()
    batcher = make(work)
    futures = batcher.submit_many([2] * 50)
    batcher.close()
    assert all(future.result(0) == 4 for future in futures)
    assert not batcher.alive()
    with pytest.raises(Unavailable):
        batcher.submit(2)


def test_a_cancelled_item_is_not_begun() -> None:
    work = Work()
    work.gate.clear()
    batcher = make(work, max_batch=1)
    first, second, third = batcher.submit_many([2, 4, 6])
    while not first.running():
        pass
    assert second.cancel()
    work.gate.set()
    assert (first.result(60), third.result(60)) == (4, 12)
    with pytest.raises(CancelledError):
        second.result(0)
    batcher.close()
    assert [4] not in work.batches


def test_nothing_waits_without_end_for_work_that_hangs() -> None:
    """The items in the hanging call and those behind it get an answer; new ones are refused; then it goes on."""
    work = Work()
    work.gate.clear()
    batcher: Batcher[int, int] = Batcher(
        "test", work, max_batch=1, linger_ms=0, queue_limit=10, answer_seconds=0.2, stuck_seconds=0.05
    )
    try:
        futures = batcher.submit_many([2, 4, 6])
        until(lambda: batcher.progress().state == "stuck", "it was believed alive")
        assert [outcome(future) for future in futures] == ["Unavailable"] * 3
        with pytest.raises(Unavailable):
            batcher.submit(8)
        assert batcher.waiting() == 0
        work.gate.set()
        until(lambda: batcher.progress().state == "ok", "it did not recover")
        assert batcher.submit(10).result(60) == 20, "what the hanging call did in the end disturbs nothing"
    finally:
        work.gate.set()
        batcher.close()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("x")])
def test_no_error_ends_the_thread(error: BaseException) -> None:
    def process(items: Sequence[int]) -> list[int | LedgerError]:
        if 1 in items:
            raise error
        return list(items)

    batcher: Batcher[int, int] = Batcher("test", process, max_batch=1, linger_ms=0, queue_limit=10)
    assert outcome(batcher.submit(1)) in ("Unavailable", "RuntimeError")
    assert batcher.submit(2).result(60) == 2
    assert batcher.alive()
    batcher.close()


def test_closing_in_a_hanging_call_answers_what_waits() -> None:
    work = Work()
    work.gate.clear()
    batcher = make(work, max_batch=1)
    futures = batcher.submit_many([2, 4])
    assert not batcher.close(0.1)
    assert [outcome(future) for future in futures] == ["Unavailable"] * 2
    work.gate.set()


def test_too_few_outcomes_are_no_reason_to_wait() -> None:
    """If `process` returns too few outcomes, every item still gets an answer."""
    batcher: Batcher[int, int] = Batcher("test", lambda items: [1], max_batch=10, linger_ms=30, queue_limit=10)
    futures = batcher.submit_many([1, 2, 3])
    assert {outcome(future) for future in futures[1:]} == {"Unavailable"}
    batcher.close()
