"""Limits of the server itself: bytes of headers, time of headers and bodies, and connections in all and from one
address.

uvicorn has no such limits, and a proxy that has them may be missing or misconfigured. `limited_http` returns the
protocol class of which uvicorn creates an instance for each connection. It costs a request about two microseconds:
bytes are counted as they arrive, and one timer of the process checks all connections.
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
"""Header fields of a request, at most."""
MAX_PIPELINED = 16
"""Requests that wait behind another one of their connection, at most."""
CHECK_SECONDS = 0.5
"""Seconds between two checks of the timer; a deadline is enforced at most this late."""
OWN_FILES = 100
"""File descriptors that the process itself needs: databases, keys, snapshots, webhooks."""
MOST_CONNECTIONS = 10_000
RESERVE = 8
"""Connections in reserve beyond the total limit, which are read far enough to answer a health probe or 503. As many
again are for addresses that have reached their own limit: those use none of the first."""
RESERVE_PER_ADDRESS = 2
"""Connections of either reserve that one address may have, so that no address blocks the probes of another. Where
addresses have no limit of their own (behind a proxy, which has the only address), one may have all."""
RESERVE_SECONDS = 2.0
"""Seconds within which the header of a connection in reserve must be complete. The connection answers one request and
is closed, after twice this time at the latest."""
SPARED_SECONDS = 1.0
"""Seconds without a request after which a connection may be closed to admit a new one when all are in use."""
WARN_SECONDS = 60.0
PROBES = frozenset({b"/healthz", b"/readyz", b"/readyz/write"})

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]{0,5})?\Z")
"""RFC 9112 section 3.2: `uri-host [":" port]`."""


class Phase(Enum):
    """The event that a connection waits for."""

    HEADER = "header"
    BODY = "body"
    ANSWER = "answer"
    """No data of the client: the answer is in preparation, or the connection is kept for the next request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a process. `connections_per_address` is None for no limit."""

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
        """Return the limits of `settings`."""
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
    """Return four fifths of the files that this process may open, less those that it needs itself."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(8, min(MOST_CONNECTIONS, files * 4 // 5 - OWN_FILES))


class Place(Enum):
    """The treatment of a new connection."""

    FREE = "free"
    RESERVE = "reserve"
    NONE = "none"


class Door:
    """All connections of a process: their numbers, those without a request so far, and the timer."""

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
        """The last valid value of a Host header: most requests have the same."""

    def enter(self, connection: LimitedProtocol, address: str, now: float) -> Place:
        """Count a new connection and return its treatment. If all places are in use, the connection that has been open
        longest without a request is closed."""
        full = len(self._open) - len(self._reserved) - len(self._crowded) >= self.limits.connections
        most = self.limits.connections_per_address
        crowded = most is not None and self._by_address[address] >= most
        refused = (full or crowded) and not self._make_room(address if crowded else None, now)
        self._open[connection] = address
        self._by_address[address] += 1
        if self._timer is None:
            self._timer = connection.loop.call_later(CHECK_SECONDS, self._check, connection.loop)
        if not refused:
            self._silent[connection] = None
            return Place.FREE
        if crowded:
            self._warn(connection, "One address has its %d connections; new ones from it are refused.", most, now)
        else:
            self._warn(connection, "All %d connections are taken; new ones are refused.", self.limits.connections, now)
        reserve = self._crowded if crowded else self._reserved
        mine = sum(self._open[other] == address for other in reserve)
        if len(reserve) >= RESERVE or mine >= (RESERVE if most is None else RESERVE_PER_ADDRESS):
            return Place.NONE
        reserve.add(connection)
        return Place.RESERVE

    def asked(self, connection: LimitedProtocol) -> None:
        """Record that a connection's first request has a complete header: it is not closed for a new one any longer."""
        self._silent.pop(connection, None)

    def leave(self, connection: LimitedProtocol) -> None:
        """Stop counting a connection."""
        address = self._open.pop(connection, None)
        if address is None:
            return
        self._silent.pop(connection, None)
        self._reserved.discard(connection)
        self._crowded.discard(connection)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _make_room(self, address: str | None, now: float) -> bool:
        """Drop the oldest connection (of `address`, if given) without a request for some time. Return whether there was
        one."""
        for connection in self._silent:
            if now - connection.opened < SPARED_SECONDS:
                return False  # all others are younger
            if address is None or self._open[connection] == address:
                connection.transport.abort()
                self.leave(connection)
                return True
        return False

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(CHECK_SECONDS, self._check, loop) if self._open else None
        now = loop.time()
        for connection in tuple(self._open):
            connection.check(now)

    def _warn(self, connection: LimitedProtocol, text: str, number: int | None, now: float) -> None:
        """Log `text`, at most once in WARN_SECONDS, without an address, which may be a person's."""
        if now - self._warned_at.get(text, float("-inf")) >= WARN_SECONDS:
            self._warned_at[text] = now
            connection.logger.warning(text, number)


