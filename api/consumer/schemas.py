"""Schemas of a person's own session: their record, their statements, and their cases."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, create_model

from api.common_schemas import Currency, FindingCodeText, Kind, ReportId, Time, Wire
from api.platform.appeal_schemas import AppealView, LetterKind, Locale, Text
from ledger.rules.appeals import MAX_REPORTS, Grounds
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.findings import Trust
from ledger.rules.languages import LANGUAGES
from ledger.rules.provenance import OriginSource, Verdict
from ledger.rules.reports import RefundOutcome, Status
from ledger.rules.standing import Tier
from ledger.tlog.entries import WithdrawalReason

Code = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class SessionOpening(Wire):
    """The code of a link: what follows `#` in its address."""

    code: Annotated[Code, Field(examples=["q0yZ2m1b5uQ8k3W7c9aTtR4nVx6pLhJdEfGsIoKwBzM"])]


class OwnSession(Wire):
    """A session. The token is a secret: it opens the record until `expires_at`."""

    token: str
    expires_at: Time
    locale: Annotated[Locale, Field(description="The language that the platform asked for.")]


_Explained = create_model(
    "_Explained",
    __base__=Wire,
    **dict.fromkeys(("code", *(language.member for language in LANGUAGES.values())), (str, ...)),  # type: ignore[call-overload]
)


class OwnReason(_Explained):
    """A reason of the standing."""


class AnnouncedPolicy(Wire):
    """A change of the rules that is published and not in effect yet: `GET /v1/policies/{version}` has its text."""

    version: Annotated[int, Field(ge=1)]
    in_effect_at: Time


class OwnStanding(Wire):
    """The standing that the identifiers of this session have now. It decides nothing: no refund may be refused
    automatically because of it."""

    tier: Tier
    credit: Annotated[int, Field(ge=0)]
    points: Annotated[float, Field(ge=0)]
    events: Annotated[int, Field(ge=0)]
    reporters: Annotated[int, Field(ge=0, description="Independent groups of platforms that made counting reports.")]
    disputed: bool
    protected: bool
    reasons: list[OwnReason]
    policy: Annotated[
        int, Field(ge=1, description="Version of the rules in effect; `GET /v1/policies/{version}` has their text.")
    ]
    next_policies: list[AnnouncedPolicy]


class AmountBand(Wire):
    """The approximate amount, in whole units of the currency: above `low`, up to `high` (null: no upper end)."""

    low: Annotated[int, Field(ge=0)]
    high: Annotated[int | None, Field(ge=0)]
    currency: Currency


class OwnStatement(Wire):
    """The person's statement on a report. `entry_index` is its place in the log."""

    text: str
    locale: Locale
    made_at: Time
    entry_index: Annotated[int, Field(ge=0)]


class EarlierLetter(Wire):
    """A letter of a round that was decided before the case was reopened."""

    round: Annotated[int, Field(ge=1)]
    kind: LetterKind


class OwnCase(AppealView):
    """A case with the actions open to the person, and its letters."""

    model_config = ConfigDict(json_schema_extra={"examples": []})

    own: Annotated[bool, Field(description="The person appealed through their own access; else a platform did.")]
    appealable: Annotated[bool, Field(description="The person's own appeal against the report is open to them.")]
    can_withdraw: bool
    can_agree: Annotated[bool, Field(description="The platform conceded something, and the person has not agreed yet.")]
    can_reopen: bool
    reopen_until: Annotated[Time | None, Field(description="Until when, while it can be reopened.")]
    expires_at: Annotated[Time | None, Field(description="When the record is gone; null once it is.")]
    letters: Annotated[list[LetterKind], Field(description="Those of the present round.")]
    earlier_letters: Annotated[list[EarlierLetter], Field(description="Those of a round before it was reopened.")]


class OwnOrigin(Wire):
    """The origin of an original file of a report. `source` is null if its report was made before it was recorded."""

    source: OriginSource | None
    received_at: Time | None


class OwnConfirmation(Wire):
    """The answer of a provider of an AI service about a file, as the platform that asked states it."""

    issuer: str
    answered_at: Time
    verdict: Verdict


