"""The case page of the console: due dates, names of outcomes, confirmations, and why an action was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from api.console.evidence_panel import COMPARISONS, FAILURES, GROUPS, SUPPORTS, shown_items
from api.console.forms import TEXTS
from api.deps import runtime
from api.errors import TABLE
from api.web.messages import sentence
from api.web.pages import render
from ledger import errors as e
from ledger.errors import LedgerError
from ledger.evidence import finding_texts
from ledger.i18n import texts
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import MAX_TEXT_CHARS, SIGNED_SEVERITY, Outcome
from ledger.rules.conduct import EvidenceType
from ledger.rules.corroboration import Corroboration
from ledger.server.appeals import record_texts
from ledger.server.appeals.case_changes import zone_of
from ledger.server.appeals.case_page import CaseFile, case_file
from ledger.server.appeals.inspection import InspectionAttempt
from ledger.server.appeals.staff_actions import lighter_conducts, open_outcomes, proposed_decision
from ledger.server.context import Context
from ledger.server.records.case_queries import CaseRow
from ledger.server.runtime import Runtime
from ledger.server.staff.accounts import StaffMember, as_staff
from ledger.tlog.entries import EventType


def _(text: str) -> str:
    """Return `text` itself, marked for the catalogues."""
    return text


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
"""Errors after which the case page is shown again, with the text that was typed."""

CHOICES: Mapping[str, str] = {outcome.value: outcome.spec.choice for outcome in Outcome}
EFFECTS: Mapping[str, str] = {outcome.value: outcome.spec.consequence for outcome in Outcome}
LETTERS: Mapping[str, str] = {
    "received": _("Appeal received"),
    "question": _("Question to the person"),
    "overdue": _("We are late"),
    "decided": _("The decision"),
    "proposed": _("The proposed decision"),
}
HOW: Mapping[str, str] = {
    "same_report": _("another case about this report"),
    "same_act": _("about the same act"),
    "rests_on": _("which this report rests on"),
    "carries": _("which rests on this report"),
    "filed_together": _("contested in the same appeal"),
}
ENTRIES: Mapping[str, str] = {
    entry.value: entry.spec.case_title for entry in EventType if entry.spec.case_title is not None
}
"""Titles of the log entries that a case page shows, by their type: the report's own, and those of `case_entry`."""


@dataclass(frozen=True, slots=True)
class Due:
    """The due date of a decision: days left (0: today, below: overdue), counted in `zone`."""

    zone: tzinfo
    days_left: int
    overdue: bool


def due_of(row: CaseRow, context: Context, now: datetime) -> Due:
    """Return the due date of an open case, in calendar days of its profile's zone."""
    zone = zone_of(context.policy, row.profile)
    last = row.due_at - timedelta(microseconds=1)
    days = (last.astimezone(zone).date() - now.astimezone(zone).date()).days
    return Due(zone, days, row.overdue or now >= row.due_at)


def case_page(
    request: Request,
    case: str,
    member: StaffMember,
    *,
    typed: Mapping[str, str] | None = None,
    error: LedgerError | None = None,
    look: InspectionAttempt | None = None,
) -> Response:
    """Return the page of a case. After a refused action it shows the reason and what was typed: in its form, or
    (`lost`) beside the reason if the case has changed so that the form is no longer there. `look` is the result of an
    inspection of one of its files, made just now.

    Raises NotFound, RoleMissing, ConflictOfInterest.
    """
    rt = runtime(request)
    inspected = None if look is None else look.inspected
    file = case_file(rt.context, case, as_staff(member), {look.sha256: inspected.again} if look and inspected else None)
    entered = typed or {}
    written = {name: entered[name] for name in TEXTS if entered.get(name, "").strip()}
    if error is not None:
        request.scope["state"]["code"] = error.code
    return render(
        request,
        "case.html",
        member.language,
        status=200 if error is None else TABLE[type(error)].status,
        **_shown(file, rt, member.language, look),
        typed={**_NOTHING_TYPED, **entered},
        written=written,
        lost=[text for name, text in written.items() if ("decide" if name == "reasons" else name) not in file.may],
        error=error,
        said=None if error is None else sentence(error, texts(member.language)),
        done=DONE.get(request.query_params.get("done", "")) if error is None else None,
    )


_NOTHING_TYPED = {"form": "", "outcome": "", "conduct": "", "assignee": ""}


def _shown(file: CaseFile, rt: Runtime, locale: str, look: InspectionAttempt | None) -> dict[str, object]:
    """Return the values of the page's template."""
    row, context = file.row, rt.context
    files = [
        *file.person_files,
        *file.new_files,
        *(kept for item in file.items for kept in (*item.files, item.matching) if kept),
    ]
    file_ids = {kept.id: encode_id("at", kept.id, context.service) for kept in files}
    return {
        "file": file,
        "row": row,
        "zone": zone_of(context.policy, row.profile),
        "due": due_of(row, context, file.now) if row.is_open else None,
        "may": {action.value for action in file.may},
        "outcomes": open_outcomes(row),
        "conducts": [(conduct, context.policy.severity[conduct]) for conduct in lighter_conducts(row, context.policy)],
        "proposed": proposed_decision(row),
        "letters": file.letters,
        "statute": row.profile.spec.clock_text,
        "choices": CHOICES,
        "effects": EFFECTS,
        "letter_names": LETTERS,
        "how": HOW,
        "entry_names": ENTRIES,
        "strengths": finding_texts.STRENGTHS,
        "trusts": finding_texts.TRUSTS,
        "not_signed": finding_texts.NOT_SIGNED,
        "verdicts": record_texts.VERDICTS,
        "every_type": len(EvidenceType),
        "numbers": lambda places: ", ".join(str(place + 1) for place in places),
        "file_ids": file_ids,
        "items": shown_items(rt, file, file_ids, locale, look),
        "contradicted": [place for place, item in enumerate(file.items) if item.support is Corroboration.CONTRADICTED],
        "finding_groups": GROUPS,
        "supports": SUPPORTS,
        "comparisons": COMPARISONS,
        "failures": FAILURES,
        "signed_severity": SIGNED_SEVERITY,
        "max_chars": MAX_TEXT_CHARS,
        "clock_zone": ZoneInfo(file.policy.clock.time_zone).key,
    }
