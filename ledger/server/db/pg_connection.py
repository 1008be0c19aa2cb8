"""Connections to PostgreSQL that never wait without a limit, and whose session settings also apply behind a pooler.

**Deadlines.** The timeouts of PostgreSQL (lock, statement, idle) work only while the server runs, and those of TCP only
while the peer does not acknowledge. A server that is stopped (SIGSTOP, a frozen virtual machine), a COMMIT that waits
for a synchronous standby and a proxy in between all keep a connection open without an answer. So each wait for an
answer has a limit here, in the client: psycopg waits in its own loop, and accepts a timeout. After the timeout the
connection is closed at once, without waiting, and `ServerSilent` is raised. It is then unknown whether the server
executed a COMMIT: the caller repeats its request under the same idempotency key.

- `answer_seconds`: for one answer; longer than the server's own statement timeout, so that a healthy server answers
  first.
- `commit_seconds`: for the answer to COMMIT, which no timeout of the server ends.
- `ends_at`: a moment (monotonic) for all answers of a block together.

A connection may be lost without the server noticing. Its transaction then holds its locks, among them the lock on the
log's head, until the server ends it as idle, and meanwhile no report can be recorded. So a block with its own deadline
sets a much shorter idle timeout on the server (`idle_ms`).

If a short reading gets no answer, the server or the network path to it is probably down, and other connections of the
process with longer deadlines wait for the same server. They are then cut as well, once they have waited for
`suspicious_seconds` without an answer (`Dialler.suspect`). So the whole process leaves a dead server as soon as its
reader with the shortest deadline does.

**Session settings** (`SessionSettings`) are not sent as the startup parameter `options`, which PgBouncer refuses or
silently drops. On a direct connection one statement sets them after connecting. Behind a pooler the settings of a
session would apply to another client in the next transaction, so each transaction begins with `SET LOCAL`, in the same
message as BEGIN, which costs no round trip. A pooler is recognised by the process id that it invents for a connection's
cancel key: it differs from the process id that the server reports. Prepared statements are used on direct connections
only.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg import errors, generators
from psycopg.pq import ConnStatus, ExecStatus

from ledger.server.db.database_url import DEFAULT_PORT, PostgresqlPlace
from ledger.server.db.host_names import HostNames

Value = TypeVar("Value")

TCP = {
    # A peer that disappeared is detected after 10 s of silence and 3 unanswered probes, or when sent data is not
    # acknowledged for 10 s. (Linux's own values are 2 hours and 15 minutes.)
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_INTERVAL_SECONDS = 0.1
"""The interval at which a wait checks for interrupts. Deadlines are met to the millisecond whatever this is."""

_READ = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR

_block = threading.local()
"""Holds `ends_at` of the block for which this thread opens a connection."""


class ServerSilent(psycopg.OperationalError):
    """The server did not answer within the deadline; the connection is closed. It is unknown whether the statement, or
    the COMMIT, was executed."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The timeouts that the server enforces for every transaction, in milliseconds. The session's time zone is UTC."""

    lock_timeout_ms: int
    statement_timeout_ms: int
    idle_timeout_ms: int

    def pairs(self) -> dict[str, str]:
        """Return name and value of each setting, in the syntax of PostgreSQL."""
        return {
            "lock_timeout": f"{self.lock_timeout_ms}ms",
            "statement_timeout": f"{self.statement_timeout_ms}ms",
            "idle_in_transaction_session_timeout": f"{self.idle_timeout_ms}ms",
            "TimeZone": "UTC",
        }

    def local(self, synchronous: bool) -> tuple[bytes, ...]:
        """Return the statements that apply the settings to one transaction. With `synchronous`, its COMMIT also waits
        for the disk."""
        pairs = {**self.pairs(), **({"synchronous_commit": "on"} if synchronous else {})}
        return tuple(f"SET LOCAL {name} = '{value}'".encode() for name, value in pairs.items())


