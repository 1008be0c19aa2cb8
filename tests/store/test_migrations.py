"""Migrations go up and down on both engines, and make exactly the tables that the models describe."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import inspect, text

from ledger.errors import ConfigurationError
from ledger.service import migrate
from ledger.store.engine import open_engine
from ledger.store.tables import Base
from tests.support import ROOT


def test_up_and_down(database_url: str) -> None:
    migrate.upgrade(database_url)
    engine = open_engine(database_url)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    migrate.downgrade(database_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    migrate.upgrade(database_url)
    migrate.check_current(engine)
    engine.dispose()


def test_models_and_migrations_do_not_drift(database_url: str) -> None:
    migrate.upgrade(database_url)
    command.check(migrate.alembic_config(database_url))


def test_a_drift_is_found(database_url: str) -> None:
    migrate.upgrade(database_url)
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE tile ADD COLUMN stray INTEGER"))
    engine.dispose()
    with pytest.raises(CommandError, match="New upgrade operations"):
        command.check(migrate.alembic_config(database_url))


def test_two_deployments_may_migrate_at_once(database_url: str) -> None:
    program = "import sys; from ledger.service import migrate; migrate.upgrade(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in outcomes] == [0, 0, 0], outcomes
    engine = open_engine(database_url)
    migrate.check_current(engine)
    engine.dispose()


def test_a_database_without_the_schema_is_refused(database_url: str) -> None:
    engine = open_engine(database_url)
    with pytest.raises(ConfigurationError, match="keys init"):
        migrate.check_current(engine)
    migrate.upgrade(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'other'"))
    with pytest.raises(ConfigurationError, match="another schema"):
        migrate.check_current(engine)
    engine.dispose()
