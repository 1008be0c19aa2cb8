"""Batches of reports: each item is checked, recorded and answered alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from api.json_io import batch_item, batch_problem, check_shape
from api.logs import failure
from ledger.errors import InvalidRequest, LedgerError
from ledger.server.platforms.members import Member
from ledger.server.records.commands import Sequencer
from ledger.server.records.idempotency import StoredResponse, check_key, is_key
from ledger.server.reports.reports import submit_reports
from ledger.server.runtime import Runtime

_ITEM = frozenset({"idempotency_key", "body", "signature", "subjects"})


def record_reports(rt: Runtime, member: Member, items: Sequence[Any], request_id: str, logger: Any) -> list[bytes]:
    """Record the items and return the result of each as JSON, in order. It blocks until all are durable or refused:
    call it in a thread.

    Raises Overloaded or Unavailable if none was accepted.
    """
    outcomes = [_shape_error(item) for item in items]
    taken = submit_reports(rt.reports, member, [item for item, bad in zip(items, outcomes, strict=True) if bad is None])
    remaining, started = iter(taken), time.monotonic()
    return [
        _result(rt.sequencer, next(remaining) if bad is None else bad, started, _key(item), request_id, logger)
        for item, bad in zip(items, outcomes, strict=True)
    ]


def _key(item: object) -> str | None:
    """Return the idempotency key of an item, which its result repeats; None without a valid one."""
    key = item.get("idempotency_key") if isinstance(item, dict) else None
    return key if is_key(key) else None


def _shape_error(item: object) -> LedgerError | None:
    try:
        check_key(check_shape(item, _ITEM)["idempotency_key"])
    except InvalidRequest as error:
        return error
    return None


def _result(
    sequencer: Sequencer,
    outcome: Future[StoredResponse] | LedgerError,
    started: float,
    key: str | None,
    request_id: str,
    logger: Any,
) -> bytes:
    if isinstance(outcome, LedgerError):
        return batch_problem(outcome, request_id, idempotency_key=key)
    try:
        stored = sequencer.response_in_thread(outcome, time.monotonic() - started)
    except LedgerError as error:
        return batch_problem(error, request_id, idempotency_key=key)
    except Exception as error:  # the other items are unaffected; this one gets `internal`
        logger.error("batch_report_failed", request_id=request_id, **failure(error))
        return batch_problem(LedgerError("The server failed."), request_id, idempotency_key=key)
    return batch_item(stored.status, "report", stored.body, idempotency_key=key)
