"""Waiting for the appender: no longer than the write deadline, and without losing what it stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger.errors import DatabaseUnavailable, NotFound
from ledger.server.db.engine import open_engine
from ledger.server.records.commands import Stored
from ledger.server.records.waiting import stored_by, stored_soon

DONE = Stored(201, "{}", False)


@pytest.fixture
def rt() -> Iterator[Any]:
    """What waiting needs of a runtime; nothing connects."""
    engine = open_engine("postgresql://u@127.0.0.1:1/d")
    yield SimpleNamespace(engine=engine, settings=SimpleNamespace(write_deadline_ms=100))
    engine.dispose()


def test_a_command_that_waits_for_its_turn_is_given_up(rt: Any) -> None:
    first: Future[Stored] = Future()
    with pytest.raises(DatabaseUnavailable, match="same idempotency key"):
        asyncio.run(stored_soon(rt, first))
    second: Future[Stored] = Future()
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="same idempotency key"):
        stored_by(rt, second, waited_seconds=0.1)
    assert time.monotonic() - started < 0.1, "the time that it has waited counts"
    assert not first.set_running_or_notify_cancel()
    assert not second.set_running_or_notify_cancel()


def test_one_that_has_its_turn_goes_on(rt: Any) -> None:
    done: Future[Stored] = Future()
    assert done.set_running_or_notify_cancel()
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(stored_soon(rt, done))
    with pytest.raises(DatabaseUnavailable):
        stored_by(rt, done, waited_seconds=1)
    done.set_result(DONE)
    assert stored_by(rt, done, waited_seconds=1) == DONE


def test_answers_and_errors_come_through(rt: Any) -> None:
    done: Future[Stored] = Future()
    done.set_result(DONE)
    assert asyncio.run(stored_soon(rt, done)) == DONE
    refused: Future[Stored] = Future()
    refused.set_exception(NotFound("no"))
    with pytest.raises(NotFound):
        stored_by(rt, refused, waited_seconds=0)
    with pytest.raises(NotFound):
        asyncio.run(stored_soon(rt, refused))


def test_sqlite_answers_when_it_does(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    rt: Any = SimpleNamespace(engine=engine, settings=SimpleNamespace(write_deadline_ms=1))
    done: Future[Stored] = Future()

    async def ask() -> Stored:
        asyncio.get_running_loop().call_later(0.1, done.set_result, DONE)
        return await stored_soon(rt, done)

    assert asyncio.run(ask()) == DONE
    engine.dispose()
