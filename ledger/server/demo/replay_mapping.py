"""Mapping files of a replay: how rows of a foreign table become reports and lookups. Described in `docs/replay.md`."""

from __future__ import annotations

import hashlib
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from ledger.client.tables.reader import TableFile, TableFormat, opened
from ledger.errors import ConfigurationError, LedgerError
from ledger.protocol.identifiers import Kind, parse_kind
from ledger.rules.conduct import Conduct

MAX_PLATFORMS = 64
CURRENCY = "USD"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """A row passes if its `column` is in min..max (numbers) and starts with `prefix` (text)."""

    column: str
    least: float | None
    most: float | None
    prefix: str | None

    def holds(self, row: Row) -> bool:
        value = row[self.column]
        if self.prefix is not None and not str(value).startswith(self.prefix):
            return False
        if self.least is None and self.most is None:
            return True
        number = float(value)
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)


@dataclass(frozen=True, slots=True)
class ReportRule:
    """Rows that pass `when` become reports of this conduct."""

    when: Condition
    conduct: Conduct


@dataclass(frozen=True, slots=True)
class ReportMapping:
    """How rows become reports. The first rule that passes is used; rows that pass no rule are skipped.

    Amounts are fictitious: a hash of the order chooses one in from..to. With equal amounts, reports of different orders
    would be taken for reports of one act.
    """

    rules: tuple[ReportRule, ...]
    reporter: str
    order: str
    time_column: str
    time_format: str
    newest_days_ago: float
    oldest_days_ago: float | None
    amount_from_minor: int
    amount_to_minor: int


@dataclass(frozen=True, slots=True)
class LookupMapping:
    """Which rows are looked up. Rows with the same `order` are one lookup."""

    when: Condition
    order: str
    claim: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """The content of a mapping file."""

    name: str
    platforms_count: int
    kind: Kind
    identity: str
    reports: ReportMapping | None
    lookups: LookupMapping | None


def read_mapping(path: Path) -> Mapped:
    """Return the mapping of a TOML file. Raises ConfigurationError if it cannot be read or is malformed."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        reports, lookups = data.get("reports"), data.get("lookups")
        mapped = Mapped(
            name=str(data["name"]),
            platforms_count=int(data["platforms"]),
            kind=parse_kind(data["identity"]["kind"]),
            identity=_template(data["identity"]["value"]),
            reports=None if reports is None else _reports(reports),
            lookups=None if lookups is None else _lookups(lookups),
        )
    except (OSError, ValueError, KeyError, TypeError, LedgerError) as error:
        raise ConfigurationError(f"The mapping {path.name} lacks something or is malformed: {error}.") from error
    if not 1 <= mapped.platforms_count <= MAX_PLATFORMS or (mapped.reports is None and mapped.lookups is None):
        raise ConfigurationError(f"A mapping names 1 to {MAX_PLATFORMS} platforms, and [reports], [lookups] or both.")
    return mapped


def _reports(data: Mapping[str, Any]) -> ReportMapping:
    oldest = data.get("oldest_days_ago")
    if not 0 < int(data["amount_from_minor"]) <= int(data["amount_to_minor"]):
        raise ValueError("amounts go from a positive number to one that is not smaller")
    return ReportMapping(
        rules=tuple([ReportRule(_condition(rule["when"]), Conduct(rule["conduct"])) for rule in data["rules"]]),
        reporter=_template(data["reporter"]),
        order=_template(data["order"]),
        time_column=str(data["time_column"]),
        time_format=str(data["time_format"]),
        newest_days_ago=float(data["newest_days_ago"]),
        oldest_days_ago=None if oldest is None else float(oldest),
        amount_from_minor=int(data["amount_from_minor"]),
        amount_to_minor=int(data["amount_to_minor"]),
    )


def _lookups(data: Mapping[str, Any]) -> LookupMapping:
    return LookupMapping(_condition(data["when"]), _template(data["order"]), str(data["claim"]))


def _condition(data: Mapping[str, Any]) -> Condition:
    unknown = data.keys() - {"column", "min", "max", "prefix"}
    if unknown:
        raise ValueError("a condition has only column, min, max and prefix")
    return Condition(str(data["column"]), data.get("min"), data.get("max"), data.get("prefix"))


def _template(text: str) -> str:
    """Return a template that contains only {column} and {column:format}. Raises ValueError for other fields of
    str.format."""
    for _, name, _, conversion in string.Formatter().parse(text):
        if name is not None and (not name.isidentifier() or conversion):
            raise ValueError("a template names columns, as in {CustomerID} or {TO_NODE:0>6}")
    return text


def fill(template: str, row: Row) -> str:
    """Return the template with the row's values. Raises ConfigurationError for a column that the row lacks."""
    try:
        return template.format_map(row)
    except (KeyError, ValueError) as error:
        raise ConfigurationError("The mapping names a column that the data lacks, or formats it wrongly.") from error


def identity_of(mapped: Mapped, row: Row) -> str | None:
    """Return the identity of the row's person, or None if one of its columns is empty. Raises ConfigurationError."""
    names = [name for _, name, _, _ in string.Formatter().parse(mapped.identity) if name is not None]
    if any(row.get(name, 0) in (None, "") for name in names):
        return None
    return fill(mapped.identity, row)


def spread(text: str, count: int) -> int:
    """Return a number from 0 to `count` - 1 for `text`, such as the number of its platform. It is the same in every
    run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count


def amount_of(mapping: ReportMapping, order: str) -> int:
    """Return the fictitious amount of an order, in minor units. It is the same in every run."""
    span = mapping.amount_to_minor - mapping.amount_from_minor + 1
    return mapping.amount_from_minor + spread(f"amount:{order}", span)


def moment(value: Any, time_format: str) -> datetime:
    """Return a time of the data as UTC or with its own zone. `time_format` is `unix` (seconds), `iso`, or a strptime
    format.

    Raises ConfigurationError if the value does not have this format.
    """
    try:
        if time_format == "unix":
            return datetime.fromtimestamp(float(value), UTC)
        if isinstance(value, datetime):
            parsed = value
        elif time_format == "iso":
            parsed = datetime.fromisoformat(str(value))
        else:
            parsed = datetime.strptime(str(value), time_format)  # noqa: DTZ007 the zone is set below
    except (ValueError, OverflowError) as error:
        raise ConfigurationError("A time of the data does not have the mapping's `time_format`.") from error
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def read_rows(path: Path, limit: int | None, form: TableFormat | None = None) -> Iterator[Row]:
    """Yield the rows of a CSV or Parquet file, at most `limit`. `form` is the form of a CSV file.

    Raises InvalidTable, ConfigurationError, ModuleNotFoundError (pyarrow).
    """
    if path.suffix == ".parquet":
        return islice(_parquet_rows(path), limit)
    return _csv_rows(path, form or TableFormat(), limit)


def _csv_rows(path: Path, form: TableFormat, limit: int | None) -> Iterator[Row]:
    with opened(path) as file:
        table = TableFile(file, form)
        table.check_encoding()
        for record in table.records(limit):
            yield dict(zip(table.names, record.cells, strict=True))


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from cast("list[Row]", batch.to_pylist())
    except (OSError, ArrowException) as error:
        raise ConfigurationError(f"{path.name} cannot be read as Parquet.") from error
