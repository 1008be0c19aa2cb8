"""Routes of reports: record, read, withdraw, restitution, receipt."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.common_schemas import Bytes32
from api.deps import Reporter, runtime
from api.json_io import (
    REPLAYED,
    answer,
    batch_response,
    check_shape,
    idempotency_key,
    parse,
    read_json,
    stored_response,
)
from api.openapi import REPORT_ERRORS, WRITE_ERRORS, Success, operation
from api.platform.batches import record_reports
from api.platform.report_schemas import (
    PAGE_DEFAULT,
    PAGE_LIMIT,
    BatchItems,
    Explanation,
    ReportAccepted,
    ReportBatch,
    ReportBatchResult,
    ReportPage,
    ReportSubmission,
    ReportView,
    RestitutionRequest,
    Withdrawal,
)
from api.samples import REPORT
from ledger import errors as e
from ledger.server.reports import held, reports

router = APIRouter()

TEXT = "text/plain; charset=utf-8"
_SUBMISSION = frozenset({"body", "signature", "subjects"})

PublicId = Annotated[str, Path(description="A report's id.", examples=["rp_Xk3mPq9a"])]


@router.post(
    "/v1/reports",
    **operation(
        "createReport",
        "Record a confirmed fraud",
        "reports",
        {201: Success("It is durable and has its place in the log.", ReportAccepted, headers=REPLAYED)},
        scopes=("report",),
        body=ReportSubmission,
        example=REPORT,
        idempotent=True,
        raises=(*REPORT_ERRORS, *WRITE_ERRORS),
    ),
)
async def create_report(request: Request, member: Reporter) -> Response:
    """Refused reports leave no trace, so the same idempotency key may be used again after a refusal."""
    key = idempotency_key(request)
    payload = check_shape(await read_json(request), _SUBMISSION)
    rt = runtime(request)
    return stored_response(await rt.sequencer.response(reports.submit_report(rt.reports, member, payload, key)))


@router.post(
    "/v1/reports/batch",
    **operation(
        "createReports",
        "Record up to 1000 reports",
        "reports",
        {200: Success("One result for each, in order; each may be a problem of its own.", ReportBatchResult)},
        scopes=("report",),
        body=ReportBatch,
        example={"reports": [{"idempotency_key": "A-1001", **REPORT}]},
        raises=(e.BatchSizeInvalid, *WRITE_ERRORS[1:]),
    ),
)
async def create_reports(request: Request, member: Reporter) -> Response:
    """A refused report does not affect the others. Each has its own idempotency key; the header is not used."""
    items = parse(BatchItems, await read_json(request)).reports
    state = request.app.state
    results = await to_thread.run_sync(
        record_reports, runtime(request), member, items, request.state.request_id, state.logger
    )
    return batch_response(results)


@router.get(
    "/v1/reports",
    **operation(
        "listReports",
        "Your platform's reports, newest first",
        "reports",
        {200: Success("A page.", ReportPage)},
        scopes=("report",),
        raises=(e.InvalidRequest,),
    ),
)
def list_reports(
    request: Request,
    member: Reporter,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Reports on a page.")] = PAGE_DEFAULT,
    starting_after: Annotated[
        str | None, Query(max_length=64, description="The last id of the page before.", examples=["rp_Xk3mPq9a"])
    ] = None,
    order_ref: Annotated[Bytes32 | None, Query(description="Only reports of this order.")] = None,
    former_label: Annotated[
        bool,
        Query(description="Only reports that stand and have a `former_label`. Goes without `order_ref`."),
    ] = False,
) -> Response:
    """Get the next page with `starting_after` while `has_more`."""
    if former_label and order_ref is not None:
        raise e.InvalidRequest("`former_label` goes without `order_ref`.")
    return answer(
        reports.list_reports(runtime(request).context, member, limit, starting_after, order_ref, former_label)
    )


@router.get(
    "/v1/reports/{report_id}",
    **operation(
        "getReport",
        "One of your platform's reports",
        "reports",
        {200: Success("The report.", ReportView)},
        scopes=("report",),
        raises=(e.NotFound,),
    ),
)
def get_report(request: Request, member: Reporter, report_id: PublicId) -> Response:
    """404 for other platforms' reports too."""
    return answer(reports.get_report(runtime(request).context, member, report_id))


