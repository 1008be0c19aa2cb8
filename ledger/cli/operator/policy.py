"""`policy`: publish the next policy, list the published policies, show their texts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.server import opened_database
from ledger.cli.tables import Table
from ledger.errors import ConfigurationError, InvalidRequest, NotFound, PolicyInvalid
from ledger.protocol.encoding import b64url, format_time, parse_time
from ledger.rules.policy.timeline import MAX_POLICY_BYTES

if TYPE_CHECKING:
    from ledger.rules.policy.timeline import PolicyTimeline, PublishedPolicy

policy = typer.Typer(
    no_args_is_help=True, help="Publish and show policies, the rules that turn recorded events into a standing."
)


@policy.command("publish")
@command
def publish(
    file: Annotated[Path, typer.Argument(help="TOML file of the policy, with the next version number.")],
    in_effect_at: Annotated[
        str | None,
        typer.Option(
            "--in-effect-at", help="A UTC midnight such as 2026-12-24T00:00:00Z. (default: the earliest one allowed)"
        ),
    ] = None,
) -> None:
    """Publish the next policy in the log. It takes effect 7 days later at the earliest and cannot be withdrawn."""
    from ledger.server.log.policy_publication import publish_policy

    text, moment = _text(file), None if in_effect_at is None else parse_time(in_effect_at)
    with opened_database() as (_, engine):
        published = publish_policy(engine, text, datetime.now(UTC), moment)
    value = _facts(published, "announced")
    output.emit(
        value,
        lambda console: console.print(
            f"Policy {published.version} is published in entry {published.entry_index} and in effect from "
            f"{format_time(published.in_effect_at)} on."
        ),
    )


@policy.command("list")
@command
def list_all() -> None:
    """List all published policies, oldest first."""
    timeline, now = _timeline(), datetime.now(UTC)
    rows = [_facts(published, _state(timeline, published, now)) for published in timeline.published]

    def show(console: Console) -> None:
        table = Table("version", "state", "published", "in effect from", "entry", "SHA-256")
        for row in rows:
            table.add_row(
                str(row["version"]),
                row["state"],
                row["published_at"],
                row["in_effect_at"],
                str(row["entry_index"]),
                row["toml_sha256"],
            )
        console.print(table)

    output.emit({"policies": rows}, show)


@policy.command("show")
@command
def show_text(
    version: Annotated[int | None, typer.Argument(help="Version of the policy. (default: the one in effect)")] = None,
    in_effect: Annotated[bool, typer.Option("--in-effect", help="Show the policy that is in effect now.")] = False,
) -> None:
    """Show the text of a policy as it was published."""
    if version is not None and in_effect:
        raise InvalidRequest("Give either a version or --in-effect.")
    timeline, now = _timeline(), datetime.now(UTC)
    published = timeline.entry_at(now) if version is None else timeline.find(version)
    if published is None:
        raise NotFound("There is no policy of this version.")
    if published.text is None:
        raise NotFound("The text of this policy is not in the database.")
    text = published.text
    output.emit(
        {**_facts(published, _state(timeline, published, now)), "toml": text},
        lambda console: console.print(text, end="", markup=False, highlight=False, soft_wrap=True),
    )


def _timeline() -> PolicyTimeline:
    from ledger.server.log.policy_publication import list_policies

    with opened_database() as (_, engine):
        return list_policies(engine)


def _state(timeline: PolicyTimeline, published: PublishedPolicy, now: datetime) -> str:
    current = timeline.entry_at(now)
    if published is current:
        return "in_effect"
    return "announced" if published.entry_index > current.entry_index else "past"


def _facts(published: PublishedPolicy, state: str) -> dict[str, Any]:
    return {
        "version": published.version,
        "state": state,
        "published_at": format_time(published.published_at),
        "in_effect_at": format_time(published.in_effect_at),
        "entry_index": published.entry_index,
        "toml_sha256": b64url(published.sha256),
    }


def _text(file: Path) -> str:
    """Return the text of `file`. Raises ConfigurationError if it cannot be read, PolicyInvalid if it is too large or
    not UTF-8."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"The policy file {file.name} cannot be read.") from error
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyInvalid(f"The text of a policy has at most {MAX_POLICY_BYTES} bytes.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyInvalid("The policy is not UTF-8.") from error
