"""Waiting in an event loop for another thread: every outcome arrives once, with one wake-up for many."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ledger.errors import Overloaded
from ledger.server.process.batcher import Batcher
from ledger.server.process.loop_waiters import LoopWaiters


def test_all_outcomes_arrive_and_errors_belong_to_their_item() -> None:
    def process(items: Any) -> list[Any]:
        return [Overloaded("odd") if item % 2 else item * 10 for item in items]

    batcher: Batcher[int, int] = Batcher("t", process, max_batch=7, linger_ms=0, queue_limit=10_000)

    async def ask() -> list[Any]:
        waiters: LoopWaiters[int] = LoopWaiters(asyncio.get_running_loop())
        asked = [waiters.new() for _ in range(500)]
        for number, waiter in enumerate(asked):
            batcher.put([(number, waiter)])
            if number % 50 == 0:
                await asyncio.sleep(0)
        return await asyncio.gather(*[waiter.future for waiter in asked], return_exceptions=True)

    outcomes = asyncio.run(asyncio.wait_for(ask(), 20))
    batcher.close()
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [number * 10 for number in range(0, 500, 2)]
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 250


def test_one_wake_up_takes_all_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes: list[object] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        waiters: LoopWaiters[int] = LoopWaiters(loop)
        real = loop.call_soon_threadsafe

        def wake(*arguments: Any) -> Any:
            wakes.append(arguments)
            return real(*arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", wake)
        asked = [waiters.new() for _ in range(100)]

        def settle() -> None:
            for waiter in asked:
                waiter.set_result(1)

        thread = threading.Thread(target=settle)
        thread.start()
        thread.join()
        assert sum([await waiter.future for waiter in asked]) == 100

    asyncio.run(ask())
    assert len(wakes) == 1


def test_who_gave_up_is_left_out_and_disturbs_no_other() -> None:
    async def ask() -> None:
        waiters: LoopWaiters[int] = LoopWaiters(asyncio.get_running_loop())
        first, second = waiters.new(), waiters.new()
        assert first.set_running_or_notify_cancel()
        first.future.cancel()
        assert not first.set_running_or_notify_cancel()
        first.set_result(1)
        second.set_result(2)
        assert await second.future == 2
        with pytest.raises(asyncio.CancelledError):
            await first.future

    asyncio.run(ask())


def test_outcomes_for_a_loop_that_has_ended_are_dropped() -> None:
    async def ask() -> Any:
        return LoopWaiters(asyncio.get_running_loop()).new()

    waiter = asyncio.run(ask())
    waiter.set_result(1)
    waiter.set_exception(Overloaded("late"))


def test_a_waiter_that_waited_for_too_long_gets_an_error_and_the_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the loop that the test turns."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        moment = loop.time()
        monkeypatch.setattr(loop, "time", lambda: moment)

        async def turn(seconds: float) -> None:
            nonlocal moment
            moment += seconds
            for _ in range(3):
                await asyncio.sleep(0)

        waiters: LoopWaiters[int] = LoopWaiters(loop, 0.1, lambda: Overloaded("late"))
        answered, first = waiters.new(), waiters.new()
        answered.set_result(1)
        await turn(0.05)
        second = waiters.new()
        assert await answered.future == 1
        assert first.set_running_or_notify_cancel()
        await turn(0.06)
        assert isinstance(first.future.exception(), Overloaded)
        assert not first.set_running_or_notify_cancel(), "it is not begun any more"
        assert second.set_running_or_notify_cancel()
        second.set_result(2)
        assert await second.future == 2
        first.set_result(1)  # comes too late, and changes nothing
        await turn(0.2)
        assert isinstance(first.future.exception(), Overloaded)
        last = waiters.new()  # after a while without any
        await turn(0.05)
        assert not last.future.done()
        await turn(0.06)
        assert isinstance(last.future.exception(), Overloaded)

    asyncio.run(ask())
