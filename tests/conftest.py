"""Fixtures and settings that all tests share: databases on both engines, hypothesis, a clean environment."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from ledger.service import id_block, migrate
from ledger.store import engine as store_engine
from ledger.store.schema import Base
from tests import pg
from tests.compiled import sharing
from tests.counts import trials
from tests.kept import Kept, keep
from tests.kit import connect, reviewers, running
from tests.support import sqlite_schema

# A shared two-core machine makes single examples slow without any of them being wrong, so no deadline.
settings.register_profile(
    "default", deadline=None, max_examples=trials(40, 1000), suppress_health_check=[HealthCheck.too_slow]
)
# CI draws the same examples every time: a red run is about the change, and can be repeated.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

__all__ = ["connect", "reviewers", "running"]

ENGINES = ("sqlite", "postgresql")

# Each opened runtime writes its first block of ids: no test takes so many that two small ones do not do.
id_block.BLOCK = 500
store_engine.create_engine = sharing(store_engine.create_engine)  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """What is there now stays: looking through it again and again for garbage took a tenth of the run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


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
def postgresql_schema(pg_admin_url: str) -> Callable[[], str]:
    """`postgresql_schema()` gives the URL of a database with the schema and nothing in it, made once a process: copying
    it is many times faster than migrating. (For SQLite: `tests.support.sqlite_schema`.)"""
    made: list[str] = []

    def template() -> str:
        if not made:
            made.append(pg.create_database(make_url(pg_admin_url)).render_as_string(hide_password=False))
            migrate.upgrade(made[0])
        return made[0]

    return template


@pytest.fixture(scope="session")
def emptied_postgresql(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """`emptied_postgresql()` gives the URL of this process's PostgreSQL database, with the schema and no rows.

    Emptying one database takes a tenth of the time of copying a template.
    """
    made: list[tuple[str, Kept]] = []

    def empty() -> str:
        if not made:
            template = make_url(request.getfixturevalue("postgresql_schema")())
            copy = pg.create_database(template, template)
            made.append((copy.render_as_string(hide_password=False), keep(str(copy.database))))
        ((url, kept),) = made
        mine = ", ".join(["pg_backend_pid()", *map(str, kept.processes())])
        emptied = [
            # What a killed server left connected could hold locks.
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            f" AND backend_type = 'client backend' AND pid NOT IN ({mine})",
            # As a replica, that no trigger stands in the way. TRUNCATE would make every file anew: ten times as long.
            "SET LOCAL session_replication_role = replica",
            *(f'DELETE FROM "{name}"' for name in Base.metadata.tables),
        ]
        kept.run(url, "; ".join(emptied))
        return url

    yield empty
    for _, kept in made:
        kept.close()


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES])
def migrated_url(
    request: pytest.FixtureRequest,
    make_database: Callable[..., str],
    emptied_postgresql: Callable[[], str],
) -> str:
    """URL of a database with the schema and no rows; the test runs once on each engine."""
    if request.param == "postgresql":
        return emptied_postgresql()
    url = make_database("sqlite")
    Path(str(make_url(url).database)).write_bytes(sqlite_schema())
    return url
