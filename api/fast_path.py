"""The fast path of the most frequent requests: lookups, and buckets of a snapshot.

A plain ASGI wrapper around the whole application. It checks the token and parses the body with the functions of the
route, and answers with the bytes, headers and access line of the route: clean lookups from memory, all others from the
database. So a lookup is authenticated, parsed and validated once.

A request that is refused here is passed to the application with its body played back, so that errors are made in one
place. If the lookup itself failed, its error is passed on, and the route raises it instead of repeating the lookup.

It is outside the request's frame and the framework's layers, because each of them costs every request a few calls,
which is most of the time of a clean lookup.
"""

from __future__ import annotations

from time import perf_counter

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Authenticator
from api.json_io import is_json, parse_small
from api.logs import AccessLog
from api.middleware import FRAME_HEADERS, KEY_HEADER, STARTED, request_id_of
from api.platform.questions import LOOKUP_FAILED, read_lookup
from api.platform.snapshots import BINARY, bucket_headers
from ledger.server.lookups.answers import ANSWER_BYTES
from ledger.server.lookups.service import LookupRequest
from ledger.server.platforms.members import Member
from ledger.server.runtime import Runtime

LOOKUPS = "/v1/lookups"
SNAPSHOTS = "/v1/snapshots/"
BUCKET_ROUTE = SNAPSHOTS + "{version}/buckets/{prefix}"

MAX_DIGITS = 4
MAX_BYTES = 10**MAX_DIGITS - 1
"""The longest body in bytes that is read here; a lookup has less than 4000."""

_HEADERS = [(b"content-length", str(ANSWER_BYTES).encode()), (b"content-type", b"application/json")]
"""Headers of an answer to a lookup."""


class HotPath:
    """The ASGI wrapper. It passes every request to `app` until `bind` was called."""

    def __init__(self, app: ASGIApp, *, access: AccessLog) -> None:
        self._app = app
        self._access = access
        self._rt: Runtime | None = None
        self._authenticator: Authenticator | None = None

    def bind(self, rt: Runtime, authenticator: Authenticator) -> None:
        """Start to answer from the open resources of `runtime`."""
        self._authenticator, self._rt = authenticator, rt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            if scope["query_string"]:
                pass  # these routes know no query: the request's frame refuses it
            elif path == LOOKUPS and method == "POST":
                await self._lookups(scope, receive, send)
                return
            elif method == "GET" and path.startswith(SNAPSHOTS) and await self._buckets(scope, path, send):
                return
        await self._app(scope, receive, send)

    async def _lookups(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        # A body that is declared as longer may have to be refused unread.
        member = self._member(scope, headers) if len(length) <= MAX_DIGITS else None
        if member is not None and self._rt is not None:
            try:
                message = await receive()
            except Exception as error:
                receive = _PlayBack(receive, error)
            else:
                request = self._asked(headers, message)
                if request is not None:
                    try:
                        answer = self._rt.lookups.from_memory(member, request)
                        if answer is None:
                            answer = await self._rt.lookups.from_database(member, request)
                    except Exception as error:
                        scope.setdefault("state", {}).update({LOOKUP_FAILED: error, STARTED: started})
                    else:
                        await self._answer(scope, send, member, started, LOOKUPS, headers, _HEADERS, answer)
                        return
                receive = _PlayBack(receive, message)
        await self._app(scope, receive, send)

    async def _buckets(self, scope: Scope, path: str, send: Send) -> bool:
        """Answer a request for a bucket. Return whether it was one and is answered."""
        version, _, prefix = path[len(SNAPSHOTS) :].partition("/buckets/")
        headers = dict(scope["headers"])
        if not prefix or self._rt is None or b"if-none-match" in headers:
            return False
        started = perf_counter()
        member = self._member(scope, headers)
        if member is None:
            return False
        try:
            snapshot, body = self._rt.snapshots.fetch_bucket(member, version, prefix)
        except Exception:
            return False
        cache_control, etag = bucket_headers(self._rt, snapshot, prefix).values()
        own = [
            (b"cache-control", cache_control.encode()),
            (b"etag", etag.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"content-type", BINARY.encode()),
        ]
        await self._answer(scope, send, member, started, BUCKET_ROUTE, headers, own, body)
        return True

    def _member(self, scope: Scope, headers: dict[bytes, bytes]) -> Member | None:
        """Return the platform of the request, None if the application has to handle it: a refusal, a repeated header,
        or an idempotency key, which has no effect here but is repeated in the answer."""
        authorization = headers.get(b"authorization")
        if self._authenticator is None or authorization is None or len(headers) != len(scope["headers"]):
            return None
        if KEY_HEADER in headers:
            return None
        try:
            return self._authenticator.member(authorization.decode("latin-1"), "lookup")
        except Exception:
            return None

    def _asked(self, headers: dict[bytes, bytes], message: Message) -> LookupRequest | None:
        """Return the lookup in a request, None for a faulty one, which the route parses again and refuses."""
        if message["type"] != "http.request" or message.get("more_body"):
            return None
        body, media_type = message.get("body", b""), headers.get(b"content-type", b"")
        if len(body) > MAX_BYTES or not (media_type == b"application/json" or is_json(media_type.decode("latin-1"))):
            return None
        try:
            return read_lookup(orjson.loads(body), parse_small)
        except Exception:
            return None

    async def _answer(
        self,
        scope: Scope,
        send: Send,
        member: Member,
        started: float,
        route: str,
        headers: dict[bytes, bytes],
        own: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Send `body` with its `own` headers and the headers of every answer, and log the request."""
        request_id = request_id_of(headers.get(b"x-request-id"))
        framed = [*own, (b"x-request-id", request_id.encode()), *FRAME_HEADERS]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": framed})
            await send({"type": "http.response.body", "body": body})
        finally:
            self._access.request(scope["method"], route, 200, started, request_id, member.platform, None)


class _PlayBack:
    """An ASGI `receive` that begins with a message that was received already, or raises an error in its place."""

    def __init__(self, receive: Receive, first: Message | Exception) -> None:
        self._receive = receive
        self._first: Message | Exception | None = first

    async def __call__(self) -> Message:
        """Return the next message."""
        first, self._first = self._first, None
        if first is None:
            return await self._receive()
        if isinstance(first, Exception):
            raise first
        return first
