"""Quantisation tables of a JPEG: whether they are the standard's example, scaled, as most software writes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""ISO/IEC 10918-1, table K.1."""


def _zigzag() -> list[tuple[int, int]]:
    """Return (row, column) in the order of the file: diagonals, up and down in turn."""
    places = [(row, column) for row in range(8) for column in range(8)]
    return sorted(places, key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))


@cache
def _scaled() -> dict[tuple[int, ...], int]:
    """Return the quality by table, scaled as libjpeg does it; at 100 all entries are 1."""
    base = [_LUMINANCE[row][column] for row, column in _zigzag()]
    qualities: dict[tuple[int, ...], int] = {}
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        qualities.setdefault(tuple(min(255, max(1, (entry * scale + 50) // 100)) for entry in base), quality)
    return qualities


def standard_quality(tables: Sequence[tuple[int, ...]]) -> int | None:
    """Return the quality at which the standard's luminance table, scaled, is the first of `tables`; None if none is."""
    return _scaled().get(tables[0]) if tables else None
