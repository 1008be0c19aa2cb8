"""The shortest way for what is asked most: clean lookups, and buckets of a snapshot.

A plain ASGI middleware between the request's frame and the framework. It checks the token, parses the body by the same
functions as the route does, and answers what memory alone can answer, in the bytes and headers that the route would
send. Everything else, for whatever reason, goes on to the framework with the body played back: refusals, people who may
be listed, a view that is too old. So there is one place where errors are made, and nothing here waits for a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.schemas.lookups import Lookup
from api.wire import is_json, parse
from ledger.core.encoding import unb64url
from ledger.service.lookups import answer_from_memory


@dataclass(frozen=True, slots=True)
class _Route:
    """What the access line names (see `RequestFrame`)."""

    path: str


_LOOKUPS = _Route("/v1/lookups")


class HotPath:
    """See the module. Needs `app.state.runtime` and `app.state.authenticator`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http" and scope["path"] == _LOOKUPS.path and scope["method"] == "POST":
            await self._lookup(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lookup(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["app"].state
        headers = _headers(scope, b"authorization", b"content-type")
        try:
            member = state.authenticator.member(headers[0], "lookup")
        except Exception:
            await self._app(scope, receive, send)
            return
        played_back = _PlayBack(receive)
        message = await played_back.first()
        answer = None
        if message is not None and message["type"] == "http.request" and not message.get("more_body"):
            answer = _clean(state.runtime, member, headers[1], message.get("body", b""))
        if answer is None:
            await self._app(scope, played_back, send)
            return
        scope["route"] = _LOOKUPS
        scope["state"]["platform"] = member.platform
        await _send(send, [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")], answer)


def _clean(rt: Any, member: Any, media_type: str | None, body: bytes) -> bytes | None:
    """The answer to a clean lookup, or None: whatever is wrong with it, the route finds out again and says so."""
    try:
        if not is_json(media_type or ""):
            return None
        wanted = parse(Lookup, orjson.loads(body))
        tags = [unb64url(subject.tag, 32) for subject in wanted.subjects]
        return answer_from_memory(rt, member, wanted.epoch, tags, wanted.min_index)
    except Exception:
        return None


class _PlayBack:
    """A `receive` that gives the first message, or what was raised instead of it, once more."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._message: Message | None = None
        self._error: Exception | None = None

    async def first(self) -> Message | None:
        """The first message; None if there is an error in its place."""
        try:
            self._message = await self._receive()
        except Exception as error:
            self._error = error
        return self._message

    async def __call__(self) -> Message:
        """ASGI's `receive`."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        message, self._message = self._message, None
        return await self._receive() if message is None else message


def _headers(scope: Scope, *names: bytes) -> list[str | None]:
    """The first value of each header."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in names:
            found.setdefault(name, value)
    return [found[name].decode("latin-1") if name in found else None for name in names]


async def _send(send: Send, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
