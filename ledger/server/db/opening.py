"""Opening the ledger's database, with a clear sentence for each thing that can be wrong with it.

No message repeats the URL or a part of it, because in a mistyped URL any part may be the password.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from ledger.errors import ConfigurationError, DatabaseUnavailable
from ledger.server.db import migrate
from ledger.server.db.engine import open_engine, reading
from ledger.server.settings import Settings

SETTING = "REFUND_LEDGER_DATABASE_URL"
DEFAULT_FOLDER = Path("var")
"""The only folder that is created if it is missing: the default one. Any other missing folder is a mistyped path."""

_SQLITE_MAGIC = b"SQLite format 3\x00"

_REASONS = (
    ("refused", "nothing listens at its address"),
    ("name servers do not answer", "the name servers do not answer for its host name"),
    ("could not translate host name", "its host name is not known"),
    ("name or service not known", "its host name is not known"),
    ("failed to resolve host", "its host name is not known"),
    ("password authentication failed", "it does not accept the user or the password"),
    ("no password supplied", "it wants a password"),
    ("no pg_hba.conf entry", "it does not accept this user from here"),
    ("does not exist", "it has no such database or role"),
    ("too many", "it has no connection left"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("no such file", "nothing listens at its address"),
    ("timeout", "it does not answer"),
    ("timed out", "it does not answer"),
)


def engine_of(settings: Settings, setting: str = SETTING, **options: Any) -> Engine:
    """Return an engine with the timeouts and deadlines of `settings`; `options` (of `open_engine`) replace them. Does
    not connect yet. `setting` is the name of the setting with the URL, for messages. Raises ConfigurationError for a
    URL that names no database."""
    chosen: dict[str, Any] = {
        "lock_timeout_ms": settings.lock_timeout_ms,
        "statement_timeout_ms": settings.statement_timeout_ms,
        "read_deadline_ms": settings.read_deadline_ms,
        "write_deadline_ms": settings.write_deadline_ms,
        "connect_deadline_ms": settings.connect_deadline_ms,
        "pooler": settings.pooler,
    }
    try:
        return open_engine(settings.database_url, **{**chosen, **options})
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting} cannot be used. {error}") from None
    except (SQLAlchemyError, ValueError, ImportError):
        raise ConfigurationError(
            f"{setting} is no address of a database: it must be sqlite:///path or postgresql+psycopg://user@host/name."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"The database's file cannot be made: {error.strerror}. Check {setting}.") from None


def open_database(
    settings: Settings,
    *,
    current: bool = True,
    create: bool = False,
    setting: str = SETTING,
    history: migrate.MigrationHistory = migrate.LEDGER_HISTORY,
    **options: Any,
) -> Engine:
    """Return an engine as `engine_of` does, for the database with the tables of `history`, after connecting once.

    `current` requires the schema of this version; `create` allows an SQLite file that does not exist yet. Raises
    ConfigurationError for a URL, path, file or schema that cannot work, DatabaseUnavailable when it does not answer.
    """
    _check_file(settings.database_url, create, setting, history)
    engine = engine_of(settings, setting, **options)
    try:
        reach(engine, setting)
        if current:
            migrate.check_current(engine, history)
    except BaseException:
        engine.dispose()
        raise
    return engine


def reach(engine: Engine, setting: str = SETTING) -> None:
    """Connect once. Raises DatabaseUnavailable with the reason in words, ConfigurationError for a file that is not a
    database."""
    try:
        with reading(engine) as connection:
            connection.exec_driver_sql("SELECT 1")
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except DatabaseUnavailable as error:
        message = f"The database cannot be reached: {_reason(error)}. Check {setting} and the database's server."
        if engine.dialect.name == "sqlite":
            message = f"The database's file cannot be used: {_reason(error)}. Check {setting} and its disk."
        raise DatabaseUnavailable(message, retry_after_seconds=1) from error
    except SQLAlchemyError as error:
        raise ConfigurationError(f"{setting} names something that is no database of this ledger.") from error


def _reason(error: DatabaseUnavailable) -> str:
    """Return the reason in words, without any part of the driver's message, which may quote a mistyped URL."""
    text = str(getattr(error.__cause__, "orig", None) or error.__cause__).lower()
    name = str(getattr(getattr(error.__cause__, "orig", None), "sqlite_errorname", ""))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "another process has locked it"
    if name.startswith("SQLITE_READONLY"):
        return "it is read-only"
    if name.startswith("SQLITE_FULL"):
        return "its disk is full"
    if name.startswith("SQLITE_CANTOPEN"):
        return "it cannot be opened"
    return next((reason for part, reason in _REASONS if part in text), "it does not answer as a database should")


def _check_file(url: str, create: bool, setting: str, history: migrate.MigrationHistory) -> None:
    """Raise ConfigurationError if `url` names an SQLite file that is missing, in a missing folder, or not SQLite."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
            return
    except (SQLAlchemyError, ValueError):
        return  # `open_engine` says what is wrong
    path = Path(parsed.database)
    folder = path.parent
    if path.is_dir():
        raise ConfigurationError(f"{setting} names a folder; it must name a file in it.")
    if not folder.is_dir():
        if not (create and folder == DEFAULT_FOLDER):
            raise ConfigurationError(f"{setting} names a file in a folder that does not exist. Make the folder first.")
    elif not path.exists():
        if not create:
            raise ConfigurationError(f"{setting} names a file that does not exist. {history.first_step}")
    elif not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(f"{setting} names a file that this user cannot read and write.")
    else:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_MAGIC))
        if start and start != _SQLITE_MAGIC:
            raise ConfigurationError(f"{setting} names a file that is no SQLite database.")
