"""Connections to a test process's PostgreSQL database outlive the engine that made them.

Every test opens a ledger, whose engines make some eight connections and close them at its end. Each is a process of
PostgreSQL's that starts, reads the catalogue anew and ends: most of what a test cost the server. Here closing an idle
connection keeps it for the next engine; one that is in a transaction, cut, or changed since it was made, is closed.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import make_url

from ledger.server.db import pg_connection
from ledger.server.db.pg_connection import Dialler, LedgerConnection

MOST = 12
"""How many are kept at once."""


class Kept:
    """The idle connections to one database, in the form of a pool that psycopg gives closed connections back to."""

    close_returns = True

    def __init__(self) -> None:
        self._idle: list[LedgerConnection] = []
        self._administrator: psycopg.Connection[Any] | None = None

    def putconn(self, connection: LedgerConnection) -> None:
        """Keep a connection that is closed now, or close it for good."""
        if connection.dialler is not None:
            connection.dialler._connections.discard(connection)
            connection.dialler = None
        as_made = connection.autocommit is False and connection.isolation_level is None and connection.read_only is None
        idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if as_made and idle and len(self._idle) < MOST and connection.sound():
            self._idle.append(connection)
        else:
            self._end(connection)

    def take(self, settings: pg_connection.SessionSettings) -> LedgerConnection | None:
        """A connection that nothing has ended meanwhile, with `settings` in force."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.begin_use():
                    if connection.kept_settings != settings:  # type: ignore[attr-defined]
                        connection.prepare_session(settings, False)
                    return connection
            except psycopg.Error:
                pass
            self._end(connection)
        return None

    def run(self, url: str, statements: str) -> None:
        """Carry out `statements` in one transaction, in a session that stays open and in which nothing else happens."""
        if self._administrator is not None:
            try:
                self._administrator.execute(statements.encode())
                return
            except psycopg.OperationalError:  # a test cut it
                self._administrator.close()
        self._administrator = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self._administrator.execute(statements.encode())

    def processes(self) -> list[int]:
        """The process ids of the server's side."""
        return [connection.info.backend_pid for connection in self._idle]

    def close_idle(self) -> None:
        """Close the connections that no engine uses."""
        while self._idle:
            self._end(self._idle.pop())

    def close(self) -> None:
        """As `close_idle`, and the session of `run` too."""
        self.close_idle()
        if self._administrator is not None:
            self._administrator.close()

    def _end(self, connection: LedgerConnection) -> None:
        del connection._pool
        connection.close()


_by_database: dict[str, Kept] = {}
_dial = Dialler._dial


def _dial_or_take(dialler: Dialler, options: dict[str, Any]) -> LedgerConnection:
    """As `Dialler._dial`; a kept connection, if there is one."""
    kept = _by_database.get(str(options.get("dbname")))
    if kept is None or dialler._pooled:
        return _dial(dialler, options)
    connection = kept.take(dialler._settings)
    if connection is None:
        connection = _dial(dialler, options)
        connection._pool = kept
    else:
        connection.keep_handle()
        connection.dialler = dialler
        with dialler._lock:
            dialler._connections.add(connection)
        connection.must_write = dialler._parameters["target_session_attrs"] in ("read-write", "primary")
        connection.answer_seconds = connection.usual_answer_seconds = dialler._answer_seconds
        connection.commit_seconds = dialler._commit_seconds
    connection.kept_settings = dialler._settings  # type: ignore[attr-defined]
    return connection


def keep(database: str) -> Kept:
    """From now on this process keeps its connections to the database of this name."""
    Dialler._dial = _dial_or_take  # type: ignore[method-assign,assignment]
    return _by_database.setdefault(database, Kept())


def run(url: str, statements: str) -> None:
    """Carry out `statements` in one transaction: on a database whose connections are kept, in the session for that."""
    kept = _by_database.get(str(make_url(url).database))
    if kept is not None:
        kept.run(url, statements)
        return
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statements.encode())


def close_idle(database: str) -> None:
    """Close the kept connections to the database of this name that no engine uses."""
    kept = _by_database.get(database)
    if kept is not None:
        kept.close_idle()
