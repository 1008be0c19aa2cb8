"""Inspect files of a case again, as a report carries the inspection."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router
from api.console.case_pages import case_page
from api.console.forms import Written
from api.console.routes.queue import Reading
from api.deps import runtime
from api.web.files import file_response
from ledger.errors import Overloaded
from ledger.server.appeals.inspection import inspect_again, match_picture
from ledger.server.staff.accounts import as_staff

router = console_router()


@router.post("/cases/{case}/inspect")
def post_inspect(request: Request, form: Written, case: str, staff: Reading) -> Response:
    """Show the case with a new inspection of one of its files. Staff who may read the file may have it inspected. Text
    in the page's other forms is kept."""
    rt = runtime(request)
    try:
        look = inspect_again(rt.context, rt.settings, case, form.get("file", ""), as_staff(staff))
    except Overloaded as error:
        return case_page(request, case, staff, typed=form, error=error)
    return case_page(request, case, staff, typed=form, look=look)


@router.get("/cases/{case}/match")
def get_match(request: Request, case: str, staff: Reading) -> Response:
    """Send a picture of how `file` was made from the merchant's photo with the SHA-256 `listing`, drawn on request."""
    rt, query = runtime(request), request.query_params
    drawn = match_picture(
        rt.context, rt.settings, case, query.get("file", ""), query.get("listing", ""), as_staff(staff)
    )
    return file_response(drawn, "image/png", "match.png")
