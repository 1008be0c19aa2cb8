"""Direct lookups, one or up to 1000."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Inquirer, runtime
from api.openapi import LOOKUP_ERRORS, Answer, operation
from api.questions import LOOKUP_FAILED, read_lookup
from api.schemas.lookups import Lookup, LookupAnswer, LookupBatch, LookupBatchResult, LookupItems
from api.wire import batch_item, batch_problem, batch_response, json_response, parse, read_json
from ledger import errors as e
from ledger.errors import LedgerError
from ledger.service.lookups import lookup
from ledger.service.members import Member
from ledger.service.runtime import Runtime

router = APIRouter()

EXAMPLE = {
    "epoch": 1,
    "subjects": [{"kind": "phone", "tag": "n0bq1xFQ2o3LrkJd0jgEOHhQYz9vV2mWb3qkU8cTq1A"}],
    "purpose": "refund_review",
    "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
    "refund": {"amount_minor": 12900, "currency": "CNY", "claim": "damaged"},
    "nonce": "8yZk3Tq0vN1rWcXb5uPjGQ",
}


@router.post(
    "/v1/lookups",
    **operation(
        "createLookup",
        "Look a buyer up before a refund is decided",
        "lookups",
        {200: Answer("The standing. Hit or miss, the answer has the same size.", LookupAnswer)},
        scopes=("lookup",),
        body=Lookup,
        example=EXAMPLE,
        raises=(*LOOKUP_ERRORS, e.Overloaded, e.Unavailable),
    ),
)
async def create_lookup(request: Request, member: Inquirer) -> Response:
    """A lookup that discloses an event is logged for the person to see, before it is answered."""
    failed = request.scope["state"].get(LOOKUP_FAILED)
    if failed is not None:
        raise failed
    wanted = read_lookup(await read_json(request))
    return json_response(await lookup(runtime(request), member, wanted))


@router.post(
    "/v1/lookups/batch",
    **operation(
        "createLookups",
        "Look up to 1000 buyers up",
        "lookups",
        {200: Answer("One result for each, in order; each may be a problem of its own.", LookupBatchResult)},
        scopes=("lookup",),
        body=LookupBatch,
        example={"lookups": [EXAMPLE]},
        raises=(e.BatchSizeInvalid,),
    ),
)
async def create_lookups(request: Request, member: Inquirer) -> Response:
    """The items may be about different people; the subjects of one item are one person."""
    items = parse(LookupItems, await read_json(request)).lookups
    rt, request_id = runtime(request), request.state.request_id
    return batch_response(await asyncio.gather(*[_one(rt, member, item, request_id) for item in items]))


async def _one(rt: Runtime, member: Member, item: Any, request_id: str) -> bytes:
    try:
        return batch_item(200, "lookup", await lookup(rt, member, read_lookup(item)))
    except LedgerError as error:
        return batch_problem(error, request_id)
