"""`platform`: enrol members, look after their keys, status and quotas. Every change but a quota is logged publicly."""

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
from ledger.cli.operator.server import opened_database
from ledger.cli.output import JsonFlag, guarded
from ledger.cli.tables import Table
from ledger.client.identity.keyfiles import (
    load_or_create_order_key,
    load_or_create_public_key,
    load_signing_key,
    order_key_path,
    replace_file,
)
from ledger.errors import AlreadyExists, ConfigurationError
from ledger.protocol.encoding import b64url
from ledger.rules.jurisdictions import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine

    from ledger.server.settings import Settings

platform = typer.Typer(no_args_is_help=True, help="Enrol member platforms and look after them.")

EFFECTIVE_SECONDS = 5
"""After so long all running servers know a new platform or key: `auth_refresh_seconds` is at most this."""

Name = Annotated[str, typer.Argument(help="The platform's name: 2 to 32 of a-z, 0-9 and -.")]
KidOption = Annotated[str, typer.Option("--kid", help="Key id.")]


@platform.command("add")
@guarded
def add(
    name: Name,
    control_group: Annotated[str, typer.Option("--control-group", help="Who controls it: platforms of one owner.")],
    key: Annotated[Path, typer.Option("--key", help="Its Ed25519 public key (PEM); a pair is made if there is none.")],
    profile: Annotated[str, typer.Option("--profile", help=f"{', '.join(Profile)}: the law it reports under.")] = "CN",
    scopes: Annotated[str, typer.Option("--scopes", help="Comma-separated: lookup, report, appeal, log.")] = (
        "lookup,report,appeal,log"
    ),
    kid: Annotated[str | None, typer.Option("--kid", help="Key id. (default: NAME-1)")] = None,
    quota: Annotated[int | None, typer.Option("--quota", help="Blinded elements a day.")] = None,
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Suite file. (default: NAME.suite.json by the key)")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where the platform reaches the ledger.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all running servers know the key (5 s).")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Enrol a platform and write the suite file it pins. Only its public key is stored. All running servers take the
    key within 5 seconds."""
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
            f"Enrolled {name} in control group {control_group}. Hand over {suite_path} (public){_and_secret(key)}. "
            f"{effective}"
        ),
    )


def _and_secret(key: Path) -> str:
    """A private key that lies here must be handed over too, and then deleted."""
    try:
        load_signing_key(key)
    except ConfigurationError:
        return ""
    return f" and {key} (secret: delete it here then)"


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
    """Enrol and write the suite file. Raises AlreadyExists, also for a suite file that is there already."""
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
    """The suite file of a platform; `public_keys` (kid, 32 bytes) are all it ever had.

    Raises ConfigurationError when keys and log disagree.
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
    keys_of = [{"kid": one, "public_key": b64url(public_key)} for one, public_key in public_keys]
    return json.dumps({**whole, **described, "keys": keys_of}, indent=2) + "\n"


def write_suite(path: Path, text: str) -> None:
    """Write a suite file. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
        path.chmod(0o644)
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be written.") from error


@platform.command("suite")
@guarded
def suite_again(
    name: Name,
    file: Annotated[Path, typer.Option("--suite", help="Where to write it.")],
    kid: KidOption,
    url: Annotated[str | None, typer.Option("--url", help="Where the platform reaches the ledger.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Write a platform's suite file again."""
    from ledger.errors import NotFound
    from ledger.server.platforms.members import list_platforms

    with opened_database() as (settings, engine):
        found = [one for one in list_platforms(engine) if one[0].platform == name]
        if not found:
            raise NotFound("There is no platform of this name.")
        member, keys = found[0]
        # A key that is not sound proves nothing of what stands under it, and the SDK refuses a suite that names one.
        named = [(key.kid, key.public_key) for key in keys if key.sound]
        write_suite(file, suite_text(settings, engine, name, member.control_group, member.profile, kid, named, url))
    output.emit({"platform": name, "suite": str(file)}, lambda console: console.print(f"Wrote {file}."))


@platform.command("former-labels")
@guarded
def list_former_labels(json_output: JsonFlag = False) -> None:
    """Reports that stand with a label which identified its file by former rules, and would not today, by platform."""
    from ledger.server.reports.former_labels import all_former_labels

    with opened_database() as (settings, engine):
        found = all_former_labels(engine, settings.service)

    def show(console: Console) -> None:
        table = Table("platform", "reports")
        for name, reports in found.items():
            table.add_row(name, ", ".join(reports))
        console.print(table if found else "No report stands with such a label.")

    output.emit({"former_labels": found}, show)


