"""The pages about the SDK, the command line and the replay say what the code does."""

from __future__ import annotations

import importlib.util
import inspect
import re
from typing import Any

import pytest
from typer.main import get_command

from ledger.cli import app
from ledger.cli.exit_codes import ExitCode
from ledger.client import RefundLedger
from ledger.server.demo.replay_mapping import read_mapping
from tests.support import ROOT

DOCS = ROOT / "docs"


def commands() -> list[str]:
    """Every command as it is typed: `report send`."""

    def under(group: Any, typed: str) -> list[str]:
        if not hasattr(group, "commands"):
            return [typed]
        return [item for name, command in group.commands.items() for item in under(command, f"{typed} {name}".strip())]

    return under(get_command(app), "")


@pytest.mark.parametrize("command", commands())
def test_every_command_is_shown(command: str) -> None:
    assert f"refund-ledger {command}" in (DOCS / "cli.md").read_text()


def test_every_command_in_the_pages_exists() -> None:
    known = commands()
    for page in ("cli.md", "sdk.md", "replay.md"):
        for typed in re.findall(r"^refund-ledger ([a-z-]+(?: [a-z-]+){0,2})", (DOCS / page).read_text(), re.MULTILINE):
            assert any(typed == name or typed.startswith(f"{name} ") for name in known), typed


def test_every_module_that_the_pages_run_exists() -> None:
    named = set()
    for page in DOCS.glob("*.md"):
        named |= set(re.findall(r"python -m (tests[.\w]*)", page.read_text()))
    assert "tests.evidence.measured" in named
    for module in named:
        assert importlib.util.find_spec(module) is not None, module


def test_exit_codes_are_listed() -> None:
    listed = re.findall(r"^\| (\d) \|", (DOCS / "cli.md").read_text(), re.MULTILINE)
    assert [int(code) for code in listed] == [int(code) for code in ExitCode]


def test_every_method_of_the_sdk_is_explained() -> None:
    text = (DOCS / "sdk.md").read_text()
    for name, _ in inspect.getmembers(RefundLedger, inspect.isfunction):
        if not name.startswith("_"):
            assert re.search(rf"\b{name}\b", text), name


def test_python_on_the_page_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "sdk.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        compile(block, "sdk.md", "exec")


def test_shipped_mappings_are_valid_and_their_fields_documented() -> None:
    text = (DOCS / "replay.md").read_text()
    for path in (DOCS / "replay").glob("*.toml"):
        assert read_mapping(path).name == path.stem
        assert path.name in text
