"""Appeals, letters and statements, as typed values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ledger.client.models.decoding import Count, Model, compare, decode
from ledger.errors import UnexpectedAnswer


class RecordLink(Model, frozen=True):
    """A link for a person to their own record. It works once; `url` holds a secret and is kept out of `repr`."""

    id: str
    expires_at: datetime
    url: str

    _secret = frozenset({"url"})


class FiledAppeal(Model, frozen=True):
    """A case that was opened. `group` is the same for cases filed together; a decision is owed before `due_at`."""

    id: str
    report: str
    state: str
    due_at: datetime
    group: str


class AppealSummary(Model, frozen=True):
    """A case in a list. `party` is the one you see it for; None: the person filed it by themselves in a session that
    you opened. `answer_due_at`: a question waits for this party's answer until then."""

    id: str
    state: str
    opened_at: datetime
    due_at: datetime
    overdue: bool
    party: str | None = None
    report: str | None = None
    outcome: str | None = None
    answer_due_at: datetime | None = None


class AppealPage(Model, frozen=True):
    """A page of cases, newest first; ask on with `starting_after` = the last id while `has_more`."""

    appeals: tuple[AppealSummary, ...] = msgspec.field(name="data")
    has_more: bool


class AppealQuestion(Model, frozen=True):
    """A question that waits for your answer until `due_at`."""

    text: str
    asked_at: datetime
    due_at: datetime


class AppealDecision(Model, frozen=True):
    """The decision of a case. `reasons` is None where the reporter's silence decided, `conduct` is that of an
    `amended`."""

    outcome: str
    reasons: str | None = None
    conduct: str | None = None
    decided_at: datetime | None = None
    reopen_until: datetime | None = None


class AppealEvent(Model, frozen=True):
    """An event of a case; `text` is None where it was written to the other party."""

    at: datetime
    action: str
    by: str
    state: str
    text: str | None = None
    entry_index: Count | None = None


class Attachment(Model, frozen=True, kw_only=True):
    """A file of a case. `sha256` is base64url; `evidence_index` is the reported item that it is."""

    id: str
    party: str
    name: str
    media_type: str
    size_bytes: Count
    sha256: str
    evidence_index: Count | None = None
    added_at: datetime


class AppealConcession(Model, frozen=True):
    """The reporter's concession in this round: a conduct of no higher severity. `agreed_at` is when the person
    agreed."""

    conduct: str
    conceded_at: datetime
    agreed_at: datetime | None = None


class ReopeningRequest(Model, frozen=True):
    """The reporter's request to open the case again for new evidence. `granted` is None until a reviewer has decided;
    `evidence_sha256` is base64url."""

    evidence_sha256: str
    requested_at: datetime
    granted: bool | None = None
    reasons: str | None = None
    decided_at: datetime | None = None


class Appeal(Model, frozen=True):
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
    round: Count | None = None
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


class EarlierLetter(Model, frozen=True):
    """A letter of a round that was decided before the case was reopened."""

    kind: str
    round: Count


class LetterParagraph(Model, frozen=True):
    """One paragraph: style text, heading, item or quote. A quote is text of a party; never read it as markup."""

    style: str
    text: str


class AppealLetter(Model, frozen=True):
    """A letter to the person, as paragraphs and as plain `text`."""

    kind: str
    locale: str
    subject: str
    paragraphs: tuple[LetterParagraph, ...]
    text: str


class PersonStatement(Model, frozen=True):
    """A person's statement on a report that a lookup disclosed."""

    text: str
    locale: str
    made_at: datetime


# --- answers in another form than the values above ----------------------------------------------------------------

_FULL_CASE = ("report", "round", "grounds", "conduct", "profile", "extended")
"""Members that a case has for a party; without a party the answer has the state alone."""


class _FiledCase(Model, frozen=True):
    id: str
    report: str
    state: str
    due_at: datetime


class _Filed(Model, frozen=True):
    group: str
    appeals: tuple[_FiledCase, ...]


class _LetterKind(Model, frozen=True):
    kind: str


class _Letters(Model, frozen=True):
    """The letters of a case. Earlier versions of the ledger do not list those of earlier rounds."""

    data: tuple[_LetterKind, ...] = ()
    earlier: tuple[EarlierLetter, ...] | None = None


class _Statements(Model, frozen=True):
    statements: tuple[PersonStatement, ...]


def parse_link(value: object) -> RecordLink:
    """Return the RecordLink in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, RecordLink)


def parse_filed(value: object, reports: Sequence[str]) -> list[FiledAppeal]:
    """Return the cases that an appeal against `reports` opened, in their order. Raises UnexpectedAnswer, and
    AnswerMismatch for cases about other reports."""
    filed = decode(value, _Filed)
    compare("reports", sorted([case.report for case in filed.appeals]), sorted(set(reports)))
    return [FiledAppeal(case.id, case.report, case.state, case.due_at, filed.group) for case in filed.appeals]


def parse_appeals(value: object) -> AppealPage:
    """Return the AppealPage in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, AppealPage)


def parse_appeal(value: object) -> Appeal:
    """Return the Appeal in the service's answer, with all members or with its state only. Raises UnexpectedAnswer."""
    appeal = decode(value, Appeal)
    if appeal.party is None:
        return Appeal(appeal.id, appeal.state, appeal.opened_at, appeal.due_at, appeal.overdue)
    missing = [name for name in _FULL_CASE if getattr(appeal, name) is None]
    missing += [name for name in ("group", "timeline", "attachments") if name not in value]  # type: ignore[operator]
    if missing:
        raise UnexpectedAnswer(f"`{missing[0]}` of the ledger's answer is missing or of another type.")
    return appeal


def parse_attachment(value: object) -> Attachment:
    """Return the Attachment in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, Attachment)


def parse_letter_kinds(value: object) -> tuple[str, ...]:
    """Return the kinds of letters that there are now. Raises UnexpectedAnswer."""
    return tuple([letter.kind for letter in decode(value, _Letters).data])


def parse_earlier_letters(value: object) -> tuple[EarlierLetter, ...]:
    """Return the letters of earlier rounds. Raises UnexpectedAnswer."""
    return decode(value, _Letters).earlier or ()


def parse_letter(value: object) -> AppealLetter:
    """Return the AppealLetter in the service's answer. Raises UnexpectedAnswer."""
    return decode(value, AppealLetter)


def parse_statements(value: object) -> tuple[PersonStatement, ...]:
    """Return the statements on what a lookup disclosed. Raises UnexpectedAnswer."""
    return decode(value, _Statements).statements
