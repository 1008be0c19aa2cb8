"""The frame around every request, as one plain ASGI middleware: request id, body limit, access line, last resort.

One class instead of four: each layer of ASGI costs every request a few calls, and all of these need the same things
(the response's start, the time, the id).
"""

from __future__ import annotations

import re
from random import Random
from time import perf_counter
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_response, problem_response
from api.logs import AccessLog, failure
from api.web.errors import error_page, failure_page
from api.web.pages import is_page
from ledger.errors import BodyTooLarge

CLIENT_GONE = 499
"""Logged, never sent: the client closed the connection before it had sent its request."""

FRAME_HEADERS = [(b"x-content-type-options", b"nosniff")]
"""Of every answer, beside the request's id."""

_UPLOADS = re.compile(r"(/v1(/me)?/appeals/[^/]+/attachments|/me/cases/[^/]+/files)\Z")
"""Paths whose POST is a file."""

STARTED = "started"
"""Where a request's state holds when it came in (of `perf_counter`), if another layer has handled it before."""

FORM_ROOM_BYTES = 4096
"""What a form may add to a file that a page sends: boundaries and the file's name."""

KEY_HEADER = b"idempotency-key"
"""Repeated in the answer to a POST, refusals included: a client sees that the answer is to its own request."""

_KEY = re.compile(rb"[!-~]{1,255}\Z")
_random = Random()
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}\Z")


class RequestFrame:
    """See the module. `body_limit_bytes` also holds for bodies sent in chunks of unknown total length; where files are
    handed in, `file_limit_bytes` and what a form puts around a file."""

    def __init__(
        self, app: ASGIApp, *, body_limit_bytes: int, file_limit_bytes: int, logger: Any, access: AccessLog
    ) -> None:
        self._app = app
        self._body_limit_bytes = body_limit_bytes
        self._file_limit_bytes = file_limit_bytes
        self._logger = logger
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, content_length, key = _read_headers(scope)
        own = [(b"x-request-id", request_id.encode("ascii")), *FRAME_HEADERS]
        if key is not None and scope["method"] == "POST":
            own.append((KEY_HEADER, key))
        state: dict[str, Any] = scope.setdefault("state", {})
        started = state.get(STARTED) or perf_counter()
        state["request_id"] = request_id
        limit = self._limit_bytes(scope)
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
            await send(message)

        try:
            if content_length > limit:
                state["code"] = BodyTooLarge.code
                await _refused(scope, _too_large(limit))(scope, receive, send_framed)
            else:
                await self._app(scope, receive_limited, send_framed)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            state["code"] = "internal"
            self._logger.error("request_failed", request_id=request_id, **failure(error))
            if status:  # the answer had begun: only closing the connection can tell the client
                raise
            await _failed(scope)(scope, receive, send_framed)
        finally:
            route = getattr(scope.get("route"), "path", None)
            platform, code = state.get("platform"), state.get("code")
            self._access.request(scope["method"], route, status, started, request_id, platform, code)

    def _limit_bytes(self, scope: Scope) -> int:
        if scope["method"] != "POST" or not _UPLOADS.match(scope["path"]):
            return self._body_limit_bytes
        return self._file_limit_bytes + (FORM_ROOM_BYTES if is_page(scope) else 0)


def request_id_of(value: bytes | None) -> str:
    """The id that the client sent in `X-Request-Id` if it is fit, else a new one.

    A new one only has to differ from all others: the generator was seeded with enough entropy for that.
    """
    if value is not None and _REQUEST_ID.match(value):
        return value.decode("ascii")
    return f"{_random.getrandbits(96):024x}"


def _read_headers(scope: Scope) -> tuple[str, int, bytes | None]:
    """The request's id, the client's own if it is fit, the declared body length (0 if none), and the idempotency key if
    there is one that is fit."""
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


def _refused(scope: Scope, error: BodyTooLarge) -> Response:
    if is_page(scope):
        return error_page(Request(scope), error)
    return problem_response(error, scope["state"]["request_id"])


def _failed(scope: Scope) -> Response:
    return failure_page(scope) if is_page(scope) else internal_response(scope["state"]["request_id"])


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"A body has at most {limit} bytes.", limit_bytes=limit)
