"""`RefundLedger`: what a platform's service calls. Synchronous and thread-safe; make one and keep it."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.delivery import BATCH_ITEMS, Courier
from ledger.client.keyfiles import load_signing_key, order_key_source
from ledger.client.lookups import Query, Refund, parse_outcome, query_json
from ledger.client.outbox import Item, ItemState, Outbox
from ledger.client.receipts import VerifiedReceipt, accept_receipt, check_receipt, fetch_receipt
from ledger.client.reports import build_report
from ledger.client.results import (
    AcceptedReport,
    ChangeResult,
    Delivery,
    Fields,
    Lookup,
    ReportPage,
    ReportResult,
    ReportView,
    parse_lookup,
    parse_page,
    parse_view,
    unavailable,
)
from ledger.client.state import CHECKPOINT_FILE, OUTBOX_FILE, SeenCheckpoint, default_state_dir
from ledger.client.subjects import Blinder, Buyer, Identifiers, normalise
from ledger.client.suite import Suite, check_served, load_suite, parse_service
from ledger.client.tokens import TokenSource
from ledger.client.transport import Deadline, Transport
from ledger.core.conduct import Evidence
from ledger.core.encoding import b64url, format_time
from ledger.core.reports import order_ref
from ledger.errors import (
    Forbidden,
    InvalidRequest,
    LedgerError,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)

LOOKUP_BUDGET_SECONDS = 0.3
"""A refund review never waits longer for the ledger, connection and blinding included."""
READ_BUDGET_SECONDS = 10.0
ATTEMPT_SECONDS = 5.0
T = TypeVar("T")
_REPORT_ID = re.compile(r"rp_[A-Za-z0-9]{1,29}\Z")


def utc_now() -> datetime:
    """The clock of the real world."""
    return datetime.now(UTC)


class RefundLedger:
    """A platform's connection to the ledger.

    `suite` and `key` are what `refund-ledger platform add` wrote. `state_dir` keeps the outbox and the last checkpoint
    (default: `~/.local/state/refund-ledger/...`); share it among the processes of one host, and keep it.
    `order_key` is 32 bytes or a file; by default `acme.order.key` beside `acme.pem`, made at first use. `scopes`
    narrows the tokens. `budget_seconds` bounds each write, all its attempts together.
    Raises ConfigurationError; nothing is sent before the first call.
    """

    def __init__(
        self,
        suite: str | Path | Suite,
        key: str | Path | Ed25519PrivateKey,
        *,
        state_dir: str | Path | None = None,
        order_key: bytes | str | Path | None = None,
        scopes: Iterable[str] | None = None,
        lookup_budget_seconds: float = LOOKUP_BUDGET_SECONDS,
        budget_seconds: float = READ_BUDGET_SECONDS,
        insecure_http: bool = False,
        now: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        transport: Transport | None = None,
    ) -> None:
        self.suite = suite if isinstance(suite, Suite) else load_suite(suite)
        self._key = key if isinstance(key, Ed25519PrivateKey) else load_signing_key(key)
        self._order_key = order_key_source(order_key, key)
        self._state_dir = default_state_dir(self.suite) if state_dir is None else Path(state_dir)
        self._now = now
        self._random_bytes = random_bytes
        self._lookup_budget_seconds = lookup_budget_seconds
        self._budget_seconds = budget_seconds
        pinned, epoch = self.suite.pinned, self.suite.current
        self._tokens = TokenSource(
            self._key,
            kid=self.suite.kid,
            platform=self.suite.platform,
            service=pinned.service,
            now=now,
            scopes=scopes,
        )
        self._transport = transport or Transport(
            self.suite.url, lambda: f"Bearer {self._tokens.token()}", insecure_http=insecure_http
        )
        self._blinder = Blinder(epoch.epoch, epoch.holders, random_bytes)
        self._seen = SeenCheckpoint(self._state_dir / CHECKPOINT_FILE, pinned.log_origin, self.suite.log_public)
        self._lock = threading.Lock()
        self._checked = False
        self._opened_outbox: Outbox | None = None

    def __enter__(self) -> RefundLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and files. What waits in the outbox stays there."""
        self._transport.close()
        with self._lock:
            if self._opened_outbox is not None:
                self._opened_outbox.close()
                self._opened_outbox = None

    # --- who ------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Compare the server with the pinned suite. Done once before anything else is sent; call it at start, so that
        the first lookup does not spend its 300 ms on it.

        Raises ConfigurationError, HolderMismatch, StaleEpoch, Unavailable.
        """
        self._transport.retrying(self._budget_seconds, self._check_served, ATTEMPT_SECONDS)

    def subject(self, *, region: str | None = None, **identifiers: str) -> Buyer:
        """A buyer from their own identifiers: phone, email, cn_id, payment, device (`region`: of a national phone).

        Blinds, has them evaluated, verifies every proof. Give only identifiers of the claimant that you verified.
        Raises InvalidIdentifier and its kin, QuotaExceeded, InvalidProof, HolderMismatch, Unavailable.
        """
        return self.subjects_many([identifiers], region=region)[0]

    def subjects_many(self, people: Sequence[Identifiers], *, region: str | None = None) -> list[Buyer]:
        """As `subject`, for many people; evaluated in batches of 1000 identifiers, each within the time budget."""
        canonical = [normalise(identifiers, region) for identifiers in people]
        self.connect()
        return self._blinder.buyers(
            canonical,
            lambda blinded: self._transport.retrying(
                self._budget_seconds, lambda limit: self._evaluate(blinded, limit), ATTEMPT_SECONDS
            ),
        )

    # --- lookups --------------------------------------------------------------------------------------------------

    def lookup(
        self,
        buyer: Buyer | Identifiers,
        *,
        order: str,
        purpose: str = "refund_review",
        refund: Refund | None = None,
        consent_ref: str | None = None,
        min_index: int | None = None,
        region: str | None = None,
    ) -> Lookup:
        """The buyer's standing, within 300 ms in total and without retries. `buyer` may be the raw identifiers
        ({"phone": ...}); blinding then counts towards the 300 ms.

        An outage never raises: the answer then has tier `unavailable`. Raises InvalidIdentifier and its kin, the
        named error of a 4xx answer (ScopeMissing, QuotaExceeded, ...), InvalidProof, HolderMismatch,
        ConfigurationError.
        """
        person = buyer if isinstance(buyer, Buyer) else normalise(buyer, region)
        reference = order_ref(self._order_key(), order)

        def ask(limit: Deadline) -> Lookup:
            self._check_served(limit)
            if isinstance(person, Buyer):
                found = person
            else:
                found = self._blinder.buyers([person], lambda blinded: self._evaluate(blinded, limit))[0]
            query = Query(found, order, refund, purpose, consent_ref, min_index)
            return parse_lookup(self._post("/v1/lookups", query_json(query, self._blinder.epoch, reference), limit))

        try:
            return self._transport.within(self._lookup_budget_seconds, ask)
        except (Unavailable, UnexpectedAnswer) as error:
            if isinstance(error, UnexpectedAnswer) and 400 <= _status(error) < 500:
                raise
            return unavailable(str(error.details.get("reason", error.code)))

    def lookup_many(self, queries: Sequence[Query]) -> list[Lookup | LedgerError]:
        """Many lookups in batches of 1000, with retries: for reviews that wait in a queue, not for a live refund.

        One outcome each, in order; a refused one is its error. Raises what refuses a whole batch.
        """
        self.connect()
        outcomes: list[Lookup | LedgerError] = []
        for start in range(0, len(queries), BATCH_ITEMS):
            chunk = queries[start : start + BATCH_ITEMS]
            references = [order_ref(self._order_key(), query.order) for query in chunk]
            items = [
                query_json(query, self._blinder.epoch, reference)
                for query, reference in zip(chunk, references, strict=True)
            ]
            answer = self._retrying(partial(self._post, "/v1/lookups/batch", {"lookups": items}))
            results = Fields(answer).items("results")
            if len(results) != len(chunk):
                raise UnexpectedAnswer("The ledger answered another number of lookups than were asked.")
            outcomes += [parse_outcome(result) for result in results]
        return outcomes

    # --- reports --------------------------------------------------------------------------------------------------

    def report(
        self,
        buyer: Buyer,
        *,
        conduct: str,
        evidence: Sequence[Evidence],
        order: str,
        amount_minor: int,
        currency: str,
        outcome: str,
        act_ended_at: datetime,
        notice_sent_at: datetime,
        notice_ref: str,
        decided_by: str,
        consent_ref: str | None = None,
        replaces: str | None = None,
        idempotency_key: str | None = None,
    ) -> ReportResult:
        """Report a confirmed fraud. On disk before it is sent; retried with the same key and bytes.

        Result state `accepted`, or `pending` when the ledger cannot be reached: it then waits in the outbox for
        `flush_outbox`. Raises the named error when the report is refused, here or by the ledger. With your own
        `idempotency_key`, calling again while it is pending sends what is stored, whatever else is given.
        """
        payload = self._payload(
            buyer=buyer, conduct=conduct, evidence=evidence, order=order, amount_minor=amount_minor,
            currency=currency, outcome=outcome, act_ended_at=act_ended_at, notice_sent_at=notice_sent_at,
            notice_ref=notice_ref, decided_by=decided_by, consent_ref=consent_ref, replaces=replaces,
        )  # fmt: skip
        return _raised(self._courier().report(idempotency_key or self._new_key(), payload))

    def report_many(self, reports: Sequence[tuple[Buyer, Mapping[str, Any]]]) -> list[ReportResult]:
        """Many reports in batches of 1000: (buyer, the other arguments of `report`). One result each, in order;
        a refused one has state `refused` and its error, and does not touch the others."""
        payloads: list[tuple[str, Mapping[str, Any]]] = []
        results: list[ReportResult | None] = []
        for buyer, arguments in reports:
            try:
                payloads.append((self._new_key(), self._payload(buyer=buyer, **arguments)))
                results.append(None)
            except LedgerError as error:
                results.append(Delivery("", "refused", error=error))
        sent = iter(self._courier().reports(payloads)) if payloads else iter(())
        return [next(sent) if result is None else result for result in results]

    def withdraw(self, report_id: str, reason: str) -> ChangeResult:
        """Take a report of yours back: reason wrong_person, wrong_facts, duplicate or other. Through the outbox.

        Raises AlreadyReversed, NotFound, InvalidRequest and the other named refusals.
        """
        path = f"/v1/reports/{_id(report_id)}/withdraw"
        return _raised(self._courier().change("withdraw", path, self._new_key(), {"reason": reason}))

    def restitution(self, report_id: str, received_at: datetime, amount_minor: int, currency: str) -> ChangeResult:
        """Record that the full amount came back; it halves the report's points. Through the outbox.

        Raises RestitutionInvalid, AlreadyRestituted, NotFound and the other named refusals.
        """
        path = f"/v1/reports/{_id(report_id)}/restitution"
        body = {"received_at": format_time(received_at), "amount_minor": amount_minor, "currency": currency}
        return _raised(self._courier().change("restitution", path, self._new_key(), body))

    def get_report(self, report_id: str) -> ReportView:
        """A report of yours as it stands. Raises NotFound."""
        return parse_view(self._get(f"/v1/reports/{_id(report_id)}"))

    def list_reports(
        self, *, limit: int = 50, starting_after: str | None = None, order: str | None = None
    ) -> ReportPage:
        """Your reports, newest first; of one `order` if given."""
        query = {"limit": str(limit)}
        if starting_after is not None:
            query["starting_after"] = starting_after
        if order is not None:
            query["order_ref"] = b64url(order_ref(self._order_key(), order))
        return parse_page(self._get("/v1/reports", query))

    def receipt(self, report: str | AcceptedReport, wait_seconds: float = 5.0) -> VerifiedReceipt:
        """The verified receipt of a report of yours: proof that the log holds what your key signed.

        Given the AcceptedReport itself, the entry must hold the very body that was sent. Waits up to `wait_seconds` for
        a checkpoint, checks signature, inclusion and content, and that the log's history continues the last checkpoint
        seen, which it replaces in the state folder.
        Raises ReceiptPending, InvalidReceipt, InvalidCheckpoint, InvalidInclusion, Equivocation, NotFound.
        """
        report_id = _id(report if isinstance(report, str) else report.id)
        self.connect()
        accepted = report if isinstance(report, AcceptedReport) else None
        text = fetch_receipt(self._transport, report_id, wait_seconds, ATTEMPT_SECONDS)
        verified = check_receipt(text, report_id, self.suite, self._key.public_key(), accepted)
        accept_receipt(verified, self._seen, self._transport, ATTEMPT_SECONDS)
        return verified

    # --- outbox ---------------------------------------------------------------------------------------------------

    def flush_outbox(self) -> list[Delivery[Any]]:
        """Send what is pending, oldest first, until all is sent or the ledger cannot be reached. Call it at start
        and every few minutes."""
        return self._courier().flush() if self.outbox("pending") else []

    def outbox(self, state: ItemState | None = None) -> list[Item]:
        """What waits (`pending`) and what was refused for good (`refused`), oldest first."""
        return self._outbox().items(state)

    def retry_refused(self, idempotency_key: str) -> None:
        """Make a refused item pending again, after its cause was put right. Raises NotFound."""
        self._outbox().retry(idempotency_key)

    def discard(self, idempotency_key: str) -> None:
        """Drop an item of the outbox. A pending one may have been recorded all the same. Raises NotFound."""
        self._outbox().discard(idempotency_key)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _check_served(self, limit: Deadline) -> None:
        if not self._checked:
            answer = self._transport.send("GET", "/v1/suite", limit)
            check_served(self.suite.pinned, parse_service(answer.json()))
            self._checked = True

    def _evaluate(self, blinded: Sequence[bytes], limit: Deadline) -> Any:
        body = {"epoch": self._blinder.epoch, "blinded": [b64url(element) for element in blinded]}
        return self._post("/v1/oprf/evaluate", body, limit)

    def _post(self, path: str, body: Mapping[str, Any], limit: Deadline) -> Any:
        content = json.dumps(body, separators=(",", ":")).encode()
        return self._transport.send("POST", path, limit, content=content).json()

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        self.connect()
        return self._retrying(lambda limit: self._transport.send("GET", path, limit, query=query).json())

    def _retrying(self, work: Callable[[Deadline], Any]) -> Any:
        return self._transport.retrying(self._budget_seconds, work, ATTEMPT_SECONDS)

    def _payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        return build_report(
            self.suite, self._key, self._order_key(), self._random_bytes, self._now(), buyer=buyer, **arguments
        )

    def _new_key(self) -> str:
        return f"{self.suite.platform}-{b64url(self._random_bytes(18))}"

    def _courier(self) -> Courier:
        return Courier(self._transport, self._outbox(), self._now, self._budget_seconds, ATTEMPT_SECONDS)

    def _outbox(self) -> Outbox:
        with self._lock:
            if self._opened_outbox is None:
                self._opened_outbox = Outbox(self._state_dir / OUTBOX_FILE)
            return self._opened_outbox


def _raised(delivery: Delivery[T]) -> Delivery[T]:
    """Refusals, and answers that say the platform itself is not let in, are the caller's to see at once."""
    error = delivery.error
    if error is not None and (delivery.state == "refused" or isinstance(error, Unauthenticated | Forbidden)):
        raise error
    return delivery


def _status(error: LedgerError) -> int:
    status = error.details.get("status")
    return status if isinstance(status, int) else 0


def _id(report_id: str) -> str:
    """A report's id, fit to stand in a path."""
    if not _REPORT_ID.match(report_id):
        raise InvalidRequest("A report's id looks like rp_ and letters and digits.")
    return report_id
