"""Bring a database to the schema of this checkout (Alembic), and say whether it is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from ledger.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the server runs from one, because `migrations/` lies beside the package."""


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for `database_url`."""
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the migrations up to `revision`."""
    command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str = "base") -> None:
    """Run the migrations down to `revision`."""
    command.downgrade(alembic_config(database_url), revision)


@cache
def newest_revision() -> str | None:
    """The newest revision of this checkout. Reading all migrations takes longer than asking the database."""
    return ScriptDirectory.from_config(alembic_config("")).get_current_head()


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema of this checkout."""
    return _revision(engine) == newest_revision()


def check_current(engine: Engine) -> None:
    """Raises ConfigurationError unless the database has the schema of this checkout."""
    found = _revision(engine)
    if found is None:
        raise ConfigurationError("The database is empty. Run `refund-ledger keys init` first.")
    if found != newest_revision():
        raise ConfigurationError(
            "The database has another schema than this version needs. Run `refund-ledger keys migrate`."
        )


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()
