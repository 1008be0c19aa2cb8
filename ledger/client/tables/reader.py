"""Strict reading of delimited text tables (RFC 4180): one reader for every table that the commands take.

A table is read twice: `check` reads all of it, so that what is not understood is refused before anything is written,
and `records` reads it again, row by row, in bounded memory. What cannot be read twice (standard input, a pipe) is kept
in memory or in an unnamed temporary file of mode 0600.

Errors name line, column and what is wrong, never a value: a cell may hold an identifier, and so may the first line of a
file without a header. They are not chained to errors of a codec or of a JSON parser, which hold the input.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, cast

from ledger.errors import ConfigurationError, InvalidTable

MAX_CELL_CHARS = 65_536
MAX_ROW_CHARS = 1 << 20
MAX_COLUMNS = 1_000
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
"""By name, as `--delimiter` takes them."""
_SPOOL_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 16
_LISTED_LINES = 10
"""Lines of the wrong width that a message names."""
_FOREIGN_UTF8 = 8
"""This number of different characters that are valid UTF-8 shows that the file is UTF-8, whatever encoding was
given."""

_ENCODINGS = {
    "ascii": "ascii", "us-ascii": "ascii",
    "utf-8": "utf-8", "utf8": "utf-8", "utf-8-sig": "utf-8",
    "utf-16": "utf-16", "utf16": "utf-16", "utf-16le": "utf-16-le", "utf-16-le": "utf-16-le",
    "utf-16be": "utf-16-be", "utf-16-be": "utf-16-be",
    "gbk": "gb18030", "cp936": "gb18030", "gb2312": "gb18030", "gb18030": "gb18030",
    "big5": "cp950", "cp950": "cp950", "big5-hkscs": "big5hkscs", "big5hkscs": "big5hkscs",
    "shift-jis": "cp932", "sjis": "cp932", "cp932": "cp932", "euc-jp": "euc_jp", "euc-kr": "cp949", "cp949": "cp949",
    "latin-1": "iso8859-1", "latin1": "iso8859-1",
    **{f"iso-8859-{number}": f"iso8859-{number}" for number in range(1, 17) if number != 12},
    **{f"windows-{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"cp{number}": f"cp{number}" for number in range(1250, 1259)},
    "koi8-r": "koi8-r", "koi8-u": "koi8-u", "tis-620": "tis-620",
}  # fmt: skip
_UNICODE = frozenset({"utf-8", "utf-16", "utf-16-le", "utf-16-be"})


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How a table is written. `encoding` is a common name such as `utf-8` or `gb18030`; `delimiter` is one of
    DELIMITERS' characters, or None to find it in the header; `columns` maps kinds or fields to the table's own headers:
    {"phone": "手机号"}."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


class TableRecord(NamedTuple):
    """One row: its number (1 for the first after the header, blank lines counted), the line of the file on which it
    ends, and its cells."""

    number: int
    line: int
    cells: list[str]


def codec_of(encoding: str) -> str:
    """Return Python's name of a supported text encoding. Raises InvalidTable."""
    name = _ENCODINGS.get(encoding.strip().lower().replace("_", "-"))
    if name is None:
        raise InvalidTable(
            "Unknown encoding. Known ones are: utf-8, utf-16, gb18030, gbk, big5, windows-1252 and such."
        )
    return name


def delimiter_of(text: str | None) -> str | None:
    """Return the delimiter that a name or the character itself stands for. Raises InvalidTable."""
    if text is None or text in DELIMITERS.values():
        return text
    delimiter = DELIMITERS.get(text.strip().lower()) or (DELIMITERS["tab"] if text == "\\t" else None)
    if delimiter is None:
        raise InvalidTable("A delimiter is comma, semicolon or tab.")
    return delimiter


def normal_name(header: str) -> str:
    """Return the form in which headers are compared: Unicode NFKC, without invisible characters and blanks around it,
    small letters, one underscore for each run of blanks, hyphens and underscores."""
    text = unicodedata.normalize("NFKC", header)
    visible = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Cc"))
    return re.sub(r"[\s_-]+", "_", visible.strip()).casefold()