class LedgerConnection(psycopg.Connection[Any]):
    """A connection with deadlines and session settings, as the module docstring describes."""

    usual_answer_seconds = 30.0
    answer_seconds = 30.0
    commit_seconds = 30.0
    ends_at = math.inf
    dialler: Dialler | None = None
    tells = False
    """True while it runs a short reading: a late answer then means that the server is probably down."""
    waiting_since = 0.0
    """The time (monotonic) at which the present wait began; 0 if there is none."""
    _socket: socket.socket | None = None
    must_write = True
    """True if a server that has become read-only cannot be used by this connection."""
    least_seconds = 0.0
    """The minimum wait before it may be cut as a suspect, for a reading that is intentionally long."""
    idle_ms = 0
    """If not 0: the server ends a transaction of this use after this time without a statement."""
    pooled = False
    """True if a pooler shares the server's sessions between this connection and others."""
    _preamble: tuple[bytes, ...] = ()
    _poll: Any = None

    def wait(self, gen: Any, interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        """Wait as psycopg does, but only until `answer_seconds` or `ends_at`. Raises ServerSilent."""
        patience = min(self.answer_seconds, self.ends_at - time.monotonic())
        if timeout is not None and timeout <= patience:
            return super().wait(gen, interval, timeout)
        if patience <= 0:
            gen.close()
            self._give_up()
        self.waiting_since = time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except errors._WaitTimeout:
            self.waiting_since = 0.0
            if self.tells and self.dialler is not None:
                self.dialler.suspect()
            self._give_up()
        finally:
            self.waiting_since = 0.0

    def commit(self) -> None:
        """Commit as psycopg does, within `commit_seconds`. Raises ServerSilent: it is then unknown whether the COMMIT
        was executed."""
        answer_seconds, self.answer_seconds = self.answer_seconds, min(self.answer_seconds, self.commit_seconds)
        try:
            super().commit()
        finally:
            self.answer_seconds = answer_seconds

    def begin_use(self) -> bool:
        """Reset the deadlines of the last use. True if the connection is `sound`."""
        self.ends_at, self.answer_seconds, self.tells, self.idle_ms = math.inf, self.usual_answer_seconds, False, 0
        self.least_seconds = 0.0
        if self.dialler is not None:
            self.dialler.sweep()
        return self.sound()

    def cut(self) -> None:
        """End the connection from another thread; a thread that waits on it gets an error at once."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def keep_handle(self) -> None:
        """Duplicate the socket's file descriptor for `cut`: the number alone may soon belong to another socket."""
        self._socket = socket.socket(fileno=os.dup(self.pgconn.socket))

    def close(self) -> None:
        """Close the connection as psycopg does, and the duplicated descriptor."""
        super().close()
        if self._socket is not None:
            self._socket.close()

    def sound(self) -> bool:
        """True if this idle connection has not been ended, as far as this machine knows.

        It checks the kernel's socket buffer and sends nothing to the server: a final message of the server, and the end
        of the stream, can be read there.
        """
        if self.closed:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, _READ)
        for _ in range(3):  # first a message of the server (a changed parameter, a TLS ticket), then perhaps the end
            if not self._poll.poll(0):
                break
            try:
                self.pgconn.consume_input()
                self.pgconn.is_busy()
            except psycopg.Error:
                return False
        return self.pgconn.status == ConnStatus.OK and not (self.must_write and self.read_only_server())

    def read_only_server(self) -> bool:
        """True if the server has reported that it is a standby, or that its transactions are read-only by default.

        The server reports every change (PostgreSQL manual 54.2.7). A pooler may not forward it; the result is then
        False.
        """
        return any(self.pgconn.parameter_status(name) == b"on" for name in _READ_ONLY)

    def prepare_session(self, settings: SessionSettings, pooled: bool) -> None:
        """Detect whether there is a pooler, unless `pooled` says so, and apply `settings`. Raises psycopg.Error; the
        connection must then not be used."""
        assignments = [f"set_config('{name}', '{value}', false)" for name, value in settings.pairs().items()]
        columns = "current_setting('synchronous_commit')" + "{}" * len(assignments)
        here = f"pg_backend_pid() = {0 if pooled else self.pgconn.backend_pid}"
        # One statement for both: it sets nothing if the server's process is not the one that the connection names.
        query = (
            f"SELECT true, {columns.format(*(', ' + assignment for assignment in assignments))} WHERE {here} UNION ALL "
        )
        query += f"SELECT false, {columns.format(*[', NULL'] * len(assignments))} WHERE NOT {here}"
        autocommit, self.autocommit = self.autocommit, True
        try:
            row = self.execute(query.encode(), prepare=False).fetchone()
            assert row is not None
            direct, synchronous = bool(row[0]), row[1] not in ("off", "local")
            if direct and not synchronous:
                # `off` acknowledges reports that a crash can lose, and a log that lost what was signed freezes.
                self.execute(b"SET synchronous_commit = on", prepare=False)
        finally:
            if not self.closed:
                self.autocommit = autocommit
        self.pooled = not direct
        if self.pooled:
            self.prepare_threshold = None
            self._preamble = settings.local(not synchronous)

    def _give_up(self) -> NoReturn:
        self.close()
        raise ServerSilent("the server did not answer in time, and the connection was closed")

    def _exec_command(self, command: Any, result_format: Any = psycopg.pq.Format.TEXT) -> Any:
        """Execute as psycopg does; a transaction begins with its own settings, if it has any, in the same message."""
        settings = list(self._preamble)
        if self.idle_ms:
            settings.append(b"SET LOCAL idle_in_transaction_session_timeout = '%dms'" % self.idle_ms)
        if not (settings and isinstance(command, bytes) and command.startswith(b"BEGIN")):
            return (yield from super()._exec_command(command, result_format))
        if self._pipeline:  # of `executemany`: they are sent together anyway, each in its own message
            for statement in (command, *settings):
                yield from super()._exec_command(statement, result_format)
            return None
        self._check_connection_ok()
        self.pgconn.send_query(b"; ".join([command, *settings]))
        for result in (yield from generators.execute(self.pgconn)):
            if result.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result, encoding=self.pgconn._encoding)
        return None

    @classmethod
    def _connect_gen(cls, conninfo: str = "", *, timeout: float = 0.0) -> Any:
        """Connect as psycopg does, to one address after another, within the deadline of the thread's block.

        Each address gets at most half of the remaining time, so that a dead one leaves time for the next.
        """
        now = time.monotonic()
        ends_at = now + (getattr(_block, "ends_at", math.inf) - now) / 2
        return _bounded(super()._connect_gen(conninfo), ends_at)


