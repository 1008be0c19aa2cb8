"""The JSON operations of a person's own session: their record, appeals and messages. The pages are in
`api.consumer.pages`.

There are no idempotency keys here. A repeated request is refused by the case itself (`case_exists`), or is carried out
again.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.consumer.schemas import (
    OwnAppealRequest,
    OwnAppeals,
    OwnCase,
    OwnExport,
    OwnLetter,
    OwnRecord,
    OwnSession,
    OwnStatement,
    OwnText,
    SessionOpening,
    StatementRequest,
)
from api.consumer.tokens import Subject, bearer
from api.deps import runtime
from api.json_io import json_response, parse, read_json
from api.openapi import Success, operation
from api.platform.appeal_schemas import MAX_NAME_CHARS, Attachment
from api.web.base import base_path
from api.web.files import file_response
from ledger import errors as e
from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.languages import DEFAULT_LOCALE
from ledger.server.appeals import consumer, sessions
from ledger.server.appeals.consumer_record import export_record, own_record
from ledger.server.appeals.file_types import EXTENSIONS
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.records.case_queries import CaseRow
from ledger.server.runtime import Runtime

router = APIRouter()

EXPORT_NAME = "refund-credit-record.json"
_TAG = "me"
_CODE = {"code": "q0yZ2m1b5uQ8k3W7c9aTtR4nVx6pLhJdEfGsIoKwBzM"}
_TEXT = {"text": "The carrier's receipt shows that I sent it back."}
_CHANGE = (e.AppealInvalid, e.NotFound, e.ActionRefused, e.LogFrozen)

CaseId = Annotated[str, Path(description="A case's id.", examples=["ap_Xk3mPq9a"])]
FileId = Annotated[str, Path(description="A file's id.", examples=["at_Xk3mPq9a"])]
LetterName = Annotated[str, Path(description="received, question, overdue or decided.", examples=["decided"])]


def private(value: object, status: int = 200) -> Response:
    """Return `value` as JSON that no cache may store."""
    return json_response(orjson.dumps(value), status, {"Cache-Control": "no-store"})


@router.post(
    "/v1/me/session",
    **operation(
        "createOwnSession",
        "Open one's own record with the code of a link",
        _TAG,
        {201: Success("The session.", OwnSession)},
        body=SessionOpening,
        example=_CODE,
        raises=(e.SessionExpired, e.DatabaseUnavailable),
    ),
)
async def create_session(request: Request) -> Response:
    """A code works once, within minutes of the platform's request for it. Every refusal is the same 401."""
    code = parse(SessionOpening, await read_json(request)).code
    return private(await to_thread.run_sync(_opened, runtime(request), code), 201)


def _opened(rt: Runtime, code: str) -> dict[str, Any]:
    token = sessions.redeem(rt.engine, rt.settings, code, rt.now(), secrets.token_bytes)
    row = sessions.session_of(rt.engine, token, rt.now())
    expires_at = None if row.expires_at is None else format_time(row.expires_at)
    return {"token": token, "expires_at": expires_at, "locale": row.locale}


@router.delete(
    "/v1/me/session",
    **operation(
        "deleteOwnSession",
        "End the session",
        _TAG,
        {204: Success("It has ended.", media_type="")},
        subject=True,
    ),
)
def delete_session(request: Request, session: Subject) -> Response:
    """End the session; its token is no longer valid."""
    rt = runtime(request)
    sessions.end_session(rt.engine, bearer(request), rt.now())
    return Response(status_code=204)


@router.get(
    "/v1/me/record",
    **operation(
        "getOwnRecord",
        "One's own record",
        _TAG,
        {200: Success("All of it.", OwnRecord)},
        subject=True,
    ),
)
def get_record(request: Request, session: Subject) -> Response:
    """The standing, every report with its cases, and the lookups. Only the platform that opened the session is
    named."""
    rt = runtime(request)
    return private(own_record(rt.context, rt.members.weights(), session))


@router.get(
    "/v1/me/export",
    **operation(
        "exportOwnRecord",
        "One's own record as a document to keep",
        _TAG,
        {200: Success("The document.", OwnExport)},
        subject=True,
    ),
)
def get_export(request: Request, session: Subject) -> Response:
    """The record, with the texts of its codes in the session's language and how to check it against the public log."""
    return export_response(runtime(request), session, session.locale)


