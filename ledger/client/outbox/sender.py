"""Send reports and corrections: on disk first, the same bytes at each attempt, deleted after the answer.

An attempt without an answer may have succeeded. Within 24 hours the service remembers the idempotency key, so sending
again is safe. Later it has forgotten; then the service is asked first whether the thing was done.

What an answer means for an item is decided for that item alone (`OutboxSender._state`). Only an outage ends a flush: no
answer, an answer that the whole ledger is unavailable or busy, or that the platform has no access.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from ledger.client.models.decoding import Count, Model, about, as_mapping, compare, decode
from ledger.client.models.reports import AcceptedReport, Delivery, ReportView, parse_accepted, parse_page, parse_view
from ledger.client.outbox.delivered import delivered_before, note_of
from ledger.client.outbox.items import BATCH_BYTES, BATCH_ITEMS, check_item, in_order, report_id_of, take_chunk
from ledger.client.outbox.store import AttemptVerdict, Item, ItemState, New, Operation, Outbox
from ledger.client.transport.http import HttpAnswer, Transport
from ledger.client.transport.problems import error_from_problem
from ledger.errors import (
    AnswerMismatch,
    ConfigurationError,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    LedgerError,
    LimitExceeded,
    LinkedReportInvalid,
    OrderAlreadyReported,
    PlatformSuspended,
    ReportDisputed,
    ScopeMissing,
    StaleEpoch,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import b64url, canonical_json, format_time

__all__ = ["BATCH_BYTES", "BATCH_ITEMS", "OutboxSender", "for_good"]

T = TypeVar("T")

REPORTS_PATH = "/v1/reports"
CONTENT_KEY_PREFIX = "content-"
"""Idempotency keys with this beginning were derived from all that is reported: the same key is the same report."""
_CONTENT_KEY = re.compile(CONTENT_KEY_PREFIX + r"[A-Za-z0-9_-]{32}\Z")
REMEMBERED = timedelta(hours=23)
"""After this the service may have forgotten an idempotency key (it keeps them for 24 hours)."""
CLOCK_SLACK = timedelta(minutes=5)
PARKED_EVERY = timedelta(hours=12)
"""A parked item is tried again after this. Cases take days; receivers of `appeal.decided` and `appeal.ended` can try it
at once (`outbox.flush(parked=True)`)."""
PATIENCE = 3
"""After this number of failed attempts, items are sent one by one at first: one of them may be the cause."""
FAILURES_IN_A_ROW = 3
"""After this number of consecutive requests on which the ledger failed (status 500), it counts as an outage."""

_UNDECIDED = (
    ConfigurationError,  # of this process, such as a file of certificates that it cannot read
    Unavailable,
    LimitExceeded,
    Unauthenticated,
    Forbidden,
    UnexpectedAnswer,
    AnswerMismatch,
    ReportDisputed,
)
"""Errors after which an item is not refused: they say nothing about it, or (ReportDisputed) it waits for the end of an
appeal. All others refuse it for good."""
_NOT_LET_IN = (ConfigurationError, Unauthenticated, PlatformSuspended, ScopeMissing)
"""Errors that every request of this process would get: the rest of a flush is not tried."""


def for_good(error: LedgerError) -> bool:
    """True if the ledger refused the item itself, so that sending it again is useless."""
    return not isinstance(error, _UNDECIDED)


class _BatchAnswer(Model, frozen=True):
    results: tuple[Any, ...]


class _BatchOutcome(Model, frozen=True):
    """The outcome of one report of a batch."""

    status: Count
    idempotency_key: Any
    report: Any = None
    problem: Any = None


class _Named(Model, frozen=True):
    """Members of an answer that name the report that was sent."""

    order_ref: str | None = None
    body_sha256: str | None = None


def or_raise(delivery: Delivery[T]) -> Delivery[T]:
    """Return `delivery`, or raise its error where the caller must see it at once: a refusal, an answer that does not
    let the platform in, an answer to another question."""
    error = delivery.error
    at_once = isinstance(error, Unauthenticated | Forbidden | AnswerMismatch)
    if error is not None and (delivery.state == "refused" or at_once):
        raise error
    return delivery


class OutboxSender:
    """Sends items of the outbox. `budget_seconds` bounds all attempts of one request, `attempt_seconds` each of them;
    `mac` returns keyed digests for the notes of delivered reports."""

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        now: Callable[[], datetime],
        budget_seconds: float,
        attempt_seconds: float,
        mac: Callable[[bytes], bytes],
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._now = now
        self._budget_seconds = budget_seconds
        self._attempt_seconds = attempt_seconds
        self._mac = mac

    def report(self, key: str, payload: Mapping[str, Any], *, repeatable: bool = False) -> Delivery[AcceptedReport]:
        """Send one report under idempotency key `key`, and return the outcome. Raises ConfigurationError. A
        `repeatable` one may be sent again under its key after it was delivered: then it gets the same answer, and
        another report under that key IdempotencyMismatch."""
        return self._deliver(New(key, "report", REPORTS_PATH, encode(payload), repeatable))

    def change(self, operation: Operation, path: str, key: str, payload: Mapping[str, Any]) -> Delivery[ReportView]:
        """Send a withdrawal or restitution, and return the outcome. Raises ConfigurationError."""
        return self._deliver(New(key, operation, path, encode(payload)))

    def reports(self, payloads: Sequence[tuple[str, Mapping[str, Any], bool]]) -> list[Delivery[AcceptedReport]]:
        """Send many (idempotency key, report, repeatable) in batches; return one result each, in order. For a key that
        waits already, the stored item is sent. Raises ConfigurationError."""
        now = self._now()
        news = [New(key, "report", REPORTS_PATH, encode(payload), repeats) for key, payload, repeats in payloads]
        notes = self._outbox.add(news, now)
        items = [
            self._outbox.get(new.idempotency_key) or _sent_before(new, now)
            for new in news
            if new.idempotency_key not in notes
        ]
        sent = self._send_all(items)
        return [
            delivered_before(new, notes[new.idempotency_key], self._mac)
            if new.idempotency_key in notes
            else sent[new.idempotency_key]
            for new in news
        ]

    def flush(self, *, parked: bool = False) -> list[Delivery[Any]]:
        """Send pending items, and parked ones that are due (with `parked`, all parked ones); return one result each,
        oldest first.

        Those with the fewest attempts are sent first, so that no item that fails again and again keeps others from
        their turn. Stops at an outage: then the rest is `pending`, or still `parked`, with the error of the outage.
        """
        now = self._now()
        waiting = self._outbox.items("pending")
        for item in self._outbox.items("parked"):
            if parked or item.retry_at is None or item.retry_at <= now:
                waiting.append(item)
        due = sorted(waiting, key=lambda item: item.number)
        results = self._send_all(in_order(due), flushing=True)
        return [results[item.idempotency_key] for item in due]

    # --- one by one -----------------------------------------------------------------------------------------------

    def _deliver(self, new: New) -> Delivery[Any]:
        now = self._now()
        note = self._outbox.add([new], now).get(new.idempotency_key)
        if note is not None:
            return delivered_before(new, note, self._mac)
        item = self._outbox.get(new.idempotency_key)
        if item is None:  # another process has delivered it meanwhile
            note = self._outbox.note(new.idempotency_key, now)
            if note is not None:
                return delivered_before(new, note, self._mac)
            item = _sent_before(new, now)
        return self._send_all([item])[new.idempotency_key]

    def _send(self, item: Item) -> Delivery[Any]:
        key = item.idempotency_key
        try:
            answer = self._post(item.path, item.content, {"Idempotency-Key": key})
            own_key = answer.headers.get("idempotency-key") == key
            report = answer.read(partial(_accepted if item.operation == "report" else _changed, item, own_key))
        except LedgerError as error:
            return self._failed(item, _not_yet(item, error))
        replayed = answer.headers.get("idempotency-replayed") == "true"
        return self._delivered([(item, Delivery(key, "accepted", report, replayed=replayed))])[0]

    def _post(self, path: str, content: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        return self._transport.retrying(
            self._budget_seconds,
            lambda limit: self._transport.send("POST", path, limit, content=content, headers=headers),
            self._attempt_seconds,
        )

    # --- many -----------------------------------------------------------------------------------------------------

    def _send_all(self, items: Sequence[Item], *, flushing: bool = False) -> dict[str, Delivery[Any]]:
        """Send items in this order, reports in batches; return a result for each key. A flush counts its attempts;
        those of new items were counted when they were stored."""
        results: dict[str, Delivery[Any]] = {}
        queue = deque(items)
        size = 1 if items and items[0].attempts >= PATIENCE else BATCH_ITEMS
        failures = 0
        while queue:
            chunk = take_chunk(queue, size)
            if flushing:
                self._outbox.attempting([item.idempotency_key for item in chunk], self._now())
            try:
                error = self._send_chunk(chunk, results)
                size = min(2 * size, BATCH_ITEMS)
            except LedgerError as raised:
                error = raised
                left = [item for item in chunk if item.idempotency_key not in results]
                if len(left) > 1 and not _is_outage(error):
                    queue.extendleft(reversed(left))
                    size = len(left) // 2
                else:
                    for delivery in self._all_failed([(item, error) for item in left]):
                        results[delivery.idempotency_key] = delivery
            failures = failures + 1 if error is not None and _is_failure(error) else 0
            if error is not None and (_is_outage(error) or failures >= FAILURES_IN_A_ROW):
                return results | {item.idempotency_key: _unsent(item, error) for item in queue}
        return results

    def _send_chunk(self, chunk: Sequence[Item], results: dict[str, Delivery[Any]]) -> LedgerError | None:
        """Send one change or some reports, and put the outcome of each into `results`. Return the error of an item that
        was sent alone. Raises the ledger's error for a batch as a whole, and the outage in which old items could not be
        asked about; then some have no result."""
        fresh: list[Item] = []
        for item in chunk:
            try:
                check_item(item)
                delivery = self._done_before(item)
            except LedgerError as error:
                if _is_outage(error):
                    raise
                results[item.idempotency_key] = self._failed(item, error)
                continue
            if delivery is None:
                fresh.append(item)
            else:
                results[item.idempotency_key] = self._delivered([(item, delivery)])[0]
        if len(fresh) == 1:
            sent = results[fresh[0].idempotency_key] = self._send(fresh[0])
            return sent.error
        if fresh:
            results |= {delivery.idempotency_key: delivery for delivery in self._send_batch(fresh)}
        return None

    def _send_batch(self, items: Sequence[Item]) -> list[Delivery[AcceptedReport]]:
        parts = [
            b'{"idempotency_key":' + json.dumps(item.idempotency_key).encode() + b"," + item.content[1:]
            for item in items
        ]
        answer = self._post("/v1/reports/batch", b'{"reports":[' + b",".join(parts) + b"]}", {})
        outcomes = decode(answer.json(), _BatchAnswer).results
        if len(outcomes) != len(items):
            raise UnexpectedAnswer("The ledger answered another number of reports than were sent.")
        answered = [_outcome(item, value) for item, value in zip(items, outcomes, strict=True)]
        if any(isinstance(outcome, AnswerMismatch) for outcome in answered):
            answer.drop()
        taken = [
            (item, Delivery(item.idempotency_key, "accepted", report))
            for item, report in zip(items, answered, strict=True)
            if isinstance(report, AcceptedReport)
        ]
        results: dict[str, Delivery[Any]] = {delivery.idempotency_key: delivery for delivery in self._delivered(taken)}
        bad = [(item, error) for item, error in zip(items, answered, strict=True) if isinstance(error, LedgerError)]
        results |= {delivery.idempotency_key: delivery for delivery in self._all_failed(bad)}
        return [results[item.idempotency_key] for item in items]

    # --- what an answer means ---------------------------------------------------------------------------------------

    def _delivered(self, taken: Sequence[tuple[Item, Delivery[Any]]]) -> list[Delivery[Any]]:
        """Delete delivered items, and keep the notes of those that may be repeated. With a withdrawn report, the
        refused items about it and its order are deleted too: they hold the person's elements."""
        notes = [
            note_of(item, done.report, self._mac)
            for item, done in taken
            if item.repeatable and isinstance(done.report, AcceptedReport)
        ]
        keys = [item.idempotency_key for item, _ in taken]
        withdrawn = [delivery.report for item, delivery in taken if item.operation == "withdraw"]
        if withdrawn:
            gone = {view.id for view in withdrawn if isinstance(view, ReportView)}
            orders = {view.order_ref for view in withdrawn if isinstance(view, ReportView)}
            keys += [item.idempotency_key for item in self._outbox.items("refused") if _is_about(item, gone, orders)]
        self._outbox.delivered(keys, notes)
        return [delivery for _, delivery in taken]

    def _failed(self, item: Item, error: LedgerError) -> Delivery[Any]:
        return self._all_failed([(item, error)])[0]

    def _all_failed(self, failed: Sequence[tuple[Item, LedgerError]]) -> list[Delivery[Any]]:
        withdrawing: set[str] | None = None
        results: list[Delivery[Any]] = []
        verdicts: list[AttemptVerdict] = []
        for item, error in failed:
            key = item.idempotency_key
            if isinstance(error, IdempotencyMismatch) and _CONTENT_KEY.match(key):
                taken = self._taken_before(item)
                if taken is not None:
                    results += self._delivered([(item, taken)])
                    continue
            if isinstance(error, OrderAlreadyReported) and withdrawing is None:
                waiting = [item for item in self._outbox.items("pending") if item.operation == "withdraw"]
                withdrawing = {report_id_of(item) for item in waiting}
            state, retry_at = self._state(item, error, withdrawing or set())
            verdicts.append(AttemptVerdict(key, state, error, retry_at))
            results.append(Delivery(key, state, error=error, retry_at=retry_at))
        if verdicts:
            self._outbox.failed(verdicts, self._now())
        return results

    def _state(self, item: Item, error: LedgerError, withdrawing: set[str]) -> tuple[ItemState, datetime | None]:
        """Return the state of an item after `error`, and when it is tried again if it is parked."""
        if isinstance(error, ReportDisputed) or self._rests_on_contested(error):
            return "parked", self._now() + PARKED_EVERY
        if not for_good(error):
            return ("parked", item.retry_at) if item.state == "parked" else ("pending", None)
        if isinstance(error, OrderAlreadyReported) and error.details.get("report") in withdrawing:
            return "pending", None  # the earlier report is being withdrawn, by an item that has its turn first
        return "refused", None

    def _rests_on_contested(self, error: LedgerError) -> bool:
        """True if a linked report is contested now: once that is decided it may count again."""
        linked = error.details.get("report")
        if not isinstance(error, LinkedReportInvalid) or not isinstance(linked, str):
            return False
        try:
            return self._get(f"{REPORTS_PATH}/{linked}", about(parse_view, id=linked)).status == "disputed"
        except LedgerError as unknown:
            return not for_good(unknown)

    # --- after the service has forgotten the idempotency key ------------------------------------------------------

    def _done_before(self, item: Item) -> Delivery[Any] | None:
        """Return the answer of an earlier attempt, if the service shows that one succeeded; None: send (again)."""
        if item.first_attempt_at is None or self._now() - item.first_attempt_at < REMEMBERED:
            return None
        if item.operation == "report":
            view = self._find_report(item, item.first_attempt_at - CLOCK_SLACK)
            return None if view is None else _accepted_earlier(item, view)
        view = self._get(item.path.rpartition("/")[0], about(parse_view, id=report_id_of(item)))
        done = view.withdrawal_reason if item.operation == "withdraw" else view.restituted_at
        return None if done is None else Delivery(item.idempotency_key, "accepted", view, replayed=True)

    def _taken_before(self, item: Item) -> Delivery[Any] | None:
        """Return the answer to the same report that was sent from another state folder, if the ledger shows it."""
        try:
            view = self._find_report(item, self._now() - timedelta(days=1) - CLOCK_SLACK)
        except LedgerError:
            return None
        # It was signed there, over salts of its own: this item's signature is not the one that the log holds.
        return None if view is None else _accepted_earlier(item, view, signature="")

    def _get(self, path: str, parse: Callable[[Any], T], query: Mapping[str, str] | None = None) -> T:
        return self._transport.retrying(
            self._budget_seconds,
            lambda limit: self._transport.send("GET", path, limit, query=query),
            self._attempt_seconds,
        ).read(parse)

    def _find_report(self, item: Item, earliest: datetime) -> ReportView | None:
        body = json.loads(item.content)["body"]
        query = {"order_ref": body["order_ref"], "limit": "100"}
        page = self._get(REPORTS_PATH, partial(parse_page, order_ref=body["order_ref"]), query)
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


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return the request body. Raises InvalidRequest for text that is no Unicode (a lone surrogate)."""
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("A text holds a lone surrogate: it is no Unicode text.") from None


def _sent_before(new: New, now: datetime) -> Item:
    """Return the item of a key that another process has delivered meanwhile: asked again, the ledger repeats its
    answer."""
    return Item(new.idempotency_key, new.operation, new.path, new.content, "pending", now, 1, now, None, new.repeatable)


def _is_outage(error: LedgerError) -> bool:
    """True if an error of a request says that the others need not be tried now."""
    if isinstance(error, LimitExceeded):
        return error.details.get("status") == 429
    if error.details.get("status") == 413:  # a proxy's own words for a request that is too long
        return False
    return isinstance(error, _NOT_LET_IN) or (isinstance(error, Unavailable) and not _is_failure(error))


def _is_failure(error: LedgerError) -> bool:
    """True if the ledger failed on this request (500), which says little about others."""
    return isinstance(error, Unavailable) and error.details.get("status") == 500


def _unsent(item: Item, outage: LedgerError) -> Delivery[Any]:
    state: ItemState = "parked" if item.state == "parked" else "pending"
    return Delivery(item.idempotency_key, state, error=outage, retry_at=item.retry_at)


def _is_about(item: Item, reports: set[str], orders: set[str]) -> bool:
    """True if an item is about one of these reports or orders."""
    if item.operation != "report":
        return report_id_of(item) in reports
    try:
        return json.loads(item.content)["body"]["order_ref"] in orders
    except (ValueError, KeyError, TypeError):
        return False


def _accepted_earlier(item: Item, view: ReportView, signature: str | None = None) -> Delivery[Any]:
    """Return the answer that `view` stands for; `signature` where it is not the item's own ("": not known)."""
    accepted = AcceptedReport(
        id=view.id,
        entry_index=view.entry_index,
        status=view.status,
        effective_from=view.effective_from,
        expires_at=view.expires_at,
        receipt_url=view.receipt_url,
        signature=str(json.loads(item.content)["signature"]) if signature is None else signature,
    )
    return Delivery(item.idempotency_key, "accepted", accepted, replayed=True)


