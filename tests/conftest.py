"""Fixtures and settings that all tests share: databases on both engines, hypothesis, a clean environment."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from ledger.server.db import engine as store_engine
from ledger.server.db import id_blocks, migrate
from ledger.server.db.schema import Base
from ledger.server.staff import passwords
from tests import pg, shared_routes, trusted
from tests.compiled import sharing
from tests.counts import CHECKS, LONG, trials
from tests.hanging import HangWatch
from tests.kept import Kept, keep
from tests.kit import connect, reviewers, running
from tests.memory_files import use_memory
from tests.shared_server import SharedServer
from tests.staffing import cheap
from tests.support import sqlite_schema
from tests.workers import Workers, made_once, run_folder

# A shared two-core machine makes single examples slow without any of them being wrong, so no deadline. `make test`
# draws the same examples every time: a red run is about the change, and can be repeated. Long runs draw others.
settings.register_profile(
    "refund-ledger", deadline=None, max_examples=trials(24, 1000), suppress_health_check=[HealthCheck.too_slow],
    derandomize=not LONG, database=None, print_blob=True,
)  # fmt: skip
settings.load_profile("refund-ledger")

__all__ = ["connect", "reviewers", "running"]

ENGINES = ("sqlite", "postgresql")
OF_ENGINES = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES]
"""Parameters of a fixture that makes a database on each engine."""
ONE_OF_ENGINES = [
    pytest.param(*of_engine.values, marks=[*of_engine.marks, pytest.mark.one_engine]) for of_engine in OF_ENGINES
]
"""The same for a fixture of a test's own that makes a database on one of them, which the test's id chooses."""
ONE_OF_ENGINES_BY_FILE = [
    pytest.param(*each.values, marks=[*each.marks, pytest.mark.one_engine("module")]) for each in OF_ENGINES
]
"""The same for a fixture that the tests of a file share: the file's name chooses."""

# Imports and collection make objects that stay: a fifth of their time was the search for garbage among these.
gc.disable()

# Each opened runtime writes its first block of ids: no test takes so many that two small ones do not do.
id_blocks.BLOCK = 500
# Four accounts at the real cost take a second of a processor, and nearly every test of a page has four.
passwords.hasher = cheap
shared_routes.share()
trusted.share()
store_engine.create_engine = sharing(store_engine.create_engine)  # type: ignore[attr-defined]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--workers`."""
    parser.addoption("--workers", type=int, default=1, help="run the tests in so many forks of one process")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers of this file, put temporary files in memory, and watch for tests that hang."""
    use_memory()
    config.pluginmanager.register(HangWatch())
    config.pluginmanager.register(SharedServer())
    if config.getoption("workers") > 1:
        config.pluginmanager.register(Workers(config.getoption("workers")))
    config.addinivalue_line(
        "markers",
        'one_engine(scope="test"): runs on one engine, chosen by its id, or by its file for the scope "module"; '
        "with LONG_TESTS=1 on both",
    )
    config.addinivalue_line("markers", "both_engines: runs on both engines, although a fixture says `one_engine`")
    config.addinivalue_line(
        "markers", "some_cases(number): of a parametrised test's cases so many run, with LONG_TESTS=1 all"
    )
    config.addinivalue_line(
        "markers", "checks_code: checks the code itself or its pages; runs in make check (CHECKS=1) and make soak"
    )


def without_engine(test_id: str) -> str:
    """The id of a test with a star in place of its engine: the same for both engines."""
    for name in ENGINES:
        test_id = test_id.replace(name, "*")
    return test_id


def engine_for(test_id: str) -> str:
    """The engine on which a test with the marker `one_engine` runs: the same in every run and every process."""
    return ENGINES[crc32(without_engine(test_id).encode()) % len(ENGINES)]


def is_chosen(item: pytest.Item) -> bool:
    """Whether the test runs: with `one_engine` and without `both_engines` on its engine only, without `one_engine`
    always."""
    marker = item.get_closest_marker("one_engine")
    engines = [name for name in ENGINES if item.get_closest_marker(name)]
    if marker is None or len(engines) != 1 or item.get_closest_marker("both_engines") is not None:
        return True
    by_module = "module" in (*marker.args, *marker.kwargs.values())
    # A parametrised test keeps its parameters in the id, so that its cases are spread over both engines.
    return engines[0] == engine_for(item.nodeid.partition("::")[0] if by_module else item.nodeid)


def spread(cases: Sequence[pytest.Item], number: int) -> Sequence[pytest.Item]:
    """`number` of the cases, the first among them, at equal distances; all cases if there are fewer."""
    if number >= len(cases):
        return cases
    return [cases[place * len(cases) // number] for place in range(number)]


def place_of(case: pytest.Item) -> list[int]:
    """Where the case stands among the cases of its test, whatever order the run has."""
    return list(case.callspec.indices.values())  # type: ignore[attr-defined]


def without_further_cases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The items, of tests with the marker `some_cases` only as many as it says."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("some_cases") is not None:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    staying: set[pytest.Item] = set()
    for case in cases.values():
        marker = case[0].get_closest_marker("some_cases")
        assert marker is not None
        staying.update(spread(sorted(case, key=place_of), *marker.args))
    return [item for item in items if item in staying or item.get_closest_marker("some_cases") is None]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the markers `one_engine` and `some_cases` say, except for tests that the command line names, and
    from a run of all tests those with the marker `checks_code`."""
    if LONG:
        return
    all_tests = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if all_tests and not CHECKS:
        checks = [item for item in items if item.get_closest_marker("checks_code") is not None]
        items[:] = [item for item in items if item.get_closest_marker("checks_code") is None]
        config.hook.pytest_deselected(items=checks)
    named = {argument.rpartition("::")[2] for argument in config.args if "[" in argument}
    variants = Counter(without_engine(item.nodeid) for item in items)
    # A test that has a variant on one engine only runs there.
    chosen = set(
        without_further_cases([item for item in items if is_chosen(item) or variants[without_engine(item.nodeid)] == 1])
    )
    kept = [item for item in items if item in chosen or item.name in named]
    if len(kept) < len(items):
        staying = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in staying])
        items[:] = kept


