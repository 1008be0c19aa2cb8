"""PDQ, the perceptual hash of a picture: 256 bits that stay nearly the same when it is resized or encoded again.

The published algorithm (Facebook, 2017): luminance; two passes of a box filter along rows and columns, so wide that one
value in each of 64 x 64 cells represents its cell; the 16 x 16 lowest frequencies of its cosine transform without the
constant ones; one bit each, set above the median. The quality sums how steep the 64 x 64 values are: a flat picture has
few slopes, and its bits are noise.

Larger pictures are first reduced to 512 x 512, everywhere alike: against hashing all pixels that moves up to 18 of the
256 bits, and saves most of the time. Decoding them smaller before that moves 4 more at most (docs/evidence.md). A
picture is hashed the way it is shown: turned as its EXIF orientation says, transparent parts on white. Needs NumPy and
Pillow; nothing beyond the limits of `pixels` is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ledger.errors import PictureUnfit, PictureUnreadable
from ledger.evidence.limits import MAX_FILE_BYTES
from ledger.evidence.perceptual_hash.pixels import open_picture
from ledger.rules.pictures import HASH_BYTES, MIN_QUALITY, is_degenerate

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SIDE = 5
"""Below it there is nothing to filter."""

_CELLS = 64
_FREQUENCIES = 16
_REDUCED = 512
_PASSES = 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pdq:
    """A hash of 32 bytes, highest bit first, and its quality from 0 to 100."""

    bits: bytes
    quality: int

    @property
    def hex(self) -> str:
        """The hash as 64 hexadecimal digits, the form in reports and searches."""
        return self.bits.hex()

    @property
    def usable(self) -> bool:
        """True if it says enough about its picture to be compared with others."""
        return self.quality >= MIN_QUALITY and not is_degenerate(self.bits)

    def need_usable(self) -> Pdq:
        """Return the hash itself. Raises PictureUnfit below the least quality."""
        if not self.usable:
            raise PictureUnfit(
                f"The picture is too flat for its hash to be used: quality {self.quality}, needed {MIN_QUALITY}.",
                quality=self.quality,
            )
        return self


def hash_file(path: str | Path) -> Pdq:
    """Return the hash of the picture in a file. Raises PictureUnreadable, ConfigurationError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise PictureUnreadable("A picture's file is not there, or is no regular file.")
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise PictureUnreadable("A picture's file cannot be read.") from error
    return hash_bytes(data)


def hash_bytes(data: bytes) -> Pdq:
    """Return the hash of a picture in a file's bytes. Raises PictureUnreadable, ConfigurationError where the extra
    `evidence` is not installed."""
    return hash_image(open_picture(data, _REDUCED).image)


def hash_image(image: Image) -> Pdq:
    """Return the hash of a decoded picture, as it is (see `pixels.upright`)."""
    if min(image.size) < MIN_SIDE:
        return Pdq(bytes(HASH_BYTES), 0)
    if max(image.size) > _REDUCED:
        from PIL.Image import Resampling

        image = image.resize((_REDUCED, _REDUCED), Resampling.BOX)
    return hash_luma(np.asarray(image, np.float32) @ _LUMA)


def hash_luma(luma: Floats) -> Pdq:
    """Return the hash of luminances (0 to 255, rows first), at least 5 each way; they are hashed as they are."""
    cells, quality = _prepare(luma)
    return Pdq(_bits(_frequencies(cells)), quality)


def _prepare(luma: Floats) -> tuple[NDArray[np.float64], int]:
    """Return (64 x 64 smoothed values, quality)."""
    values = np.asarray(luma, np.float64)
    rows, columns = values.shape
    if min(rows, columns) < MIN_SIDE:
        raise PictureUnfit("The picture is too small to have a hash.")
    if (rows, columns) != (_CELLS, _CELLS):
        for _ in range(_PASSES):
            values = _box(values.T, _window(columns)).T
            values = _box(values, _window(rows))
        values = values[_centres(rows)][:, _centres(columns)]
    return values, _quality(values)


def _window(length: int) -> int:
    """Return the width of the box filter along a side: half a cell, rounded up, because it is passed twice."""
    return -(-length // (2 * _CELLS))


def _centres(length: int) -> NDArray[np.intp]:
    centres: NDArray[np.intp] = ((np.arange(_CELLS) + 0.5) * length / _CELLS).astype(np.intp)
    return centres


def _box(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each value's neighbours along the first axis; at the ends, of those there are."""
    length = len(values)
    reach = (window + 2) // 2  # how many of the window lie from the value itself on
    ends = np.minimum(np.arange(length) + reach, length)
    starts = np.maximum(np.arange(length) + reach - window, 0)
    sums = np.zeros((length + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)[:, None]
    return means


def _quality(cells: NDArray[np.float64]) -> int:
    """Return the sum of whole hundredths of the range between neighbours: slight slopes do not count."""
    steps = [np.trunc(np.diff(cells, axis=axis) * 100 / 255) for axis in (0, 1)]
    return min(100, int(sum(np.abs(step).sum() for step in steps)) // 90)


def _transform() -> NDArray[np.float64]:
    """Return rows 1 to 16 of the 64-point cosine transform."""
    frequency, place = np.arange(1, _FREQUENCIES + 1)[:, None], np.arange(_CELLS)[None, :]
    matrix: NDArray[np.float64] = np.sqrt(2 / _CELLS) * np.cos(np.pi / (2 * _CELLS) * frequency * (2 * place + 1))
    return matrix


_TRANSFORM = _transform()


def _frequencies(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    frequencies: NDArray[np.float64] = _TRANSFORM @ cells @ _TRANSFORM.T
    return frequencies


def _bits(frequencies: NDArray[np.float64]) -> bytes:
    """Return one bit for each of 256 values, set above the lower median; the last value is the highest bit."""
    flat = frequencies.ravel()
    median = np.partition(flat, len(flat) // 2 - 1)[len(flat) // 2 - 1]
    return np.packbits((flat > median)[::-1]).tobytes()
