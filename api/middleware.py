"""The frame around every request, as one plain ASGI middleware: request id, limits of the route, access line, internal
errors.

One class instead of four: each layer of ASGI costs every request a few calls, and all of these need the same things
(the response's start, the time, the id).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import UriTooLong, internal_response, problem_response
from api.logs import AccessLog, failure
from api.route_table import MAX_QUERY_BYTES, UNFIT, Accepted, BodyLimits, RouteTable, read_query
from api.web.errors import error_page, failure_page
from api.web.pages import area_of, is_page
from ledger.errors import BodyTooLarge, LedgerError, NotFound

CLIENT_GONE = 499
"""Status in the log, never sent: the client closed the connection before the end of its request."""

FRAME_HEADERS = [(b"x-content-type-options", b"nosniff")]
"""Headers of every answer, besides the request's id."""

STARTED = "started"
"""Key in a request's state: its start (of `perf_counter`), if another layer has handled it before."""

QUERY = "query"
"""Key in a request's state: the names and values of its query that the route knows."""

HEAD = "head"
"""Key in a request's state: whether only the headers of the answer are sent. The application sees a GET."""

KEY_HEADER = b"idempotency-key"
"""Repeated in the answer to a POST, refusals included: a client sees that the answer is to its own request."""

_KEY = re.compile(rb"[!-~]{1,255}\Z")
_random = Random()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}\Z")


class RequestFrame:
    """The middleware. `limits` also apply to bodies sent in chunks of unknown total length. `table` returns the table
    of the application's routes; it is called at the first request, after all routes are registered."""

    def __init__(
        self, app: ASGIApp, *, table: Callable[[], RouteTable], limits: BodyLimits, logger: Any, access: AccessLog
    ) -> None:
        self._app = app
        self._make_table = table
        self._table: RouteTable | None = None
        self._limits = limits
        self._logger = logger
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, content_length, key = _read_headers(scope)
        method = scope["method"]
        own = [(b"x-request-id", request_id.encode("ascii")), *FRAME_HEADERS]
        if key is not None and method == "POST":
            own.append((KEY_HEADER, key))
        state: dict[str, Any] = scope.setdefault("state", {})
        started = state.get(STARTED) or perf_counter()
        state["request_id"] = request_id
        inner = scope
        if method == "HEAD":  # a copy: the server itself reads the method to know that no body follows
            inner, state[HEAD] = {**scope, "method": "GET"}, True
        if self._table is None:
            self._table = self._make_table()
        accepted = self._table.find(inner["method"], scope["path"])
        limit = self._limits.of(accepted.body)
        status = received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own]
            elif inner is not scope:
                message["body"] = b""
            await send(message)

        try:
            refusal = _refusal(inner, accepted, content_length, limit)
            if refusal is not None:
                state["code"] = refusal.code
                await _refused(inner, refusal)(inner, receive, send_framed)
            else:
                await self._app(inner, receive_limited, send_framed)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            state["code"] = "internal"
            self._logger.error("request_failed", request_id=request_id, **failure(error))
            if status:  # the answer had begun: the client sees only the closed connection
                raise
            await _failed(inner)(inner, receive, send_framed)
        finally:
            route = getattr(inner.get("route"), "path", accepted.path)
            platform, code = state.get("platform"), state.get("code")
            self._access.request(method, route, status, started, request_id, platform, code)


def _refusal(scope: Scope, accepted: Accepted, content_length: int, limit: int) -> LedgerError | None:
    """Return the error with which the request is refused before its body is read, None if it is not. Stores the query
    in its state."""
    if UNFIT.search(scope["path"]):
        return NotFound("There is nothing at this path.")
    if content_length > limit:
        return _too_large(limit)
    query = scope["query_string"]
    if len(query) > MAX_QUERY_BYTES:
        return UriTooLong(f"A query has at most {MAX_QUERY_BYTES} bytes.", limit_bytes=MAX_QUERY_BYTES)
    try:
        scope["state"][QUERY] = read_query(accepted, query)
    except LedgerError as error:
        return error
    return None


def request_id_of(value: bytes | None) -> str:
    """Return the id that the client sent in `X-Request-Id` if it is valid, else a new one.

    A new one only has to differ from all others: the generator's seed has enough entropy for that.
    """
    if value is not None and _REQUEST_ID.match(value):
        return value.decode("ascii")
    return f"{_random.getrandbits(96):024x}"


def _read_headers(scope: Scope) -> tuple[str, int, bytes | None]:
    """Return the request's id (the client's own if it is valid), the declared body length (0 if none), and the
    idempotency key if there is a valid one."""
    request_id = None
    content_length = 0
    keys = []
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            request_id = value
        elif name == b"content-length" and value.isdigit():
            content_length = int(value[:20])
        elif name == KEY_HEADER:
            keys.append(value)
    key = keys[0] if len(keys) == 1 and _KEY.match(keys[0]) else None
    return request_id_of(request_id), content_length, key


def _refused(scope: Scope, error: LedgerError) -> Response:
    area = area_of(scope["path"])
    if area is None:
        return problem_response(error, scope["state"]["request_id"])
    # The error's page shows no address of its own, so it gets the path of the area.
    return error_page(Request({**scope, "path": area, "raw_path": area.encode(), "query_string": b""}), error)


def _failed(scope: Scope) -> Response:
    return failure_page(scope) if is_page(scope) else internal_response(scope["state"]["request_id"])


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"A body has at most {limit} bytes.", limit_bytes=limit)
