"""Open one's record, read it, download it, and add a statement to a report."""

from __future__ import annotations

import re
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.consumer.json import export_response
from api.consumer.pages import ended_page, minutes_left, page, said_of
from api.consumer.session import COOKIE, PATH, Reading, Sending, cookie_token, me_router, open_session
from api.deps import runtime
from api.web.cookies import drop_cookie, set_cookie
from api.web.forms import Form
from api.web.pages import locale_of, redirect
from ledger.errors import AppealInvalid, NotFound, SessionExpired
from ledger.server.appeals import consumer, sessions
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.runtime import Runtime

router = me_router()

_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@router.get("")
def get_record(request: Request) -> Response:
    """Show the record, or without a session how to open it."""
    session = open_session(request)
    if session is None:
        return page(request, "open.html", ended=cookie_token(request) is not None, refused=False, text="")
    rt = runtime(request)
    record = own_record(rt.context, rt.members.weights(), session)
    return page(request, "record.html", session, record=record, minutes=minutes_left(session, rt.now()))


@router.get("/open")
async def get_open(request: Request) -> Response:
    """Show how to open a record, also while another one is open: a new link has arrived."""
    return page(request, "open.html", ended=False, refused=False, text="")


@router.post("/open")
def post_open(request: Request, form: Form) -> Response:
    """Exchange the link's code for a session. The person may paste the code or the whole link.

    An earlier session of the browser is ended: an attacker cannot have their own link opened in it.
    """
    rt, now = runtime(request), runtime(request).now()
    code = form.get("code", "").strip().rpartition("#")[2]
    sessions.end_session(rt.engine, cookie_token(request), now)
    try:
        if not _CODE.match(code):
            raise SessionExpired("This is no code of a link.")
        token = sessions.redeem(rt.engine, rt.settings, code, now, secrets.token_bytes)
    except SessionExpired:
        return ended_page(request, refused=True)
    response = redirect(PATH)
    set_cookie(request, response, COOKIE, PATH, token)
    return response


@router.post("/end")
def post_end(request: Request) -> Response:
    """End the session."""
    rt = runtime(request)
    sessions.end_session(rt.engine, cookie_token(request), rt.now())
    response = redirect(f"{PATH}/ended")
    drop_cookie(request, response, COOKIE, PATH)
    return response


@router.get("/ended")
async def get_ended(request: Request) -> Response:
    """Show what to do after a session."""
    return page(request, "ended.html")


@router.get("/download")
def get_download(request: Request, session: Reading) -> Response:
    """Send the whole record as a document."""
    return export_response(runtime(request), session, locale_of(request))


@router.get("/statement")
def get_statement(request: Request, session: Reading) -> Response:
    """Show the form for a statement on a report."""
    report = find_report(runtime(request), session, request.query_params.get("report", ""))
    text = report["statement"]["text"] if report["statement"] else ""
    return page(request, "statement.html", session, report=report, text=text)


@router.post("/statement")
def post_statement(request: Request, sent: Sending) -> Response:
    """Store the statement."""
    rt, report_id, text = runtime(request), sent.field("report"), sent.field("text")
    try:
        consumer.add_statement(rt.context, sent.session, report_id, text, locale_of(request))
    except AppealInvalid as error:
        report = find_report(rt, sent.session, report_id)
        errors = [("text", said_of(error, locale_of(request)))]
        return page(request, "statement.html", sent.session, status=422, report=report, text=text, errors=errors)
    return redirect(f"{PATH}#{report_id}")


def find_report(rt: Runtime, session: SubjectSessionRow, public: str) -> dict[str, Any]:
    """Return a report of the person's record. Raises NotFound."""
    record = own_record(rt.context, rt.members.weights(), session)
    for report in record["reports"]:
        if report["id"] == public:
            return dict(report)
    raise NotFound("This report is not in the ledger (any more), or not about you.")
