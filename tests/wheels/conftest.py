"""Fixtures: both wheels, built once for each test process."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.wheels.environments import PLATFORM, PROJECTS, SERVER, Environment, Wheel, build, make_environment


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Wheel]:
    """The two wheels of this checkout by their names."""
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build(name, folder) for name in PROJECTS}


@pytest.fixture(scope="session")
def platform(wheels: Mapping[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the platform's wheel and its command."""
    return make_environment(tmp_path_factory.mktemp("platform") / "venv", wheels, f"{PLATFORM}[cli]")


@pytest.fixture(scope="session")
def server(wheels: Mapping[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the server's wheel, with what its demonstration needs."""
    return make_environment(tmp_path_factory.mktemp("server") / "venv", wheels, f"{SERVER}[demo]")
