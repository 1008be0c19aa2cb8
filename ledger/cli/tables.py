"""Tables whose ids, keys and dates are never cut or wrapped, so that they can be copied into the next command.

A column without blanks in its cells (ids, keys, dates, states, numbers) is never wrapped; other columns wrap between
words. If the table does not fit into the terminal, each row is printed as lines of a name and a value. Output that is
not a terminal is not wrapped, so that a row is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

PIPE_COLUMNS = 100_000
"""Width of an output that is not a terminal."""
LEAST_COLUMNS = 12
"""Smallest width of a column of sentences. If columns would be narrower, rows are printed as lists."""
BORDER_COLUMNS = 3
"""Characters of a column that are not text: a line, and a blank on both sides."""


class Table(RichTable):
    """A rich table with the layout that the module describes."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as a table if it fits, else as lists."""
        cells = [[_text(cell) for cell in column._cells] for column in self.columns]
        headers = [_text(column.header).plain for column in self.columns]
        widths = _widths(headers, cells, options.max_width - 1 - BORDER_COLUMNS * len(cells))
        if widths is not None or not self.rows:
            for place, column in enumerate(self.columns):
                column._cells, column.overflow = list[RenderableType](cells[place]), "fold"
                column.width = None if widths is None else widths[place]
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield _text(self.title)
        for number, row in enumerate(zip(*cells, strict=True)):
            if number:
                yield Text()
            yield Facts([(name, text) for name, text in zip(headers, row, strict=True) if text.plain])


def _widths(headers: Sequence[str], columns: Sequence[Sequence[Text]], room: int) -> list[int] | None:
    """Return a width for each column, at most `room` in total. None if that would break an id or make a column of
    sentences too narrow."""
    natural = [
        max([_widest(text) for text in (header, *map(str, texts))])
        for header, texts in zip(headers, columns, strict=True)
    ]
    if sum(natural) <= room:
        return natural
    least = []
    for header, texts, widest in zip(headers, columns, natural, strict=True):
        if any(" " in text.plain for text in texts):
            longest = max([_widest(word) for text in texts for word in text.plain.split() if word.isascii()], default=0)
            least.append(min(widest, max(LEAST_COLUMNS, longest)))
        else:
            least.append(max([_widest(text) for text in (*header.split(), *map(str, texts))], default=0))
    spare = room - sum(least)
    if spare < 0:
        return None
    while spare:
        growing = [place for place, widest in enumerate(natural) if least[place] < widest]
        narrowest = min(growing, key=least.__getitem__)
        least[narrowest] += 1
        spare -= 1
    return least


class Facts:
    """Names and values, one on a line. A value wraps between words, and between Chinese characters, but an id is never
    broken: if it is longer than the terminal is wide, it continues on the next line without a line end."""

    def __init__(self, pairs: Sequence[tuple[str, Text]]) -> None:
        self._pairs = pairs
        self._names = max([cell_len(name) for name, _ in pairs], default=0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the lines."""
        left = max(1, options.max_width - self._names - 1)
        for name, value in self._pairs:
            lines = [part for line in value.split(allow_blank=True) for part in line.divide(_breaks(line.plain, left))]
            for number, line in enumerate(lines):
                line.rstrip()
                label = name if number == 0 else ""
                shown = Text.assemble((label + " " * (self._names - cell_len(label)), "bold"), " ", line)
                shown.rstrip()
                yield from _unbroken(console, shown)


def _breaks(line: str, width: int) -> list[int]:
    """Return the places at which to break `line`, so that no part is wider than `width` unless it is one word of
    ASCII."""
    places, column = [], 0
    for match in re.finditer(r"\S+\s*|\s+", line):
        wide = cell_len(match[0].rstrip())
        if column and column + wide > width:
            places.append(match.start())
            column = 0
        if wide <= width or match[0].isascii():
            column += cell_len(match[0])
            continue
        for place, character in enumerate(match[0], match.start()):
            if column and column + cell_len(character) > width:
                places.append(place)
                column = 0
            column += cell_len(character)
    return places


def facts(pairs: Mapping[str, object]) -> Facts:
    """Return names and values to print; None is shown as an empty text."""
    shown = {visible(name): "" if value is None else visible(str(value)) for name, value in pairs.items()}
    return Facts([(name, Text(value)) for name, value in shown.items()])


def visible(text: str) -> str:
    """Return `text` with escapes for characters that control a terminal or are invisible: control characters except
    line end and tab, marks of writing direction, and characters that are not Unicode text."""
    return _INVISIBLE.sub(lambda match: ascii(match[0])[1:-1], text)


_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _unbroken(console: Console, line: Text) -> Iterator[Segment]:
    """Render a line of any length without breaking it."""
    yield from line.render(console, end="\n")


def harmless(shown: Any) -> Any:
    """Return `shown`, with `visible` applied if it is a text."""
    if isinstance(shown, str):
        return visible(shown)
    if isinstance(shown, Text) and _INVISIBLE.search(shown.plain):
        return Text(visible(shown.plain), shown.style)
    return shown


def _text(cell: RenderableType | None) -> Text:
    if isinstance(cell, Text | str):
        safe = harmless(cell)
        return safe if isinstance(safe, Text) else Text.from_markup(safe)
    return Text("" if cell is None else visible(str(cell)))


def _widest(text: str) -> int:
    return max([cell_len(line) for line in text.splitlines()], default=0)
