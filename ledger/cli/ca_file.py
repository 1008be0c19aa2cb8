"""`--ca-file`: the option of every command that makes requests to a ledger."""

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
"""A command that has one of these parameters makes requests."""

CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        help="Certificate authorities (PEM) to trust instead of the system's. (or $REFUND_LEDGER_CA_FILE)",
    ),
]


def add_ca_file(app: typer.Typer) -> None:
    """Give the option to every command of `app`, and of the groups in it, that makes requests."""
    for command in app.registered_commands:
        parameters = inspect.signature(command.callback).parameters if command.callback is not None else {}
        if command.callback is not None and CONNECTING & set(parameters):
            command.callback = _with_ca_file(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_ca_file(group.typer_instance)


def _with_ca_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with one more parameter, which holds for all connections that it makes."""
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
    """While inside, connections trust the authorities in `ca_file`, if it is given, instead of those that the
    environment names. A file that cannot be used is an error of the first connection, which names it."""
    # Read by `ledger.client.transport.connections`, in processes that a command starts too.
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
