"""Commands that append to the log, checked as far as that needs no database, and the sequencer that carries them out.

The sequencer is one thread for each process. It carries out waiting commands in batches, each in one transaction that
holds the log's head (group commit).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from ledger.errors import DatabaseUnavailable, LedgerError
from ledger.rules.policy.values import Profile
from ledger.rules.reports import Intake, ReportBody
from ledger.server.db.engine import answers_within
from ledger.server.process.batcher import Batcher
from ledger.server.records.idempotency import IdempotentRequest, StoredResponse
from ledger.server.settings import Settings
from ledger.tlog.entries import WithdrawalReason


@dataclass(frozen=True, slots=True)
class PreparedSubject:
    """A subject whose commitment was checked: blinded element, commitment salt, and the tag lookups will use."""

    kind: str
    element: bytes
    salt: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class SubmitReport:
    """Record a report. `signed` is the body as the platform signed it, `canonical` its canonical bytes; `replaces` and
    `links` are decoded ids.

    `converted` has the subjects' elements under other key epochs, as far as they were converted beforehand. `intake`
    follows from the policy of version `policy` and the platform's `profile`.
    """

    request: IdempotentRequest
    body: ReportBody
    signed: Mapping[str, Any]
    canonical: bytes
    signature: bytes
    intake: Intake
    profile: Profile
    policy: int
    subjects: tuple[PreparedSubject, ...]
    replaces: int | None
    links: tuple[int, ...]
    converted: Mapping[int, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WithdrawReport:
    """Withdraw a report."""

    request: IdempotentRequest
    report_id: int
    reason: WithdrawalReason


@dataclass(frozen=True, slots=True)
class RestituteReport:
    """Record that the buyer paid the full amount back."""

    request: IdempotentRequest
    report_id: int
    received_at: datetime
    amount_minor: int
    currency: str


Command = SubmitReport | WithdrawReport | RestituteReport


class Sequencer(Batcher[Command, StoredResponse]):
    """Carries out commands in batches, in the order of arrival. Its thread, settings and checks are named
    `appender`."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        apply: Callable[[Sequence[Command]], Sequence[StoredResponse | LedgerError]],
    ) -> None:
        """`apply` carries out a batch: one outcome for each command, or it raises and nothing was done."""
        super().__init__(
            "appender",
            apply,
            max_batch=settings.appender_max_batch,
            linger_ms=settings.appender_linger_ms,
            queue_limit=settings.appender_queue_limit,
        )
        self._deadline_seconds = answers_within(engine, settings.write_deadline_ms)

    async def response(self, pending: Future[StoredResponse]) -> StoredResponse:
        """Return the response that `pending` (from `submit`) will hold.

        Raises the command's error, and DatabaseUnavailable after the write deadline: a command that was still waiting
        is then cancelled; one that was being carried out may succeed or fail. Sent again under the same idempotency
        key, it is carried out once in either case.
        """
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.wrap_future(pending)
        except TimeoutError as error:
            raise _late() from error

    def response_in_thread(self, pending: Future[StoredResponse], waited_seconds: float) -> StoredResponse:
        """Return the response as `response` does, for a thread that has already waited `waited_seconds`. Raises as
        `response` does."""
        limit = self._deadline_seconds
        try:
            return pending.result(None if limit is None else max(0.0, limit - waited_seconds))
        except TimeoutError as error:
            pending.cancel()
            raise _late() from error


def _late() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "The database did not answer in time. Ask again under the same idempotency key.", retry_after_seconds=1
    )
