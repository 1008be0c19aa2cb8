"""Running commands in the test's own process, without building the tree of commands anew each time."""

from __future__ import annotations

from functools import cache

import typer.main
import typer.testing


def build_commands_once() -> None:
    """Have `CliRunner` keep the commands that it builds from an application. It builds all of them for every run, which
    takes longer than most of the commands themselves; they keep no state between two runs."""
    typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]
