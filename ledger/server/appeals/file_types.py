"""The types of files that an appeal accepts, recognised by their bytes, and whether a file is complete.

Pure. The parts of pictures and films are read by `ledger.evidence.formats`; nothing is decoded, and the number of parts
is bounded, so a hostile file costs no more than an honest one of its size. A file that is not clearly one of the six
types is refused. Its name plays no part.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ledger.errors import AttachmentRefused
from ledger.evidence.formats import isobmff, jpeg, png, webp
from ledger.evidence.formats.metadata import Damaged, ParsedFile

_Part = TypeVar("_Part")

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "image/jpeg": (".jpg", ".jpeg"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "application/pdf": (".pdf",),
    "video/mp4": (".mp4", ".m4v"),
    "text/plain": (".txt",),
}
"""Accepted media types, with the endings their names may have; the first is given to a name that has none."""

MAX_PARTS = 20_000
"""Chunks of a PNG or WebP file: ten times what encoders make of ten megabytes."""

_MP4_BRANDS = {b"isom", b"avc1", b"mp41", b"mp42", b"M4V ", b"M4VP", b"MSNV", b"dash", b"mp71", b"f4v "}
_MP4_ISO = re.compile(rb"iso[2-9a-c]\Z")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MARKUP = re.compile(r"<[A-Za-z!?/]")
_PDF_HEAD = re.compile(rb"%PDF-[12]\.\d[\r\n ]")
_WEBP_STARTS = {b"VP8 ": (b"\x9d\x01\x2a", 3), b"VP8L": (b"\x2f", 0)}
"""The bytes by which each kind of coded data begins, and their position in the chunk."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a picture by its header."""

    width_px: int
    height_px: int
    frames: int = 1


def refused(reason: str, message: str) -> AttachmentRefused:
    """Return the refusal with its stable reason code."""
    return AttachmentRefused(message, reason=reason)


def _broken() -> AttachmentRefused:
    return refused("broken", "The file is damaged or incomplete.")


def sniff(data: bytes) -> str:
    """Return the media type of `data`.

    Raises AttachmentRefused: `type_not_taken`, `markup` (HTML, SVG, XML), `not_plain_text`, `polyglot`
    (also an archive).
    """
    media_type = _by_magic(data)
    if media_type is None:
        return _as_text(data)
    if zipfile.is_zipfile(io.BytesIO(data)):
        raise refused("polyglot", "The file is an archive at the same time.")
    return media_type


def _by_magic(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(png.SIGNATURE):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if _PDF_HEAD.match(data):
        return "application/pdf"
    brand = data[8:12]
    if data[4:8] == b"ftyp" and (brand in _MP4_BRANDS or _MP4_ISO.match(brand)):
        return "video/mp4"
    return None


def _as_text(data: bytes) -> str:
    text: str | None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None or "\0" in text or data.startswith((b"%PDF", b"GIF8", b"{\\rtf", b"%!PS")):
        raise refused("type_not_taken", "Only JPEG, PNG, WebP, PDF, MP4 and plain text in UTF-8 are taken.")
    if _CONTROL.search(text):
        raise refused("not_plain_text", "A text must hold no control characters.")
    if _MARKUP.match(text.lstrip()):
        raise refused("markup", "Web pages, SVG and XML are not taken; send a picture, a PDF or plain text.")
    return "text/plain"


def jpeg_shape(data: bytes) -> Shape:
    """Return the size by the first frame header, once the picture is complete up to its end marker. What cameras append
    after it is not read.

    Raises AttachmentRefused `broken`.
    """
    shape = None
    for segment in _whole(jpeg.segments(data)):
        size = jpeg.frame_size(data, segment)
        if shape is None and size is not None:
            shape = _shape(*size)
        if shape is None and (segment.marker in (jpeg.SCAN, jpeg.END) or jpeg.is_frame(segment)):
            raise _broken()
    if shape is None:
        raise _broken()
    return shape


def png_shape(data: bytes) -> Shape:
    """Return the size and the number of frames; IEND must be the end of the file. Raises AttachmentRefused `broken`."""
    shape, frames, has_pixels, end = None, 1, False, 0
    for chunk in _whole(png.chunks(data, MAX_PARTS)):
        if (shape is None) != (chunk.kind == b"IHDR"):
            raise _broken()
        if shape is None:
            size = png.header_size(data, chunk)
            if size is None:
                raise _broken()
            shape = _shape(*size)
        elif chunk.kind == b"acTL" and chunk.length >= 4:
            frames = max(1, int.from_bytes(data[chunk.start : chunk.start + 4]))
        has_pixels = has_pixels or chunk.kind == b"IDAT"
        end = chunk.end
    if shape is None or not has_pixels or end != len(data):
        raise _broken()
    return Shape(shape.width_px, shape.height_px, frames)


def webp_shape(data: bytes) -> Shape:
    """Return the size and the number of frames; the chunks must fill the file. Raises AttachmentRefused `broken`."""
    if len(data) < 20 or int.from_bytes(data[4:8], "little") + 8 != len(data):
        raise _broken()
    end, shape, frames = 12, None, 0
    for chunk in _whole(webp.chunks(data, len(data), MAX_PARTS + 1)):
        end = chunk.start + chunk.length + chunk.length % 2
        frames += chunk.kind == b"ANMF"
        if shape is None:
            head = data[chunk.start : chunk.start + min(chunk.length, 10)]
            mark, start = _WEBP_STARTS.get(chunk.kind, (b"", 0))
            size = webp.picture_size(chunk.kind, head)
            if size is None or head[start : start + len(mark)] != mark:
                raise _broken()
            shape = _shape(*size)
    if end != len(data) or shape is None:
        raise _broken()
    return Shape(shape.width_px, shape.height_px, max(1, frames))


def _whole(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Yield the parts of a file that must be complete. Raises AttachmentRefused `broken`."""
    try:
        yield from parts
    except Damaged as error:
        raise _broken() from error


def _shape(width_px: int, height_px: int) -> Shape:
    if width_px < 1 or height_px < 1:
        raise _broken()
    return Shape(width_px, height_px)


def check_pdf(data: bytes) -> None:
    """Raises AttachmentRefused `broken` unless the file was sent whole."""
    if b"%%EOF" not in data[-1024:] or b"startxref" not in data[-2048:]:
        raise _broken()


def check_mp4(data: bytes) -> None:
    """Raises AttachmentRefused `broken` unless the boxes fill the file and one of them describes the film."""
    parsed = ParsedFile("video/mp4")
    end, is_described = 0, False
    for box in isobmff.Boxes(data, parsed).within(0, len(data), "mp4"):
        end, is_described = box.end, is_described or box.kind == b"moov"
    if parsed.notes or end != len(data) or not is_described:
        raise _broken()
