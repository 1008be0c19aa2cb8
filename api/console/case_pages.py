"""How a case is shown: due dates in words, names of codes, and why an action was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from api.errors import TABLE
from api.web.pages import render
from ledger import errors as e
from ledger.core.appeals import MAX_TEXT_CHARS, OPEN_STATES, SIGNED_SEVERITY
from ledger.core.conduct import EvidenceType
from ledger.core.ids import encode_id
from ledger.core.policy import Profile
from ledger.errors import LedgerError
from ledger.i18n import texts
from ledger.service import case_texts
from ledger.service.appeals.case_file import CaseFile, case_file
from ledger.service.appeals.case_letters import letters_of
from ledger.service.appeals.drafts import lighter_conducts, open_outcomes, proposed
from ledger.service.appeals.rows import zone_of
from ledger.service.entry_batch import Context
from ledger.service.staff import StaffMember
from ledger.store.appeals import CaseRow


def _(text: str) -> str:
    """Marks a text for the catalogues."""
    return text


MOVED_ON = _(
    "The case has moved on since you opened it, and nothing was done. What you typed is kept below: read what is new, "
    "then send it again if it still fits."
)
REFUSALS: Mapping[str, str] = {
    e.ActionRefused.code: _("This cannot be done in the state that the case is in now."),
    e.CaseTaken.code: _("Another reviewer has this case in hand."),
    e.DecisionInvalid.code: _("The decision does not follow the rules."),
    e.AppealInvalid.code: _("Write a text of 1 to 2,000 characters, without control characters."),
    e.AlreadyReversed.code: _("The report was taken back before. There is nothing left to decide."),
    e.InvalidRequest.code: _("The form is incomplete. Open the page again."),
}
DECISIONS: Mapping[str, str] = {
    "Choose an outcome.": _("Choose an outcome."),
    "Only `amended` names a conduct, and it names one.": _("Choose what the record should say instead."),
    "Only `unlinked` names identifiers, and it names at least one.": _("Choose which details to unlink."),
    "An amended report names another conduct, of no higher severity and of some.": _(
        "A corrected record names another conduct, and none that weighs more."
    ),
    "Unlink identifiers that the report has, and leave at least one.": _(
        "At least one detail must stay linked. If none belongs to the person, remove the record instead."
    ),
    "A case that the person reopened is not decided worse for them than before.": _(
        "The person asked for a second look. The decision must not be worse for them than the first."
    ),
}
DONE: Mapping[str, str] = {
    "take": _("The case is in your hands."),
    "assign": _("The case was given to a colleague."),
    "skip": _("You passed this case over. It is not offered to you again today."),
    "hand_back": _("The case is back in the queue."),
    "note": _("The note was added. Only staff can read it."),
    "ask_reporter": _("The question was sent to the platform that made the report."),
    "ask_subject": _("The question was sent to the person."),
    "extend": _("The case has more time. The parties are told why."),
    "decide": _("The case is decided. The letter is ready."),
    "propose": _("The decision waits for a second signature."),
    "sign": _("You signed: the case is decided."),
    "decline": _("You did not sign. The case is back with the first reviewer."),
}
REFUSED_HERE = (
    e.ActionRefused, e.CaseTaken, e.DecisionInvalid, e.AppealInvalid, e.AlreadyReversed, e.InvalidRequest,
)  # fmt: skip
"""After these the case page is shown again, with what was typed."""

STATUTES: Mapping[Profile, str] = {
    Profile.CN: _("Credit Reporting Regulation (PRC), article 25: 20 days"),
    Profile.EU: _("GDPR, article 12(3): one month"),
    Profile.US: _("FCRA, 15 U.S.C. 1681i(a)(1): 30 days, and 15 more after new information"),
}


CHOICES: Mapping[str, str] = {
    "upheld": _("Keep the record"),
    "amended": _("Correct the record"),
    "overturned": _("Remove the record"),
    "unconfirmed": _("Keep it as not confirmed"),
    "victim": _("Remove it: somebody else did it"),
    "unlinked": _("Unlink it from a detail of the person"),
}
EFFECTS: Mapping[str, str] = {
    "upheld": _("It counts again, as reported."),
    "amended": _("It counts again, as something else that weighs no more."),
    "overturned": _("It is gone for good, and weighs on the platform that made it."),
    "unconfirmed": _("It stays to be read, with no points."),
    "victim": _("It is gone for good; a protective note stands in its place for a year."),
    "unlinked": _("One of the details is not the person’s: it no longer leads to the record."),
}
LETTERS: Mapping[str, str] = {
    "received": _("Appeal received"),
    "question": _("Question to the person"),
    "overdue": _("We are late"),
    "decided": _("The decision"),
    "proposed": _("The proposed decision"),
}
HOW: Mapping[str, str] = {
    "same_act": _("about the same act"),
    "rests_on": _("which this report rests on"),
    "carries": _("which rests on this report"),
    "filed_together": _("contested in the same appeal"),
}
ENTRIES: Mapping[str, str] = {
    "report": _("Report"),
    "dispute": _("Appeal"),
    "resolution": _("Outcome"),
    "statement": _("Statement"),
}
STRENGTHS: Mapping[str, str] = {
    "identifies": _("identifies"),
    "indicates": _("indicates"),
    "hint": _("only a hint"),
}


@dataclass(frozen=True, slots=True)
class Due:
    """When a decision is due: the last day, told in `zone`, and how many days are left (0: today, below: too late)."""

    last: datetime
    zone: tzinfo
    days_left: int
    overdue: bool


def due_of(row: CaseRow, context: Context, now: datetime) -> Due:
    """The due date of an open case, in calendar days of its profile's zone."""
    zone = zone_of(context.policy, row.profile)
    last = row.due_at - timedelta(microseconds=1)
    days = (last.astimezone(zone).date() - now.astimezone(zone).date()).days
    return Due(last, zone, days, row.overdue or now >= row.due_at)


