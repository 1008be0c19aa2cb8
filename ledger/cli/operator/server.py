"""`serve` and `keys`: run the ledger, and manage its keys and schema. The server's modules are loaded when a command
runs, not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import output
from ledger.cli.decorator import command

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.server.settings import Settings

PREFIX = "REFUND_LEDGER_"

keys = typer.Typer(no_args_is_help=True, help="Create and show the server's keys; migrate its database.")


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


@keys.command("init")
@command
def keys_init() -> None:
    """Create the keys, the checkpoint guard, the database schema and the log's first entries. Never overwrites
    anything."""
    from ledger.server.log.genesis import init_keys

    settings = read_settings()
    created = init_keys(settings, datetime.now(UTC))
    output.emit(
        {"created_keys": created.created_keys, "log_size": created.log_size, "keys_dir": str(settings.keys_dir)},
        lambda console: console.print(
            f"{'Created' if created.created_keys else 'Found'} the keys in {settings.keys_dir}; "
            f"the log has {created.log_size} entries. Back up the key folder, {settings.guard_dir} and the "
            "database separately."
        ),
    )


@keys.command("show")
@command
def keys_show(
    log_key: Annotated[
        bool, typer.Option("--log-key", help="Print only the log's verifier key, for `verify`.")
    ] = False,
) -> None:
    """Show the public keys that the log names and platforms pin."""
    from ledger.server.db.engine import reading
    from ledger.server.log.logged_keys import logged_keys

    with opened_database() as (_, engine), reading(engine) as connection:
        logged = dict(logged_keys(connection))
    if log_key:
        key = logged["log"]["key"]
        output.emit({"log_key": key}, lambda console: console.print(key, soft_wrap=True))
        return
    holders = {f"holder {holder['id']}": holder["public_key"] for holder in logged["holders"]}
    output.emit(
        logged,
        lambda console: console.print(
            output.fields({"epoch": logged["epoch"], **holders, "log key": logged["log"]["key"]})
        ),
    )


@keys.command("migrate")
@command
def keys_migrate() -> None:
    """Migrate the database to the schema of this version. Stop the servers first."""
    from ledger.server.db.migrate import check_known, found_revision, upgrade
    from ledger.server.db.opening import open_database

    settings = read_settings()
    engine = open_database(settings, current=False, create=True, pool_size=1)
    try:
        check_known(found_revision(engine))
    finally:
        engine.dispose()
    upgrade(settings.database_url)
    output.emit({"migrated": True}, lambda console: console.print("The database has the schema of this version."))
