"""The queue and the case: what reviewers and supervisors work on, and auditors read.

The server decides by the rules of `core.cases`, whatever a page offered. A form carries the number of the newest event
that its sender had seen: where the case has moved on since, nothing is done and what was typed is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import HOME, console_router, needs
from api.deps import runtime
from api.web.files import file_response
from api.web.forms import Form
from api.web.pages import redirect, render
from ledger.core.appeals import MAX_TEXT_CHARS, CaseState, Outcome, needs_signature
from ledger.core.cases import Staff
from ledger.core.conduct import Conduct
from ledger.core.ids import decode_id, encode_id
from ledger.core.policy import Profile
from ledger.errors import ActionRefused, DecisionInvalid, InvalidRequest, LedgerError, NotFound, RoleMissing
from ledger.i18n import LOCALES
from ledger.service import attachments, audit
from ledger.service.appeals import case_file as files
from ledger.service.appeals import queue as queues
from ledger.service.appeals import staff_actions as desk
from ledger.service.appeals.case_letters import letter_of, letters_of
from ledger.service.appeals.rows import zones
from ledger.service.letters import Letter
from ledger.service.staff import StaffMember
from ledger.store import attachments as attachment_store
from ledger.store import case_file as file_store
from ledger.store.engine import reading, writing
from ledger.store.queue import QueueFilter

router = console_router()

Reader = Annotated[StaffMember, Depends(needs("reviewer", "supervisor", "auditor"))]
"""Somebody who may see cases."""

Decider = Annotated[StaffMember, Depends(needs("reviewer", "supervisor"))]
"""Somebody who works on them."""

_VIEWS = ("open", "submitted", "mine", "sign", "overdue", "soon", "decided", "all")
_MAX_PAGE = 200


def _staff(member: StaffMember) -> Staff:
    return Staff(member.id, member.role, member.control_group)


# --- the queue ------------------------------------------------------------------------------------------------


@router.get("/queue")
def get_queue(request: Request, staff: Reader) -> Response:
    """Open cases, the most urgent first."""
    rt = runtime(request)
    given = {key: value for key, value in request.query_params.items() if value}
    page = given.pop("page", "1")
    number = int(page) if page.isdigit() and 0 < int(page[:6]) <= _MAX_PAGE else 1
    found = queues.queue(rt.context, _staff(staff), _filter(rt, staff, given), number)
    return render(
        request,
        "queue.html",
        found=found,
        rows=[_row(request, row) for row in found.rows],
        given=given,
        view=given.get("view", "open"),
        page=number,
        now=rt.now(),
        soon_days=queues.SOON_DAYS,
        conducts=list(Conduct),
        profiles=list(Profile),
        problem=None,
    )


def _filter(rt: Any, staff: StaffMember, given: Mapping[str, str]) -> QueueFilter:
    """What the query asks for; whatever is not a choice asks nothing."""
    view = given.get("view", "open")
    number: int | None = None
    if given.get("case"):
        try:
            number = decode_id("ap", given["case"].strip(), rt.settings.service)
        except InvalidRequest:
            number = -1
    states = {
        "submitted": (CaseState.SUBMITTED.value,),
        "decided": (CaseState.DECIDED.value, CaseState.CLOSED.value, CaseState.WITHDRAWN.value),
        "all": tuple(state.value for state in CaseState),
    }.get(view, ())
    severity = given.get("severity", "")
    return QueueFilter(
        states=states,
        reviewer_id=staff.id if view == "mine" else None,
        to_sign_by=staff.id if view == "sign" else None,
        overdue=view == "overdue",
        due_before=rt.now() + timedelta(days=queues.SOON_DAYS) if view == "soon" else None,
        profile=given.get("profile") if given.get("profile") in list(Profile) else None,
        conduct=given.get("conduct") if given.get("conduct") in list(Conduct) else None,
        severity=int(severity) if severity.isdigit() and len(severity) < 3 else None,
        platform=given.get("platform"),
        case_id=number,
    )


def _row(request: Request, row: Any) -> dict[str, Any]:
    rt = runtime(request)
    left = row.due_at - rt.now()
    return {
        "row": row,
        "public": encode_id("ap", row.id, rt.settings.service),
        "zone": zones(rt.policy)[Profile(row.profile)],
        "days_left": left.days,
    }


@router.post("/queue/next")
def post_next(request: Request, staff: Decider) -> Response:
    """Take the most urgent case."""
    try:
        public = queues.take_next(runtime(request).context, _staff(staff))
    except NotFound:
        return redirect(f"{HOME}?view=submitted&empty=1")
    return redirect(f"/console/cases/{public}")


# --- the case -------------------------------------------------------------------------------------------------


@router.get("/cases/{case}")
def get_case(request: Request, staff: Reader, case: str) -> Response:
    """Everything about a case."""
    return _case_page(request, staff, case, None, {})


def _case_page(
    request: Request,
    member: StaffMember,
    case: str,
    error: LedgerError | None,
    typed: Mapping[str, str],
    status: int = 200,
) -> Response:
    rt = runtime(request)
    staff = _staff(member)
    file = files.open_file(rt.context, case, staff)
    people = [
        (number, name)
        for number, (name, role, group) in sorted(file.names.items(), key=lambda one: one[1])
        if role in ("reviewer", "supervisor") and group != file.row.control_group and number != file.row.reviewer_id
    ]
    return render(
        request,
        "case.html",
        status=status,
        zone=file.zone,
        file=file,
        row=file.row,
        actions={action.value for action in file.actions},
        people=people,
        outcomes=list(Outcome),
        signed_outcomes=[
            one.value for one in (Outcome.UPHELD,) if needs_signature(one, rt.policy.severity[file.row.current_conduct])
        ],
        conducts=[one for one in Conduct if 0 < rt.policy.severity[one] <= file.row.severity],
        slots=files.kind_of_slot(file),
        severity_of=rt.policy.severity,
        clock=rt.policy.appeals.clocks[Profile(file.row.profile)],
        now=rt.now(),
        letters=[kind.value for kind in letters_of(file.row)],
        skippable=file.row.state == CaseState.SUBMITTED and member.role != "auditor",
        error=error,
        typed=typed,
        limit=MAX_TEXT_CHARS,
        at_id=lambda number: encode_id("at", number, rt.settings.service),
    )


@router.post("/cases/{case}/{action}")
def post_action(request: Request, staff: Decider, case: str, action: str, form: Form) -> Response:
    """Do something in a case."""
    work = _ACTIONS.get(action)
    if work is None:
        raise NotFound("There is no such action.")
    try:
        work(request, _staff(staff), case, form)
    except RoleMissing:
        raise
    except LedgerError as error:
        request.scope["state"]["code"] = error.code
        return _case_page(request, staff, case, error, form, status=409 if isinstance(error, ActionRefused) else 422)
    if action in ("hand-back", "skip"):
        return redirect(HOME)
    return redirect(f"/console/cases/{case}")


def _seen(form: Mapping[str, str]) -> int:
    """The newest event that the sender of the form had seen; 0, which no case has, where the form does not say."""
    number = form.get("seen", "")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0


def _assign(request: Request, staff: Staff, case: str, form: Mapping[str, str]) -> None:
    rt = runtime(request)
    with reading(rt.engine) as connection:
        names = file_store.staff_names(connection)
    number = int(form["assignee"]) if form.get("assignee", "").isdigit() else 0
    if number not in names:
        raise DecisionInvalid("Choose somebody to give the case to.")
    _, role, group = names[number]
    desk.assign(rt.context, case, staff, Staff(number, role, group), seen=_seen(form))


def _decide(request: Request, staff: Staff, case: str, form: Mapping[str, str]) -> None:
    outcome, conduct, slots = _decision(form)
    if form.get("sure") != "yes":
        raise DecisionInvalid("Tick the box that says you are sure: a decision cannot be taken back.")
    context = runtime(request).context
    desk.decide(context, case, staff, outcome, form.get("reasons", ""), conduct=conduct, slots=slots, seen=_seen(form))


def _decision(form: Mapping[str, str]) -> tuple[Outcome, Conduct | None, tuple[int, ...]]:
    """Raises DecisionInvalid."""
    try:
        outcome = Outcome(form.get("outcome", ""))
        conduct = Conduct(form.get("conduct", "")) if outcome is Outcome.AMENDED else None
    except ValueError as error:
        raise DecisionInvalid("Choose an outcome, and the conduct for `amended`.") from error
    slots = tuple(slot for slot in range(8) if form.get(f"slot{slot}") == "yes")
    return outcome, conduct, slots if outcome is Outcome.UNLINKED else ()


Work = Callable[[Request, Staff, str, Mapping[str, str]], object]


def _skip(request: Request, staff: Staff, case: str, form: Mapping[str, str]) -> None:
    queues.skip(runtime(request).context, case, staff)


def _with_text(work: Callable[..., object]) -> Work:
    """An action that takes what was typed."""
    return lambda request, staff, case, form: work(
        runtime(request).context, case, staff, form.get("text", ""), seen=_seen(form)
    )


def _plain(work: Callable[..., object]) -> Work:
    """An action that takes nothing more."""
    return lambda request, staff, case, form: work(runtime(request).context, case, staff, seen=_seen(form))


_ACTIONS: Mapping[str, Work] = {
    "take": _plain(desk.take),
    "assign": _assign,
    "hand-back": _with_text(desk.hand_back),
    "skip": _skip,
    "note": _with_text(desk.note),
    "ask-reporter": _with_text(desk.ask_reporter),
    "ask-subject": _with_text(desk.ask_subject),
    "extend": _with_text(desk.extend),
    "decide": _decide,
    "sign": _plain(desk.sign),
    "decline": _with_text(desk.decline),
}
"""What a form can ask for, by the last part of its address."""


# --- letters and files ----------------------------------------------------------------------------------------


@router.post("/letters/{case}/preview")
def post_preview(request: Request, staff: Decider, case: str, form: Form) -> Response:
    """The letter that a decision would make; nothing is decided. A POST, so that reasons are in no address."""
    rt = runtime(request)
    locale = form.get("locale", "")
    try:
        outcome, conduct, slots = _decision(form)
        made = files.preview(
            rt.context,
            case,
            _staff(staff),
            outcome,
            form.get("reasons", "").strip() or "…",
            conduct,
            slots,
            locale if locale in LOCALES else staff.language,
        )
    except DecisionInvalid as error:
        return _case_page(request, staff, case, error, form, status=422)
    return _letter_page(request, case, made, draft=True)


@router.get("/letters/{case}/{kind}")
def get_letter(request: Request, staff: Reader, case: str, kind: str, locale: str | None = None) -> Response:
    """A letter as it was or will be sent, to read and to print."""
    rt = runtime(request)
    with writing(rt.engine) as connection:
        row = files.visible_case(connection, rt.context, case, _staff(staff))
        made = letter_of(connection, row, rt.context, kind, locale if locale in LOCALES else row.locale)
        audit.record(connection, rt.now(), staff.id, "letter_read", "appeal", case, kind)
    return _letter_page(request, case, made, draft=False)


def _letter_page(request: Request, case: str, made: Letter, *, draft: bool) -> Response:
    return render(request, "letter.html", case=case, letter=made, draft=draft)


@router.get("/files/{case}/{attachment}")
def get_file(request: Request, staff: Reader, case: str, attachment: str) -> Response:
    """A file of the case. It is its own origin's in name only: the headers let it run nothing."""
    rt = runtime(request)
    with writing(rt.engine) as connection:
        row = files.visible_case(connection, rt.context, case, _staff(staff))
        try:
            number = decode_id("at", attachment, rt.settings.service)
        except InvalidRequest as error:
            raise NotFound("There is no such file.") from error
        one = attachment_store.get(connection, number)
        if one is None or one.case_id != row.id:
            raise NotFound("There is no such file.")
        audit.record(connection, rt.now(), staff.id, "file_read", "appeal", case, attachment)
    data = attachments.read(rt.settings, one.file)
    return file_response(data, attachments.serving_headers(one.media_type, one.name))
