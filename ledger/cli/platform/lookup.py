"""`lookup` and `check`: the standing of a buyer before a refund is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import LedgerOptions, PersonOptions
from ledger.cli.tables import Facts
from ledger.client import Buyer, Check, Lookup, PictureReuse, Purpose, Refund, RefundClaim, RefundLedger, picture_hash
from ledger.client.subjects import Identifiers
from ledger.errors import InvalidRequest
from ledger.protocol.encoding import format_time

TIER_STYLES = {"clear": "green", "watch": "yellow", "review": "dark_orange", "high": "bold red", "unavailable": "dim"}


TagOption = Annotated[
    list[str] | None, typer.Option("--tag", help="kind=tag as `refund-ledger tag` prints it, instead of identifiers.")
]
EpochOption = Annotated[
    int | None, typer.Option("--epoch", help="Key epoch of the --tag values. (default: the current one)")
]
ClaimOption = Annotated[
    str | None, typer.Option("--claim", help="damaged, not_received, not_as_described, returned or other.")
]

ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--consent-ref", help="Your reference to the person's separate consent; required under the CN profile."
    ),
]


@command
def lookup(
    account: LedgerOptions,
    person: PersonOptions,
    order: Annotated[str, typer.Option("--order", help="Your order number; only its HMAC is sent.")],
    tags: TagOption = None,
    epoch: EpochOption = None,
    purpose: Annotated[str, typer.Option("--purpose", help="refund_review or appeal.")] = "refund_review",
    claim: ClaimOption = None,
    amount_minor: Annotated[int, typer.Option("--amount-minor", help="With --claim: the amount in minor units.")] = 0,
    currency: Annotated[str, typer.Option("--currency", help="With --claim: the currency, ISO 4217.")] = "CNY",
    consent_ref: ConsentOption = None,
    min_index: Annotated[
        int | None,
        typer.Option("--min-index", help="Use at least this many log entries; waits up to 500 ms."),
    ] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            "--picture", help="A picture of the claim, to search for earlier uses. Only its perceptual hash is sent."
        ),
    ] = None,
    timeout_ms: Annotated[int, typer.Option("--timeout-ms", min=1, help="Time limit for the whole lookup.")] = 300,
) -> None:
    """Look up a buyer's standing in the ledger. Exit 4 if the ledger did not answer in time; the exit code does not
    depend on the tier."""
    identifiers = _one_of(person.identifiers(), tags)
    refund = None if claim is None else Refund(amount_minor, currency, cast(RefundClaim, claim))
    hashes = [picture_hash(path) for path in pictures or ()]
    with account.open(lookup_budget_seconds=timeout_ms / 1000) as ledger:
        result = ledger.lookup(
            _buyer(ledger, identifiers, tags, epoch),
            order=order,
            purpose=cast(Purpose, purpose),
            refund=refund,
            consent_ref=consent_ref,
            min_index=min_index,
            region=person.region,
            pictures=hashes,
        )
    output.emit(lookup_json(result), lambda console: console.print(lookup_table(result, pictures or ())))
    if not result.available:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


@command
def check(
    account: LedgerOptions,
    person: PersonOptions,
    policy: Annotated[
        Literal["download", "private"],
        typer.Option(
            "--policy", help="download: fetch the whole snapshot. private: fetch one bucket for each identifier."
        ),
    ] = "download",
    tags: TagOption = None,
    epoch: EpochOption = None,
    claim: ClaimOption = None,
    consent_ref: ConsentOption = None,
) -> None:
    """Compute a buyer's standing from the newest snapshot. The ledger does not learn which person you check."""
    identifiers = _one_of(person.identifiers(), tags)
    refund = None if claim is None else Refund(0, "CNY", cast(RefundClaim, claim))
    with account.open() as ledger:
        buyer = _buyer(ledger, identifiers, tags, epoch)
        result = ledger.check(buyer, policy=policy, refund=refund, consent_ref=consent_ref, region=person.region)
    output.emit(lookup_json(result), lambda console: console.print(check_table(result)))


def _one_of(identifiers: Identifiers, tags: list[str] | None) -> Identifiers:
    if bool(identifiers) == bool(tags):
        raise InvalidRequest("Give either identifiers or --tag.")
    return identifiers


def _buyer(
    ledger: RefundLedger, identifiers: Identifiers, tags: list[str] | None, epoch: int | None
) -> Buyer | Identifiers:
    if not tags:
        return identifiers
    pairs = [(kind, text) for kind, _, text in (tag.partition("=") for tag in tags)]
    return Buyer.from_tags(ledger.current_epoch() if epoch is None else epoch, pairs)


TOO_FEW_HOLDERS = "holders: too few key holders gave a share; `refund-ledger tag` names them and their reasons"


def lookup_json(result: Lookup | Check) -> dict[str, Any]:
    """Return a Lookup or Check as JSON values."""
    return {
        name: format_time(value) if isinstance(value, datetime) else value for name, value in asdict(result).items()
    }


def lookup_table(result: Lookup, pictures: Sequence[Path] = ()) -> Facts:
    """Return a Lookup as names and values. `pictures` are the files that were searched for with it."""
    if not result.available:
        because = result.unavailable_because
        facts: dict[str, object] = {
            "tier": "unavailable",
            "because": TOO_FEW_HOLDERS if because == "holders" else because,
            "advice": "follow your normal process",
        }
    else:
        facts = _facts(result)
    if result.source == "local_filter" and result.as_of is not None:
        facts["source"] = f"not in the local filter of {format_time(result.as_of)}; the ledger did not answer"
    for number, path in enumerate(pictures):
        facts[path.name] = _reuse_words(None if result.pictures is None else result.pictures[number])
    return output.fields(facts)


def _reuse_words(reuse: PictureReuse | None) -> str:
    if reuse is None:
        return "not known: the ledger did not answer about pictures"
    if reuse.common:
        return "a common picture: a match is not evidence"
    more = "or more " if reuse.more else ""
    words = f"used in {reuse.reports} {more}confirmed reports by {reuse.platforms} other members"
    return f"{words}, and in {reuse.own_reports} of your own" if reuse.own_reports else words


def check_table(result: Check) -> Facts:
    """Return a Check as names and values."""
    facts = _facts(result)
    facts["as of"] = format_time(result.as_of)
    if result.bounded:
        facts["note"] = "several identifiers are listed: a lookup may be stricter than this, never milder"
    facts["use"] = "may start a human step; before an adverse decision, look the buyer up"
    return output.fields(facts)


def _facts(result: Lookup | Check) -> dict[str, object]:
    facts: dict[str, object] = {
        "tier": result.tier,
        "credit": f"{result.credit} of 100",
        "points": result.points,
        "events": result.events,
        "independent reporters": result.reporters,
        "matched": ", ".join(result.matched_kinds) or "nothing",
        "advice": ", ".join(result.guidance) or "none",
    }
    for number, reason in enumerate(result.reasons, 1):
        facts[f"reason {number}"] = f"{' / '.join(reason.texts())} ({reason.code})"
    flags = {"disputed": result.disputed, "protected": result.protected, "statement": result.has_statement}
    for name, flag in flags.items():
        if flag:
            facts[name] = "yes"
    if result.expires_at is not None:
        facts["good until"] = format_time(result.expires_at)
    return facts
