"""`command`: what it adds to a function, and what the function gets."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from ledger.cli import output
from ledger.cli.commands import app
from ledger.cli.decorator import command
from ledger.cli.options import LedgerOptions, OptionGroup, PersonOptions
from ledger.client import RefundLedger
from ledger.errors import InvalidRequest
from tests.kit import Running


@dataclass(frozen=True)
class ShapeOptions(OptionGroup):
    width: Annotated[int, typer.Option("--width", help="In metres.")]
    colour: Annotated[str, typer.Option("--colour")] = "red"


def commands(group: typer.Typer) -> list[Any]:
    """The functions of all commands below `group`."""
    functions = [registered.callback for registered in group.registered_commands]
    for below in group.registered_groups:
        assert below.typer_instance is not None
        functions += commands(below.typer_instance)
    return functions


def application(function: Any) -> typer.Typer:
    tree = typer.Typer()
    tree.command("only")(command(function))
    return tree


def test_every_command_prints_json_and_opens_the_ledger_in_one_way() -> None:
    signatures = [inspect.signature(function) for function in commands(app)]
    assert len(signatures) > 50
    assert all("json_output" in signature.parameters for signature in signatures)
    opening = [signature for signature in signatures if {"suite", "state_dir"} <= set(signature.parameters)]
    assert len(opening) > 25
    for signature in opening:
        for parameter in LedgerOptions.parameters():
            assert signature.parameters[parameter.name].annotation == parameter.annotation


def test_a_group_becomes_options_and_is_passed_as_one_object() -> None:
    seen: list[tuple[str, ShapeOptions, PersonOptions]] = []

    def paint(shape: ShapeOptions, name: Annotated[str, typer.Argument()], person: PersonOptions) -> None:
        """Paint it."""
        seen.append((name, shape, person))

    tree = application(paint)
    assert CliRunner().invoke(tree, ["house", "--width", "3", "--email", "a@b.example"]).exit_code == 0
    assert seen == [("house", ShapeOptions(3), PersonOptions(email="a@b.example"))]
    assert seen[0][2].identifiers() == {"email": "a@b.example"}
    assert CliRunner().invoke(tree, ["house"]).exit_code == 2  # --width has no default
    shown = CliRunner().invoke(tree, ["--help"]).output
    assert [text for text in ("Paint it.", "In metres.", "--json", "--region") if text not in shown] == []


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--fail", "--json"), 2)])
def test_the_ledger_is_open_while_the_command_runs_and_closed_afterwards(
    more: tuple[str, ...], code: int, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    close = RefundLedger.close

    def closing(ledger: RefundLedger) -> None:
        events.append("closed")
        close(ledger)

    def use(ledger: RefundLedger, fail: Annotated[bool, typer.Option("--fail")] = False) -> None:
        events.append(f"epoch {ledger.current_epoch()}")
        if fail:
            raise InvalidRequest("No.")

    monkeypatch.setattr(RefundLedger, "close", closing)
    files = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path]
    result = CliRunner().invoke(application(use), [*map(str, files), *more])
    output.reset()
    assert result.exit_code == code, result.output
    assert events == ["epoch 1", "closed"]
    assert not more or json.loads(result.output)["error"]["message"] == "No."
