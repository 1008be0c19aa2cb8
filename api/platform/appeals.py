"""Appeals for platforms: file for a customer, answer as reporter, files, letters, links to a person's own record."""

from __future__ import annotations

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Appellant, CaseParty, Inquirer, Reporter, runtime
from api.json_io import REPLAYED, answer, idempotency_key, parse, read_json, stored_response
from api.openapi import Success, operation
from api.platform.appeal_schemas import (
    MAX_NAME_CHARS,
    PAGE_DEFAULT,
    PAGE_LIMIT,
    Appeal,
    AppealLetter,
    AppealMessage,
    AppealPage,
    AppealRequest,
    AppealView,
    Attachment,
    ConcessionRequest,
    FiledAppeals,
    LetterList,
    Locale,
    PartyName,
    Reopening,
    ReopenRequest,
    SessionLink,
    SessionRequest,
    StatementList,
)
from api.platform.lookup_schemas import TaggedSubject
from api.web.files import file_response
from ledger import errors as e
from ledger.protocol.encoding import format_time, unb64url
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import CaseState
from ledger.rules.conduct import MAX_EVIDENCE_ITEMS, Conduct
from ledger.rules.languages import DEFAULT_LOCALE
from ledger.server.appeals import platform
from ledger.server.appeals.file_types import EXTENSIONS
from ledger.server.appeals.participants import Party
from ledger.server.appeals.platform import statements_of_lookup

router = APIRouter()

_PARTIES = ("appeal", "report")
_TAG = "appeals"
_WRITE = (e.IdempotencyMismatch, e.LogFrozen)
_STATEMENT = "The parcel did come back. I have the receipt."
_SUBJECT = {"kind": "phone", "tag": "n0bq1xFQ2o3LrkJd0jgEOHhQYz9vV2mWb3qkU8cTq1A"}

AppealId = Annotated[str, Path(description="A case's id.", examples=["ap_Xk3mPq9a"])]
AttachmentId = Annotated[str, Path(description="A file's id.", examples=["at_Xk3mPq9a"])]
LookupId = Annotated[str, Path(description="A lookup's id.", examples=["lk_9aXk3mPq"])]
LetterName = Annotated[str, Path(description="received, question, overdue or decided.", examples=["decided"])]


@router.post(
    "/v1/appeals",
    **operation(
        "createAppeal",
        "Contest reports for a customer",
        _TAG,
        {201: Success("A case for each report.", FiledAppeals, headers=REPLAYED)},
        scopes=("appeal",),
        body=AppealRequest,
        example={
            "reports": ["rp_Xk3mPq9a"],
            "grounds": "wrong_facts",
            "statement": _STATEMENT,
            "locale": DEFAULT_LOCALE,
            "epoch": 1,
            "subjects": [_SUBJECT],
        },
        idempotent=True,
        raises=(
            e.AppealInvalid,
            e.NotFound,
            e.CaseExists,
            e.ConflictOfInterest,
            e.QuotaExceeded,
            e.StaleEpoch,
            *_WRITE,
        ),
    ),
)
async def create_appeal(request: Request, member: Appellant) -> Response:
    """All reports or none. Every report that you cannot contest for this person gets the same 404, whether it exists or
    not. The first round that platforms file suspends a report; later ones are decided while it counts."""
    key = idempotency_key(request)
    body = parse(AppealRequest, await read_json(request))

    def work() -> Response:
        done = platform.open_cases(
            runtime(request).appeals,
            member,
            reports=body.reports,
            grounds=body.grounds,
            statement=body.statement,
            locale=body.locale,
            epoch=body.epoch,
            subjects=_tags(body.subjects or []),
            idempotency_key=key,
        )
        return stored_response(done)

    return await to_thread.run_sync(work)


