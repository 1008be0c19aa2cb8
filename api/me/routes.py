"""The pages at /me. Plain forms, no script needed but for one convenience: the link's code is taken from the address.

The code of a link stands in the fragment, which browsers do not send. `me.js` puts it into the form; a person without
JavaScript copies it there. It is redeemed by a POST, so that whoever previews links does not use it up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from api.me.uploads import read_upload
from api.web.cookies import drop_cookie, read_cookie, set_cookie
from api.web.files import file_response
from api.web.forms import Form
from api.web.pages import locale_of, redirect, render
from api.web.security import check_same_origin, page_headers
from ledger.core.appeals import MAX_TEXT_CHARS, Grounds
from ledger.core.encoding import parse_time
from ledger.core.ids import decode_id, encode_id
from ledger.core.policy import Profile
from ledger.errors import InvalidRequest, LedgerError, NotFound, SessionExpired
from ledger.i18n import LOCALES
from ledger.service import attachments
from ledger.service.appeals import sessions, subject
from ledger.service.appeals.case_letters import letter_of, letters_of
from ledger.service.appeals.export import export
from ledger.service.appeals.files import drafted, keep_file
from ledger.service.appeals.own_record import own_record
from ledger.service.appeals.parties import check_party
from ledger.service.appeals.rows import zone_of
from ledger.service.appeals.transaction import case_number, changing, load_case
from ledger.store import appeals as store
from ledger.store import attachments as attachment_store
from ledger.store.appeals import CaseRow
from ledger.store.engine import reading
from ledger.store.subject_sessions import SessionRow

COOKIE, COOKIE_PATH = "me", "/me"
MAX_CODE_CHARS = 200

router = APIRouter(prefix="/me", include_in_schema=False, dependencies=[Depends(check_same_origin)])


def _session(request: Request) -> SessionRow:
    """The session behind the cookie. Raises SessionExpired."""
    rt = runtime(request)
    row = sessions.session_of(rt.engine, read_cookie(request, COOKIE, COOKIE_PATH), rt.now())
    state = request.scope["state"]
    state["locale"] = request.cookies.get("lang") if request.cookies.get("lang") in LOCALES else row.locale
    return row


Mine = Annotated[SessionRow, Depends(_session)]
"""The person's open session."""


# --- opening and ending -------------------------------------------------------------------------------------------


@router.get("")
def get_me(request: Request) -> Response:
    """The record, or the form for a link's code."""
    try:
        session = _session(request)
    except SessionExpired:
        return _open_page(request, None)
    return _record_page(request, session, None, {})


def _open_page(request: Request, error: LedgerError | None) -> Response:
    asked = request.query_params.get("lang")
    locale = asked if asked in LOCALES else request.cookies.get("lang")
    chosen = locale if locale in LOCALES else locale_of(request)
    return render(request, "open.html", chosen, status=200 if error is None else 401, error=error)


@router.post("/open")
def post_open(request: Request, form: Form) -> Response:
    """Change the link's code for a session, once. A session that the browser brought along is not continued."""
    rt = runtime(request)
    code = form.get("code", "").strip().rpartition("#")[2][:MAX_CODE_CHARS]
    try:
        token = sessions.redeem(rt.engine, rt.settings, code, rt.now(), secrets.token_bytes)
    except SessionExpired as error:
        request.scope["state"]["code"] = error.code
        return _open_page(request, error)
    sessions.end_session(rt.engine, read_cookie(request, COOKIE, COOKIE_PATH), rt.now())
    response = redirect("/me")
    set_cookie(request, response, COOKIE, COOKIE_PATH, token)
    return response


@router.post("/end")
def post_end(request: Request) -> Response:
    """End the session, if there still is one."""
    rt = runtime(request)
    sessions.end_session(rt.engine, read_cookie(request, COOKIE, COOKIE_PATH), rt.now())
    response = redirect("/me")
    drop_cookie(request, response, COOKIE, COOKIE_PATH)
    return response


@router.post("/language")
def post_language(request: Request, form: Form) -> Response:
    """Choose the language of these pages, in this browser."""
    response = redirect("/me")
    wanted = form.get("language", "")
    if wanted in LOCALES:
        response.set_cookie("lang", wanted, path=COOKIE_PATH, httponly=True, samesite="strict")
    return response


# --- the record ---------------------------------------------------------------------------------------------------


