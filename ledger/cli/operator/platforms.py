"""`platform`: enrol members, and manage their keys, status and quotas. Every change except of quotas is an entry of the
public log."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.keys import SINGLE_PARTY
from ledger.cli.operator.server import opened_database
from ledger.cli.tables import Table
from ledger.client.identity.keyfiles import (
    load_or_create_order_key,
    load_or_create_public_key,
    load_signing_key,
    order_key_path,
    replace_file,
)
from ledger.errors import AlreadyExists, ConfigurationError, EvaluatedByHolders
from ledger.protocol.encoding import b64url
from ledger.rules.jurisdictions import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from ledger.server.settings import Settings

platform = typer.Typer(no_args_is_help=True, help="Enrol member platforms; manage their keys, status and quotas.")

EFFECTIVE_SECONDS = 5
"""All running servers accept a new platform or key after this time; `auth_refresh_seconds` is at most this."""

Name = Annotated[str, typer.Argument(help="The platform's name: 2 to 32 of a-z, 0-9 and -.")]
KidOption = Annotated[str, typer.Option("--kid", help="Key id.")]


@platform.command("add")
@command
def add(
    name: Name,
    control_group: Annotated[
        str, typer.Option("--control-group", help="The control group: one name for all platforms of one owner.")
    ],
    key: Annotated[
        Path,
        typer.Option("--key", help="Its Ed25519 public key (PEM). If the file does not exist, a key pair is created."),
    ],
    profile: Annotated[
        str, typer.Option("--profile", help=f"{', '.join(Profile)}: the law under which it reports.")
    ] = "CN",
    scopes: Annotated[str, typer.Option("--scopes", help="Comma-separated: lookup, report, appeal, log.")] = (
        "lookup,report,appeal,log"
    ),
    kid: Annotated[str | None, typer.Option("--kid", help="Key id. (default: NAME-1)")] = None,
    quota: Annotated[int | None, typer.Option("--quota", help="Blinded elements per UTC day.")] = None,
    suite: Annotated[
        Path | None,
        typer.Option("--suite", help="Suite file to write. (default: NAME.suite.json in the folder of the key)"),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of the ledger for the platform.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all running servers accept the key (5 s).")] = False,
) -> None:
    """Enrol a platform and write its suite file, which names the keys that the platform pins. Only the platform's
    public key is stored. All running servers accept the key within 5 seconds."""
    suite_path = suite or key.parent / f"{name}.suite.json"
    with opened_database() as (settings, engine):
        enrol(
            settings,
            engine,
            name=name,
            control_group=control_group,
            profile=profile,
            scopes=[scope.strip() for scope in scopes.split(",") if scope.strip()],
            kid=kid or f"{name}-1",
            quota=quota,
            key_path=key,
            suite_path=suite_path,
            url=url,
        )
        advice = _key_advice(engine)
    if wait:
        time.sleep(EFFECTIVE_SECONDS)
    effective = "It can be used now." if wait else f"It can be used in {EFFECTIVE_SECONDS} seconds."
    output.emit(
        {
            "platform": name,
            "kid": kid or f"{name}-1",
            "suite": str(suite_path),
            "key": str(key),
            "effective_in_seconds": 0 if wait else EFFECTIVE_SECONDS,
        },
        lambda console: console.print(
            f"Enrolled {name} in control group {control_group}. Send the platform {suite_path} (public)"
            f"{_and_secret(key)}. {effective} {advice}"
        ),
    )


def _key_advice(engine: Engine) -> str:
    """Return what a new platform has to know about the holders of the key."""
    from ledger.server.db.engine import reading
    from ledger.server.keys.epochs import current_of, read_epochs

    with reading(engine) as connection:
        current = current_of(read_epochs(connection))
    if not current.is_shared:
        return SINGLE_PARTY
    return (
        f"It also needs the cards of at least {current.threshold} holders outside the operator: each holder gives it "
        "its own card, and admits it (`refund-ledger holder admit`)."
    )


def _and_secret(key: Path) -> str:
    """Return the part of the message about a private key in `key`, which the operator must pass on and delete; else an
    empty text."""
    try:
        load_signing_key(key)
    except ConfigurationError:
        return ""
    return f" and {key} (secret: delete it here afterwards)"


def enrol(
    settings: Settings,
    engine: Engine,
    *,
    name: str,
    control_group: str,
    profile: str,
    scopes: list[str],
    kid: str,
    quota: int | None,
    key_path: Path,
    suite_path: Path,
    url: str | None,
) -> None:
    """Enrol a platform and write its suite file.

    Raises AlreadyExists if the platform, the key or the suite file exists already, ConfigurationError if a file cannot
    be used, InvalidRequest for a name, scope or profile that is not allowed.
    """
    from ledger.server.platforms.members import add_platform

    if suite_path.exists():
        raise AlreadyExists(f"{suite_path.name} exists already.")
    is_new = not os.path.lexists(key_path)
    public_key = load_or_create_public_key(key_path).public_bytes_raw()
    text = suite_text(settings, engine, name, control_group, profile, kid, [(kid, public_key)], url)
    add_platform(
        engine,
        name=name,
        control_group=control_group,
        profile=profile,
        scopes=scopes,
        kid=kid,
        public_key=public_key,
        now=datetime.now(UTC),
        quota=quota,
    )
    write_suite(suite_path, text)
    if is_new:
        load_or_create_order_key(order_key_path(key_path, name))


def suite_text(
    settings: Settings,
    engine: Engine,
    name: str,
    control_group: str,
    profile: str,
    kid: str,
    public_keys: Sequence[tuple[str, bytes]],
    url: str | None,
) -> str:
    """Return the text of a platform's suite file. `public_keys` (kid, 32 bytes) are all keys that it ever had.

    Raises ConfigurationError if the key files and the log disagree.
    """
    from ledger.server.db.engine import reading
    from ledger.server.log.logged_keys import load_server_keys
    from ledger.server.log.policies import read_timeline
    from ledger.server.platforms.suite import suite

    with reading(engine) as connection:
        keys, timeline = load_server_keys(settings, connection), read_timeline(connection)
    where = url or settings.public_url or f"http://{settings.host}:{settings.port}"
    described = suite(settings, keys, timeline, datetime.now(UTC))
    whole = {"url": where, "platform": name, "control_group": control_group, "profile": profile, "kid": kid}
    keys_of = [{"kid": key_id, "public_key": b64url(public_key)} for key_id, public_key in public_keys]
    return json.dumps({**whole, **described, "keys": keys_of}, indent=2) + "\n"


def write_suite(path: Path, text: str) -> None:
    """Write a suite file of mode 0644. Raises ConfigurationError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
        path.chmod(0o644)
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be written.") from error


