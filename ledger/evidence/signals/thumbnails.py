"""Whether the small picture that a camera put into the EXIF block still shows what the picture shows.

A difference shows an editor that changed pixels and nothing else. It is a hint only: some programs crop or rotate and
forget the thumbnail. Only JPEGs are compared, decoded at an eighth of their size, and only within limits
on pixels and scans.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ledger.evidence.findings import InspectionFinding, finding
from ledger.evidence.formats import jpeg
from ledger.evidence.formats.exif import Exif
from ledger.evidence.formats.metadata import NoteCode, ParsedFile
from ledger.evidence.limits import MAX_PIXELS, MAX_PROGRESSIVE_PIXELS, MAX_SCANS, MAX_THUMBNAIL_PIXELS
from ledger.rules.findings import FindingCode

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

_GRID = 32
_BLOCK = 4
_FLAT = 6.0
"""Below this spread of brightness (of 255) two pictures are too empty to be compared."""

MIN_CORRELATION = 0.9
MAX_BLOCK_DIFFERENCE = 50.0
"""Cameras sharpen and brighten what they scale down; these leave room for it (measured: docs/evidence.md)."""

_ASPECT_TOLERANCE = 0.02


def judge(data: bytes, parsed: ParsedFile, exif: Exif, where: str) -> list[InspectionFinding]:
    """Return a finding if thumbnail and picture disagree."""
    if not exif.thumbnail or parsed.media_type != "image/jpeg":
        return []
    if not _within_limits(parsed):
        parsed.note(
            NoteCode.PIXELS_NOT_COMPARED, where, f"{parsed.width_px} x {parsed.height_px}, {parsed.scans} scans"
        )
        return []
    small = _open(exif.thumbnail, MAX_THUMBNAIL_PIXELS)
    if small is None:
        parsed.note(NoteCode.THUMBNAIL_UNREADABLE, where)
        return []
    large = _open(data, MAX_PIXELS)
    if large is None:
        parsed.note(NoteCode.PIXELS_NOT_COMPARED, where, "the picture cannot be decoded")
        return []
    correlation, block = compare(small, large)
    if correlation >= MIN_CORRELATION and block <= MAX_BLOCK_DIFFERENCE:
        return []
    return [
        finding(
            FindingCode.THUMBNAIL_DIFFERS,
            f"{where} thumbnail",
            correlation_percent=round(100 * correlation),
            largest_difference=round(block),
        )
    ]


def _within_limits(parsed: ParsedFile) -> bool:
    pixels = parsed.width_px * parsed.height_px
    limit = MAX_PROGRESSIVE_PIXELS if parsed.progressive else MAX_PIXELS
    return 0 < pixels <= limit and 0 < parsed.scans <= MAX_SCANS


def _open(data: bytes, max_pixels: int) -> Image | None:
    """Return a JPEG in greys, no larger than needed; None if it cannot be decoded or is larger than allowed."""
    from PIL import Image, JpegImagePlugin

    try:
        # The plugin itself, and pixels only: `Image.open` would follow what the file says about further pictures, and
        # the plugin would parse EXIF, colour profiles and resolutions, and warn of what is wrong with them.
        with JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg.bare(data))) as image:
            if image.width * image.height > max_pixels:
                return None
            image.draft("L", (4 * _GRID, 4 * _GRID))
            return image.convert("L")
    except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, TypeError, Image.DecompressionBombError):
        return None


def compare(small: Image, large: Image) -> tuple[float, float]:
    """Return (correlation, largest difference of a block) of two pictures in greys, for the turn that fits best:
    programs that turn a picture upright forget the thumbnail."""
    results = []
    for turned in (large, *(large.transpose(turn) for turn in _turns())):
        cut = _without_bars(small, turned.width / turned.height)
        results.append(_difference(_grid(cut), _grid(turned)))
    return max(results, key=lambda result: (result[0], -result[1]))


def _turns() -> tuple[Transpose, ...]:
    from PIL import Image

    return (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def _without_bars(image: Image, aspect: float) -> Image:
    """Return the middle of a thumbnail in the picture's shape: cameras fill up with black bars."""
    own = image.width / image.height
    if abs(own / aspect - 1) <= _ASPECT_TOLERANCE:
        return image
    if own > aspect:
        width = max(1, round(image.height * aspect))
        left = (image.width - width) // 2
        return image.crop((left, 0, left + width, image.height))
    height = max(1, round(image.width / aspect))
    top = (image.height - height) // 2
    return image.crop((0, top, image.width, top + height))


def _grid(image: Image) -> NDArray[np.float64]:
    from PIL import Image

    return np.asarray(image.resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float64)


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    spread = min(float(first.std()), float(second.std()))
    if spread < _FLAT:
        return 1.0, 0.0
    correlation = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    # The second, brought to the brightness and contrast of the first.
    fitted = (second - second.mean()) * (first.std() / second.std()) + first.mean()
    blocks = (first - fitted).reshape(_GRID // _BLOCK, _BLOCK, _GRID // _BLOCK, _BLOCK).mean(axis=(1, 3))
    return correlation, float(np.abs(blocks).max())
