"""Plots as SVG, drawn by pygal on the server.

What pygal makes is stripped to shapes and texts with presentation attributes: no script, no style sheet, no style
attribute, nothing from elsewhere. So a plot obeys the pages' content policy also when it is opened by itself. Colours
differ in lightness too (and lines in their dashes), so that they can be told apart without seeing hues.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

import pygal  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

# pygal adds a finder of the kind that Python 3.12 has dropped; older ones warn at every import that comes after it.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

FONT = (
    "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'PingFang SC', 'Hiragino Sans GB', 'Microsoft YaHei', "
    "'Noto Sans CJK SC', 'Noto Sans SC', 'WenQuanYi Micro Hei', sans-serif"
)
INK, QUIET, GUIDE, PAPER = "#1c2530", "#55606e", "#d5dbe3", "#ffffff"
LABEL_PX, LEGEND_PX = 13, 14
SIZES = {"wide": 900, "half": 560, "narrow": 400}
"""Widths in pixels: for a card across the page, for half of one, and for a narrow screen, where the labels of a wider
plot would be too small."""

HEIGHT, LEGEND_LINE = 330, 22

_DASHES = ("", "7 4", "2 3")


class Form(StrEnum):
    """How the numbers are drawn."""

    STACKED = "stacked"
    LINES = "lines"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers of one name and colour; None where there is no number."""

    name: str
    values: Sequence[int | None]
    colour: str


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of a histogram's x axis that is marked."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn. `labels` name the numbers along x; a histogram's steps are `step` wide instead, from 0."""

    form: Form
    title: str
    x_title: str
    labels: Sequence[str]
    series: Sequence[Series]
    step: int = 1
    bands: Sequence[Band] = ()


def draw(plot: Plot, size: str = "wide") -> bytes:
    """The plot as an SVG document, in one of `SIZES`."""
    narrow = size == "narrow"
    names = [one.name for one in plot.series] + [band.name for band in plot.bands]
    chart = _CHARTS[plot.form](
        js=[],
        style=Style(
            font_family=FONT,
            label_font_size=LABEL_PX,
            major_label_font_size=LABEL_PX,
            legend_font_size=LEGEND_PX,
            title_font_size=LABEL_PX,
        ),
        width=SIZES[size],
        height=HEIGHT + LEGEND_LINE * (len(names) if narrow else 0),
        margin=12,
        no_prefix=True,
        show_legend=len(names) > 1,
        legend_at_bottom=True,
        legend_at_bottom_columns=1 if narrow else len(names),
        truncate_legend=-1,
        truncate_label=-1,
        show_minor_x_labels=False,
        include_x_axis=True,
        show_dots=len(plot.labels) <= 60,
        dots_size=3,
        allow_interruptions=True,
        spacing=8,
        x_title=plot.x_title,
    )
    top = _top(plot)
    chart.y_labels = _ticks(top)
    chart.range = (0, chart.y_labels[-1])
    if plot.form is Form.HISTOGRAM:
        _fill_histogram(chart, plot)
    else:
        chart.x_labels = list(plot.labels)
        every = max(1, -(-len(plot.labels) // (SIZES[size] // 95)))
        chart.x_labels_major = [label for place, label in enumerate(plot.labels) if place % every == 0]
        for one in plot.series:
            chart.add(one.name, list(one.values))
    root = chart.render_tree()
    _clean(root, plot, [one.colour for one in plot.series] + ["#c25700"] * len(plot.bands))
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + bytes(ElementTree.tostring(root, encoding="utf-8"))


_CHARTS: dict[Form, Any] = {Form.STACKED: pygal.StackedBar, Form.LINES: pygal.Line, Form.HISTOGRAM: pygal.Histogram}


def _fill_histogram(chart: Any, plot: Plot) -> None:
    step, steps = plot.step, len(plot.labels)
    chart.x_labels = [{"value": place * step, "label": str(place * step)} for place in range(steps + 1)]
    chart.x_labels_major = [place * step for place in range(0, steps + 1, 2)]
    chart.show_minor_x_labels = True
    chart.xrange = (0, steps * step)
    for one in plot.series:
        chart.add(one.name, [(value, i * step, (i + 1) * step) for i, value in enumerate(one.values) if value])
    for band in plot.bands:
        chart.add(band.name, [(chart.y_labels[-1], band.start, band.end)])


def _top(plot: Plot) -> int:
    numbers = [[value or 0 for value in one.values] for one in plot.series]
    if plot.form is Form.STACKED:
        return max((sum(column) for column in zip(*numbers, strict=True)), default=0)
    return max((value for column in numbers for value in column), default=0)


def _ticks(top: int) -> list[int]:
    """Whole numbers from 0 to at least `top`, at most six, with a step of 1, 2 or 5 times a power of 10."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step * 5 >= top:
                return list(range(0, max(top, 1) + step, step))[: max(2, -(-max(top, 1) // step) + 1)]
        size *= 10


# --- from pygal's document to plain shapes ---------------------------------------------------------------------


def _clean(root: Any, plot: Plot, colours: Sequence[str]) -> None:
    _prune(root)
    for group in root.iter("g"):
        classes = _classes(group)
        if "series" in classes:
            number = int(next(name for name in classes if name.startswith("serie-")).removeprefix("serie-"))
            _paint_series(group, colours[number], number, plot, is_band=number >= len(plot.series))
        elif "axis" in classes:
            _paint_axis(group, along_x="x" in classes)
        elif "legend" in classes:
            _paint_legend(group, colours, plot)
        elif "titles" in classes:
            for text in group.iter("text"):
                _set(text, fill=QUIET, font_size=LABEL_PX, text_anchor="middle")
    for rect in root.iter("rect"):
        if "background" in _classes(rect):
            rect.set("fill", PAPER)
    for text in root.iter("text"):
        text.attrib.setdefault("fill", INK)
    for element in root.iter():
        for name in ("class", "style", "id", "rx", "ry"):
            element.attrib.pop(name, None)
    _set(root, font_family=FONT, role="img", width="100%")
    title = ElementTree.Element("title")
    title.text = plot.title
    root.insert(0, title)


def _prune(parent: Any) -> None:
    """Take out what is not drawn: comments, scripts, styles, tooltips and their texts."""
    for child in list(parent):
        tag = child.tag if isinstance(child.tag, str) else ""
        unwanted = tag not in {"g", "path", "rect", "circle", "line", "text"}
        if unwanted or "tooltip" in _classes(child) or "text-overlay" in _classes(child):
            parent.remove(child)
        else:
            _prune(child)


def _paint_series(group: Any, colour: str, number: int, plot: Plot, *, is_band: bool) -> None:
    for shape in group.iter():
        tag = shape.tag
        if tag == "rect" and is_band:
            _set(shape, fill=colour, fill_opacity="0.3", stroke=colour, stroke_width="1")
        elif tag == "rect":
            thin = len(plot.labels) > 60
            _set(shape, fill=colour, stroke=colour if thin else QUIET, stroke_width="0.6")
        elif tag == "circle":
            _set(shape, fill=colour)
        elif tag == "path":
            _set(shape, fill="none", stroke=colour, stroke_width="2.5", stroke_linejoin="round")
            if _DASHES[number % len(_DASHES)]:
                shape.set("stroke-dasharray", _DASHES[number % len(_DASHES)])


def _paint_axis(group: Any, *, along_x: bool) -> None:
    for guides in list(group):
        for shape in list(guides) if _classes(guides) == {"guides"} else []:
            if shape.tag == "text":
                _set(shape, fill=QUIET, font_size=LABEL_PX, text_anchor="middle" if along_x else "end")
            elif along_x:
                guides.remove(shape)
            else:
                _set(shape, fill="none", stroke=QUIET if "axis" in _classes(shape) else GUIDE, stroke_width="1")
        if guides.tag == "path":
            group.remove(guides)


def _paint_legend(group: Any, colours: Sequence[str], plot: Plot) -> None:
    for shape in group:
        if shape.tag == "text":
            _set(shape, fill=INK, font_size=LEGEND_PX)
            continue
        number = int(next(name for name in _classes(shape) if name.startswith("color-")).removeprefix("color-"))
        if number >= len(plot.series):
            _set(shape, fill=colours[number], fill_opacity="0.3", stroke=colours[number])
        else:
            _set(shape, fill=colours[number], stroke=QUIET, stroke_width="0.6")


def _classes(element: Any) -> set[str]:
    return set(str(element.attrib.get("class", "")).split())


def _set(element: Any, **attributes: object) -> None:
    for name, value in attributes.items():
        element.set(name.replace("_", "-"), str(value))
