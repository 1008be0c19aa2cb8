"""Waiting for the appender: no longer than the write deadline, and without losing what it stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ledger.errors import DatabaseUnavailable, NotFound
from ledger.server.db.engine import open_engine
from ledger.server.records.commands import Sequencer
from ledger.server.records.idempotency import StoredResponse
from ledger.server.settings import Settings

DONE = StoredResponse(201, "{}", False)


def sequencer_of(engine: Engine, write_deadline_ms: int) -> Sequencer:
    """A sequencer that is given no command."""
    settings = Settings().model_copy(update={"write_deadline_ms": write_deadline_ms})
    return Sequencer(settings, engine, lambda _commands: [])


@pytest.fixture
def sequencer() -> Iterator[Sequencer]:
    """With a write deadline of 0.1 seconds on PostgreSQL; nothing connects."""
    engine = open_engine("postgresql://u@127.0.0.1:1/d")
    with closing(sequencer_of(engine, 100)) as sequencer:
        yield sequencer
    engine.dispose()


def test_a_command_that_waits_for_its_turn_is_given_up(sequencer: Sequencer) -> None:
    first: Future[StoredResponse] = Future()
    with pytest.raises(DatabaseUnavailable, match="same idempotency key"):
        asyncio.run(sequencer.response(first))
    second: Future[StoredResponse] = Future()
    engine = open_engine("postgresql://u@127.0.0.1:1/d")
    with closing(sequencer_of(engine, 60_000)) as patient:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="same idempotency key"):
            patient.response_in_thread(second, waited_seconds=60)
        assert time.monotonic() - started < 30, "the time that it has waited counts"
    engine.dispose()
    assert not first.set_running_or_notify_cancel()
    assert not second.set_running_or_notify_cancel()


def test_one_that_has_its_turn_goes_on(sequencer: Sequencer) -> None:
    done: Future[StoredResponse] = Future()
    assert done.set_running_or_notify_cancel()
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(sequencer.response(done))
    with pytest.raises(DatabaseUnavailable):
        sequencer.response_in_thread(done, waited_seconds=1)
    done.set_result(DONE)
    assert sequencer.response_in_thread(done, waited_seconds=1) == DONE


def test_answers_and_errors_come_through(sequencer: Sequencer) -> None:
    done: Future[StoredResponse] = Future()
    done.set_result(DONE)
    assert asyncio.run(sequencer.response(done)) == DONE
    refused: Future[StoredResponse] = Future()
    refused.set_exception(NotFound("no"))
    with pytest.raises(NotFound):
        sequencer.response_in_thread(refused, waited_seconds=0)
    with pytest.raises(NotFound):
        asyncio.run(sequencer.response(refused))


def test_sqlite_answers_when_it_does(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    sequencer = sequencer_of(engine, 1)
    done: Future[StoredResponse] = Future()

    async def ask() -> StoredResponse:
        asyncio.get_running_loop().call_later(0.1, done.set_result, DONE)
        return await sequencer.response(done)

    assert asyncio.run(ask()) == DONE
    engine.dispose()