@router.get(
    "/v1/appeals",
    **operation(
        "listAppeals",
        "Your platform's cases, newest first",
        _TAG,
        {200: Success("A page.", AppealPage)},
        scopes=_PARTIES,
        raises=(e.InvalidRequest,),
    ),
)
def list_appeals(
    request: Request,
    caller: CaseParty,
    role: Annotated[
        Literal["filed", "reported"] | None,
        Query(description="`filed` through you, or about what you `reported`."),
    ] = None,
    state: Annotated[CaseState | None, Query(description="Only cases in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Cases on a page.")] = PAGE_DEFAULT,
    starting_after: Annotated[
        str | None, Query(max_length=64, description="The last id of the page before.", examples=["ap_Xk3mPq9a"])
    ] = None,
) -> Response:
    """Without `role`: both; a token with the scope `report` alone gets those about your reports."""
    return answer(platform.list_appeals(runtime(request).appeals, caller, role, state, limit, starting_after))


@router.get(
    "/v1/appeals/{appeal_id}",
    **operation(
        "getAppeal",
        "One of your platform's cases",
        _TAG,
        {200: Success("The case, as you may see it.", Appeal)},
        scopes=_PARTIES,
        raises=(e.InvalidRequest, e.NotFound),
    ),
)
def get_appeal(
    request: Request,
    caller: CaseParty,
    appeal_id: AppealId,
    party: Annotated[
        PartyName | None, Query(description="Where you are both: for whom you read it (default: `subject`).")
    ] = None,
) -> Response:
    """404 for cases of which you are not a party."""
    reads_as = None if party is None else Party(party)
    return answer(platform.get_appeal(runtime(request).appeals, caller, appeal_id, reads_as))


