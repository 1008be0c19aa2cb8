"""Which database errors mean "try again later", and which also mean that the connection cannot be used any longer.

PostgreSQL reports an SQLSTATE (PostgreSQL manual, appendix A), SQLite the name of its result code. An error without
either is raised by the driver: the connection was refused, lost or timed out.
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
    """Try again later; the connection still works."""
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
"""The codes of a standby for a command that only a primary executes. Elsewhere these are faults of the statement."""

_SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY")


def verdict(sqlstate: str | None, *, read_only_server: bool = False, asked_to_read: bool = False) -> DatabaseVerdict:
    """Return the meaning of PostgreSQL's `sqlstate`; None is an error of the driver without a code.

    `read_only_server`: the server is a standby, or its transactions are read-only by default. `asked_to_read`: this
    program began the transaction READ ONLY, so that a refused write is the program's fault.
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
    """True if `error` means "try again later" rather than "this statement is wrong"."""
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
    # For 25006, `verdict` decided with the connection at hand whether the server or the READ ONLY transaction refused
    # the write. In the first case the connection was invalidated, which was checked above.
    return sqlstate != "25006" and verdict(sqlstate) is not DatabaseVerdict.FAULT
