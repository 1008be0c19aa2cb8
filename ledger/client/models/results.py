"""What the ledger answers, as typed values. Every answer is checked field by field before anything is built from it.

Members that this version does not know are ignored, and codes that it does not know are kept as text, so that an older
SDK keeps working with a newer service; a missing member or one of another type raises UnexpectedAnswer. A tier that
this version does not know is `unavailable`: never `clear`, and never a reason against the person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from ledger.client.lookups.reasons import Reason as Reason
from ledger.client.lookups.reasons import explained, unexplained
from ledger.errors import AnswerMismatch, LedgerError, UnexpectedAnswer
from ledger.protocol.encoding import parse_time
from ledger.protocol.identifiers import Kind
from ledger.rules.reasons import Reason as KnownReason

if TYPE_CHECKING:
    from ledger.client.models.pictures import PictureReuse

T = TypeVar("T")

Tier = Literal["clear", "watch", "review", "high", "unavailable"]
TIERS: tuple[Tier, ...] = ("clear", "watch", "review", "high")
"""The tiers a ledger answers, mildest first. `unavailable` is the SDK's own: no answer came in time."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_REASONS = frozenset(KnownReason)
_KINDS: dict[str, Kind] = {kind.value: kind for kind in Kind}

UNKNOWN_TIER = "unknown_tier"
"""Why an answer with a tier that this version does not know is `unavailable`."""

DeliveryState = Literal["accepted", "pending", "parked", "refused", "unsent"]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A buyer's standing as the ledger tells it. Advice for a human step, never a reason to refuse by itself.

    When no answer came in time, `tier` is `unavailable`, `credit` and `id` are None, `guidance` is empty and
    `unavailable_because` says why: follow your normal process.
    """

    tier: Tier
    credit: int | None
    """0 to 100; 100 is a clean record."""
    points: float | None
    events: int
    reporters: int
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Reason, ...]
    guidance: tuple[str, ...]
    matched_kinds: tuple[Kind | str, ...]
    """Kinds of identifiers that matched; one that this version does not know is its text."""
    id: str | None = None
    policy: str | None = None
    as_of_index: int | None = None
    """Entries of the log that this answer has seen."""
    as_of: datetime | None = None
    expires_at: datetime | None = None
    unavailable_because: str | None = None
    """The code of what went wrong, when `tier` is `unavailable`; docs/sdk.md says what each means."""
    unavailable_status: int | None = None
    """The HTTP status that came in place of an answer, if one came."""
    request_id: str | None = None
    """The id of the request in the ledger's logs, for questions to its operator."""
    source: Literal["direct", "local_filter"] = "direct"
    """`local_filter`: no answer came in time, and the person was not in the local filter of `as_of`."""
    pictures: tuple[PictureReuse, ...] | None = None
    """One for each picture that was asked about with the lookup, in order; None if none was, or no answer came."""
    pictures_unavailable_because: str | None = None
    """The code of what went wrong when pictures were asked about and `pictures` is None."""

    @property
    def available(self) -> bool:
        """Whether the ledger answered."""
        return self.tier != "unavailable"


def unavailable(because: str, status: int | None = None, request_id: str | None = None) -> Lookup:
    """The Lookup for an outage: its reason, and the HTTP status and the id of the request if there are any."""
    return Lookup(
        "unavailable", None, None, 0, 0, False, False, False, (), (), (),
        unavailable_because=because, unavailable_status=status, request_id=request_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """A buyer's standing as this process folds it from a snapshot, without telling the ledger who is asked about.

    It may start a human step. Before an adverse decision, ask with a fresh `lookup`.
    """

    tier: Tier
    credit: int
    """0 to 100; 100 is a clean record."""
    points: float
    events: int
    reporters: int
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Reason, ...]
    guidance: tuple[str, ...]
    matched_kinds: tuple[Kind, ...]
    bounded: bool
    """Several identifiers are listed, and how their reporters confirm one another cannot be seen from here: a lookup
    may be stricter than this answer, never milder."""
    source: Literal["download", "private"]
    version: str
    """The snapshot's, base64url."""
    policy: str
    as_of_index: int
    """Entries of the log that the snapshot has seen."""
    as_of: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AcceptedReport:
    """The ledger has recorded the report durably, under entry `entry_index` of its log.

    `signature` (base64url) is the platform's own, over the body that was sent: it tells which report this is.
    """

    id: str
    entry_index: int
    status: str
    effective_from: datetime
    expires_at: datetime
    receipt_url: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ReportAppeal:
    """The appeal against a report. `conduct` is what a decision made of it, where it was amended."""

    id: str
    state: str
    due_at: datetime
    outcome: str | None
    conduct: str | None


