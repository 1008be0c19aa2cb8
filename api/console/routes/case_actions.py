"""Actions of reviewers and supervisors in a case: one form each. The service checks all rules, whatever a page offered;
a refused action returns to the case page with the entered text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router
from api.console.case_pages import REFUSED_HERE, case_page
from api.console.forms import Written, draft_of, seen_of
from api.console.routes.cases import show_preview
from api.console.routes.queue import Acting, Reading
from api.deps import runtime
from api.web.pages import redirect
from ledger.errors import DecisionInvalid, NotFound
from ledger.rules.appeals import CaseState
from ledger.rules.case_machine import Staff
from ledger.server.appeals import queue, staff_actions
from ledger.server.appeals.case_page import check_open
from ledger.server.staff.accounts import StaffMember, as_staff, working_staff

router = console_router()


def _done(
    request: Request, case: str, member: StaffMember, form: Mapping[str, str], name: str, act: Callable[[], object]
) -> Response:
    """Run the action and return to the case, or show the case with the entered text and the reason for the refusal.

    Raises NotFound, ConflictOfInterest, LogFrozen, DatabaseUnavailable, which have pages of their own.
    """
    check_open(runtime(request).context, case, as_staff(member))
    try:
        act()
    except REFUSED_HERE as error:
        return case_page(request, case, member, typed={**form, "form": name}, error=error)
    return redirect(f"/console/cases/{case}?done={name}")


@router.post("/cases/{case}/take")
def post_take(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Take a waiting case."""
    context = runtime(request).context
    return _done(
        request, case, staff, form, "take",
        lambda: staff_actions.take(context, case, as_staff(staff), seen=seen_of(form)),
    )  # fmt: skip


@router.post("/cases/{case}/assign")
def post_assign(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Assign the case to a reviewer or supervisor, as a supervisor."""
    context = runtime(request).context

    def act() -> None:
        assignee = _colleague(request, form.get("assignee", ""))
        staff_actions.assign(context, case, as_staff(staff), assignee, seen=seen_of(form))

    return _done(request, case, staff, form, "assign", act)


@router.post("/cases/{case}/skip")
def post_skip(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Pass over a waiting case."""
    return _done(
        request, case, staff, form, "skip", lambda: queue.skip(runtime(request).context, case, as_staff(staff))
    )  # fmt: skip


@router.post("/cases/{case}/hand-back")
def post_hand_back(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Put the case back into the queue, with a note if there is one."""
    context, note = runtime(request).context, form.get("hand_back", "").strip() or None
    return _done(
        request, case, staff, form, "hand_back",
        lambda: staff_actions.hand_back(context, case, as_staff(staff), note, seen=seen_of(form)),
    )  # fmt: skip


@router.post("/cases/{case}/note")
def post_note(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Add an internal note."""
    return _written(request, case, staff, form, "note", staff_actions.note)


@router.post("/cases/{case}/ask-reporter")
def post_ask_reporter(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Ask the platform that made the report a question."""
    return _written(request, case, staff, form, "ask_reporter", staff_actions.ask_reporter)


@router.post("/cases/{case}/ask-subject")
def post_ask_subject(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Ask the person a question."""
    return _written(request, case, staff, form, "ask_subject", staff_actions.ask_subject)


@router.post("/cases/{case}/extend")
def post_extend(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Use the statute's extension."""
    return _written(request, case, staff, form, "extend", staff_actions.extend)


@router.post("/cases/{case}/decline")
def post_decline(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Refuse the second signature."""
    return _written(request, case, staff, form, "decline", staff_actions.decline)


@router.post("/cases/{case}/sign")
def post_sign(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Give the second signature; the box that confirms it must be ticked."""
    context = runtime(request).context

    def act() -> None:
        if form.get("confirmed") != "yes":
            raise DecisionInvalid("Tick the box that says you have read the case and the letter.")
        staff_actions.sign(context, case, as_staff(staff), seen=seen_of(form))

    return _done(request, case, staff, form, "sign", act)


@router.post("/cases/{case}/decide")
def post_decide(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Decide, or propose a decision that needs two people. Without `confirmed` the letter is shown first."""
    context = runtime(request).context
    if form.get("confirmed") != "yes":
        return show_preview(request, case, staff, form)
    check_open(context, case, as_staff(staff))
    try:
        draft = draft_of(form)
        row = staff_actions.decide(
            context, case, as_staff(staff), draft.outcome, draft.reasons,
            conduct=draft.conduct, slots=draft.slots, seen=seen_of(form),
        )  # fmt: skip
    except REFUSED_HERE as error:
        return case_page(request, case, staff, typed={**form, "form": "decide"}, error=error)
    name = "propose" if row.state == CaseState.AWAITING_SIGNOFF else "decide"
    return redirect(f"/console/cases/{case}?done={name}")


def _written(
    request: Request, case: str, staff: StaffMember, form: Mapping[str, str], name: str, act: Callable[..., object]
) -> Response:
    """Run an action that is a text; its field has the same name."""
    context = runtime(request).context
    return _done(
        request, case, staff, form, name,
        lambda: act(context, case, as_staff(staff), form.get(name, ""), seen=seen_of(form)),
    )  # fmt: skip


def _colleague(request: Request, staff_id: str) -> Staff:
    """Return the member of staff of this id. Raises DecisionInvalid if there is no such active account."""
    known = staff_id.isascii() and staff_id.isdigit() and len(staff_id) < 19
    account = working_staff(runtime(request).engine, int(staff_id)) if known else None
    if account is None:
        raise DecisionInvalid("Choose somebody to give the case to.")
    return as_staff(account)


STEPS = frozenset(route.path.rpartition("/")[2] for route in router.routes if isinstance(route, APIRoute))


@router.get("/cases/{case}/{step}")
def get_step(case: str, step: str, staff: Reading) -> Response:
    """Return to the case from the address of a form, which is opened when another language is chosen after a
    refusal."""
    if step not in STEPS | {"preview", "edit", "inspect"}:
        raise NotFound("There is no such page.")
    return redirect(f"/console/cases/{case}")