@platform.command("list")
@guarded
def list_all(json_output: JsonFlag = False) -> None:
    """All platforms with their keys."""
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
@guarded
def add_key(
    name: Name,
    key: Annotated[
        Path, typer.Option("--key", help="Its new Ed25519 public key (PEM); a pair is made if there is none.")
    ],
    kid: KidOption,
    json_output: JsonFlag = False,
) -> None:
    """Give a platform one more key, before the old one is revoked."""
    from ledger.server.platforms import members

    public_key = load_or_create_public_key(key).public_bytes_raw()
    with opened_database() as (_, engine):
        members.add_key(engine, platform=name, kid=kid, public_key=public_key, now=datetime.now(UTC))
    _done(name, f"Key {kid} of {name} is active.", kid=kid)


@platform.command("revoke-key")
@guarded
def revoke_key(kid: Annotated[str, typer.Argument(help="Key id.")], json_output: JsonFlag = False) -> None:
    """Revoke a key for good; effective everywhere within 5 seconds."""
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        members.revoke_key(engine, kid, datetime.now(UTC))
    output.emit({"kid": kid, "revoked": True}, lambda console: console.print(f"Key {kid} is revoked."))


@platform.command("suspend")
@guarded
def suspend(
    name: Name,
    urgent: Annotated[bool, typer.Option("--urgent", help="Take its weight away at once, not at midnight.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Refuse a platform's tokens; its reports weigh nothing from the next UTC midnight on, once its whole control group
    is suspended."""
    _set_status(name, "suspended", urgent=urgent)


@platform.command("resume")
@guarded
def resume(name: Name, json_output: JsonFlag = False) -> None:
    """End a suspension."""
    _set_status(name, "active")


def _set_status(name: str, status: str, *, urgent: bool = False) -> None:
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        members.set_status(engine, platform=name, status=status, now=datetime.now(UTC), urgent=urgent)
    _done(name, f"{name} is {status}.", status=status)


@platform.command("quota")
@guarded
def quota(
    name: Name,
    elements: Annotated[int | None, typer.Argument(help="Blinded elements a day; leave out for the default.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Set how many blinded elements a platform may have evaluated in a UTC day."""
    from ledger.server.platforms import members

    with opened_database() as (_, engine):
        members.set_quota(engine, platform=name, quota=elements)
    many = "the default number of" if elements is None else str(elements)
    _done(name, f"{name} may have {many} elements a day.", quota=elements)


@platform.command("grant")
@guarded
def grant(
    name: Name,
    elements: Annotated[int, typer.Option("--elements", help="Blinded elements beyond the daily quota.")],
    reason: Annotated[str, typer.Option("--reason", help="Why: kept with the grant.")],
    days: Annotated[int, typer.Option("--days", help="How long it lasts.")] = 30,
    json_output: JsonFlag = False,
) -> None:
    """Grant a platform blinded elements beyond its quota: for the first tagging of its users."""
    from ledger.server.oprf import evaluation as oprf

    with opened_database() as (_, engine):
        oprf.grant(engine, platform=name, elements=elements, reason=reason, days=days, now=datetime.now(UTC))
    sentence = f"{name} may have {elements:,} more elements within {days} days."
    _done(name, sentence, elements=elements, reason=reason, days=days)


@platform.command("budget")
@guarded
def budget(name: Name, json_output: JsonFlag = False) -> None:
    """Show what a platform has used of its quota today, and its grants."""
    from ledger.server.oprf import evaluation as oprf

    with opened_database() as (settings, engine):
        found = oprf.budget(settings, engine, name, datetime.now(UTC))

    def show(console: Console) -> None:
        console.print(f"{name}: {found['used_today']:,} of {found['daily_quota']:,} elements used today (UTC).")
        if not found["grants"]:
            return
        table = Table("granted", "used", "until", "reason")
        for one in found["grants"]:
            table.add_row(f"{one['elements']:,}", f"{one['used']:,}", one["expires_at"], Text(one["reason"]))
        console.print(table)

    output.emit(found, show)


def _done(name: str, sentence: str, **facts: object) -> None:
    output.emit({"platform": name, **facts}, lambda console: console.print(sentence))