def _record(request: Request, session: SessionRow) -> dict[str, Any]:
    rt = runtime(request)
    return own_record(rt.context, rt.members.weights(), session)


def _record_page(
    request: Request, session: SessionRow, error: LedgerError | None, typed: Mapping[str, str], status: int = 200
) -> Response:
    rt = runtime(request)
    record = _record(request, session)
    return render(
        request,
        "record.html",
        status=status,
        record=record,
        session=session,
        zone=zone_of(rt.policy, session.profile),
        parse=parse_time,
        zone_for=lambda profile: zone_of(rt.policy, Profile(profile)),
        now=rt.now(),
        error=error,
        typed=typed,
        limit=MAX_TEXT_CHARS,
    )


@router.get("/record.json")
def get_export(request: Request, session: Mine) -> Response:
    """Everything, for machines: the person's copy of their data (GDPR art. 15 and 20, PIPL art. 45)."""
    rt = runtime(request)
    body = orjson.dumps(export(rt.context, rt.members.weights(), session), option=orjson.OPT_INDENT_2)
    headers = {**page_headers(), "Content-Disposition": 'attachment; filename="refund-credit-record.json"'}
    return Response(body, headers=headers, media_type="application/json")


# --- contesting ---------------------------------------------------------------------------------------------------


@router.get("/appeal")
def get_appeal(request: Request, session: Mine, report: str = "", grounds: str = "") -> Response:
    """The form to contest a report."""
    return _appeal_page(request, session, report, None, {"grounds": grounds})


def _appeal_page(
    request: Request, session: SessionRow, report: str, error: LedgerError | None, typed: Mapping[str, str]
) -> Response:
    rt = runtime(request)
    found = [one for one in _record(request, session)["reports"] if one["id"] == report]
    if not found or (not found[0]["appealable"] and error is None):
        raise NotFound("There is no report of this number that you can contest.")
    return render(
        request,
        "appeal.html",
        status=200 if error is None else 422,
        one=found[0],
        others=[one for one in _record(request, session)["reports"] if one["appealable"] and one["id"] != report],
        grounds=list(Grounds),
        session=session,
        zone=zone_of(rt.policy, session.profile),
        parse=parse_time,
        error=error,
        typed=typed,
        limit=MAX_TEXT_CHARS,
    )


@router.post("/appeal")
def post_appeal(request: Request, session: Mine, form: Form) -> Response:
    """Contest one report, and others with it."""
    rt = runtime(request)
    report = form.get("report", "")
    wanted = [report, *(name[5:] for name, value in form.items() if name.startswith("also_") and value == "yes")]
    locale = locale_of(request)
    try:
        rows = subject.appeal(rt.context, session, wanted, form.get("grounds", ""), form.get("statement", ""), locale)
    except LedgerError as error:
        request.scope["state"]["code"] = error.code
        return _appeal_page(request, session, report, error, form)
    return redirect(f"/me/cases/{encode_id('ap', rows[0].id, rt.settings.service)}?new=1")


# --- a case -------------------------------------------------------------------------------------------------------


@router.get("/cases/{case}")
def get_case(request: Request, session: Mine, case: str) -> Response:
    """A case, from the person's side."""
    return _case_page(request, session, case, None, {})


def _case_page(
    request: Request,
    session: SessionRow,
    case: str,
    error: LedgerError | None,
    typed: Mapping[str, str],
    status: int = 200,
) -> Response:
    rt = runtime(request)
    found = [
        one for one in _record(request, session)["reports"] if one["case"] is not None and one["case"]["id"] == case
    ]
    if not found:
        raise NotFound("You have no case of this number.")
    view = found[0]["case"]
    with reading(rt.engine) as connection:
        row = store.case(connection, case_number(rt.context, case))
        assert row is not None
        kinds = [kind.value for kind in letters_of(row)]
        routes = letter_of(connection, row, rt.context, kinds[-1], locale_of(request), session.platform)
    return render(
        request,
        "case.html",
        status=status,
        one=found[0],
        case=view,
        letters=kinds,
        letter=routes,
        zone=zone_of(rt.policy, Profile(view["profile"])),
        parse=parse_time,
        new=request.query_params.get("new") == "1",
        session=session,
        now=rt.now(),
        error=error,
        typed=typed,
        limit=MAX_TEXT_CHARS,
        size_limit_mib=rt.settings.attachment_limit_bytes // (1024 * 1024),
    )


