"""The connections of one process to the services of key holders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.holders.tokens import HolderTokens
from ledger.client.identity.suite import is_loopback
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.connections import MAX_CONNECTIONS, HttpOptions
from ledger.client.transport.forks import ForkAware, ForkLock
from ledger.client.transport.http import Transport
from ledger.client.transport.workers import Workers
from ledger.errors import ConfigurationError, Unavailable

MAX_ANSWER_BYTES = 128 * 1024
"""The longest answer of a holder: 1000 elements and a proof take 46 KiB. A longer one would cost memory for nothing."""


@dataclass(frozen=True, slots=True)
class CallingPlatform:
    """The platform as holders see it: its signing key with the key's id, the verifier key of the ledger's log, its
    clock and its source of random bytes, and the options of its connections."""

    key: Ed25519PrivateKey
    kid: str
    platform: str
    log_key: str
    now: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    options: HttpOptions
    insecure_http: bool


class HolderConnection(ForkAware):
    """Requests to one holder's service, with connections that are kept alive and threads of its own: a holder that is
    silent takes none that another one needs. Thread-safe. Raises ConfigurationError for an address that is not https,
    unless it is on this machine or plain http is allowed."""

    def __init__(self, holder: str, url: str, caller: CallingPlatform) -> None:
        self.holder = holder
        self.url = url
        self.tokens = HolderTokens(
            caller.key,
            kid=caller.kid,
            platform=caller.platform,
            holder=holder,
            log_key=caller.log_key,
            now=caller.now,
            random_bytes=caller.random_bytes,
            correctable=url.startswith("https://") or is_loopback(url),
        )
        self._transport = Transport(
            url,
            self.tokens.token,
            refused=self.tokens.refused,
            insecure_http=caller.insecure_http,
            options=caller.options,
            direct=True,
            max_answer_bytes=MAX_ANSWER_BYTES,
        )
        self._workers = Workers(f"refund-ledger-{holder}", MAX_CONNECTIONS)
        self._lock = ForkLock()
        self._running = 0
        self._closed = False
        super().__init__()

    def after_fork_in_child(self) -> None:
        """Forget the requests of the parent's threads."""
        self._running = 0

    def start(self, task: Callable[[], object]) -> None:
        """Run `task`, which must not raise, in a thread of this holder. Raises Unavailable when this is closed."""
        self._workers.submit(task)

    def open(self) -> None:
        """Prepare connections, which the first request of a process does otherwise. Raises Unavailable when this is
        closed."""
        self._transport.open()

    def post(self, path: str, content: bytes, limit: Deadline) -> Any:
        """POST a JSON body in one attempt and return the answer's JSON. Raises Unavailable when this is closed, and
        what `Transport.send` does."""
        with self._lock:
            if self._closed:
                raise Unavailable("The connection to the key holder is closed.", reason="closed")
            self._running += 1
        try:
            return self._transport.send("POST", path, limit, content=content).json()
        finally:
            self._ended()

    def _ended(self) -> None:
        """Record the end of a request, and close the connections after the last one."""
        with self._lock:
            self._running -= 1
            last = self._closed and self._running == 0
        if last:
            self._transport.close()

    def close(self) -> None:
        """Close the connections, or have that done after the last request that still runs: it may be one that nothing
        waits for. Threads end with their request."""
        self._workers.close()
        with self._lock:
            last = not self._closed and self._running == 0
            self._closed = True
        if last:
            self._transport.close()


class HolderConnections:
    """The connections to all holders, made when they are needed first. Thread-safe."""

    def __init__(self, caller: CallingPlatform) -> None:
        self._caller = caller
        self._lock = ForkLock()
        self._connections: dict[str, HolderConnection] = {}
        self._closed = False

    def to(self, holder: str, url: str | None) -> HolderConnection:
        """Return the connection to the holder at `url`. Raises ConfigurationError (no address, or one that cannot be
        used), Unavailable when this is closed."""
        if not url:
            raise ConfigurationError(f"No address of the key holder {holder} is known.")
        with self._lock:
            if self._closed:
                raise Unavailable("The connection to the ledger is closed.", reason="closed")
            connection = self._connections.get(holder)
            if connection is None or connection.url != url:
                if connection is not None:
                    connection.close()
                connection = self._connections[holder] = HolderConnection(holder, url, self._caller)
            return connection

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            connection.close()
