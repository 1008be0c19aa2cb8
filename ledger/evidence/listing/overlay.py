"""Two pictures laid upon one another: whether they agree, cell by cell, and where they were changed.

The listing is transformed to its position in the claim, at the coarser resolution of the two, and its colours are
fitted to the claim's as a whole. Nothing local is adjusted: different light is a sign of another photograph. Then
nearly every cell with structure must agree, except for a limited region, which is the change.

Needs OpenCV. Arrays are RGB, 8 bits, rows first; a map is 2 x 3 and takes points of the listing to the claim.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ledger.evidence.listing.registration import Bytes, Floats, Map, Mask, scale_of, shrunk

MIN_OVERLAP_PERCENT = 10
"""Of the claim and of the listing, what must be the common part at least."""

_FRAME_SIDE = 512
_SMOOTH = 0.8
_MIN_CELL, _MAX_CELL, _CELLS_ALONG = 8, 16, 24
_STRUCTURE = 4.0
"""Spread of brightness (of 255) from which on a cell has something in it."""

_LOST_FROM, _LOST_SHARE, _LOST_TOGETHER = 4.0, 0.6, 3
_BLACK, _WHITE = 8.0, 240.0
_TOUCHED = 0.05
_MIN_CORRELATION = 0.9
MIN_AGREEING_CELLS = 8
MIN_AGREEING_PERCENT = 95
"""Of the cells with something in them that lie outside the changed region."""

MIN_KEPT_PERCENT = 33
"""Of all cells with something in them, those that agree: the changed region must not hold most of what there is."""

MAX_CHANGED_PERCENT = 33
MAX_UNEVEN = 4.0
"""How much brightness may differ in broad areas (of 255, median): copies are lit alike, new photographs are not."""

_CHANGED = 18.0
"""A difference of brightness (of 255) that is a change. Compression at quality 40 stays below it."""

_CHANGED_COLOUR = 36.0
"""The same for red, green and blue each: filters that saturate colours bend them one by one."""

_MIN_SPECK_PX = 12
_MIN_SPECK_PERCENT = 0.04
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_ROUNDS = 8
_SAMPLES = 10_000
_DEAR = 1e-4
_ALLOWANCE, _GIVEN_UP = 0.02, 0.1
_BROAD = 16
"""Broad areas are a sixteenth of the longer side wide."""


@dataclass(frozen=True, slots=True)
class PictureAgreement:
    """Two pictures laid upon each other, in a frame of the claim's shape.

    `overlap` is where both are, `changed` where they differ there; counts are of cells with something in them:
    `structured` in all, `kept` of them outside `changed`, `agreeing` of those. `uneven` is how much the brightness of
    broad areas differs, of 255.
    """

    overlap: Mask
    changed: Mask
    structured: int
    kept: int
    agreeing: int
    uneven: float
    listing_overlap_percent: float

    @property
    def overlap_percent(self) -> float:
        """The share of the claim that is in the listing."""
        return 100 * float(self.overlap.mean())

    @property
    def changed_percent(self) -> float:
        """The share of the overlap that was changed."""
        return 100 * float(self.changed.sum()) / max(1, int(self.overlap.sum()))

    @property
    def holds(self) -> bool:
        """True if one was made from the other, as far as pixels show it."""
        return (
            min(self.overlap_percent, self.listing_overlap_percent) >= MIN_OVERLAP_PERCENT
            and self.changed_percent <= MAX_CHANGED_PERCENT
            and self.uneven <= MAX_UNEVEN
            and self.agreeing >= MIN_AGREEING_CELLS
            and 100 * self.agreeing >= MIN_AGREEING_PERCENT * self.kept
            and 100 * self.agreeing >= MIN_KEPT_PERCENT * self.structured
        )


def agreement(claim: Bytes, listing: Bytes, mapping: Map) -> PictureAgreement | None:
    """Overlay the two pictures and return their agreement, None if they share no area that can be compared."""
    laid = _lay(claim, listing, mapping)
    if laid is None:
        return None
    ours, theirs, overlap, share = laid
    theirs = _coloured_like(ours, theirs, overlap)
    luma, other = ours @ _LUMA, theirs @ _LUMA
    changed = _changed(ours, theirs, overlap)
    changed |= _smoothed(luma, other, overlap & ~changed)
    structured, kept, agreeing = _cells(luma, other, overlap, changed)
    uneven = _uneven(luma - other, overlap & ~changed)
    return PictureAgreement(overlap, changed, structured, kept, agreeing, uneven, share)


def _lay(claim: Bytes, listing: Bytes, mapping: Map) -> tuple[Floats, Floats, Mask, float] | None:
    """Return (claim, listing at its position in the claim, mask of their common area, percent of the listing in it), at
    the coarser resolution of the two: detail that one picture cannot have must not count as a difference."""
    height, width = claim.shape[:2]
    scale = scale_of(mapping)
    down = min(1.0, 1 / scale, _FRAME_SIDE / max(height, width))
    ours = shrunk(claim, down)
    theirs = shrunk(listing, min(1.0, scale * down))
    whole = _scaling(claim, ours) @ np.vstack([mapping, [0, 0, 1]]) @ np.linalg.inv(_scaling(listing, theirs))
    size = ours.shape[1], ours.shape[0]
    moved = cv2.warpAffine(theirs, whole[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there = cv2.warpAffine(np.full(theirs.shape[:2], 255, np.uint8), whole[:2], size, flags=cv2.INTER_LINEAR)
    inside = cv2.erode((there > 250).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    area = theirs.shape[0] * theirs.shape[1] * abs(float(np.linalg.det(whole[:2, :2])))
    if min(inside.shape) < _MAX_CELL or inside.sum() < _MIN_CELL**2 * MIN_AGREEING_CELLS:
        return None  # OpenCV crashes on arrays without elements, and there is nothing to compare
    smooth = [cv2.GaussianBlur(item, (0, 0), _SMOOTH).astype(np.float32) for item in (ours, moved)]
    return smooth[0], smooth[1], inside > 0, 100 * float(inside.sum()) / max(area, 1.0)


def _scaling(before: Bytes, after: Bytes) -> Map:
    """Return the map of a change of scale. Pixels are squares with their centre at whole numbers."""
    across, down = after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _coloured_like(ours: Floats, theirs: Floats, where: Mask) -> Floats:
    """Return `theirs` in the colours of `ours`: brightness, contrast, tint and saturation of the whole picture, fitted
    to most of it, so that a changed region does not affect the fit. Local light stays a difference."""
    places = np.flatnonzero(where)
    places = places[:: max(1, len(places) // _SAMPLES)]
    flat: Floats = theirs.reshape(-1, 3) / np.float32(255)
    fitted = np.empty_like(flat)
    for channel in range(3):
        expected = ours.reshape(-1, 3)[places, channel] / 255
        terms = _terms(flat, channel)
        known = terms[places]
        # From two starts, the colours as they are and what fits on the average; the one that leaves least is better.
        starts = 1 / (np.abs(flat[places, channel] - expected) + _ALLOWANCE) ** 2, np.ones_like(expected)
        _, solved = min((_fitted(known, expected, weights, channel) for weights in starts), key=lambda item: item[0])
        fitted[:, channel] = terms @ solved
    return np.clip(fitted * 255, 0, 255).astype(np.float32).reshape(theirs.shape)


def _fitted(known: Floats, expected: Floats, weights: Floats, channel: int) -> tuple[float, Floats]:
    """Return (mean residual, coefficients) of a fit that ignores outliers."""
    # Offset and own slope are free; the rest only as far as the pictures ask for it.
    dear = np.diag([1e-6, *(1e-6 if item == channel else _DEAR for item in range(3)), _DEAR]) * len(known)
    aim = expected
    for _ in range(_ROUNDS):
        heavy = known * (weights / weights.mean())[:, None]
        solved = np.linalg.solve(heavy.T @ known + dear, heavy.T @ aim).astype(np.float32)
        said = known @ solved
        # White and black may have been anything beyond.
        aim = np.where(
            expected > 0.98, np.maximum(expected, said), np.where(expected < 0.02, np.minimum(0, said), expected)
        )
        left = np.abs(said - aim)
        weights = 1 / (left + _ALLOWANCE) ** 2
    return float(np.minimum(left, _GIVEN_UP).mean()), solved


def _terms(colours: Floats, channel: int) -> Floats:
    own = colours[:, channel]
    return np.column_stack([np.ones(len(own)), colours, own**2]).astype(np.float32)


def _changed(ours: Floats, theirs: Floats, overlap: Mask) -> Mask:
    """Return the mask of differences larger than a pixel's shift explains, without specks, with holes filled."""
    near = np.ones((3, 3), np.uint8)
    beyond = np.zeros(overlap.shape, np.float32)
    for item, other, least in ((ours @ _LUMA, theirs @ _LUMA, _CHANGED), (ours, theirs, _CHANGED_COLOUR)):
        for first, second in ((item, other), (other, item)):
            apart = np.maximum(first - cv2.dilate(second, near), cv2.erode(second, near) - first) / least
            beyond = np.maximum(beyond, apart if apart.ndim == 2 else apart.max(axis=2))
    rough = ((beyond > 1) & overlap).astype(np.uint8)
    rough = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(rough)
    least = max(_MIN_SPECK_PX, _MIN_SPECK_PERCENT / 100 * int(overlap.sum()))
    large = stats[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    kept = cv2.morphologyEx(large[labels].astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(kept, outlines, -1, 1, cv2.FILLED)
    changed: Mask = (kept > 0) & overlap
    return changed


def _smoothed(luma: Floats, other: Floats, where: Mask) -> Mask:
    """Return the mask of neighbouring cells within `where` in which one of the two has little of the structure of the
    other: blurred, or painted over in nearly the same shade."""
    side = _cell_side(luma)
    rows, columns = luma.shape[0] // side, luma.shape[1] // side
    first, second = (_blocks(values, side).std(axis=1).reshape(rows, columns) for values in (luma, other))
    more, less = np.maximum(first, second), np.minimum(first, second)
    whole = _blocks(where.astype(np.float32), side).min(axis=1).reshape(rows, columns) > 0
    mean = _blocks(luma, side).mean(axis=1).reshape(rows, columns)
    whole &= (mean > _BLACK) & (mean < _WHITE)  # brightness alone takes everything from what is nearly white
    lost = whole & (more >= _LOST_FROM) & (less < _LOST_SHARE * more)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lost.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= _LOST_TOGETHER
    large[0] = False
    smoothed = np.zeros(luma.shape, bool)
    smoothed[: rows * side, : columns * side] = np.kron(large[labels], np.ones((side, side), bool))
    return smoothed


def _cell_side(luma: Floats) -> int:
    """Return the side of a cell in pixels."""
    return min(_MAX_CELL, max(_MIN_CELL, int(max(luma.shape)) // _CELLS_ALONG))


def _cells(luma: Floats, other: Floats, overlap: Mask, changed: Mask) -> tuple[int, int, int]:
    """Return the numbers of (structured, kept, agreeing) cells."""
    side = _cell_side(luma)
    whole = _blocks(overlap.astype(np.float32), side).min(axis=1) > 0
    first, second = (_blocks(item, side)[whole] for item in (luma, other))
    # What is changed may fade out: cells beside it say nothing.
    touched = cv2.dilate(changed.astype(np.uint8), np.ones((side, side), np.uint8))
    untouched = _blocks(touched.astype(np.float32), side)[whole].mean(axis=1) < _TOUCHED
    first, second = (item - item.mean(axis=1, keepdims=True) for item in (first, second))
    spreads = first.std(axis=1), second.std(axis=1)
    structured = np.maximum(*spreads) >= _STRUCTURE
    correlation = (first * second).mean(axis=1) / np.maximum(spreads[0] * spreads[1], 1e-6)
    kept = structured & untouched
    return int(structured.sum()), int(kept.sum()), int((kept & (correlation >= _MIN_CORRELATION)).sum())


def _blocks(values: Floats, side: int) -> Floats:
    rows, columns = values.shape[0] // side, values.shape[1] // side
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(rows * columns, side * side)


def _uneven(difference: Floats, where: Mask) -> float:
    """Return the median size of what remains of a difference when it is averaged over broad areas."""
    if not where.any():
        return 255.0
    width = max(max(where.shape) / _BROAD, 1.0)
    kept = where.astype(np.float32)
    broad = cv2.GaussianBlur(difference * kept, (0, 0), width) / np.maximum(cv2.GaussianBlur(kept, (0, 0), width), 1e-3)
    return float(np.median(np.abs(broad[where])))