def _done(
    request: Request, session: SessionRow, case: str, form: Mapping[str, str], work: Callable[[], object]
) -> Response:
    """Do it and show the case; what was typed is kept where it is refused."""
    try:
        work()
    except NotFound:
        raise
    except LedgerError as error:
        request.scope["state"]["code"] = error.code
        return _case_page(request, session, case, error, form, status=422)
    return redirect(f"/me/cases/{case}")


@router.post("/cases/{case}/messages")
def post_message(request: Request, session: Mine, case: str, form: Form) -> Response:
    """Answer the question, or add something."""
    context = runtime(request).context
    return _done(request, session, case, form, lambda: subject.add(context, session, case, form.get("text", "")))


@router.post("/cases/{case}/withdraw")
def post_withdraw(request: Request, session: Mine, case: str, form: Form) -> Response:
    """Take the appeal back."""
    context = runtime(request).context

    def work() -> None:
        if form.get("sure") != "yes":
            raise InvalidRequest("Tick the box first: the report will count again.")
        subject.take_back(context, session, case)

    return _done(request, session, case, form, work)


@router.post("/cases/{case}/reopen")
def post_reopen(request: Request, session: Mine, case: str, form: Form) -> Response:
    """Contest the decision once more."""
    context = runtime(request).context
    return _done(
        request, session, case, form, lambda: subject.contest_again(context, session, case, form.get("text", ""))
    )


@router.post("/statements")
def post_statement(request: Request, session: Mine, form: Form) -> Response:
    """A statement of one's own beside a report."""
    context = runtime(request).context
    try:
        subject.state(context, session, form.get("report", ""), form.get("text", ""), locale_of(request))
    except LedgerError as error:
        request.scope["state"]["code"] = error.code
        return _record_page(request, session, error, form, status=422)
    return redirect("/me")


@router.post("/cases/{case}/attachments")
async def post_file(request: Request, session: Mine, case: str) -> Response:
    """Hand in a file."""
    rt = runtime(request)

    def keep(name: str, data: bytes) -> None:
        speaker = subject.speaker_of(session)
        number = case_number(rt.context, case)
        with changing(rt.context) as batch:  # before anything of a stranger's is written to disk
            check_party(batch, load_case(batch, number), speaker)
        checked = attachments.check_file(data, name, rt.settings)
        with drafted(rt.settings, data, secrets.token_bytes) as draft, changing(rt.context) as batch:
            keep_file(batch, rt.settings, load_case(batch, number), speaker, checked, draft)

    try:
        name, data = await read_upload(request, rt.settings)
        await to_thread.run_sync(keep, name, data)
    except NotFound:
        raise
    except LedgerError as error:
        refused = error
        request.scope["state"]["code"] = error.code
        return await to_thread.run_sync(lambda: _case_page(request, session, case, refused, {}, 422))
    return redirect(f"/me/cases/{case}")


def _own_case(request: Request, session: SessionRow, case: str, connection: Any) -> CaseRow:
    """Raises NotFound unless the case is about the person."""
    rt = runtime(request)
    row = store.case(connection, case_number(rt.context, case))
    tags = [tag for _, tag in session.subjects]
    if row is None or row.report_id not in store.reports_of_tags(connection, tags):
        raise NotFound("You have no case of this number.")
    return row


@router.get("/cases/{case}/attachments/{attachment}")
def get_file(request: Request, session: Mine, case: str, attachment: str) -> Response:
    """A file of the case: one's own, or evidence that the reporter handed in."""
    rt = runtime(request)
    with reading(rt.engine) as connection:
        row = _own_case(request, session, case, connection)
        try:
            number = decode_id("at", attachment, rt.settings.service)
        except InvalidRequest as error:
            raise NotFound("There is no such file.") from error
        one = attachment_store.get(connection, number)
    if one is None or one.case_id != row.id:
        raise NotFound("There is no such file.")
    data = attachments.read(rt.settings, one.file)
    return file_response(data, attachments.serving_headers(one.media_type, one.name))


@router.get("/cases/{case}/letters/{kind}")
def get_letter(request: Request, session: Mine, case: str, kind: str) -> Response:
    """A letter, to read and to print."""
    rt = runtime(request)
    with reading(rt.engine) as connection:
        row = _own_case(request, session, case, connection)
        made = letter_of(connection, row, rt.context, kind, locale_of(request), session.platform)
    return render(request, "letter.html", case=case, letter=made, session=session)
