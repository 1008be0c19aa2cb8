"""`holder admit`, `suspend`, `grant`, `serve`, `status`: the service of a key holder, and who may use it.

Only the holder's own people run these commands, on the holder's own machine. The modules of `ledger.holder` are loaded
when a command runs, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.tables import Table
from ledger.client.identity.keyfiles import load_public_keys
from ledger.errors import ConfigurationError, InvalidRequest
from ledger.protocol.fingerprints import fingerprint

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.holder.settings import HolderSettings

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="The holder's folder. (or $REFUND_LEDGER_HOLDER_DIR; default: var/holder)"),
]
EFFECTIVE_SECONDS = 5
"""All running processes of the holder follow a change within this time."""


def add_service_commands(group: typer.Typer) -> None:
    """Add the commands of the service to the group `holder`."""
    for name, function in (
        ("admit", admit),
        ("suspend", suspend),
        ("grant", grant),
        ("serve", serve),
        ("status", status),
    ):
        group.command(name)(function)


@contextmanager
def _opened_database(folder: Path | None) -> Iterator[tuple[HolderSettings, Engine]]:
    """Yield the settings and the holder's database. Raises ConfigurationError, DatabaseUnavailable."""
    from ledger.holder.database import open_holder_database
    from ledger.holder.settings import load_holder_settings

    settings = load_holder_settings(dir=folder)
    engine = open_holder_database(settings, pool_size=1)
    try:
        yield settings, engine
    finally:
        engine.dispose()


@command
def admit(
    platform: Annotated[str, typer.Option("--platform", help="The platform's name at the ledger.")],
    control_group: Annotated[
        str, typer.Option("--control-group", help="One name for all platforms of one owner. They share the budgets.")
    ],
    key: Annotated[Path, typer.Option("--key", help="Its Ed25519 public key (PEM), which the platform itself gave.")],
    kid: Annotated[str, typer.Option("--kid", help="Key id.")],
    daily: Annotated[
        int | None, typer.Option("--daily", min=0, help="Daily budget of the control group, in elements.")
    ] = None,
    folder: FolderOption = None,
) -> None:
    """Admit a platform, or a further key of one. Repeat it for each key."""
    from ledger.holder.admission import admit_platform

    public_keys = load_public_keys(key)
    if len(public_keys) != 1:
        raise InvalidRequest(f"{key.name} must hold one public key.")
    digits = fingerprint(public_keys[0].public_bytes_raw())
    with _opened_database(folder) as (_, engine):
        result = admit_platform(
            engine,
            platform=platform,
            control_group=control_group,
            kid=kid,
            public_key=public_keys[0].public_bytes_raw(),
            now=datetime.now(UTC),
            daily_elements=daily,
        )
    change = "Admitted" if result.new_platform else "Added the key to" if result.new_key else "Nothing new for"
    output.emit(
        {
            "platform": platform,
            "control_group": control_group,
            "kid": kid,
            "new_platform": result.new_platform,
            "new_key": result.new_key,
            "fingerprint": digits,
            "effective_in_seconds": EFFECTIVE_SECONDS,
        },
        lambda console: console.print(
            f"{change} {platform} ({kid}) in the control group {control_group}. It can be used in {EFFECTIVE_SECONDS} "
            f"seconds.\n{output.digits_line('Fingerprint of the key', digits)}\nCompare it with the platform by "
            "telephone, and revoke the key if it differs.\n"
            "Send the platform this holder's card: refund-ledger holder card",
            soft_wrap=True,
        ),
    )


@command
def suspend(
    platform: Annotated[str, typer.Argument(help="The platform's name.")],
    lift: Annotated[bool, typer.Option("--lift", help="End this holder's own suspension.")] = False,
    kid: Annotated[str | None, typer.Option("--kid", help="Revoke this key only, for good.")] = None,
    folder: FolderOption = None,
) -> None:
    """Suspend a platform here, whatever the log says; within 5 seconds its tokens are refused."""
    from ledger.holder.admission import revoke_key, set_suspension

    if lift and kid is not None:
        raise InvalidRequest("A revoked key cannot be used again: admit a new one.")
    with _opened_database(folder) as (_, engine):
        if kid is not None:
            revoke_key(engine, platform=platform, kid=kid, now=datetime.now(UTC))
        else:
            set_suspension(engine, platform=platform, suspended=not lift, now=datetime.now(UTC))
    subject = platform if kid is None else f"The key {kid} of {platform}"
    state = "is no longer suspended by this holder" if lift else "is revoked" if kid is not None else "is suspended"
    output.emit(
        {"platform": platform, "kid": kid, "suspended": not lift and kid is None, "revoked": kid is not None},
        lambda console: console.print(f"{subject} {state}."),
    )


