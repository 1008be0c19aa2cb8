"""`replay`: send a foreign table as reports and lookups through the real HTTP API; print counts and a histogram of
tiers."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import DelimiterOption, EncodingOption, TableOptions
from ledger.cli.platform.lookup import TIER_STYLES
from ledger.client import Buyer, Evidence, Lookup, Query, Refund, RefundLedger, claim_upload, evidence
from ledger.client.models.lookups import TIERS
from ledger.client.tables.reader import TableFormat
from ledger.errors import ConfigurationError, LedgerError
from ledger.rules.conduct import MINIMUMS, Conduct, EvidenceType, Need
from ledger.server.demo.replay_mapping import (
    CURRENCY,
    Mapped,
    ReportMapping,
    Row,
    amount_of,
    fill,
    identity_of,
    moment,
    read_mapping,
    read_rows,
    spread,
)

BATCH = 500
SERVICE = "replay.refund-ledger.local"
BAR_CHARS = 40
CONSENT = "separate-consent-replay"
"""Reference to the consent in all reports and lookups: the people of a replay are fictitious."""

_NOTICE_DAYS = 1
_MIN_NOTICE_AGE = timedelta(days=4)
"""Smallest age of a notice, so that every report counts at once."""


@dataclass(frozen=True, slots=True)
class _Report:
    platform: int
    identity: str
    order: str
    conduct: Conduct
    act_ended_at: datetime


@dataclass(frozen=True, slots=True)
class _Lookup:
    platform: int
    identity: str
    order: str


@dataclass
class Tally:
    """Counts of a replay. Durations are wall-clock seconds, including building requests and verifying answers."""

    rows: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    """Counts by outcome: accepted, or the code of the refusal."""
    lookups: Counter[str] = field(default_factory=Counter)
    """Counts by outcome: answered, the code of a refusal, or nobody_named (the row names no person)."""
    tiers: Counter[str] = field(default_factory=Counter)
    people_tagged: int = 0
    tag_seconds: float = 0.0
    report_seconds: float = 0.0
    lookup_seconds: float = 0.0


@command
def replay(
    data: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    mapping: Annotated[
        Path, typer.Option("--mapping", help="TOML file that maps the columns; examples are in docs/replay/.")
    ],
    self_contained: Annotated[
        Path | None,
        typer.Option(
            "--self-contained", help="Use a ledger of its own in this folder; it is created if it does not exist."
        ),
    ] = None,
    platforms: Annotated[
        Path | None, typer.Option("--platforms", help="Folder of NAME.suite.json and NAME.pem of a running ledger.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Read only this many rows.")] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=1000, help="Number of reports or lookups in one request.")
    ] = BATCH,
    encoding: EncodingOption = "utf-8",
    delimiter: DelimiterOption = None,
) -> None:
    """Replay a table through the API. Refusals are counted and do not stop the replay. Exit 4 if something was not
    delivered."""
    if (self_contained is None) == (platforms is None):
        raise ConfigurationError("Give either --self-contained or --platforms.")
    form = TableOptions(encoding=encoding, delimiter=delimiter).format()
    mapped, rows = read_mapping(mapping), _rows(data, limit, form)
    tally = Tally()
    with ExitStack() as stack:
        if self_contained is not None:
            from ledger.server.demo.local_ledger import local_ledger

            names = {f"replay-{number}": f"replay-group-{number}" for number in range(1, mapped.platforms_count + 1)}
            opened = list(stack.enter_context(local_ledger(self_contained, names, service=SERVICE)).values())
        else:
            assert platforms is not None
            opened = [stack.enter_context(ledger) for ledger in _open_all(platforms, mapped.platforms_count)]
        _run(opened, mapped, rows, batch, tally)
    _show(mapped, tally)
    if tally.reports["pending"] or tally.lookups["unavailable"]:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def _rows(data: Path, limit: int | None, form: TableFormat) -> list[Row]:
    try:
        return list(read_rows(data, limit, form))
    except ModuleNotFoundError:
        output.fail(
            ExitCode.EXTRA_MISSING,
            "Parquet files need the replay extra: pip install 'refund-credit-ledger-server[replay]'.",
            code="extra_missing",
            extra="replay",
        )


def _open_all(folder: Path, count: int) -> Iterator[RefundLedger]:
    suites = sorted(folder.glob("*.suite.json"))[:count]
    if len(suites) < count:
        raise ConfigurationError(f"The mapping needs {count} platforms; the folder has {len(suites)} suite files.")
    for suite in suites:
        name = suite.name.removesuffix(".suite.json")
        yield RefundLedger(suite, folder / f"{name}.pem", state_dir=folder / "state" / name)


def _run(ledgers: Sequence[RefundLedger], mapped: Mapped, rows: list[Row], batch: int, tally: Tally) -> None:
    tally.rows = len(rows)
    reports = _plan_reports(mapped, rows)
    lookups = _plan_lookups(mapped, rows, reports, tally)
    with _progress() as advance:
        buyers = _tag(ledgers, mapped, [*reports, *lookups], tally, advance)
        _send_reports(
            ledgers, mapped, [plan for plan in reports if plan.identity in buyers], buyers, batch, tally, advance
        )
        _look_up(ledgers, [plan for plan in lookups if plan.identity in buyers], buyers, batch, tally, advance)


# --- planning -----------------------------------------------------------------------------------------------------


def _plan_reports(mapped: Mapped, rows: Sequence[Row]) -> list[_Report]:
    rules = mapped.reports
    if rules is None:
        return []
    chosen: list[tuple[Row, Conduct, datetime]] = []
    for row in rows:
        if identity_of(mapped, row) is None:
            continue
        rule = next((rule for rule in rules.rules if _holds(rule.when.holds, row)), None)
        if rule is not None:
            chosen.append((row, rule.conduct, moment(row[rules.time_column], rules.time_format)))
    moved = _moved([when for _, _, when in chosen], rules, datetime.now(UTC))
    planned = [
        _Report(
            spread(fill(rules.reporter, row), mapped.platforms_count),
            fill(mapped.identity, row),
            fill(rules.order, row),
            conduct,
            moved[when],
        )
        for row, conduct, when in chosen
    ]
    return sorted(planned, key=lambda report: report.act_ended_at)


def _moved(times: Sequence[datetime], mapping: ReportMapping, now: datetime) -> dict[datetime, datetime]:
    """Return the new time of each of `times`. The newest becomes `newest_days_ago`; intervals stay the same, or shrink
    in proportion so that the oldest becomes `oldest_days_ago`."""
    if not times:
        return {}
    newest, span = max(times), max(times) - min(times)
    scale = 1.0
    if mapping.oldest_days_ago is not None and span:
        scale = min(1.0, timedelta(days=mapping.oldest_days_ago - mapping.newest_days_ago) / span)
    return {when: now - timedelta(days=mapping.newest_days_ago) - (newest - when) * scale for when in set(times)}


def _plan_lookups(mapped: Mapped, rows: Sequence[Row], reports: Sequence[_Report], tally: Tally) -> list[_Lookup]:
    """Return the lookups of the mapping. Without [lookups], each reported person is looked up once, by the next
    platform."""
    rules = mapped.lookups
    if rules is None:
        first = {report.identity: report for report in reversed(reports)}
        return [
            _Lookup((report.platform + 1) % mapped.platforms_count, identity, f"lookup-{identity}")
            for identity, report in sorted(first.items())
        ]
    planned: dict[str, _Lookup] = {}
    unnamed: set[str] = set()
    for row in rows:
        if _holds(rules.when.holds, row):
            identity, order = identity_of(mapped, row), fill(rules.order, row)
            if identity is None:
                tally.lookups["nobody_named"] += order not in unnamed
                unnamed.add(order)
                continue
            planned.setdefault(order, _Lookup(spread(identity, mapped.platforms_count), identity, order))
    return list(planned.values())


def _holds(condition: Callable[[Row], bool], row: Row) -> bool:
    try:
        return condition(row)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "The mapping names a column that the data lacks, or compares text as numbers."
        ) from error


# --- sending ------------------------------------------------------------------------------------------------------


def _tag(
    ledgers: Sequence[RefundLedger],
    mapped: Mapped,
    plans: Sequence[_Report | _Lookup],
    tally: Tally,
    advance: Callable[[str, int, int], None],
) -> dict[str, Buyer]:
    """Return the Buyer of each identity. The tags are the same at every platform, so one platform blinds each
    person."""
    identities = list(dict.fromkeys([plan.identity for plan in plans]))
    by_platform: list[list[str]] = [[] for _ in ledgers]
    for identity in identities:
        by_platform[spread(identity, len(ledgers))].append(identity)
    buyers: dict[str, Buyer] = {}
    started = time.monotonic()
    for ledger, own_identities in zip(ledgers, by_platform, strict=True):
        for start in range(0, len(own_identities), 1000):
            chunk = own_identities[start : start + 1000]
            people = [{mapped.kind.value: identity} for identity in chunk]
            for identity, buyer in zip(chunk, ledger.tag_many(people), strict=True):
                if isinstance(buyer, LedgerError):
                    raise ConfigurationError(f"The mapping's identity makes no valid identifier: {buyer}") from buyer
                buyers[identity] = buyer
            advance("tagging people", len(buyers), len(identities))
    tally.tag_seconds = time.monotonic() - started
    tally.people_tagged = len(buyers)
    return buyers


def _send_reports(
    ledgers: Sequence[RefundLedger],
    mapped: Mapped,
    plans: Sequence[_Report],
    buyers: Mapping[str, Buyer],
    batch: int,
    tally: Tally,
    advance: Callable[[str, int, int], None],
) -> None:
    assert mapped.reports is not None or not plans
    started, done = time.monotonic(), 0
    for number, ledger in enumerate(ledgers):
        own_plans = [plan for plan in plans if plan.platform == number]
        for start in range(0, len(own_plans), batch):
            chunk = own_plans[start : start + batch]
            sent = [(buyers[plan.identity], _arguments(plan, mapped)) for plan in chunk]
            for result in ledger.reports.create_many(sent):
                tally.reports[
                    result.state if result.state != "refused" or result.error is None else result.error.code
                ] += 1
                if result.state == "refused" and result.idempotency_key:
                    ledger.outbox.discard(result.idempotency_key)
            done += len(chunk)
            advance("reporting", done, len(plans))
    tally.report_seconds = time.monotonic() - started


def _arguments(plan: _Report, mapped: Mapped) -> dict[str, Any]:
    assert mapped.reports is not None
    latest = datetime.now(UTC) - _MIN_NOTICE_AGE
    return {
        "conduct": plan.conduct.value,
        "evidence": made_up_evidence(plan.conduct, plan.order, plan.act_ended_at),
        "order": f"{mapped.name}:{plan.order}",
        "amount_minor": amount_of(mapped.reports, plan.order),
        "currency": CURRENCY,
        "outcome": "refund_suffered",
        "act_ended_at": plan.act_ended_at,
        "notice_sent_at": max(plan.act_ended_at, min(plan.act_ended_at + timedelta(days=_NOTICE_DAYS), latest)),
        "notice_ref": f"replay:{mapped.name}",
        "decided_by": "replay",
        "consent_ref": CONSENT,
    }


def made_up_evidence(conduct: Conduct, seed: str, received_at: datetime) -> list[Evidence]:
    """Return evidence that meets the first minimum of `conduct`. A replay has no files: digests are derived from
    `seed`. Files of the claim were received at `received_at`."""
    items: list[Evidence] = []
    for need in MINIMUMS[conduct][0]:
        for kind in _types(need):
            digest = hashlib.sha256(f"{seed}:{len(items)}".encode()).digest()
            origin = claim_upload(received_at) if kind is EvidenceType.ORIGINAL_FILE else None
            items.append(evidence(kind.value, sha256=digest, origin=origin))
    return items


def _types(need: Need) -> list[EvidenceType]:
    """Return as many types as the need counts, different ones if possible, and none that needs an answer of an
    issuer."""
    plain = [kind for kind in need.of if kind not in (EvidenceType.AI_LABEL, EvidenceType.ISSUER_CONFIRMATION)]
    return [plain[number % len(plain)] for number in range(need.count)]


def _look_up(
    ledgers: Sequence[RefundLedger],
    plans: Sequence[_Lookup],
    buyers: Mapping[str, Buyer],
    batch: int,
    tally: Tally,
    advance: Callable[[str, int, int], None],
) -> None:
    started, done = time.monotonic(), 0
    refund = Refund(1000, CURRENCY, "returned")
    for number, ledger in enumerate(ledgers):
        own_plans = [plan for plan in plans if plan.platform == number]
        for start in range(0, len(own_plans), batch):
            chunk = own_plans[start : start + batch]
            queries = [Query(buyers[plan.identity], plan.order, refund, consent_ref=CONSENT) for plan in chunk]
            for lookup in ledger.lookup_many(queries):
                if isinstance(lookup, Lookup):
                    tally.tiers[lookup.tier] += 1
                    tally.lookups["answered"] += 1
                else:
                    tally.lookups[lookup.code] += 1
            done += len(chunk)
            advance("looking up", done, len(plans))
    tally.lookup_seconds = time.monotonic() - started


# --- printing ------------------------------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage on standard error; nothing with `--json`."""
    if output.json_asked():
        yield lambda stage, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.messages()) as bars:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield advance


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0