@platform.command("suite")
@command
def suite_again(
    name: Name,
    file: Annotated[Path, typer.Option("--suite", help="Suite file to write.")],
    kid: KidOption,
    url: Annotated[str | None, typer.Option("--url", help="Address of the ledger for the platform.")] = None,
) -> None:
    """Write a platform's suite file again, with its current keys."""
    from ledger.errors import NotFound
    from ledger.server.platforms.members import list_platforms

    with opened_database() as (settings, engine):
        platforms = {member.platform: (member, keys) for member, keys in list_platforms(engine)}
        if name not in platforms:
            raise NotFound("There is no platform of this name.")
        member, keys = platforms[name]
        # An unsound key proves nothing about what it signed, and the SDK refuses a suite that names one.
        named = [(key.kid, key.public_key) for key in keys if key.sound]
        write_suite(file, suite_text(settings, engine, name, member.control_group, member.profile, kid, named, url))
    output.emit({"platform": name, "suite": str(file)}, lambda console: console.print(f"Wrote {file}."))


@platform.command("former-labels")
@command
def list_former_labels() -> None:
    """List, by platform, reports in force whose AI label identified the file under former rules and would not today."""
    from ledger.server.reports.former_labels import all_former_labels

    with opened_database() as (settings, engine):
        labels = all_former_labels(engine, settings.service)

    def show(console: Console) -> None:
        table = Table("platform", "reports")
        for name, reports in labels.items():
            table.add_row(name, ", ".join(reports))
        console.print(table if labels else "There is no such report.")

    output.emit({"former_labels": labels}, show)


@platform.command("list")
@command
def list_all() -> None:
    """List all platforms with their keys."""
    from ledger.server.platforms.members import list_platforms

    with opened_database() as (_, engine):
        rows: list[dict[str, Any]] = [
            {
                "platform": member.platform,
                "control_group": member.control_group,
                "profile": member.profile,
                "scopes": sorted(member.scopes),
                "status": member.status,
                "quota": member.oprf_daily_quota_elements,
                "keys": [{"kid": key.kid, "revoked": key.revoked, "sound": key.sound} for key in keys],
            }
            for member, keys in list_platforms(engine)
        ]

    def show(console: Console) -> None:
        table = Table("platform", "control group", "profile", "scopes", "status", "quota a day", "keys")
        for row in rows:
            keys = ", ".join(key["kid"] + _key_state(key) for key in row["keys"])
            quota = "default" if row["quota"] is None else str(row["quota"])
            table.add_row(
                row["platform"],
                row["control_group"],
                row["profile"],
                " ".join(row["scopes"]),
                row["status"],
                quota,
                keys,
            )
        console.print(table)

    output.emit({"platforms": rows}, show)


def _key_state(key: Mapping[str, Any]) -> str:
    if not key["sound"]:
        return " (unsound: refused)"
    return " (revoked)" if key["revoked"] else ""


