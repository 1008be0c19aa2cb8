"""The dashboard: plots, each with its numbers as a table."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import Signed, console_router
from api.console.figures import NAMES, figures
from api.console.plots import SIZES, draw
from api.deps import runtime
from api.web.pages import render
from api.web.security import page_headers
from ledger.errors import InvalidRequest, NotFound
from ledger.i18n import texts
from ledger.server.stats.dashboard import DEFAULT_RANGE_DAYS, RANGES_DAYS, dashboard

router = console_router()


@router.get("/dashboard")
def get_dashboard(request: Request, staff: Signed) -> Response:
    """Show all figures over `?days=`."""
    rt, days = runtime(request), _days(request)
    data = dashboard(rt.engine, rt.policy, rt.now(), days, staff.control_group)
    return render(
        request,
        "dashboard.html",
        staff.language,
        figures=figures(data, texts(staff.language)),
        days=days,
        ranges=RANGES_DAYS,
        bound=staff.control_group,
        now=data.now,
    )


@router.get("/dashboard/{name}.svg")
def get_plot(request: Request, staff: Signed, name: str) -> Response:
    """Send one plot over `?days=`, in the size `?size=`."""
    rt = runtime(request)
    size = request.query_params.get("size", "wide")
    if name not in NAMES or size not in SIZES:
        raise NotFound("There is nothing at this path.")
    data = dashboard(rt.engine, rt.policy, rt.now(), _days(request), staff.control_group)
    drawn = next(figure for figure in figures(data, texts(staff.language)) if figure.name == name)
    svg = draw(drawn.plot, size)
    return Response(svg, media_type="image/svg+xml", headers=page_headers())


def _days(request: Request) -> int:
    typed = request.query_params.get("days", str(DEFAULT_RANGE_DAYS))
    if typed not in {str(days) for days in RANGES_DAYS}:
        raise InvalidRequest("A range is 30, 90 or 365 days.")
    return int(typed)