@dataclass(frozen=True, slots=True)
class ReportHold:
    """Why a report is or was held: it may be about the matter of the case `case`. Without a release it is void at
    `void_at`; `explanation` is your reason why it is another order, `reasons` those of the decision."""

    case: str
    void_at: datetime
    explanation: str | None
    released_at: datetime | None
    refused_at: datetime | None
    reasons: str | None


@dataclass(frozen=True, slots=True)
class ReportView:
    """One of your own reports as it stands now."""

    id: str
    entry_index: int
    status: str
    conduct: str
    order_ref: str
    amount_minor: int
    currency: str
    outcome: str
    act_ended_at: datetime
    notice_sent_at: datetime
    recorded_at: datetime
    effective_from: datetime
    expires_at: datetime
    replaces: str | None
    replaced_by: str | None
    restituted_at: datetime | None
    withdrawal_reason: str | None
    receipt_url: str
    appeal: ReportAppeal | None = None
    """Somebody contests it, or did."""
    hold: ReportHold | None = None
    former_label: bool = False
    """It has a label that identified its file by the rules of its time, and does not by those for new reports."""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """A page of reports, newest first. Ask for the next with `starting_after=page.reports[-1].id`."""

    reports: tuple[ReportView, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """What became of something you sent.

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
    """The ledger had it from an earlier attempt and repeated its answer (batches do not tell)."""
    retry_at: datetime | None = None
    index: int | None = None
    order: str | None = field(default=None, repr=False)


ReportResult = Delivery[AcceptedReport]
"""What became of a report."""
ChangeResult = Delivery[ReportView]
"""What became of a withdrawal or a restitution."""


# --- reading JSON -------------------------------------------------------------------------------------------------


class Fields:
    """Strict access to the members of a JSON object. Each method raises UnexpectedAnswer."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise UnexpectedAnswer("The ledger's answer is not a JSON object.")
        self._value = cast("dict[str, Any]", value)

    def text(self, name: str) -> str:
        """A string."""
        return cast(str, self._typed(name, str))

    def integer(self, name: str) -> int:
        """An integer that is not negative."""
        number = cast(int, self._typed(name, int))
        if number < 0:
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is negative.")
        return number

    def flag(self, name: str) -> bool:
        """A boolean."""
        return cast(bool, self._typed(name, bool))

    def time(self, name: str) -> datetime:
        """A UTC time."""
        return _converted(name, parse_time, self.text(name))

    def items(self, name: str) -> list[Any]:
        """A list."""
        return cast("list[Any]", self._typed(name, list))

    def required(self, name: str) -> Any:
        """Anything, null too, that is there."""
        if name not in self._value:
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is missing.")
        return self._value[name]

    def optional(self, name: str) -> Any:
        """Anything, or None when absent."""
        return self._value.get(name)

    def optional_text(self, name: str) -> str | None:
        """A string or null."""
        return None if self._value.get(name) is None else self.text(name)

    def member(self, name: str) -> Fields:
        """An object."""
        return Fields(self._typed(name, dict))

    def number(self, name: str) -> float:
        """A number that is not negative."""
        value = self._value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is not a number.")
        return float(value)

    def label(self, name: str) -> str:
        """A string or integer, as text."""
        value = self._value.get(name)
        if type(value) not in (str, int):
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is not a label.")
        return str(value)

    def _typed(self, name: str, kind: type) -> object:
        value = self._value.get(name)
        if type(value) is not kind:
            raise UnexpectedAnswer(f"`{name}` of the ledger's answer is missing or of another type.")
        return value


def _converted(name: str, convert: Callable[[str], T], text: str) -> T:
    try:
        return convert(text)
    except LedgerError as error:
        raise UnexpectedAnswer(f"`{name}` of the ledger's answer is malformed.") from error


def compare(name: str, answered: object, asked: object) -> None:
    """Raises AnswerMismatch unless the answer's member `name` is what was asked."""
    if answered != asked:
        raise AnswerMismatch(f"The ledger's answer belongs to another question: `{name}` differs.", compared=name)


def about(parse: Callable[[Any], T], **asked: object) -> Callable[[Any], T]:
    """`parse` for the answer about one thing: it raises AnswerMismatch unless what it parsed has the members asked."""

    def parse_own(value: object) -> T:
        found = parse(value)
        for name, one in asked.items():
            compare(name, getattr(found, name), one)
        return found

    return parse_own


def parse_lookup(value: object) -> Lookup:
    """A Lookup from the service's answer; `unavailable` because of `unknown_tier` for a tier of a later version, with
    credit, points and guidance left out. Raises UnexpectedAnswer."""
    fields = Fields(value)
    tier, credit = fields.text("tier"), fields.integer("credit")
    if not _CODE.match(tier) or tier == "unavailable" or credit > 100:
        raise UnexpectedAnswer("The ledger answered with a standing that is none.")
    found = _lookup(fields, cast(Tier, tier), credit)
    if tier in TIERS:
        return found
    return replace(found, tier="unavailable", credit=None, points=None, guidance=(), unavailable_because=UNKNOWN_TIER)


def _lookup(fields: Fields, tier: Tier, credit: int) -> Lookup:
    return Lookup(
        tier=tier,
        credit=credit,
        points=fields.number("points"),
        events=fields.integer("events"),
        reporters=fields.integer("reporters"),
        disputed=fields.flag("disputed"),
        protected=fields.flag("protected"),
        has_statement=fields.flag("has_statement"),
        reasons=tuple([_reason(code) for code in _texts(fields, "reasons")]),
        guidance=_texts(fields, "guidance"),
        matched_kinds=tuple([_KINDS.get(one, one) for one in _texts(fields, "matched_kinds")]),
        id=fields.text("id"),
        policy=fields.label("policy"),
        as_of_index=fields.integer("as_of_index"),
        as_of=fields.time("as_of"),
        expires_at=fields.time("expires_at"),
    )


def _reason(code: str) -> Reason:
    """The reason with its texts; a code that a newer ledger has added stands for itself."""
    if code not in _REASONS:
        if not _CODE.match(code):
            raise UnexpectedAnswer("`reasons` of the ledger's answer is malformed.")
        return unexplained(code)
    return explained(code)


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    values = fields.items(name)
    if any(type(value) is not str for value in values):
        raise UnexpectedAnswer(f"`{name}` of the ledger's answer is malformed.")
    return tuple(values)


def parse_accepted(value: object) -> AcceptedReport:
    """An AcceptedReport from the service's 201 answer. Raises UnexpectedAnswer."""
    fields = Fields(value)
    return AcceptedReport(
        id=fields.text("id"),
        entry_index=fields.integer("entry_index"),
        status=fields.text("status"),
        effective_from=fields.time("effective_from"),
        expires_at=fields.time("expires_at"),
        receipt_url=fields.text("receipt_url"),
    )


def parse_view(value: object) -> ReportView:
    """A ReportView from the service's answer. Raises UnexpectedAnswer."""
    fields = Fields(value)
    restitution, withdrawal = fields.optional("restitution"), fields.optional("withdrawal")
    appeal = fields.optional("appeal")
    return ReportView(
        id=fields.text("id"),
        entry_index=fields.integer("entry_index"),
        status=fields.text("status"),
        conduct=fields.text("conduct"),
        order_ref=fields.text("order_ref"),
        amount_minor=fields.integer("amount_minor"),
        currency=fields.text("currency"),
        outcome=fields.text("outcome"),
        act_ended_at=fields.time("act_ended_at"),
        notice_sent_at=fields.time("notice_sent_at"),
        recorded_at=fields.time("recorded_at"),
        effective_from=fields.time("effective_from"),
        expires_at=fields.time("expires_at"),
        replaces=fields.optional_text("replaces"),
        replaced_by=fields.optional_text("replaced_by"),
        restituted_at=None if restitution is None else Fields(restitution).time("received_at"),
        withdrawal_reason=None if withdrawal is None else Fields(withdrawal).text("reason"),
        receipt_url=fields.text("receipt_url"),
        appeal=None if appeal is None else _appeal(Fields(appeal)),
        hold=None if fields.optional("hold") is None else _hold(Fields(fields.optional("hold"))),
        former_label=fields.optional("former_label") is True,  # absent from ledgers before it was told
    )


def _hold(fields: Fields) -> ReportHold:
    released, refused = fields.optional("released_at"), fields.optional("refused_at")
    return ReportHold(
        case=fields.text("case"),
        void_at=fields.time("void_at"),
        explanation=fields.optional_text("explanation"),
        released_at=None if released is None else fields.time("released_at"),
        refused_at=None if refused is None else fields.time("refused_at"),
        reasons=fields.optional_text("reasons"),
    )


def _appeal(fields: Fields) -> ReportAppeal:
    return ReportAppeal(
        id=fields.text("id"),
        state=fields.text("state"),
        due_at=fields.time("due_at"),
        outcome=fields.optional_text("outcome"),
        conduct=fields.optional_text("conduct"),
    )


def parse_page(value: object, order_ref: str | None = None) -> ReportPage:
    """A ReportPage from the service's answer; with `order_ref`, all its reports must be of that order. Raises
    UnexpectedAnswer, AnswerMismatch."""
    fields = Fields(value)
    parse = parse_view if order_ref is None else about(parse_view, order_ref=order_ref)
    return ReportPage(tuple([parse(item) for item in fields.items("data")]), fields.flag("has_more"))


def as_mapping(value: object) -> Mapping[str, Any]:
    """`value` as a JSON object. Raises UnexpectedAnswer."""
    if not isinstance(value, dict):
        raise UnexpectedAnswer("The ledger's answer is not a JSON object.")
    return value
