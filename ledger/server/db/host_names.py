"""Names of database hosts turned into addresses, within a deadline.

The system's resolver cannot be interrupted, and it waits for name servers that do not answer for as long as its own
configuration says (resolv.conf(5): 5 s, several times, for each server). So it runs in a thread, and the caller waits
for that no longer than it has time. There is one such thread for each name at most: callers that come while it runs
wait for the same answer, so a name server that is silent costs one thread for each host of the database's URL.
"""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address

from psycopg import OperationalError

MAX_ADDRESSES = 8
"""Addresses of one name that are tried."""


class _Query:
    """A question to the system's resolver that may still be running."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.addresses: tuple[str, ...] = ()
        self.error: OSError | UnicodeError | None = None


class HostNames:
    """Resolves names in threads; may be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], _Query] = {}

    def addresses(self, host: str, port: int, seconds: float) -> tuple[str, ...]:
        """The addresses of `host`, in the resolver's order; empty for what is no name (the folder or abstract name of a
        Unix socket, or an address).

        Raises psycopg.OperationalError after `seconds`, or for a name that has none. (Not psycopg's ConnectionTimeout:
        that tells of a database that is gone, and silent name servers say nothing about it.)
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
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            query.addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))[:MAX_ADDRESSES]
        except (OSError, UnicodeError) as error:
            query.error = error
        finally:
            with self._lock:
                self._running.pop(key, None)  # the next question is asked anew
            query.answered.set()


def is_name(host: str) -> bool:
    """Whether the resolver is asked about it: not the folder or abstract name of a Unix socket, and no address."""
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False
