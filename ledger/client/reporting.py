"""The part of the SDK that reports: confirmed fraud into the ledger, through the outbox, with receipts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ledger.client.delivery import Courier
from ledger.client.inputs import check_reported_buyer
from ledger.client.outbox import Item, ItemState
from ledger.client.receipts import VerifiedReceipt, accept_receipt, check_receipt, fetch_receipt
from ledger.client.reports import build_report, check_idempotency_key
from ledger.client.results import (
    AcceptedReport,
    ChangeResult,
    Delivery,
    ReportPage,
    ReportResult,
    ReportView,
    about,
    parse_page,
    parse_view,
)
from ledger.client.session import ATTEMPT_SECONDS, Session
from ledger.client.subjects import Buyer
from ledger.client.transport import Deadline
from ledger.core.conduct import Evidence
from ledger.core.encoding import b64url, format_time
from ledger.core.reports import former_order_ref, order_ref
from ledger.errors import (
    AnswerMismatch,
    Forbidden,
    InvalidRequest,
    LedgerError,
    StaleEpoch,
    Unauthenticated,
    Unavailable,
)

T = TypeVar("T")
_REPORT_ID = re.compile(r"rp_[A-Za-z0-9]{1,29}\Z")


class Reporting(Session):
    """Reports, corrections, receipts and the outbox."""

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
        `flush_outbox`. Raises the named error when the report is refused, here or by the ledger, and AnswerMismatch
        when the answer is about another report: this one then waits in the outbox too. With your own
        `idempotency_key`, calling again while it is pending sends what is stored, whatever else is given.
        """
        payload = self._payload(
            buyer=buyer, conduct=conduct, evidence=evidence, order=order, amount_minor=amount_minor,
            currency=currency, outcome=outcome, act_ended_at=act_ended_at, notice_sent_at=notice_sent_at,
            notice_ref=notice_ref, decided_by=decided_by, consent_ref=consent_ref, replaces=replaces,
        )  # fmt: skip
        key = self._new_key() if idempotency_key is None else check_idempotency_key(idempotency_key)
        delivery = self._courier().report(key, payload)
        self._note_stale([delivery])
        return _raised(delivery)

    def report_many(self, reports: Sequence[tuple[Buyer, Mapping[str, Any]]]) -> list[ReportResult]:
        """Many reports in batches of 1000: (buyer, the other arguments of `report`). One result each, in order;
        a refused one has state `refused` and its error, and does not touch the others.

        An `idempotency_key` among the arguments works as in `report`; one that is given twice refuses the second."""
        payloads: dict[str, Mapping[str, Any]] = {}
        results: list[ReportResult | None] = []
        for buyer, arguments in reports:
            others = dict(arguments)
            given = others.pop("idempotency_key", None)
            try:
                key = self._new_key() if given is None else check_idempotency_key(given)
                if key in payloads:
                    raise InvalidRequest("Another report of this call has the same idempotency key.")
                payloads[key] = self._payload(buyer=buyer, **others)
                results.append(None)
            except LedgerError as error:
                results.append(Delivery("", "refused", error=error))
        deliveries = self._courier().reports(list(payloads.items())) if payloads else []
        self._note_stale(deliveries)
        sent = iter(deliveries)
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
        return self._get(f"/v1/reports/{_id(report_id)}", about(parse_view, id=report_id))

    def list_reports(
        self,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        order: str | None = None,
        former_label: bool = False,
    ) -> ReportPage:
        """Your reports, newest first; of one `order` if given, or those that stand with a `former_label`.

        Earlier versions hashed an order number as it was typed: where that differs from its normal form and there is no
        report under the normal form, those under the former one are listed.
        """
        query = {"limit": str(limit)}
        if starting_after is not None:
            query["starting_after"] = starting_after
        if former_label:
            query["former_label"] = "true"
        if order is None:
            return self._get("/v1/reports", parse_page, query)
        page = ReportPage((), has_more=False)
        for reference in (order_ref(self._order_key(), order), former_order_ref(self._order_key(), order)):
            if reference is not None and not page.reports:
                wanted = b64url(reference)
                page = self._get("/v1/reports", partial(parse_page, order_ref=wanted), {**query, "order_ref": wanted})
        return page

    def receipt(self, report: str | AcceptedReport, wait_seconds: float = 5.0) -> VerifiedReceipt:
        """The verified receipt of a report of yours: proof that the log holds what your key signed, the present one or
        an earlier one that the suite file names.

        Given the AcceptedReport itself, the entry must hold the very body that was sent. Waits up to `wait_seconds` for
        a checkpoint, checks signature, inclusion and content, and that the log's history continues the last checkpoint
        seen, which it replaces in the state folder.
        Raises ReceiptPending, InvalidReceipt, InvalidCheckpoint, InvalidInclusion, Equivocation, NotFound.
        """
        report_id = _id(report if isinstance(report, str) else report.id)
        self._ready()
        accepted = report if isinstance(report, AcceptedReport) else None
        text = fetch_receipt(self._transport, report_id, wait_seconds, ATTEMPT_SECONDS)
        verified = check_receipt(text, report_id, self.suite, self.public_keys, accepted)
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

    def _payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        check_reported_buyer(buyer)
        if not self._epochs.answers(buyer.epoch):
            with suppress(Unavailable):  # a rotation since the service was asked last
                self._list(Deadline(ATTEMPT_SECONDS))
            if not self._epochs.answers(buyer.epoch):
                raise StaleEpoch("This buyer was blinded under another key epoch. Blind again.")
        return build_report(
            self.suite, self._key, self._order_key(), self._random_bytes, self._now(), buyer=buyer, **arguments
        )

    def _note_stale(self, deliveries: Sequence[ReportResult]) -> None:
        """After a report was refused for its key epoch, ask for the epochs before anything is blinded again."""
        if any(isinstance(one.error, StaleEpoch) for one in deliveries):
            self._checked = False

    def _courier(self) -> Courier:
        return Courier(self._transport, self._outbox(), self._now, self._budget_seconds, ATTEMPT_SECONDS)


def _raised(delivery: Delivery[T]) -> Delivery[T]:
    """Refusals, answers that say the platform itself is not let in, and answers to something else are the caller's to
    see at once."""
    error = delivery.error
    at_once = isinstance(error, Unauthenticated | Forbidden | AnswerMismatch)
    if error is not None and (delivery.state == "refused" or at_once):
        raise error
    return delivery


def _id(report_id: str) -> str:
    """A report's id, fit to stand in a path."""
    if not _REPORT_ID.match(report_id):
        raise InvalidRequest("A report's id looks like rp_ and letters and digits.")
    return report_id
