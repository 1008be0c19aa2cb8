"""Schemas of appeals, of the parts of a case, and of sessions for persons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from api.common_schemas import Bytes32, Epoch, ReportId, Time, Wire
from api.platform.lookup_schemas import MAX_SUBJECTS, TaggedSubject
from ledger.protocol.public_ids import id_pattern
from ledger.rules.appeals import MAX_REPORTS, MAX_TEXT_CHARS, Action, CaseState, Grounds, Outcome
from ledger.rules.conduct import MAX_EVIDENCE_ITEMS, Conduct
from ledger.rules.jurisdictions import Profile
from ledger.rules.languages import LOCALES
from ledger.server.texts.letters import LetterKind as LetterKind

PAGE_LIMIT = 100
PAGE_DEFAULT = 50
MAX_NAME_CHARS = 255

AppealId = Annotated[str, StringConstraints(pattern=f"^{id_pattern('ap')}$"), Field(examples=["ap_Xk3mPq9a"])]
AttachmentId = Annotated[str, StringConstraints(pattern=f"^{id_pattern('at')}$"), Field(examples=["at_Xk3mPq9a"])]
PartyName = Literal["subject", "reporter"]
if TYPE_CHECKING:
    Locale = str
else:
    Locale = Literal[LOCALES]
"""The code of a language of `LANGUAGES`."""
Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS),
    Field(
        description="Plain text of at most 2000 characters, kept in NFC without controls and marks that nobody can see."
        " One that shows nothing is refused."
    ),
]
Subjects = Annotated[
    list[TaggedSubject],
    Field(min_length=1, max_length=MAX_SUBJECTS, description="Identifiers of the person, of one key epoch."),
]

_CASE: dict[str, Any] = {
    "id": "ap_Xk3mPq9a",
    "state": "awaiting_reporter",
    "opened_at": "2026-02-03T09:00:00Z",
    "due_at": "2026-02-23T16:00:00Z",
    "overdue": False,
}
_QUESTION = "Please send the carrier's record that your report names."
_VIEW: dict[str, Any] = {
    **_CASE,
    "group": ["ap_Xk3mPq9a"],
    "report": "rp_Xk3mPq9a",
    "party": "reporter",
    "round": 1,
    "grounds": "wrong_facts",
    "conduct": "fake_return_tracking",
    "profile": "CN",
    "extended": False,
    "suspends": True,
    "question": {"text": _QUESTION, "asked_at": "2026-02-04T08:00:00Z", "due_at": "2026-02-11T08:00:00Z"},
    "decision": None,
    "concession": None,
    "reopening_request": None,
    "timeline": [
        {
            "at": "2026-02-03T09:00:00Z",
            "action": "open",
            "by": "person",
            "by_platform": True,
            "state": "submitted",
            "text": "The parcel did come back. I have the receipt.",
            "entry_index": 1043,
        },
        {
            "at": "2026-02-04T08:00:00Z",
            "action": "ask_reporter",
            "by": "reviewer",
            "by_platform": False,
            "state": "awaiting_reporter",
            "text": _QUESTION,
            "entry_index": None,
        },
    ],
    "attachments": [
        {
            "id": "at_Xk3mPq9a",
            "party": "subject",
            "name": "receipt.jpg",
            "media_type": "image/jpeg",
            "size_bytes": 204811,
            "sha256": "fK9lU0nYtq8C2d6rQZp1iJ3xw5yB7vA4mG0hN8kT2sE",
            "evidence_index": None,
            "added_at": "2026-02-03T09:02:00Z",
        }
    ],
}

_SUMMARY = {
    **_CASE,
    "party": "reporter",
    "report": "rp_Xk3mPq9a",
    "outcome": None,
    "answer_due_at": _VIEW["question"]["due_at"],
}


class AppealRequest(Wire):
    """A customer's appeal against 1 to 20 reports of other members. `epoch` and `subjects` show that they are about
    this person; without them, or for a report of your own control group, the appeal is refused."""

    # How many is for the service to check: a list called `reports` of the wrong length would pass for a bad batch.
    reports: Annotated[list[ReportId], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_REPORTS})]
    grounds: Literal[*[grounds.value for grounds in Grounds]]  # type: ignore[valid-type]
    statement: Annotated[Text, Field(description="What the person says, in their own words.")]
    locale: Annotated[Locale, Field(description="The language that the person is written to in.")]
    epoch: Epoch | None = None
    subjects: Subjects | None = None


class FiledAppeal(Wire):
    """A case that was opened."""

    id: AppealId
    report: ReportId
    state: CaseState
    due_at: Annotated[Time, Field(description="The first moment that is too late for a decision.")]


class FiledAppeals(Wire):
    """A case for each report, in order. `group` ties them together: it is the id of the first."""

    group: AppealId
    appeals: list[FiledAppeal]


class AppealState(Wire):
    """The state of a case, for a platform that only opened the session in which the person filed by themselves."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CASE]})

    id: AppealId
    state: CaseState
    opened_at: Time
    due_at: Time
    overdue: Annotated[
        bool, Field(description="The decision is late. If the case suspends the report, that is out until it is made.")
    ]


class Question(Wire):
    """A question that awaits your answer."""

    text: str
    asked_at: Time
    due_at: Time


