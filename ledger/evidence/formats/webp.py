"""WebP: the chunks of a RIFF file (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ledger.evidence.formats.metadata import BlockType, Damaged, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_CHUNKS, MAX_EXIF_BYTES, MAX_XMP_BYTES

_HAS_EXIF, _HAS_XMP = 0x08, 0x04


class WebpChunk(NamedTuple):
    """A chunk: its type, where its content begins and how long it is, without the byte that pads an odd length."""

    kind: bytes
    start: int
    length: int


def chunks(data: bytes, end: int, most: int = MAX_CHUNKS) -> Iterator[WebpChunk]:
    """Yield the chunks of a WebP file up to position `end`. Raises Damaged when one is cut off, and after `most`."""
    at = 12
    for _step in range(most):
        if at + 8 > end:
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        chunk, at = WebpChunk(kind, at + 8, length), at + 8 + length + length % 2
        if chunk.start + length > end:
            raise Damaged(NoteCode.TRUNCATED, "webp", f"{length} bytes promised in a chunk")
        yield chunk
    raise Damaged(NoteCode.LIMIT_REACHED, "webp", "chunks")


def picture_size(kind: bytes, head: bytes) -> tuple[int, int] | None:
    """Return (width, height) in pixels by the first ten bytes of a chunk: the canvas of VP8X, or the picture's own size
    in VP8 and VP8L. None for another chunk or one that is too short."""
    if kind == b"VP8X" and len(head) == 10:
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8 " and len(head) == 10:
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def read(data: bytes, parsed: ParsedFile) -> None:
    """Add the metadata of the chunks of `data`."""
    promised_end = int.from_bytes(data[4:8], "little") + 8
    end = min(promised_end, len(data))
    if promised_end > len(data):
        parsed.note(NoteCode.TRUNCATED, "webp", f"{promised_end} bytes promised")
    elif promised_end < len(data):
        parsed.note(NoteCode.TRAILING_DATA, "webp", f"{len(data) - promised_end} bytes after the picture")
    try:
        for chunk in chunks(data, end):
            _chunk(data, chunk, parsed)
    except Damaged as damage:
        parsed.damaged(damage)


def _chunk(data: bytes, chunk: WebpChunk, parsed: ParsedFile) -> None:
    kind, body, length = chunk
    if kind in (b"EXIF", b"XMP "):
        name = kind.decode().strip()
        if length > (MAX_EXIF_BYTES if kind == b"EXIF" else MAX_XMP_BYTES):
            parsed.note(NoteCode.PIECE_TOO_LARGE, f"webp:{name}", f"{length} bytes")
            return
        content = data[body : body + length]
        if kind == b"EXIF":
            parsed.add(BlockType.EXIF, "webp:EXIF", content.removeprefix(b"Exif\0\0"))
        else:
            parsed.add(BlockType.XMP, "webp:XMP", content)
    elif kind == b"C2PA":
        parsed.manifest_bytes += length
        parsed.add(BlockType.C2PA, "webp:C2PA")
    elif not parsed.width_px:
        _head(kind, data[body : body + min(length, 10)], parsed)


def _head(kind: bytes, head: bytes, parsed: ParsedFile) -> None:
    size = picture_size(kind, head)
    if size is None:
        return
    parsed.width_px, parsed.height_px = size
    if kind == b"VP8X" and head[0] & _HAS_EXIF:
        parsed.promised.add(BlockType.EXIF)
    if kind == b"VP8X" and head[0] & _HAS_XMP:
        parsed.promised.add(BlockType.XMP)
