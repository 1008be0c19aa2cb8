"""Upgrading a database to the schema of this version (Alembic), and checking whether it has it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from ledger.errors import ConfigurationError
from ledger.server.db.engine import reading

_SERVER = Path(__file__).resolve().parents[1]
_INSTALLED, _CHECKOUT = _SERVER / "migrations", _SERVER.parents[1] / "migrations"
SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The folder of the migrations: part of the installed package, or next to it in a checkout."""


def alembic_config(database_url: str) -> Config:
    """Return Alembic's configuration for `database_url`. It reads no alembic.ini: that is for Alembic's own command."""
    config = Config()
    # A percent sign begins an interpolation there.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations up to `revision`. Raises the errors of Alembic and SQLAlchemy."""
    command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str = "base") -> None:
    """Run the migrations down to `revision`. Raises the errors of Alembic and SQLAlchemy."""
    command.downgrade(alembic_config(database_url), revision)


@cache
def newest_revision() -> str | None:
    """Return the newest revision of this version. The result is cached: reading all migrations takes longer than a
    query to the database."""
    return ScriptDirectory.from_config(alembic_config("")).get_current_head()


def is_current(engine: Engine) -> bool:
    """True if the database has the schema of this version. Raises DatabaseUnavailable."""
    return _revision(engine) == newest_revision()


def check_current(engine: Engine) -> None:
    """Raise ConfigurationError unless the database has the schema of this version. Raises DatabaseUnavailable."""
    revision = _revision(engine)
    if revision is None:
        raise ConfigurationError("The database is empty. Run `refund-ledger keys init` first.")
    if revision == newest_revision():
        return
    check_known(revision)
    raise ConfigurationError(
        "The database has the schema of an older version. Stop the servers and run `refund-ledger keys migrate`."
    )


def check_known(revision: str | None) -> None:
    """Raise ConfigurationError for a revision that this version does not have: a newer version created it."""
    if revision is not None and revision not in _revisions():
        raise ConfigurationError(
            f"The database has the schema of a newer version ({revision[:32]}; this one knows {newest_revision()}). "
            "Run that version, or restore the backup from before its migration; this version cannot take it back."
        )


def found_revision(engine: Engine) -> str | None:
    """Return the schema's revision, None for an empty database. Raises DatabaseUnavailable."""
    return _revision(engine)


@cache
def _revisions() -> frozenset[str]:
    script = ScriptDirectory.from_config(alembic_config(""))
    return frozenset(migration.revision for migration in script.walk_revisions())


def _revision(engine: Engine) -> str | None:
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()
