"""The part of the SDK that reports: confirmed fraud into the ledger, through the outbox, with receipts."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ledger.client.inputs import (
    check_amount,
    check_currency,
    check_reason,
    check_reported_buyer,
    check_text,
    check_time,
)
from ledger.client.models.results import (
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
from ledger.client.outbox.delivery import CONTENT_KEY_PREFIX, Courier, encode
from ledger.client.outbox.store import Item, ItemState, Waiting
from ledger.client.reports.building import build_report, check_fields, check_idempotency_key, evidence_json
from ledger.client.session import ATTEMPT_SECONDS, Session
from ledger.client.subjects import Buyer, Identifiers, SubjectIds, normalise
from ledger.client.transport.http import Deadline
from ledger.client.verify.receipts import VerifiedReceipt, accept_receipt, check_receipt, fetch_receipt
from ledger.errors import (
    AnswerMismatch,
    Forbidden,
    InvalidReport,
    InvalidRequest,
    LedgerError,
    StaleEpoch,
    Unauthenticated,
    Unavailable,
)
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, canonical_json, format_time
from ledger.rules.conduct import Evidence
from ledger.rules.reports import former_order_ref, order_ref

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
        `flush_outbox`; or `parked`, when it waits for the end of an appeal. Raises the named error when the report is
        refused, here or by the ledger, and AnswerMismatch when the answer is about another report: this one then waits
        in the outbox too.

        With your own `idempotency_key`, calling again while it waits sends what is stored, whatever else is given.
        After it was delivered, the same report under the same key gets the same answer (`replayed`), and another
        report raises IdempotencyMismatch.
        """
        key = self._new_key() if idempotency_key is None else check_idempotency_key(idempotency_key)
        payload = self._payload(
            buyer=buyer, conduct=conduct, evidence=evidence, order=order, amount_minor=amount_minor,
            currency=currency, outcome=outcome, act_ended_at=act_ended_at, notice_sent_at=notice_sent_at,
            notice_ref=notice_ref, decided_by=decided_by, consent_ref=consent_ref, replaces=replaces,
        )  # fmt: skip
        delivery = self._courier().report(key, payload, repeatable=idempotency_key is not None)
        self._note_stale([delivery])
        return _raised(delivery)

    def report_many(self, reports: Sequence[tuple[Buyer | LedgerError, Mapping[str, Any]]]) -> list[ReportResult]:
        """Many reports in batches of 1000: (buyer, the other arguments of `report`). One result each, in order, with
        its `index` and `order`; a refused one has its error, and does not touch the others. The error that
        `subjects_many` gave in place of a buyer refuses that report.

        An `idempotency_key` among the arguments works as in `report`; one that is given twice refuses the second."""
        payloads: dict[str, tuple[str, Mapping[str, Any], bool]] = {}
        results: list[ReportResult | None] = []
        for pair in reports:
            given, key = None, ""
            try:
                buyer, others = _pair(pair)
                given = others.pop("idempotency_key", None)
                key = self._new_key() if given is None else check_idempotency_key(given)
                if key in payloads:
                    raise InvalidRequest("Another report of this call has the same idempotency key.")
                payloads[key] = key, self._built(buyer, others), given is not None
                results.append(None)
            except LedgerError as error:
                results.append(Delivery("" if given is None else key, "refused", error=error))
        deliveries = self._courier().reports(list(payloads.values())) if payloads else []
        self._note_stale(deliveries)
        sent = iter(deliveries)
        found = [next(sent) if result is None else result for result in results]
        return [
            replace(one, index=index, order=_order_of(pair))
            for index, (one, pair) in enumerate(zip(found, reports, strict=True))
        ]

    def check_report(self, buyer: Buyer | Identifiers, *, region: str | None = None, **arguments: Any) -> None:
        """Check a report as `report` does before it sends anything; nothing is asked, stored or sent. Raises what makes
        it unfit. `buyer` may be raw identifiers; what the ledger alone knows (an order reported before, the key epoch)
        is not checked."""
        others = dict(arguments)
        key = others.pop("idempotency_key", None)
        if key is not None:
            check_idempotency_key(key)
        if not isinstance(buyer, Buyer):
            person = normalise(buyer, region)
            element = voprf.public_key(voprf.derive_secret(bytes(32), b"a stand-in for the element of nobody"))
            buyer = Buyer(1, tuple([SubjectIds(kind, bytes(32), element) for kind, _ in person]))
        self._built(buyer, others, check_epoch=False)

    def content_key(self, buyer: Identifiers, arguments: Mapping[str, Any], *, region: str | None = None) -> str:
        """The idempotency key for a report that has none of its own, the same whenever the same is said of the same
        person: an HMAC under the order key, so that only this platform can tell whom or what it is about. `arguments`
        are those of `report`. Raises InvalidIdentifier and its kin, InvalidReport, InvalidCanonicalForm."""
        check_fields(arguments)
        person = normalise(buyer, region)
        said = {
            name: [evidence_json(item) for item in value]
            if name == "evidence"
            else (format_time(value) if isinstance(value, datetime) else value)
            for name, value in arguments.items()
        }
        said["order"] = b64url(self.order_reference(arguments["order"]))
        who = sorted([kind.value, b64url(value)] for kind, value in person)
        digest = self._mac(b"content\n" + canonical_json({"report": said, "of": who}))
        return CONTENT_KEY_PREFIX + b64url(digest[:24])

    def order_reference(self, order: str) -> bytes:
        """The 32 bytes under which the ledger knows an order number. Raises InvalidReport."""
        return order_ref(self._order_key(), check_text("order", order))

    def withdraw(self, report_id: str, reason: str) -> ChangeResult:
        """Take a report of yours back: reason wrong_person, wrong_facts, duplicate or other. Through the outbox, from
        which refused items about the report and its order are dropped.

        Raises AlreadyReversed, NotFound, InvalidRequest and the other named refusals.
        """
        path, body = f"/v1/reports/{_id(report_id)}/withdraw", {"reason": check_reason(reason)}
        return _raised(self._courier().change("withdraw", path, self._new_key(), body))

    def restitution(self, report_id: str, received_at: datetime, amount_minor: int, currency: str) -> ChangeResult:
        """Record that the full amount came back; it halves the report's points. Through the outbox.

        Raises RestitutionInvalid, AlreadyRestituted, NotFound and the other named refusals; InvalidRequest or
        InvalidTime for an unfit argument.
        """
        path = f"/v1/reports/{_id(report_id)}/restitution"
        body = {
            "received_at": format_time(check_time("received_at", received_at)),
            "amount_minor": check_amount("amount_minor", amount_minor, InvalidRequest),
            "currency": check_currency("currency", currency, InvalidRequest),
        }
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

    def flush_outbox(self, *, parked: bool = False) -> list[Delivery[Any]]:
        """Send what is pending, and what is parked and due, until all is sent or the ledger cannot be reached; one
        result each, oldest first. Call it at start and every few minutes. With `parked`, what is parked is tried at
        once, due or not: after a webhook `appeal.decided` or `appeal.ended`."""
        outbox = self._outbox()
        outbox.expire(self._now(), self._refused_retention)
        waiting = outbox.waiting()
        return self._courier().flush(parked=parked) if waiting["pending"].count or waiting["parked"].count else []

    def outbox(self, state: ItemState | None = None) -> list[Item]:
        """What waits (`pending`), what waits for the end of an appeal (`parked`) and what was refused for good
        (`refused`), oldest first."""
        return self._outbox().items(state)

    def outbox_waiting(self) -> dict[ItemState, Waiting]:
        """How many items are in each state, and since when the oldest of them is in the outbox: for a gauge. Sends
        nothing."""
        return self._outbox().waiting()

    def retry_refused(self, idempotency_key: str) -> None:
        """Make a refused or parked item pending again, after its cause was put right. Raises NotFound."""
        self._outbox().retry(idempotency_key)

    def discard(self, idempotency_key: str) -> None:
        """Drop an item of the outbox. A pending one may have been recorded all the same. Raises NotFound."""
        self._outbox().discard(idempotency_key)

    def discard_refused(self) -> int:
        """Drop all refused items of the outbox, and give their number."""
        return self._outbox().discard_refused()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        check_reported_buyer(buyer)
        if not self._epochs.answers(buyer.epoch):
            with suppress(Unavailable):  # a rotation since the service was asked last
                self._list(Deadline(ATTEMPT_SECONDS))
            if not self._epochs.answers(buyer.epoch):
                raise StaleEpoch("This buyer was blinded under another key epoch. Blind again.")
        return self._unchecked_payload(buyer=buyer, **arguments)

    def _unchecked_payload(self, *, buyer: Buyer, **arguments: Any) -> dict[str, Any]:
        return build_report(
            self.suite,
            self._key,
            self._order_key(),
            self._random_bytes,
            self._now(),
            self._policy(),
            buyer=buyer,
            **arguments,
        )

    def _built(self, buyer: object, arguments: Mapping[str, Any], *, check_epoch: bool = True) -> Mapping[str, Any]:
        """The payload of one report among many. Raises a LedgerError for whatever is wrong with its arguments, so that
        the others can be sent."""
        if isinstance(buyer, LedgerError):
            raise buyer
        if not isinstance(buyer, Buyer):
            raise InvalidReport("A report is about a Buyer, as `subject` or `subjects_many` makes one.", field="buyer")
        check_fields(arguments)
        make = self._payload if check_epoch else self._unchecked_payload
        try:
            payload = make(buyer=buyer, **arguments)
            encode(payload)
        except (TypeError, AttributeError, ValueError, KeyError):
            raise InvalidReport("An argument of the report is of a type that it cannot have.") from None
        return payload

    def _mac(self, data: bytes) -> bytes:
        """A keyed digest of 32 bytes for what this SDK compares with itself."""
        return hmac.digest(self._order_key(), b"refund-ledger outbox v1\n" + data, "sha256")

    def _note_stale(self, deliveries: Sequence[ReportResult]) -> None:
        """After a report was refused for its key epoch, ask for the epochs before anything is blinded again."""
        if any(isinstance(one.error, StaleEpoch) for one in deliveries):
            self._checked = False

    def _courier(self) -> Courier:
        return Courier(self._transport, self._outbox(), self._now, self._budget_seconds, ATTEMPT_SECONDS, self._mac)


def _raised(delivery: Delivery[T]) -> Delivery[T]:
    """Refusals, answers that say the platform itself is not let in, and answers to something else are the caller's to
    see at once."""
    error = delivery.error
    at_once = isinstance(error, Unauthenticated | Forbidden | AnswerMismatch)
    if error is not None and (delivery.state == "refused" or at_once):
        raise error
    return delivery


def _pair(pair: object) -> tuple[object, dict[str, Any]]:
    """A buyer and a copy of the arguments. Raises InvalidReport for anything else."""
    if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], Mapping):
        return pair[0], dict(pair[1])
    raise InvalidReport("Each report of a batch is a pair: a buyer, and a mapping of the other arguments.")


def _order_of(pair: object) -> str | None:
    """The order number of a report of a batch, if that is text."""
    arguments = pair[1] if isinstance(pair, tuple | list) and len(pair) == 2 else None
    order = arguments.get("order") if isinstance(arguments, Mapping) else None
    return order if isinstance(order, str) else None


def _id(report_id: str) -> str:
    """A report's id, fit to stand in a path."""
    if not isinstance(report_id, str) or not _REPORT_ID.match(report_id):
        raise InvalidRequest("A report's id looks like rp_ and letters and digits.")
    return report_id