def _default_hosts() -> list[tuple[str, int]]:
    """Return the hosts that libpq reads from the environment if a URL names none; empty where libpq uses its own
    default."""
    hosts = [host for host in os.environ.get("PGHOST", "").split(",") if host]
    ports = os.environ.get("PGPORT", "").split(",")
    if not hosts or os.environ.get("PGHOSTADDR") or len(ports) not in (1, len(hosts)):
        return []  # libpq handles these itself, without our resolver
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [(host, int(port) if port.isdecimal() else DEFAULT_PORT) for host, port in zip(hosts, ports, strict=True)]


_READ_ONLY = (b"in_hot_standby", b"default_transaction_read_only")


def _bounded(gen: Any, ends_at: float) -> Generator[Any, Any, Any]:
    """Return `gen`, a generator of psycopg that connects, with an end at `ends_at` (monotonic)."""
    waits_for = next(gen)
    while True:
        ready = yield waits_for
        if time.monotonic() > ends_at:
            gen.close()
            raise errors.ConnectionTimeout("connection timeout expired")
        try:
            waits_for = gen.send(ready)
        except StopIteration as done:
            return done.value


@contextmanager
def ending(ends_at: float) -> Iterator[None]:
    """While the block runs, end this thread's attempts to connect by `ends_at` (monotonic)."""
    before = getattr(_block, "ends_at", math.inf)
    _block.ends_at = min(before, ends_at)
    try:
        yield
    finally:
        _block.ends_at = before


