"""Tests of databases start from an empty one, unlike the other tests of the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import OF_ENGINES


@pytest.fixture(params=OF_ENGINES)
def database_url(request: pytest.FixtureRequest, make_database: Callable[..., str]) -> str:
    """URL of a fresh, empty database; the test runs once on each engine."""
    return make_database(str(request.param))
