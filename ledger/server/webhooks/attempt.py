"""One attempt to deliver: check where it goes, sign, POST, look at the status.

The name is resolved once, every address it has is checked, and the connection is made to one of those very addresses:
a name server that answers differently the second time (DNS rebinding) is never asked a second time. The certificate
and the `Host` header stay the name's. Redirects are not followed and no proxy is used.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import httpcore2

from ledger import __version__
from ledger.errors import WebhookInvalid
from ledger.rules.webhook_urls import Target, parse_url, public_address
from ledger.rules.webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, parse_retry_after

TIMEOUT_SECONDS = 15.0
"""An attempt that takes longer has failed."""

MAX_ANSWER_BYTES = 4096
"""So much of an answer's body is read, and dropped; whoever sends more is hung up on."""

MAX_ADDRESSES = 4
"""Of a name with many addresses these many are tried."""

GONE = 410
ASKS_TO_WAIT = frozenset({429, 503})

Resolve = Callable[[str, int], Sequence[str]]


class DeliveryFailure(StrEnum):
    """Why an attempt failed."""

    URL = "url_refused"
    HOST = "host_refused"
    """The name has no address, or one that is not public. Not said which: it would map the operator's own network."""
    CONNECT = "connect_failed"
    TLS = "tls_failed"
    CONNECTION = "connection_lost"
    TIMEOUT = "timeout"
    REDIRECT = "redirect"
    GONE = "gone"
    STATUS = "status"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """What became of an attempt: the HTTP status if there was one, and why it failed; `failure` None: it arrived."""

    status: int | None
    failure: DeliveryFailure | None
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What is to be sent: `signatures` is the value of `webhook-signature`, `timestamp` in Unix seconds."""

    url: str
    message_id: str
    timestamp: int
    signatures: str
    body: bytes


def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of `host`, in the order in which the system would try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def checked_addresses(target: Target, allow_private: bool, resolve: Resolve = resolve) -> Sequence[str]:
    """The addresses to connect to. Raises WebhookInvalid unless there are some and every one is public."""
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError):
        addresses = []
    if not addresses or not (allow_private or all(public_address(address) for address in addresses)):
        raise WebhookInvalid("The URL's host must have public addresses, and no others.")
    return addresses[:MAX_ADDRESSES]


class AttemptConnection(httpcore2.NetworkBackend):
    """The one connection of an attempt, to one of `addresses` whatever host is asked for. It can be cut at any time,
    from any thread: a receiver that sends a byte now and then passes every timeout of a single read."""

    def __init__(self, seconds: float) -> None:
        self.addresses: Sequence[str] = ()
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._cut = threading.Event()

    def left(self) -> float:
        """Seconds until this attempt is over."""
        return max(0.0, self._end - time.monotonic())

    @property
    def was_cut(self) -> bool:
        """Whether `cut` was called."""
        return self._cut.is_set()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """As the backend's, but to the checked addresses, in turn. Raises ConnectError, ConnectTimeout."""
        refused: Exception = httpcore2.ConnectError("no address")
        for address in self.addresses:
            if self._cut.is_set() or self.left() <= 0:
                raise httpcore2.ConnectTimeout("over")
            try:
                stream = httpcore2.SyncBackend().connect_tcp(address, port, self.left(), local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                refused = error
                continue
            # A second handle on the connection: TLS takes the first one away.
            self._handle = stream.get_extra_info("socket").dup()
            if self._cut.is_set():
                self.cut()
            return stream
        raise refused

    def cut(self) -> None:
        """End the connection; whoever waits for it gets an error at once."""
        with self._lock:
            self._cut.set()
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the second handle go."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None


def attempt(
    sending: Sending,
    line: AttemptConnection,
    tls: ssl.SSLContext,
    now: datetime,
    *,
    allow_private: bool,
    resolve: Resolve = resolve,
) -> AttemptOutcome:
    """Send once over `line`, which the caller closes. Raises nothing that the receiver or the network could cause."""
    try:
        target = parse_url(sending.url, allow_private=allow_private)
    except WebhookInvalid:
        return AttemptOutcome(None, DeliveryFailure.URL)
    try:
        line.addresses = checked_addresses(target, allow_private, resolve)
    except WebhookInvalid:
        return AttemptOutcome(None, DeliveryFailure.HOST)
    try:
        status, retry_after = _post(sending, target, line, tls)
    except Exception as error:
        failure = DeliveryFailure.TIMEOUT if line.left() <= 0 else _failure(error)
        if failure is None:
            raise
        return AttemptOutcome(None, failure)
    return _judged(status, parse_retry_after(retry_after, now))


def _post(sending: Sending, target: Target, line: AttemptConnection, tls: ssl.SSLContext) -> tuple[int, str | None]:
    """Status and `Retry-After` of the answer."""
    headers = [
        ("Host", target.authority),
        ("Content-Type", "application/json"),
        ("User-Agent", f"refund-ledger/{__version__}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        (ID_HEADER, sending.message_id),
        (TIMESTAMP_HEADER, str(sending.timestamp)),
        (SIGNATURE_HEADER, sending.signatures),
    ]
    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.target.encode()
    )
    seconds = max(line.left(), 0.001)
    extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)}
    with (
        httpcore2.ConnectionPool(ssl_context=tls, network_backend=line, max_connections=1) as pool,
        pool.stream("POST", url, headers=headers, content=sending.body, extensions=extensions) as answer,
    ):
        # The status has been said; what happens to the rest of the answer changes nothing.
        with suppress(httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, ssl.SSLError):
            read = 0
            for part in answer.iter_stream():
                read += len(part)
                if read >= MAX_ANSWER_BYTES:
                    break
        retry_after = [value for name, value in answer.headers if name.lower() == b"retry-after"]
        return answer.status, retry_after[0].decode("latin-1") if retry_after else None


def _failure(error: Exception) -> DeliveryFailure | None:
    """What `error` says of the receiver; None when it says something of us."""
    if isinstance(error, httpcore2.TimeoutException):
        return DeliveryFailure.TIMEOUT
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__ or error.__context__, ssl.SSLError):
        return DeliveryFailure.TLS
    if isinstance(error, httpcore2.ConnectError):
        return DeliveryFailure.CONNECT
    if isinstance(error, httpcore2.NetworkError | httpcore2.ProtocolError):
        return DeliveryFailure.CONNECTION
    return None


def _judged(status: int, retry_after: timedelta | None) -> AttemptOutcome:
    if 200 <= status < 300:
        return AttemptOutcome(status, None)
    if status == GONE:
        return AttemptOutcome(status, DeliveryFailure.GONE)
    failure = DeliveryFailure.REDIRECT if 300 <= status < 400 else DeliveryFailure.STATUS
    return AttemptOutcome(status, failure, retry_after if status in ASKS_TO_WAIT else None)
