"""The audit log: for auditors, supervisors and admins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.console.auth import AuditReader, console_router
from api.deps import runtime
from api.web.pages import render
from api.web.security import page_headers
from ledger.errors import InvalidRequest
from ledger.protocol.encoding import format_time
from ledger.server.db.engine import writing
from ledger.server.staff import audit
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import EventFilter

FIELDS = ("staff", "action", "object", "from", "to")
MAX_ID = 2**63 - 1
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

router = console_router()


@router.get("/audit")
def get_audit(request: Request, staff: AuditReader) -> Response:
    """Show one page of the log, filtered."""
    engine = runtime(request).engine
    given = _given(request)
    try:
        event_filter, problem = _filter(given), None
        before = _before(request)
    except InvalidRequest as error:
        event_filter, before, problem = EventFilter(), None, str(error)
    events = audit.page(engine, event_filter, staff.control_group, before)
    shown = {name: value for name, value in given.items() if value}
    return render(
        request,
        "audit.html",
        staff.language,
        status=200 if problem is None else 422,
        events=events.events,
        older=None if events.older is None else urlencode({**shown, "before": events.older}),
        newest=urlencode(shown) if before is not None else None,
        query=urlencode(shown),
        actions=audit.actions(engine, staff.control_group),
        bound=staff.control_group,
        given=given,
        problem=problem,
    )


@router.get("/audit/export.csv")
def get_csv(request: Request, staff: AuditReader) -> Response:
    """Send all rows of the filter as CSV."""
    return _export(request, staff, "csv")


@router.get("/audit/export.jsonl")
def get_lines(request: Request, staff: AuditReader) -> Response:
    """Send all rows of the filter as JSON lines."""
    return _export(request, staff, "jsonl")


def _export(request: Request, staff: StaffMember, form: str) -> Response:
    rt = runtime(request)
    event_filter = _filter(_given(request))
    now = rt.now()
    with writing(rt.engine) as connection:
        audit.record(connection, now, staff.id, "audit_exported", detail=form)
    if form == "csv":
        rows, media_type = audit.export_csv(rt.engine, event_filter, staff.control_group), "text/csv; charset=utf-8"
    else:
        rows, media_type = audit.export_lines(rt.engine, event_filter, staff.control_group), "application/jsonl"
    name = f"audit-{format_time(now)[:10]}.{form}"
    headers = {**page_headers(), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rows, headers=headers, media_type=media_type)


def _given(request: Request) -> dict[str, str]:
    return {name: request.query_params.get(name, "").strip() for name in FIELDS}


def _filter(given: Mapping[str, str]) -> EventFilter:
    """Return the filter of the query. Return the filter of the query. Raises InvalidRequest."""
    until = _day(given["to"])
    kind, _, number = given["object"].partition(" ")
    is_pair = bool(number)
    for word in (given["staff"], given["action"], kind, number):
        if word and not _WORD.match(word):
            raise InvalidRequest("A filter holds a name, an action or a public id.")
    return EventFilter(
        staff_name=given["staff"] or None,
        action=given["action"] or None,
        object_type=kind if is_pair else None,
        object_id=(number if is_pair else kind) or None,
        since=_day(given["from"]),
        until=None if until is None else until + timedelta(days=1),
    )


def _day(text: str) -> datetime | None:
    """Return the beginning of a UTC day. Raises InvalidRequest."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("A day has the form 2026-01-31.") from error
    if not 2000 <= day.year <= 9000:
        raise InvalidRequest("A day has the form 2026-01-31.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _before(request: Request) -> int | None:
    text = request.query_params.get("before", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > MAX_ID:
        raise InvalidRequest("There is no such page.")
    return int(text)