class Dialler:
    """Opens connections to a place: first to the host that answered last, then to the others in turn."""

    def __init__(
        self,
        place: PostgresqlPlace,
        settings: SessionSettings,
        *,
        pooled: bool,
        connect_seconds: float,
        answer_seconds: float,
        commit_seconds: float,
        suspicious_seconds: float,
    ) -> None:
        # Parameters of the URL replace the defaults. A ledger cannot use a server that accepts no writes.
        self._parameters = {
            "target_session_attrs": "read-write",
            "application_name": "refund-ledger",
            **TCP,
            **place.parameters,
        }
        self._hosts = list(place.hosts) or _default_hosts()
        self._names = HostNames()
        self._settings = settings
        self._pooled = pooled
        self._suspicious_seconds = suspicious_seconds
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[LedgerConnection] = weakref.WeakSet()
        self._suspects: list[tuple[LedgerConnection, float]] = []
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._commit_seconds = commit_seconds

    def connect(self, **options: Any) -> LedgerConnection:
        """Return a new connection with its session settings applied; `options` are those of psycopg's `connect`. Raises
        psycopg.OperationalError within the connect deadline."""
        places: list[tuple[str, int] | None] = [*self._hosts] or [None]
        with ending(time.monotonic() + self._connect_seconds):
            for number, place in enumerate(places):
                try:
                    where = {} if place is None else self._where(*place)
                    connection = self._dial({**self._parameters, **where, **options})
                except psycopg.OperationalError as error:
                    if isinstance(error, errors.ConnectionTimeout):
                        self.suspect()
                    if number == len(places) - 1 or time.monotonic() >= _block.ends_at:
                        raise
                    continue
                if number:  # the next connection begins with the host that answered
                    self._hosts = [*self._hosts[number:], *self._hosts[:number]]
                return connection
        raise AssertionError("no host")

    def _where(self, host: str, port: int) -> dict[str, str]:
        """Return libpq's parameters for a host, with its addresses if it is a name, because psycopg would wait for the
        resolver without a deadline.

        The name gets at most half of the remaining time, so that some is left to connect, or for the next host.
        """
        if "hostaddr" in self._parameters:
            return {"host": host, "port": str(port)}
        left = _block.ends_at - time.monotonic()
        addresses = self._names.addresses(host, port, left / 2)
        if not addresses:
            return {"host": host, "port": str(port)}
        hosts, ports = ",".join([host] * len(addresses)), ",".join([str(port)] * len(addresses))
        return {"host": hosts, "hostaddr": ",".join(addresses), "port": ports}

    def suspect(self) -> None:
        """Cut the connections that wait for an answer now, once they have waited for `suspicious_seconds`."""
        with self._lock:
            self._suspects = [(each, each.waiting_since) for each in self._connections if each.waiting_since]
        self.sweep()

    def sweep(self) -> None:
        """Cut the suspects that have waited long enough. Called before each use of a connection."""
        if not self._suspects:
            return
        with self._lock:
            suspects, self._suspects = self._suspects, []
            for connection, since in suspects:
                if connection.waiting_since != since:
                    continue  # it was answered
                if time.monotonic() - since >= max(self._suspicious_seconds, connection.least_seconds):
                    connection.cut()
                else:
                    self._suspects.append((connection, since))

    def _dial(self, options: dict[str, Any]) -> LedgerConnection:
        connection = LedgerConnection.connect(**options)
        try:
            connection.ends_at = _block.ends_at
            connection.prepare_session(self._settings, self._pooled)
        except BaseException:
            connection.close()
            raise
        connection.keep_handle()
        connection.dialler = self
        with self._lock:
            self._connections.add(connection)
        connection.ends_at = math.inf
        connection.must_write = self._parameters["target_session_attrs"] in ("read-write", "primary")
        connection.answer_seconds = connection.usual_answer_seconds = self._answer_seconds
        connection.commit_seconds = self._commit_seconds
        return connection
