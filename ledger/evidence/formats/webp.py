"""WebP: the chunks of a RIFF file (RFC 9649)."""

from __future__ import annotations

import struct

from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_CHUNKS, MAX_EXIF_BYTES, MAX_XMP_BYTES

_HAS_EXIF, _HAS_XMP = 0x08, 0x04


def read(data: bytes, found: ParsedFile) -> None:
    """Add what stands in the chunks of `data`."""
    promised_end = int.from_bytes(data[4:8], "little") + 8
    end = min(promised_end, len(data))
    if promised_end > len(data):
        found.note(NoteCode.TRUNCATED, "webp", f"{promised_end} bytes promised")
    elif promised_end < len(data):
        found.note(NoteCode.TRAILING_DATA, "webp", f"{len(data) - promised_end} bytes after the picture")
    at = 12
    for _step in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        body, at = at + 8, at + 8 + length + length % 2
        if body + length > end:
            found.note(NoteCode.TRUNCATED, "webp", f"{length} bytes promised in a chunk")
            return
        _chunk(kind, data, body, length, found)
    found.note(NoteCode.LIMIT_REACHED, "webp", "chunks")


def _chunk(kind: bytes, data: bytes, body: int, length: int, found: ParsedFile) -> None:
    if kind in (b"EXIF", b"XMP "):
        name = kind.decode().strip()
        if length > (MAX_EXIF_BYTES if kind == b"EXIF" else MAX_XMP_BYTES):
            found.note(NoteCode.PIECE_TOO_LARGE, f"webp:{name}", f"{length} bytes")
            return
        content = data[body : body + length]
        if kind == b"EXIF":
            found.add(BlockType.EXIF, "webp:EXIF", content.removeprefix(b"Exif\0\0"))
        else:
            found.add(BlockType.XMP, "webp:XMP", content)
    elif kind == b"C2PA":
        found.manifest_bytes += length
        found.add(BlockType.C2PA, "webp:C2PA")
    elif not found.width_px:
        _head(kind, data[body : body + min(length, 10)], found)


def _head(kind: bytes, head: bytes, found: ParsedFile) -> None:
    if kind == b"VP8X" and len(head) == 10:
        found.width_px = int.from_bytes(head[4:7], "little") + 1
        found.height_px = int.from_bytes(head[7:10], "little") + 1
        if head[0] & _HAS_EXIF:
            found.promised.add(BlockType.EXIF)
        if head[0] & _HAS_XMP:
            found.promised.add(BlockType.XMP)
    elif kind == b"VP8 " and len(head) == 10:
        width, height = struct.unpack_from("<HH", head, 6)
        found.width_px, found.height_px = width & 0x3FFF, height & 0x3FFF
    elif kind == b"VP8L" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        found.width_px, found.height_px = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