@platform.command("add-key")
@command
def add_key(
    name: Name,
    key: Annotated[
        Path,
        typer.Option(
            "--key", help="Its new Ed25519 public key (PEM). If the file does not exist, a key pair is created."
        ),
    ],
    kid: KidOption,
) -> None:
    """Add a key to a platform, for example before its old key is revoked."""
    from ledger.server.platforms import members

    public_key = load_or_create_public_key(key).public_bytes_raw()
    with opened_database() as (_, engine):
        members.add_key(engine, platform=name, kid=kid, public_key=public_key, now=datetime.now(UTC))
    _done(name, f"Key {kid} of {name} is active.", kid=kid)


@platform.command("revoke-key")
@command
def revoke_key(kid: Annotated[str, typer.Argument(help="Key id.")]) -> None:
    """Revoke a key permanently. All servers refuse it within 5 seconds."""
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        members.revoke_key(engine, kid, datetime.now(UTC))
    output.emit({"kid": kid, "revoked": True}, lambda console: console.print(f"Key {kid} is revoked."))


@platform.command("suspend")
@command
def suspend(
    name: Name,
    urgent: Annotated[
        bool, typer.Option("--urgent", help="Remove the weight of its reports at once, not at the next UTC midnight.")
    ] = False,
) -> None:
    """Suspend a platform: its tokens are refused. If its whole control group is suspended, its reports have no weight
    from the next UTC midnight on."""
    _set_status(name, "suspended", urgent=urgent)


@platform.command("resume")
@command
def resume(name: Name) -> None:
    """End a suspension."""
    _set_status(name, "active")


def _set_status(name: str, status: str, *, urgent: bool = False) -> None:
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        members.set_status(engine, platform=name, status=status, now=datetime.now(UTC), urgent=urgent)
    _done(name, f"{name} is {status}.", status=status)


def _check_evaluates(engine: Engine) -> None:
    """Raises EvaluatedByHolders where this ledger has no share of the key, so its budgets count nothing."""
    from ledger.server.db.engine import reading
    from ledger.server.keys.epochs import current_of, read_epochs

    with reading(engine) as connection:
        current = current_of(read_epochs(connection))
    if current.is_shared:
        raise EvaluatedByHolders(
            "This ledger evaluates nothing, so it has no budgets: each key holder has its own (`refund-ledger holder "
            "admit` and `grant`).",
            holders=[holder.holder for holder in current.holders],
        )


@platform.command("quota")
@command
def quota(
    name: Name,
    elements: Annotated[
        int | None, typer.Argument(help="Blinded elements per UTC day. (default: remove the platform's own quota)")
    ] = None,
) -> None:
    """Set the number of blinded elements that a platform may have evaluated per UTC day."""
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        _check_evaluates(engine)
        members.set_quota(engine, platform=name, quota=elements)
    many = "the default number of elements" if elements is None else output.elements(elements)
    _done(name, f"{name} may have {many} a day.", quota=elements)


@platform.command("grant")
@command
def grant(
    name: Name,
    elements: Annotated[int, typer.Option("--elements", help="Blinded elements in addition to the daily quota.")],
    reason: Annotated[str, typer.Option("--reason", help="The reason, which is stored with the grant.")],
    days: Annotated[int, typer.Option("--days", help="How many days the grant is valid.")] = 30,
) -> None:
    """Grant a platform blinded elements in addition to its quota, for example for the first tagging of its users."""
    from ledger.server.oprf import budgets as oprf

    with opened_database() as (_, engine):
        _check_evaluates(engine)
        oprf.grant(engine, platform=name, elements=elements, reason=reason, days=days, now=datetime.now(UTC))
    sentence = f"{name} may have {output.elements(elements)} more within {days} days."
    _done(name, sentence, elements=elements, reason=reason, days=days)


@platform.command("budget")
@command
def budget(name: Name) -> None:
    """Show how much of its quota a platform has used today, and its grants."""
    from ledger.server.oprf import budgets as oprf

    with opened_database() as (settings, engine):
        budgets = oprf.budget(settings, engine, name, datetime.now(UTC))

    def show(console: Console) -> None:
        console.print(f"{name}: {budgets['used_today']:,} of {budgets['daily_quota']:,} elements used today (UTC).")
        if not budgets["grants"]:
            return
        table = Table("granted", "used", "until", "reason")
        for grant in budgets["grants"]:
            table.add_row(f"{grant['elements']:,}", f"{grant['used']:,}", grant["expires_at"], Text(grant["reason"]))
        console.print(table)

    output.emit(budgets, show)


def _done(name: str, sentence: str, **facts: object) -> None:
    output.emit({"platform": name, **facts}, lambda console: console.print(sentence))