def export_response(rt: Runtime, session: SubjectSessionRow, locale: str) -> Response:
    """Return the document as a file; the page offers the same."""
    log, prefix = (rt.settings.origin, rt.keys.log_verifier_key), base_path(rt.settings)
    document = export_record(rt.context, rt.members.weights(), session, *log, locale, prefix)
    answer = private(document)
    answer.headers["Content-Disposition"] = f'attachment; filename="{EXPORT_NAME}"'
    return answer


@router.post(
    "/v1/me/statements",
    **operation(
        "putOwnStatement",
        "Put one's own words beside a report",
        _TAG,
        {201: Success("Members that are shown the report are told that there is a statement.", OwnStatement)},
        subject=True,
        body=StatementRequest,
        example={"report": "rp_Xk3mPq9a", "text": "I sent it back.", "locale": DEFAULT_LOCALE},
        raises=(e.AppealInvalid, e.NotFound, e.LogFrozen),
    ),
)
async def create_statement(request: Request, session: Subject) -> Response:
    """A new statement replaces the last one, at most five times."""
    body = parse(StatementRequest, await read_json(request))
    row = await to_thread.run_sync(
        consumer.add_statement, runtime(request).context, session, body.report, body.text, body.locale
    )
    statement = {"text": row.text, "locale": row.locale, "made_at": format_time(row.made_at)}
    return private({**statement, "entry_index": row.entry_index}, 201)


@router.post(
    "/v1/me/appeals",
    **operation(
        "createOwnAppeal",
        "Contest reports",
        _TAG,
        {201: Success("A case for each report; none of them counts any more.", OwnAppeals)},
        subject=True,
        body=OwnAppealRequest,
        example={
            "reports": ["rp_Xk3mPq9a"],
            "grounds": "not_me",
            "statement": "It was not me.",
            "locale": DEFAULT_LOCALE,
        },
        raises=(e.AppealInvalid, e.NotFound, e.CaseExists, e.LogFrozen),
    ),
)
async def create_appeal(request: Request, session: Subject) -> Response:
    """All reports or none. A case that a platform has open for the person becomes their own. If they have one already,
    the answer is 409 with it in `case`."""
    body = parse(OwnAppealRequest, await read_json(request))
    rt = runtime(request)

    def work() -> list[dict[str, Any]]:
        rows = consumer.open_cases(rt.context, session, body.reports, body.grounds, body.statement, body.locale)
        return [_view(rt, session, row) for row in rows]

    return private({"appeals": await to_thread.run_sync(work)}, 201)


@router.get(
    "/v1/me/appeals/{case_id}",
    **operation(
        "getOwnAppeal",
        "One of one's own cases",
        _TAG,
        {200: Success("The case.", OwnCase)},
        subject=True,
        raises=(e.NotFound,),
    ),
)
def get_appeal(request: Request, session: Subject, case_id: CaseId) -> Response:
    """With its timeline, question, decision, files and letters."""
    return private(consumer.own_case(runtime(request).context, session, case_id))


@router.post(
    "/v1/me/appeals/{case_id}/messages",
    **operation(
        "createOwnMessage",
        "Answer a question, or add something",
        _TAG,
        {200: Success("The case, with the message.", OwnCase)},
        subject=True,
        body=OwnText,
        example=_TEXT,
        raises=_CHANGE,
    ),
)
async def create_message(request: Request, session: Subject, case_id: CaseId) -> Response:
    """An answer if one is awaited, else an addition. The platform that made the report reads it too."""
    text = parse(OwnText, await read_json(request)).text
    rt = runtime(request)

    def work() -> dict[str, Any]:
        return _view(rt, session, consumer.add_message(rt.context, session, case_id, text))

    return private(await to_thread.run_sync(work))


@router.post(
    "/v1/me/appeals/{case_id}/withdraw",
    **operation(
        "withdrawOwnAppeal",
        "Take the appeal back",
        _TAG,
        {200: Success("The case, withdrawn.", OwnCase)},
        subject=True,
        raises=(e.NotFound, e.ActionRefused, e.LogFrozen),
    ),
)
def withdraw_appeal(request: Request, session: Subject, case_id: CaseId) -> Response:
    """The report counts as before. It can be contested again while the record is kept."""
    rt = runtime(request)
    return private(_view(rt, session, consumer.withdraw(rt.context, session, case_id)))


