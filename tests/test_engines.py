"""Tests with the marker `one_engine` run on one engine, which their id chooses, and with `LONG_TESTS=1` on both."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import create_engine, inspect, make_url

from ledger.server.db.schema import Base
from tests.conftest import ENGINES, OF_ENGINES, engine_for, is_chosen, spread, without_engine
from tests.counts import LONG

CASES = range(16)
MODULE = "tests/test_engines.py"


def all_run(request: pytest.FixtureRequest) -> bool:
    """Whether marked tests run wherever they are: in long runs, and where the command line names a test with its
    engine."""
    return LONG or any("[" in argument for argument in request.config.args)


@pytest.mark.parametrize("case", CASES)
def test_one_engine_url_is_on_the_engine_of_the_id(
    request: pytest.FixtureRequest, one_engine_url: str, case: int
) -> None:
    engine = make_url(one_engine_url).get_backend_name()
    assert all_run(request) or engine == engine_for(request.node.nodeid)
    if case < 2:
        database = create_engine(one_engine_url)
        assert set(Base.metadata.tables) <= set(inspect(database).get_table_names())
        database.dispose()


@pytest.fixture(scope="module", params=OF_ENGINES)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.one_engine("module")
@pytest.mark.parametrize("case", CASES)
def test_the_scope_module_gives_all_tests_of_a_file_one_engine(
    request: pytest.FixtureRequest, server: str, case: int
) -> None:
    assert all_run(request) or server == engine_for(request.node.nodeid.partition("::")[0])


def test_every_marked_test_of_this_run_is_there_once(request: pytest.FixtureRequest) -> None:
    counter = Counter(
        without_engine(item.nodeid)
        for item in request.session.items
        if item.get_closest_marker("one_engine") and not item.get_closest_marker("both_engines")
    )
    assert all_run(request) or set(counter.values()) <= {1}
    assert not LONG or set(counter.values()) <= {2}


@pytest.mark.both_engines
def test_both_engines_outweighs_one(request: pytest.FixtureRequest, one_engine_url: str) -> None:
    other = next(name for name in ENGINES if not request.node.get_closest_marker(name))
    neutral = without_engine(request.node.nodeid)
    twins = [item for item in request.session.items if without_engine(item.nodeid) == neutral]
    assert all_run(request) or any(item.get_closest_marker(other) for item in twins)


def test_cases_of_one_test_and_files_meet_both_engines() -> None:
    cases = Counter(engine_for(f"tests/api/test_me.py::test_a_page[{case}]") for case in range(200))
    files = Counter(engine_for(f"tests/api/test_{name}.py") for name in range(200))
    assert min(*cases.values(), *files.values()) > 60
    assert cases.keys() == files.keys() == set(ENGINES)


def test_the_engine_among_the_parameters_does_not_count() -> None:
    ids = [f"tests/a.py::test_a[{name}-1]" for name in ENGINES]
    assert len({engine_for(item) for item in ids}) == 1


def test_other_tests_stay(request: pytest.FixtureRequest) -> None:
    assert is_chosen(request.node)
    assert all(is_chosen(item) for item in request.session.items if item.get_closest_marker("one_engine") is None)


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("case", range(10))
def test_some_cases_run(request: pytest.FixtureRequest, case: int) -> None:
    assert all_run(request) or case in (0, 3, 6)


def test_cases_are_spread(request: pytest.FixtureRequest) -> None:
    items = [request.node] * 2
    assert spread(items, 5) == spread(items, 2) == items
    assert len(spread(items, 1)) == 1


@pytest.mark.one_engine
@pytest.mark.parametrize("engine", [pytest.param("sqlite", marks=pytest.mark.sqlite)])
@pytest.mark.parametrize("case", range(4))
def test_a_test_of_one_engine_runs_there(engine: str, case: int) -> None:
    """`test_none_is_left_out` counts the cases, some of which the id would send to the other engine."""
    assert (engine, case in range(4)) == ("sqlite", True)


def test_none_is_left_out(request: pytest.FixtureRequest) -> None:
    names = {item.name for item in request.session.items if item.nodeid.startswith(MODULE)}
    here = {f"test_a_test_of_one_engine_runs_there[{case}-sqlite]" for case in range(4)}
    assert here <= names or not any(name in names for name in here), (
        "all of them, or another part of the file was asked for"
    )
    assert len({engine_for(f"{MODULE}::{name}") for name in here}) == 2, "the ids choose both engines"
