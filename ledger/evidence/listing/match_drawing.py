"""A match for people's eyes: claim and listing side by side, what fits joined by lines, what was changed outlined."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from ledger.evidence.listing import registration
from ledger.evidence.listing.match import Match, Photo
from ledger.evidence.listing.registration import Bytes, Floats, Map

MAX_WIDTH_PX = 1600
_GAP = 20
_PANEL = (MAX_WIDTH_PX - _GAP) // 2
_MAX_PANEL_HEIGHT = 1200
_LINES_ACROSS = 6
"""Lines start in as many columns and rows of the claim, one in each field."""

_WHITE, _GREEN, _RED = (255, 255, 255), (40, 190, 90), (230, 30, 40)


def draw(claim: Photo, listing: Photo, match: Match) -> bytes:
    """Return the picture as a PNG without metadata, the claim on the left, at most `MAX_WIDTH_PX` wide."""
    left, right = _panel(claim.pixels), _panel(listing.pixels)
    canvas = np.full((max(left.shape[0], right.shape[0]), left.shape[1] + _GAP + right.shape[1], 3), 255, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] + _GAP :] = right
    shift = np.array([left.shape[1] + _GAP, 0.0])
    scales = left.shape[1] / claim.pixels.shape[1], right.shape[1] / listing.pixels.shape[1]
    with registration.one_thread():
        _lines(canvas, claim, match, scales, shift)
        for outline in _outlines(claim, match):
            _outline(canvas, _as_it_lies(claim, match, outline) * scales[0])
            if match.map is not None:
                _outline(canvas, _back(match.map, outline) * scales[1] + shift)
    out = io.BytesIO()
    # A fifth of the time of full compression, for a file that is a fifth larger at most (measured: 4 and 20 %).
    Image.fromarray(canvas).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _panel(picture: Bytes) -> Bytes:
    height, width = picture.shape[:2]
    scale = min(_PANEL / width, _MAX_PANEL_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(picture).resize(size, how))


def _lines(canvas: Bytes, claim: Photo, match: Match, scales: tuple[float, float], shift: Floats) -> None:
    """Draw lines between features that fit, few enough to be distinguished."""
    places = _as_it_lies(claim, match, match.pairs[1])
    size = np.array(claim.pixels.shape[1::-1])
    fields = np.minimum((places * _LINES_ACROSS / size).astype(int), _LINES_ACROSS - 1)
    chosen = np.unique(fields, axis=0, return_index=True)[1]
    layer = canvas.copy()
    for number in chosen:
        ends = _point(places[number] * scales[0]), _point(match.pairs[0][number] * scales[1] + shift)
        cv2.line(layer, *ends, _GREEN, 1, cv2.LINE_AA)
        for end in ends:
            cv2.circle(layer, end, 4, _GREEN, -1, cv2.LINE_AA)
    canvas[:] = cv2.addWeighted(layer, 0.7, canvas, 0.3, 0)


def _outlines(claim: Photo, match: Match) -> list[Floats]:
    """Return the outlines of the changed regions, in the picture that the map leads to, at working size."""
    if match.agreement is None:
        return []
    rows, columns = match.agreement.changed.shape
    contours, _ = cv2.findContours(match.agreement.changed.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([claim.pixels.shape[1] / columns, claim.pixels.shape[0] / rows])
    return [(contour[:, 0, :] + 0.5) * scale - 0.5 for contour in contours]


def _as_it_lies(claim: Photo, match: Match, places: Floats) -> Floats:
    """Return positions in the claim itself."""
    if not match.mirrored:
        return places
    return np.column_stack([claim.pixels.shape[1] - 1 - places[:, 0], places[:, 1]])


def _back(mapping: Map, places: Floats) -> Floats:
    """Return positions of the claim in the listing."""
    inverse = np.linalg.inv(np.vstack([mapping, [0, 0, 1]]))
    return places @ inverse[:2, :2].T + inverse[:2, 2]


def _outline(canvas: Bytes, places: Floats) -> None:
    points = np.round(places).astype(np.int32).reshape(-1, 1, 2)
    for colour, width in ((_WHITE, 5), (_RED, 2)):
        cv2.polylines(canvas, [points], True, colour, width, cv2.LINE_AA)


def _point(place: Floats) -> tuple[int, int]:
    return round(float(place[0])), round(float(place[1]))
