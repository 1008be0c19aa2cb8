"""HTTP/1.1 to one server over connections of its own, for small requests that are made several at once.

A request costs a quarter of the processor time that a general HTTP client needs, which counts where one call of the
SDK makes a request to each of several key holders. There is no proxy, redirect, cookie, compression or retry here; a
`Transport` uses this only where none of them is asked for. Each wait is bounded by the caller's deadline.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ledger.client.transport.connections import IDLE_SECONDS
from ledger.client.transport.forks import ForkLock, Sockets

MAX_HEAD_BYTES = 64 * 1024
_PART_BYTES = 64 * 1024
_NO_BODY = (204, 304)


class BrokenAnswer(OSError):
    """The connection ended before the answer did, or the answer is not HTTP/1.1."""


class AnswerTooLong(Exception):
    """The answer is longer than the caller accepts."""


@dataclass(frozen=True, slots=True)
class DirectAnswer:
    """An answer: status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Connection:
    """A socket with the bytes that were received and not read yet."""

    socket: socket.socket
    used_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def fill(self, left: Callable[[], float]) -> None:
        """Receive more bytes. Raises TimeoutError, OSError, BrokenAnswer at the end of the stream."""
        self.socket.settimeout(_positive(left()))
        data = self.socket.recv(_PART_BYTES)
        if not data:
            raise BrokenAnswer("The connection was closed.")
        self.received += data

    def take(self, count: int) -> bytes:
        """Return and remove the first `count` received bytes."""
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    def is_fresh(self) -> bool:
        """True if the connection was used a moment ago and the server has not closed it."""
        if time.monotonic() - self.used_at > IDLE_SECONDS or self.received:
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)


class DirectConnections:
    """Connections to the server at `url` that are kept alive. Thread-safe. `context` is for https; `sockets` notes each
    socket, which a child process has to close."""

    def __init__(self, url: str, context: ssl.SSLContext | None, sockets: Sockets) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._prefix = parts.path
        self._authority = parts.netloc
        self._context = context
        self._sockets = sockets
        self._idle: deque[_Connection] = deque()
        self._lock = ForkLock()
        self._closed = False

    def close(self) -> None:
        """Close the idle connections; those in use are closed after their answer."""
        with self._lock:
            self._closed = True
            idle, self._idle = list(self._idle), deque()
        for connection in idle:
            connection.socket.close()

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None,
        left: Callable[[], float],
        max_bytes: int,
    ) -> DirectAnswer:
        """Send a request and return the answer. `left` returns the seconds that are left.

        Raises TimeoutError, ssl.SSLError, OSError (ConnectionError and others), BrokenAnswer, and AnswerTooLong for a
        body above `max_bytes`. After any of them the connection is closed.
        """
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if content is not None:
            lines.append(f"Content-Length: {len(content)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        connection = self._connected(left)
        kept = False
        try:
            connection.socket.settimeout(_positive(left()))
            connection.socket.sendall(head + (content or b""))
            answer, kept = _answer(connection, left, max_bytes)
        finally:
            if not (kept and self._keep(connection)):
                with suppress(OSError):
                    connection.socket.close()
        return answer

    def _keep(self, connection: _Connection) -> bool:
        connection.used_at = time.monotonic()
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
            return not self._closed

    def _connected(self, left: Callable[[], float]) -> _Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._new(left)
            if connection.is_fresh():
                return connection
            connection.socket.close()

    def _new(self, left: Callable[[], float]) -> _Connection:
        plain = socket.create_connection((self._host, self._port), timeout=_positive(left()))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.add(plain)
            if not self._secure or self._context is None:
                return _Connection(plain)
            plain.settimeout(_positive(left()))
            secured = self._context.wrap_socket(plain, server_hostname=self._host)
            self._sockets.add(secured)
            return _Connection(secured)
        except BaseException:
            plain.close()
            raise


def _answer(connection: _Connection, left: Callable[[], float], max_bytes: int) -> tuple[DirectAnswer, bool]:
    """Return the answer, and whether the connection can be used again."""
    status = 100
    while 100 <= status < 200:
        version, status, headers = _head(connection, left)
    lasting = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    if status in _NO_BODY:
        return DirectAnswer(status, headers, b""), lasting
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].strip().lower() != "chunked":
            raise BrokenAnswer("The answer has an encoding that was not asked for.")
        return DirectAnswer(status, headers, _chunked(connection, left, max_bytes)), lasting
    if "content-length" in headers:
        length = _number(headers["content-length"], 10)
        return DirectAnswer(status, headers, _exactly(connection, length, left, max_bytes)), lasting
    return DirectAnswer(status, headers, _to_the_end(connection, left, max_bytes)), False


def _head(connection: _Connection, left: Callable[[], float]) -> tuple[str, int, dict[str, str]]:
    end = connection.received.find(b"\r\n\r\n")
    while end < 0:
        if len(connection.received) > MAX_HEAD_BYTES:
            raise BrokenAnswer("The head of the answer is too long.")
        connection.fill(left)
        end = connection.received.find(b"\r\n\r\n")
    first, *lines = connection.take(end + 4)[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BrokenAnswer("The answer is not HTTP/1.1.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise BrokenAnswer("A header of the answer is malformed.")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return version, _number(rest[:3], 10), headers


def _exactly(connection: _Connection, length: int, left: Callable[[], float], max_bytes: int) -> bytes:
    if length > max_bytes:
        raise AnswerTooLong
    while len(connection.received) < length:
        connection.fill(left)
    return connection.take(length)


def _chunked(connection: _Connection, left: Callable[[], float], max_bytes: int) -> bytes:
    """Return a body in the chunked coding (RFC 9112 section 7.1); trailers are read and dropped."""
    body = bytearray()
    while size := _number(_line(connection, left).partition(b";")[0].strip().decode("latin-1"), 16):
        body += _exactly(connection, size, left, max_bytes - len(body))
        if _line(connection, left):
            raise BrokenAnswer("A chunk of the answer is malformed.")
    while _line(connection, left):
        pass
    return bytes(body)


def _line(connection: _Connection, left: Callable[[], float]) -> bytes:
    end = connection.received.find(b"\r\n")
    while end < 0:
        if len(connection.received) > MAX_HEAD_BYTES:
            raise BrokenAnswer("A line of the answer is too long.")
        connection.fill(left)
        end = connection.received.find(b"\r\n")
    return connection.take(end + 2)[:-2]


def _to_the_end(connection: _Connection, left: Callable[[], float], max_bytes: int) -> bytes:
    with suppress(BrokenAnswer):
        while len(connection.received) <= max_bytes:
            connection.fill(left)
        raise AnswerTooLong
    return connection.take(len(connection.received))


def _number(text: str, base: int) -> int:
    if not text or not text.isascii() or not text.isalnum():
        raise BrokenAnswer("A number in the answer is malformed.")
    try:
        return int(text, base)
    except ValueError as error:
        raise BrokenAnswer("A number in the answer is malformed.") from error


def _positive(seconds: float) -> float:
    """Return a timeout for a socket, for which 0 would mean not to wait at all."""
    return max(seconds, 0.001)