class Decision(Wire):
    """The decision. `conduct` is the one that an `amended` report has now."""

    outcome: Outcome
    reasons: Annotated[str | None, Field(description="Null where the reporter's silence decided.")]
    conduct: Conduct | None
    decided_at: Time | None
    reopen_until: Time | None


class CaseEvent(Wire):
    """An event of the case. `text` is null if it was written to the other party."""

    at: Time
    action: Action
    by: Literal["person", "reporter", "reviewer", "clock", "ledger"]
    by_platform: Annotated[
        bool | None, Field(description="A platform said it for the person. Null for the reporter, who is not told.")
    ]
    state: CaseState
    text: str | None
    entry_index: Annotated[int | None, Field(ge=0, description="The log's entry about it, if it has one.")]


class Attachment(Wire):
    """A file of a case. `evidence_index` is its item of the report's evidence (0 is the first)."""

    id: AttachmentId
    party: PartyName
    name: str
    media_type: str
    size_bytes: Annotated[int, Field(ge=1)]
    sha256: Bytes32
    evidence_index: Annotated[int | None, Field(ge=0, lt=MAX_EVIDENCE_ITEMS)]
    added_at: Time


class CaseConcession(Wire):
    """What the reporter conceded in this round, and when the person agreed, if they did."""

    conduct: Conduct
    conceded_at: Time
    agreed_at: Time | None


class CaseReopeningRequest(Wire):
    """The reporter's request to open the case again for new evidence. `granted` is null until a reviewer decides."""

    evidence_sha256: Bytes32
    requested_at: Time
    granted: bool | None
    reasons: str | None
    decided_at: Time | None


class AppealView(AppealState):
    """A case as a party of it sees it: the person (through you), or the reporter."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VIEW]})

    group: Annotated[list[AppealId], Field(description="The cases that were filed together and that you may see.")]
    report: ReportId
    party: Annotated[PartyName, Field(description="For whom this is.")]
    round: Annotated[int, Field(ge=1, le=3, description="2 or 3 after it was reopened.")]
    grounds: Grounds
    conduct: Annotated[Conduct, Field(description="The conduct in force.")]
    profile: Annotated[Profile, Field(description="Whose law the clock is of.")]
    extended: bool
    suspends: Annotated[bool, Field(description="The report does not count while the case is open.")]
    question: Question | None
    decision: Decision | None
    concession: CaseConcession | None
    reopening_request: CaseReopeningRequest | None
    timeline: list[CaseEvent]
    attachments: list[Attachment]


class Appeal(RootModel[AppealView | AppealState]):
    """A case for one of its parties, or its state for a platform that only opened the person's session."""


class AppealSummary(AppealState):
    """A case in a list; request it by its id for the rest."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUMMARY]})

    party: Annotated[PartyName | None, Field(description="For whom you see it. Null: you only opened the session.")]
    report: ReportId | None
    outcome: Outcome | None
    answer_due_at: Annotated[Time | None, Field(description="A question waits for this party's answer until then.")]


class AppealPage(Wire):
    """Newest first. Continue with `starting_after` = the last id while `has_more`."""

    data: list[AppealSummary]
    has_more: bool


class AppealMessage(Wire):
    """An answer to the open question to this party, or an addition."""

    party: Annotated[PartyName, Field(description="For whom you speak: your customer, or yourself as the reporter.")]
    text: Text


class Reopening(Wire):
    """Why the person contests the decision."""

    text: Text


class ConcessionRequest(Wire):
    """The conduct that you concede: another one, of no higher severity, and not `impersonated`."""

    conduct: Annotated[str, Field(min_length=1, max_length=64, description="A conduct code.")]


class ReopenRequest(Wire):
    """Why a case that was decided `unconfirmed` should be opened again, and the digest of evidence that is new."""

    evidence_sha256: Annotated[Bytes32, Field(description="SHA-256 of the new evidence; not one of the report's.")]
    text: Text


class LetterItem(Wire):
    """A letter for the person, the language they chose, and the round of the case that it is about."""

    kind: LetterKind
    locale: Locale
    round: Annotated[int, Field(ge=1, le=2)]


class LetterList(Wire):
    """The letters of the current round (`data`), and those of a round before the case was reopened (`earlier`)."""

    data: list[LetterItem]
    earlier: list[LetterItem]


class LetterParagraph(Wire):
    """A paragraph. A `quote` is a text of a party or reviewer, verbatim: never interpret it as markup."""

    style: Literal["text", "heading", "quote", "item"]
    text: str


class AppealLetter(Wire):
    """A letter, as paragraphs for a page or a mail of yours and as plain text."""

    kind: LetterKind
    locale: Locale
    subject: str
    paragraphs: list[LetterParagraph]
    text: str


class SessionRequest(Wire):
    """The person who wants to see their record, by identifiers that you verified: they are logged in with you."""

    epoch: Epoch
    subjects: Subjects
    locale: Locale


class SessionLink(Wire):
    """A link for the person alone. It works once, until `expires_at`."""

    id: Annotated[str, Field(pattern=f"^{id_pattern('ss')}$")]
    url: Annotated[str, Field(description="Hand it to the browser; do not log or store it.")]
    expires_at: Time


class PersonStatement(Wire):
    """The person's statement on a report, in their own words."""

    text: str
    locale: Locale
    made_at: Time


class StatementList(Wire):
    """The person's statements on what the lookup disclosed, oldest first."""

    statements: list[PersonStatement]
