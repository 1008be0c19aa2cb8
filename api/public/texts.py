"""Route of the texts of codes, for programs that show answers to people."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Annotated

import orjson
from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.openapi import Success, operation
from api.platform.snapshots import is_known
from api.public.text_schemas import CodeTexts
from ledger import errors as e
from ledger.protocol.encoding import b64url
from ledger.rules.languages import LOCALES
from ledger.server.appeals.record_texts import texts_of

router = APIRouter()

MAX_AGE_SECONDS = 3600
_CODES = " or ".join(f"`{code}`" for code in LOCALES)
_CACHED = {"Cache-Control": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}


@router.get(
    "/v1/texts/{locale}",
    **operation(
        "getTexts",
        "What codes mean, in plain words",
        "suite",
        {
            200: Success("Texts by member and code.", CodeTexts, headers=_CACHED),
            304: Success("Not modified: `If-None-Match` names what there is.", media_type="", headers=_CACHED),
        },
        raises=(e.NotFound,),
    ),
)
async def get_texts(
    request: Request, locale: Annotated[str, Path(description=f"{_CODES}.", examples=[LOCALES[-1]])]
) -> Response:
    """No token is needed. The texts change with a new version of the service only."""
    body, etag = await run_in_threadpool(_texts, locale)
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_SECONDS}", "ETag": etag}
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@cache
def _texts(locale: str) -> tuple[bytes, str]:
    """Return the document and its ETag. An error is not cached, so no request makes the cache grow."""
    body = orjson.dumps({"locale": locale, **texts_of(locale)})
    return body, f'"{b64url(hashlib.sha256(body).digest())}"'
