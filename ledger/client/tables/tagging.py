"""Tagging a whole user base: a table of identifiers in, a table of tags out, in bounded memory, resumable at any point.

Each identifier of the input gives one row of the output, in order: `id` (copied from a column of the input), `kind`,
`epoch`, `tag`, and in place of the tag the code in `error` when it is malformed. Identifiers themselves are never
written. The output is on disk after every batch (of 1000), so a run that was stopped for any reason continues where it
ended: existing rows must be those of the input, an incomplete last row is cut, and no identifier is evaluated twice.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from ledger.client.client import RefundLedger
from ledger.client.subjects import BATCHES_AHEAD, Buyer, Canonical, normalise
from ledger.client.tables.customers import Customers, open_customers
from ledger.client.tables.output import OutputTable
from ledger.client.tables.reader import TableFormat
from ledger.errors import (
    InvalidIdentifier,
    InvalidPhone,
    InvalidRequest,
    InvalidTable,
    LimitExceeded,
    StaleEpoch,
    Unavailable,
)
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.voprf import MAX_BATCH

COLUMNS = ("id", "kind", "epoch", "tag", "error")
ERROR_COLUMNS = ("line", "id", "kind", "code")
PATIENCE_SECONDS = 600.0
"""An outage that lasts longer ends the run; it can be gone on with."""
_LONGEST_PAUSE_SECONDS = 60.0
_TICK = 1 << 14
"""Rows that are there already between two calls of `progress`."""


@dataclass(frozen=True, slots=True)
class Tagging:
    """The result of a run. `identifiers` rows are in the output, `invalid` of them without a tag; `resumed` of them
    were there before. `finished` is false when the daily quota ended the run, with the seconds until it renews.
    `identifiers_by_kind` and `invalid_by_kind` are the same counts for each kind."""

    epoch: int
    identifiers: int = 0
    invalid: int = 0
    resumed: int = 0
    finished: bool = False
    retry_after_seconds: int | None = None
    identifiers_by_kind: dict[str, int] = field(default_factory=dict)
    invalid_by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def mostly_malformed(self) -> tuple[str, ...]:
        """The kinds of which more than half of the identifiers are malformed: a wrong column, or a missing region."""
        return tuple(
            [kind for kind, count in self.identifiers_by_kind.items() if 2 * self.invalid_by_kind.get(kind, 0) > count]
        )


class Cell(NamedTuple):
    """One identifier of the input: its line, the customer's id, and the raw value."""

    line: int
    id: str
    kind: str
    raw: str


Progress = Callable[[int, int, Tagging], None]
"""(bytes of the input read, bytes in all, what is done so far)."""


def tag_file(
    ledger: RefundLedger,
    source: Path,
    target: Path,
    *,
    errors: Path | None = None,
    id_column: str | None = None,
    region: str | None = None,
    epoch: int | Literal["current", "next"] = "current",
    wait: bool = False,
    form: TableFormat | None = None,
    not_identifiers: Collection[str] = (),
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    batch_size: int = MAX_BATCH,
) -> Tagging:
    """Tag every identifier of the table `source` into `target` (see the module), or go on where it ends.

    Columns named after kinds, or that `form.columns` names, hold identifiers; `id_column` is copied, by default the
    first other column, else the number of the row. It is refused when it holds identifiers itself, unless it is one of
    `not_identifiers` (`column_guard`). The whole table is checked before anything is written. `errors` gets line, id,
    kind and code of what is malformed. Outages are waited out for ten minutes. A used-up daily quota ends the run, or
    with `wait` is waited for.
    Raises InvalidTable (the table), InvalidRequest (an output of another input), ConfigurationError (a file cannot be
    read or written, or another run writes it), StaleEpoch (the output is of a key epoch that is over), Unavailable, and
    what `RefundLedger.tag_many` raises.
    """
    with ExitStack() as stack:
        customers = stack.enter_context(
            open_customers(source, form or TableFormat(), id_column=id_column, not_identifiers=not_identifiers)
        )
        total = customers.table.size_bytes()
        out = stack.enter_context(OutputTable(target, COLUMNS))
        bad = None if errors is None else stack.enter_context(OutputTable(errors, ERROR_COLUMNS))
        run = _Run(ledger, out, bad, region, ledger.tagging_epoch(epoch), wait, sleep)
        cells = _cells(customers)

        def tell(done: Tagging) -> None:
            if progress is not None:
                progress(customers.table.read_bytes(), total, done)

        run.resume(cells, tell)
        started: deque[_Batch] = deque()
        while True:
            while len(started) < BATCHES_AHEAD and (batch := list(islice(cells, batch_size))):
                started.append(run.start(batch))
            if not started:
                return replace(run.done, finished=True)
            if not run.finish(started.popleft()):
                return run.done
            tell(run.done)


