"""One attempt to deliver: check the address, sign, POST, evaluate the status.

The name is resolved once, each of its addresses is checked, and the connection is opened to one of these addresses.
There is no second query that a name server could answer differently (DNS rebinding). The certificate and the `Host`
header remain those of the name. Redirects are not followed and no proxy is used.
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
"""The maximum number of bytes of a response body that are read and dropped. If the receiver sends more, the connection
is closed."""

MAX_ADDRESSES = 4
"""The maximum number of addresses of one name that are tried."""

GONE = 410
ASKS_TO_WAIT = frozenset({429, 503})

Resolve = Callable[[str, int], Sequence[str]]


class DeliveryFailure(StrEnum):
    """Why an attempt failed."""

    URL = "url_refused"
    HOST = "host_refused"
    """The name has no address, or one that is not public. The two cases are not distinguished: that would disclose the
    operator's own network."""
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
    """The outcome of an attempt: the HTTP status if there was one, and why it failed. `failure` None: it was
    delivered."""

    status: int | None
    failure: DeliveryFailure | None
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """The request to send: `signatures` is the value of `webhook-signature`, `timestamp` in Unix seconds."""

    url: str
    message_id: str
    timestamp: int
    signatures: str
    body: bytes


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of `host`, in the order in which the system would try them. Raises OSError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def checked_addresses(target: Target, allow_private: bool, resolve: Resolve = resolve) -> Sequence[str]:
    """Return the addresses to connect to. Raises WebhookInvalid unless there are some and every one is public."""
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError):
        addresses = []
    if not addresses or not (allow_private or all(public_address(address) for address in addresses)):
        raise WebhookInvalid("The URL's host must have public addresses, and no others.")
    return addresses[:MAX_ADDRESSES]


class AttemptConnection(httpcore2.NetworkBackend):
    """The single connection of an attempt, to one of `addresses` whatever host is requested.

    It can be cut at any time, from any thread: a receiver that sends single bytes slowly passes every timeout of a
    single read.
    """

    def __init__(self, seconds: float) -> None:
        self.addresses: Sequence[str] = ()
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._cut = threading.Event()

    def left(self) -> float:
        """Return the seconds until this attempt must end."""
        return max(0.0, self._end - time.monotonic())

    @property
    def was_cut(self) -> bool:
        """True if `cut` was called."""
        return self._cut.is_set()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect as the backend does, but to the checked addresses, in turn. Raises ConnectError, ConnectTimeout."""
        refused: Exception = httpcore2.ConnectError("no address")
        for address in self.addresses:
            if self._cut.is_set() or self.left() <= 0:
                raise httpcore2.ConnectTimeout("over")
            try:
                stream = httpcore2.SyncBackend().connect_tcp(address, port, self.left(), local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                refused = error
                continue
            # A second handle on the connection: TLS takes ownership of the first one.
            self._handle = stream.get_extra_info("socket").dup()
            if self._cut.is_set():
                self.cut()
            return stream
        raise refused

    def cut(self) -> None:
        """End the connection; a thread that waits for it gets an error at once."""
        with self._lock:
            self._cut.set()
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the second handle."""
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
    """Send once over `line`, which the caller closes, and return the outcome. Raises no error that the receiver or the
    network could cause."""
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
    """Return the status and `Retry-After` of the response."""
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
        # The status has been received; errors in the rest of the response change nothing.
        with suppress(httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, ssl.SSLError):
            read = 0
            for part in answer.iter_stream():
                read += len(part)
                if read >= MAX_ANSWER_BYTES:
                    break
        retry_after = [value for name, value in answer.headers if name.lower() == b"retry-after"]
        return answer.status, retry_after[0].decode("latin-1") if retry_after else None


def _failure(error: Exception) -> DeliveryFailure | None:
    """Return the receiver's failure that `error` shows; None if it is an error of this program."""
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
