"""Reports of confirmed fraud: create, correct, read, and prove by receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Unpack

from ledger.client.choices import ReasonForWithdrawal, ReportArguments, ReportOutcome
from ledger.client.inputs import (
    check_amount,
    check_currency,
    check_id,
    check_idempotency_key,
    check_reason,
    check_reported_buyer,
    check_text,
    check_time,
)
from ledger.client.models.decoding import about
from ledger.client.models.reports import (
    AcceptedReport,
    ChangeResult,
    Delivery,
    ReportPage,
    ReportResult,
    ReportView,
    parse_page,
    parse_view,
)
from ledger.client.outbox.sender import CONTENT_KEY_PREFIX, encode, or_raise
from ledger.client.reports.building import build_report, check_fields
from ledger.client.reports.evidence import evidence_json
from ledger.client.session import ATTEMPT_SECONDS, Session
from ledger.client.subjects import Buyer, Identifiers, SubjectIds, normalise
from ledger.client.transport.budgets import Deadline
from ledger.client.verify.receipts import VerifiedReceipt, accept_receipt, check_receipt, fetch_receipt
from ledger.errors import (
    InvalidReport,
    InvalidRequest,
    LedgerError,
    StaleEpoch,
    Unavailable,
)
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, canonical_json, format_time
from ledger.rules.conduct import Evidence
from ledger.rules.reports import former_order_ref, order_ref

ReportResults = list[ReportResult]
"""One result for each report of a call."""


class Reports:
    """`ledger.reports`: make, send, read and correct reports of confirmed fraud, and prove that the log holds them.

    Reports, withdrawals and restitutions are sent through the outbox (`ledger.outbox`).

    Each method raises InvalidRequest for an unfit argument, Unauthenticated or Forbidden (and their leaves) where the
    platform has no access, UnexpectedAnswer or AnswerMismatch for a wrong answer, Unavailable in an outage, and what
    `RefundLedger.connect` raises; its docstring names the other errors.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(
        self,
        buyer: Buyer,
        *,
        conduct: str,
        evidence: Sequence[Evidence],
        order: str,
        amount_minor: int,
        currency: str,
        outcome: ReportOutcome,
        act_ended_at: datetime,
        notice_sent_at: datetime,
        notice_ref: str,
        decided_by: str,
        consent_ref: str | None = None,
        replaces: str | None = None,
        idempotency_key: str | None = None,
    ) -> ReportResult:
        """Report a confirmed fraud. The report is on disk before it is sent; each attempt sends the same key and bytes.

        The state of the result is `accepted`; `pending` when the ledger cannot be reached (the report then waits in the
        outbox for `outbox.flush`); or `parked` when it waits for the end of an appeal.

        With an `idempotency_key` of your own, a second call while the report waits sends what is stored, whatever else
        is given. After the delivery, the same report under the same key gets the same answer (`replayed`), and another
        report raises IdempotencyMismatch.

        Raises InvalidReport and its leaves, InvalidTime, EvidenceInsufficient, SubjectsInvalid, StaleEpoch and
        InvalidRequest for an unfit argument; the named error of a refusal by the ledger, such as OrderAlreadyReported;
        Unauthenticated and Forbidden; ConfigurationError where the outbox cannot be written; and AnswerMismatch when
        the answer is about another report: this one then waits in the outbox too.
        """
        key = self._session.new_key() if idempotency_key is None else check_idempotency_key(idempotency_key)
        payload = self._payload(
            buyer=buyer, conduct=conduct, evidence=evidence, order=order, amount_minor=amount_minor,
            currency=currency, outcome=outcome, act_ended_at=act_ended_at, notice_sent_at=notice_sent_at,
            notice_ref=notice_ref, decided_by=decided_by, consent_ref=consent_ref, replaces=replaces,
        )  # fmt: skip
        delivery = self._session.sender().report(key, payload, repeatable=idempotency_key is not None)
        self._note_stale([delivery])
        return or_raise(delivery)

    def create_many(
        self, reports: Sequence[tuple[Buyer | LedgerError, ReportArguments | Mapping[str, Any]]]
    ) -> ReportResults:
        """Report many frauds in batches of 1000: pairs of a buyer and the other arguments of `create`.

        Return one result for each report, in order, with its `index` and `order`. The result of a refused report holds
        its error; the other reports are sent. An error that `tag_many` returned in place of a buyer becomes the error
        of that report. An `idempotency_key` among the arguments works as in `create`; the second report with the same
        key is refused with InvalidRequest. Raises ConfigurationError where the outbox cannot be written, and what
        `connect` raises.
        """
        payloads: dict[str, tuple[str, Mapping[str, Any], bool]] = {}
        results: list[ReportResult | None] = []
        for pair in reports:
            own_key, key = None, ""
            try:
                buyer, arguments = _pair(pair)
                own_key = arguments.pop("idempotency_key", None)
                key = self._session.new_key() if own_key is None else check_idempotency_key(own_key)
                if key in payloads:
                    raise InvalidRequest("Another report of this call has the same idempotency key.")
                payloads[key] = key, self._built(buyer, arguments), own_key is not None
                results.append(None)
            except LedgerError as error:
                results.append(Delivery("" if own_key is None else key, "refused", error=error))
        deliveries = self._session.sender().reports(list(payloads.values())) if payloads else []
        self._note_stale(deliveries)
        sent = iter(deliveries)
        outcomes = [next(sent) if result is None else result for result in results]
        return [
            replace(outcome, index=index, order=_order_of(pair))
            for index, (outcome, pair) in enumerate(zip(outcomes, reports, strict=True))
        ]

    def validate(
        self, /, buyer: Buyer | Identifiers, *, region: str | None = None, **arguments: Unpack[ReportArguments]
    ) -> None:
        """Check a report as `create` does before it sends anything. Nothing is asked, stored or sent.

        `buyer` may be raw identifiers. What the ledger alone can decide (an order reported before, the key epoch) is
        not checked. Raises InvalidReport and its leaves, InvalidTime, EvidenceInsufficient, SubjectsInvalid,
        InvalidIdentifier and its leaves, and InvalidRequest.
        """
        others: dict[str, Any] = {**arguments}
        key = others.pop("idempotency_key", None)
        if key is not None:
            check_idempotency_key(key)
        if not isinstance(buyer, Buyer):
            person = normalise(buyer, region)
            element = voprf.public_key(voprf.derive_secret(bytes(32), b"a stand-in for the element of nobody"))
            buyer = Buyer(1, tuple([SubjectIds(kind, bytes(32), element) for kind, _ in person]))
        self._built(buyer, others, check_epoch=False)

    def content_key(
        self, buyer: Identifiers, arguments: ReportArguments | Mapping[str, Any], *, region: str | None = None
    ) -> str:
        """Return an idempotency key derived from a report's content, for reports that have no key of their own.

        It is the same for equal `arguments` (those of `create`) about the same identifiers: an HMAC under the order
        key, so that only this platform can compute which person or report it stands for. Raises InvalidIdentifier and
        its leaves, InvalidReport, InvalidCanonicalForm.
        """
        given: Mapping[str, Any] = arguments
        check_fields(given)
        person = normalise(buyer, region)
        content = {
            name: [evidence_json(item) for item in value]
            if name == "evidence"
            else (format_time(value) if isinstance(value, datetime) else value)
            for name, value in given.items()
        }
        content["order"] = b64url(self.order_reference(given["order"]))
        subjects = sorted([kind.value, b64url(value)] for kind, value in person)
        digest = self._session.outbox_mac(b"content\n" + canonical_json({"report": content, "of": subjects}))
        return CONTENT_KEY_PREFIX + b64url(digest[:24])

    def order_reference(self, order: str) -> bytes:
        """Return the 32 bytes that stand for an order number in the ledger: an HMAC under the order key. Raises
        InvalidRequest for an order that is no text, InvalidReport for one without a normal form."""
        return order_ref(self._session.order_key(), check_text("order", order))

    def withdraw(self, report_id: str, reason: ReasonForWithdrawal) -> ChangeResult:
        """Withdraw a report of yours; `reason` is wrong_person, wrong_facts, duplicate or other.

        Sent through the outbox, from which refused items about the report and its order are dropped.
        Raises AlreadyReversed, NotFound, InvalidRequest and the named error of another refusal.
        """
        path, body = f"/v1/reports/{check_id('rp', report_id)}/withdraw", {"reason": check_reason(reason)}
        return or_raise(self._session.sender().change("withdraw", path, self._session.new_key(), body))

    def restitute(self, report_id: str, received_at: datetime, amount_minor: int, currency: str) -> ChangeResult:
        """Record that the full amount was paid back, which halves the report's points. Sent through the outbox.

        Raises RestitutionInvalid, AlreadyRestituted, NotFound and the named error of another refusal; InvalidRequest or
        InvalidTime for an unfit argument.
        """
        path = f"/v1/reports/{check_id('rp', report_id)}/restitution"
        body = {
            "received_at": format_time(check_time("received_at", received_at)),
            "amount_minor": check_amount("amount_minor", amount_minor, InvalidRequest),
            "currency": check_currency("currency", currency, InvalidRequest),
        }
        return or_raise(self._session.sender().change("restitution", path, self._session.new_key(), body))

    def explain(self, report: str, text: str, *, idempotency_key: str | None = None) -> ReportView:
        """Explain why a report of yours that is `held` is about another order than the contested one; at most five
        times. A supervisor outside your control group reads the text and releases or refuses the report.

        Not sent through the outbox. Raises NotFound, ActionRefused (the report is not held), AppealInvalid,
        InvalidRequest, Unavailable.
        """
        path = f"/v1/reports/{check_id('rp', report)}/explain"
        body, key = {"text": check_text("text", text)}, self._session.key_or_new(idempotency_key)
        return self._session.send_once(path, body, key, about(parse_view, id=report))

    def get(self, report_id: str) -> ReportView:
        """Return a report of yours as it is now. Raises NotFound, InvalidRequest, Unavailable."""
        return self._session.get(f"/v1/reports/{check_id('rp', report_id)}", about(parse_view, id=report_id))

    def list(
        self,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        order: str | None = None,
        former_label: bool = False,
    ) -> ReportPage:
        """Return your reports, newest first: of one `order` if given, or those with a `former_label`.

        Earlier versions hashed an order number as it was typed. Where that differs from its normal form and there is no
        report under the normal form, the reports under the former one are listed. Raises InvalidReport for an order
        number without a normal form, Unavailable.
        """
        query = {"limit": str(limit)}
        if starting_after is not None:
            query["starting_after"] = starting_after
        if former_label:
            query["former_label"] = "true"
        if order is None:
            return self._session.get("/v1/reports", parse_page, query)
        page = ReportPage((), has_more=False)
        order_key = self._session.order_key()
        for reference in (order_ref(order_key, order), former_order_ref(order_key, order)):
            if reference is not None and not page.reports:
                text = b64url(reference)
                page = self._session.get(
                    "/v1/reports", partial(parse_page, order_ref=text), {**query, "order_ref": text}
                )
        return page

    def receipt(self, report: str | AcceptedReport, wait_seconds: float = 5.0) -> VerifiedReceipt:
        """Return the verified receipt of a report of yours: the proof that the log holds what your key signed (the
        present key, or an earlier one that the suite file names).

        Given the AcceptedReport itself, the entry must hold the very body that was sent. Waits up to `wait_seconds` for
        a checkpoint. Checks signature, inclusion and content, and that the log's history continues the last checkpoint
        seen, which it replaces in the state folder.

        Raises ReceiptPending, InvalidReceipt, InvalidCheckpoint, InvalidInclusion, Equivocation, NotFound, Unavailable.
        """
        session = self._session
        report_id = check_id("rp", report if isinstance(report, str) else report.id)
        session.ready()
        accepted = report if isinstance(report, AcceptedReport) else None
        text = fetch_receipt(session.transport, report_id, wait_seconds, ATTEMPT_SECONDS)
        verified = check_receipt(text, report_id, session.suite, session.public_keys, accepted)
        accept_receipt(verified, session.seen, session.transport, ATTEMPT_SECONDS)
        return verified

    # --- inside ---------------------------------------------------------------------------------------------------

    def _payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        check_reported_buyer(buyer)
        if not self._session.epochs.answers(buyer.epoch):
            with suppress(Unavailable):  # a rotation since the service was asked last
                self._session.read_service(Deadline(ATTEMPT_SECONDS))
            if not self._session.epochs.answers(buyer.epoch):
                raise StaleEpoch("This buyer was blinded under another key epoch. Blind again.")
        return self._unchecked_payload(buyer=buyer, **arguments)

    def _unchecked_payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        return build_report(
            self._session.suite,
            self._session.key,
            self._session.order_key(),
            self._session.random_bytes,
            self._session.now(),
            self._session.policy(),
            buyer=buyer,
            **arguments,
        )

    def _built(self, buyer: object, arguments: Mapping[str, Any], *, check_epoch: bool = True) -> Mapping[str, Any]:
        """Return the payload of one report among many. Raises a LedgerError for each fault of its arguments, so that
        the other reports can be sent."""
        if isinstance(buyer, LedgerError):
            raise buyer
        if not isinstance(buyer, Buyer):
            raise InvalidReport("A report is about a Buyer, as `tag` or `tag_many` makes one.", field="buyer")
        check_fields(arguments)
        make = self._payload if check_epoch else self._unchecked_payload
        try:
            payload = make(buyer=buyer, **arguments)
            encode(payload)
        except (TypeError, AttributeError, ValueError, KeyError):
            raise InvalidReport("An argument of the report is of a type that it cannot have.") from None
        return payload

    def _note_stale(self, deliveries: Sequence[ReportResult]) -> None:
        """Have the key epochs read again after a report was refused for its epoch."""
        if any(isinstance(delivery.error, StaleEpoch) for delivery in deliveries):
            self._session.check_service_again()


def _pair(pair: object) -> tuple[object, dict[str, Any]]:
    """Return a buyer and a copy of the arguments. Raises InvalidReport for anything else."""
    if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], Mapping):
        return pair[0], dict(pair[1])
    raise InvalidReport("Each report of a batch is a pair: a buyer, and a mapping of the other arguments.")


def _order_of(pair: object) -> str | None:
    """Return the order number of a report of a batch, if that is text."""
    arguments = pair[1] if isinstance(pair, tuple | list) and len(pair) == 2 else None
    order = arguments.get("order") if isinstance(arguments, Mapping) else None
    return order if isinstance(order, str) else None