# --- opening ----------------------------------------------------------------------------------------------------------


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Return `source` as a binary file that can be read twice: a pipe or standard input is kept, at most 8 MiB of it in
    memory and the rest in a temporary file without a name. Raises ConfigurationError."""
    name = source.name if isinstance(source, Path) else "Standard input"
    try:
        file = source.open("rb") if isinstance(source, Path) else source
        whole = file.seekable() and file.tell() == 0
    except (OSError, ValueError):
        raise ConfigurationError(f"{name} cannot be read.") from None
    try:
        if whole:
            yield file
            return
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as kept:
            try:
                shutil.copyfileobj(file, kept)
            except (OSError, ValueError):
                raise ConfigurationError(f"{name} cannot be read.") from None
            kept.seek(0)
            yield cast("BinaryIO", kept)
    finally:
        if isinstance(source, Path):
            file.close()


# --- characters and lines ---------------------------------------------------------------------------------------------


_ENDS = re.compile(r'["\r\n]')


class _Broken:
    """Follows the last character that can be decoded."""


def _decoded(file: BinaryIO, codec: str) -> Iterator[str | _Broken]:
    """Return the text in pieces, then `_Broken` if there are bytes that the codec does not know."""
    decoder = codecs.getincrementaldecoder(codec)()
    while True:
        try:
            data = file.read(_CHUNK_BYTES)
        except OSError:
            data = None
        if data is None:
            raise ConfigurationError("The table cannot be read to its end.")
        state = decoder.getstate()
        text = _try_decoding(decoder, data, not data)
        if text is None:
            decoder.setstate(state)
            yield _good_beginning(decoder, data)
            yield _Broken()
            return
        yield text
        if not data:
            return


def _try_decoding(decoder: codecs.IncrementalDecoder, data: bytes, final: bool) -> str | None:
    # Without the exception, which holds the bytes: one chained to it would carry identifiers into a traceback.
    try:
        return decoder.decode(data, final)
    except UnicodeError:
        return None


def _good_beginning(decoder: codecs.IncrementalDecoder, data: bytes) -> str:
    """Return the part of `data` before the first byte that cannot be decoded."""
    good = []
    for place in range(len(data)):
        text = _try_decoding(decoder, data[place : place + 1], False)
        if text is None:
            break
        good.append(text)
    return "".join(good)


class _Lines:
    """The physical lines of a text with their ends, split at `end` only. `number` is that of the last one."""

    def __init__(self, pieces: Iterable[str | _Broken], hint: str, end: str) -> None:
        self._pieces = iter(pieces)
        self._hint = hint
        self._text = ""
        self._place = 0
        self._over = False
        self.end = end
        self.number = 0
        if self._more() and self._text.startswith("\ufeff"):
            self._text = self._text[1:]

    def _more(self) -> bool:
        """Read on; False at the end of the text."""
        for piece in self._pieces:
            if isinstance(piece, _Broken):
                line = self.number + 1 + self._text.count(self.end, self._place)
                last = self._text.rfind(self.end, self._place)
                start = self._place if last < 0 else last + 1
                _refuse(
                    f"cannot be read in the given encoding. {self._hint}", line, character=len(self._text) - start + 1
                )
            if piece:
                self._text = self._text[self._place :] + piece
                self._place = 0
                return True
        self._over = True
        return False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        searched = self._place
        while True:
            end = self._text.find(self.end, searched)
            if end >= 0:
                break
            if len(self._text) - self._place > MAX_ROW_CHARS:
                _refuse(f"is longer than {MAX_ROW_CHARS:,} characters", self.number + 1)
            searched = len(self._text) - self._place
            if self._over or not self._more():
                end = len(self._text) - 1
                break
        line = self._text[self._place : end + 1]
        if not line:
            raise StopIteration
        self._place = end + 1
        self.number += 1
        return line

    def header(self) -> tuple[str, str]:
        """Return the first row as it is written, and what ends it: a carriage return alone, or else a line feed."""
        quoted, place = False, 0
        while place <= MAX_ROW_CHARS:
            match = _ENDS.search(self._text, place)
            if match is None:
                place = len(self._text)
                if not self._more():
                    return self._text, "\n"
                continue
            place = match.start()
            if match[0] == '"':
                quoted = not quoted
            elif match[0] == "\n" and not quoted:
                return self._text[:place], "\n"
            elif match[0] == "\r" and not quoted:
                if place + 1 == len(self._text):
                    self._more()
                alone = self._text[place + 1 : place + 2] not in ("\n", "")
                return self._text[:place], "\r" if alone else "\n"
            place += 1
        _refuse(f"is longer than {MAX_ROW_CHARS:,} characters; the table needs a line with the names of its columns", 1)


def _refuse(
    what: str, line: int, *, column: int | None = None, character: int | None = None, **details: object
) -> NoReturn:
    """Raise InvalidTable: "Line 3, column 2: <what>"."""
    place: dict[str, object] = {"line": line, **details}
    text = f"Line {line}"
    if column is not None:
        place["column"] = column
        text += f", column {column}"
    if character is not None:
        place["character"] = character
        text += f", character {character}"
    raise InvalidTable(f"{text}: {what.rstrip('.')}.", **place)


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of(lines: _Lines | Iterator[str], delimiter: str, end: str = "\n") -> Iterator[tuple[int, list[str]]]:
    """Return (line on which it ends, cells) of each row, blank lines as rows without cells. Raises InvalidTable."""
    number = 0
    for line in lines:
        number += 1
        if '"' not in line:
            yield number, _plain_cells(line, delimiter, end, number)
            continue
        cells, number = _quoted_cells(line, lines, delimiter, end, number)
        yield number, cells


def _plain_cells(line: str, delimiter: str, end: str, number: int) -> list[str]:
    text = _without_end(line, end)
    if not text:
        return []
    cells = text.split(delimiter)
    for wrong, what in _WRONG_CHARACTERS:
        if wrong in text:
            place = text.index(wrong)
            _refuse(what, number, column=text.count(delimiter, 0, place) + 1, character=place + 1)
    if len(text) > MAX_CELL_CHARS:
        _check_sizes(cells, number)
    return cells


_NUL = "holds the character NUL; is it UTF-16, or no text at all?"
_WRONG_CHARACTERS = (
    ("\0", _NUL),
    ("\r", "holds a carriage return outside quotes; lines end in LF or CRLF, or all of them in CR"),
    ("\n", "holds a line feed outside quotes; lines end in LF or CRLF, or all of them in CR"),
)


def _without_end(line: str, end: str) -> str:
    text = line.removesuffix(end)
    return text.removesuffix("\r") if end == "\n" else text


def _check_sizes(cells: Sequence[str], number: int) -> None:
    for column, cell in enumerate(cells, 1):
        if len(cell) > MAX_CELL_CHARS:
            _refuse(f"holds more than {MAX_CELL_CHARS:,} characters", number, column=column)


def _quoted_cells(text: str, lines: Iterator[str], delimiter: str, end: str, number: int) -> tuple[list[str], int]:
    """Return the cells of a row that has quotes, with as many further lines as it takes, and the number of the last
    line."""
    first, start_of_line = number, 0
    cells: list[str] = []
    place = 0
    opened_at = (number, 1)

    def refuse(what: str, at: int) -> NoReturn:
        _refuse(what, number, column=len(cells) + 1, character=at - start_of_line + 1)

    while True:
        if text[place : place + 1] == '"':
            opened_at = (number, place - start_of_line + 1)
            parts: list[str] = []
            place += 1
            while True:
                closing = text.find('"', place)
                if closing < 0:
                    if len(text) - place > MAX_CELL_CHARS or len(text) > MAX_ROW_CHARS:
                        _refuse(
                            f"opens a quote that is not closed within {MAX_CELL_CHARS:,} characters",
                            opened_at[0], column=len(cells) + 1, character=opened_at[1],
                        )  # fmt: skip
                    more = next(lines, None)
                    if more is None:
                        _refuse(
                            "opens a quote that is never closed",
                            opened_at[0], column=len(cells) + 1, character=opened_at[1], unclosed=True,
                        )  # fmt: skip
                    number += 1
                    start_of_line = len(text)
                    text += more
                    continue
                parts.append(text[place:closing])
                place = closing + 1
                if text[place : place + 1] != '"':
                    break
                parts.append('"')
                place += 1
            cell = "".join(parts)
        else:
            stop = text.find(delimiter, place)
            cell = text[place:] if stop < 0 else text[place:stop]
            if stop < 0:
                cell = _without_end(cell, end)
            if '"' in cell:
                refuse("holds a quote inside a cell that does not begin with one", place + cell.index('"'))
            for wrong, what in _WRONG_CHARACTERS[1:]:
                if wrong in cell:
                    refuse(what, place + cell.index(wrong))
            place += len(cell)
        if "\0" in cell:
            refuse(_NUL, place)
        if len(cell) > MAX_CELL_CHARS:
            refuse(f"holds more than {MAX_CELL_CHARS:,} characters", place)
        rest = text[place : place + 1]
        if rest == delimiter:
            cells.append(cell)
            place += 1
            continue
        if _without_end(text[place:], end):
            since = f"; the quote was opened in line {opened_at[0]}" if opened_at[0] != number else ""
            refuse(f"goes on after a closing quote{since}", place)
        cells.append(cell)
        if len(text) > MAX_ROW_CHARS:
            _refuse(f"begins a row of more than {MAX_ROW_CHARS:,} characters", first)
        return cells, number


def read_text(file: BinaryIO, encoding: str, limit_bytes: int) -> str:
    """Return a whole file as text, without a byte order mark. Raises InvalidTable with line and character of what
    cannot be decoded, and for more than `limit_bytes`."""
    codec = codec_of(encoding)
    _check_mark(file, codec)
    pieces: list[str] = []
    for piece in _decoded(file, codec):
        if isinstance(piece, _Broken):
            text = "".join(pieces)
            place = len(text) - text.rfind("\n")
            what = f"cannot be read in the given encoding. {_encoding_hint(codec)}"
            _refuse(what, text.count("\n") + 1, character=place)
        pieces.append(piece)
        if file.tell() > limit_bytes:
            raise InvalidTable(f"The file is larger than {limit_bytes >> 20} MiB.")
    return "".join(pieces).removeprefix("\ufeff")


def _check_mark(file: BinaryIO, codec: str) -> None:
    """Raise InvalidTable when the file begins with the mark of another encoding; `file` is at its beginning then."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    utf_16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if start.startswith(codecs.BOM_UTF8) and codec != "utf-8":
        raise InvalidTable("The file begins with the mark of UTF-8: leave --encoding out.", line=1)
    if utf_16 and not codec.startswith("utf-16"):
        raise InvalidTable("The file begins with the mark of UTF-16: give --encoding utf-16.", line=1)
    if codec == "utf-16" and not utf_16:
        raise InvalidTable("UTF-16 without its mark: give --encoding utf-16-le or utf-16-be.", line=1)


