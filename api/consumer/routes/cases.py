"""Pages of a person's case: contest a report, read the case, and act in it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from api.consumer.pages import blocks, page, said_of
from api.consumer.routes.record import find_report
from api.consumer.session import PATH, Reading, Sending, me_router
from api.deps import runtime
from api.web.files import file_response
from api.web.pages import locale_of, redirect
from ledger.errors import ActionRefused, AppealInvalid, AttachmentRefused, CaseExists, InvalidRequest, LedgerError
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Grounds
from ledger.server.appeals import consumer
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.records.case_queries import CaseRow
from ledger.server.runtime import Runtime

router = me_router()

MEDIA_TYPES = "image/jpeg,image/png,image/webp,application/pdf,video/mp4,text/plain"
_GROUNDS = [grounds.value for grounds in Grounds]


@router.get("/appeal")
def get_appeal(request: Request, session: Reading) -> Response:
    """Show the form. `grounds` preselects a choice, for "this is not me"."""
    report = find_report(runtime(request), session, request.query_params.get("report", ""))
    if not report["appealable"] and report["case"] is not None:
        return redirect(case_path(report["case"]["id"]))
    grounds = request.query_params.get("grounds", "")
    return _appeal_form(request, session, report, grounds if grounds in _GROUNDS else "", "")


@router.post("/appeal")
def post_appeal(request: Request, sent: Sending) -> Response:
    """File the appeal. If the form is sent twice, the second one leads to the case that the first one opened."""
    rt, report_id = runtime(request), sent.field("report")
    grounds, text = sent.field("grounds"), sent.field("text")
    report = find_report(rt, sent.session, report_id)
    if grounds not in _GROUNDS:
        return _appeal_form(request, sent.session, report, "", text, [("grounds", None)])
    try:
        (row,) = consumer.open_cases(rt.context, sent.session, [report_id], grounds, text, locale_of(request))
    except CaseExists as error:
        return redirect(case_path(str(error.details["case"])))
    except AppealInvalid as error:
        said = said_of(error, locale_of(request))
        return _appeal_form(request, sent.session, report, grounds, text, [("text", said)])
    return redirect(f"{case_path(encode_id('ap', row.id, rt.settings.service))}/filed")


def _appeal_form(
    request: Request,
    session: SubjectSessionRow,
    report: dict[str, Any],
    chosen: str,
    text: str,
    errors: list[tuple[str, str | None]] | None = None,
) -> Response:
    return page(
        request,
        "appeal.html",
        session,
        status=422 if errors else 200,
        report=report,
        chosen=chosen,
        text=text,
        errors=errors or [],
        all_grounds=_GROUNDS,
    )


@router.get("/cases/{case_id}/filed")
def get_filed(request: Request, session: Reading, case_id: str) -> Response:
    """Show that the appeal was received, its number and its date."""
    case = consumer.own_case(runtime(request).context, session, case_id)
    return page(request, "filed.html", session, case=case, profile=case["profile"])


@router.get("/cases/{case_id}")
def get_case(request: Request, session: Reading, case_id: str) -> Response:
    """Show the whole case."""
    return case_page(request, session, case_id)


def case_page(
    request: Request,
    session: SubjectSessionRow,
    case_id: str,
    *,
    field: str = "",
    text: str = "",
    error: LedgerError | None = None,
) -> Response:
    """Return the page of a case; after a refused form with the error and the text of `field`. Raises NotFound."""
    rt, locale = runtime(request), locale_of(request)
    case = consumer.own_case(rt.context, session, case_id)
    letter = None
    if "decided" in case["letters"]:
        letter = blocks(consumer.own_letter(rt.context, session, case_id, "decided", locale).paragraphs)
    return page(
        request,
        "case.html",
        session,
        status=422 if error else 200,
        case=case,
        profile=case["profile"],
        letter=letter,
        field=field,
        text=text,
        errors=[(field, said_of(error, locale))] if error else [],
        accepted=MEDIA_TYPES,
        limit_mb=rt.settings.attachment_limit_bytes // (1024 * 1024),
        now_doing=request.query_params.get("do", "") if request.method == "GET" else field,
    )


@router.post("/cases/{case_id}/messages")
def post_message(request: Request, sent: Sending, case_id: str) -> Response:
    """Answer the open question, or add a message."""
    return _text_action(request, sent, case_id, "text", consumer.add_message)


@router.post("/cases/{case_id}/reopen")
def post_reopen(request: Request, sent: Sending, case_id: str) -> Response:
    """Contest the decision once more."""
    return _text_action(request, sent, case_id, "again", consumer.reopen)


def _text_action(request: Request, sent: Sending, case_id: str, field: str, act: Callable[..., CaseRow]) -> Response:
    """Run an action that is a text, and return to the timeline."""
    rt: Runtime = runtime(request)
    try:
        act(rt.context, sent.session, case_id, sent.field("text"))
    except (AppealInvalid, ActionRefused) as error:
        return case_page(request, sent.session, case_id, field=field, text=sent.field("text"), error=error)
    return redirect(f"{case_path(case_id)}#timeline")


@router.post("/cases/{case_id}/withdraw")
def post_withdraw(request: Request, sent: Sending, case_id: str) -> Response:
    """Withdraw the appeal."""
    rt = runtime(request)
    try:
        consumer.withdraw(rt.context, sent.session, case_id)
    except ActionRefused as error:
        return case_page(request, sent.session, case_id, field="withdraw", error=error)
    return redirect(case_path(case_id))


@router.post("/cases/{case_id}/agree")
def post_agree(request: Request, sent: Sending, case_id: str) -> Response:
    """Agree to what the reporter conceded."""
    rt = runtime(request)
    try:
        consumer.agree(rt.context, sent.session, case_id)
    except ActionRefused as error:
        return case_page(request, sent.session, case_id, field="agree", error=error)
    return redirect(f"{case_path(case_id)}#concession")


@router.post("/cases/{case_id}/files")
async def post_file(request: Request, session: Reading, case_id: str) -> Response:
    """Add a file. The form is read only after the session was checked: no stranger can write to the disk."""
    rt = runtime(request)
    async with request.form(max_files=1, max_fields=1) as form:
        sent = form.get("file")
        if not isinstance(sent, UploadFile):
            raise InvalidRequest("The form cannot be read.")
        data, name = await sent.read(), sent.filename or ""
    act = rt.context, rt.settings, session, case_id, data, name, secrets.token_bytes
    try:
        await to_thread.run_sync(consumer.add_file, *act)
    except (AppealInvalid, AttachmentRefused, ActionRefused) as error:
        refused = error

        def again() -> Response:
            return case_page(request, session, case_id, field="file", error=refused)

        return await to_thread.run_sync(again)
    return redirect(f"{case_path(case_id)}#files")


@router.get("/cases/{case_id}/files/{file_id}")
def get_file(request: Request, session: Reading, case_id: str, file_id: str) -> Response:
    """Send a file of the case."""
    rt = runtime(request)
    file, data = consumer.own_file(rt.context, rt.settings, session, case_id, file_id)
    return file_response(data, file.media_type, file.name)


@router.get("/cases/{case_id}/letters/{kind}")
def get_letter(request: Request, session: Reading, case_id: str, kind: str) -> Response:
    """Show a letter, to read, print or keep: of the newest round that has one, or of `round`."""
    of_round = request.query_params.get("round", "")
    number = int(of_round) if of_round in ("1", "2") else None
    letter = consumer.own_letter(runtime(request).context, session, case_id, kind, locale_of(request), number)
    return page(
        request, "letter.html", session, case_id=case_id, subject=letter.subject, blocks=blocks(letter.paragraphs)
    )


def case_path(case_id: str) -> str:
    """Return the address of a case."""
    return f"{PATH}/cases/{case_id}"
