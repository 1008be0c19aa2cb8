"""The operator's commands where the server is not installed: each says which distribution to install."""

from __future__ import annotations

import importlib.util

import typer

from ledger.cli import output
from ledger.cli.platform.pictures import pictures

SERVER_COMMANDS = ("serve", "keys", "platform", "staff", "policy", "publish", "rotate", "holder", "demo", "replay")
"""The commands and groups that `refund-credit-ledger-server` adds, and `pictures benign`."""

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def is_server_installed() -> bool:
    """True if the package `ledger` has its server. A checkout always has."""
    return importlib.util.find_spec("ledger.server") is not None


def add_server_stubs(app: typer.Typer) -> None:
    """Add a hidden command in place of each command that the server's distribution adds. It takes any arguments and
    exits with ExitCode.EXTRA_MISSING."""
    for name in SERVER_COMMANDS:
        _add_stub(app, name, name)
    _add_stub(pictures, "benign", "pictures benign")


def _add_stub(app: typer.Typer, name: str, command: str) -> None:
    @app.command(name, hidden=True, add_help_option=False, context_settings=_ANYTHING)
    def refuse() -> None:
        output.fail_without_server(f"`refund-ledger {command}`")
