"""Fixtures: both wheels and an environment of each, made once for all processes of a test run."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.wheels.environments import PLATFORM, PROJECTS, SERVER, Environment, Wheel, build, make_environment
from tests.workers import run_folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` of the whole test run. The first process that asks fills it with `make`, while the
    others wait."""
    root = run_folder(factory)
    folder, finished = root / name, root / f"{name}.finished"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            make(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Wheel]:
    """The two wheels of this checkout by their names."""

    def make(folder: Path) -> None:
        for name in PROJECTS:
            build(name, folder / name)

    folder = made_once(tmp_path_factory, "built-wheels", make)
    return {name: Wheel(next((folder / name).glob("*.whl"))) for name in PROJECTS}


@pytest.fixture(scope="session")
def platform(wheels: Mapping[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the platform's wheel and its command."""
    folder = made_once(
        tmp_path_factory, "platform-venv", lambda folder: make_environment(folder, wheels, f"{PLATFORM}[cli]")
    )
    return Environment(folder)


@pytest.fixture(scope="session")
def server(wheels: Mapping[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the server's wheel, with what its demonstration needs."""
    folder = made_once(
        tmp_path_factory, "server-venv", lambda folder: make_environment(folder, wheels, f"{SERVER}[demo]")
    )
    return Environment(folder)
