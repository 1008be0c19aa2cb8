"""Routes of searches for reused pictures."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Inquirer, Reporter, runtime
from api.json_io import json_response, parse, read_json
from api.openapi import Success, operation
from api.platform.picture_schemas import PictureAnswer, PictureSearch
from ledger import errors as e
from ledger.protocol.encoding import unb64url
from ledger.rules.pictures import MIN_QUALITY
from ledger.server.pictures import search as pictures

router = APIRouter()

EXAMPLE = {
    "pictures": [{"pdq": "f0e1d2c3b4a5968778695a4b3c2d1e0f" * 2, "quality": 87}],
    "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
}


@router.post(
    "/v1/pictures/search",
    **operation(
        "searchPictures",
        "Ask whether pictures of a claim were used in confirmed reports",
        "lookups",
        {200: Success("One result for each picture. Hit or miss, the answer has the same size.", PictureAnswer)},
        scopes=("lookup",),
        body=PictureSearch,
        example=EXAMPLE,
        raises=(e.PictureUnfit, e.QuotaExceeded),
    ),
)
async def search_pictures(request: Request, member: Inquirer) -> Response:
    """A search that matches reports is recorded, visible to the people in them, before it is answered. Each picture
    counts against the platform's daily quota. A hit is a reason to look closer, never to refuse."""
    body = parse(PictureSearch, await read_json(request))
    if any(picture.quality < MIN_QUALITY for picture in body.pictures):
        raise e.PictureUnfit(f"A hash of a quality below {MIN_QUALITY} would meet too many others.")
    hashes = [bytes.fromhex(picture.pdq) for picture in body.pictures]
    order_ref = unb64url(body.order_ref, 32)
    return json_response(
        await to_thread.run_sync(pictures.search, runtime(request).pictures, member, hashes, order_ref)
    )


@router.get(
    "/v1/reports/{report_id}/pictures",
    **operation(
        "getReportPictures",
        "Where else the pictures of a report of yours were used",
        "reports",
        {200: Success("One result for each of its searchable pictures, in the order of its evidence.", PictureAnswer)},
        scopes=("report",),
        raises=(e.NotFound, e.QuotaExceeded),
    ),
)
def get_report_pictures(
    request: Request,
    member: Reporter,
    report_id: Annotated[str, Path(description="A report's id.", examples=["rp_Xk3mPq9a"])],
) -> Response:
    """The present result, without the report itself. At most its first eight searchable pictures; counted and recorded
    like a search."""
    return json_response(pictures.search_own(runtime(request).pictures, member, report_id))
