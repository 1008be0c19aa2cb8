"""Whether one picture was made from another: the second laid onto the first exactly, and where they still differ.

Whoever copies a picture resizes, crops, turns or mirrors it, and all of that is one affine map, exact to a fraction of
a pixel. Whoever photographs the same thing again stands elsewhere: perspective, depth and the lens bend the picture in
ways that no affine map follows, and the light falls otherwise. So there are two steps. Local features (SIFT) propose
the map; their error under it must be tiny, and no curved map may explain it. Then the pictures are laid upon one
another, colours matched, and compared cell by cell: nearly every cell with something in it must agree, but for a
limited region, which is what was changed.

Needs OpenCV. Arrays are RGB, 8 bits, rows first; a map is 2 x 3 and takes points of the listing to the claim.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

WORKING_SIDE = 1000
"""Pictures are compared at most this large (pixels, longer side)."""

MAX_FEATURES = 2000
MAX_RATIO = 0.8
"""A feature counts if its best counterpart is so much nearer than the second best."""

REACH_PX = 3.0
MIN_INLIERS = 8
MIN_INLIER_PERCENT = 75
MAX_ERROR_PX = 0.5
"""The median error of the features that fit, in pixels of the coarser picture. Copies were measured at 0.4 or less."""

MAX_BEND_PX = 0.25
"""How far a curved map would lie from the flat one, in the mean. Copies with a hundred features or more were measured
at 0.14 or less, photographs taken again at 0.3 or more."""

_BENDS = 6
"""Numbers that the curved map has more than the flat one: chance alone bends it by their share in the error."""

_CHANCE = 2.5

MAX_STRETCH = 1.25
MIN_SCALE, MAX_SCALE = 0.1, 10.0
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
_DEAR = 1e-3
_BROAD = 16
"""Broad areas are a sixteenth of the longer side wide."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Map = NDArray[np.float64]
Pairs = tuple[Floats, Floats]
"""Places (x, y) in the listing, and their counterparts in the claim, a row each."""


@dataclass(frozen=True, slots=True)
class Features:
    """Places (x, y) of local features and their descriptors, a row each, of length 1."""

    places: Floats
    descriptors: Floats


@dataclass(frozen=True, slots=True)
class Agreement:
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
        """Of the claim, what is in the listing."""
        return 100 * float(self.overlap.mean())

    @property
    def changed_percent(self) -> float:
        """Of the overlap, what was changed."""
        return 100 * float(self.changed.sum()) / max(1, int(self.overlap.sum()))

    @property
    def holds(self) -> bool:
        """Whether one was made from the other, as far as pixels show it."""
        return (
            min(self.overlap_percent, self.listing_overlap_percent) >= MIN_OVERLAP_PERCENT
            and self.changed_percent <= MAX_CHANGED_PERCENT
            and self.uneven <= MAX_UNEVEN
            and self.agreeing >= MIN_AGREEING_CELLS
            and 100 * self.agreeing >= MIN_AGREEING_PERCENT * self.kept
            and 100 * self.agreeing >= MIN_KEPT_PERCENT * self.structured
        )


_one_at_a_time = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread, so that the same pictures give the same numbers; afterwards as it was."""
    with _one_at_a_time:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def working_size(picture: Bytes) -> Bytes:
    """A picture as it is compared: no larger than the working size."""
    return _shrunk(picture, WORKING_SIDE / max(picture.shape[:2]))


def features(picture: Bytes) -> Features:
    """The local features of a picture, the strongest first."""
    finder = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=0.01)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    points, found = finder.detectAndCompute(grey, None)
    if found is None or not len(points):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    rooted = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6))
    return Features(np.array(cv2.KeyPoint.convert(points), np.float32), rooted.astype(np.float32))


def matches(claim: Features, listing: Features) -> Pairs:
    """Places of features that are each other's best counterpart, and clearly so: in the listing, and in the claim."""
    one, other = listing, claim
    if min(len(one.places), len(other.places)) < 2:
        return one.places[:0], other.places[:0]
    alike = one.descriptors @ other.descriptors.T
    rows = np.arange(len(alike))
    best, back = alike.argmax(axis=1), alike.argmax(axis=0)
    nearest = alike[rows, best]
    alike[rows, best] = -1
    second = alike.max(axis=1)
    # The descriptors have length 1, so the squared distance is 2 - 2 times their product.
    clear = 1 - nearest < MAX_RATIO**2 * (1 - second)
    kept = clear & (back[best] == rows)
    return one.places[kept], other.places[best[kept]]