def pytest_collection_finish() -> None:
    """What is there now stays: looking through it again and again for garbage took a tenth of the run."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Look for garbage once more, so that what it raises is reported; pytest then looks five times, each through all
    that the tests have loaded, for the sake of interpreters without reference counts."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for a ledger of their own must not reach a test."""
    for name in [name for name in os.environ if name.startswith("REFUND_LEDGER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def pg_admin_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of the database `postgres` of the run's PostgreSQL, started when the first test asks for it."""
    return pg.server(run_folder(tmp_path_factory)).render_as_string(hide_password=False)


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`make_database(engine, template=None)` gives the URL of one more fresh database, on "sqlite" or "postgresql".

    `template` is the URL of a PostgreSQL database to copy, which has no connections. All are deleted afterwards.
    """
    created: list[str] = []
    files = count()

    def make(engine: str, template: str | None = None) -> str:
        if engine == "sqlite":
            assert template is None, "copy the file instead"
            return f"sqlite:///{tmp_path / f'ledger{next(files)}.db'}"
        admin = make_url(request.getfixturevalue("pg_admin_url"))
        url = pg.create_database(admin, None if template is None else make_url(template))
        created.append(url.render_as_string(hide_password=False))
        return created[-1]

    yield make
    for url in created:
        pg.drop_database(url)


@pytest.fixture(params=OF_ENGINES)
def database_url(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> str:
    """URL of a fresh, empty database; the test runs once on each engine."""
    return make_database(str(request.param))


@pytest.fixture(scope="session")
def postgresql_schema(pg_admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """`postgresql_schema()` gives the URL of a database with the schema and nothing in it, made once a run: copying it
    is many times faster than migrating. (For SQLite: `tests.support.sqlite_schema`.)"""

    def make(file: Path) -> None:
        url = pg.create_database(make_url(pg_admin_url)).render_as_string(hide_password=False)
        migrate.upgrade(url)
        file.write_text(url)

    return lambda: made_once(tmp_path_factory, "postgresql-schema", make).read_text()


@pytest.fixture(scope="session")
def emptied_postgresql(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """`emptied_postgresql()` gives the URL of this process's PostgreSQL database, with the schema and no rows.

    Emptying one database takes a tenth of the time of copying a template.
    """
    created: list[tuple[str, Kept]] = []

    def empty() -> str:
        if not created:
            template = make_url(request.getfixturevalue("postgresql_schema")())
            copy = pg.create_database(template, template)
            created.append((copy.render_as_string(hide_password=False), keep(str(copy.database))))
        ((url, kept),) = created
        mine = ", ".join(["pg_backend_pid()", *map(str, kept.processes())])
        emptied = [
            # What a killed server left connected could hold locks. This waits for the end, up to 5 seconds.
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
            f" AND backend_type = 'client backend' AND pid NOT IN ({mine})",
            # As a replica, so that no trigger prevents it. TRUNCATE creates every file anew: ten times as long.
            "SET LOCAL session_replication_role = replica",
            *(f'DELETE FROM "{name}"' for name in Base.metadata.tables),
        ]
        kept.run(url, "; ".join(emptied))
        return url

    yield empty
    for _, kept in created:
        kept.close()


@pytest.fixture
def make_migrated(make_database: Callable[..., str], emptied_postgresql: Callable[[], str]) -> Callable[[str], str]:
    """`make_migrated(engine)` gives the URL of a database with the schema and no rows."""

    def make(engine: str) -> str:
        if engine == "postgresql":
            return emptied_postgresql()
        url = make_database("sqlite")
        Path(str(make_url(url).database)).write_bytes(sqlite_schema())
        return url

    return make


@pytest.fixture(params=OF_ENGINES)
def migrated_url(request: pytest.FixtureRequest, make_migrated: Callable[[str], str]) -> str:
    """URL of a database with the schema and no rows; the test runs once on each engine."""
    return make_migrated(str(request.param))


@pytest.fixture(params=ONE_OF_ENGINES)
def one_engine_url(request: pytest.FixtureRequest, make_migrated: Callable[[str], str]) -> str:
    """URL of a database with the schema and no rows; the test runs on one engine, which its id chooses, and with
    `LONG_TESTS=1` on both.

    For tests above the store whose SQL other tests run on both engines. A file whose fixtures build on
    `migrated_url`, `database_url` or `api` says `pytestmark = pytest.mark.one_engine` instead ("module" as its argument
    where the database belongs to the whole file).
    """
    return make_migrated(str(request.param))