@router.post(
    "/v1/appeals/{appeal_id}/messages",
    **operation(
        "createAppealMessage",
        "Answer a question, or add something",
        _TAG,
        {200: Success("The case, with the message.", AppealView, headers=REPLAYED)},
        scopes=_PARTIES,
        body=AppealMessage,
        example={"party": "reporter", "text": "The carrier's record is attached."},
        idempotent=True,
        raises=(e.AppealInvalid, e.ConflictOfInterest, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def create_message(request: Request, caller: CaseParty, appeal_id: AppealId) -> Response:
    """The other party reads it. An answer ends the open question; a file alone does not."""
    key = idempotency_key(request)
    body = parse(AppealMessage, await read_json(request))
    done = await to_thread.run_sync(
        platform.add_message, runtime(request).appeals, caller, appeal_id, Party(body.party), body.text, key
    )
    return stored_response(done)


@router.post(
    "/v1/appeals/{appeal_id}/attachments",
    **operation(
        "createAttachment",
        "Hand in a file",
        _TAG,
        {
            200: Success("The case has these bytes from this party already.", Attachment, headers=REPLAYED),
            201: Success("The file is kept.", Attachment, headers=REPLAYED),
        },
        status=201,
        scopes=_PARTIES,
        upload=True,
        idempotent=True,
        raises=(e.AppealInvalid, e.AttachmentRefused, e.ConflictOfInterest, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def create_attachment(
    request: Request,
    caller: CaseParty,
    appeal_id: AppealId,
    party: Annotated[PartyName, Query(description="For whom you hand it in.")],
    name: Annotated[str, Query(min_length=1, max_length=MAX_NAME_CHARS, description="What people see it called.")],
    evidence_index: Annotated[
        int | None,
        Query(
            ge=0,
            lt=MAX_EVIDENCE_ITEMS,
            description="The reporter's: which item of the report's evidence it is, 0 the first. Found by its SHA-256 "
            "if not given.",
        ),
    ] = None,
) -> Response:
    """The body is the file itself, whatever its declared type: its type is read from its bytes."""
    key = idempotency_key(request)
    data = await request.body()
    done = await to_thread.run_sync(
        platform.add_file, runtime(request).appeals, caller, appeal_id, Party(party), data, name, evidence_index, key
    )
    return stored_response(done)


@router.get(
    "/v1/appeals/{appeal_id}/attachments/{attachment_id}",
    **operation(
        "getAttachment",
        "A file of a case",
        _TAG,
        {
            200: Success(
                "The bytes as they were handed in.", media_type="image/jpeg", binary=True, also=tuple(EXTENSIONS)
            )
        },
        scopes=_PARTIES,
        raises=(e.NotFound,),
    ),
)
def get_attachment(request: Request, caller: CaseParty, appeal_id: AppealId, attachment_id: AttachmentId) -> Response:
    """A party reads its own files and those of the other party."""
    file, data = platform.get_attachment(runtime(request).appeals, caller, appeal_id, attachment_id)
    return file_response(data, file.media_type, file.name)


@router.post(
    "/v1/appeals/{appeal_id}/withdraw",
    **operation(
        "withdrawAppeal",
        "Take an appeal back for your customer",
        _TAG,
        {200: Success("The case, withdrawn.", AppealView, headers=REPLAYED)},
        scopes=("appeal",),
        idempotent=True,
        raises=(e.InvalidRequest, e.ConflictOfInterest, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def withdraw_appeal(request: Request, member: Appellant, appeal_id: AppealId) -> Response:
    """The report counts as before. Refused where your own control group made the report."""
    key = idempotency_key(request)
    caller = platform.Caller(member, for_person=True)
    return stored_response(
        await to_thread.run_sync(platform.withdraw, runtime(request).appeals, caller, appeal_id, key)
    )


@router.post(
    "/v1/appeals/{appeal_id}/reopen",
    **operation(
        "reopenAppeal",
        "Contest a decision once more for your customer",
        _TAG,
        {200: Success("The case, open again.", AppealView, headers=REPLAYED)},
        scopes=("appeal",),
        body=Reopening,
        example={"text": "The decision does not mention the receipt."},
        idempotent=True,
        raises=(e.AppealInvalid, e.ConflictOfInterest, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def reopen_appeal(request: Request, member: Appellant, appeal_id: AppealId) -> Response:
    """Once, within 60 days and while the record is kept. A reviewer who did not work on the case decides, and never
    worse for the person than before."""
    key = idempotency_key(request)
    body = parse(Reopening, await read_json(request))
    caller = platform.Caller(member, for_person=True)
    done = await to_thread.run_sync(platform.reopen, runtime(request).appeals, caller, appeal_id, body.text, key)
    return stored_response(done)


@router.post(
    "/v1/appeals/{appeal_id}/concede",
    **operation(
        "concedeAppeal",
        "Concede a conduct of no higher severity",
        _TAG,
        {200: Success("The case, with your concession.", AppealView, headers=REPLAYED)},
        scopes=("report",),
        body=ConcessionRequest,
        example={"conduct": "wardrobing"},
        idempotent=True,
        raises=(e.UnknownConduct, e.ConductNotInPolicy, e.AppealInvalid, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def concede_appeal(request: Request, member: Reporter, appeal_id: AppealId) -> Response:
    """As the reporter, once in a round. The person sees it and may agree; a reviewer decides, no worse than this."""
    key = idempotency_key(request)
    body = parse(ConcessionRequest, await read_json(request))
    if body.conduct not in set(Conduct):
        raise e.UnknownConduct("Unknown conduct.", known=sorted(Conduct))
    caller = platform.Caller(member, for_person=False)
    done = await to_thread.run_sync(
        platform.concede, runtime(request).appeals, caller, appeal_id, Conduct(body.conduct), key
    )
    return stored_response(done)


@router.post(
    "/v1/appeals/{appeal_id}/agree",
    **operation(
        "agreeToConcession",
        "Agree for your customer to what the reporter conceded",
        _TAG,
        {200: Success("The case, with the agreement.", AppealView, headers=REPLAYED)},
        scopes=("appeal",),
        idempotent=True,
        raises=(e.AppealInvalid, e.ConflictOfInterest, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def agree_to_concession(request: Request, member: Appellant, appeal_id: AppealId) -> Response:
    """The reviewer still decides. Refused where your own control group made the report."""
    key = idempotency_key(request)
    caller = platform.Caller(member, for_person=True)
    return stored_response(await to_thread.run_sync(platform.agree, runtime(request).appeals, caller, appeal_id, key))


@router.post(
    "/v1/appeals/{appeal_id}/reopen-request",
    **operation(
        "requestReopening",
        "Ask for another round, for new evidence",
        _TAG,
        {200: Success("The case, with your request.", AppealView, headers=REPLAYED)},
        scopes=("report",),
        body=ReopenRequest,
        example={
            "evidence_sha256": "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM",
            "text": "The carrier has sent the scan that was missing.",
        },
        idempotent=True,
        raises=(e.AppealInvalid, e.NotFound, e.ActionRefused, *_WRITE),
    ),
)
async def request_reopening(request: Request, member: Reporter, appeal_id: AppealId) -> Response:
    """As the reporter, once, within 60 days of a decision `unconfirmed`. A reviewer grants or refuses it."""
    key = idempotency_key(request)
    body = parse(ReopenRequest, await read_json(request))
    caller = platform.Caller(member, for_person=False)
    digest = unb64url(body.evidence_sha256, 32)
    done = await to_thread.run_sync(
        platform.ask_reopening, runtime(request).appeals, caller, appeal_id, digest, body.text, key
    )
    return stored_response(done)


@router.get(
    "/v1/appeals/{appeal_id}/letters",
    **operation(
        "listLetters",
        "The letters to your customer about a case",
        _TAG,
        {200: Success("Those that are true of the case now, and those of an earlier round.", LetterList)},
        scopes=("appeal",),
        raises=(e.NotFound,),
    ),
)
def list_letters(request: Request, member: Appellant, appeal_id: AppealId) -> Response:
    """For the platform that filed for the person only. The ledger has no address of the person: you send the
    letters."""
    return answer(platform.list_letters(runtime(request).appeals, platform.Caller(member, for_person=True), appeal_id))


@router.get(
    "/v1/appeals/{appeal_id}/letters/{kind}",
    **operation(
        "getLetter",
        "One of them, to be sent",
        _TAG,
        {200: Success("The letter.", AppealLetter)},
        scopes=("appeal",),
        raises=(e.InvalidRequest, e.NotFound),
    ),
)
def get_letter(
    request: Request,
    member: Appellant,
    appeal_id: AppealId,
    kind: LetterName,
    locale: Annotated[Locale | None, Query(description="The language, if not the one that was filed in.")] = None,
    of_round: Annotated[
        int | None, Query(alias="round", ge=1, le=2, description="Of this round; by default the newest that has one.")
    ] = None,
) -> Response:
    """Send it unchanged: the law requires this content (docs/letters.md)."""
    caller = platform.Caller(member, for_person=True)
    return answer(platform.get_letter(runtime(request).appeals, caller, appeal_id, kind, locale, of_round))


@router.post(
    "/v1/subject-sessions",
    **operation(
        "createSubjectSession",
        "A link for a person to their own record",
        _TAG,
        {201: Success("A link that works once.", SessionLink)},
        scopes=("appeal",),
        body=SessionRequest,
        example={"epoch": 1, "subjects": [_SUBJECT], "locale": DEFAULT_LOCALE},
        raises=(e.StaleEpoch, e.QuotaExceeded),
    ),
)
async def create_subject_session(request: Request, member: Appellant) -> Response:
    """Takes no idempotency key: the answer holds a secret, which must not be stored. Request another link if it is
    lost."""
    body = parse(SessionRequest, await read_json(request))
    base_url = str(request.base_url)
    link = await to_thread.run_sync(
        platform.open_record,
        runtime(request).appeals,
        member,
        body.epoch,
        _tags(body.subjects),
        body.locale,
        base_url,
    )
    response = answer({"id": link.id, "url": link.url, "expires_at": format_time(link.expires_at)}, 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get(
    "/v1/lookups/{lookup_id}/statement",
    **operation(
        "getStatement",
        "What the person says of what your lookup disclosed",
        "lookups",
        {200: Success("Their statements; none if there are none.", StatementList)},
        scopes=("lookup",),
        raises=(e.NotFound,),
    ),
)
def get_statement(request: Request, member: Inquirer, lookup_id: LookupId) -> Response:
    """For the platform that made the lookup, within 24 hours of it."""
    rt = runtime(request)
    return answer(statements_of_lookup(rt.context, member, lookup_id, rt.members.weights()))


def _tags(subjects: list[TaggedSubject]) -> list[tuple[Kind, bytes]]:
    return [(Kind(subject.kind), unb64url(subject.tag, 32)) for subject in subjects]