def register(pairs: Pairs) -> tuple[Map, Pairs] | None:
    """The map that takes the listing to the claim, and the pairs that fit it; None if a copy could not have it."""
    one, other = pairs
    if len(one) < MIN_INLIERS:
        return None
    # Its random choices are its own, with a fixed seed. It gives None where no three points make a map.
    answer: tuple[Any, Any] = cv2.estimateAffine2D(
        one, other, method=cv2.RANSAC, ransacReprojThreshold=REACH_PX, maxIters=2000, confidence=0.999, refineIters=10
    )
    found, fitting = answer
    if found is None or not plausible(found):
        return None
    inliers = fitting.ravel().astype(bool)
    pairs = one[inliers], other[inliers]
    if len(pairs[0]) < MIN_INLIERS or 100 * len(pairs[0]) < MIN_INLIER_PERCENT * len(one):
        return None
    left = (pairs[0] @ found[:, :2].T + found[:, 2] - pairs[1]).astype(np.float32)
    pixel = max(1.0, scale_of(found))
    error = float(np.median(np.linalg.norm(left, axis=1))) / pixel
    chance = _CHANCE * error * float(np.sqrt(_BENDS / len(left)))
    if error > MAX_ERROR_PX or _bend(pairs[0], left) / pixel > max(MAX_BEND_PX, chance):
        return None
    return found, pairs


def _bend(places: Floats, left: Floats) -> float:
    """How far, in the mean, a curved map would lie from the flat one: what is left, explained by squares of places."""
    centred = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-6)
    across, down = centred.T
    terms = np.column_stack([np.ones(len(across)), across, down, across * across, across * down, down * down])
    solved, *_ = np.linalg.lstsq(terms, left, rcond=None)
    return float(np.sqrt(((terms @ solved) ** 2).sum(axis=1).mean()))


def scale_of(found: Map) -> float:
    """Pixels of the claim for one of the listing."""
    return float(np.sqrt(abs(np.linalg.det(found[:, :2]))))


def plausible(found: Map) -> bool:
    """Whether resizing, cropping and turning make such a map: no mirror image, no fold, hardly stretched."""
    if not np.isfinite(found).all() or np.linalg.det(found[:, :2]) <= 0:
        return False
    longer, shorter = np.linalg.svd(found[:, :2], compute_uv=False)
    return bool(longer <= MAX_STRETCH * shorter) and MIN_SCALE <= scale_of(found) <= MAX_SCALE


def stretched(claim: Bytes, listing: Bytes) -> Map:
    """The map that takes the listing's corners to the claim's."""
    across, down = claim.shape[1] / listing.shape[1], claim.shape[0] / listing.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])


def agreement(claim: Bytes, listing: Bytes, found: Map) -> Agreement | None:
    """The two laid upon each other and compared; None if they share no area worth comparing."""
    laid = _lay(claim, listing, found)
    if laid is None:
        return None
    ours, theirs, overlap, share = laid
    theirs = _coloured_like(ours, theirs, overlap)
    luma, other = ours @ _LUMA, theirs @ _LUMA
    changed = _changed(ours, theirs, overlap)
    changed |= _smoothed(luma, other, overlap & ~changed)
    structured, kept, agreeing = _cells(luma, other, overlap, changed)
    return Agreement(overlap, changed, structured, kept, agreeing, _uneven(luma - other, overlap & ~changed), share)


