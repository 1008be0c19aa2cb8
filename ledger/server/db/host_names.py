"""Resolving names of database hosts to addresses, within a deadline.

The system's resolver cannot be interrupted, and it waits for silent name servers for as long as its own configuration
says (resolv.conf(5): 5 s, several times, for each server). So it runs in a thread, and the caller waits for that thread
only until its own deadline. There is at most one such thread per name: callers that arrive while it runs wait for the
same answer, so a silent name server costs one thread for each host of the database's URL.
"""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address

from psycopg import OperationalError

MAX_ADDRESSES = 8
"""The maximum number of addresses of one name that are tried."""


class _Query:
    """A query to the system's resolver that may still be running."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.addresses: tuple[str, ...] = ()
        self.error: OSError | UnicodeError | None = None


class HostNames:
    """Resolves names in threads. Safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], _Query] = {}

    def addresses(self, host: str, port: int, seconds: float) -> tuple[str, ...]:
        """Return the addresses of `host`, in the resolver's order; empty if it is not a name (the folder or abstract
        name of a Unix socket, or an address).

        Raises psycopg.OperationalError after `seconds`, or for a name without addresses. It does not raise psycopg's
        ConnectionTimeout: that error means that the database does not answer, and silent name servers say nothing about
        the database.
        """
        if not is_name(host):
            return ()
        key = (host, port)
        with self._lock:
            query = self._running.get(key)
            if query is None:
                query = self._running[key] = _Query()
                try:
                    threading.Thread(target=self._run, args=(key, query), name="host-name", daemon=True).start()
                except RuntimeError as error:  # no thread can be started now
                    del self._running[key]
                    raise OperationalError(f"failed to resolve host {host!r}: {error}") from error
        if not query.answered.wait(max(0.0, seconds)):
            raise OperationalError(f"failed to resolve host {host!r}: the name servers do not answer")
        if query.error is not None:
            raise OperationalError(f"failed to resolve host {host!r}: {query.error}") from query.error
        return query.addresses

    def _run(self, key: tuple[str, int], query: _Query) -> None:
        host, port = key
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            query.addresses = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))[:MAX_ADDRESSES]
        except (OSError, UnicodeError) as error:
            query.error = error
        finally:
            with self._lock:
                self._running.pop(key, None)  # the next caller starts a new query
            query.answered.set()


def is_name(host: str) -> bool:
    """True if `host` must be resolved: it is neither the folder or abstract name of a Unix socket nor an address."""
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False
