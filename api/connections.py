"""What the server itself bounds, before there is a request: header bytes, the time that headers and bodies take, and
connections in all and from one address.

uvicorn has no such limits, and a proxy that has them may be missing or misconfigured. `limited_http` gives the protocol
class that uvicorn makes for each connection. It costs a request about two microseconds: bytes are counted as they
arrive, and one timer for the whole process looks at all connections.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import (
    HeadersTooLarge,
    MalformedHttp,
    RequestTimeout,
    TooManyConnections,
    UriTooLong,
    problem_response,
)
from api.middleware import FRAME_HEADERS, request_id_of
from ledger.errors import LedgerError
from ledger.server.settings import Settings

MAX_FIELDS = 128
"""Header fields of a request."""
MAX_PIPELINED = 16
"""Requests that wait behind another one of their connection."""
CHECK_SECONDS = 0.5
"""How often the timer looks; a deadline is met this much late at most."""
OWN_FILES = 100
"""Files that the process needs for itself: databases, keys, snapshots, webhooks."""
MOST_CONNECTIONS = 10_000
RESERVE = 8
"""Connections beyond the limit of all that are read far enough to answer a health probe, or to say 503. There are as
many again for addresses that have all connections of their own: those take none of the first."""
RESERVE_PER_ADDRESS = 2
"""How many of either one address may take at a time, so that no address keeps the probes of another out. Where
addresses have no limit of their own, because a proxy's is the only one, it may take all."""
RESERVE_SECONDS = 2.0
"""Time until the header of a connection in reserve is complete. It answers one request and is closed, after twice this
time in any case."""
SPARED_SECONDS = 1.0
"""A connection that has asked nothing for this long gives way to a new one when there is no room."""
WARN_SECONDS = 60.0
PROBES = frozenset({b"/healthz", b"/readyz", b"/readyz/write"})

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]{0,5})?\Z")
"""RFC 9112 section 3.2: `uri-host [":" port]`."""


class Phase(Enum):
    """What a connection waits for."""

    HEADER = "header"
    BODY = "body"
    ANSWER = "answer"
    """Nothing of the client's: the answer is being made, or the connection is kept for the next request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a process. `connections_per_address` None is no limit."""

    target_bytes: int
    header_bytes: int
    header_seconds: float
    body_seconds: float
    body_bytes_per_second: int
    answer_stall_seconds: float
    connections: int
    connections_per_address: int | None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings say."""
        connections = settings.connections_max or default_connections()
        per_address = settings.connections_per_address_max
        if per_address is None:
            per_address = max(1, connections // 2)
        return cls(
            target_bytes=settings.target_limit_bytes,
            header_bytes=settings.header_limit_bytes,
            header_seconds=settings.header_timeout_seconds,
            body_seconds=settings.body_timeout_seconds,
            body_bytes_per_second=settings.body_rate_bytes_per_second,
            answer_stall_seconds=settings.answer_stall_seconds,
            connections=connections,
            connections_per_address=per_address or None,
        )


def default_connections() -> int:
    """Four fifths of the files that this process may open, without those it needs itself."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(8, min(MOST_CONNECTIONS, files * 4 // 5 - OWN_FILES))


class Place(Enum):
    """What becomes of a new connection."""

    FREE = "free"
    RESERVE = "reserve"
    NONE = "none"


