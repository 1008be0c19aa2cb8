"""Direct lookups, one or up to 1000."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Inquirer, runtime
from api.openapi import LOOKUP_ERRORS, Answer, operation
from api.schemas.lookups import Lookup, LookupAnswer, LookupBatch, LookupBatchResult, LookupItems
from api.wire import batch_item, batch_problem, batch_response, json_response, parse, read_json
from ledger import errors as e
from ledger.core.encoding import unb64url
from ledger.core.identifiers import Kind
from ledger.errors import LedgerError
from ledger.service.lookups import LookupRequest, lookup
from ledger.service.members import Member
from ledger.service.runtime import Runtime

router = APIRouter()

EXAMPLE = {
    "epoch": 1,
    "subjects": [{"kind": "phone", "tag": "n0bq1xFQ2o3LrkJd0jgEOHhQYz9vV2mWb3qkU8cTq1A"}],
    "purpose": "refund_review",
    "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
    "refund": {"amount_minor": 12900, "currency": "CNY", "claim": "damaged"},
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
    wanted = _request(parse(Lookup, await read_json(request)))
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
        return batch_item(200, "lookup", await lookup(rt, member, _request(parse(Lookup, item))))
    except LedgerError as error:
        return batch_problem(error, request_id)


def _request(wanted: Lookup) -> LookupRequest:
    refund = wanted.refund
    return LookupRequest(
        epoch=wanted.epoch,
        subjects=tuple([(Kind(subject.kind), unb64url(subject.tag, 32)) for subject in wanted.subjects]),
        purpose=wanted.purpose,
        order_ref=unb64url(wanted.order_ref, 32),
        consent_ref=wanted.consent_ref,
        amount_minor=None if refund is None else refund.amount_minor,
        currency=None if refund is None else refund.currency,
        claim=None if refund is None else refund.claim,
        min_index=wanted.min_index,
    )
