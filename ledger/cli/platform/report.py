"""`report`: send reports of confirmed fraud, correct and prove them, and manage the outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output, streams
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import LedgerOptions, PageOptions, PersonOptions, TableOptions
from ledger.cli.progress import stage_bars
from ledger.cli.tables import Table
from ledger.client import Delivery, ReasonForWithdrawal, RefundLedger, ReportView
from ledger.client.outbox.store import ItemState, Waiting
from ledger.client.tables.output import OutputTable
from ledger.client.tables.report_files import (
    ReportItem,
    check_reports,
    item_of,
    read_report_file,
    send_reports,
    with_keys,
)
from ledger.errors import ConfigurationError, InvalidRequest, LedgerError
from ledger.protocol.encoding import format_time, parse_time

report = typer.Typer(no_args_is_help=True, help="Send, correct and prove reports of confirmed refund fraud.")

ERROR_COLUMNS = ("index", "order", "state", "code", "message")
FIT, UNFIT = "fit", "unfit"
"""The states of a report in a dry run."""
WAITING_STATES = frozenset({"pending", "parked", "unsent"})
SHOWN_RESULTS = 100
"""Largest number of rows in a table of results. Of more results, only those that were not accepted are shown."""

ReportId = Annotated[str, typer.Argument(help="The report's id, rp_...")]


@report.command("send")
@command
def send(
    account: LedgerOptions,
    person: PersonOptions,
    table_options: TableOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Reports as JSON (each with `buyer`) or as a table with one report a row. - is stdin."
        ),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            "--errors",
            help="With --file: write the reports that were not recorded (index, order, state, code, message).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make all checks that need no ledger, and send nothing.")
    ] = False,
    conduct: Annotated[
        str | None, typer.Option("--conduct", help="The confirmed conduct, such as fake_return_tracking.")
    ] = None,
    evidence: Annotated[
        list[str] | None, typer.Option("--evidence", help="type=file; only its SHA-256 is sent.")
    ] = None,
    order: Annotated[str | None, typer.Option("--order", help="Your order number; only its HMAC is sent.")] = None,
    amount_minor: Annotated[int | None, typer.Option("--amount-minor", help="Refund amount in minor units.")] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="ISO 4217, such as CNY.")] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="refund_refused, refund_recovered or refund_suffered.")
    ] = None,
    act_ended_at: Annotated[
        str | None, typer.Option("--act-ended-at", help="When the act ended, such as 2026-01-31T23:59:59Z.")
    ] = None,
    notice_sent_at: Annotated[str | None, typer.Option("--notice-sent-at", help="When the buyer was notified.")] = None,
    notice_ref: Annotated[str | None, typer.Option("--notice-ref", help="Your reference to the notice.")] = None,
    decided_by: Annotated[
        str | None, typer.Option("--decided-by", help="Your opaque id of the person who confirmed the report.")
    ] = None,
    consent_ref: Annotated[
        str | None, typer.Option("--consent-ref", help="Your reference to the person's separate consent.")
    ] = None,
    replaces: Annotated[str | None, typer.Option("--replaces", help="Id of the report that this one corrects.")] = None,
) -> None:
    """Send one report from options, or many from --file. Reports that cannot be delivered wait in the outbox (exit 4).

    Only the malformed reports of a file are refused; the others are sent (exit 1). A file or options that are sent
    again are recorded once.
    """
    if file is not None:
        form = table_options.format()
        items = read_report_file(streams.source(file), form, person.region)
    else:
        values = {
            "conduct": conduct, "order": order, "amount_minor": amount_minor, "currency": currency,
            "outcome": outcome, "act_ended_at": act_ended_at, "notice_sent_at": notice_sent_at,
            "notice_ref": notice_ref, "decided_by": decided_by, "consent_ref": consent_ref, "replaces": replaces,
        }  # fmt: skip
        fields: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        fields["evidence"] = [_evidence_option(text) for text in evidence or ()]
        fields["buyer"] = person.identifiers()
        items = [item_of(fields, person.region)]
    with ExitStack() as stack:
        table = None if errors is None else stack.enter_context(OutputTable(errors, ERROR_COLUMNS))
        ledger = stack.enter_context(account.open())
        bars = stack.enter_context(stage_bars({"check": "checking reports", "send": "sending reports"}))
        results: Sequence[Delivery[Any]] = []
        if dry_run:
            items = check_reports(ledger, items, person.region, partial(bars, "check"))
        elif file is None:  # the answer for a file has one form for any number of reports
            (only,) = with_keys(ledger, items, person.region)
            if only.error is not None:
                raise only.error
            results = [ledger.reports.create(ledger.tag(region=person.region, **only.buyer), **only.arguments)]
        else:
            results = send_reports(ledger, items, person.region, partial(bars, "send"))
        if table is not None:
            states = [(FIT if item.error is None else UNFIT, item.error) for item in items]
            table.clear()
            table.append(
                _error_rows(items, states if dry_run else [(result.state, result.error) for result in results])
            )
    if dry_run:
        _show_checked(items)
    else:
        _show_deliveries(results, items)


def _error_rows(
    items: Sequence[ReportItem], results: Sequence[tuple[str, LedgerError | None]]
) -> list[tuple[str, ...]]:
    return [
        (str(item.index), item.shown_order or "", state, error.code, str(error))
        for item, (state, error) in zip(items, results, strict=True)
        if error is not None
    ]


def _show_checked(items: Sequence[ReportItem]) -> None:
    """Print the result of a dry run. Exits with 1 if a report would be refused."""
    unfit = [item for item in items if item.error is not None]

    def show_table(console: Console) -> None:
        console.print(f"{len(items):,} reports checked, nothing sent; fit: {len(items) - len(unfit):,}.")
        if not unfit:
            return
        table = Table("#", "order", "note")
        for item in unfit[:SHOWN_RESULTS]:
            note = "" if item.error is None else f"{item.error.code}: {item.error}"
            table.add_row(str(item.index), Text(item.shown_order or ""), Text(note))
        console.print(table)
        if len(unfit) > SHOWN_RESULTS:
            console.print(f"The first {SHOWN_RESULTS} of {len(unfit):,}; --json and --errors show all.")

    with streams.writing():
        output.emit({"dry_run": True, "results": [_checked_json(item) for item in items]}, show_table)
    if unfit:
        raise typer.Exit(int(ExitCode.REFUSED))


def _checked_json(item: ReportItem) -> dict[str, Any]:
    value = {"index": item.index, "order": item.shown_order, "state": FIT if item.error is None else UNFIT}
    return value if item.error is None else {**value, "error": _error_json(item.error)}


def _error_json(error: LedgerError) -> dict[str, Any]:
    details = {name: output.plain(detail) for name, detail in error.details.items()}
    return {"code": error.code, "message": str(error), "details": details}


def _evidence_option(text: str) -> dict[str, str]:
    kind, separator, path = text.partition("=")
    if not separator:
        raise InvalidRequest("--evidence is type=file.")
    return {"type": kind, "file": path}


@report.command("withdraw")
@command
def withdraw(
    ledger: RefundLedger,
    report_id: ReportId,
    reason: Annotated[str, typer.Option("--reason", help="wrong_person, wrong_facts, duplicate or other.")],
) -> None:
    """Withdraw a report."""
    _show_deliveries([ledger.reports.withdraw(report_id, cast(ReasonForWithdrawal, reason))])


@report.command("restitution")
@command
def restitution(
    ledger: RefundLedger,
    report_id: ReportId,
    received_at: Annotated[
        str, typer.Option("--received-at", help="When the money arrived, such as 2026-01-31T23:59:59Z.")
    ],
    amount_minor: Annotated[int, typer.Option("--amount-minor", help="The report's full amount, in minor units.")],
    currency: Annotated[str, typer.Option("--currency", help="The report's currency.")],
) -> None:
    """Record that the buyer paid back the full amount. This halves the report's points."""
    _show_deliveries([ledger.reports.restitute(report_id, parse_time(received_at), amount_minor, currency)])


