"""Tables that never cut what the next command needs: ids, keys and dates stay whole at every width, and in a pipe.

A column without blanks in its cells (ids, keys, dates, states, numbers) is never wrapped; the others wrap between
words. Where that does not fit into the terminal, each row is printed as lines of a name and a value. In a pipe nothing
is wrapped at all, so that a row is a line.
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
"""The width of what is no terminal: nothing is ever wrapped there."""
LEAST_COLUMNS = 12
"""A column of sentences is not made narrower than this; before that, rows become lists."""
BORDER_COLUMNS = 3
"""What a column of a table needs beside its text: a line and a blank on both sides."""


class Table(RichTable):
    """rich's table, that is laid out as the module says."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as a table if that fits, else as a list."""
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
    """A width for each column, `room` in all at most; None where that would break an id or squeeze sentences."""
    natural = [
        max([_widest(text) for text in (header, *map(str, texts))])
        for header, texts in zip(headers, columns, strict=True)
    ]
    if sum(natural) <= room:
        return natural
    least = []
    for header, texts, wanted in zip(headers, columns, natural, strict=True):
        if any(" " in text.plain for text in texts):
            longest = max([_widest(word) for text in texts for word in text.plain.split() if word.isascii()], default=0)
            least.append(min(wanted, max(LEAST_COLUMNS, longest)))
        else:
            least.append(max([_widest(text) for text in (*header.split(), *map(str, texts))], default=0))
    spare = room - sum(least)
    if spare < 0:
        return None
    while spare:
        growing = [place for place, wanted in enumerate(natural) if least[place] < wanted]
        narrowest = min(growing, key=least.__getitem__)
        least[narrowest] += 1
        spare -= 1
    return least


class Facts:
    """Names and values, one a line. A value wraps between its words, and within words of Chinese, but an id is never
    broken: one that is longer than the terminal is wide goes on in the terminal's next line without a line end."""

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
    """Where to begin new lines in `line`, so that none is wider than `width`, unless it is a single word of ASCII."""
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
    """Names and values for people; None is shown as nothing."""
    shown = {visible(name): "" if value is None else visible(str(value)) for name, value in pairs.items()}
    return Facts([(name, Text(value)) for name, value in shown.items()])


def visible(text: str) -> str:
    """`text` with what a terminal would obey, or not show, as an escape: control characters other than the line end and
    the tabulator, marks that turn the direction of writing, and what is no Unicode text."""
    return _INVISIBLE.sub(lambda match: ascii(match[0])[1:-1], text)


_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _unbroken(console: Console, line: Text) -> Iterator[Segment]:
    """A line as it is, however long."""
    yield from line.render(console, end="\n")


def harmless(shown: Any) -> Any:
    """What is to be printed, with `visible` applied if it is a text."""
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
