"""The map that takes one picture to a copy of it, or that there is none.

A copy of a picture is resized, cropped, turned or mirrored, and all of that is one affine map, exact to a fraction of a
pixel. A second photograph of the same thing is taken from another place: perspective, depth and the lens distort the
picture in ways that no affine map describes. So local features (SIFT) propose the map, their error under it must be
tiny, and no curved map may explain what is left. What the map claims, `overlay` then checks pixel by pixel.

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
"""A feature counts if the distance of its best counterpart is at most this share of that of the second best."""

REACH_PX = 3.0
MIN_INLIERS = 8
MIN_INLIER_PERCENT = 75
MAX_ERROR_PX = 0.5
"""The median error of the features that fit, in pixels of the coarser picture. Copies were measured at 0.4 or less."""

MAX_BEND_PX = 0.25
"""How far a curved map would lie from the flat one, in the mean. Copies with a hundred features or more were measured
at 0.14 or less, photographs taken again from elsewhere at 0.29 or more."""

_BENDS = 6
"""Numbers that the curved map has more than the flat one: chance alone bends it by their share in the error."""

_CHANCE = 2.5

MAX_STRETCH = 1.25
MIN_SCALE, MAX_SCALE = 0.1, 10.0

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


_one_at_a_time = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run OpenCV on one thread within the context, so that the same pictures give the same numbers."""
    with _one_at_a_time:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def working_size(picture: Bytes) -> Bytes:
    """Return a picture as it is compared: no larger than the working size."""
    return shrunk(picture, WORKING_SIDE / max(picture.shape[:2]))


def features(picture: Bytes) -> Features:
    """Return the local features of a picture, the strongest first."""
    finder = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=0.01)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    points, descriptors = finder.detectAndCompute(grey, None)
    if descriptors is None or not len(points):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return Features(np.array(cv2.KeyPoint.convert(points), np.float32), rooted.astype(np.float32))


def matches(claim: Features, listing: Features) -> Pairs:
    """Return the positions of features that are clearly each other's best counterpart: in the listing, and in the
    claim."""
    if min(len(listing.places), len(claim.places)) < 2:
        return listing.places[:0], claim.places[:0]
    alike = listing.descriptors @ claim.descriptors.T
    rows = np.arange(len(alike))
    best, back = alike.argmax(axis=1), alike.argmax(axis=0)
    nearest = alike[rows, best]
    alike[rows, best] = -1
    next_best = alike.max(axis=1)
    # The descriptors have length 1, so the squared distance is 2 - 2 times their product.
    clear = 1 - nearest < MAX_RATIO**2 * (1 - next_best)
    kept = clear & (back[best] == rows)
    return listing.places[kept], claim.places[best[kept]]


def register(pairs: Pairs) -> tuple[Map, Pairs] | None:
    """Return the map from the listing to the claim, and the pairs that fit it; None if the map cannot be that of a
    copy."""
    first, second = pairs
    if len(first) < MIN_INLIERS:
        return None
    # Its random choices are its own, with a fixed seed. It gives None where no three points make a map.
    answer: tuple[Any, Any] = cv2.estimateAffine2D(
        first,
        second,
        method=cv2.RANSAC,
        ransacReprojThreshold=REACH_PX,
        maxIters=2000,
        confidence=0.999,
        refineIters=10,
    )
    mapping, fitting = answer
    if mapping is None or not plausible(mapping):
        return None
    inliers = fitting.ravel().astype(bool)
    pairs = first[inliers], second[inliers]
    if len(pairs[0]) < MIN_INLIERS or 100 * len(pairs[0]) < MIN_INLIER_PERCENT * len(first):
        return None
    left = (pairs[0] @ mapping[:, :2].T + mapping[:, 2] - pairs[1]).astype(np.float32)
    pixel = max(1.0, scale_of(mapping))
    error = float(np.median(np.linalg.norm(left, axis=1))) / pixel
    chance = _CHANCE * error * float(np.sqrt(_BENDS / len(left)))
    if error > MAX_ERROR_PX or _bend(pairs[0], left) / pixel > max(MAX_BEND_PX, chance):
        return None
    return mapping, pairs


def _bend(places: Floats, left: Floats) -> float:
    """Return the mean distance of a curved map from the flat one, as far as squares of positions explain the
    residual."""
    centred = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-6)
    across, down = centred.T
    terms = np.column_stack([np.ones(len(across)), across, down, across * across, across * down, down * down])
    solved, *_ = np.linalg.lstsq(terms, left, rcond=None)
    return float(np.sqrt(((terms @ solved) ** 2).sum(axis=1).mean()))


def scale_of(mapping: Map) -> float:
    """Return the number of pixels of the claim for one of the listing."""
    return float(np.sqrt(abs(np.linalg.det(mapping[:, :2]))))


def plausible(mapping: Map) -> bool:
    """True if resizing, cropping and turning make such a map: no mirror image, no fold, hardly stretched."""
    if not np.isfinite(mapping).all() or np.linalg.det(mapping[:, :2]) <= 0:
        return False
    longer, shorter = np.linalg.svd(mapping[:, :2], compute_uv=False)
    return bool(longer <= MAX_STRETCH * shorter) and MIN_SCALE <= scale_of(mapping) <= MAX_SCALE


def stretched(claim: Bytes, listing: Bytes) -> Map:
    """Return the map that takes the listing's corners to the claim's."""
    across, down = claim.shape[1] / listing.shape[1], claim.shape[0] / listing.shape[0]
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])


def shrunk(picture: Bytes, by: float) -> Bytes:
    """Return a picture made smaller by a factor below 1."""
    if by >= 1:
        return picture
    size = max(1, round(picture.shape[1] * by)), max(1, round(picture.shape[0] * by))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