@router.post(
    "/v1/reports/{report_id}/withdraw",
    **operation(
        "withdrawReport",
        "Take a report back",
        "reports",
        {200: Success("The report, withdrawn.", ReportView, headers=REPLAYED)},
        scopes=("report",),
        body=Withdrawal,
        example={"reason": "wrong_person"},
        idempotent=True,
        raises=(e.NotFound, e.AlreadyReversed, *WRITE_ERRORS),
    ),
)
async def withdraw_report(request: Request, member: Reporter, report_id: PublicId) -> Response:
    """It stops counting at once. The entry stays in the log; its withdrawal is another entry."""
    key = idempotency_key(request)
    withdrawal, rt = parse(Withdrawal, await read_json(request)), runtime(request)
    pending = reports.withdraw_report(rt.reports, member, report_id, withdrawal.reason, key)
    return stored_response(await rt.sequencer.response(pending))


@router.post(
    "/v1/reports/{report_id}/restitution",
    **operation(
        "restituteReport",
        "Record that the buyer paid the full amount back",
        "reports",
        {200: Success("The report, with its restitution.", ReportView, headers=REPLAYED)},
        scopes=("report",),
        body=RestitutionRequest,
        example={"received_at": "2026-02-03T09:00:00Z", "amount_minor": 12900, "currency": "CNY"},
        idempotent=True,
        raises=(
            e.InvalidTime,
            e.RestitutionInvalid,
            e.NotFound,
            e.AlreadyReversed,
            e.AlreadyRestituted,
            *WRITE_ERRORS,
        ),
    ),
)
async def restitute_report(request: Request, member: Reporter, report_id: PublicId) -> Response:
    """Halves the report's points, once."""
    key = idempotency_key(request)
    sent, rt = parse(RestitutionRequest, await read_json(request)), runtime(request)
    pending = reports.restitute_report(
        rt.reports, member, report_id, sent.received_at, sent.amount_minor, sent.currency, key
    )
    return stored_response(await rt.sequencer.response(pending))


@router.post(
    "/v1/reports/{report_id}/explain",
    **operation(
        "explainReport",
        "Say why a held report is about another order",
        "reports",
        {200: Success("The report, with your reason.", ReportView, headers=REPLAYED)},
        scopes=("report",),
        body=Explanation,
        example={"text": "A second purchase of the same buyer, delivered three weeks after the first."},
        idempotent=True,
        raises=(e.AppealInvalid, e.NotFound, e.ActionRefused, *WRITE_ERRORS),
    ),
)
async def explain_report(request: Request, member: Reporter, report_id: PublicId) -> Response:
    """A supervisor of no control group of yours reads it, and releases the report or not. At most five times."""
    key = idempotency_key(request)
    explanation, rt = parse(Explanation, await read_json(request)), runtime(request)
    stored = await to_thread.run_sync(held.explain, rt.reports, member, report_id, explanation.text, key)
    return stored_response(stored)


@router.get(
    "/v1/reports/{report_id}/receipt",
    **operation(
        "getReceipt",
        "Proof that the log holds the report",
        "reports",
        {200: Success("A C2SP tlog-proof with the opening of the commitment.", media_type=TEXT)},
        scopes=("report",),
        raises=(e.ReceiptPending, e.NotFound),
    ),
)
def get_receipt(request: Request, member: Reporter, report_id: PublicId) -> Response:
    """202 until a checkpoint covers the report, about a second."""
    return Response(reports.get_receipt(runtime(request).context, member, report_id), media_type=TEXT)
