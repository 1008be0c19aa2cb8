"""Tables of customers: which columns hold identifiers, which are copied, and that no other column is written.

Columns are found by their headers, compared by `tables.normal_name`, or by `TableFormat.columns`. Everything is checked
before the first row is used: the form of the table, and that no copied column holds identifiers (`column_guard`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ledger.client.tables.column_guard import KNOWN_HEADERS, ColumnGuard, reads_like
from ledger.client.tables.reader import TableFile, TableFormat, TableRecord, normal_name, opened
from ledger.errors import InvalidTable
from ledger.protocol.identifiers import Kind

KINDS = tuple(kind.value for kind in Kind)


@dataclass(frozen=True, slots=True)
class Customers:
    """A checked table of customers of `rows` rows. Places are indexes of columns: `kinds` holds (place, kind) in the
    table's order, `id` is the column that is copied as the customer's id (None: the number of the row), `kept` what is
    copied besides. `hints` are (place, kind) of columns whose header means a kind, though they are not used as one."""

    table: TableFile
    kinds: tuple[tuple[int, str], ...]
    id: int | None
    kept: tuple[int, ...]
    hints: tuple[tuple[int, str], ...]
    rows: int

    @property
    def copied(self) -> tuple[int, ...]:
        """The places of all columns that are copied, in the table's order."""
        return tuple(sorted({*self.kept, *(() if self.id is None else (self.id,))}))

    @property
    def left_out(self) -> tuple[int, ...]:
        """The places of the columns that are neither used nor copied."""
        used = {place for place, _ in self.kinds} | set(self.copied)
        return tuple([place for place in range(len(self.table.names)) if place not in used])

    def identifiers(self, record: TableRecord) -> list[tuple[str, str]]:
        """Return (kind, raw) of the row's cells that are not empty."""
        return _identifiers(self.kinds, record)


def _identifiers(kinds: tuple[tuple[int, str], ...], record: TableRecord) -> list[tuple[str, str]]:
    return [(kind, record.cells[place]) for place, kind in kinds if record.cells[place].strip()]


@contextmanager
def open_customers(
    source: Path | BinaryIO,
    form: TableFormat,
    *,
    id_column: str | None = None,
    keep: Collection[str] = (),
    not_identifiers: Collection[str] = (),
    tag_columns: bool = False,
) -> Iterator[Customers]:
    """Return a table of customers, open and checked in full.

    With `tag_columns` a column PHONE_tag beside PHONE is refused, because the output has one of that name. Raises
    InvalidTable and ConfigurationError.
    """
    with opened(source) as file:
        table = TableFile(file, form)
        kinds = kinds_of(table, form)
        used = {place for place, _ in kinds}
        chosen = _id_place(table, used, id_column)
        kept = tuple([_place(table, name, used, "--keep") for name in keep])
        trusted = tuple([_place(table, name, used, "--not-identifiers") for name in not_identifiers])
        if tag_columns:
            _refuse_tag_columns(table, kinds)
        hints = tuple(
            [
                (place, kind)
                for place, name in enumerate(table.names)
                if place not in used and (kind := KNOWN_HEADERS.get(normal_name(name))) is not None
            ]
        )
        customers = Customers(table, kinds, chosen, kept, hints, 0)
        unsure = dict(hints)
        for place in customers.copied:
            if place in unsure and place not in trusted:
                raise InvalidTable(
                    f"Line 1, column {place + 1}: the header means {unsure[place]}, and the column would be copied. "
                    f"Say --column {unsure[place]}={table.names[place]}, or copy another one (--id).",
                    line=1, column=place + 1,
                )  # fmt: skip
            if reads_like(table.names[place]) is not None and place not in trusted:
                raise InvalidTable(
                    f"Line 1, column {place + 1}: the header, which would be copied, reads like an identifier.",
                    line=1, column=place + 1,
                )  # fmt: skip
        yield Customers(table, kinds, chosen, kept, hints, _check(customers, trusted))


def _check(customers: Customers, trusted: tuple[int, ...]) -> int:
    """Read the whole table; the number of its rows. Raises InvalidTable."""
    customers.table.check_encoding()
    guard = ColumnGuard(customers.copied, trusted, customers.table.delimiter, len(customers.table.names) - 1)
    rows = 0
    for record in customers.table.records():
        rows += 1
        guard.see(record.line, record.cells, customers.identifiers(record))
    guard.finish()
    return rows


def kinds_of(table: TableFile, form: TableFormat, names: Collection[str] = KINDS) -> tuple[tuple[int, str], ...]:
    """Return (place, name) of the columns that are one of `names`, by default the kinds of identifier, in the table's
    order. Raises InvalidTable when there is none, or when one is there twice."""
    kinds: dict[int, str] = {}
    for name, header in form.columns.items():
        if name not in names:
            raise InvalidTable(f"--column names one of: {', '.join(names)}.")
        place = table.place(header)
        if place is None:
            raise InvalidTable(f"--column {name}: the table has no column of that name.")
        if place in kinds:
            raise InvalidTable(f"--column names column {place + 1} twice.")
        kinds[place] = name
    for place, header in enumerate(table.names):
        name = normal_name(header)
        if name not in names or place in kinds:
            continue
        if name in kinds.values():
            raise InvalidTable(
                f"Line 1, column {place + 1}: --column gives another column as {name}.", line=1, column=place + 1
            )
        kinds[place] = name
    if not kinds:
        raise InvalidTable(_no_kind(table, names), line=1)
    return tuple(sorted(kinds.items()))


def _no_kind(table: TableFile, names: Collection[str]) -> str:
    """Return the advice for a header without any known name. Its own names are not repeated, unless they are common
    headers: without a header the first line is a customer's."""
    text = f"The first line must name the columns, at least one of: {', '.join(names)}."
    hints = [(name, KNOWN_HEADERS[normal_name(name)]) for name in table.names if normal_name(name) in KNOWN_HEADERS]
    options = " ".join([f"--column {kind}={name}" for name, kind in hints if kind in names])
    return f"{text} Or say which column is what: {options or '--column phone=HEADER'}."


def _id_place(table: TableFile, used: Collection[int], name: str | None) -> int | None:
    if name is not None:
        return _place(table, name, used, "--id")
    return next((place for place in range(len(table.names)) if place not in used), None)


def _place(table: TableFile, name: str, used: Collection[int], option: str) -> int:
    place = table.place(name)
    if place is None or place in used:
        raise InvalidTable(f"{option} names a column that is not there or that holds identifiers.")
    return place


def _refuse_tag_columns(table: TableFile, kinds: tuple[tuple[int, str], ...]) -> None:
    for _, kind in kinds:
        place = table.place(f"{kind}_tag")
        if place is not None:
            raise InvalidTable(
                f"Line 1, column {place + 1}: {kind}_tag is what the tags of the column {kind} will be called. "
                "Rename or remove that column.",
                line=1, column=place + 1,
            )  # fmt: skip
