"""The queue: open cases, the most urgent first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router, needs
from api.console.case_pages import due_of
from api.console.forms import MAX_SMALL, number
from api.deps import runtime
from api.web.pages import redirect, render
from ledger.errors import InvalidRequest, NotFound
from ledger.rules.appeals import OPEN_STATES
from ledger.server.appeals import queue as service
from ledger.server.appeals.queue import RequestedFilter
from ledger.server.staff.accounts import StaffMember, as_staff

router = console_router()

Reading = Annotated[StaffMember, Depends(needs("reviewer", "supervisor", "auditor"))]
"""Roles that read cases."""

Acting = Annotated[StaffMember, Depends(needs("reviewer", "supervisor"))]
"""Roles that work on cases."""

MAX_DAYS = 3650
"""The largest number of days of the filter of due dates."""

FIELDS = ("state", "mine", "to_sign", "due_days", "profile", "conduct", "severity", "platform", "case")


@router.get("/queue")
def get_queue(request: Request, staff: Reading) -> Response:
    """Show one page of the queue, filtered."""
    context = runtime(request).context
    given = {name: request.query_params.get(name, "").strip()[:64] for name in FIELDS}
    try:
        after = request.query_params.get("after") or None
        cases, problem = service.queue_page(context, as_staff(staff), _asked(given), after), False
    except (InvalidRequest, NotFound):
        cases, problem = service.queue_page(context, as_staff(staff), RequestedFilter()), True
    filtered = {name: value for name, value in given.items() if value}
    return render(
        request,
        "queue.html",
        staff.language,
        status=422 if problem else 200,
        found=cases,
        lines=[(line, due_of(line.row, context, cases.now)) for line in cases.lines],
        open_states=OPEN_STATES,
        given=given,
        filtered=bool(filtered),
        next_page=None if cases.after is None else urlencode({**filtered, "after": cases.after}),
        first_page=urlencode(filtered) if request.query_params.get("after") else None,
        problem=problem,
        nothing=request.query_params.get("nothing") == "1",
        acts=staff.role in ("reviewer", "supervisor"),
    )


@router.post("/queue/next")
def post_next(request: Request, staff: Acting) -> Response:
    """Take the most urgent case that waits for this member of staff."""
    case = service.next_case(runtime(request).context, as_staff(staff))
    return redirect("/console/queue?nothing=1" if case is None else f"/console/cases/{case}?done=take")


def _asked(given: Mapping[str, str]) -> RequestedFilter:
    """Return the numbers of the query. Raises InvalidRequest for a value that is not a number."""
    return RequestedFilter(
        state=given["state"] or None,
        mine=given["mine"] == "1",
        to_sign=given["to_sign"] == "1",
        due_days=number(given["due_days"], MAX_DAYS) if given["due_days"] else None,
        profile=given["profile"] or None,
        conduct=given["conduct"] or None,
        severity=number(given["severity"], MAX_SMALL) if given["severity"] else None,
        platform=given["platform"] or None,
        case=given["case"] or None,
    )