def _lay(claim: Bytes, listing: Bytes, found: Map) -> tuple[Floats, Floats, Mask, float] | None:
    """(claim, listing in the claim's place, where both are, percent of the listing that is), at the coarser resolution
    of the two: what one picture cannot show must not count as a difference."""
    height, width = claim.shape[:2]
    scale = scale_of(found)
    down = min(1.0, 1 / scale, _FRAME_SIDE / max(height, width))
    ours = _shrunk(claim, down)
    theirs = _shrunk(listing, min(1.0, scale * down))
    whole = _scaling(claim, ours) @ np.vstack([found, [0, 0, 1]]) @ np.linalg.inv(_scaling(listing, theirs))
    size = ours.shape[1], ours.shape[0]
    moved = cv2.warpAffine(theirs, whole[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there = cv2.warpAffine(np.full(theirs.shape[:2], 255, np.uint8), whole[:2], size, flags=cv2.INTER_LINEAR)
    inside = cv2.erode((there > 250).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    area = theirs.shape[0] * theirs.shape[1] * abs(float(np.linalg.det(whole[:2, :2])))
    if min(inside.shape) < _MAX_CELL or inside.sum() < _MIN_CELL**2 * MIN_AGREEING_CELLS:
        return None  # OpenCV crashes on arrays without elements, and there is nothing to compare
    smooth = [cv2.GaussianBlur(one, (0, 0), _SMOOTH).astype(np.float32) for one in (ours, moved)]
    return smooth[0], smooth[1], inside > 0, 100 * float(inside.sum()) / max(area, 1.0)


def _shrunk(picture: Bytes, by: float) -> Bytes:
    if by >= 1:
        return picture
    size = max(1, round(picture.shape[1] * by)), max(1, round(picture.shape[0] * by))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _scaling(before: Bytes, after: Bytes) -> Map:
    """Pixels are squares with their centre at whole numbers."""
    across, down = after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _coloured_like(ours: Floats, theirs: Floats, where: Mask) -> Floats:
    """`theirs` in the colours of `ours`: brightness, contrast, tint and saturation of the whole picture, fitted to most
    of it, so that a changed region does not pull. Nothing local: light from elsewhere stays a difference."""
    places = np.flatnonzero(where)
    places = places[:: max(1, len(places) // 20_000)]
    target = ours.reshape(-1, 3)[places] / 255
    flat: Floats = theirs.reshape(-1, 3) / np.float32(255)
    fitted = np.empty_like(flat)
    for channel in range(3):
        wanted = target[:, channel]
        terms = _terms(flat, channel)
        known = terms[places]
        weights, aim = np.ones_like(wanted), wanted
        # Offset and own slope are free; the rest only as far as the pictures ask for it.
        dear = np.diag([1e-6, *(1e-6 if one == channel else _DEAR for one in range(3)), _DEAR]) * len(known)
        for _ in range(_ROUNDS):
            heavy = known * (weights / weights.mean())[:, None]
            solved = np.linalg.solve(heavy.T @ known + dear, heavy.T @ aim)
            said = known @ solved
            # White and black may have been anything beyond.
            aim = np.where(
                wanted > 0.98, np.maximum(wanted, said), np.where(wanted < 0.02, np.minimum(0, said), wanted)
            )
            weights = 1 / np.maximum(np.abs(said - aim), 0.01)
        fitted[:, channel] = terms @ solved
    return np.clip(fitted * 255, 0, 255).astype(np.float32).reshape(theirs.shape)


def _terms(colours: Floats, channel: int) -> Floats:
    own = colours[:, channel]
    return np.column_stack([np.ones(len(own)), colours, own**2]).astype(np.float32)


def _changed(ours: Floats, theirs: Floats, overlap: Mask) -> Mask:
    """Where the two differ by more than a pixel's shift explains, without specks, with holes filled."""
    near = np.ones((3, 3), np.uint8)
    beyond = np.zeros(overlap.shape, np.float32)
    for one, other, least in ((ours @ _LUMA, theirs @ _LUMA, _CHANGED), (ours, theirs, _CHANGED_COLOUR)):
        for first, second in ((one, other), (other, one)):
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
    found: Mask = (kept > 0) & overlap
    return found


def _smoothed(luma: Floats, other: Floats, where: Mask) -> Mask:
    """Cells within `where` in which one of the two has little of what the other has, where some lie together: blurred,
    or painted over in nearly the same shade."""
    side = _cell_side(luma)
    rows, columns = luma.shape[0] // side, luma.shape[1] // side
    one, two = (_blocks(values, side).std(axis=1).reshape(rows, columns) for values in (luma, other))
    more, less = np.maximum(one, two), np.minimum(one, two)
    whole = _blocks(where.astype(np.float32), side).min(axis=1).reshape(rows, columns) > 0
    mean = _blocks(luma, side).mean(axis=1).reshape(rows, columns)
    whole &= (mean > _BLACK) & (mean < _WHITE)  # brightness alone takes everything from what is nearly white
    lost = whole & (more >= _LOST_FROM) & (less < _LOST_SHARE * more)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lost.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= _LOST_TOGETHER
    large[0] = False
    found = np.zeros(luma.shape, bool)
    found[: rows * side, : columns * side] = np.kron(large[labels], np.ones((side, side), bool))
    return found


def _cell_side(luma: Floats) -> int:
    """Pixels along a cell."""
    return min(_MAX_CELL, max(_MIN_CELL, int(max(luma.shape)) // _CELLS_ALONG))


def _cells(luma: Floats, other: Floats, overlap: Mask, changed: Mask) -> tuple[int, int, int]:
    """(structured, kept, agreeing) cells."""
    side = _cell_side(luma)
    whole = _blocks(overlap.astype(np.float32), side).min(axis=1) > 0
    first, second = (_blocks(one, side)[whole] for one in (luma, other))
    # What is changed may fade out: cells beside it say nothing.
    touched = cv2.dilate(changed.astype(np.uint8), np.ones((side, side), np.uint8))
    untouched = _blocks(touched.astype(np.float32), side)[whole].mean(axis=1) < _TOUCHED
    first, second = (one - one.mean(axis=1, keepdims=True) for one in (first, second))
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
    """The median size of what remains of a difference when it is averaged over broad areas."""
    if not where.any():
        return 255.0
    width = max(max(where.shape) / _BROAD, 1.0)
    kept = where.astype(np.float32)
    broad = cv2.GaussianBlur(difference * kept, (0, 0), width) / np.maximum(cv2.GaussianBlur(kept, (0, 0), width), 1e-3)
    return float(np.median(np.abs(broad[where])))
