"""`report`: confirmed fraud into the ledger, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import options, output, streams
from ledger.cli.options import (
    CnIdOption,
    ColumnOption,
    DelimiterOption,
    DeviceOption,
    EmailOption,
    EncodingOption,
    KeyOption,
    PaymentOption,
    PhoneOption,
    RegionOption,
    StateOption,
    SuiteOption,
)
from ledger.cli.output import ExitCode, JsonFlag, guarded
from ledger.cli.progress import stage_bars
from ledger.cli.tables import Table
from ledger.client import Delivery, RefundLedger, ReportView
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

report = typer.Typer(no_args_is_help=True, help="Report confirmed refund fraud, correct it, prove it was recorded.")

ERROR_COLUMNS = ("index", "order", "state", "code", "message")
FIT, UNFIT = "fit", "unfit"
"""What a dry run says of a report."""
WAITING_STATES = frozenset({"pending", "parked", "unsent"})
SHOWN_RESULTS = 100
"""Rows of a table of results for people; of more than that, only what was not accepted is shown."""

ReportId = Annotated[str, typer.Argument(help="The report's id, rp_...")]


@report.command("send")
@guarded
def send(
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Reports as JSON (each with `buyer`) or as a table, one a row. - is stdin."),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="With --file: what was not recorded (index, order, state, code, message)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything that can be checked without sending, and send nothing.")
    ] = False,
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    delimiter: DelimiterOption = None,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    conduct: Annotated[str | None, typer.Option("--conduct")] = None,
    evidence: Annotated[
        list[str] | None, typer.Option("--evidence", help="type=file; only its SHA-256 is sent.")
    ] = None,
    order: Annotated[str | None, typer.Option("--order")] = None,
    amount_minor: Annotated[int | None, typer.Option("--amount-minor")] = None,
    currency: Annotated[str | None, typer.Option("--currency")] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="refund_refused, refund_recovered or refund_suffered.")
    ] = None,
    act_ended_at: Annotated[str | None, typer.Option("--act-ended-at", help="2026-01-31T23:59:59Z")] = None,
    notice_sent_at: Annotated[str | None, typer.Option("--notice-sent-at")] = None,
    notice_ref: Annotated[str | None, typer.Option("--notice-ref")] = None,
    decided_by: Annotated[str | None, typer.Option("--decided-by", help="Who confirmed it, opaque.")] = None,
    consent_ref: Annotated[str | None, typer.Option("--consent-ref")] = None,
    replaces: Annotated[str | None, typer.Option("--replaces", help="The report that this one corrects.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Send one report from options, or many from --file. What cannot be delivered waits in the outbox (exit 4).

    A malformed report of a file is refused alone, and the others are sent (exit 1). The same file or options, sent
    again, are recorded once.
    """
    if file is not None:
        form = options.table_format(encoding, delimiter, column)
        items = read_report_file(streams.source(file), form, region)
    else:
        values = {
            "conduct": conduct, "order": order, "amount_minor": amount_minor, "currency": currency,
            "outcome": outcome, "act_ended_at": act_ended_at, "notice_sent_at": notice_sent_at,
            "notice_ref": notice_ref, "decided_by": decided_by, "consent_ref": consent_ref, "replaces": replaces,
        }  # fmt: skip
        one: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        one["evidence"] = [_evidence_option(text) for text in evidence or ()]
        one["buyer"] = options.identifiers(phone, email, cn_id, payment, device)
        items = [item_of(one, region)]
    with ExitStack() as stack:
        table = None if errors is None else stack.enter_context(OutputTable(errors, ERROR_COLUMNS))
        ledger = stack.enter_context(options.open_ledger(suite, key, state_dir))
        bars = stack.enter_context(stage_bars({"check": "checking reports", "send": "sending reports"}))
        results: Sequence[Delivery[Any]] = []
        if dry_run:
            items = check_reports(ledger, items, region, partial(bars, "check"))
        elif file is None:  # of a file the answer has one form, however many reports it holds
            (only,) = with_keys(ledger, items, region)
            if only.error is not None:
                raise only.error
            results = [ledger.reports.create(ledger.tag(region=region, **only.buyer), **only.arguments)]
        else:
            results = send_reports(ledger, items, region, partial(bars, "send"))
        if table is not None:
            states = [(FIT if item.error is None else UNFIT, item.error) for item in items]
            table.clear()
            table.append(_error_rows(items, states if dry_run else [(one.state, one.error) for one in results]))
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
    """Print what a dry run found and exit: 1 if a report would be refused, else 0."""
    unfit = [item for item in items if item.error is not None]

    def tell(console: Console) -> None:
        console.print(f"{len(items):,} reports checked, nothing sent; fit: {len(items) - len(unfit):,}.")
        if not unfit:
            return
        table = Table("#", "order", "note")
        for item in unfit[:SHOWN_RESULTS]:
            note = "" if item.error is None else f"{item.error.code}: {item.error}"
            table.add_row(str(item.index), Text(item.shown_order or ""), Text(note))
        console.print(table)
        if len(unfit) > SHOWN_RESULTS:
            console.print(f"The first {SHOWN_RESULTS} of {len(unfit):,}; --json and --errors have all.")

    with streams.writing():
        output.emit({"dry_run": True, "results": [_checked_json(item) for item in items]}, tell)
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
@guarded
def withdraw(
    report_id: ReportId,
    suite: SuiteOption,
    key: KeyOption,
    reason: Annotated[str, typer.Option("--reason", help="wrong_person, wrong_facts, duplicate or other.")],
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Take a report back."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_deliveries([ledger.reports.withdraw(report_id, reason)])


@report.command("restitution")
@guarded
def restitution(
    report_id: ReportId,
    suite: SuiteOption,
    key: KeyOption,
    received_at: Annotated[str, typer.Option("--received-at", help="2026-01-31T23:59:59Z")],
    amount_minor: Annotated[int, typer.Option("--amount-minor", help="The report's full amount, in minor units.")],
    currency: Annotated[str, typer.Option("--currency")],
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Record that the buyer paid the full amount back; halves the report's points."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_deliveries([ledger.reports.restitute(report_id, parse_time(received_at), amount_minor, currency)])


@report.command("explain")
@guarded
def explain(
    report_id: ReportId,
    suite: SuiteOption,
    key: KeyOption,
    text: Annotated[str, typer.Option("--text", help="Why it is about another order, 1 to 2000 characters.")],
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Say why a report that is held is about another order than the contested one."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        view = output.plain(ledger.reports.explain(report_id, text))
    output.emit(view, lambda console: console.print(output.fields(_told(view))))


@report.command("show")
@guarded
def show(
    report_id: ReportId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Show a report of yours as it stands."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        view = output.plain(ledger.reports.get(report_id))
    output.emit(view, lambda console: console.print(output.fields(_told(view))))


@report.command("list")
@guarded
def list_all(
    suite: SuiteOption,
    key: KeyOption,
    order: Annotated[str | None, typer.Option("--order", help="Only of this order.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 50,
    starting_after: Annotated[str | None, typer.Option("--starting-after", help="Last id of the page before.")] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """List your reports, newest first."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        page = ledger.reports.list(limit=limit, starting_after=starting_after, order=order)

    def tell(console: Console) -> None:
        table = Table("id", "status", "conduct", "amount", "act ended", "expires")
        for view in page.reports:
            amount = f"{view.amount_minor} {view.currency}"
            ended, expires = format_time(view.act_ended_at), format_time(view.expires_at)
            table.add_row(view.id, view.status, view.conduct, amount, ended, expires)
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.reports[-1].id}")

    output.emit({"reports": [output.plain(view) for view in page.reports], "has_more": page.has_more}, tell)


@report.command("receipt")
@guarded
def receipt(
    report_id: ReportId,
    suite: SuiteOption,
    key: KeyOption,
    out: Annotated[Path | None, typer.Option("--out", help="Write the receipt (C2SP tlog-proof) here.")] = None,
    wait_seconds: Annotated[float, typer.Option("--wait-seconds", min=0)] = 5.0,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Fetch and verify a report's receipt: proof that the log holds what your key signed."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        verified = ledger.reports.receipt(report_id, wait_seconds)
    if out is not None:
        try:
            out.write_text(verified.text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{out.name} cannot be written.") from error
    found = verified.receipt
    facts = {
        "report": report_id,
        "entry_index": found.index,
        "hour": found.hour,
        "log": found.checkpoint.origin,
        "log_size": found.checkpoint.size,
        "verified": True,
    }
    output.emit(facts, lambda console: console.print(output.fields(facts)))


@report.command("outbox")
@guarded
def outbox(
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    flush: Annotated[bool, typer.Option("--flush", help="Send what is pending, and what is parked and due.")] = False,
    parked: Annotated[bool, typer.Option("--parked", help="With --flush: what is parked too, due or not.")] = False,
    retry: Annotated[
        str | None, typer.Option("--retry", help="Make this refused or parked item pending again.")
    ] = None,
    discard: Annotated[str | None, typer.Option("--discard", help="Drop this item.")] = None,
    discard_all_refused: Annotated[
        bool, typer.Option("--discard-all-refused", help="Drop everything that was refused.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only how much waits, and for how long.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Show what has not been delivered, or deliver it. Exit 4 while something is pending or parked."""
    if parked and not flush:
        raise InvalidRequest("--parked belongs to --flush.")
    if status and flush:
        raise InvalidRequest("Give --status or --flush.")
    with options.open_ledger(suite, key, state_dir) as ledger:
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
    """Print how much is in each state and for how long, and exit 4 if something waits."""
    now = datetime.now(UTC)
    ages = {state: one.oldest_age(now) for state, one in waiting.items()}
    value: dict[str, Any] = {
        state: {
            "count": one.count,
            "oldest_seconds": None if (age := ages[state]) is None else int(age.total_seconds()),
        }
        for state, one in waiting.items()
    }

    def tell(console: Console) -> None:
        table = Table("state", "items", "oldest")
        for state, one in waiting.items():
            age = ages[state]
            table.add_row(
                state, f"{one.count:,}", "" if age is None else str(timedelta(seconds=int(age.total_seconds())))
            )
        console.print(table)

    output.emit(value, tell)
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

    def tell(console: Console) -> None:
        table = Table("idempotency key", "what", "state", "since", "attempts", "last error")
        for item in items:
            error = item["error"]
            why = f"{error['code']}: {error['message']}" if isinstance(error, dict) else ""
            cells = [str(item[name]) for name in ("idempotency_key", "operation", "state", "added_at", "attempts")]
            table.add_row(*[Text(cell) for cell in (*cells, why)])
        console.print(table if items else "The outbox is empty.")

    output.emit({"items": items}, tell)
    if any(item["state"] in WAITING_STATES for item in items):
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def _told(view: dict[str, Any]) -> dict[str, Any]:
    """The fields of a report for people: of its appeal what matters."""
    case, hold = view["appeal"], view["hold"]
    told = {**view, "appeal": case and f"{case['id']} {case['outcome'] or case['state']}, due {case['due_at']}"}
    if hold and not (hold["released_at"] or hold["refused_at"]):
        told["hold"] = f"may be the matter of {hold['case']}; void at {hold['void_at']}"
    return told


def _delivery_json(one: Delivery[Any], item: ReportItem | None) -> dict[str, Any]:
    value: dict[str, Any] = {} if item is None else {"index": item.index, "order": item.shown_order}
    value |= {"idempotency_key": one.idempotency_key, "state": one.state, "replayed": one.replayed}
    if one.report is not None:
        value["report"] = {name: field for name, field in output.plain(one.report).items() if name != "signature"}
    if one.error is not None:
        value["error"] = _error_json(one.error)
    if one.retry_at is not None:
        value["retry_at"] = format_time(one.retry_at)
    return value


def _show_deliveries(results: Sequence[Delivery[Any]], items: Sequence[ReportItem] = ()) -> None:
    """Print what became of each and exit: 4 if something waits or was not sent, 1 if something was refused, else 0.
    `items` are the reports of a file, one for each result."""
    sources: list[ReportItem | None] = [*items] or [None] * len(results)

    def tell(console: Console) -> None:
        if not results:
            console.print("Nothing to deliver.")
            return
        shown = list(zip(results, sources, strict=True))
        if len(shown) > SHOWN_RESULTS:
            counts = Counter(one.state for one in results)
            console.print(", ".join([f"{state}: {count:,}" for state, count in counts.most_common()]))
            shown = [(one, item) for one, item in shown if one.state != "accepted"]
            if len(shown) > SHOWN_RESULTS:
                console.print(f"The first {SHOWN_RESULTS} that were not accepted; --json and --errors have all.")
            shown = shown[:SHOWN_RESULTS]
        if not shown:
            return
        table = Table(*(("#", "order") if items else ()), "state", "report", "status", "counts from", "note")
        for one, item in shown:
            view: Any = one.report
            cells = ("", "", "") if view is None else (view.id, view.status, format_time(view.effective_from))
            note = f"{one.error.code}: {one.error}" if one.error is not None else _note(view)
            source = () if item is None else (str(item.index), Text(item.shown_order or ""))
            table.add_row(*source, one.state, *cells, Text(note))
        console.print(table)

    with streams.writing():
        pairs = zip(results, sources, strict=True)
        output.emit({"results": [_delivery_json(one, item) for one, item in pairs]}, tell)
    states = {one.state for one in results}
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