@router.post(
    "/v1/me/appeals/{case_id}/agree",
    **operation(
        "agreeToOwnConcession",
        "Agree to the correction that the platform proposed",
        _TAG,
        {200: Success("The case, with the agreement.", OwnCase)},
        subject=True,
        raises=(e.NotFound, e.ActionRefused, e.LogFrozen),
    ),
)
def agree(request: Request, session: Subject, case_id: CaseId) -> Response:
    """A reviewer still decides, and no worse than the proposal."""
    rt = runtime(request)
    return private(_view(rt, session, consumer.agree(rt.context, session, case_id)))


@router.post(
    "/v1/me/appeals/{case_id}/reopen",
    **operation(
        "reopenOwnAppeal",
        "Contest the decision once more",
        _TAG,
        {200: Success("The case, open again.", OwnCase)},
        subject=True,
        body=OwnText,
        example=_TEXT,
        raises=_CHANGE,
    ),
)
async def reopen_appeal(request: Request, session: Subject, case_id: CaseId) -> Response:
    """One's own case, once, within 60 days and while the record is kept. A reviewer who did not work on it decides, and
    never worse for the person than before. After the decision of a case that a platform filed, one's own appeal is
    available instead."""
    text = parse(OwnText, await read_json(request)).text
    rt = runtime(request)

    def work() -> dict[str, Any]:
        return _view(rt, session, consumer.reopen(rt.context, session, case_id, text))

    return private(await to_thread.run_sync(work))


@router.post(
    "/v1/me/appeals/{case_id}/attachments",
    **operation(
        "createOwnAttachment",
        "Add a file to a case",
        _TAG,
        {201: Success("The file is kept.", Attachment)},
        subject=True,
        upload=True,
        raises=(e.AttachmentRefused, *_CHANGE),
    ),
)
async def create_attachment(
    request: Request,
    session: Subject,
    case_id: CaseId,
    name: Annotated[str, Query(max_length=MAX_NAME_CHARS, description="What people see it called.")] = "",
) -> Response:
    """The body is the file itself, whatever its declared type: its type is read from its bytes. The same file twice is
    one attachment."""
    rt = runtime(request)
    data = await request.body()
    attachment = await to_thread.run_sync(
        consumer.add_file, rt.context, rt.settings, session, case_id, data, name, secrets.token_bytes
    )
    return private(attachment, 201)


@router.get(
    "/v1/me/appeals/{case_id}/attachments/{file_id}",
    **operation(
        "getOwnAttachment",
        "A file of a case",
        _TAG,
        {200: Success("The bytes as they came.", media_type="image/jpeg", binary=True, also=tuple(EXTENSIONS))},
        subject=True,
        raises=(e.NotFound,),
    ),
)
def get_attachment(request: Request, session: Subject, case_id: CaseId, file_id: FileId) -> Response:
    """Files of the person, and of the platform that made the report."""
    rt = runtime(request)
    file, data = consumer.own_file(rt.context, rt.settings, session, case_id, file_id)
    return file_response(data, file.media_type, file.name)


@router.get(
    "/v1/me/appeals/{case_id}/letters/{kind}",
    **operation(
        "getOwnLetter",
        "A letter about a case",
        _TAG,
        {200: Success("The letter, in the session's language.", OwnLetter)},
        subject=True,
        raises=(e.InvalidRequest, e.NotFound),
    ),
)
def get_letter(
    request: Request,
    session: Subject,
    case_id: CaseId,
    kind: LetterName,
    of_round: Annotated[
        int | None, Query(alias="round", ge=1, le=2, description="Of this round; by default the newest that has one.")
    ] = None,
) -> Response:
    """A case names its letters in `letters` and `earlier_letters`."""
    letter = consumer.own_letter(runtime(request).context, session, case_id, kind, session.locale, of_round)
    return private(letter.to_dict())


def _view(rt: Runtime, session: SubjectSessionRow, row: CaseRow) -> dict[str, Any]:
    return consumer.own_case(rt.context, session, encode_id("ap", row.id, rt.settings.service))