class Door:
    """All connections of a process: how many there are, which have asked nothing yet, and the timer."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[LimitedProtocol, str] = {}
        self._reserved: set[LimitedProtocol] = set()
        """Connections beyond the limit of all."""
        self._crowded: set[LimitedProtocol] = set()
        """Connections beyond the limit of their address."""
        self._silent: dict[LimitedProtocol, None] = {}
        self._by_address: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._warned_at: dict[str, float] = {}
        self.host = b""
        """The value of a Host header that was found good last: most requests have the same."""

    def enter(self, one: LimitedProtocol, address: str, now: float) -> Place:
        """Count a new connection in, and say what becomes of it. Where all places are taken, the connection that has
        been open longest without a request makes room for it."""
        full = len(self._open) - len(self._reserved) - len(self._crowded) >= self.limits.connections
        most = self.limits.connections_per_address
        crowded = most is not None and self._by_address[address] >= most
        refused = (full or crowded) and not self._make_room(address if crowded else None, now)
        self._open[one] = address
        self._by_address[address] += 1
        if self._timer is None:
            self._timer = one.loop.call_later(CHECK_SECONDS, self._check, one.loop)
        if not refused:
            self._silent[one] = None
            return Place.FREE
        if crowded:
            self._warn(one, "One address has its %d connections; new ones from it are refused.", most, now)
        else:
            self._warn(one, "All %d connections are taken; new ones are refused.", self.limits.connections, now)
        reserve = self._crowded if crowded else self._reserved
        mine = sum(self._open[other] == address for other in reserve)
        if len(reserve) >= RESERVE or mine >= (RESERVE if most is None else RESERVE_PER_ADDRESS):
            return Place.NONE
        reserve.add(one)
        return Place.RESERVE

    def asked(self, one: LimitedProtocol) -> None:
        """Its first request has a whole header: it does not give way any more."""
        self._silent.pop(one, None)

    def leave(self, one: LimitedProtocol) -> None:
        """Count a connection out."""
        address = self._open.pop(one, None)
        if address is None:
            return
        self._silent.pop(one, None)
        self._reserved.discard(one)
        self._crowded.discard(one)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _make_room(self, address: str | None, now: float) -> bool:
        """Drop the oldest connection (of `address`, if given) that has asked nothing for a while; whether there was
        one."""
        for one in self._silent:
            if now - one.opened < SPARED_SECONDS:
                return False  # all others are younger
            if address is None or self._open[one] == address:
                one.transport.abort()
                self.leave(one)
                return True
        return False

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(CHECK_SECONDS, self._check, loop) if self._open else None
        now = loop.time()
        for one in tuple(self._open):
            one.check(now)

    def _warn(self, one: LimitedProtocol, text: str, number: int | None, now: float) -> None:
        """Log `text`, at most once in WARN_SECONDS. It names no address: that may be a person's."""
        if now - self._warned_at.get(text, float("-inf")) >= WARN_SECONDS:
            self._warned_at[text] = now
            one.logger.warning(text, number)


_HEADER, _BODY, _ANSWER, _FREE = Phase.HEADER, Phase.BODY, Phase.ANSWER, Place.FREE
"""Found several times as fast as the members of their classes: every request looks them up."""