MAX_ROWS = 1_000_000
"""Rows that `tag_customers` keeps in memory; `tag_file` has no limit."""


def tag_customers(
    ledger: RefundLedger, customers: Customers, *, region: str | None = None, epoch: int
) -> list[tuple[list[str], dict[str, str]]]:
    """Return (cells, tag by kind) of every row, in order, in memory; nothing is asked before all identifiers are known
    good.

    Raises InvalidTable (more than MAX_ROWS), the InvalidIdentifier of the first malformed identifier with its line and
    column, and what `RefundLedger.tag_many` raises.
    """
    if customers.rows > MAX_ROWS:
        raise InvalidTable(f"The table has more than {MAX_ROWS:,} rows: use --in and --out.")
    rows: list[list[str]] = []
    people: list[Canonical] = []
    wrong: list[tuple[int, int, InvalidIdentifier]] = []
    places = {kind: place for place, kind in customers.kinds}
    for record in customers.table.records():
        person: list[tuple[Kind, bytes]] = []
        for kind, raw in customers.identifiers(record):
            try:
                person += normalise({kind: raw}, region)
            except InvalidIdentifier as error:
                wrong.append((record.line, places[kind] + 1, error))
        rows.append(record.cells)
        people.append(person)
    if wrong:
        raise _first_of(wrong, sum(len(person) for person in people), region)
    buyers = iter(ledger.tag_canonical([person for person in people if person], epoch))
    return [(cells, dict(next(buyers).tags()) if person else {}) for cells, person in zip(rows, people, strict=True)]


def _first_of(wrong: list[tuple[int, int, InvalidIdentifier]], good: int, region: str | None) -> InvalidIdentifier:
    """Return the first error, with its place and how many there are."""
    line, column, error = wrong[0]
    text = f"Line {line}, column {column}: {error}"
    if len(wrong) > 1:
        text += f" {len(wrong):,} of {len(wrong) + good:,} identifiers are malformed."
    if region is None and isinstance(error, InvalidPhone):
        text += " Numbers without country code need --region, such as --region CN."
    return type(error)(text, line=line, column=column, malformed=len(wrong))


def _cells(customers: Customers) -> Iterator[Cell]:
    """Return the identifiers of the table, row by row."""
    for record in customers.table.records():
        who = str(record.number) if customers.id is None else record.cells[customers.id]
        for kind, raw in customers.identifiers(record):
            yield Cell(record.line, who, kind, raw)


class _Batch(NamedTuple):
    """A batch of cells that is being tagged: each identifier or the code of its error, the well-formed ones, and the
    function that waits for their tags."""

    cells: list[Cell]
    canonical: list[Canonical | str]
    people: list[Canonical]
    tagged: Callable[[], list[Buyer]]