class Names:
    """Names of codes in one language, for templates."""

    def __init__(self, locale: str) -> None:
        self._locale = locale

    def conduct(self, code: str) -> str:
        return case_texts.conduct_text(code, self._locale)

    def grounds(self, code: str) -> str:
        return case_texts.grounds_text(code, self._locale)

    def state(self, code: str) -> str:
        return case_texts.state_text(code, self._locale)

    def outcome(self, code: str) -> str:
        return case_texts.outcome_text(code, self._locale)

    def evidence(self, code: str) -> str:
        return case_texts.evidence_text(code, self._locale)

    def action(self, code: str) -> str:
        return case_texts.action_text(code, self._locale)

    def actor(self, code: str) -> str:
        return case_texts.actor_text(code, self._locale)

    def kind(self, code: str) -> str:
        return case_texts.kind_text(code, self._locale)

    def status(self, code: str) -> str:
        return case_texts.status_text(code, self._locale)


def case_page(
    request: Request,
    case: str,
    member: StaffMember,
    *,
    typed: Mapping[str, str] | None = None,
    error: LedgerError | None = None,
) -> Response:
    """The page of a case; after a refused action with what was typed and why it was refused."""
    context = runtime(request).context
    file = case_file(context, case, member)
    return render(
        request,
        "case.html",
        member.language,
        status=200 if error is None else TABLE[type(error)].status,
        **shown(file, context, member.language),
        typed={**_NOTHING_TYPED, **(typed or {})},
        problem=None if error is None else refusal_of(error),
        done=DONE.get(request.query_params.get("done", "")) if error is None else None,
    )


_NOTHING_TYPED = {"form": "", "outcome": "", "conduct": "", "assignee": ""}


def shown(file: CaseFile, context: Context, locale: str) -> dict[str, object]:
    """What the template of the case page needs."""
    row = file.row
    files = [*file.person_files, *(one for item in file.items for one in item.files)]
    return {
        "file": file,
        "row": row,
        "names": Names(locale),
        "zone": zone_of(context.policy, row.profile),
        "due": due_of(row, context, file.now) if row.state in OPEN_STATES else None,
        "may": {action.value for action in file.may},
        "outcomes": open_outcomes(row),
        "conducts": [(conduct, context.policy.severity[conduct]) for conduct in lighter_conducts(row, context.policy)],
        "proposed": proposed(row),
        "letters": letters_of(row),
        "statute": STATUTES[Profile(row.profile)],
        "choices": CHOICES,
        "effects": EFFECTS,
        "letter_names": LETTERS,
        "how": HOW,
        "entry_names": ENTRIES,
        "strengths": {code: texts(locale).gettext(text) for code, text in STRENGTHS.items()},
        "every_type": len(EvidenceType),
        "numbers": lambda places: ", ".join(str(place + 1) for place in places),
        "file_ids": {one.id: encode_id("at", one.id, context.service) for one in files},
        "last_day": row.due_at - timedelta(microseconds=1),
        "signed_severity": SIGNED_SEVERITY,
        "max_chars": MAX_TEXT_CHARS,
        "clock_zone": ZoneInfo(file.policy.clock.time_zone).key,
    }


def refusal_of(error: LedgerError) -> str:
    """Why, in English: the template translates it."""
    if error.details.get("moved_on"):
        return MOVED_ON
    return DECISIONS.get(str(error)) or REFUSALS[error.code]
