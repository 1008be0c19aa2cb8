"""Plots as SVG documents: the layout of each form, in pixels. The template `plot.svg.html` writes it down.

A document has shapes and texts with presentation attributes only: no script, no style sheet, no style attribute, no
link. So it obeys the content policy of the pages also when it is opened by itself. Colours differ in lightness too, and
lines in their dashes, so that they can be distinguished without seeing hues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.web.pages import environment
from ledger.rules.languages import DEFAULT_LOCALE

SIZES = {"wide": 900, "half": 560, "narrow": 400}
"""Widths in pixels: for a card across the page, for half of one, and for a narrow screen, where the labels of a wider
plot would be too small."""

HEIGHT = 330
_ROW = 22
_MARGIN = 12
_DIGIT = 8
_LABEL_WIDTH = 95
_MANY = 60
"""Columns from which on bars have no gaps and points no dots."""

_DASHES = ("", "7 4", "2 3")
_BAND_COLOUR = "#c25700"


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
    """A marked range of a histogram's x axis, in the unit of its labels."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Plot:
    """The content of a plot. `labels` name the columns along x; those of a histogram are `step` wide, from 0."""

    form: Form
    title: str
    x_title: str
    labels: Sequence[str]
    series: Sequence[Series]
    step: int = 1
    bands: Sequence[Band] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `x` and `y` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through the points of a series: SVG path data, and the points that have a dot."""

    path: str
    dots: Sequence[tuple[float, float]]
    colour: str
    dashes: str


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the legend; `curve` has its dashes, None for bars and bands."""

    x: float
    y: float
    name: str
    colour: str
    is_band: bool
    dashes: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """A plot in pixels. Guides and labels are (position, text); the first guide is the x axis."""

    title: str
    x_title: str
    width: int
    height: int
    left: int
    right: int
    bottom: int
    has_gaps: bool
    guides: Sequence[tuple[float, str]]
    labels: Sequence[tuple[float, str]]
    bars: Sequence[Bar]
    bands: Sequence[Bar]
    curves: Sequence[Curve]
    legend: Sequence[Key]


def draw(plot: Plot, size: str = "wide") -> bytes:
    """Return the plot as an SVG document, in one of `SIZES`."""
    template = environment("/console", DEFAULT_LOCALE).get_template("plot.svg.html")
    return template.render(plot=_layout(plot, size)).encode()


def _layout(plot: Plot, size: str) -> Layout:
    ticks = _ticks(_top(plot))
    count = len(plot.series) + len(plot.bands)
    rows = 0 if count < 2 else count if size == "narrow" else 1
    width, height = SIZES[size], HEIGHT + (_ROW * rows if size == "narrow" else 0)
    left, right = 2 * _MARGIN + _DIGIT * len(str(ticks[-1])), width - _MARGIN
    bottom = height - _ROW * (2 + rows) - _MARGIN
    column = (right - left) / len(plot.labels)

    def y_of(value: float) -> float:
        return round(bottom - (bottom - _MARGIN) * value / ticks[-1], 1)

    def x_of(columns: float) -> float:
        return round(left + column * columns, 1)

    bars, bands, curves = [], [], []
    if plot.form is Form.LINES:
        curves = [
            _curve([None if value is None else (x_of(i + 0.5), y_of(value)) for i, value in enumerate(series.values)],
                   series.colour, _DASHES[number % len(_DASHES)])
            for number, series in enumerate(plot.series)
        ]  # fmt: skip
    else:
        gap = 0.0 if plot.form is Form.HISTOGRAM or len(plot.labels) > _MANY else 0.06
        below = [0] * len(plot.labels)
        for series in plot.series:
            for i, value in enumerate(series.values):
                if value:
                    start, end = x_of(i + gap), x_of(i + 1 - gap)
                    low, high = y_of(below[i]), y_of(below[i] + value)
                    bars.append(Bar(start, high, round(end - start, 1), round(low - high, 1), series.colour))
                    below[i] += value
        for band in plot.bands:
            start, end = x_of(band.start / plot.step), x_of(band.end / plot.step)
            bands.append(Bar(start, _MARGIN, round(end - start, 1), bottom - _MARGIN, _BAND_COLOUR))
    return Layout(
        title=plot.title,
        x_title=plot.x_title,
        width=width,
        height=height,
        left=left,
        right=right,
        bottom=bottom,
        has_gaps=len(plot.labels) <= _MANY,
        guides=[(y_of(tick), str(tick)) for tick in ticks],
        labels=[(x_of(place), text) for place, text in _labels(plot, width)],
        bars=bars,
        bands=bands,
        curves=curves,
        legend=_legend(plot, left, right, height, rows),
    )


def _labels(plot: Plot, width: int) -> list[tuple[float, str]]:
    """Return the labels along x with their places in columns: those at a histogram's steps, else as many as fit, each
    below the middle of its column."""
    if plot.form is Form.HISTOGRAM:
        return [(place, str(place * plot.step)) for place in range(len(plot.labels) + 1)]
    every = max(1, -(-len(plot.labels) // (width // _LABEL_WIDTH)))
    return [(place + 0.5, label) for place, label in enumerate(plot.labels) if place % every == 0]


def _curve(points: Sequence[tuple[float, float] | None], colour: str, dashes: str) -> Curve:
    """Return the line through `points`, interrupted where there is none."""
    path, command = "", "M"
    for point in points:
        path += "" if point is None else f"{command}{point[0]} {point[1]}"
        command = "M" if point is None else "L"
    dots = [point for point in points if point is not None] if len(points) <= _MANY else []
    return Curve(path, dots, colour, dashes)


def _legend(plot: Plot, left: int, right: int, height: int, rows: int) -> list[Key]:
    """Return the legend's entries, in one row or one below the other; none for a single series."""
    lines = plot.form is Form.LINES
    entries = [
        *((series.name, series.colour, _DASHES[i % 3] if lines else None) for i, series in enumerate(plot.series)),
        *((band.name, _BAND_COLOUR, None) for band in plot.bands),
    ]
    column = (right - left) / max(1, len(entries))
    legend = []
    for number, (name, colour, dashes) in enumerate(entries if rows else []):
        x = left if rows > 1 else left + column * number
        y = height - _MARGIN - _ROW * (rows - 1 - number if rows > 1 else 0)
        legend.append(Key(round(x, 1), y, name, colour, number >= len(plot.series), dashes))
    return legend


def _top(plot: Plot) -> int:
    numbers = [[value or 0 for value in series.values] for series in plot.series]
    if plot.form is Form.STACKED:
        return max((sum(column) for column in zip(*numbers, strict=True)), default=0)
    return max((value for column in numbers for value in column), default=0)


def _ticks(top: int) -> list[int]:
    """Return whole numbers from 0 to at least `top`, at most six, with a step of 1, 2 or 5 times a power of 10."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step * 5 >= top:
                return list(range(0, max(top, 1) + step, step))[: max(2, -(-max(top, 1) // step) + 1)]
        size *= 10
