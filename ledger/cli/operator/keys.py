"""`keys`: create, publish and show the ledger's keys, and migrate its database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.server import opened_database, read_settings
from ledger.errors import InvalidRequest

if TYPE_CHECKING:
    from ledger.server.settings import Settings

keys = typer.Typer(no_args_is_help=True, help="Create, publish and show the ledger's keys; migrate its database.")

SINGLE_PARTY = (
    "One holder has the whole key (1 of 1): a person who can read this key folder can compute the tag of every phone "
    "number, and so name every listed person. This is for a trial. A ledger begun so stays so; one whose key several "
    "holders share begins with `refund-ledger keys init --threshold`."
)
"""Shown by every command that sets up or runs a ledger whose key one holder has."""

CardFiles = Annotated[
    list[Path] | None, typer.Option("--card", help="A holder's card; give the cards of all holders of the new sharing.")
]


@keys.command("init")
@command
def keys_init(
    threshold: Annotated[
        bool,
        typer.Option(
            "--threshold",
            help="Prepare a ledger whose key several holders share: write the other keys, and ledger.json for them.",
        ),
    ] = False,
    organisation: Annotated[
        str | None, typer.Option("--organisation", help="With --threshold: the organisation that operates the ledger.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="With --threshold: the ledger's address. (default: the public URL)")
    ] = None,
    card: CardFiles = None,
) -> None:
    """Create the keys, the checkpoint guard, the database schema and the log's first entries. Never overwrites
    anything."""
    if threshold and card:
        raise InvalidRequest("First --threshold; then, when the holders have made the key, --card.")
    if not threshold and (organisation is not None or url is not None):
        raise InvalidRequest("--organisation and --url need --threshold.")
    settings = read_settings()
    if threshold:
        _prepare(settings, organisation, url)
    else:
        _begin(settings, card or [])


def _prepare(settings: Settings, organisation: str | None, url: str | None) -> None:
    from ledger.server.keys.cards import prepare_for_holders
    from ledger.tlog.ledger_card import LEDGER_CARD_NAME

    address = url or settings.public_url
    if organisation is None or address is None:
        raise InvalidRequest("Give --organisation, and --url unless REFUND_LEDGER_PUBLIC_URL is set.")
    card, is_new = prepare_for_holders(settings, organisation, address)
    path = settings.keys_dir / LEDGER_CARD_NAME

    def show(console: Console) -> None:
        console.print(f"{'Created' if is_new else 'Found'} the keys in {settings.keys_dir}, without an OPRF key.")
        console.print(
            f"Send {path} to every holder. Each runs `refund-ledger holder init --ledger ledger.json`. When the "
            "holders have made the key, run `refund-ledger keys init --card ...` with the cards of all holders."
        )

    output.emit({"created_keys": is_new, "ledger_card": str(path), "log_key": card.log_key}, show)


def _begin(settings: Settings, cards: list[Path]) -> None:
    from ledger.server.keys.cards import read_cards
    from ledger.server.log.genesis import init_keys

    sharing = read_cards(cards) if cards else None
    created = init_keys(settings, datetime.now(UTC), sharing)
    value: dict[str, Any] = {
        "created_keys": created.created_keys,
        "log_size": created.log_size,
        "keys_dir": str(settings.keys_dir),
        "threshold": 1 if sharing is None else sharing.statement.keys.threshold,
        "holders": 1 if sharing is None else len(sharing.statement.holders),
    }

    def show(console: Console) -> None:
        console.print(
            f"{'Created' if created.created_keys else 'Found'} the keys in {settings.keys_dir}; "
            f"the log has {created.log_size} entries. Back up the key folder, {settings.guard_dir} and the "
            "database separately."
        )
        if sharing is None:
            console.print(SINGLE_PARTY)
        else:
            console.print(
                f"Any {value['threshold']} of {value['holders']} holders evaluate together; this server has no share "
                "of the key. Each holder gives its card to every platform itself."
            )

    output.emit(value, show)


@keys.command("publish")
@command
def keys_publish(
    card: CardFiles = None,
    endorsement: Annotated[
        list[Path] | None,
        typer.Option("--endorsement", help="After a resharing: the endorsement file of a holder that leaves."),
    ] = None,
) -> None:
    """Log a refresh or resharing of the key, from the cards of all its holders. With the cards of the logged sharing:
    store the holders' new addresses."""
    from ledger.server.keys.cards import read_cards
    from ledger.server.rotation.sharings import publish_sharing

    sharing = read_cards(card or [], endorsement or [])
    with opened_database() as (settings, engine):
        published = publish_sharing(settings, engine, sharing, datetime.now(UTC))
    row = published.row
    value = {
        "epoch": row.epoch,
        "generation": row.generation,
        "threshold": row.threshold,
        "holders": [{"id": holder.holder, "index": holder.index, "url": holder.url} for holder in row.holders],
        "entry_index": published.entry_index,
        "logged": published.is_new,
    }

    def show(console: Console) -> None:
        if published.is_new:
            console.print(
                f"Generation {row.generation} of epoch {row.epoch} is in entry {published.entry_index} of the log: any "
                f"{row.threshold} of {len(row.holders)} holders. Key and tags stay. Holders answer with the shares of "
                "the earlier generation for 24 hours."
            )
        else:
            console.print("This sharing is logged already; the addresses of its holders are those of the cards.")

    output.emit(value, show)


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
    facts: dict[str, Any] = {
        name: logged[name] for name in ("epoch", "generation", "threshold", "public_key") if name in logged
    }
    output.emit(
        logged,
        lambda console: console.print(output.fields({**facts, **holders, "log key": logged["log"]["key"]})),
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
