"""PDF documents: headings with an outline, paragraphs, boxes, tables that repeat their header, page numbers.

A4, with one embedded font that is reduced to the characters used. The bytes do not depend on the clock: the same
content and date give the same file. A character that the font lacks is shown by its code, never left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import as_file, files

from fpdf import FPDF

from ledger.referral.lines import lines
from ledger.rules.languages import LANGUAGES

FONT_PACKAGE, FONT_FILE, FONT = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf", "noto"
MARGIN_MM, BOTTOM_MM = 20.0, 20.0
TEXT_PT, SMALL_PT = 10.0, 8.5
HEADING_PT = (15.0, 11.5)
PAIRS_PT = 9.0
LEADING = 1.55
PAD_MM = 1.5
_MM_A_PT = 25.4 / 72
_BLACK, _GREY, _LIGHT, _TINT = (0, 0, 0), (95, 95, 95), (200, 200, 200), (240, 243, 247)

_NARROW = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "..."})
"""Replacements of punctuation for English: in a Chinese font these are as wide as a Chinese character and would split
words."""

Row = Sequence[str]


class _Pages(FPDF):
    """Pages with a page number and the total, and a file identifier that is derived from the content."""

    content: bytes = b""

    def footer(self) -> None:
        self.set_y(-BOTTOM_MM + 6)
        self.set_font(FONT, size=SMALL_PT)
        self.set_text_color(*_GREY)
        self.cell(0, 5, f"{self.page_no()} / {{nb}}", align="C")
        self.set_text_color(*_BLACK)

    def file_id(self) -> str:
        digest = hashlib.sha256(self.content).hexdigest()[:32].upper()
        return f"<{digest}><{digest}>"


class Document:
    """A document that is written from top to bottom. The file's identifier is derived from `content`."""

    def __init__(self, title: str, subject: str, author: str, locale: str, made_at: datetime, content: bytes) -> None:
        self._pdf = _Pages(format="A4", unit="mm")
        self._pdf.content = content
        self._pdf.set_creation_date(made_at)
        self._pdf.set_title(title)
        self._pdf.set_subject(subject)
        self._pdf.set_author(author)
        self._pdf.set_creator("refund-ledger referral")
        self._pdf.set_lang(locale)
        self._wide_quotes = LANGUAGES[locale].wide_quotes
        self._pdf.set_margins(MARGIN_MM, MARGIN_MM, MARGIN_MM)
        self._pdf.set_auto_page_break(False)
        with as_file(files(FONT_PACKAGE) / FONT_FILE) as font:
            self._pdf.add_font(FONT, fname=str(font))
        embedded = self._pdf.fonts[FONT]
        # The reduced font keeps the bounding boxes of the whole font. Measuring the boxes again takes half of the time.
        embedded.ttfont.recalcBBoxes = False  # type: ignore[union-attr]
        self._characters = embedded.cmap.keys()  # type: ignore[union-attr]
        self._pdf.set_draw_color(*_LIGHT)
        self._pdf.add_page()

    def bytes(self) -> bytes:
        """Return the file."""
        return bytes(self._pdf.output())

    def heading(self, text: str, level: int = 0, room_mm: float = 25.0) -> None:
        """Write a heading and add it to the outline, on a page with at least `room_mm` left."""
        size = HEADING_PT[level]
        self._keep(room_mm)
        self._pdf.ln(3 if level else 4)
        self._pdf.start_section(text, level)
        self._write(text, size)
        self._pdf.ln(1)

    def paragraph(self, text: str, small: bool = False, indent_mm: float = 0.0) -> None:
        """Write a paragraph."""
        self._write(text, SMALL_PT if small else TEXT_PT, indent_mm)
        self._pdf.ln(1.2)

    def box(self, paragraphs: Sequence[str]) -> None:
        """Write paragraphs in a frame, all on one page."""
        width = self._pdf.epw - 4 * PAD_MM
        shown = [self._lines(text, width, TEXT_PT) for text in paragraphs]
        step = _step(TEXT_PT)
        height = sum(len(paragraph) * step for paragraph in shown) + PAD_MM * (len(shown) + 1)
        self._keep(height + 2)
        top = self._pdf.get_y()
        self._pdf.set_fill_color(*_TINT)
        self._pdf.rect(MARGIN_MM, top, self._pdf.epw, height, style="DF")
        self._pdf.set_y(top + PAD_MM)
        for paragraph in shown:
            for line in paragraph:
                self._line(line, TEXT_PT, 2 * PAD_MM)
            self._pdf.ln(PAD_MM)
        self._pdf.set_y(top + height + 2)

    def table(self, header: Row, rows: Sequence[Row], shares: Sequence[float]) -> None:
        """Write a table. `shares` are the relative widths of its columns. The header is repeated on each page; a row is
        on one page, unless it is taller than a page."""
        widths = [self._pdf.epw * share / sum(shares) for share in shares]
        head = self._cells(header, widths)
        self._keep(_height(head) + (_height(self._cells(rows[0], widths)) if rows else 0))
        self._row(head, widths, filled=True)
        for row in rows:
            for cells in self._portions(self._cells(row, widths), _height(head)):
                if not self._fits(_height(cells)):
                    self._pdf.add_page()
                    self._row(head, widths, filled=True)
                self._row(cells, widths)
        self._pdf.ln(2.5)

    def pairs(self, rows: Sequence[Row], share: float = 0.28) -> None:
        """Write names and values in two columns."""
        widths = [self._pdf.epw * share, self._pdf.epw * (1 - share)]
        for row in rows:
            for cells in self._portions(self._cells(row, widths, PAIRS_PT), 0):
                self._keep(_height(cells, PAIRS_PT))
                self._row(cells, widths, size=PAIRS_PT, names=True)
        self._pdf.ln(2)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _write(self, text: str, size: float, indent_mm: float = 0.0) -> None:
        for line in self._lines(text, self._pdf.epw - indent_mm, size):
            self._keep(_step(size))
            self._line(line, size, indent_mm)

    def _line(self, line: str, size: float, indent_mm: float) -> None:
        self._pdf.set_font(FONT, size=size)
        self._pdf.set_x(MARGIN_MM + indent_mm)
        self._pdf.cell(0, _step(size), line, new_x="LMARGIN", new_y="NEXT")

    def _lines(self, text: str, width: float, size: float) -> list[str]:
        self._pdf.set_font(FONT, size=size)
        inner = width - 2 * self._pdf.c_margin
        return lines(self._shown(text), inner, self._width)

    def _width(self, text: str) -> float:
        """Return the width of `text` in mm, in the current size. This skips the search of `get_string_width` for
        changes of direction and style, which do not change the width; a document measures thousands of lines."""
        return float(self._pdf.fonts[FONT].get_text_width(text, self._pdf.font_size_pt, None)[1] / self._pdf.k)

    def _shown(self, text: str) -> str:
        plain = text.expandtabs(4) if self._wide_quotes else text.expandtabs(4).translate(_NARROW)
        return "".join([self._glyph(character) for character in plain])

    def _glyph(self, character: str) -> str:
        is_drawn = character == "\n" or ord(character) in self._characters
        return character if is_drawn else f"[U+{ord(character):04X}]"

    def _cells(self, row: Row, widths: Sequence[float], size: float = SMALL_PT) -> list[list[str]]:
        return [self._lines(text, width, size) for text, width in zip(row, widths, strict=True)]

    def _portions(self, cells: list[list[str]], taken: float) -> list[list[list[str]]]:
        """Return a row in portions that fit on a page on which the height `taken` is used."""
        room = self._pdf.h - MARGIN_MM - BOTTOM_MM - taken - 2 * PAD_MM
        most = max(1, int(room / _step(TEXT_PT)))
        count = max(len(cell) for cell in cells)
        return [[cell[start : start + most] for cell in cells] for start in range(0, count, most)]

    def _row(
        self,
        cells: list[list[str]],
        widths: Sequence[float],
        filled: bool = False,
        size: float = SMALL_PT,
        names: bool = False,
    ) -> None:
        top, height = self._pdf.get_y(), _height(cells, size)
        left = MARGIN_MM
        self._pdf.set_fill_color(*_TINT)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            if filled:
                self._pdf.rect(left, top, width, height, style="F")
            self._pdf.set_text_color(*(_GREY if names and number == 0 else _BLACK))
            self._pdf.set_font(FONT, size=size)
            for place, line in enumerate(cell):
                self._pdf.set_xy(left, top + PAD_MM / 2 + place * _step(size))
                self._pdf.cell(width, _step(size), line)
            left += width
        self._pdf.set_text_color(*_BLACK)
        self._pdf.line(MARGIN_MM, top + height, MARGIN_MM + self._pdf.epw, top + height)
        self._pdf.set_xy(MARGIN_MM, top + height)

    def _fits(self, height: float) -> bool:
        return bool(self._pdf.get_y() + height <= self._pdf.h - BOTTOM_MM)

    def _keep(self, height: float) -> None:
        """Start a page if less than `height` is left on this one."""
        if not self._fits(height):
            self._pdf.add_page()


def _step(size: float) -> float:
    return size * _MM_A_PT * LEADING


def _height(cells: Sequence[Sequence[str]], size: float = SMALL_PT) -> float:
    return max(len(cell) for cell in cells) * _step(size) + PAD_MM
