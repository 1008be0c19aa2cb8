"""`serve`: run the ledger; and what every operator command needs: settings and database. The server's modules are
loaded when a command runs, not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli.decorator import command

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.server.settings import Settings

PREFIX = "REFUND_LEDGER_"


def read_settings(**changes: Any) -> Settings:
    """Return the settings of the environment, with those of `changes` that are not None.

    Raises ConfigurationError, which names all that is wrong with them.
    """
    from ledger.server.settings import load_settings

    return load_settings(**changes)


@contextmanager
def opened_database(**options: Any) -> Iterator[tuple[Settings, Engine]]:
    """Open the ledger's database and yield the settings and the engine, which is disposed of afterwards. `options` are
    those of `open_database`; by default the pool has one connection.

    Raises ConfigurationError (also for a schema of another version) and DatabaseUnavailable.
    """
    from ledger.server.db.opening import open_database

    settings = read_settings()
    engine = open_database(settings, **{"pool_size": 1, **options})
    try:
        yield settings, engine
    finally:
        engine.dispose()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment variables with which a child process reads the same settings."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {**os.environ, **{PREFIX + name.upper(): str(value) for name, value in values.items()}}


@command
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 chooses a free one. (default: 8000)")] = None,
    publisher: Annotated[
        bool,
        typer.Option(
            "--publisher/--no-publisher", help="Sign checkpoints. Only one host has the log's checkpoint file (guard)."
        ),
    ] = True,
    snapshotter: Annotated[
        bool, typer.Option("--snapshotter/--no-snapshotter", help="Build snapshots. One host is enough.")
    ] = True,
) -> None:
    """Run the ledger: API, publisher and snapshotter. Settings come from REFUND_LEDGER_* variables."""
    from ledger.cli.operator.serve import run

    settings = read_settings(host=host, port=port)
    run(settings, environment_of(settings), publisher=publisher, snapshotter=snapshotter)