def _accepted(item: Item, own_key: bool, value: object) -> AcceptedReport:
    """Return the answer about a report. Raises AnswerMismatch when it is about another order or body.

    An answer that a ledger of an earlier version had stored does not name them; then it must carry the item's own
    idempotency key (`own_key`).
    """
    accepted, named, sent = parse_accepted(value), decode(value, _Named), json.loads(item.content)
    expected = {"order_ref": sent["body"]["order_ref"], "body_sha256": _digest(sent["body"])}
    for name, text in expected.items():
        answered = getattr(named, name)
        if answered is None and not own_key:
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is missing.")
        if answered is not None:
            compare(name, answered, text)
    return msgspec.structs.replace(accepted, signature=str(sent["signature"]))


def _changed(item: Item, own_key: bool, value: object) -> ReportView:
    """Return the answer about a withdrawal or a restitution. Raises AnswerMismatch when it is about another one."""
    view, sent = about(parse_view, id=report_id_of(item))(value), json.loads(item.content)
    if item.operation == "withdraw":
        compare("withdrawal", view.withdrawal_reason, sent["reason"])
    else:
        received_at = view.restituted_at
        compare("restitution", received_at and format_time(received_at), sent["received_at"])
    return view


def _digest(body: Mapping[str, Any]) -> str:
    return b64url(hashlib.sha256(canonical_json(body)).digest())


def _outcome(item: Item, value: object) -> AcceptedReport | LedgerError:
    """Return the outcome of one report of a batch: the accepted report, or its error."""
    try:
        outcome = decode(value, _BatchOutcome)
        compare("idempotency_key", outcome.idempotency_key, item.idempotency_key)
        if outcome.status == 201:
            return _accepted(item, True, outcome.report)
        return _not_yet(item, error_from_problem(outcome.status, as_mapping(outcome.problem)))
    except (UnexpectedAnswer, AnswerMismatch) as unexpected:
        return unexpected


def _not_yet(item: Item, error: LedgerError) -> LedgerError:
    """Return `error`, or Unavailable where the server has not noticed a key rotation yet and refuses the new epoch."""
    if isinstance(error, StaleEpoch) and item.operation == "report":
        theirs, ours = error.details.get("epoch"), json.loads(item.content)["body"]["epoch"]
        if isinstance(theirs, int) and theirs < ours:
            return Unavailable("This server has not noticed the key rotation yet.", retry_after_seconds=1)
    return error
