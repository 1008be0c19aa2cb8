"""Delivering what changes the ledger: on disk first, the same bytes at every attempt, forgotten after the answer.

An attempt without an answer may have succeeded. Within 24 hours the service remembers the idempotency key, so sending
again is safe. Later it has forgotten; then the service is asked first whether the thing was done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from ledger.client.outbox import Item, Operation, Outbox
from ledger.client.results import (
    AcceptedReport,
    Delivery,
    Fields,
    ReportView,
    about,
    as_mapping,
    compare,
    parse_accepted,
    parse_page,
    parse_view,
)
from ledger.client.transport import Answer, Transport, error_from_problem
from ledger.core.encoding import b64url, canonical_json, format_time
from ledger.errors import (
    AnswerMismatch,
    Forbidden,
    LedgerError,
    LimitExceeded,
    ReportDisputed,
    StaleEpoch,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)

T = TypeVar("T")

BATCH_ITEMS = 1000
BATCH_BYTES = 3 * 1024 * 1024
"""Longest batch sent; the service reads 4 MiB."""
REMEMBERED = timedelta(hours=23)
"""After this the service may have forgotten an idempotency key (it keeps them for 24 hours)."""
CLOCK_SLACK = timedelta(minutes=5)

_UNDECIDED = (Unavailable, LimitExceeded, Unauthenticated, Forbidden, UnexpectedAnswer, AnswerMismatch, ReportDisputed)
"""Errors after which the thing sent stays pending: they say nothing about it, or (ReportDisputed) it waits for the end
of an appeal. All others refuse it for good."""


def for_good(error: LedgerError) -> bool:
    """Whether the ledger refused the thing itself, so that sending it again is useless."""
    return not isinstance(error, _UNDECIDED)


class Courier:
    """Sends through the outbox. `budget_seconds` bounds all attempts of one call, `attempt_seconds` each of them."""

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        now: Callable[[], datetime],
        budget_seconds: float,
        attempt_seconds: float,
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._now = now
        self._budget_seconds = budget_seconds
        self._attempt_seconds = attempt_seconds

    def report(self, key: str, payload: Mapping[str, Any]) -> Delivery[AcceptedReport]:
        """Send one report under idempotency key `key`."""
        return self._deliver("report", "/v1/reports", key, payload)

    def change(self, operation: Operation, path: str, key: str, payload: Mapping[str, Any]) -> Delivery[ReportView]:
        """Send a withdrawal or restitution."""
        return self._deliver(operation, path, key, payload)

    def reports(self, payloads: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Delivery[AcceptedReport]]:
        """Send many (idempotency key, report) in batches; one result each, in order. Of a key that waits already, what
        is stored is sent."""
        now, path = self._now(), "/v1/reports"
        items = [Item(key, "report", path, _encode(payload), "pending", now, 1, now, None) for key, payload in payloads]
        self._outbox.add([(item.idempotency_key, item.operation, path, item.content) for item in items], now)
        return self._send_batches([self._outbox.get(item.idempotency_key) or item for item in items])

    def flush(self) -> list[Delivery[Any]]:
        """Send everything that is pending, oldest first; stops at the first outage."""
        pending = self._outbox.items("pending")
        results: list[Delivery[Any]] = []
        for item in pending:
            try:
                done = self._done_before(item)
            except LedgerError as error:
                done_keys = {result.idempotency_key for result in results}
                left = [one.idempotency_key for one in pending if one.idempotency_key not in done_keys]
                return results + [Delivery(key, "pending", error=error) for key in left]
            if done is not None:
                results.append(done)
        done_keys = {result.idempotency_key for result in results}
        waiting = [item for item in pending if item.idempotency_key not in done_keys]
        self._outbox.attempting([item.idempotency_key for item in waiting], self._now())
        results += self._send_batches([item for item in waiting if item.operation == "report"])
        for item in waiting:
            if item.operation == "report":
                continue
            last = results[-1].error if results else None
            if isinstance(last, Unavailable):  # the ledger is away: every further attempt would only take time
                results.append(Delivery(item.idempotency_key, "pending", error=last))
            else:
                results.append(self._send(item))
        return results

    def _deliver(self, operation: Operation, path: str, key: str, payload: Mapping[str, Any]) -> Delivery[Any]:
        self._outbox.add([(key, operation, path, _encode(payload))], self._now())
        item = self._outbox.get(key)
        if item is None:  # another process has delivered it meanwhile: ask for the answer again with the same bytes
            item = Item(key, operation, path, _encode(payload), "pending", self._now(), 1, None, None)
        return self._send(item)

    def _send(self, item: Item) -> Delivery[Any]:
        key = item.idempotency_key
        try:
            answer = self._post(item.path, item.content, {"Idempotency-Key": key})
            own_key = answer.headers.get("idempotency-key") == key
            report = answer.read(partial(_accepted if item.operation == "report" else _changed, item, own_key))
        except LedgerError as error:
            return self._failed(key, _not_yet(item, error))
        self._outbox.delivered([key])
        return Delivery(key, "accepted", report, replayed=answer.headers.get("idempotency-replayed") == "true")

    def _failed(self, key: str, error: LedgerError) -> Delivery[Any]:
        self._outbox.failed([(key, error, for_good(error))])
        return Delivery(key, "refused" if for_good(error) else "pending", error=error)

    def _post(self, path: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        return self._transport.retrying(
            self._budget_seconds,
            lambda limit: self._transport.send("POST", path, limit, content=content, headers=headers),
            self._attempt_seconds,
        )

    def _send_batches(self, items: Sequence[Item]) -> list[Delivery[AcceptedReport]]:
        results: list[Delivery[AcceptedReport]] = []
        outage: LedgerError | None = None
        for chunk in _chunks(items):
            if outage is None:
                try:
                    results += self._send_batch(chunk)
                    continue
                except LedgerError as error:
                    outage = (
                        error
                        if not for_good(error)
                        else UnexpectedAnswer("The ledger refused a whole batch.", answered_code=error.code)
                    )
            self._outbox.failed([(item.idempotency_key, outage, False) for item in chunk])
            results += [Delivery(item.idempotency_key, "pending", error=outage) for item in chunk]
        return results

    def _send_batch(self, items: Sequence[Item]) -> list[Delivery[AcceptedReport]]:
        parts = [
            b'{"idempotency_key":' + json.dumps(item.idempotency_key).encode() + b"," + item.content[1:]
            for item in items
        ]
        answer = self._post("/v1/reports/batch", b'{"reports":[' + b",".join(parts) + b"]}", {})
        outcomes = Fields(answer.json()).items("results")
        if len(outcomes) != len(items):
            raise UnexpectedAnswer("The ledger answered another number of reports than were sent.")
        deliveries = [_outcome(item, value) for item, value in zip(items, outcomes, strict=True)]
        if any(isinstance(one.error, AnswerMismatch) for one in deliveries):
            answer.drop()
        self._outbox.delivered([one.idempotency_key for one in deliveries if one.state == "accepted"])
        self._outbox.failed(
            [(one.idempotency_key, one.error, one.state == "refused") for one in deliveries if one.error is not None]
        )
        return deliveries

    # --- after the service has forgotten the idempotency key ------------------------------------------------------

    def _done_before(self, item: Item) -> Delivery[Any] | None:
        """The answer of an earlier attempt, if the service shows that one succeeded; None: send (again)."""
        if item.first_attempt_at is None or self._now() - item.first_attempt_at < REMEMBERED:
            return None
        view = self._find_report(item) if item.operation == "report" else self._find_change(item)
        if view is None:
            return None
        self._outbox.delivered([item.idempotency_key])
        if item.operation != "report":
            return Delivery(item.idempotency_key, "accepted", view, replayed=True)
        accepted = AcceptedReport(
            id=view.id,
            entry_index=view.entry_index,
            status=view.status,
            effective_from=view.effective_from,
            expires_at=view.expires_at,
            receipt_url=view.receipt_url,
            signature=_signature(item),
        )
        return Delivery(item.idempotency_key, "accepted", accepted, replayed=True)

    def _get(self, path: str, parse: Callable[[Any], T], query: Mapping[str, str] | None = None) -> T:
        return self._transport.retrying(
            self._budget_seconds,
            lambda limit: self._transport.send("GET", path, limit, query=query),
            self._attempt_seconds,
        ).read(parse)

    def _find_report(self, item: Item) -> ReportView | None:
        body = json.loads(item.content)["body"]
        query = {"order_ref": body["order_ref"], "limit": "100"}
        page = self._get("/v1/reports", partial(parse_page, order_ref=body["order_ref"]), query)
        assert item.first_attempt_at is not None
        earliest = item.first_attempt_at - CLOCK_SLACK
        for view in page.reports:
            same = {
                "conduct": view.conduct,
                "amount_minor": view.amount_minor,
                "currency": view.currency,
                "outcome": view.outcome,
                "act_ended_at": format_time(view.act_ended_at),
                "notice_sent_at": format_time(view.notice_sent_at),
            }
            if view.recorded_at >= earliest and all(body[name] == value for name, value in same.items()):
                return view
        return None

    def _find_change(self, item: Item) -> ReportView | None:
        view = self._get(item.path.rpartition("/")[0], about(parse_view, id=_report_id(item)))
        done = view.withdrawal_reason if item.operation == "withdraw" else view.restituted_at
        return None if done is None else view


def _accepted(item: Item, own_key: bool, value: object) -> AcceptedReport:
    """The answer about a report. Raises AnswerMismatch when it is about another order or body.

    An answer that a ledger of an earlier version had stored does not name them; then it must carry the item's own
    idempotency key (`own_key`).
    """
    accepted, fields, sent = parse_accepted(value), Fields(value), json.loads(item.content)
    own = {"order_ref": sent["body"]["order_ref"], "body_sha256": _digest(sent["body"])}
    for name, one in own.items():
        if fields.optional(name) is not None or not own_key:
            compare(name, fields.text(name), one)
    return replace(accepted, signature=str(sent["signature"]))


def _changed(item: Item, own_key: bool, value: object) -> ReportView:
    """The answer about a withdrawal or a restitution. Raises AnswerMismatch when it is about another one."""
    view, sent = about(parse_view, id=_report_id(item))(value), json.loads(item.content)
    if item.operation == "withdraw":
        compare("withdrawal", view.withdrawal_reason, sent["reason"])
    else:
        received_at = view.restituted_at
        compare("restitution", received_at and format_time(received_at), sent["received_at"])
    return view


def _report_id(item: Item) -> str:
    """The report that a withdrawal or a restitution is about."""
    return item.path.split("/")[-2]


def _digest(body: Mapping[str, Any]) -> str:
    return b64url(hashlib.sha256(canonical_json(body)).digest())


def _signature(item: Item) -> str:
    return str(json.loads(item.content)["signature"])


def _outcome(item: Item, value: object) -> Delivery[AcceptedReport]:
    key = item.idempotency_key
    fields = Fields(value)
    status = fields.integer("status")
    try:
        compare("idempotency_key", fields.required("idempotency_key"), key)
        if status == 201:
            return Delivery(key, "accepted", _accepted(item, True, fields.optional("report")))
        error = _not_yet(item, error_from_problem(status, as_mapping(fields.optional("problem"))))
    except (UnexpectedAnswer, AnswerMismatch) as unexpected:
        error = unexpected
    return Delivery(key, "refused" if for_good(error) else "pending", error=error)


def _not_yet(item: Item, error: LedgerError) -> LedgerError:
    """A server that has not noticed a key rotation yet refuses what is signed under the new epoch: an outage only."""
    if isinstance(error, StaleEpoch) and item.operation == "report":
        theirs, ours = error.details.get("epoch"), json.loads(item.content)["body"]["epoch"]
        if isinstance(theirs, int) and theirs < ours:
            return Unavailable("This server has not noticed the key rotation yet.", retry_after_seconds=1)
    return error


def _encode(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _chunks(items: Sequence[Item]) -> list[list[Item]]:
    """Batches that stay within both limits."""
    chunks: list[list[Item]] = []
    size = 0
    for item in items:
        length = len(item.content) + len(item.idempotency_key) + 32
        if not chunks or len(chunks[-1]) == BATCH_ITEMS or size + length > BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(item)
        size += length
    return chunks
