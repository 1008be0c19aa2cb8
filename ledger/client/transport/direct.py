"""HTTP/1.1 to one server over connections of its own, for small requests that are made several at once.

A request costs a third of the processor time that a general HTTP client needs, which counts where one call of the SDK
makes a request to each of several key holders. `http.client` parses the answers; it takes some that are not quite HTTP,
but what they say is checked like any other. There is no proxy, redirect, cookie, compression or retry here; a
`Transport` uses this only where none of them is asked for. Each wait is bounded by the caller's deadline.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

from ledger.client.transport.connections import IDLE_SECONDS
from ledger.client.transport.forks import ForkLock, Sockets

_PART_BYTES = 64 * 1024
MAX_INTERIM_ANSWERS = 10


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


class _Received(io.RawIOBase):
    """The bytes that arrive on a socket, each wait for them bounded by the time that is left."""

    def __init__(self, connection: socket.socket, left: Callable[[], float]) -> None:
        self._socket = connection
        self._left = left

    def readable(self) -> bool:
        """Return True, as `io.BufferedReader` wants it."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive into `buffer` and return the number of bytes, 0 at the end. Raises TimeoutError (also where bytes
        never stop, but no time is left), OSError."""
        seconds = self._left()
        if seconds <= 0:
            raise TimeoutError("The time of the request is over.")
        self._socket.settimeout(_positive(seconds))
        return self._socket.recv_into(buffer)


@dataclass(slots=True)
class _Connection:
    """A socket that is kept, and when it was used last."""

    socket: socket.socket
    used_at: float = 0.0

    def is_fresh(self) -> bool:
        """True if the connection was used a moment ago and the server has neither closed it nor sent anything."""
        if time.monotonic() - self.used_at > IDLE_SECONDS:
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
            answer, kept = _answer(_Received(connection.socket, left), method, max_bytes)
        except (HTTPException, ValueError) as error:
            raise BrokenAnswer(str(error)) from error
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


def _answer(received: _Received, method: str, max_bytes: int) -> tuple[DirectAnswer, bool]:
    """Return the answer, and whether the connection can be used again."""
    reader = _Reader(io.BufferedReader(received, _PART_BYTES))
    responses: list[HTTPResponse] = []  # a response that is let go closes the reader
    while not responses or responses[-1].status < 200:
        if len(responses) > MAX_INTERIM_ANSWERS:
            raise BrokenAnswer("The server sends interim answers only.")
        responses.append(HTTPResponse(cast(socket.socket, reader), method=method))
        responses[-1].begin()
    response = responses[-1]
    if response.length is not None and response.length > max_bytes:
        raise AnswerTooLong
    body = response.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise AnswerTooLong
    if response.length or (response.chunked and not response.isclosed()):
        raise BrokenAnswer("The connection was closed.")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return DirectAnswer(response.status, headers, body), not response.will_close


class _Reader:
    """What `http.client` takes for a socket: it asks for a reader only."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the reader."""
        return self._reader


def _positive(seconds: float) -> float:
    """Return a timeout for a socket, for which 0 would mean not to wait at all."""
    return max(seconds, 0.001)