@report.command("explain")
@command
def explain(
    ledger: RefundLedger,
    report_id: ReportId,
    text: Annotated[str, typer.Option("--text", help="Why the report is about another order; 1 to 2000 characters.")],
) -> None:
    """Explain why a held report is about another order than the contested report."""
    view = output.plain(ledger.reports.explain(report_id, text))
    output.emit(view, lambda console: console.print(output.fields(_shown(view))))


@report.command("show")
@command
def show(ledger: RefundLedger, report_id: ReportId) -> None:
    """Show one of your reports with its current status."""
    view = output.plain(ledger.reports.get(report_id))
    output.emit(view, lambda console: console.print(output.fields(_shown(view))))


@report.command("list")
@command
def list_all(
    ledger: RefundLedger,
    paging: PageOptions,
    order: Annotated[str | None, typer.Option("--order", help="Only reports about this order.")] = None,
) -> None:
    """List your reports, newest first."""
    page = ledger.reports.list(limit=paging.limit, starting_after=paging.starting_after, order=order)

    def show_table(console: Console) -> None:
        table = Table("id", "status", "conduct", "amount", "act ended", "expires")
        for view in page.reports:
            amount = f"{view.amount_minor} {view.currency}"
            ended, expires = format_time(view.act_ended_at), format_time(view.expires_at)
            table.add_row(view.id, view.status, view.conduct, amount, ended, expires)
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.reports[-1].id}")

    output.emit({"reports": [output.plain(view) for view in page.reports], "has_more": page.has_more}, show_table)


