"""`staff`: manage the accounts of the console. The first admin is created here, further accounts here or in the
console."""

from __future__ import annotations

import io
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.server import opened_database
from ledger.cli.tables import Table
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.server.settings import Settings
    from ledger.server.staff.accounts import Enrolment

staff = typer.Typer(no_args_is_help=True, help="Manage accounts of the staff console.")

Name = Annotated[str, typer.Argument(help="Login name: 2 to 64 of a-z, 0-9 and ._-, e.g. ann.")]


@staff.command("add")
@command
def add(
    name: Name,
    role: Annotated[str, typer.Option("--role", help="reviewer, supervisor, auditor or admin.")],
    control_group: Annotated[
        str | None,
        typer.Option(
            "--control-group", help="Control group of the members for which this person works. (default: none)"
        ),
    ] = None,
    language: Annotated[str, typer.Option("--language", help=f"{' or '.join(LOCALES)}.")] = DEFAULT_LOCALE,
) -> None:
    """Create an account. Prints its first password and the code for an authenticator app; both are shown only once."""
    from ledger.server.staff.accounts import add_staff

    with opened_database() as (settings, engine):
        enrolment = add_staff(
            engine,
            _sealing_key(settings, engine),
            name=name,
            role=role,
            control_group=control_group,
            language=language,
            service=settings.service,
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes,
        )
    _show_secrets(enrolment)


@staff.command("reset")
@command
def reset(name: Name) -> None:
    """Reset an account: a new first password and a new code for the authenticator app. Ends its sessions and any
    lock."""
    from ledger.server.staff.accounts import reset_staff

    with opened_database() as (settings, engine):
        enrolment = reset_staff(
            engine,
            _sealing_key(settings, engine),
            name,
            service=settings.service,
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes,
        )
    _show_secrets(enrolment)


@staff.command("list")
@command
def list_all() -> None:
    """List all accounts."""
    from ledger.server.staff.accounts import list_staff

    now = datetime.now(UTC)
    with opened_database() as (_, engine):
        rows: list[dict[str, Any]] = [
            {
                "name": account.name,
                "role": account.role,
                "control_group": account.control_group,
                "language": account.language,
                "disabled": account.disabled,
                "locked": account.locked_until is not None and account.locked_until > now,
                "must_change_password": account.must_change_password,
                "link_not_used": account.invited,
                "awaits_confirmation": account.awaits_confirmation,
                "enrolled_by": account.enrolled_by,
                "confirmed_by": account.confirmed_by,
                "rests_on_one_admin": account.alone,
            }
            for account in list_staff(engine)
        ]

    def show(console: Console) -> None:
        table = Table("name", "role", "control group", "language", "state", "enrolled by")
        for row in rows:
            table.add_row(
                row["name"], row["role"], row["control_group"] or "-", row["language"], _state(row), _vouched(row)
            )
        console.print(table)

    output.emit({"staff": rows}, show)


@staff.command("disable")
@command
def disable(name: Name) -> None:
    """Disable an account and end its sessions."""
    from ledger.server.staff.accounts import disable_staff

    with opened_database() as (_, engine):
        disable_staff(engine, name, datetime.now(UTC))
    output.emit({"name": name, "disabled": True}, lambda console: console.print(f"{name} is disabled."))


@staff.command("enable")
@command
def enable(name: Name) -> None:
    """Enable an account, or remove the lock after wrong attempts."""
    from ledger.server.staff.accounts import enable_staff

    with opened_database() as (_, engine):
        enable_staff(engine, name, datetime.now(UTC))
    output.emit({"name": name, "disabled": False}, lambda console: console.print(f"{name} is enabled."))


def _sealing_key(settings: Settings, engine: Engine) -> bytes:
    from ledger.server.db.engine import reading
    from ledger.server.log.logged_keys import load_server_keys

    with reading(engine) as connection:
        return load_server_keys(settings, connection).sealing_key


def _state(row: dict[str, Any]) -> str:
    if row["disabled"]:
        return "disabled"
    if row["locked"]:
        return "locked"
    if row["link_not_used"]:
        return "link not used"
    if row["awaits_confirmation"]:
        return "waits for a second admin"
    return "first password" if row["must_change_password"] else "active"


def _vouched(row: dict[str, Any]) -> str:
    if row["enrolled_by"] is None:
        return "command line"
    return f"{row['enrolled_by']} and {row['confirmed_by']}" if row["confirmed_by"] else f"{row['enrolled_by']} alone"


def _show_secrets(enrolment: Enrolment) -> None:
    member = enrolment.staff
    shown = {
        "name": member.name,
        "role": member.role,
        "control_group": member.control_group,
        "language": member.language,
        "password": enrolment.password,
        "totp_uri": enrolment.totp_uri,
    }

    def show(console: Console) -> None:
        console.print(
            output.fields({"name": member.name, "role": member.role, "one-time password": enrolment.password})
        )
        console.print(Text(_qr(enrolment.totp_uri)), soft_wrap=True)
        console.print(Text(enrolment.totp_uri), soft_wrap=True)
        console.print(
            "Shown once. Scan the code with an authenticator app. The password must be changed at the first login."
        )

    output.emit(shown, show)


def _qr(text: str) -> str:
    import segno

    out = io.StringIO()
    segno.make(text, error="l").terminal(out, border=2, compact=True)
    return out.getvalue()
