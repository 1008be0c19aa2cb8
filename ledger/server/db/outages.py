"""Which errors of a database mean "try again later", and which of them mean that the connection is of no use any more.

PostgreSQL says what happened by an SQLSTATE (PostgreSQL manual, appendix A), SQLite by the name of its result code. An
error without either comes from the driver: the connection was refused, lost or timed out.
"""

from __future__ import annotations

from enum import Enum

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class DatabaseVerdict(Enum):
    """What an error of the database means for the caller and for the connection."""

    FAULT = "fault"
    """The statement, or the program, is wrong: it would fail again."""
    OUTAGE = "outage"
    """Try again later; the connection is sound."""
    LOST = "lost"
    """Try again later, on another connection: this one is cut, or leads to a server that cannot write."""


_OUTAGE_CLASSES = ("08", "53", "57", "58")
"""Connection exception; insufficient resources (connections, memory, disk); operator intervention; system error."""

_OUTAGES = frozenset({"25006", "25P03", "25P04", "40001", "40P01", "55P03"})
"""Read-only transaction; idle-in-transaction and transaction timeouts; serialization failure, deadlock, lock
timeout."""

_CUT = frozenset({"25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"})
"""The server ends the connection with these: timeouts of the session; shutdown, crash of another backend, starting up,
database dropped, idle session."""

_REFUSED_BY_STANDBYS = frozenset({"0A000", "25001", "25006", "55000"})
"""What a standby answers to something that only a primary does. Elsewhere these are faults of the statement."""

_SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY")


def verdict(sqlstate: str | None, *, read_only_server: bool = False, asked_to_read: bool = False) -> DatabaseVerdict:
    """What PostgreSQL's `sqlstate` means; None is an error of the driver without one.

    `read_only_server`: the server is a standby, or its transactions are read-only by default. `asked_to_read`: the
    transaction was begun READ ONLY by this program, so that a refused write is the program's fault.
    """
    if sqlstate is None:
        return DatabaseVerdict.OUTAGE
    if read_only_server and sqlstate in _REFUSED_BY_STANDBYS:
        return DatabaseVerdict.LOST
    if sqlstate == "25006":
        return DatabaseVerdict.FAULT if asked_to_read else DatabaseVerdict.LOST
    if sqlstate in _CUT or sqlstate.startswith("08"):
        return DatabaseVerdict.LOST
    if sqlstate in _OUTAGES or sqlstate.startswith(_OUTAGE_CLASSES):
        return DatabaseVerdict.OUTAGE
    return DatabaseVerdict.FAULT


def is_outage(error: BaseException) -> bool:
    """Whether `error` means "try again later" rather than "this statement is wrong"."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    name = getattr(error.orig, "sqlite_errorname", None)
    if name is not None:  # SQLite calls every failure operational, also a wrong statement
        return str(name).startswith(_SQLITE_OUTAGES)
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is None:
        return isinstance(error, OperationalError | InterfaceError)
    # Whether a write was refused by a server, or by how the transaction was begun, was decided where the connection is
    # at hand: it was invalidated in the first case.
    return sqlstate != "25006" and verdict(sqlstate) is not DatabaseVerdict.FAULT
