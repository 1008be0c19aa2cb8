"""Connections to PostgreSQL that never wait for ever, and whose session settings hold behind a pooler too.

**Deadlines.** The timeouts that PostgreSQL enforces (lock, statement, idle) help only while the server runs, and those
of TCP only while nothing acknowledges: a server that is stopped (SIGSTOP, a frozen virtual machine), a COMMIT that
waits for a synchronous standby and a proxy in between all keep a connection open without an answer. So each wait for
an answer is bounded here, in the client: psycopg waits in its own loop, and takes a timeout. When it is over the
connection is closed at once, without waiting for anything, and `ServerSilent` is raised. What the server made of a
COMMIT that was cut so is not known: the caller asks again under the same idempotency key.

- `answer_seconds`: for one answer; longer than the server's own statement timeout, so that a healthy server answers
  first.
- `commit_seconds`: for the answer to COMMIT, which no timeout of the server ends.
- `ends_at`: a moment (monotonic) for all answers of a block together.

A connection may be lost without the server's being told. Its transaction then holds its locks, the log's head among
them, until the server ends it for idleness, and no report can be recorded meanwhile. A block that has a deadline of
its own therefore has the server end it (`idle_ms`) long before.

A short reading that is not answered tells of a server, or a way to it, that is gone, on which other connections of the
process wait too, with more patience. Those are then cut as well, once they have waited for `suspicious_seconds` without
an answer (`Dialler.suspect`): so the whole process is rid of a dead server as soon as its most impatient reader is.

**Session settings** (`SessionSettings`) are not given as the startup parameter `options`, which PgBouncer refuses, or
drops in silence. On a direct connection one statement sets them when it is made. Behind a pooler a session's settings
would be another client's in the next transaction, so each transaction begins with `SET LOCAL`, in the same message as
BEGIN, which costs no round trip. A pooler is recognised by the process id that it invents for a connection's cancel
key: it is not the one that the server tells. Prepared statements are used on direct connections only.
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
    # A peer that is gone without a word: found after 10 s of silence and 3 unanswered probes, or when what was sent is
    # not acknowledged for 10 s. (Linux's own values are 2 hours and 15 minutes.)
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_INTERVAL_SECONDS = 0.1
"""How often a wait looks up, for interrupts; deadlines are met to the millisecond whatever this is."""

_READ = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR

_block = threading.local()
"""`ends_at` of the block that this thread opens a connection for."""


class ServerSilent(psycopg.OperationalError):
    """The server did not answer within the deadline; the connection is closed. Whether the statement, or the COMMIT,
    was carried out is not known."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What every transaction is held to by the server, in milliseconds; and times are told in UTC."""

    lock_timeout_ms: int
    statement_timeout_ms: int
    idle_timeout_ms: int

    def pairs(self) -> dict[str, str]:
        """Name and value of each setting, as PostgreSQL takes them."""
        return {
            "lock_timeout": f"{self.lock_timeout_ms}ms",
            "statement_timeout": f"{self.statement_timeout_ms}ms",
            "idle_in_transaction_session_timeout": f"{self.idle_timeout_ms}ms",
            "TimeZone": "UTC",
        }

    def local(self, synchronous: bool) -> tuple[bytes, ...]:
        """The statements that set them for one transaction; with `synchronous`, its COMMIT waits for the disk too."""
        pairs = {**self.pairs(), **({"synchronous_commit": "on"} if synchronous else {})}
        return tuple(f"SET LOCAL {name} = '{value}'".encode() for name, value in pairs.items())