_HEADER, _BODY, _ANSWER, _FREE = Phase.HEADER, Phase.BODY, Phase.ANSWER, Place.FREE
"""Globals, because a lookup of an enum's member is several times as slow and every request needs these."""


class _ParsingStopped(Exception):
    """Raised to stop the parser of a connection."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection under the limits of its `door`. Every refusal is a problem document, after which the connection is
    closed."""

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
        """Called by asyncio: the connection is open."""
        super().connection_made(transport)
        self._place = self.door.enter(self, _address(self.client), self.since)
        if self._place is Place.NONE:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: the connection is closed."""
        self.door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: bytes have arrived."""
        if self._ended:
            return
        self._unparsed += len(data)
        super().data_received(data)
        # The bytes neither end a header nor belong to a body: an unfinished field, chunk extension or trailer.
        if self._unparsed > self.most_header_bytes and not self._ended:
            self._end(self._headers_too_large())

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        super().on_message_begin()
        self._phase = _HEADER
        self.since = self.loop.time()
        self._hosts = self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for a header field or a trailer."""
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
        """Called by the parser at the end of a header."""
        if len(self.url) > self.most_target_bytes:
            limit = self.most_target_bytes
            self._refuse(UriTooLong(f"An address has at most {limit} bytes.", limit_bytes=limit))
        # The bytes so far contain the header and perhaps more, so the sizes of the fields are added up only if there
        # are too many bytes.
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
            self.cycle.keep_alive = False  # a connection that is kept open would keep its place in the reserve

    def on_body(self, body: bytes) -> None:
        """Called by the parser for a part of a body."""
        self._unparsed = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a request."""
        self._unparsed = 0
        self._phase = _ANSWER
        super().on_message_complete()

    def check(self, now: float) -> None:
        """Close the connection if its deadline has passed."""
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
                else:  # without a request there is no answer
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
            # Bytes that do not begin a request have ended the wait for the next one.
            self._phase, self.since = _HEADER, now
        self._check_reading(now)

    def _check_reading(self, now: float) -> None:
        """Drop the connection if its client does not read the answer."""
        buffered = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        if not buffered or buffered != self._buffered or self._stalled_at is None:
            self._buffered, self._stalled_at = buffered, now
        elif now - self._stalled_at > self.door.limits.answer_stall_seconds:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer after the parser has stopped: because of a limit, or because the bytes are not HTTP."""
        self._end(self._refusal or MalformedHttp("The request is not well-formed HTTP."))

    def _headers_too_large(self) -> HeadersTooLarge:
        limit = self.most_header_bytes
        return HeadersTooLarge(f"A header has at most {limit} bytes and {MAX_FIELDS} fields.", limit_bytes=limit)

    def _refuse(self, error: LedgerError) -> None:
        self._refusal = error
        raise _ParsingStopped

    def _end(self, error: LedgerError) -> None:
        """Answer with a problem document, unless another answer has begun or is due before it, and close the
        connection."""
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        self._ended = True
        if not busy or (self._phase is _BODY and not self.pipeline and not cycle.response_started):
            self.transport.write(_answer(error))
        self.transport.close()


def _answer(error: LedgerError) -> bytes:
    request_id = request_id_of(None)
    response = problem_response(error, request_id)
    own = [(b"x-request-id", request_id.encode()), *FRAME_HEADERS, (b"connection", b"close")]
    fields = [b"%b: %b\r\n" % field for field in (*response.raw_headers, *own)]
    return b"".join((STATUS_LINE[response.status_code], *fields, b"\r\n", bytes(response.body)))


def _address(client: tuple[str, int] | None) -> str:
    """Return the key by which connections are counted: the address, or for IPv6 the network of one subscriber."""
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
    """Return the class of connections of one server, for uvicorn's option `http`."""
    limits = Limits.of(settings)
    values = {
        "door": Door(limits),
        "most_header_bytes": limits.header_bytes,
        "most_target_bytes": limits.target_bytes,
    }
    return type("Connection", (LimitedProtocol,), values)
