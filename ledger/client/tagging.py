"""Tagging a whole user base: a table of identifiers in, a table of tags out, in bounded memory, resumable at any point.

Each identifier of the input gives one row of the output, in order: `id` (copied from a column of the input), `kind`,
`epoch`, `tag`, and in place of the tag the code in `error` when it is malformed. Identifiers themselves are never
written. The output is on disk after every batch (of 1000), so a run that was stopped, by whatever, goes on where it
ended: what is there must be what the input gives, a last row that is not whole is cut, and nothing is asked twice.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TextIO

from ledger.client.sdk import RefundLedger
from ledger.client.subjects import Canonical, normalise
from ledger.core.encoding import b64url
from ledger.core.identifiers import Kind
from ledger.core.voprf import MAX_BATCH
from ledger.errors import ConfigurationError, InvalidIdentifier, InvalidRequest, LimitExceeded, StaleEpoch, Unavailable

COLUMNS = ("id", "kind", "epoch", "tag", "error")
ERROR_COLUMNS = ("line", "id", "kind", "code")
KINDS = tuple(kind.value for kind in Kind)
PATIENCE_SECONDS = 600.0
"""An outage that lasts longer ends the run; it can be gone on with."""
_LONGEST_PAUSE_SECONDS = 60.0
_TICK = 1 << 14
"""Rows that are there already between two calls of `progress`."""


@dataclass(frozen=True, slots=True)
class Tagging:
    """What a run has done. `identifiers` rows are in the output, `invalid` of them without a tag; `resumed` of them
    were there before. `finished` is false when the daily quota ended the run, with the seconds until it renews."""

    epoch: int
    identifiers: int = 0
    invalid: int = 0
    resumed: int = 0
    finished: bool = False
    retry_after_seconds: int | None = None


class Cell(NamedTuple):
    """One identifier of the input: where it stands, whose it is, and the raw value."""

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
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
    batch_size: int = MAX_BATCH,
) -> Tagging:
    """Tag every identifier of the CSV file `source` into `target` (see the module), or go on where it ends.

    Columns named after kinds hold identifiers; `id_column` is copied, by default the first other column, else the
    number of the row. `errors` gets line, id, kind and code of what is malformed. Outages are waited out for ten
    minutes. A used-up daily quota ends the run, or with `wait` is waited for.
    Raises InvalidRequest (the table, or an output of another input), ConfigurationError (a file cannot be read or
    written, or another run writes it), StaleEpoch (the output is of a key epoch that is over), Unavailable, and what
    `RefundLedger.subjects_many` raises.
    """
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(source.open("rb"))
            total = os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise ConfigurationError(f"{source.name} cannot be read.") from error
        text = stack.enter_context(io.TextIOWrapper(opened, encoding="utf-8-sig", newline=""))
        cells = read_cells(text, id_column)
        first = next(cells, None)  # refuses a wrong table before anything is written
        out = stack.enter_context(_Table(target, COLUMNS))
        bad = None if errors is None else stack.enter_context(_Table(errors, ERROR_COLUMNS))
        run = _Run(ledger, out, bad, region, ledger.tagging_epoch(epoch), wait, sleep)
        cells = cells if first is None else chain([first], cells)

        def tell(done: Tagging) -> None:
            if progress is not None:
                progress(opened.tell(), total, done)

        run.resume(cells, tell)
        while batch := list(islice(cells, batch_size)):
            if not run.tag(batch):
                return run.done
            tell(run.done)
        return replace(run.done, finished=True)


def read_cells(text: TextIO, id_column: str | None) -> Iterator[Cell]:
    """The identifiers of a CSV table, row by row. Raises InvalidRequest."""
    rows = csv.reader(text, strict=True)
    try:
        header = next(rows, [])
        kinds = [(number, name) for number, name in enumerate(header) if name in KINDS]
        others = [name for name in header if name not in KINDS]
        if not kinds or len(set(header)) != len(header):
            raise InvalidRequest(f"The CSV needs a header with different names, at least one of: {', '.join(KINDS)}.")
        wanted = id_column if id_column is not None else next(iter(others), None)
        if wanted is not None and wanted not in others:
            raise InvalidRequest("--id names a column that is not there or that holds identifiers.")
        place = None if wanted is None else header.index(wanted)
        for number, row in enumerate(rows, 1):
            if row and len(row) != len(header):
                raise InvalidRequest(f"Line {rows.line_num} of the CSV has another number of columns than the header.")
            for column, kind in kinds if row else ():
                if row[column].strip():
                    yield Cell(rows.line_num, str(number) if place is None else row[place], kind, row[column])
    except (csv.Error, UnicodeError) as error:
        raise InvalidRequest(f"The CSV cannot be read as UTF-8 text near line {rows.line_num}.") from error


class _Run:
    """One run over the cells that are left."""

    def __init__(
        self,
        ledger: RefundLedger,
        out: _Table,
        bad: _Table | None,
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
        self.done = Tagging(epoch)

    def resume(self, cells: Iterator[Cell], tell: Callable[[Tagging], None]) -> None:
        """Skip what the output holds already, if it is what these cells give. The errors follow from the output and are
        written anew."""
        count, invalid = 0, 0
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
            if row[4]:
                invalid += 1
                wrong.append((str(cell.line), cell.id, cell.kind, row[4]))
            if count % _TICK == 0:
                tell(replace(self.done, identifiers=count, invalid=invalid, resumed=count))
                wrong = self._write_errors(wrong)
        self._write_errors(wrong)
        self.done = replace(self.done, identifiers=count, invalid=invalid, resumed=count)

    def tag(self, cells: list[Cell]) -> bool:
        """Tag a batch and write it down; False when the daily quota does not cover it."""
        canonical: list[Canonical | str] = [self._canonical(cell) for cell in cells]
        tags = self._tags([[one[0]] for one in canonical if not isinstance(one, str)])
        if tags is None:
            return False
        given = iter(tags)
        epoch = str(self.done.epoch)
        rows: list[tuple[str, ...]] = []
        wrong: list[tuple[str, ...]] = []
        for cell, one in zip(cells, canonical, strict=True):
            code, tag = (one, "") if isinstance(one, str) else ("", next(given))
            rows.append((cell.id, cell.kind, epoch, tag, code))
            if code:
                wrong.append((str(cell.line), cell.id, cell.kind, code))
        self._write_errors(wrong)
        self._out.append(rows)
        done = self.done
        self.done = replace(done, identifiers=done.identifiers + len(rows), invalid=done.invalid + len(wrong))
        return True

    def _write_errors(self, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """An empty list, once `rows` are in the file of errors, if there is one."""
        if self._bad is not None and rows:
            self._bad.append(rows)
        return []

    def _canonical(self, cell: Cell) -> Canonical | str:
        """The identifier, or the code of what is wrong with it."""
        try:
            return normalise({cell.kind: cell.raw}, self._region)
        except InvalidIdentifier as error:
            return error.code

    def _tags(self, people: list[Canonical]) -> list[str] | None:
        """The tag of each, base64url; None when the daily quota does not cover them and is not waited for."""
        waited, pause = 0.0, 1.0
        while people:
            try:
                buyers = self._ledger._tag(people, self.done.epoch)
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


class _Table:
    """A CSV file of mode 0600 that only grows by whole rows. One process at a time."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path = path
        self._width = len(columns)
        self._header = _encode([columns])

    def __enter__(self) -> _Table:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = os.fdopen(descriptor, "r+b")
        except OSError as error:
            raise ConfigurationError(f"{self._path.name} cannot be written.") from error
        try:
            self._claim()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"{self._path.name} is being written by another run.") from error
        start = self._file.read(len(self._header))
        if not self._header.startswith(start):
            raise self._other()
        os.fchmod(self._file.fileno(), 0o600)

    def rows(self) -> Iterator[list[str]]:
        """The rows that are there. When all were read, what follows the last whole one is cut.

        Raises InvalidRequest when the file is not such a table.
        """
        end = self._file.seek(0, os.SEEK_END)
        if end < len(self._header):
            self._cut(0)
            return
        end = self._file.seek(len(self._header))
        try:
            for row, length in _whole_rows(self._file):
                if len(row) != self._width:
                    raise self._other()
                end = len(self._header) + length
                yield row
        except (csv.Error, UnicodeError) as error:
            raise self._other() from error
        self._cut(end)

    def _other(self) -> InvalidRequest:
        return InvalidRequest(f"{self._path.name} exists and is not a table that this command made.")

    def clear(self) -> None:
        """Remove all rows."""
        self._cut(0)

    def append(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Add rows, on disk when this returns. Raises ConfigurationError."""
        try:
            if self._file.seek(0, os.SEEK_END) == 0:
                self._file.write(self._header)
            self._file.write(_encode(rows))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigurationError(f"{self._path.name} cannot be written; is there room on the disk?") from error

    def _cut(self, end: int) -> None:
        self._file.seek(end)
        self._file.truncate()


def _whole_rows(file: BinaryIO) -> Iterator[tuple[list[str], int]]:
    """(row, bytes up to its end) of the CSV rows that follow, up to a last one that is not whole. Raises csv.Error and
    UnicodeError for what is damaged before the end."""
    length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        for line in file:
            if not line.endswith(b"\n"):
                return
            length += len(line)
            yield line.decode("utf-8")

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            if file.read(1):
                raise
            return  # the file ends within quotes
        yield row, length


def _encode(rows: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
