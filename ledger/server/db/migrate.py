"""Upgrading a database to the schema of this version (Alembic), and checking whether it has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData

from ledger.errors import ConfigurationError
from ledger.server.db.engine import reading

_SERVER = Path(__file__).resolve().parents[1]
_INSTALLED, _CHECKOUT = _SERVER / "migrations", _SERVER.parents[1] / "migrations"
SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The folder of the migrations: part of the installed package, or next to it in a checkout."""


@dataclass(frozen=True)
class MigrationHistory:
    """The migrations of one kind of database, in the order of their revisions.

    `versions` is the folder of the revisions and `metadata` the tables that they make; None for the ledger's own.
    `first_step` and `upgrade_step` are sentences for people: what to do with an empty database and with an older one.
    """

    versions: Path | None
    metadata: MetaData | None
    first_step: str
    upgrade_step: str


LEDGER_HISTORY = MigrationHistory(
    versions=None,
    metadata=None,
    first_step="Run `refund-ledger keys init` first.",
    upgrade_step="Stop the servers and run `refund-ledger keys migrate`.",
)
"""The migrations of the ledger's database."""


def alembic_config(database_url: str, history: MigrationHistory = LEDGER_HISTORY) -> Config:
    """Return Alembic's configuration for `database_url`. It reads no alembic.ini: that is for Alembic's own command."""
    config = Config()
    # A percent sign begins an interpolation there.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    if history.versions is not None:
        config.set_main_option("version_locations", str(history.versions).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    config.attributes["metadata"] = history.metadata
    return config


def upgrade(database_url: str, revision: str = "head", *, history: MigrationHistory = LEDGER_HISTORY) -> None:
    """Run the migrations up to `revision`. Raises the errors of Alembic and SQLAlchemy."""
    command.upgrade(alembic_config(database_url, history), revision)


def downgrade(database_url: str, revision: str = "base", *, history: MigrationHistory = LEDGER_HISTORY) -> None:
    """Run the migrations down to `revision`. Raises the errors of Alembic and SQLAlchemy."""
    command.downgrade(alembic_config(database_url, history), revision)


@cache
def newest_revision(history: MigrationHistory = LEDGER_HISTORY) -> str | None:
    """Return the newest revision of this version. The result is cached: reading all migrations takes longer than a
    query to the database."""
    return ScriptDirectory.from_config(alembic_config("", history)).get_current_head()


def is_current(engine: Engine, history: MigrationHistory = LEDGER_HISTORY) -> bool:
    """True if the database has the schema of this version. Raises DatabaseUnavailable."""
    return _revision(engine) == newest_revision(history)


def check_current(engine: Engine, history: MigrationHistory = LEDGER_HISTORY) -> None:
    """Raise ConfigurationError unless the database has the schema of this version. Raises DatabaseUnavailable."""
    revision = _revision(engine)
    if revision is None:
        raise ConfigurationError(f"The database is empty. {history.first_step}")
    if revision == newest_revision(history):
        return
    check_known(revision, history)
    raise ConfigurationError(f"The database has the schema of an older version. {history.upgrade_step}")


def check_known(revision: str | None, history: MigrationHistory = LEDGER_HISTORY) -> None:
    """Raise ConfigurationError for a revision that this version does not have: a newer version created it."""
    if revision is not None and revision not in _revisions(history):
        raise ConfigurationError(
            f"The database has the schema of a newer version ({revision[:32]}; this one knows "
            f"{newest_revision(history)}). Run that version, or restore the backup from before its migration; this "
            "version cannot take it back."
        )


def found_revision(engine: Engine) -> str | None:
    """Return the schema's revision, None for an empty database. Raises DatabaseUnavailable."""
    return _revision(engine)


@cache
def _revisions(history: MigrationHistory) -> frozenset[str]:
    script = ScriptDirectory.from_config(alembic_config("", history))
    return frozenset(migration.revision for migration in script.walk_revisions())


def _revision(engine: Engine) -> str | None:
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()