@report.command("receipt")
@command
def receipt(
    ledger: RefundLedger,
    report_id: ReportId,
    out: Annotated[Path | None, typer.Option("--out", help="Write the receipt (C2SP tlog-proof) to this file.")] = None,
    wait_seconds: Annotated[
        float, typer.Option("--wait-seconds", min=0, help="How long to wait for a checkpoint that covers the report.")
    ] = 5.0,
) -> None:
    """Fetch and verify a report's receipt, which proves that the log contains the report that your key signed."""
    verified = ledger.reports.receipt(report_id, wait_seconds)
    if out is not None:
        try:
            out.write_text(verified.text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{out.name} cannot be written.") from error
    proof = verified.receipt
    facts = {
        "report": report_id,
        "entry_index": proof.index,
        "hour": proof.hour,
        "log": proof.checkpoint.origin,
        "log_size": proof.checkpoint.size,
        "verified": True,
    }
    output.emit(facts, lambda console: console.print(output.fields(facts)))


@report.command("outbox")
@command
def outbox(
    account: LedgerOptions,
    flush: Annotated[
        bool, typer.Option("--flush", help="Send the pending items, and the parked items that are due.")
    ] = False,
    parked: Annotated[bool, typer.Option("--parked", help="With --flush: send all parked items, due or not.")] = False,
    retry: Annotated[
        str | None, typer.Option("--retry", help="Make this refused or parked item pending again.")
    ] = None,
    discard: Annotated[str | None, typer.Option("--discard", help="Delete this item.")] = None,
    discard_all_refused: Annotated[
        bool, typer.Option("--discard-all-refused", help="Delete all refused items.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show only the number and the age of waiting items.")
    ] = False,
) -> None:
    """Show or send the reports that are not delivered yet. Exit 4 while an item is pending or parked."""
    if parked and not flush:
        raise InvalidRequest("--parked needs --flush.")
    if status and flush:
        raise InvalidRequest("Give either --status or --flush.")
    with account.open() as ledger:
        if retry is not None:
            ledger.outbox.retry(retry)
        if discard is not None:
            ledger.outbox.discard(discard)
        if discard_all_refused:
            ledger.outbox.discard_refused()
        if flush:
            _show_deliveries(ledger.outbox.flush(parked=parked))
        elif status:
            _show_waiting(ledger.outbox.waiting())
        else:
            _show_outbox(ledger)


def _show_waiting(waiting: Mapping[ItemState, Waiting]) -> None:
    """Print the number and the age of the items in each state. Exits with 4 if an item is pending or parked."""
    now = datetime.now(UTC)
    ages = {state: items.oldest_age(now) for state, items in waiting.items()}
    value: dict[str, Any] = {
        state: {
            "count": items.count,
            "oldest_seconds": None if (age := ages[state]) is None else int(age.total_seconds()),
        }
        for state, items in waiting.items()
    }

    def show_table(console: Console) -> None:
        table = Table("state", "items", "oldest")
        for state, items in waiting.items():
            age = ages[state]
            table.add_row(
                state, f"{items.count:,}", "" if age is None else str(timedelta(seconds=int(age.total_seconds())))
            )
        console.print(table)

    output.emit(value, show_table)
    if waiting["pending"].count or waiting["parked"].count:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def _show_outbox(ledger: RefundLedger) -> None:
    items = [
        {
            "idempotency_key": item.idempotency_key,
            "operation": item.operation,
            "state": item.state,
            "added_at": format_time(item.added_at),
            "attempts": item.attempts,
            "retry_at": None if item.retry_at is None else format_time(item.retry_at),
            "error": item.error,
        }
        for item in ledger.outbox.list()
    ]

    def show_table(console: Console) -> None:
        table = Table("idempotency key", "what", "state", "since", "attempts", "last error")
        for item in items:
            error = item["error"]
            why = f"{error['code']}: {error['message']}" if isinstance(error, dict) else ""
            cells = [str(item[name]) for name in ("idempotency_key", "operation", "state", "added_at", "attempts")]
            table.add_row(*[Text(cell) for cell in (*cells, why)])
        console.print(table if items else "The outbox is empty.")

    output.emit({"items": items}, show_table)
    if any(item["state"] in WAITING_STATES for item in items):
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def _shown(view: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a report for people, with its appeal and its hold in short."""
    case, hold = view["appeal"], view["hold"]
    shown = {**view, "appeal": case and f"{case['id']} {case['outcome'] or case['state']}, due {case['due_at']}"}
    if hold and not (hold["released_at"] or hold["refused_at"]):
        shown["hold"] = f"may be about the same order as {hold['case']}; void at {hold['void_at']}"
    return shown


def _delivery_json(delivery: Delivery[Any], item: ReportItem | None) -> dict[str, Any]:
    value: dict[str, Any] = {} if item is None else {"index": item.index, "order": item.shown_order}
    value |= {"idempotency_key": delivery.idempotency_key, "state": delivery.state, "replayed": delivery.replayed}
    if delivery.report is not None:
        value["report"] = {name: field for name, field in output.plain(delivery.report).items() if name != "signature"}
    if delivery.error is not None:
        value["error"] = _error_json(delivery.error)
    if delivery.retry_at is not None:
        value["retry_at"] = format_time(delivery.retry_at)
    return value


def _show_deliveries(results: Sequence[Delivery[Any]], items: Sequence[ReportItem] = ()) -> None:
    """Print the results. Exits with 4 if a report waits or was not sent, with 1 if one was refused. `items` are the
    reports of a file, one for each result."""
    sources: list[ReportItem | None] = [*items] or [None] * len(results)

    def show_table(console: Console) -> None:
        if not results:
            console.print("Nothing to deliver.")
            return
        shown = list(zip(results, sources, strict=True))
        if len(shown) > SHOWN_RESULTS:
            counts = Counter(delivery.state for delivery in results)
            console.print(", ".join([f"{state}: {count:,}" for state, count in counts.most_common()]))
            shown = [(delivery, item) for delivery, item in shown if delivery.state != "accepted"]
            if len(shown) > SHOWN_RESULTS:
                console.print(f"The first {SHOWN_RESULTS} that were not accepted; --json and --errors show all.")
            shown = shown[:SHOWN_RESULTS]
        if not shown:
            return
        table = Table(*(("#", "order") if items else ()), "state", "report", "status", "counts from", "note")
        for delivery, item in shown:
            view: Any = delivery.report
            cells = ("", "", "") if view is None else (view.id, view.status, format_time(view.effective_from))
            note = f"{delivery.error.code}: {delivery.error}" if delivery.error is not None else _note(view)
            source = () if item is None else (str(item.index), Text(item.shown_order or ""))
            table.add_row(*source, delivery.state, *cells, Text(note))
        console.print(table)

    with streams.writing():
        pairs = zip(results, sources, strict=True)
        output.emit({"results": [_delivery_json(delivery, item) for delivery, item in pairs]}, show_table)
    states = {delivery.state for delivery in results}
    if states & WAITING_STATES:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))
    if "refused" in states:
        raise typer.Exit(int(ExitCode.REFUSED))


def _note(view: object) -> str:
    if isinstance(view, ReportView) and view.withdrawal_reason is not None:
        return f"withdrawn: {view.withdrawal_reason}"
    if isinstance(view, ReportView) and view.restituted_at is not None:
        return "restitution recorded"
    return ""