class LedgerConnection(psycopg.Connection[Any]):
    """See the module."""

    usual_answer_seconds = 30.0
    answer_seconds = 30.0
    commit_seconds = 30.0
    ends_at = math.inf
    dialler: Dialler | None = None
    tells = False
    """Whether it does a short reading now, whose lateness tells of a server that is gone."""
    waiting_since = 0.0
    """When (monotonic) the wait began that is on; 0 if none is."""
    _socket: socket.socket | None = None
    must_write = True
    """Whether a server that has become read-only is of no use here."""
    least_seconds = 0.0
    """For how long it waits at least before it is cut as a suspect: a reading that is long by intention."""
    idle_ms = 0
    """If not 0: after so long without a statement the server ends a transaction of this use."""
    pooled = False
    """Whether another program shares out the server's sessions between this connection and others."""
    _preamble: tuple[bytes, ...] = ()
    _poll: Any = None

    def wait(self, gen: Any, interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        """As psycopg's, and ends by `answer_seconds` and `ends_at`. Raises ServerSilent."""
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
        """As psycopg's, within `commit_seconds`. Raises ServerSilent: then it may have happened or not."""
        answer_seconds, self.answer_seconds = self.answer_seconds, min(self.answer_seconds, self.commit_seconds)
        try:
            super().commit()
        finally:
            self.answer_seconds = answer_seconds

    def begin_use(self) -> bool:
        """Forget the deadlines of its last use; whether it is `sound`."""
        self.ends_at, self.answer_seconds, self.tells, self.idle_ms = math.inf, self.usual_answer_seconds, False, 0
        self.least_seconds = 0.0
        if self.dialler is not None:
            self.dialler.sweep()
        return self.sound()

    def cut(self) -> None:
        """End the connection from another thread: what waits on it gets an error at once."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def keep_handle(self) -> None:
        """Keep a handle of its own to the socket, for `cut`: the number alone may soon be another socket's."""
        self._socket = socket.socket(fileno=os.dup(self.pgconn.socket))

    def close(self) -> None:
        """As psycopg's."""
        super().close()
        if self._socket is not None:
            self._socket.close()

    def sound(self) -> bool:
        """Whether nothing has ended this idle connection, as far as this machine knows. Asks the kernel, not the
        server: what a server says when it ends a connection, and the end itself, are there to be read."""
        if self.closed:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, _READ)
        for _ in range(3):  # a word of the server (a changed parameter, a TLS ticket), then perhaps the end
            if not self._poll.poll(0):
                break
            try:
                self.pgconn.consume_input()
                self.pgconn.is_busy()
            except psycopg.Error:
                return False
        return self.pgconn.status == ConnStatus.OK and not (self.must_write and self.read_only_server())

    def read_only_server(self) -> bool:
        """Whether the server has said that it is a standby, or that its transactions are read-only by default. (It
        tells every change, PostgreSQL manual 54.2.7. A pooler may not pass it on; then False.)"""
        return any(self.pgconn.parameter_status(name) == b"on" for name in _READ_ONLY)

    def prepare_session(self, settings: SessionSettings, pooled: bool) -> None:
        """Find out whether there is a pooler, unless `pooled` says so, and put `settings` in force. Raises
        psycopg.Error; then the connection must not be used."""
        chosen = [f"set_config('{name}', '{value}', false)" for name, value in settings.pairs().items()]
        columns = "current_setting('synchronous_commit')" + "{}" * len(chosen)
        here = f"pg_backend_pid() = {0 if pooled else self.pgconn.backend_pid}"
        # One statement for both: it sets nothing where the server's process is not the one that the connection names.
        query = f"SELECT true, {columns.format(*(', ' + one for one in chosen))} WHERE {here} UNION ALL "
        query += f"SELECT false, {columns.format(*[', NULL'] * len(chosen))} WHERE NOT {here}"
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
        """As psycopg's; a transaction begins with settings of its own, if it has any, in the same message."""
        settings = list(self._preamble)
        if self.idle_ms:
            settings.append(b"SET LOCAL idle_in_transaction_session_timeout = '%dms'" % self.idle_ms)
        if not (settings and isinstance(command, bytes) and command.startswith(b"BEGIN")):
            return (yield from super()._exec_command(command, result_format))
        if self._pipeline:  # of `executemany`: they are sent together anyway, each as a message of its own
            for one in (command, *settings):
                yield from super()._exec_command(one, result_format)
            return None
        self._check_connection_ok()
        self.pgconn.send_query(b"; ".join([command, *settings]))
        for result in (yield from generators.execute(self.pgconn)):
            if result.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result, encoding=self.pgconn._encoding)
        return None

    @classmethod
    def _connect_gen(cls, conninfo: str = "", *, timeout: float = 0.0) -> Any:
        """As psycopg's, which waits for each address by turns, and ends by the thread's block: an address gets half of
        the time that is left at most, so that a dead one leaves time for the next."""
        now = time.monotonic()
        ends_at = now + (getattr(_block, "ends_at", math.inf) - now) / 2
        return _bounded(super()._connect_gen(conninfo), ends_at)


