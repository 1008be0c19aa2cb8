"""What is in the two wheels, and what they state."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import ledger
from tests.support import ROOT
from tests.wheels.environments import PLATFORM, PROJECTS, SERVER, Wheel

SERVER_FOLDERS = ("ledger/server/", "ledger/service/", "ledger/holder/", "ledger/cli/operator/")
MOVED = {"api/": "ledger/server/api/", "migrations/": "ledger/server/migrations/"}
NOT_SHIPPED = {"ledger/locale/babel.cfg"}
"""Settings of the tool that reads texts out of the source."""


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """The build hooks of the server's wheel."""
    spec = importlib.util.spec_from_file_location("hatch_build", PROJECTS[SERVER] / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_of(wheel: Wheel) -> set[str]:
    """The files of a wheel without its metadata."""
    return {name for name in wheel.names() if ".dist-info/" not in name}


def place(name: str) -> str:
    """Where a file of the checkout is in a wheel."""
    moved = next((folder for folder in MOVED if name.startswith(folder)), None)
    return name if moved is None else MOVED[moved] + name.removeprefix(moved)


def test_the_two_wheels_together_have_every_file_of_the_product_once(wheels: Mapping[str, Wheel]) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "ledger", "api", "migrations"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so what belongs to the project is unknown")
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    product = {place(name) for name in names - NOT_SHIPPED}
    platform, server = files_of(wheels[PLATFORM]), files_of(wheels[SERVER])
    assert platform & server == set()
    assert platform | server == product
    assert len(product) > 500


def test_the_platforms_wheel_has_nothing_of_the_server(wheels: Mapping[str, Wheel]) -> None:
    names = files_of(wheels[PLATFORM])
    assert {PurePosixPath(name).parts[0] for name in names} == {"ledger"}
    assert [name for name in names if name.startswith(SERVER_FOLDERS)] == []
    assert {"ledger/py.typed", "ledger/__main__.py", "ledger/client/__init__.py", "ledger/cli/commands.py"} <= names


def test_the_servers_wheel_has_the_server_only(wheels: Mapping[str, Wheel]) -> None:
    names = files_of(wheels[SERVER])
    assert [name for name in names if not name.startswith(SERVER_FOLDERS)] == []
    for folder in ("console", "consumer", "web"):
        assert any(name.startswith(f"ledger/server/api/{folder}/templates/") for name in names)
    assert any(name.startswith("ledger/server/api/web/static/") for name in names)
    assert {"ledger/server/migrations/env.py", "ledger/server/api/app.py"} <= names


def test_only_imports_of_the_api_differ_from_the_checkout(wheels: Mapping[str, Wheel]) -> None:
    wheel = wheels[SERVER]
    origins = {place(name): ROOT / name for name in _checkout_files()}
    changed = 0
    for name in files_of(wheel):
        before, after = origins[name].read_bytes().split(b"\n"), wheel.read(name).split(b"\n")
        assert len(before) == len(after), name
        for old, new in zip(before, after, strict=True):
            if old != new:
                changed += 1
                assert new == old.replace(b"from api", b"from ledger.server.api", 1), (name, old, new)
        if name.endswith(".py"):
            imports = [node for node in ast.walk(ast.parse(wheel.read(name))) if isinstance(node, ast.ImportFrom)]
            assert not any((node.module or "").split(".")[0] == "api" and not node.level for node in imports), name
    assert changed > 100


def _checkout_files() -> list[str]:
    folders = ("ledger", "api", "migrations")
    return [str(file.relative_to(ROOT)) for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from api.app import create_app\n", "from ledger.server.api.app import create_app\n"),
        ("from api import (\n    app,\n)\n", "from ledger.server.api import (\n    app,\n)\n"),
        ('"é"; from api.app import x', '"é"; from ledger.server.api.app import x'),
        ("def f():\n    from api.web import pages", "def f():\n    from ledger.server.api.web import pages"),
        ('"""From api.app: from api.app import x."""\n', '"""From api.app: from api.app import x."""\n'),
        ("from .api import x\nfrom apis import y\nfrom ledger.api import z\n", None),
        ('text = "\u2028"\nfrom api import app\n', 'text = "\u2028"\nfrom ledger.server.api import app\n'),
    ],
)
def test_imports_are_rewritten_and_nothing_else(hooks: ModuleType, source: str, expected: str | None) -> None:
    assert hooks.installed_source(source, "x.py") == (source if expected is None else expected)


@pytest.mark.parametrize("source", ["import api\n", "import api.app as app\n", "from \\\n  api import app\n"])
def test_an_import_that_cannot_be_rewritten_ends_the_build(hooks: ModuleType, source: str) -> None:
    with pytest.raises(ValueError, match=r"x\.py:1: write"):
        hooks.installed_source(source, "x.py")


def test_both_state_one_version_and_the_server_requires_it(wheels: Mapping[str, Wheel]) -> None:
    assert {wheel.metadata()["Version"] for wheel in wheels.values()} == {ledger.__version__}
    assert {name: wheel.metadata()["Name"] for name, wheel in wheels.items()} == {PLATFORM: PLATFORM, SERVER: SERVER}
    own = [
        line
        for line in map(Requirement, wheels[SERVER].requirements())
        if line.name == PLATFORM and (line.marker is None or "extra" not in str(line.marker))
    ]
    assert [(line.extras, str(line.specifier)) for line in own] == [({"cli", "filter"}, f"=={ledger.__version__}")]


def test_requirements_and_extras(wheels: Mapping[str, Wheel]) -> None:
    platform, server = wheels[PLATFORM], wheels[SERVER]
    assert set(platform.metadata().get_all("Provides-Extra") or []) == {"cli", "evidence", "filter", "referral"}
    assert set(server.metadata().get_all("Provides-Extra") or []) == {"demo", "replay"}
    base = {Requirement(line).name for line in platform.requirements() if "extra ==" not in line}
    of_the_server = {Requirement(line).name for line in server.requirements() if "extra ==" not in line} - {PLATFORM}
    assert "httpx2" in base
    assert "sqlalchemy" in of_the_server
    assert base & of_the_server == set()
    assert base.isdisjoint({"numpy", "typer", "rich", "babel"})


def test_the_command_is_the_platforms(wheels: Mapping[str, Wheel]) -> None:
    def entry_points(wheel: Wheel) -> list[str]:
        return [wheel.read(name).decode() for name in wheel.names() if name.endswith("/entry_points.txt")]

    (text,) = entry_points(wheels[PLATFORM])
    assert text.split() == ["[console_scripts]", "refund-ledger", "=", "ledger.cli:main"]
    assert entry_points(wheels[SERVER]) == []


def test_both_have_the_license(wheels: Mapping[str, Wheel]) -> None:
    text = (ROOT / "LICENSE").read_bytes()
    for wheel in wheels.values():
        (name,) = (name for name in wheel.names() if name.endswith("/licenses/LICENSE"))
        assert wheel.read(name) == text
