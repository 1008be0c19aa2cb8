"""`tag` and `lookup`: what a platform asks before a refund."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ledger.cli import options, output
from ledger.cli.options import (
    CnIdOption,
    DeviceOption,
    EmailOption,
    KeyOption,
    PaymentOption,
    PhoneOption,
    RegionOption,
    StateOption,
    SuiteOption,
)
from ledger.cli.output import ExitCode, JsonFlag, guarded
from ledger.client import Buyer, Lookup, Refund, RefundLedger
from ledger.client.subjects import Identifiers
from ledger.core.encoding import format_time
from ledger.core.identifiers import Kind
from ledger.errors import ConfigurationError, InvalidRequest

KINDS = tuple(kind.value for kind in Kind)
TIER_STYLES = {"clear": "green", "watch": "yellow", "review": "dark_orange", "high": "bold red", "unavailable": "dim"}


@guarded
def tag(
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="People, one a row, columns named after kinds; other columns are kept. - is stdin."),
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Blind identifiers and print the tags to look them up by. Prefer --csv -: options show in the process list."""
    given = options.identifiers(phone, email, cn_id, payment, device)
    if bool(given) == (csv_file is not None):
        raise InvalidRequest("Give either identifiers or --csv.")
    with options.open_ledger(suite, key, state_dir) as ledger:
        if csv_file is None:
            _show_tags(ledger.subject(region=region, **given))
        else:
            _tag_rows(ledger, _read_rows(csv_file), region)


def _show_tags(buyer: Buyer) -> None:
    tags = [{"kind": kind, "tag": text} for kind, text in buyer.tags()]

    def show(console: Console) -> None:
        table = Table("kind", "tag")
        for kind, text in buyer.tags():
            table.add_row(kind, text)
        console.print(table)

    output.emit({"epoch": buyer.epoch, "tags": tags}, show)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as UTF-8 text.") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not set(KINDS) & set(rows[0]):
        raise InvalidRequest(f"The CSV needs a header with at least one of: {', '.join(KINDS)}.")
    return rows


def _tag_rows(ledger: RefundLedger, rows: Sequence[dict[str, str]], region: str | None) -> None:
    """Rows without any identifier are kept, with empty tags; a malformed identifier stops everything, by row number."""
    people: list[Identifiers] = [{kind: row[kind] for kind in KINDS if row.get(kind)} for row in rows]
    filled = [person for person in people if person]
    buyers = iter(ledger.subjects_many(filled, region=region))
    kinds = [kind for kind in KINDS if kind in rows[0]]
    tagged: list[dict[str, str]] = []
    epoch = ledger.suite.current.epoch
    for row, person in zip(rows, people, strict=True):
        tags = dict(next(buyers).tags()) if person else {}
        kept = {name: value for name, value in row.items() if name not in KINDS and name is not None}
        tagged.append({**kept, **{f"{kind}_tag": tags.get(kind, "") for kind in kinds}})
    if output.json_asked():
        output.emit({"epoch": epoch, "rows": tagged}, lambda console: None)
        return
    writer = csv.DictWriter(sys.stdout, fieldnames=list(tagged[0]))
    writer.writeheader()
    writer.writerows(tagged)


@guarded
def lookup(
    suite: SuiteOption,
    key: KeyOption,
    order: Annotated[str, typer.Option("--order", help="Your order number; only its HMAC is sent.")],
    state_dir: StateOption = None,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="kind=tag from `refund-ledger tag`, instead of identifiers.")
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="refund_review or appeal.")] = "refund_review",
    claim: Annotated[
        str | None, typer.Option("--claim", help="damaged, not_received, not_as_described, returned or other.")
    ] = None,
    amount_minor: Annotated[int, typer.Option("--amount-minor", help="With --claim: in minor units.")] = 0,
    currency: Annotated[str, typer.Option("--currency", help="With --claim: ISO 4217.")] = "CNY",
    consent_ref: Annotated[str | None, typer.Option("--consent-ref")] = None,
    min_index: Annotated[int | None, typer.Option("--min-index", help="See at least this many log entries.")] = None,
    timeout_ms: Annotated[int, typer.Option("--timeout-ms", min=1, help="Time in total.")] = 300,
    json_output: JsonFlag = False,
) -> None:
    """Show a buyer's standing. Exit 4 when the ledger gave no answer in time; no tier changes the exit code."""
    given = options.identifiers(phone, email, cn_id, payment, device)
    if bool(given) == bool(tags):
        raise InvalidRequest("Give either identifiers or --tag.")
    refund = None if claim is None else Refund(amount_minor, currency, claim)
    with RefundLedger(suite, key, state_dir=state_dir, lookup_budget_seconds=timeout_ms / 1000) as ledger:
        buyer: Buyer | Identifiers = given
        if tags:
            pairs = [(kind, text) for kind, _, text in (one.partition("=") for one in tags)]
            buyer = Buyer.from_tags(ledger.suite.current.epoch, pairs)
        found = ledger.lookup(
            buyer,
            order=order,
            purpose=purpose,
            refund=refund,
            consent_ref=consent_ref,
            min_index=min_index,
            region=region,
        )
    output.emit(lookup_json(found), lambda console: console.print(lookup_table(found)))
    if not found.available:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def lookup_json(found: Lookup) -> dict[str, Any]:
    """A Lookup as JSON values."""
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in asdict(found).items()}


def lookup_table(found: Lookup) -> Table:
    """A Lookup for people."""
    if not found.available:
        because = found.unavailable_because
        return output.fields({"tier": "unavailable", "because": because, "advice": "follow your normal process"})
    facts: dict[str, object] = {
        "tier": found.tier,
        "credit": f"{found.credit} of 100",
        "points": found.points,
        "events": found.events,
        "independent reporters": found.reporters,
        "matched": ", ".join(found.matched_kinds) or "nothing",
        "advice": ", ".join(found.guidance) or "none",
    }
    for number, reason in enumerate(found.reasons, 1):
        facts[f"reason {number}"] = f"{reason.en} / {reason.zh_cn} ({reason.code})"
    flags = {"disputed": found.disputed, "protected": found.protected, "statement": found.has_statement}
    for name, flag in flags.items():
        if flag:
            facts[name] = "yes"
    if found.expires_at is not None:
        facts["good until"] = format_time(found.expires_at)
    return output.fields(facts)