# --- a table ----------------------------------------------------------------------------------------------------------


class TableFile:
    """A table in a file that can be read twice. `names` are the trimmed headers, `delimiter` is the one given or found.

    Raises InvalidTable for a header that is missing, doubled, nameless or ambiguous.
    """

    def __init__(self, file: BinaryIO, form: TableFormat) -> None:
        self._file = file
        self._codec = codec_of(form.encoding)
        self._end = "\n"
        lines = self._lines()
        written, self._end = lines.header()
        lines.end = self._end
        self.delimiter = delimiter_of(form.delimiter) or _found_delimiter(written)
        _, header = next(rows_of(lines, self.delimiter, self._end), (1, []))
        self.names = tuple([_trimmed(name) for name in header])
        self._check_header()

    def _lines(self) -> _Lines:
        codec = self._codec
        _check_mark(self._file, codec)
        return _Lines(_decoded(self._file, codec), _encoding_hint(codec), self._end)

    def _check_header(self) -> None:
        if not self.names:
            raise InvalidTable("Line 1: there is no name of a column; is the table empty?", line=1)
        if len(self.names) > MAX_COLUMNS:
            raise InvalidTable(f"Line 1: the table has more than {MAX_COLUMNS:,} columns.", line=1)
        seen: dict[str, int] = {}
        for column, name in enumerate(self.names, 1):
            normal = normal_name(name)
            if not normal:
                _refuse("has no name", 1, column=column)
            if "\n" in name or "\r" in name:  # the name is printed above a copied column
                _refuse("has a line end in its name; is a quote missing or too many?", 1, column=column)
            if normal in seen:
                _refuse(f"has the same name as column {seen[normal]}", 1, column=column)
            seen[normal] = column

    def place(self, name: str) -> int | None:
        """Return the index of the column of that name, compared by `normal_name`."""
        normal = normal_name(name)
        return next((at for at, header in enumerate(self.names) if normal_name(header) == normal), None)

    def size_bytes(self) -> int:
        """Return the size of the file."""
        place = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(place)
        return size

    def read_bytes(self) -> int:
        """Return how much of the file has been read."""
        return self._file.tell()

    def records(self, limit: int | None = None) -> Iterator[TableRecord]:
        """Return the rows after the header, from the beginning, at most `limit`; blank lines are left out.

        Rows of another width than the header's are collected, and refused at the end. Raises InvalidTable.
        """
        lines = self._lines()
        rows = rows_of(lines, self.delimiter, self._end)
        next(rows, None)
        width = len(self.names)
        wrong: list[int] = []
        wrongs, cells_of_first, good = 0, 0, 0
        for number, (line, cells) in enumerate(rows, 1):
            if not cells:
                continue
            if len(cells) != width:
                cells_of_first = cells_of_first or len(cells)
                wrongs += 1
                if len(wrong) < _LISTED_LINES:
                    wrong.append(line)
                continue
            yield TableRecord(number, line, cells)
            good += 1
            if good == limit:
                break
        if wrong:
            _refuse_width(wrong, wrongs, cells_of_first, width)

    def check_encoding(self) -> None:
        """Check that a table with another encoding than UTF-8 in its format is not UTF-8 text after all.

        Raises InvalidTable if the whole file decodes as UTF-8 and has at least `_FOREIGN_UTF8` different characters
        outside ASCII: text of another encoding decodes like that only by a very unlikely chance.
        """
        if self._codec in _UNICODE:
            return
        self._file.seek(0)
        seen: set[str] = set()
        for piece in _decoded(self._file, "utf-8"):
            if isinstance(piece, _Broken):
                return
            if not piece.isascii():
                seen |= {char for char in piece if not char.isascii()}
        if len(seen) >= _FOREIGN_UTF8:
            raise InvalidTable("The table is UTF-8, not what --encoding says: leave --encoding out.")


