"""The application of a key holder's service: a plain ASGI application of six routes.

It has no framework, because a holder evaluates one element in less time than a framework needs to route a request. The
frame around a request is that of the ledger's API: request id, limits before the body is read, problem documents
(RFC 9457), one access line, and no answer that repeats a value of the request.

A token is checked before the body is parsed. Evaluations run in a pool of threads; libsodium runs without the
interpreter's lock.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, BinaryIO

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth import bearer_token
from api.errors import (
    TABLE,
    InvalidJson,
    MethodNotAllowed,
    UnsupportedMediaType,
    UriTooLong,
    internal_response,
    problem_response,
)
from api.json_io import is_json
from api.logs import AccessLog, bridge_logging, failure, make_logger
from api.middleware import CLIENT_GONE, FRAME_HEADERS, request_id_of
from api.route_table import ELEMENTS_BYTES, SMALL_BYTES, UNFIT
from ledger.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    LedgerError,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from ledger.holder.admission import endorse_key
from ledger.holder.runtime import HolderRuntime
from ledger.holder.tokens import HolderToken
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.tags import MAX_EPOCH
from ledger.protocol.threshold import MAX_GENERATION

JSON = "application/json"

_EVALUATION = frozenset({"epoch", "generation", "blinded"})
_NEW_KEY = frozenset({"kid", "public_key"})


class _Gone(Exception):
    """The client closed the connection before the end of its request."""


@dataclass(slots=True)
class _HolderRequest:
    """A request as its handler sees it. The handler sets `platform` when it knows it, for the access line."""

    headers: Mapping[bytes, bytes]
    body: bytes
    platform: str | None = None


Handler = Callable[[_HolderRequest], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class HolderRoute:
    """A route: its method, its path, the largest body in bytes, and its handler."""

    method: str
    path: str
    body_bytes: int
    handle: Handler


class HolderApp:
    """The ASGI application. `runtime` is open, and the caller closes it; logs go to `log_stream`, by default standard
    error."""

    def __init__(self, runtime: HolderRuntime, log_stream: BinaryIO | None = None) -> None:
        self._runtime = runtime
        self._logger = make_logger(log_stream)
        bridge_logging(self._logger)
        self._access = AccessLog(log_stream)
        self._pool = ThreadPoolExecutor(runtime.settings.threads * 2 + 2, thread_name_prefix="holder")
        self._waiting = 0
        self.routes = (
            HolderRoute("POST", "/v1/oprf/evaluate", ELEMENTS_BYTES, self._evaluate),
            HolderRoute("POST", "/v1/keys", SMALL_BYTES, self._endorse),
            HolderRoute("GET", "/v1/card", SMALL_BYTES, self._card),
            HolderRoute("GET", "/healthz", SMALL_BYTES, self._health),
            HolderRoute("GET", "/readyz", SMALL_BYTES, self._ready),
            HolderRoute("GET", "/metrics", SMALL_BYTES, self._metrics),
        )
        self._paths: dict[str, dict[str, HolderRoute]] = {}
        for route in self.routes:
            methods = self._paths.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def close(self) -> None:
        """End the threads of the pool; work that waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- the frame ------------------------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers.get(b"x-request-id"))
        request = _HolderRequest(headers, b"")
        methods = self._paths.get(scope["path"])
        status, code = 0, None
        try:
            response = await self._answered(scope, receive, methods, request)
        except _Gone:
            status = CLIENT_GONE
        except LedgerError as error:
            if type(error) in TABLE:
                code, response = error.code, problem_response(error, request_id)
            else:
                code, response = "internal", self._internal(error, request_id)
        except Exception as error:
            code, response = "internal", self._internal(error, request_id)
        try:
            if status != CLIENT_GONE:
                status = response.status_code
                framed = [*response.raw_headers, (b"x-request-id", request_id.encode()), *FRAME_HEADERS]
                await send({"type": "http.response.start", "status": status, "headers": framed})
                body = b"" if scope["method"] == "HEAD" else response.body
                await send({"type": "http.response.body", "body": body})
        finally:
            route = None if methods is None else scope["path"]
            self._access.request(scope["method"], route, status, started, request_id, request.platform, code)

    def _internal(self, error: Exception, request_id: str) -> Response:
        self._logger.error("request_failed", request_id=request_id, **failure(error))
        return internal_response(request_id)

    async def _answered(
        self, scope: Scope, receive: Receive, methods: Mapping[str, HolderRoute] | None, request: _HolderRequest
    ) -> Response:
        """Return the answer of the route. Raises what it raises, NotFound, MethodNotAllowed, BodyTooLarge, UriTooLong,
        InvalidRequest for a query, _Gone."""
        if methods is None or UNFIT.search(scope["path"]):
            raise NotFound("There is nothing at this path.")
        route = methods.get(scope["method"])
        if route is None:
            allow = ", ".join(sorted(methods))
            raise MethodNotAllowed(f"This path answers {allow}.", allow=allow)
        if len(scope["query_string"]) > SMALL_BYTES:
            raise UriTooLong(f"A query has at most {SMALL_BYTES} bytes.", limit_bytes=SMALL_BYTES)
        if scope["query_string"]:
            raise InvalidRequest("This path has no parameters.")
        length = request.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > route.body_bytes:
            raise _too_large(route)
        request.body = await _read(receive, route)
        return await route.handle(request)

    async def _in_thread(self, call: Callable[[], Response]) -> Response:
        """Return the result of `call` in a thread of the pool. Raises what it raises, and Overloaded when too many
        wait."""
        if self._waiting >= self._runtime.settings.requests_max:
            raise Overloaded("Too many requests are waiting. Try again.", retry_after_seconds=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._waiting -= 1

    # --- routes with a token --------------------------------------------------------------------------------------

    async def _evaluate(self, request: _HolderRequest) -> Response:
        return await self._in_thread(partial(self._evaluated, request))

    def _evaluated(self, request: _HolderRequest) -> Response:
        snapshot = self._runtime.state.current()
        token = self._authenticated(request)
        members = _members(request)
        if not members.keys() <= _EVALUATION or not {"epoch", "blinded"} <= members.keys():
            raise InvalidRequest("An object with epoch, blinded and, if wanted, generation is expected.")
        epoch, generation, blinded = members["epoch"], members.get("generation"), members["blinded"]
        if type(epoch) is not int or not 0 <= epoch <= MAX_EPOCH:
            raise InvalidRequest("`epoch` is a number.")
        if generation is not None and (type(generation) is not int or not 1 <= generation <= MAX_GENERATION):
            raise InvalidRequest("`generation` is a number from 1, or left out for the newest one.")
        if not isinstance(blinded, list) or len(blinded) > ELEMENTS_BYTES // 32:
            raise InvalidRequest("`blinded` is a list of blinded elements.")
        elements = [unb64url(text, 32) for text in blinded]
        try:
            batch = self._runtime.evaluator.evaluate(snapshot, token, epoch, generation, elements)
        except Unauthenticated as error:
            self._runtime.metrics.count_token(error.code)
            raise
        answer = {
            "epoch": batch.epoch,
            "generation": batch.generation,
            "index": batch.index,
            "evaluated": [b64url(element) for element in batch.evaluated],
            "proof": b64url(batch.proof),
        }
        return Response(orjson.dumps(answer), media_type=JSON)

    async def _endorse(self, request: _HolderRequest) -> Response:
        return await self._in_thread(partial(self._endorsed, request))

    def _endorsed(self, request: _HolderRequest) -> Response:
        token = self._authenticated(request)
        members = _members(request)
        if members.keys() != _NEW_KEY or not all(isinstance(value, str) for value in members.values()):
            raise InvalidRequest("An object with exactly these members is expected: kid, public_key.")
        try:
            is_new = endorse_key(
                self._runtime.evaluator.engine,  # with a deadline for its answers
                platform=token.member.platform,
                kid=members["kid"],
                public_key=unb64url(members["public_key"], 32),
                endorsed_by=token.kid,
                token=token.use,
                now=self._runtime.now(),
            )
        except Unauthenticated as error:
            self._runtime.metrics.count_token(error.code)
            raise
        if is_new:
            self._runtime.state.refresh()
        answer = {"platform": token.member.platform, "kid": members["kid"], "endorsed_by": token.kid}
        return Response(orjson.dumps(answer), media_type=JSON)

    def _authenticated(self, request: _HolderRequest) -> HolderToken:
        """Return the verified token of a request. Raises Unauthenticated and the errors of `TokenVerifier.verify`."""
        header = request.headers.get(b"authorization")
        try:
            token = bearer_token(None if header is None else header.decode("latin-1"))
            verified = self._runtime.tokens.verify(self._runtime.state.current(), token, request.body)
        except (Unauthenticated, Forbidden) as error:
            self._runtime.metrics.count_token(error.code)
            raise
        request.platform = verified.member.platform
        return verified

    # --- routes without a token -----------------------------------------------------------------------------------

    async def _card(self, request: _HolderRequest) -> Response:
        return await self._in_thread(lambda: Response(self._runtime.card(), media_type=JSON))

    async def _health(self, request: _HolderRequest) -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def _ready(self, request: _HolderRequest) -> Response:
        state: dict[str, Any] = self._runtime.readiness()
        return Response(orjson.dumps(state), 200 if state["status"] == "ready" else 503, media_type=JSON)

    async def _metrics(self, request: _HolderRequest) -> Response:
        expected = self._runtime.settings.metrics_token
        if expected is None:
            raise NotFound("There is nothing at this path.")
        if not hmac.compare_digest(request.headers.get(b"authorization", b""), b"Bearer " + expected.encode()):
            raise Unauthenticated("Send the metrics token: `Authorization: Bearer <token>`.")
        text = self._runtime.metrics.text()
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


async def _read(receive: Receive, route: HolderRoute) -> bytes:
    """Return the body. Raises BodyTooLarge, _Gone."""
    parts: list[bytes] = []
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        received += len(part)
        if received > route.body_bytes:
            raise _too_large(route)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large(route: HolderRoute) -> BodyTooLarge:
    return BodyTooLarge(f"A body has at most {route.body_bytes} bytes.", limit_bytes=route.body_bytes)


def _members(request: _HolderRequest) -> dict[str, Any]:
    """Return the body as a JSON object. Raises UnsupportedMediaType, InvalidJson, InvalidRequest."""
    if not is_json(request.headers.get(b"content-type", b"").decode("latin-1")):
        raise UnsupportedMediaType("Send the body as application/json in UTF-8.")
    try:
        value = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson("The body is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The body is a JSON object.")
    return value
