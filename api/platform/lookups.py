"""Routes of direct lookups, one or up to 1000."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Inquirer, runtime
from api.json_io import (
    MAX_DETAILED,
    batch_item,
    batch_problem,
    batch_response,
    json_response,
    parse,
    parse_briefly,
    read_json,
)
from api.openapi import LOOKUP_ERRORS, Success, operation
from api.platform.lookup_schemas import Lookup, LookupAnswer, LookupBatch, LookupBatchResult, LookupItems
from api.platform.questions import LOOKUP_FAILED, read_lookup
from ledger import errors as e
from ledger.errors import LedgerError
from ledger.server.lookups.service import LookupRequest, LookupService
from ledger.server.platforms.members import Member

router = APIRouter()

MAX_VALUES = 50_000
"""Values of a batch, at most: 1000 lookups of eight identifiers each have about 42,000."""
ITEMS_AT_A_TIME = 50
"""Items of a batch that are parsed before other requests get a turn."""

EXAMPLE = {
    "epoch": 1,
    "subjects": [{"kind": "phone", "tag": "n0bq1xFQ2o3LrkJd0jgEOHhQYz9vV2mWb3qkU8cTq1A"}],
    "purpose": "refund_review",
    "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
    "consent_ref": "separate-consent-2026-11-03-8842",
    "refund": {"amount_minor": 12900, "currency": "CNY", "claim": "damaged"},
    "nonce": "8yZk3Tq0vN1rWcXb5uPjGQ",
}


@router.post(
    "/v1/lookups",
    **operation(
        "createLookup",
        "Look a buyer up before a refund is decided",
        "lookups",
        {200: Success("The standing. Hit or miss, the answer has the same size.", LookupAnswer)},
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
    question = read_lookup(await read_json(request))
    return json_response(await runtime(request).lookups.lookup(member, question))


@router.post(
    "/v1/lookups/batch",
    **operation(
        "createLookups",
        "Look up to 1000 buyers up",
        "lookups",
        {200: Success("One result for each, in order; each may be a problem of its own.", LookupBatchResult)},
        scopes=("lookup",),
        body=LookupBatch,
        example={"lookups": [EXAMPLE]},
        raises=(e.BatchSizeInvalid,),
    ),
)
async def create_lookups(request: Request, member: Inquirer) -> Response:
    """The items may be about different people; the subjects of one item are one person."""
    items = parse(LookupItems, await read_json(request, MAX_VALUES)).lookups
    lookups, request_id = runtime(request).lookups, request.state.request_id
    questions = await _read_items(items)
    answers = [_answer(lookups, member, question, request_id) for question in questions]
    return batch_response(await asyncio.gather(*answers))


async def _read_items(items: list[Any]) -> list[LookupRequest | LedgerError]:
    """Return each item as a lookup, or the error of a faulty one. Other requests get a turn in between."""
    questions: list[LookupRequest | LedgerError] = []
    refused = 0
    for number, item in enumerate(items):
        if number % ITEMS_AT_A_TIME == ITEMS_AT_A_TIME - 1:
            await asyncio.sleep(0)
        try:
            questions.append(read_lookup(item, parse if refused < MAX_DETAILED else parse_briefly))
        except LedgerError as error:
            questions.append(error)
            refused += 1
    return questions


async def _answer(
    lookups: LookupService, member: Member, question: LookupRequest | LedgerError, request_id: str
) -> bytes:
    if isinstance(question, LedgerError):
        return batch_problem(question, request_id)
    try:
        return batch_item(200, "lookup", await lookups.lookup(member, question))
    except LedgerError as error:
        return batch_problem(error, request_id)