def _show(mapped: Mapped, tally: Tally) -> None:
    reports, lookups = sum(tally.reports.values()), sum(tally.lookups.values()) - tally.lookups["nobody_named"]
    summary = {
        "name": mapped.name,
        "rows": tally.rows,
        "platforms": mapped.platforms_count,
        "people_tagged": tally.people_tagged,
        "reports": dict(tally.reports),
        "lookups": dict(tally.lookups),
        "tiers": {tier: tally.tiers[tier] for tier in TIERS},
        "tags_per_second": _rate(tally.people_tagged, tally.tag_seconds),
        "reports_per_second": _rate(reports, tally.report_seconds),
        "lookups_per_second": _rate(lookups, tally.lookup_seconds),
    }

    def show(console: Console) -> None:
        console.print(output.fields({"data": f"{mapped.name}, {tally.rows} rows, {mapped.platforms_count} platforms"}))
        console.print(f"people tagged   {tally.people_tagged:>8}   {summary['tags_per_second']} a second")
        console.print(f"reports         {reports:>8}   {summary['reports_per_second']} a second")
        for code, count in tally.reports.most_common():
            console.print(f"  {code:<20}{count:>8}")
        console.print(f"lookups         {lookups:>8}   {summary['lookups_per_second']} a second")
        for code, count in tally.lookups.most_common():
            console.print(f"  {code:<20}{count:>8}")
        most = max([*tally.tiers.values(), 1])
        for tier in TIERS:
            count = tally.tiers[tier]
            bar = "#" * -(-count * BAR_CHARS // most)
            console.print(f"  {tier:<8}{count:>8}  [{TIER_STYLES[tier]}]{bar}[/]")

    output.emit(summary, show)
