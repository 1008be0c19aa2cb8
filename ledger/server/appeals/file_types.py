"""What a file is, from its own bytes: the types that an appeal takes, and how far each goes before it ends.

Pure. Nothing is decoded; every loop is over a bounded number of segments, so that a hostile file costs no more than an
honest one of its size. Whatever is not clearly one of the six types is refused; what a sender calls it plays no part.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from dataclasses import dataclass

from ledger.errors import AttachmentRefused

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "image/jpeg": (".jpg", ".jpeg"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "application/pdf": (".pdf",),
    "video/mp4": (".mp4", ".m4v"),
    "text/plain": (".txt",),
}
"""Media types that are taken, with the endings their names may have; the first is given to a name that has none."""

MAX_SEGMENTS = 20_000
"""Chunks or boxes of one file: ten times what encoders make of ten megabytes."""

MAX_JPEG_SEGMENTS = 1_000
"""Segments hold 64 KiB; so many small ones have no use, and decoders join some of them in quadratic time."""

_MP4_BRANDS = {b"isom", b"avc1", b"mp41", b"mp42", b"M4V ", b"M4VP", b"MSNV", b"dash", b"mp71", b"f4v "}
_MP4_ISO = re.compile(rb"iso[2-9a-c]\Z")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MARKUP = re.compile(r"<[A-Za-z!?/]")
_PDF_HEAD = re.compile(rb"%PDF-[12]\.\d[\r\n ]")
_JPEG_MARKER = re.compile(rb"\xff{1,16}[\x01-\xfe]")
"""A marker, with some of the fill bytes that may stand before it; decoders read those one by one."""

_JPEG_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The next marker in coded data: not a stuffed zero, not a restart."""

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """A picture's size by its own header."""

    width_px: int
    height_px: int
    frames: int = 1


def refused(reason: str, message: str) -> AttachmentRefused:
    """The refusal with its stable reason code."""
    return AttachmentRefused(message, reason=reason)


def _broken() -> AttachmentRefused:
    return refused("broken", "The file is damaged or incomplete.")


def sniff(data: bytes) -> str:
    """The media type of `data`.

    Raises AttachmentRefused: `type_not_taken`, `markup` (HTML, SVG, XML), `not_plain_text`, `polyglot`
    (also an archive).
    """
    found = _by_magic(data)
    if found is None:
        return _as_text(data)
    if zipfile.is_zipfile(io.BytesIO(data)):
        raise refused("polyglot", "The file is an archive at the same time.")
    return found


def _by_magic(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(_PNG_HEAD):
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
    """Walks the segments up to the end of the picture (what cameras append after it is left alone).

    Raises AttachmentRefused `broken`.
    """
    at, shape = 2, None
    for _step in range(MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.match(data, at)
        if found is None:
            raise _broken()
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            if shape is None:
                raise _broken()
            return shape
        if marker in _JPEG_ALONE:
            continue
        if at + 2 > len(data):
            raise _broken()
        length = int.from_bytes(data[at : at + 2])
        if length < 2 or at + length > len(data):
            raise _broken()
        if marker in _JPEG_FRAMES and shape is None:
            if length < 8:
                raise _broken()
            height, width = struct.unpack_from(">HH", data, at + 3)
            shape = _shape(width, height)
        at += length
        if marker == 0xDA:
            if shape is None:
                raise _broken()
            after = _JPEG_AFTER_SCAN.search(data, at)
            if after is None:
                raise _broken()
            at = after.start()
    raise _broken()


def png_shape(data: bytes) -> Shape:
    """Walks the chunks up to IEND, which must be the end. Raises AttachmentRefused `broken`."""
    at, shape, frames, pixels = len(_PNG_HEAD), None, 1, False
    for _step in range(MAX_SEGMENTS):
        if at + 12 > len(data):
            raise _broken()
        length, kind = struct.unpack_from(">I4s", data, at)
        body, at = at + 8, at + 12 + length
        if at > len(data) or (shape is None) != (kind == b"IHDR"):
            raise _broken()
        if kind == b"IHDR":
            if length != 13:
                raise _broken()
            shape = _shape(*struct.unpack_from(">II", data, body))
        elif kind == b"acTL" and length >= 4:
            frames = max(1, int.from_bytes(data[body : body + 4]))
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"IEND":
            if shape is None or not pixels or at != len(data):
                raise _broken()
            return Shape(shape.width_px, shape.height_px, frames)
    raise _broken()


def webp_shape(data: bytes) -> Shape:
    """Walks the RIFF chunks, which must fill the file. Raises AttachmentRefused `broken`."""
    if len(data) < 20 or int.from_bytes(data[4:8], "little") + 8 != len(data):
        raise _broken()
    at, shape, frames = 12, None, 0
    for _step in range(MAX_SEGMENTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body, at = at + 8, at + 8 + length + length % 2
        if at > len(data):
            raise _broken()
        frames += kind == b"ANMF"
        if shape is None:
            shape = _webp_head(kind, data[body : body + 10], length)
    if at != len(data) or shape is None:
        raise _broken()
    return Shape(shape.width_px, shape.height_px, max(1, frames))


def _webp_head(kind: bytes, head: bytes, length: int) -> Shape:
    """The size, from the first chunk: the canvas of VP8X, or the picture itself."""
    if kind == b"VP8X" and length >= 10:
        return _shape(int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1)
    if kind == b"VP8 " and length >= 10 and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 6)
        return _shape(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and length >= 5 and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return _shape((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    raise _broken()


def _shape(width_px: int, height_px: int) -> Shape:
    if width_px < 1 or height_px < 1:
        raise _broken()
    return Shape(width_px, height_px)


def check_pdf(data: bytes) -> None:
    """That the file was sent whole. Raises AttachmentRefused `broken`."""
    if b"%%EOF" not in data[-1024:] or b"startxref" not in data[-2048:]:
        raise _broken()


def check_mp4(data: bytes) -> None:
    """That the boxes fill the file and one describes the film. Raises AttachmentRefused `broken`."""
    at, described = 0, False
    for _step in range(MAX_SEGMENTS):
        if at == len(data):
            break
        if at + 8 > len(data):
            raise _broken()
        length, kind = struct.unpack_from(">I4s", data, at)
        smallest = 8
        if length == 1 and at + 16 <= len(data):
            length, smallest = int.from_bytes(data[at + 8 : at + 16]), 16
        elif length == 0:
            length = len(data) - at
        if length < smallest or at + length > len(data):
            raise _broken()
        described = described or kind == b"moov"
        at += length
    if at != len(data) or not described:
        raise _broken()