class _Refused(Exception):
    """Ends the parser's work on a connection."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection under the limits of its `door`. Everything that it refuses is a problem document; after it the
    connection is closed."""

    door: ClassVar[Door]
    most_header_bytes: ClassVar[int]
    most_target_bytes: ClassVar[int]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.opened = self.since = self.loop.time()
        self._phase = _HEADER
        self._unparsed = self._hosts = self._body_bytes = 0
        self._ended = False
        self._place = Place.FREE
        self._has_asked = False
        self._refusal: LedgerError | None = None
        self._stalled_at: float | None = None
        self._buffered = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio: the connection is there."""
        super().connection_made(transport)
        self._place = self.door.enter(self, _address(self.client), self.since)
        if self._place is Place.NONE:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have arrived."""
        if self._ended:
            return
        self._unparsed += len(data)
        super().data_received(data)
        # What neither ends a header nor belongs to a body: a field, a chunk's extension or a trailer without an end.
        if self._unparsed > self.most_header_bytes and not self._ended:
            self._end(self._headers_too_large())

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._phase = _HEADER
        self.since = self.loop.time()
        self._hosts = self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            if value != self.door.host:
                if not _HOST.match(value):
                    self._refuse(MalformedHttp("The Host header names no host."))
                self.door.host = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The end of a header."""
        if len(self.url) > self.most_target_bytes:
            limit = self.most_target_bytes
            self._refuse(UriTooLong(f"An address has at most {limit} bytes.", limit_bytes=limit))
        # What came so far holds the header and perhaps more: only where that is too much the fields are added up.
        if len(self.headers) > MAX_FIELDS or (
            self._unparsed > self.most_header_bytes
            and sum(len(name) + len(value) + 4 for name, value in self.headers) > self.most_header_bytes
        ):
            self._refuse(self._headers_too_large())
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() != "1.0"):
            self._refuse(MalformedHttp("A request has one Host header."))
        if not self._has_asked:
            self._has_asked = True
            self.door.asked(self)
        if self._place is not _FREE and self.url.partition(b"?")[0] not in PROBES:
            self._refuse(TooManyConnections("All connections are taken. Try again.", retry_after_seconds=2))
        if self.pipeline and len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(MalformedHttp(f"At most {MAX_PIPELINED} requests wait on a connection."))
        self._unparsed = 0
        self._phase = _BODY
        super().on_headers_complete()
        if self._place is not _FREE and self.cycle is not None:
            self.cycle.keep_alive = False  # a kept connection would hold its place in the reserve

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._unparsed = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._unparsed = 0
        self._phase = _ANSWER
        super().on_message_complete()

    def check(self, now: float) -> None:
        """Close the connection if what it waits for has not come in time."""
        if self.transport.is_closing():
            return
        limits = self.door.limits
        if self._place is not _FREE and now - self.opened > 2 * RESERVE_SECONDS:
            self.transport.abort()
            return
        if self._phase is _HEADER:
            allowed = limits.header_seconds if self._place is Place.FREE else RESERVE_SECONDS
            if now - self.since > allowed:
                if self._unparsed:
                    self._end(RequestTimeout("The header did not arrive in time."))
                else:  # nothing was asked: nothing is answered
                    self.transport.close()
        elif self._phase is _BODY:
            if self.flow.read_paused:  # the client waits for us
                self.since += CHECK_SECONDS
            allowed = limits.body_seconds
            if self.cycle is not None and not self.cycle.response_complete:
                allowed += self._body_bytes / limits.body_bytes_per_second
            if now - self.since > allowed:
                self._end(RequestTimeout("The body did not arrive in time."))
        elif (self.cycle is None or self.cycle.response_complete) and self.timeout_keep_alive_task is None:
            # Bytes that begin no request have ended the wait for the next one.
            self._phase, self.since = _HEADER, now
        self._check_reading(now)

    def _check_reading(self, now: float) -> None:
        """Drop the connection if its client takes nothing of an answer."""
        buffered = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        if not buffered or buffered != self._buffered or self._stalled_at is None:
            self._buffered, self._stalled_at = buffered, now
        elif now - self._stalled_at > self.door.limits.answer_stall_seconds:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is answered when the parser stopped: because of a limit, or because this is no HTTP."""
        self._end(self._refusal or MalformedHttp("The request is not well-formed HTTP."))

    def _headers_too_large(self) -> HeadersTooLarge:
        limit = self.most_header_bytes
        return HeadersTooLarge(f"A header has at most {limit} bytes and {MAX_FIELDS} fields.", limit_bytes=limit)

    def _refuse(self, error: LedgerError) -> None:
        self._refusal = error
        raise _Refused

    def _end(self, error: LedgerError) -> None:
        """Answer with a problem, unless another answer has begun or is due before it, and close the connection."""
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        self._ended = True
        if not busy or (self._phase is _BODY and not self.pipeline and not cycle.response_started):
            self.transport.write(_answer(error))
        self.transport.close()


def _answer(error: LedgerError) -> bytes:
    request_id = request_id_of(None)
    made = problem_response(error, request_id)
    own = [(b"x-request-id", request_id.encode()), *FRAME_HEADERS, (b"connection", b"close")]
    fields = [b"%b: %b\r\n" % field for field in (*made.raw_headers, *own)]
    return b"".join((STATUS_LINE[made.status_code], *fields, b"\r\n", bytes(made.body)))


def _address(client: tuple[str, int] | None) -> str:
    """By what connections are counted: the address, of IPv6 the network that one subscriber has."""
    if client is None:
        return ""
    try:
        address = ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return client[0]


def limited_http(settings: Settings) -> type[asyncio.Protocol]:
    """The class of connections for one server: uvicorn's option `http`."""
    limits = Limits.of(settings)
    values = {
        "door": Door(limits),
        "most_header_bytes": limits.header_bytes,
        "most_target_bytes": limits.target_bytes,
    }
    return type("Connection", (LimitedProtocol,), values)
