"""What the ledger answers about appeals, as typed values; checked as in `ledger.client.models.results`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from ledger.client.models.results import Fields, compare

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RecordLink:
    """A link for a person to their own record. It works once; `url` holds a secret and is kept out of `repr`."""

    id: str
    expires_at: datetime
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FiledAppeal:
    """A case that was opened. `group` is the same for cases filed together; a decision is owed before `due_at`."""

    id: str
    report: str
    state: str
    due_at: datetime
    group: str


@dataclass(frozen=True, slots=True)
class AppealSummary:
    """A case in a list. `party` is the one you see it for; None: the person filed it by themselves in a session that
    you opened. `answer_due_at`: a question waits for this party's answer until then."""

    id: str
    state: str
    opened_at: datetime
    due_at: datetime
    overdue: bool
    party: str | None
    report: str | None
    outcome: str | None
    answer_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class AppealPage:
    """Newest first; ask on with `starting_after` = the last id while `has_more`."""

    appeals: tuple[AppealSummary, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AppealQuestion:
    """A question that waits for your answer until `due_at`."""

    text: str
    asked_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class AppealDecision:
    """What was decided. `reasons` is None where the reporter's silence decided, `conduct` is that of an `amended`."""

    outcome: str
    reasons: str | None
    conduct: str | None
    decided_at: datetime | None
    reopen_until: datetime | None


@dataclass(frozen=True, slots=True)
class AppealEvent:
    """One thing that happened; `text` is None where it was written to the other party."""

    at: datetime
    action: str
    by: str
    state: str
    text: str | None
    entry_index: int | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a case. `sha256` is base64url; `evidence_index` is the reported item that it is."""

    id: str
    party: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    evidence_index: int | None
    added_at: datetime


@dataclass(frozen=True, slots=True)
class AppealConcession:
    """What the reporter conceded in this round: a conduct of no higher severity. `agreed_at` is when the person
    agreed."""

    conduct: str
    conceded_at: datetime
    agreed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReopeningRequest:
    """The reporter's request to open the case again for new evidence. `granted` is None until a reviewer has decided;
    `evidence_sha256` is base64url."""

    evidence_sha256: str
    requested_at: datetime
    granted: bool | None
    reasons: str | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Appeal:
    """A case as you may see it. Of a case that the person filed by themselves in a session of yours, everything after
    `overdue` is None or empty."""

    id: str
    state: str
    opened_at: datetime
    due_at: datetime
    overdue: bool
    party: str | None = None
    report: str | None = None
    group: tuple[str, ...] = ()
    round: int | None = None
    grounds: str | None = None
    conduct: str | None = None
    profile: str | None = None
    extended: bool | None = None
    suspends: bool | None = None
    """The report does not count while the case is open; None where the service does not say."""
    question: AppealQuestion | None = None
    decision: AppealDecision | None = None
    timeline: tuple[AppealEvent, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    concession: AppealConcession | None = None
    reopening_request: ReopeningRequest | None = None


@dataclass(frozen=True, slots=True)
class EarlierLetter:
    """A letter of a round that was decided before the case was reopened."""

    kind: str
    round: int


@dataclass(frozen=True, slots=True)
class LetterParagraph:
    """One paragraph: style text, heading, item or quote. A quote is what somebody wrote; never read it as markup."""

    style: str
    text: str


@dataclass(frozen=True, slots=True)
class AppealLetter:
    """A letter to the person, as paragraphs and as plain `text`."""

    kind: str
    locale: str
    subject: str
    paragraphs: tuple[LetterParagraph, ...]
    text: str


@dataclass(frozen=True, slots=True)
class PersonStatement:
    """What the person says of a report that a lookup disclosed."""

    text: str
    locale: str
    made_at: datetime


# --- parsing: each raises UnexpectedAnswer ------------------------------------------------------------------------


def parse_link(value: object) -> RecordLink:
    """A RecordLink from the service's answer."""
    fields = Fields(value)
    return RecordLink(fields.text("id"), fields.time("expires_at"), fields.text("url"))


def parse_filed(value: object, reports: Sequence[str]) -> list[FiledAppeal]:
    """The cases that an appeal against `reports` opened, in their order. Raises AnswerMismatch for those of others."""
    fields = Fields(value)
    group = fields.text("group")
    found = [Fields(item) for item in fields.items("appeals")]
    compare("reports", sorted(one.text("report") for one in found), sorted(set(reports)))
    return [
        FiledAppeal(one.text("id"), one.text("report"), one.text("state"), one.time("due_at"), group) for one in found
    ]


def parse_appeals(value: object) -> AppealPage:
    """An AppealPage."""
    fields = Fields(value)
    return AppealPage(tuple([_summary(Fields(item)) for item in fields.items("data")]), fields.flag("has_more"))


def _summary(fields: Fields) -> AppealSummary:
    return AppealSummary(
        **_state(fields),
        party=fields.optional_text("party"),
        report=fields.optional_text("report"),
        outcome=fields.optional_text("outcome"),
        answer_due_at=_time(fields, "answer_due_at"),
    )


def parse_appeal(value: object) -> Appeal:
    """An Appeal, whole or state only."""
    fields = Fields(value)
    if fields.optional("party") is None:
        return Appeal(**_state(fields))
    return Appeal(
        **_state(fields),
        party=fields.text("party"),
        report=fields.text("report"),
        group=tuple(str(one) for one in fields.items("group")),
        round=fields.integer("round"),
        grounds=fields.text("grounds"),
        conduct=fields.text("conduct"),
        profile=fields.text("profile"),
        extended=fields.flag("extended"),
        suspends=None if fields.optional("suspends") is None else fields.flag("suspends"),
        question=_if_there(fields, "question", _question),
        decision=_if_there(fields, "decision", _decision),
        timeline=tuple([_event(Fields(item)) for item in fields.items("timeline")]),
        attachments=tuple([parse_attachment(item) for item in fields.items("attachments")]),
        concession=_if_there(fields, "concession", _concession),
        reopening_request=_if_there(fields, "reopening_request", _request),
    )


def parse_attachment(value: object) -> Attachment:
    """An Attachment."""
    fields = Fields(value)
    return Attachment(
        id=fields.text("id"),
        party=fields.text("party"),
        name=fields.text("name"),
        media_type=fields.text("media_type"),
        size_bytes=fields.integer("size_bytes"),
        sha256=fields.text("sha256"),
        evidence_index=_integer(fields, "evidence_index"),
        added_at=fields.time("added_at"),
    )


def parse_letter_kinds(value: object) -> tuple[str, ...]:
    """The kinds of letters that there are."""
    return tuple([Fields(item).text("kind") for item in Fields(value).items("data")])


def parse_earlier_letters(value: object) -> tuple[EarlierLetter, ...]:
    """The letters of earlier rounds; none where the service does not list them."""
    fields = Fields(value)
    found = [] if fields.optional("earlier") is None else [Fields(item) for item in fields.items("earlier")]
    return tuple([EarlierLetter(one.text("kind"), one.integer("round")) for one in found])


def parse_letter(value: object) -> AppealLetter:
    """An AppealLetter."""
    fields = Fields(value)
    parts = [Fields(item) for item in fields.items("paragraphs")]
    return AppealLetter(
        kind=fields.text("kind"),
        locale=fields.text("locale"),
        subject=fields.text("subject"),
        paragraphs=tuple([LetterParagraph(part.text("style"), part.text("text")) for part in parts]),
        text=fields.text("text"),
    )


def parse_statements(value: object) -> tuple[PersonStatement, ...]:
    """The statements on what a lookup disclosed."""
    found = [Fields(item) for item in Fields(value).items("statements")]
    return tuple([PersonStatement(one.text("text"), one.text("locale"), one.time("made_at")) for one in found])


def _state(fields: Fields) -> dict[str, Any]:
    return {
        "id": fields.text("id"),
        "state": fields.text("state"),
        "opened_at": fields.time("opened_at"),
        "due_at": fields.time("due_at"),
        "overdue": fields.flag("overdue"),
    }


def _question(fields: Fields) -> AppealQuestion:
    return AppealQuestion(fields.text("text"), fields.time("asked_at"), fields.time("due_at"))


def _concession(fields: Fields) -> AppealConcession:
    return AppealConcession(fields.text("conduct"), fields.time("conceded_at"), _time(fields, "agreed_at"))


def _request(fields: Fields) -> ReopeningRequest:
    return ReopeningRequest(
        evidence_sha256=fields.text("evidence_sha256"),
        requested_at=fields.time("requested_at"),
        granted=None if fields.optional("granted") is None else fields.flag("granted"),
        reasons=fields.optional_text("reasons"),
        decided_at=_time(fields, "decided_at"),
    )


def _decision(fields: Fields) -> AppealDecision:
    return AppealDecision(
        outcome=fields.text("outcome"),
        reasons=fields.optional_text("reasons"),
        conduct=fields.optional_text("conduct"),
        decided_at=_time(fields, "decided_at"),
        reopen_until=_time(fields, "reopen_until"),
    )


def _event(fields: Fields) -> AppealEvent:
    return AppealEvent(
        at=fields.time("at"),
        action=fields.text("action"),
        by=fields.text("by"),
        state=fields.text("state"),
        text=fields.optional_text("text"),
        entry_index=_integer(fields, "entry_index"),
    )


def _if_there(fields: Fields, name: str, parse: Callable[[Fields], T]) -> T | None:
    return None if fields.optional(name) is None else parse(fields.member(name))


def _time(fields: Fields, name: str) -> datetime | None:
    return None if fields.optional(name) is None else fields.time(name)


def _integer(fields: Fields, name: str) -> int | None:
    return None if fields.optional(name) is None else fields.integer(name)
