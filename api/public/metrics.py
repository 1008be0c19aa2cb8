"""Metrics for the operator's own monitoring, in the text format of Prometheus."""

from __future__ import annotations

import hmac

from anyio import to_thread
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from ledger.errors import NotFound, Unauthenticated

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def get_metrics(request: Request) -> Response:
    """Metrics name platforms, so they need a token of their own (`REFUND_LEDGER_METRICS_TOKEN`). 404 without a
    configured token."""
    rt = runtime(request)
    token = rt.settings.metrics_token
    if token is None:
        raise NotFound("There is nothing at this path.")
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise Unauthenticated("Send the metrics token: `Authorization: Bearer <token>`.")
    body = await to_thread.run_sync(rt.metrics.text)
    return Response(body, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})
