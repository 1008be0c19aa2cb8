"""Files of reports: JSON (one object or a list) or a table (one report a row), checked item by item.

An item that is malformed does not touch the others: it keeps its error, with its number and its order. An item without
an idempotency key of its own gets one that is derived from all that it says, so that a file can be sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from ledger.client.client import RefundLedger
from ledger.client.inputs import nearest
from ledger.client.models.reports import Delivery, ReportResult
from ledger.client.outbox.items import BATCH_ITEMS
from ledger.client.reports.building import FIELDS, arguments_from_json
from ledger.client.subjects import Identifiers, normalise
from ledger.client.tables.column_guard import repeats
from ledger.client.tables.customers import KINDS, kinds_of
from ledger.client.tables.reader import TableFile, TableFormat, TableRecord, opened, read_text
from ledger.errors import (
    InvalidCanonicalForm,
    InvalidReport,
    InvalidRequest,
    InvalidTable,
    LedgerError,
    LimitExceeded,
    OrderAlreadyReported,
    Unavailable,
)

MAX_FILE_BYTES = 64 << 20
MAX_REPORTS = 100_000

_NAMES = (*KINDS, *FIELDS)


@dataclass(frozen=True, slots=True)
class ReportItem:
    """One report of a file: its number (from 1), its order, and what `ledger.reports.create_many` takes, or the error
    that keeps it from being sent."""

    index: int
    order: str | None = field(repr=False)
    buyer: Identifiers = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    error: LedgerError | None = None

    @property
    def shown_order(self) -> str | None:
        """The order; None if it has characters that cannot be printed or holds an identifier of the buyer."""
        order = self.order
        if order is None or not order.isprintable():
            return None
        return None if any(repeats(order, kind, raw) for kind, raw in self.buyer.items()) else order


def read_report_file(source: Path | BinaryIO, form: TableFormat, region: str | None = None) -> list[ReportItem]:
    """Return the reports of a file, each checked as far as that needs no ledger. A file that begins with { or [ is
    JSON.

    Raises InvalidTable (with line and character or column) and ConfigurationError for what is wrong with the file.
    """
    with opened(source) as file:
        text = read_text(file, form.encoding, MAX_FILE_BYTES)
        values = _objects(text) if text.lstrip()[:1] in ("{", "[") else _rows(TableFile(file, form), form)
    if not 0 < len(values) <= MAX_REPORTS:
        raise InvalidTable(f"A report file holds 1 to {MAX_REPORTS:,} reports.")
    return [_item(index, value, region) for index, value in enumerate(values, 1)]


def item_of(value: Mapping[str, Any], region: str | None = None) -> ReportItem:
    """Return a single report: `buyer` and the fields. Raises the error of the first malformed field."""
    item = _item(1, value, region)
    if item.error is not None:
        raise item.error
    return item


Progress = Callable[[int, int], None]
"""Called with (items done, all items)."""


def send_reports(
    ledger: RefundLedger,
    items: Sequence[ReportItem],
    region: str | None = None,
    progress: Progress = lambda done, total: None,
) -> list[ReportResult]:
    """Send the well-formed items, 1000 at a time, and return one result for each item, in order.

    When identifiers cannot be evaluated any longer (an outage, the daily quota), the rest is `unsent` with that error;
    raises it when nothing was sent by then. Sent again, the same file gives the same results: what was recorded is not
    recorded again, and what waits is sent as it is stored.
    """
    keyed = with_keys(ledger, items, region)
    results: list[ReportResult] = []
    stopped: LedgerError | None = None
    for start in range(0, len(keyed), BATCH_ITEMS):
        chunk = keyed[start : start + BATCH_ITEMS]
        good = [item for item in chunk if item.error is None]
        sent: Iterator[ReportResult] = iter(())
        if good and stopped is None:
            try:
                buyers = ledger.tag_many([item.buyer for item in good], region=region)
            except (Unavailable, LimitExceeded) as error:
                if not any(result.state != "refused" for result in results):
                    raise
                stopped = error
            else:
                pairs = [(buyer, item.arguments) for buyer, item in zip(buyers, good, strict=True)]
                sent = iter(ledger.reports.create_many(pairs))
        for item in chunk:
            if item.error is not None:
                done: ReportResult = Delivery("", "refused", error=item.error)
            elif stopped is not None:
                done = Delivery(str(item.arguments["idempotency_key"]), "unsent", error=stopped)
            else:
                done = next(sent)
            results.append(replace(done, index=item.index, order=item.shown_order))
        progress(len(results), len(keyed))
    return results


def check_reports(
    ledger: RefundLedger,
    items: Sequence[ReportItem],
    region: str | None = None,
    progress: Progress = lambda done, total: None,
) -> list[ReportItem]:
    """Return the items, each with the error that would refuse it before it is sent. Nothing is requested, stored or
    sent.

    The second item about an order gets OrderAlreadyReported. Only the ledger can check the rest: orders that were
    reported before, cases, quotas, the log.
    """
    checked: list[ReportItem] = []
    orders: dict[object, int] = {}
    for item in with_keys(ledger, items, region):
        try:
            if item.error is None:
                ledger.reports.validate(item.buyer, region=region, **item.arguments)
                order = ledger.reports.order_reference(item.arguments["order"])
                if order in orders and "replaces" not in item.arguments:
                    other = orders[order]
                    raise OrderAlreadyReported(f"Report {other} of this file is about the same order.", index=other)
                orders.setdefault(order, item.index)
        except LedgerError as error:
            item = replace(item, error=error)
        checked.append(item)
        progress(len(checked), len(items))
    return checked


def _content_key(ledger: RefundLedger, item: ReportItem, region: str | None) -> str:
    try:
        return ledger.reports.content_key(item.buyer, item.arguments, region=region)
    except InvalidCanonicalForm:  # a float, a text that is not in NFC: what the report's own rules say is clearer
        ledger.reports.validate(item.buyer, region=region, **item.arguments)
        raise


def with_keys(ledger: RefundLedger, items: Sequence[ReportItem], region: str | None = None) -> list[ReportItem]:
    """Return items with an idempotency key each: their own, or one derived from what they say. A key that an earlier
    item has already refuses the later one: its error is InvalidRequest."""
    keyed: list[ReportItem] = []
    first: dict[object, int] = {}
    for item in items:
        if item.error is not None:
            keyed.append(item)
            continue
        try:
            key = item.arguments.get("idempotency_key") or _content_key(ledger, item, region)
            if key in first:
                raise InvalidRequest(f"Report {first[key]} of this file has the same key, or says the same.")
            first[key] = item.index
            keyed.append(replace(item, arguments={**item.arguments, "idempotency_key": key}))
        except LedgerError as error:
            keyed.append(replace(item, error=error))
    return keyed


def _item(index: int, value: Mapping[str, Any], region: str | None) -> ReportItem:
    fields = dict(value)
    buyer = fields.pop("buyer", None)
    order = fields.get("order")
    named = order if isinstance(order, str) else None
    try:
        if not isinstance(buyer, dict) or not all(isinstance(raw, str) for raw in buyer.values()):
            raise InvalidReport("Each report needs `buyer`: identifiers by kind.")
        normalise(buyer, region)
        return ReportItem(index, named, buyer, arguments_from_json(fields))
    except LedgerError as error:
        known = {kind: raw for kind, raw in buyer.items() if isinstance(raw, str)} if isinstance(buyer, dict) else {}
        return ReportItem(index, named, known, {}, error)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _objects(text: str) -> list[dict[str, Any]]:
    problem, place = "", {}
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        problem, place = error.msg, {"line": error.lineno, "character": error.colno}
    except _Doubled:
        problem = "an object names a field twice"
    except (ValueError, RecursionError):
        problem = "it is nested too deeply or holds a number that is too long"
    if problem:  # raised here, because a JSON error holds the whole text
        where = f"Line {place['line']}, character {place['character']}: " if place else ""
        raise InvalidTable(f"{where}The file cannot be read as JSON: {problem}.", **place)
    reports = value if isinstance(value, list) else [value]
    for index, report in enumerate(reports, 1):
        if not isinstance(report, dict):
            raise InvalidTable("A report file holds one report, or a list of them, as JSON objects.", index=index)
    return reports


class _Doubled(ValueError):
    """An object names a member twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Doubled
    return members


# --- tables -----------------------------------------------------------------------------------------------------------


def _rows(table: TableFile, form: TableFormat) -> list[dict[str, Any]]:
    """Return the rows as JSON would give them. Empty cells are left out."""
    table.check_encoding()
    columns = kinds_of(table, form, _NAMES)
    known = {place for place, _ in columns}
    unknown = next((place for place in range(len(table.names)) if place not in known), None)
    if unknown is not None:
        raise InvalidTable(
            f"Line 1, column {unknown + 1}: the column is no kind of identifier and no field of a report"
            f"{_meant(table.names[unknown])}. Remove it, or say what it is with --column.",
            line=1, column=unknown + 1,
        )  # fmt: skip
    return [_row(columns, record) for record in table.records()]


def _meant(header: str) -> str:
    """Return the known name that a header is most like. The header itself may be personal data, and is not repeated."""
    known = nearest(header, _NAMES)
    return "" if known is None else f" (did you mean {known}?)"


def _row(columns: Sequence[tuple[int, str]], record: TableRecord) -> dict[str, Any]:
    buyer: dict[str, str] = {}
    value: dict[str, Any] = {"buyer": buyer, "evidence": []}
    for place, name in columns:
        cell = record.cells[place].strip()
        if not cell:
            continue
        if name in KINDS:
            buyer[name] = cell
        elif name == "evidence":
            value[name] = [
                _evidence(reference.strip()) for reference in cell.replace("\n", "|").split("|") if reference.strip()
            ]
        elif name == "amount_minor" and cell.isascii() and cell.isdecimal() and len(cell) <= 16:
            value[name] = int(cell)
        else:
            value[name] = cell
    return value


def _evidence(text: str) -> dict[str, str]:
    """Return `type=file`, or `type=sha256:DIGEST` (base64url)."""
    kind, _, what = text.partition("=")
    digest = what.removeprefix("sha256:")
    return {"type": kind, "sha256": digest} if digest != what else {"type": kind, "file": what}