class _Run:
    """One run over the cells that are left."""

    def __init__(
        self,
        ledger: RefundLedger,
        out: OutputTable,
        bad: OutputTable | None,
        region: str | None,
        epoch: int,
        wait: bool,
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger = ledger
        self._out = out
        self._bad = bad
        self._region = region
        self._wait = wait
        self._sleep = sleep
        self._identifiers: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self.done = Tagging(epoch)

    def resume(self, cells: Iterator[Cell], tell: Callable[[Tagging], None]) -> None:
        """Skip the rows that the output has, if they are those of these cells. The file of errors is written again. An
        identifier that was malformed must still be: another region gives another output.

        Raises InvalidRequest (the output is of another table, or of other options), StaleEpoch (of another key epoch).
        """
        count = 0
        wrong: list[tuple[str, ...]] = []
        if self._bad is not None:
            self._bad.clear()
        for row in self._out.rows():
            cell = next(cells, None)
            if cell is None or (cell.id, cell.kind) != (row[0], row[1]):
                raise InvalidRequest("The output is not what the beginning of this input gives. Take another file.")
            if row[2] != str(self.done.epoch):
                raise StaleEpoch("The output holds tags of another key epoch. Start a new file.")
            count += 1
            self._identifiers[cell.kind] += 1
            if row[4]:
                if self._canonical(cell) != row[4]:
                    raise InvalidRequest(
                        "The output was made under another --region or by another version. Take another file."
                    )
                self._invalid[cell.kind] += 1
                wrong.append((str(cell.line), cell.id, cell.kind, row[4]))
            if count % _TICK == 0:
                tell(replace(self._counted(), resumed=count))
                wrong = self._write_errors(wrong)
        self._write_errors(wrong)
        self.done = replace(self._counted(), resumed=count)

    def _counted(self) -> Tagging:
        """Return `done` with the present counts."""
        return replace(
            self.done,
            identifiers=self._identifiers.total(),
            invalid=self._invalid.total(),
            identifiers_by_kind=dict(self._identifiers),
            invalid_by_kind=dict(self._invalid),
        )

    def start(self, cells: list[Cell]) -> _Batch:
        """Have holders of a shared key begin with a batch. Raises what `RefundLedger.tag_many` does."""
        canonical: list[Canonical | str] = [self._canonical(cell) for cell in cells]
        people: list[Canonical] = [[person[0]] for person in canonical if not isinstance(person, str)]
        return _Batch(cells, canonical, people, self._ledger.start_tagging(people, self.done.epoch))

    def finish(self, batch: _Batch) -> bool:
        """Wait for a batch and write its rows; return False when the daily quota does not cover it."""
        tags = self._tags(batch)
        if tags is None:
            return False
        given = iter(tags)
        epoch = str(self.done.epoch)
        rows: list[tuple[str, ...]] = []
        wrong: list[tuple[str, ...]] = []
        for cell, person in zip(batch.cells, batch.canonical, strict=True):
            code, tag = (person, "") if isinstance(person, str) else ("", next(given))
            rows.append((cell.id, cell.kind, epoch, tag, code))
            self._identifiers[cell.kind] += 1
            if code:
                self._invalid[cell.kind] += 1
                wrong.append((str(cell.line), cell.id, cell.kind, code))
        self._write_errors(wrong)
        self._out.append(rows)
        self.done = self._counted()
        return True

    def _write_errors(self, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Return an empty list, once `rows` are in the file of errors, if there is one."""
        if self._bad is not None and rows:
            self._bad.append(rows)
        return []

    def _canonical(self, cell: Cell) -> Canonical | str:
        """Return the identifier, or the code of its error."""
        try:
            return normalise({cell.kind: cell.raw}, self._region)
        except InvalidIdentifier as error:
            return error.code

    def _tags(self, batch: _Batch) -> list[str] | None:
        """Return the tag of each, base64url; None when the daily quota does not cover them and is not waited for."""
        waited, pause = 0.0, 1.0
        begun: Callable[[], list[Buyer]] | None = batch.tagged
        while batch.people:
            try:
                tagged, begun = begun, None
                buyers = tagged() if tagged else self._ledger.tag_canonical(batch.people, self.done.epoch)
                return [b64url(buyer.subjects[0].tag) for buyer in buyers]
            except (Unavailable, LimitExceeded) as error:
                after = error.details.get("retry_after_seconds")
                seconds = max(pause, float(after)) if isinstance(after, int) else pause
                if error.details.get("limit") == "daily":
                    if not self._wait:
                        self.done = replace(self.done, retry_after_seconds=int(seconds))
                        return None
                elif waited + seconds > PATIENCE_SECONDS:
                    raise
                else:
                    waited, pause = waited + seconds, min(2 * pause, _LONGEST_PAUSE_SECONDS)
                self._sleep(seconds)
        return []
