"""Fixtures and settings that all tests share: databases on both engines, hypothesis, a clean environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from ledger.service import migrate
from ledger.store.schema import Base
from tests import pg

# A shared two-core machine makes single examples slow without any of them being wrong, so no deadline.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI draws the same examples every time: a red run is about the change, and can be repeated.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for a ledger of their own must not reach a test."""
    for name in [name for name in os.environ if name.startswith("REFUND_LEDGER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def pg_admin_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of the database `postgres` of the run's PostgreSQL, started when the first test asks for it."""
    base = tmp_path_factory.getbasetemp()
    # xdist gives each worker a folder below the run's; the server belongs to the run.
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return pg.server(folder).render_as_string(hide_password=False)


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`make_database(engine, template=None)` gives the URL of one more fresh database, on "sqlite" or "postgresql".

    `template` is the URL of a PostgreSQL database to copy, to which nobody is connected. All are deleted afterwards.
    """
    made: list[str] = []
    files = count()

    def make(engine: str, template: str | None = None) -> str:
        if engine == "sqlite":
            assert template is None, "copy the file instead"
            return f"sqlite:///{tmp_path / f'ledger{next(files)}.db'}"
        admin = make_url(request.getfixturevalue("pg_admin_url"))
        url = pg.create_database(admin, None if template is None else make_url(template))
        made.append(url.render_as_string(hide_password=False))
        return made[-1]

    yield make
    for url in made:
        pg.drop_database(url)


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES])
def database_url(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> str:
    """URL of a fresh, empty database; the test runs once on each engine."""
    return make_database(str(request.param))


@pytest.fixture(scope="session")
def schema_template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`schema_template(engine)` gives the URL of a database with the schema and nothing in it, made once a process:
    copying it is many times faster than migrating."""
    made: dict[str, str] = {}

    def template(engine: str) -> str:
        if engine not in made:
            if engine == "sqlite":
                made[engine] = f"sqlite:///{tmp_path_factory.mktemp('schema') / 'template.db'}"
            else:
                admin = make_url(request.getfixturevalue("pg_admin_url"))
                made[engine] = pg.create_database(admin).render_as_string(hide_password=False)
            migrate.upgrade(made[engine])
        return made[engine]

    return template


@pytest.fixture(scope="session")
def emptied_postgresql(schema_template: Callable[[str], str]) -> Callable[[], str]:
    """`emptied_postgresql()` gives the URL of this process's PostgreSQL database, with the schema and no rows.

    Emptying one database takes a tenth of the time of copying a template.
    """
    made: list[str] = []

    def empty() -> str:
        if not made:
            template = make_url(schema_template("postgresql"))
            made.append(pg.create_database(template, template).render_as_string(hide_password=False))
        url = made[0]
        pg.terminate_backends(url)  # what a killed server left connected could hold locks
        # As a replica, that no trigger stands in the way. TRUNCATE makes every file anew and takes ten times as long.
        emptied = [
            "SET session_replication_role = replica",
            *(f'DELETE FROM "{name}"' for name in Base.metadata.tables),
        ]
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("; ".join(emptied))
        return url

    return empty


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES])
def migrated_url(
    request: pytest.FixtureRequest,
    make_database: Callable[..., str],
    schema_template: Callable[[str], str],
    emptied_postgresql: Callable[[], str],
) -> str:
    """URL of a database with the schema and no rows; the test runs once on each engine."""
    if request.param == "postgresql":
        return emptied_postgresql()
    url = make_database("sqlite")
    shutil.copyfile(str(make_url(schema_template("sqlite")).database), str(make_url(url).database))
    return url
