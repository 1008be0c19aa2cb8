"""Decode untrusted pictures within limits.

The header is read first, and nothing beyond the limits is decoded. A picture is returned as it is shown: turned by its
EXIF orientation, with transparent parts on white. Needs Pillow.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.errors import PictureUnreadable
from ledger.evidence.formats import jpeg
from ledger.evidence.formats.metadata import ParsedFile
from ledger.evidence.limits import MAX_FILE_BYTES, MAX_PIXELS, MAX_PROGRESSIVE_PIXELS, MAX_SCANS
from ledger.extras import need

if TYPE_CHECKING:
    from PIL.Image import Image

STILLS = frozenset({"image/jpeg", "image/png", "image/webp"})
"""Media types of the pictures whose pixels an inspection looks at."""

WHERE = "pixels"
"""The place of findings and notes that are about what the picture shows."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_FIRST_ON_ITS_SIDE = 5
_AVERAGED = ("L", "LA", "RGB", "RGBA")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture in RGB, upright, perhaps smaller than it is; its full size as it is shown."""

    image: Image
    width_px: int
    height_px: int


def open_picture(data: bytes, side: int | None = None) -> Picture:
    """Return the picture in a file's bytes. With `side`, it may be smaller, but no side is below that.

    Raises PictureUnreadable for what is no picture, is damaged, or has too many bytes, pixels or scans;
    ConfigurationError where the extra `evidence` is not installed.
    """
    need("evidence", ("PIL",), "Hashing a picture")
    from PIL import Image, ImageFile, UnidentifiedImageError

    if len(data) > MAX_FILE_BYTES:
        raise PictureUnreadable("The file is too large for a picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit here is our own
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check(data, image)
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) in range(_FIRST_ON_ITS_SIDE, 9):
                width, height = height, width
            if side is not None and isinstance(image, ImageFile.ImageFile):
                image.draft("RGB", (side, side))
            return Picture(upright(image, side), width, height)
    except PictureUnreadable:
        raise
    except UnidentifiedImageError as error:
        raise PictureUnreadable("The file is no picture of a known kind.") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes make them stumble over
        raise PictureUnreadable("The picture is damaged.") from error


def _check(data: bytes, image: Image) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise PictureUnreadable("The picture has too many pixels.")
    if data.startswith(b"\xff\xd8"):
        shape = ParsedFile("image/jpeg")
        jpeg.read(data, shape)
        if shape.scans > MAX_SCANS or (shape.progressive and pixels > MAX_PROGRESSIVE_PIXELS):
            raise PictureUnreadable("The picture has too many scans or pixels to be decoded.")


def upright(image: Image, side: int | None = None) -> Image:
    """Return a picture in RGB as it is shown: turned as its orientation says, on white. With `side`, it is averaged
    down to as little as may be before it is copied, so that a large picture is in memory once."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    shown: Any = image
    if side is not None and image.mode in _AVERAGED:
        shown = image.reduce(max(1, min(image.size) // side))
    if shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info:
        layer = shown.convert("RGBA")
        shown = Image.new("RGBA", layer.size, "white")
        shown.alpha_composite(layer)
    return shown.convert("RGB")  # type: ignore[no-any-return]