class OwnReport(Wire):
    """One report. `reported_by` is null where it is not the platform that opened the session."""

    id: ReportId
    conduct: Annotated[Conduct, Field(description="The conduct in force.")]
    reported_conduct: Conduct
    status: Status
    act_date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    told_date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$", description="When the platform told the person.")]
    recorded_at: Time
    effective_from: Annotated[Time, Field(description="When it starts to be shown and to count.")]
    expires_at: Time
    amount_band: AmountBand
    outcome: Annotated[RefundOutcome, Field(description="What became of the money.")]
    appealable: Annotated[bool, Field(description="The person's own appeal is open to them.")]
    withdrawal_reason: Annotated[
        WithdrawalReason | None,
        Field(
            description="Why the report was taken back, where it was. For `linked_report_void` and `malformed_subject` "
            "the ledger itself did so."
        ),
    ]
    entry_index: Annotated[int, Field(ge=0)]
    reported_by: str | None
    evidence: Annotated[list[EvidenceType], Field(description="Kinds of the evidence.")]
    origins: Annotated[list[OwnOrigin], Field(description="Where its original files came from, in their order.")]
    confirmations: Annotated[list[OwnConfirmation], Field(description="What issuers answered about its files.")]
    findings: Annotated[list[FindingCodeText], Field(description="Codes of what inspections of its files found.")]
    trust: Annotated[
        dict[FindingCodeText, Trust | None],
        Field(description="What stands behind the signature that a code rests on; null where none is known to."),
    ]
    former_label: Annotated[
        bool, Field(description="Its label identified the file by the rules of its time, and would not today.")
    ]
    matched_kinds: Annotated[list[Kind], Field(description="Which identifiers of the session it is tied to.")]
    restituted: bool
    statement: OwnStatement | None
    replaces: Annotated[ReportId | None, Field(description="The earlier report that this one took the place of.")]
    replaced_by: Annotated[ReportId | None, Field(description="The later report that took the place of this one.")]
    held_until: Annotated[Time | None, Field(description="It is held back, and void then unless it is released.")]
    case: Annotated[OwnCase | None, Field(description="The person's own case; else the one that says how it stands.")]
    cases: Annotated[list[OwnCase], Field(description="All cases about the report, oldest first.")]


class OwnLookup(Wire):
    """Lookups by one platform that were shown something of this record: those about one order on one UTC day, or those
    about several orders. `asked_by` is null for other platforms; `claim`, `consent` and `tier` are those of the last
    lookup."""

    asked_at: Annotated[Time, Field(description="When the last of them was made.")]
    first_asked_at: Annotated[Time, Field(description="When the first of them was made.")]
    times: Annotated[int, Field(ge=1, description="How many there were; at least, where `orders` is several.")]
    asked_by: str | None
    purpose: str
    orders: Annotated[
        Literal["one", "several"],
        Field(
            description="several: a platform's orders beyond the ten newest of a day, or its days beyond its 366 newest"
            " lines."
        ),
    ]
    claim: str | None
    consent: Annotated[bool, Field(description="Whether the platform referred to the person's consent.")]
    tier: Tier | None


class OwnPictureSearch(Wire):
    """A platform's searches for pictures on one UTC day that matched a picture of a report about this person. The
    platform did not see which report, or about whom. `asked_by` is null for other platforms."""

    asked_at: Annotated[Time, Field(description="When the last of them was made.")]
    first_asked_at: Annotated[Time, Field(description="When the first of them was made.")]
    times: Annotated[int, Field(ge=1, description="How many there were.")]
    asked_by: str | None
    reports: Annotated[list[ReportId], Field(min_length=1, description="The person's reports with such a picture.")]


class OwnRecord(Wire):
    """Everything that is in the ledger under the identifiers of the session."""

    as_of: Time
    opened_by: str
    standing: OwnStanding
    reports: Annotated[list[OwnReport], Field(description="Newest first.")]
    lookups: Annotated[list[OwnLookup], Field(description="Newest first; no platform's lines shorten another's.")]
    picture_searches: Annotated[
        list[OwnPictureSearch], Field(description="Newest first, a line for each platform and UTC day.")
    ]


class ExportSession(Wire):
    """The session in which the document was made."""

    opened_by: str
    created_at: Time
    expires_at: Time | None
    identifier_kinds: list[Kind]
    key_epoch: int


class OwnExport(Wire):
    """The record as a self-contained document. `format` changes when its form does."""

    format: Literal["refund-credit-record/1"]
    service: str
    locale: Locale
    session: ExportSession
    record: OwnRecord
    meanings: Annotated[dict[str, dict[str, str]], Field(description="What each code means, by the member it is in.")]
    verify: Annotated[dict[str, str], Field(description="How to check entry indexes against the public log.")]


class StatementRequest(Wire):
    """A statement on a report. It replaces an earlier one."""

    report: ReportId
    text: Text
    locale: Locale


class OwnAppealRequest(Wire):
    """An appeal against 1 to 20 reports of one's own. "This is not me" is `not_me`."""

    reports: Annotated[list[ReportId], Field(min_length=1, max_length=MAX_REPORTS)]
    grounds: Literal[*[grounds.value for grounds in Grounds]]  # type: ignore[valid-type]
    statement: Text
    locale: Annotated[Locale, Field(description="The language of letters about the case.")]


class OwnAppeals(Wire):
    """A case for each report, in order."""

    appeals: list[OwnCase]


class OwnText(Wire):
    """A text of the person: an answer, an addition, or why they contest a decision."""

    text: Text


class OwnLetter(Wire):
    """A letter. A paragraph of style `quote` is a text of a party or reviewer: never interpret it as markup."""

    kind: LetterKind
    locale: Locale
    subject: str
    paragraphs: list[dict[str, Any]]
