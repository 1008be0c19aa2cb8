"""Held reports, which a supervisor releases or refuses, and reporters' requests to reopen a case."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router
from api.console.case_pages import REFUSED_HERE
from api.console.forms import Written, number
from api.console.routes.queue import Acting, Reading
from api.deps import runtime
from api.web.messages import sentence
from api.web.pages import redirect, render
from ledger.errors import InvalidRequest, LedgerError
from ledger.i18n import texts
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from ledger.server.reports import held as service
from ledger.server.staff.accounts import StaffMember, as_staff

PAGE = "/console/held"

router = console_router()


class HeldStep(StrEnum):
    """A step on a held report."""

    RELEASE = "release"
    SIGN = "sign"
    REFUSE = "refuse"


class RequestAnswer(StrEnum):
    """The answer to a request to reopen a case."""

    GRANT = "grant"
    REFUSE = "refuse"


def _(text: str) -> str:
    """Mark a text for the catalogues."""
    return text


NOT_TICKED = _("Tick the box to confirm.")


@router.get("/held")
def get_held(request: Request, staff: Reading) -> Response:
    """Show all held reports and all open requests."""
    return _list_page(request, staff, None, {})


@router.get("/held/{report}")
def get_report(request: Request, staff: Reading, report: str) -> Response:
    """Show one held report."""
    return _report_page(request, staff, report, None, {})


@router.post("/held/{report}/{step}")
def post_step(request: Request, form: Written, staff: Acting, report: str, step: HeldStep) -> Response:
    """Release a held report, sign a release, or refuse it."""
    try:
        if form.get("confirmed") != "yes":
            raise InvalidRequest(NOT_TICKED)
        _do(runtime(request).context, as_staff(staff), report, step, form)
    except REFUSED_HERE as error:
        return _report_page(request, staff, report, error, {**form, "form": step.value})
    return redirect(f"{PAGE}?done={step}")


@router.post("/reopenings/{case}/{answer}")
def post_answer(request: Request, form: Written, staff: Acting, case: str, answer: RequestAnswer) -> Response:
    """Grant or refuse a reporter's request."""
    context, reasons = runtime(request).context, form.get("reasons", "")
    act = staff_actions.grant_reopening if answer is RequestAnswer.GRANT else staff_actions.refuse_reopening
    try:
        act(context, case, as_staff(staff), reasons)
    except REFUSED_HERE as error:
        return _list_page(request, staff, error, {**form, "case": case})
    return redirect(f"{PAGE}?done=reopening")


def _do(context: Context, staff: Staff, report: str, step: HeldStep, form: Mapping[str, str]) -> None:
    seen, reasons = number(form.get("seen", "")), form.get("reasons", "")
    if step is HeldStep.RELEASE:
        service.release(context, report, staff, reasons, seen=seen)
    elif step is HeldStep.SIGN:
        service.sign_release(context, report, staff, seen=seen)
    else:
        service.refuse_release(context, report, staff, reasons, seen=seen)


def _list_page(request: Request, staff: StaffMember, error: LedgerError | None, given: Mapping[str, str]) -> Response:
    context = runtime(request).context
    return render(
        request,
        "held.html",
        staff.language,
        status=_status(request, error),
        reports=service.held_queue(context, as_staff(staff)),
        requests=staff_actions.open_requests(context, as_staff(staff)),
        acts=staff.role in ("reviewer", "supervisor"),
        done=request.query_params.get("done", ""),
        problem=_problem(staff, error),
        given=given,
    )


def _report_page(
    request: Request, staff: StaffMember, report: str, error: LedgerError | None, given: Mapping[str, str]
) -> Response:
    """Return the page of a held report. Raises NotFound, ConflictOfInterest, and ActionRefused if it is not held any
    longer."""
    held = service.held_report(runtime(request).context, report, as_staff(staff))
    return render(
        request,
        "held_report.html",
        staff.language,
        status=_status(request, error),
        one=held,
        releases=staff.role == "supervisor",
        signs=staff.role in ("reviewer", "supervisor") and held.row.proposer_id not in (None, staff.id),
        problem=_problem(staff, error),
        given=given,
    )


def _status(request: Request, error: LedgerError | None) -> int:
    if error is None:
        return 200
    request.scope["state"]["code"] = error.code
    return 422


def _problem(staff: StaffMember, error: LedgerError | None) -> str | None:
    return None if error is None else sentence(error, texts(staff.language))
