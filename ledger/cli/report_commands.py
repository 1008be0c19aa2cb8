"""`report`: confirmed fraud into the ledger, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
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
from ledger.cli.tables import Table
from ledger.client import Delivery, RefundLedger, ReportView
from ledger.client.report_files import ReportItem, item_of, read_report_file, send_reports
from ledger.client.table_output import OutputTable
from ledger.core.encoding import format_time, parse_time
from ledger.errors import ConfigurationError, InvalidRequest

report = typer.Typer(no_args_is_help=True, help="Report confirmed refund fraud, correct it, prove it was recorded.")

ERROR_COLUMNS = ("index", "order", "state", "code", "message")
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

    A malformed report of a file is refused alone, and the others are sent (exit 1).
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
        if file is None:  # of a file the answer has one form, however many reports it holds
            only = items[0]
            if only.error is not None:
                raise only.error
            (buyer,) = ledger.subjects_many([only.buyer], region=region)
            results: Sequence[Delivery[Any]] = [ledger.report(buyer, **only.arguments)]
        else:
            results = send_reports(ledger, items, region)
        if table is not None:
            table.clear()
            table.append(_error_rows(items, results))
    _show_deliveries(results, items)


def _error_rows(items: Sequence[ReportItem], results: Sequence[Delivery[Any]]) -> list[tuple[str, ...]]:
    return [
        (str(item.index), item.shown_order or "", one.state, one.error.code, str(one.error))
        for item, one in zip(items, results, strict=True)
        if one.error is not None
    ]


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
        _show_deliveries([ledger.withdraw(report_id, reason)])


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
        _show_deliveries([ledger.restitution(report_id, parse_time(received_at), amount_minor, currency)])


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
        view = output.plain(ledger.explain_report(report_id, text))
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
        view = output.plain(ledger.get_report(report_id))
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
        page = ledger.list_reports(limit=limit, starting_after=starting_after, order=order)

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
        verified = ledger.receipt(report_id, wait_seconds)
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
    flush: Annotated[bool, typer.Option("--flush", help="Send what is pending.")] = False,
    retry: Annotated[str | None, typer.Option("--retry", help="Make this refused item pending again.")] = None,
    discard: Annotated[str | None, typer.Option("--discard", help="Drop this item.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show what has not been delivered, or deliver it. Exit 4 while something is pending."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        if retry is not None:
            ledger.retry_refused(retry)
        if discard is not None:
            ledger.discard(discard)
        if flush:
            _show_deliveries(ledger.flush_outbox())
            return
        _show_outbox(ledger)


def _show_outbox(ledger: RefundLedger) -> None:
    items = [
        {
            "idempotency_key": item.idempotency_key,
            "operation": item.operation,
            "state": item.state,
            "added_at": format_time(item.added_at),
            "attempts": item.attempts,
            "error": item.error,
        }
        for item in ledger.outbox()
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
    if any(item["state"] == "pending" for item in items):
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
        value["error"] = {"code": one.error.code, "message": str(one.error)}
        value["error"]["details"] = {name: output.plain(detail) for name, detail in one.error.details.items()}
    return value


def _show_deliveries(results: Sequence[Delivery[Any]], items: Sequence[ReportItem] = ()) -> None:
    """Print what became of each and exit: 4 if something is pending, 1 if something was refused, else 0. `items` are
    the reports of a file, one for each result."""
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
    if "pending" in states:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))
    if "refused" in states:
        raise typer.Exit(int(ExitCode.REFUSED))


def _note(view: object) -> str:
    if isinstance(view, ReportView) and view.withdrawal_reason is not None:
        return f"withdrawn: {view.withdrawal_reason}"
    if isinstance(view, ReportView) and view.restituted_at is not None:
        return "restitution recorded"
    return ""
