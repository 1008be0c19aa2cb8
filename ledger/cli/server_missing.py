"""The operator's commands where the server is not installed: each says which distribution to install."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import typer

from ledger.cli import output

SERVER_COMMANDS = ("serve", "keys", "platform", "staff", "policy", "publish", "rotate", "demo", "replay")
"""The commands and groups that `refund-credit-ledger-server` adds."""

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def is_server_installed() -> bool:
    """True if the package `ledger` has its server. A checkout always has."""
    return importlib.util.find_spec("ledger.server") is not None


def add_server_stubs(app: typer.Typer) -> None:
    """Add a hidden command in place of each of SERVER_COMMANDS. It takes any arguments and exits with
    ExitCode.EXTRA_MISSING."""
    for name in SERVER_COMMANDS:
        app.command(name, hidden=True, add_help_option=False, context_settings=_ANYTHING)(_stub(name))


def _stub(name: str) -> Callable[[], None]:
    def refuse() -> None:
        output.fail_without_server(f"`refund-ledger {name}`")

    return refuse
