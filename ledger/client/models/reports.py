"""Reports and the outcomes of sending them, as typed values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from ledger.client.models.decoding import Count, Model, about, as_mapping, decode
from ledger.errors import LedgerError

T = TypeVar("T")

DeliveryState = Literal["accepted", "pending", "parked", "refused", "unsent"]


class AcceptedReport(Model, frozen=True):
    """A report that the ledger has recorded durably, under entry `entry_index` of its log.

    `signature` (base64url) is the platform's own, over the body that was sent: it identifies the report.
    """

    id: str
    entry_index: Count
    status: str
    effective_from: datetime
    expires_at: datetime
    receipt_url: str
    signature: str = ""


class ReportAppeal(Model, frozen=True):
    """The appeal against a report. `conduct` is the one that a decision put in place of the reported one."""

    id: str
    state: str
    due_at: datetime
    outcome: str | None = None
    conduct: str | None = None


class ReportHold(Model, frozen=True):
    """Why a report is or was held: it may be about the matter of the case `case`. Without a release it is void at
    `void_at`; `explanation` is your reason why it is another order, `reasons` those of the decision."""

    case: str
    void_at: datetime
    explanation: str | None = None
    released_at: datetime | None = None
    refused_at: datetime | None = None
    reasons: str | None = None


class ReportView(Model, frozen=True, kw_only=True):
    """A report of yours as it is now."""

    id: str
    entry_index: Count
    status: str
    conduct: str
    order_ref: str
    amount_minor: Count
    currency: str
    outcome: str
    act_ended_at: datetime
    notice_sent_at: datetime
    recorded_at: datetime
    effective_from: datetime
    expires_at: datetime
    replaces: str | None = None
    replaced_by: str | None = None
    restituted_at: datetime | None = None
    withdrawal_reason: str | None = None
    receipt_url: str
    appeal: ReportAppeal | None = None
    """The appeal against it, open or decided."""
    hold: ReportHold | None = None
    former_label: bool = False
    """It has a label that identified its file by the rules of its time, and does not by those for new reports. Earlier
    versions of the ledger leave it out."""


class ReportPage(Model, frozen=True):
    """A page of reports, newest first. Ask for the next with `starting_after=page.reports[-1].id`."""

    reports: tuple[ReportView, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """The outcome of sending a report, a withdrawal or a restitution.

    | state | means |
    |---|---|
    | accepted | the ledger has it, `report` is its answer |
    | pending | the ledger could not be reached, or said nothing about it; it waits in the outbox, `error` says why |
    | parked | it waits in the outbox for the end of an appeal, and is tried again at `retry_at` |
    | refused | the ledger will never take it as it is; `error` says why |
    | unsent | of a file: an outage came before the person was blinded, so nothing is stored; send the file again |

    The idempotency key is empty for what was refused before it had one. In a batch, `index` is the place of the report
    (from 0), and `order` its order number where that is text.
    """

    idempotency_key: str
    state: DeliveryState
    report: T | None = None
    error: LedgerError | None = None
    replayed: bool = False
    """The ledger had it from an earlier attempt and repeated its answer (not known for batches)."""
    retry_at: datetime | None = None
    index: int | None = None
    order: str | None = field(default=None, repr=False)


ReportResult = Delivery[AcceptedReport]
"""The outcome of sending a report."""
ChangeResult = Delivery[ReportView]
"""The outcome of sending a withdrawal or a restitution."""


class _Restitution(Model, frozen=True):
    received_at: datetime


class _Withdrawal(Model, frozen=True):
    reason: str


class _Corrections(Model, frozen=True):
    """Members of a report's answer that a ReportView has in another form."""

    restitution: _Restitution | None = None
    withdrawal: _Withdrawal | None = None


class _Page(Model, frozen=True):
    data: tuple[dict[str, object], ...]
    has_more: bool


def parse_accepted(value: object) -> AcceptedReport:
    """Return the AcceptedReport in the service's 201 answer. Raises UnexpectedAnswer."""
    return msgspec.structs.replace(decode(value, AcceptedReport), signature="")  # it is not the ledger's to say


def parse_view(value: object) -> ReportView:
    """Return the ReportView in the service's answer. Raises UnexpectedAnswer."""
    corrections = decode(value, _Corrections)
    restitution, withdrawal = corrections.restitution, corrections.withdrawal
    own = {
        "restituted_at": None if restitution is None else restitution.received_at,
        "withdrawal_reason": None if withdrawal is None else withdrawal.reason,
    }
    return decode({**as_mapping(value), **own}, ReportView)


def parse_page(value: object, order_ref: str | None = None) -> ReportPage:
    """Return the ReportPage in the service's answer; with `order_ref`, all its reports must be of that order. Raises
    UnexpectedAnswer, AnswerMismatch."""
    page = decode(value, _Page)
    parse = parse_view if order_ref is None else about(parse_view, order_ref=order_ref)
    return ReportPage(tuple([parse(item) for item in page.data]), page.has_more)