@command
def grant(
    control_group: Annotated[str, typer.Option("--control-group", help="The control group.")],
    elements: Annotated[
        int | None, typer.Option("--elements", min=1, help="Elements beyond the daily budget, once.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="How long the grant lasts.")] = 7,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; it is stored with the grant.")] = None,
    daily: Annotated[
        int | None, typer.Option("--daily", min=0, help="Set the daily budget of the control group instead.")
    ] = None,
    default_daily: Annotated[
        bool, typer.Option("--default-daily", help="Return to this holder's default daily budget instead.")
    ] = False,
    folder: FolderOption = None,
) -> None:
    """Let a control group have more elements evaluated: once (--elements, --reason), or each day (--daily)."""
    from ledger.holder.admission import set_daily_budget
    from ledger.holder.budgets import grant_elements

    if sum([elements is not None, daily is not None, default_daily]) != 1:
        raise InvalidRequest("Give one of --elements, --daily and --default-daily.")
    if elements is not None and reason is None:
        raise InvalidRequest("A grant needs --reason.")
    with _opened_database(folder) as (_, engine):
        if elements is not None and reason is not None:
            now = datetime.now(UTC)
            grant_elements(engine, control_group=control_group, elements=elements, reason=reason, days=days, now=now)
        else:
            set_daily_budget(engine, control_group=control_group, daily_elements=daily)
    if elements is not None:
        text = f"Granted {output.elements(elements)} to {control_group} for {days} days."
    else:
        text = f"The daily budget of {control_group} is {'the default' if daily is None else output.elements(daily)}."
    output.emit(
        {
            "control_group": control_group,
            "elements": elements,
            "days": None if elements is None else days,
            "daily": daily,
        },
        lambda console: console.print(text),
    )


@command
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 chooses a free one. (default: 8100)")] = None,
    folder: FolderOption = None,
) -> None:
    """Run this holder's service. Settings come from REFUND_LEDGER_HOLDER_* variables."""
    from ledger.cli.operator.holder_serve import run_holder
    from ledger.holder.settings import load_holder_settings

    run_holder(load_holder_settings(host=host, port=port, dir=folder))


@command
def status(folder: FolderOption = None) -> None:
    """Show the shares, the log, who is admitted, and how many identifiers each control group could try. Destroys shares
    that were replaced more than a day ago."""
    from ledger.holder.folder import read_folder
    from ledger.holder.serving import destroy_replaced
    from ledger.holder.shares import active_shares
    from ledger.holder.state import read_snapshot
    from ledger.holder.status import holder_status

    with _opened_database(folder) as (settings, engine):
        holder, now = read_folder(settings.dir).holder, datetime.now(UTC)
        with suppress(ConfigurationError):  # a command changes the folder; the next round destroys them
            destroy_replaced(settings.dir, read_snapshot(engine), now)
        value = holder_status(settings, engine, holder, active_shares(settings.dir), now)
    output.emit(value, lambda console: _show(console, value))


def _show(console: Console, value: dict[str, Any]) -> None:
    console.print(Text.assemble("Key holder ", (value["holder"], "bold")))
    shares = Table("epoch", "generation", "index", "threshold", "state", "fits the log")
    for share in value["shares"]:
        fits = {None: "not logged yet", True: "yes", False: "NO"}[share["fits_log"]]
        threshold = f"{share['threshold']} of {len(share['holders'])}"
        columns = [share["epoch"], share["generation"], share["index"], threshold, share["state"], fits]
        shares.add_row(*map(str, columns))
    console.print(shares if value["shares"] else "There is no share yet: finish the ceremony first.")
    console.print(_log_line(value["log"]))
    platforms = Table("platform", "control group", "state", "keys")
    for row in value["platforms"]:
        keys = ", ".join(
            key["kid"]
            + (" (revoked)" if key["revoked"] else f" (by {key['endorsed_by']})" if key["endorsed_by"] else "")
            for key in row["keys"]
        )
        state = "suspended by the log" if row["suspended_by_log"] else "suspended" if row["suspended"] else "active"
        platforms.add_row(row["platform"], row["control_group"], state, keys)
    console.print(platforms if value["platforms"] else "No platform is admitted.")
    budgets = Table("control group", "today", "by grants", "a day", "in 30 days, at most", "days for 10^9")
    for row in (*value["control_groups"], {"control_group": "all together", **value["all_groups"]}):
        figures = [row["today"], row["granted"], row["daily"], row["within_30_days"], row["days_for_1e9"]]
        budgets.add_row(row["control_group"], *["never" if figure is None else f"{figure:,}" for figure in figures])
    console.print(budgets)
    if value["at_all_holders"] is not None:
        console.print(_at_all_holders(value["at_all_holders"]))


def _key_in_words(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"{key['kid']} (revoked)"
    return key["kid"] if key["endorsed_by"] is None else f"{key['kid']} (endorsed by {key['endorsed_by']})"


def _at_all_holders(value: dict[str, Any]) -> str:
    holders, threshold, days = value["holders"], value["threshold"], value["days_for_1e9"]
    return (
        f"Each element needs {threshold} of {holders} holders. A party that spends equal budgets at all of them "
        f"reaches {holders}/{threshold} times as much: at most {value['within_30_days']:,} elements in 30 days, and "
        f"10^9 {'never' if days is None else f'in {days:,} days'}."
    )


def _log_line(log: dict[str, Any] | None) -> Text:
    if log is None:
        return Text("The log was not read yet.")
    line = Text(f"Log: {log['size']:,} entries, read {log['age_seconds']:,} s ago, epoch {log['current_epoch']}")
    if log["next_epoch"] is not None:
        line.append(f" (next: {log['next_epoch']})")
    line.append(".")
    if log["state"] != "ok":
        line.append(f" The log does not continue ({log['state']}): it is not followed.", style="bold red")
    if log["fork_note"] is not None:
        line.append(" The log has signed two histories.", style="bold red")
    for refused in log["refused_statements"]:
        line.append(f" The key statement of entry {refused['entry']} was refused ({refused['reason']}).", style="red")
    line.append(" Witnesses are not checked yet.")
    return line