def _default_hosts() -> list[tuple[str, int]]:
    """The hosts that libpq takes from the environment where a URL names none; empty where it takes its own default."""
    hosts = [one for one in os.environ.get("PGHOST", "").split(",") if one]
    ports = os.environ.get("PGPORT", "").split(",")
    if not hosts or os.environ.get("PGHOSTADDR") or len(ports) not in (1, len(hosts)):
        return []  # libpq's own business, and none that needs a resolver
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [(host, int(port) if port.isdecimal() else DEFAULT_PORT) for host, port in zip(hosts, ports, strict=True)]


_READ_ONLY = (b"in_hot_standby", b"default_transaction_read_only")


def _bounded(gen: Any, ends_at: float) -> Generator[Any, Any, Any]:
    """`gen`, a generator of psycopg's that connects, ended at `ends_at` (monotonic)."""
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
    """While inside, this thread's attempts to connect end by `ends_at` (monotonic)."""
    before = getattr(_block, "ends_at", math.inf)
    _block.ends_at = min(before, ends_at)
    try:
        yield
    finally:
        _block.ends_at = before


class Dialler:
    """Makes connections to a place: to the host that answered last, else to the others by turns."""

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
        # A URL's own parameters go first. A server that takes no writes is of no use to a ledger.
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
        self._made: weakref.WeakSet[LedgerConnection] = weakref.WeakSet()
        self._suspects: list[tuple[LedgerConnection, float]] = []
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._commit_seconds = commit_seconds

    def connect(self, **options: Any) -> LedgerConnection:
        """A new connection with its session settings in force; `options` are those of psycopg's `connect`. Raises
        psycopg.OperationalError within the connect deadline."""
        places: list[tuple[str, int] | None] = [*self._hosts] or [None]
        with ending(time.monotonic() + self._connect_seconds):
            for number, place in enumerate(places):
                try:
                    where = {} if place is None else self._where(*place)
                    made = self._dial({**self._parameters, **where, **options})
                except psycopg.OperationalError as error:
                    if isinstance(error, errors.ConnectionTimeout):
                        self.suspect()
                    if number == len(places) - 1 or time.monotonic() >= _block.ends_at:
                        raise
                    continue
                if number:  # the next connection begins with the host that answered
                    self._hosts = [*self._hosts[number:], *self._hosts[:number]]
                return made
        raise AssertionError("no host")

    def _where(self, host: str, port: int) -> dict[str, str]:
        """libpq's parameters of a host, with its addresses if it is a name: psycopg would wait for the resolver without
        a deadline. Half of the time that is left is for the name, so that some is left to connect, or for the next."""
        if "hostaddr" in self._parameters:
            return {"host": host, "port": str(port)}
        left = _block.ends_at - time.monotonic()
        found = self._names.addresses(host, port, left / 2)
        if not found:
            return {"host": host, "port": str(port)}
        hosts, ports = ",".join([host] * len(found)), ",".join([str(port)] * len(found))
        return {"host": hosts, "hostaddr": ",".join(found), "port": ports}

    def suspect(self) -> None:
        """Cut the connections that wait for an answer now, once they have waited for `suspicious_seconds`."""
        with self._lock:
            self._suspects = [(one, one.waiting_since) for one in self._made if one.waiting_since]
        self.sweep()

    def sweep(self) -> None:
        """Cut those of the suspects whose time has come. Called whenever a connection is taken into use."""
        if not self._suspects:
            return
        with self._lock:
            suspects, self._suspects = self._suspects, []
            for one, since in suspects:
                if one.waiting_since != since:
                    continue  # it was answered
                if time.monotonic() - since >= max(self._suspicious_seconds, one.least_seconds):
                    one.cut()
                else:
                    self._suspects.append((one, since))

    def _dial(self, options: dict[str, Any]) -> LedgerConnection:
        made = LedgerConnection.connect(**options)
        try:
            made.ends_at = _block.ends_at
            made.prepare_session(self._settings, self._pooled)
        except BaseException:
            made.close()
            raise
        made.keep_handle()
        made.dialler = self
        with self._lock:
            self._made.add(made)
        made.ends_at = math.inf
        made.must_write = self._parameters["target_session_attrs"] in ("read-write", "primary")
        made.answer_seconds = made.usual_answer_seconds = self._answer_seconds
        made.commit_seconds = self._commit_seconds
        return made
