"""Routes of the suite, and of health and readiness."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from api.json_io import answer
from api.openapi import Success, operation
from api.public.service_schemas import Health, Readiness, Suite
from ledger.server.jobs import readiness as health
from ledger.server.platforms.suite import suite

router = APIRouter()


@router.get(
    "/v1/suite",
    **operation(
        "getSuite",
        "The service's id, key epochs, holders and log key",
        "suite",
        {200: Success("What a client compares with the suite file it pinned.", Suite)},
    ),
)
async def get_suite(request: Request) -> Response:
    """No token is needed."""
    rt = runtime(request)
    return answer(suite(rt.settings, rt.keys, rt.policies.timeline, rt.now()))


@router.get("/healthz", **operation("getHealth", "The process runs", "health", {200: Success("It runs.", Health)}))
async def get_health() -> Response:
    """It checks nothing but that the process runs."""
    return answer({"status": "ok"})


@router.get(
    "/readyz",
    **operation(
        "getReadiness",
        "The process can answer lookups",
        "health",
        {200: Success("It can.", Readiness), 503: Success("It cannot.", Readiness)},
    ),
)
async def get_readiness(request: Request) -> Response:
    """Database reads and commits, filter of listed tags built, threads that answer make progress. A frozen log does not
    matter here. Answered from memory: it never waits for the database."""
    state = health.readiness(runtime(request).process)
    return answer(state, 200 if state["status"] == "ready" else 503)


@router.get(
    "/readyz/write",
    **operation(
        "getWriteReadiness",
        "The process can take reports",
        "health",
        {200: Success("It can.", Readiness), 503: Success("It cannot.", Readiness)},
    ),
)
async def get_write_readiness(request: Request) -> Response:
    """Database commits, log not frozen, log writer makes progress. Answered from memory, as `/readyz`."""
    state = health.write_readiness(runtime(request).process)
    return answer(state, 200 if state["status"] == "ready" else 503)
