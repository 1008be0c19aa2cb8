"""Tests of the commands: the program is put together once, and so is the schema of their SQLite databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import make_url

from ledger.server.db import migrate
from tests.commands import build_commands_once
from tests.support import sqlite_schema

build_commands_once()
_upgrade = migrate.upgrade


def _upgrade_or_copy(database_url: str, revision: str = "head") -> None:
    """As `migrate.upgrade`; an empty SQLite database becomes a copy of one that was migrated before."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or revision != "head" or url.database is None:
        _upgrade(database_url, revision)
        return
    with closing(sqlite3.connect(url.database)) as database:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            with closing(sqlite3.connect(":memory:")) as schema:
                schema.deserialize(sqlite_schema())
                schema.backup(database)
            return
    _upgrade(database_url, revision)


@pytest.fixture(autouse=True)
def _quick_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    """`keys init` in this process copies the schema. Tests of migrations, and commands in processes of their own,
    migrate."""
    sqlite_schema()
    monkeypatch.setattr(migrate, "upgrade", _upgrade_or_copy)
