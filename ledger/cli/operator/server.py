"""`serve` and `keys`: what the operator runs. The server's modules are loaded when a command runs, not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import output
from ledger.cli.output import JsonFlag, guarded

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.server.settings import Settings

PREFIX = "REFUND_LEDGER_"

keys = typer.Typer(no_args_is_help=True, help="Make and show the server's keys.")


def read_settings(**changes: Any) -> Settings:
    """Settings from the environment, with `changes` that are not None. Raises ConfigurationError that names everything
    which is wrong with them."""
    from ledger.server.settings import load_settings

    return load_settings(**changes)


@contextmanager
def opened_database(**options: Any) -> Iterator[tuple[Settings, Engine]]:
    """Settings and the ledger's database, of one connection unless `options` (of `open_engine`) say otherwise. Raises
    ConfigurationError, also when its schema is not this version's, and DatabaseUnavailable."""
    from ledger.server.db.opening import open_database

    settings = read_settings()
    engine = open_database(settings, **{"pool_size": 1, **options})
    try:
        yield settings, engine
    finally:
        engine.dispose()


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reads the same settings."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {**os.environ, **{PREFIX + name.upper(): str(value) for name, value in values.items()}}


@guarded
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. (default: 8000)")] = None,
    publisher: Annotated[
        bool, typer.Option("--publisher/--no-publisher", help="Sign checkpoints; one host has the log's guard.")
    ] = True,
    snapshotter: Annotated[
        bool, typer.Option("--snapshotter/--no-snapshotter", help="Build snapshots; one host is enough.")
    ] = True,
    json_output: JsonFlag = False,
) -> None:
    """Run the ledger: API, publisher and snapshotter. Settings come from REFUND_LEDGER_* variables."""
    from ledger.cli.operator.serve import run

    settings = read_settings(host=host, port=port)
    run(settings, environment_of(settings), publisher=publisher, snapshotter=snapshotter)


@keys.command("init")
@guarded
def keys_init(json_output: JsonFlag = False) -> None:
    """Create keys, checkpoint guard, database schema and the log's first entries. Never overwrites anything."""
    from ledger.server.log.genesis import init_keys

    settings = read_settings()
    done = init_keys(settings, datetime.now(UTC))
    output.emit(
        {"created_keys": done.created_keys, "log_size": done.log_size, "keys_dir": str(settings.keys_dir)},
        lambda console: console.print(
            f"{'Created' if done.created_keys else 'Found'} the keys in {settings.keys_dir}; "
            f"the log has {done.log_size} entries. Back up the key folder and {settings.guard_dir} apart from "
            "each other and from the database."
        ),
    )


@keys.command("show")
@guarded
def keys_show(
    log_key: Annotated[bool, typer.Option("--log-key", help="Only the log's verifier key, for `verify`.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Show the public keys that the log names: what platforms pin."""
    from ledger.server.db.engine import reading
    from ledger.server.log.logged_keys import logged_keys

    with opened_database() as (_, engine), reading(engine) as connection:
        logged = dict(logged_keys(connection))
    if log_key:
        key = logged["log"]["key"]
        output.emit({"log_key": key}, lambda console: console.print(key, soft_wrap=True))
        return
    holders = {f"holder {one['id']}": one["public_key"] for one in logged["holders"]}
    output.emit(
        logged,
        lambda console: console.print(
            output.fields({"epoch": logged["epoch"], **holders, "log key": logged["log"]["key"]})
        ),
    )


@keys.command("migrate")
@guarded
def keys_migrate(json_output: JsonFlag = False) -> None:
    """Bring the database to the schema of this version. Stop the servers first."""
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
