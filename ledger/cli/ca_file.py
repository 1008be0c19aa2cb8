"""`--ca-file`, an option of every command that makes requests to a ledger."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

CONNECTING = frozenset({"suite", "insecure_http"})
"""A command with one of these parameters makes requests."""

CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        help="Certificate authorities (PEM) to trust instead of the system's. (or $REFUND_LEDGER_CA_FILE)",
    ),
]


def add_ca_file(app: typer.Typer) -> None:
    """Add the option to every command below `app` that makes requests."""
    for command in app.registered_commands:
        parameters = inspect.signature(command.callback).parameters if command.callback is not None else {}
        if command.callback is not None and CONNECTING & set(parameters):
            command.callback = _with_ca_file(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_ca_file(group.typer_instance)


def _with_ca_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return `command` with the parameter `ca_file`, which applies to all connections that the command opens."""
    signature = inspect.signature(command, eval_str=True)
    added = inspect.Parameter("ca_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=CaFileOption)

    @functools.wraps(command)
    def run(*arguments: Any, ca_file: Path | None = None, **named: Any) -> Any:
        with trusting(ca_file):
            return command(*arguments, **named)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    run.__annotations__ = {**inspect.get_annotations(command, eval_str=True), "ca_file": CaFileOption}
    return run


@contextmanager
def trusting(ca_file: Path | None) -> Iterator[None]:
    """Make connections trust the authorities in `ca_file` inside the block, instead of those of the environment. None
    changes nothing. An unusable file is an error of the first connection, which names the file."""
    # `ledger.client.transport.connections` reads the variable, also in child processes of a command.
    from ledger.client.transport.connections import CA_VARIABLE

    if ca_file is None:
        yield
        return
    before = os.environ.get(CA_VARIABLE)
    os.environ[CA_VARIABLE] = str(ca_file)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CA_VARIABLE]
        else:
            os.environ[CA_VARIABLE] = before