def _refuse_width(lines: Sequence[int], count: int, cells: int, width: int) -> NoReturn:
    others = ""
    if count > 1:
        listed = ", ".join(str(line) for line in lines[1:])
        others = f"; {count - 1} more rows are wrong too, in lines {listed}{', ...' if count > len(lines) else ''}"
    raise InvalidTable(
        f"Line {lines[0]}: the row has {cells} cells, the header has {width}{others}.",
        line=lines[0], column=min(cells, width) + 1, lines=list(lines), rows=count,
    )  # fmt: skip


def _trimmed(name: str) -> str:
    return name.strip().strip("\ufeff\u200b\u200e\u200f").strip()


def _encoding_hint(codec: str) -> str:
    if codec == "utf-8":
        return "Is it from Excel in China? Give --encoding gb18030, or save it as CSV UTF-8."
    return "Is it in UTF-8? Then leave --encoding out."


def _found_delimiter(header: str) -> str:
    """Return the one delimiter in the header outside quotes; a comma when the header is one name."""
    outside = re.sub(r'"[^"]*"?', "", header)
    delimiters = {char for char in DELIMITERS.values() if char in outside}
    if len(delimiters) > 1:
        names = " and ".join(name for name, char in DELIMITERS.items() if char in delimiters)
        raise InvalidTable(f"The header has {names}: say with --delimiter which of them separates columns.", line=1)
    return delimiters.pop() if delimiters else ","
