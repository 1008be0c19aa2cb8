"""Waiting for what the appender stores, no longer than the write deadline allows."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ledger.errors import DatabaseUnavailable
from ledger.server.db.engine import answers_within
from ledger.server.records.commands import Stored

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime


async def stored_soon(rt: Runtime, done: Future[Stored]) -> Stored:
    """What `done` gives. Raises its error, and DatabaseUnavailable after `write_deadline_ms`: a command that has not
    had its turn is then given up, of one that has it is not known whether it is carried out. Asked again under the
    same idempotency key, it is carried out once in either case."""
    try:
        async with asyncio.timeout(answers_within(rt.engine, rt.settings.write_deadline_ms)):
            return await asyncio.wrap_future(done)
    except TimeoutError as error:
        raise _late() from error


def stored_by(rt: Runtime, done: Future[Stored], waited_seconds: float) -> Stored:
    """As `stored_soon`, in a thread that has already waited for `waited_seconds`."""
    limit = answers_within(rt.engine, rt.settings.write_deadline_ms)
    try:
        return done.result(None if limit is None else max(0.0, limit - waited_seconds))
    except TimeoutError as error:
        done.cancel()
        raise _late() from error


def _late() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "The database did not answer in time. Ask again under the same idempotency key.", retry_after_seconds=1
    )
