"""Workers: no error ends one, a worker without progress is never reported as well, and all stop on request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import DatabaseUnavailable
from ledger.server.process import supervision
from ledger.server.process.supervision import Worker
from tests.processes import until

ERRORS: dict[str, Callable[[], BaseException]] = {
    "outage": lambda: DatabaseUnavailable("away"),
    "bug": lambda: RuntimeError("unexpected"),
    "exit": lambda: SystemExit(1),
    "interrupt": KeyboardInterrupt,
    "memory": MemoryError,
}


@contextmanager
def working(
    step: Callable[[], float | None], *, patience: float = 5, seconds: float | None = 0.001
) -> Iterator[Worker]:
    worker = Worker("tested", step, seconds=seconds, patience_seconds=patience).start()
    try:
        yield worker
    finally:
        assert worker.close(60)


@given(st.lists(st.sampled_from([*ERRORS, "fine"]), max_size=8))
@settings(max_examples=25)
def test_whatever_it_raises_it_goes_on(outcomes: list[str]) -> None:
    left = [*outcomes, "fine"]
    done = threading.Event()

    def step() -> None:
        outcome = left.pop(0) if left else "fine"
        if outcome != "fine":
            raise ERRORS[outcome]()
        if not left:
            done.set()

    before, supervision.MIN_BACKOFF_SECONDS = supervision.MIN_BACKOFF_SECONDS, 0.0001
    try:
        with working(step) as worker:
            assert done.wait(60), left
            until(lambda: worker.progress().failures == 0, "the success was not noted")
            assert worker.progress().state == "ok"
            assert worker.progress().restarts == len([outcome for outcome in outcomes if outcome != "fine"])
    finally:
        supervision.MIN_BACKOFF_SECONDS = before


def test_a_failing_one_is_logged_once_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    fails = threading.Event()
    fails.set()

    def step() -> None:
        if fails.is_set():
            raise RuntimeError("a text with a tag in it")

    caplog.set_level(logging.WARNING, logger="ledger.server.process.supervision")
    with working(step, patience=0.1) as worker:
        until(lambda: worker.progress().state == "failing", "it was called well")
        assert worker.progress().age_seconds > 0.1
        fails.clear()
        until(lambda: worker.progress().state == "ok", "it did not recover")
    messages = [record.message for record in caplog.records]
    assert messages == ["thread_failed tested", "thread_recovered tested"], "once, however often it fails"


def test_a_hung_one_is_shown_as_stuck_and_recovers() -> None:
    gate = threading.Event()

    def step() -> None:
        gate.wait(10)

    with working(step, patience=0.1) as worker:
        until(lambda: worker.progress().state == "stuck", "it was believed alive")
        gate.set()
        until(lambda: worker.progress().state == "ok", "it did not recover")


def test_an_idle_one_is_well_and_wakes() -> None:
    runs: list[int] = []
    with working(lambda: runs.append(1), patience=0.05, seconds=None) as worker:
        time.sleep(0.1)
        assert (worker.progress().state, worker.progress().age_seconds, runs) == ("ok", 0.0, [])
        worker.wake()
        until(lambda: runs == [1], "it did not wake")
    assert worker.progress().state == "stopped"


def test_stopping_does_not_wait_for_one_that_hangs() -> None:
    gate = threading.Event()
    worker = Worker("hung", lambda: gate.wait(60) and None, seconds=1, patience_seconds=1).start()
    started = time.monotonic()
    assert not worker.close(0.1)
    assert time.monotonic() - started < 5
    gate.set()
    assert worker.close(5)


def test_the_last_run_happens_at_the_end() -> None:
    last: list[str] = []
    worker = Worker(
        "flusher", lambda: None, seconds=30, patience_seconds=1, last=lambda: last.append("flushed")
    ).start()
    assert worker.close(5)
    assert last == ["flushed"]
