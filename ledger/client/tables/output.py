"""Output tables: CSV that every strict reader reads back, in files of mode 0600 that only grow by whole rows."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ledger.client.tables.reader import rows_of
from ledger.errors import ConfigurationError, InvalidRequest, InvalidTable

_NEEDS_QUOTES = frozenset(',"\r\n')


def encode_rows(rows: Iterable[Sequence[str]], end: str = "\n") -> bytes:
    """Return rows as CSV in UTF-8. A cell with a comma, a quote or any line end is quoted, also a lone carriage return,
    which `csv.writer` before Python 3.13 leaves bare where rows end in a line feed."""
    return "".join([",".join([_cell(cell) for cell in row]) + end for row in rows]).encode()


def _cell(text: str) -> str:
    return text if _NEEDS_QUOTES.isdisjoint(text) else '"' + text.replace('"', '""') + '"'


class OutputTable:
    """A CSV file of mode 0600 that only grows by whole rows. One process at a time.

    Entering raises ConfigurationError (cannot be written, or another run writes it) and InvalidRequest (the file is
    there and does not begin with these columns).
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path = path
        self._width = len(columns)
        self._header = encode_rows([columns])

    def __enter__(self) -> OutputTable:
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
        """Return the rows that are there. When all were read, what follows the last whole one is cut.

        Raises InvalidRequest when the file is not such a table.
        """
        end = self._file.seek(0, os.SEEK_END)
        if end < len(self._header):
            self._cut(0)
            return
        end = self._file.seek(len(self._header))
        damaged = False
        try:
            for row, length in _whole_rows(self._file):
                if len(row) != self._width:
                    raise self._other()
                end = len(self._header) + length
                yield row
        except (InvalidTable, UnicodeError):
            damaged = True
        if damaged:  # raised here, so that nothing of the file is chained to the error
            raise self._other()
        self._cut(end)

    def _other(self) -> InvalidRequest:
        return InvalidRequest(f"{self._path.name} exists and is not a table that this command made.")

    def clear(self) -> None:
        """Remove all rows."""
        self._cut(0)

    def append(self, rows: Iterable[Sequence[str]]) -> None:
        """Add rows, on disk when this returns. Raises ConfigurationError."""
        try:
            if self._file.seek(0, os.SEEK_END) == 0:
                self._file.write(self._header)
            self._file.write(encode_rows(rows))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigurationError(f"{self._path.name} cannot be written; is there room on the disk?") from error

    def _cut(self, end: int) -> None:
        self._file.seek(end)
        self._file.truncate()


def _whole_rows(file: BinaryIO) -> Iterator[tuple[list[str], int]]:
    """Return (row, bytes up to its end) of the CSV rows that follow, up to a last one that is not whole. Raises
    InvalidTable and UnicodeError for what is damaged before the end."""
    length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        for line in file:
            if not line.endswith(b"\n"):
                return
            length += len(line)
            yield line.decode("utf-8")

    rows = rows_of(lines(), ",")
    while True:
        try:
            _, row = next(rows)
        except StopIteration:
            return
        except InvalidTable as error:
            if "unclosed" not in error.details:
                raise
            return  # the file ends within quotes
        yield row, length
