"""`--ca-file`: every command that makes requests has it, and it holds for that command alone."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ledger.cli.ca_file import CONNECTING, add_ca_file, trusting
from ledger.cli.commands import app
from ledger.client.identity.keyfiles import load_or_create_signing_key
from ledger.client.transport.connections import CA_VARIABLE
from ledger.tlog.checkpoint import verifier_key


def callbacks(tree: typer.Typer) -> list[inspect.Signature]:
    """The signatures of all commands."""
    values = [inspect.signature(command.callback) for command in tree.registered_commands if command.callback]
    for group in tree.registered_groups:
        if group.typer_instance is not None:
            values += callbacks(group.typer_instance)
    return values


def test_every_command_that_makes_requests_has_it() -> None:
    signatures = [set(signature.parameters) for signature in callbacks(app)]
    connecting = [names for names in signatures if names & CONNECTING]
    assert len(connecting) > 10
    assert all("ca_file" in names for names in connecting)
    assert not any("ca_file" in names for names in signatures if not names & CONNECTING)


def test_it_holds_while_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CA_VARIABLE, "of-the-environment.pem")
    seen: list[str | None] = []
    tree = typer.Typer()

    def ask(suite: Annotated[str, typer.Option("--suite")] = "") -> None:
        """Ask."""
        seen.append(os.environ.get(CA_VARIABLE))

    tree.command("ask")(ask)
    add_ca_file(tree)
    for arguments in (["--ca-file", "corp.pem", "--suite", "a"], ["--suite", "a"]):
        assert CliRunner().invoke(tree, arguments).exit_code == 0
    assert seen == ["corp.pem", "of-the-environment.pem"]
    assert os.environ[CA_VARIABLE] == "of-the-environment.pem"
    monkeypatch.delenv(CA_VARIABLE)
    with trusting(Path("corp.pem")):
        assert os.environ[CA_VARIABLE] == "corp.pem"
    assert CA_VARIABLE not in os.environ


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    public = load_or_create_signing_key(tmp_path / "log.pem").public_key().public_bytes_raw()
    key = verifier_key("ledger.test/log", public)
    arguments = ["verify", "https://ledger.test", "--log-key", key, "--ca-file", str(tmp_path / "corp.pem")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 2
    assert "(or the option --ca-file) names corp.pem" in done.output
