"""The application: `create_app()` is the factory that `uvicorn --factory` and the tests call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import ledger
from api import openapi
from api.auth import Authenticator
from api.console import routes as console
from api.consumer import json as me
from api.consumer import routes as me_pages
from api.consumer.pages import session_ended
from api.consumer.session import SessionEnded
from api.errors import TABLE, MethodNotAllowed, problem_response
from api.fast_path import HotPath
from api.json_io import refusal
from api.logs import AccessLog, bridge_logging, make_logger
from api.middleware import RequestFrame
from api.platform import appeals, lookups, oprf, pictures, reports, snapshots, webhooks
from api.public import log, metrics, policies, system, texts
from api.route_table import BodyLimits, RouteTable
from api.web import static
from api.web.base import base_path
from api.web.errors import Elsewhere, error_page, go_elsewhere
from api.web.pages import is_page
from ledger.errors import InvalidRequest, LedgerError, NotFound
from ledger.server.runtime import Runtime, open_runtime, utc_now
from ledger.server.settings import Settings, load_settings

DESCRIPTION = """\
Platforms share **confirmed** refund fraud without sharing who their customers are: reports and lookups carry blinded
identifiers, and every report has its place in a signed, append-only log that anybody can verify.

Binary values are base64url without padding, times are UTC with whole seconds (`2026-01-31T23:59:59Z`), amounts are
integers in the currency's minor unit. JSON objects refuse unknown members.

Every failure is an `application/problem+json` document (RFC 9457); match on its `code`. Beyond what each operation
lists, any request may get 400 `malformed_http`, 404 `not_found` (no such path), 405 `method_not_allowed` (with
`Allow`), 408 `request_timeout`, 413 `body_too_large`, 414 `uri_too_long`, 422 `invalid_request` (a parameter of the
query that is not known), 431 `headers_too_large`, 500 `internal` and 503 `too_many_connections`. Every answer carries
`X-Request-Id`. HEAD is answered wherever GET is, with the same headers.
"""

TAGS = [
    {"name": "lookups", "description": "Ask for a standing before a refund is decided."},
    {
        "name": "snapshots",
        "description": "Answer for yourself: a filter and sealed buckets, cut from the log every hour.",
    },
    {"name": "reports", "description": "Record confirmed fraud, correct it, prove that the log holds it."},
    {
        "name": "appeals",
        "description": "Contest a report for a customer, answer for your own, open a person's record to them.",
    },
    {"name": "me", "description": "A person's own record and appeals, in a session that their platform opens."},
    {"name": "webhooks", "description": "Be told what happens (Standard Webhooks)."},
    {"name": "oprf", "description": "Turn blinded identifiers into elements (RFC 9497)."},
    {"name": "suite", "description": "The keys that clients pin."},
    {"name": "log", "description": "The public log (C2SP tlog-checkpoint and tlog-tiles)."},
    {"name": "health", "description": "For load balancers and operators."},
]


class Api(FastAPI):
    """The framework's application behind the hot path."""

    hot: HotPath

    def put_in_front(self, access: AccessLog) -> None:
        """Create the hot path. Call it once, before the first message."""
        self.hot = HotPath(super().__call__, access=access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        await self.hot(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    *,
    now: Callable[[], datetime] = utc_now,
    log_stream: BinaryIO | None = None,
    runtime: Runtime | None = None,
) -> FastAPI:
    """Return the application. It opens database and keys when the server starts, and closes them when it stops, after
    pending work is done; a given `runtime` is open already, and the caller closes it. Settings are read from the
    environment and logs are written to standard error, unless given. Raises ConfigurationError for unknown or invalid
    settings."""
    settings = settings or load_settings()
    base_path(settings)  # refuse a bad address at start, not at the first page
    logger = make_logger(log_stream)
    bridge_logging(logger)
    access = AccessLog(log_stream)

    @asynccontextmanager
    async def lifespan(app: Api) -> AsyncIterator[None]:
        opened: Runtime = runtime if runtime is not None else await to_thread.run_sync(open_runtime, settings, now)
        app.state.runtime = opened
        app.state.authenticator = Authenticator(opened.members, settings.service, now)
        app.hot.bind(opened, app.state.authenticator)
        try:
            yield
        finally:
            if runtime is None:
                await to_thread.run_sync(opened.close)

    app = Api(
        title="Refund Credit Ledger",
        version=ledger.__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # both pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its spans would record messages of exceptions
    )
    app.state.logger = logger
    app.state.settings = settings
    limits = BodyLimits(settings.body_limit_bytes, settings.attachment_limit_bytes)
    app.put_in_front(access)
    app.add_middleware(
        RequestFrame,
        table=lambda: RouteTable(app.routes),
        limits=limits,
        logger=logger,
        access=access,
    )
    app.add_exception_handler(LedgerError, _ledger_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Elsewhere, go_elsewhere)
    app.add_exception_handler(SessionEnded, session_ended)
    for module in (lookups, pictures, snapshots, reports, appeals, me, webhooks, oprf, system, log, metrics, static):
        app.include_router(module.router)
    app.include_router(texts.router)
    app.include_router(policies.router)
    for router in (*console.routers(), *me_pages.routers()):
        app.include_router(router)
    openapi.install(app)
    return app


async def _ledger_error(request: Request, error: Exception) -> Response:
    if type(error) not in TABLE:
        raise error  # an internal error: the frame logs it and answers 500
    return _refused(request, cast(LedgerError, error))


async def _validation_error(request: Request, error: Exception) -> Response:
    return _refused(request, refusal(cast(RequestValidationError, error).errors()))


async def _http_exception(request: Request, error: Exception) -> Response:
    """Return the problem document for a refusal of the framework itself."""
    status = cast(HTTPException, error).status_code
    if status == 404:
        return _refused(request, NotFound("There is nothing at this path."))
    if status == 405:
        allow = _allowed(request)
        return _refused(request, MethodNotAllowed(f"This path answers {allow}.", allow=allow))
    return _refused(request, InvalidRequest("The request cannot be read."))


def _refused(request: Request, error: LedgerError) -> Response:
    state = request.scope["state"]
    state["code"] = error.code
    if is_page(request.scope):
        return error_page(request, error)
    return problem_response(error, state["request_id"])


def _allowed(request: Request) -> str:
    """Return all methods of the path: the framework names only those of the first matching route."""
    methods: set[str] = set()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope: dict[str, Any] = {**request.scope, "method": method}
        if any(route.matches(scope)[0] == Match.FULL for route in request.app.router.routes):
            methods.add(method)
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
