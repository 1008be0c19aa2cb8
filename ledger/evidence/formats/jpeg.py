"""JPEG segments (ISO/IEC 10918-1 annex B, Exif, XMP part 3): metadata, quantisation tables, the shape of the scans.

The walk looks at markers only; nothing is decoded.
"""

from __future__ import annotations

import re
import struct

from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_JPEG_SEGMENTS, MAX_XMP_BYTES

_EXIF = b"Exif\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_JUMBF = b"JP"
_MARKER = re.compile(rb"\xff{1,16}[\x01-\xfe]")
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The next marker in coded data: not a stuffed zero, not a restart."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_TABLE_ENTRIES = 64
_MAX_TABLES = 4
_MARKS = (b"AIGC", b"ContentProducer", b"Ducky", b"Photoshop 3.0")
"""Application segments of no known sort are kept if one of these stands in them."""


def read(data: bytes, found: ParsedFile) -> None:
    """Add what stands in the segments of `data`, up to the end of the picture."""
    at = 2
    extended: dict[str, _Extended] = {}
    for _step in range(MAX_JPEG_SEGMENTS):
        marked = _MARKER.match(data, at)
        if marked is None:
            found.note(NoteCode.TRUNCATED if at >= len(data) - 1 else NoteCode.MALFORMED, "jpeg", f"marker at {at}")
            break
        marker, at = data[marked.end() - 1], marked.end()
        if marker == 0xD9:
            if at < len(data):
                found.note(NoteCode.TRAILING_DATA, "jpeg", f"{len(data) - at} bytes after the picture")
            break
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2]) if at + 2 <= len(data) else -1
        if length < 2 or at + length > len(data):
            code = NoteCode.TRUNCATED if length != 0 and length != 1 else NoteCode.MALFORMED
            found.note(code, f"jpeg:{_name(marker)}", f"length at {at}")
            break
        _segment(marker, data[at + 2 : at + length], found, extended)
        at += length
        if marker == 0xDA:
            found.scans += 1
            after = _AFTER_SCAN.search(data, at)
            if after is None:
                found.note(NoteCode.TRUNCATED, "jpeg", "no end of image")
                break
            at = after.start()
    else:
        found.note(NoteCode.LIMIT_REACHED, "jpeg", "segments")
    for digest, parts in extended.items():
        parts.hand_over(digest, found)


def bare(data: bytes) -> bytes:
    """The picture without application segments and comments, for a decoder that would parse them: kept is the one that
    says how colours are coded (APP14). Empty if there is no scan within the limits."""
    kept, at = [data[:2]], 2
    for _step in range(MAX_JPEG_SEGMENTS):
        marked = _MARKER.match(data, at)
        if marked is None:
            return b""
        marker, start = data[marked.end() - 1], marked.end()
        if marker == 0xDA:
            return b"".join([*kept, data[marked.start() :]])
        at = start if marker in _ALONE else start + int.from_bytes(data[start : start + 2])
        if marker == 0xEE or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start - 2 : at])
    return b""


def _name(marker: int) -> str:
    if 0xE0 <= marker <= 0xEF:
        return f"APP{marker - 0xE0}"
    return {0xFE: "COM", 0xDB: "DQT", 0xDA: "SOS"}.get(marker, f"{marker:02X}")


def _segment(marker: int, body: bytes, found: ParsedFile, extended: dict[str, _Extended]) -> None:
    where = f"jpeg:{_name(marker)}"
    if marker in _FRAMES:
        if len(body) >= 6 and not found.width_px:
            found.height_px, found.width_px = struct.unpack_from(">HH", body, 1)
            found.progressive = marker in _PROGRESSIVE
    elif marker == 0xDB:
        _tables(body, found)
    elif marker == 0xE1 and body.startswith(_EXIF):
        found.add(BlockType.EXIF, where, body[6:])
    elif marker == 0xE1 and body.startswith(_XMP):
        found.add(BlockType.XMP, where, body[len(_XMP) :])
    elif marker == 0xE1 and body.startswith(_XMP_MORE):
        _extension(body[len(_XMP_MORE) :], found, extended)
    elif marker == 0xEB and body.startswith(_JUMBF):
        found.manifest_bytes += len(body)
        if not found.of(BlockType.C2PA):
            found.add(BlockType.C2PA, where)
    elif marker == 0xFE or (0xE0 <= marker <= 0xEF and any(mark in body for mark in _MARKS)):
        found.add(BlockType.SEGMENT, where, body)


def _tables(body: bytes, found: ParsedFile) -> None:
    at = 0
    while at < len(body) and len(found.tables) < _MAX_TABLES:
        wide = body[at] >> 4
        end = at + 1 + _TABLE_ENTRIES * (2 if wide else 1)
        if wide > 1 or end > len(body):
            found.note(NoteCode.MALFORMED, "jpeg:DQT")
            return
        found.tables.append(struct.unpack_from(f">{_TABLE_ENTRIES}{'H' if wide else 'B'}", body, at + 1))
        at = end


class _Extended:
    """Parts of one XMP packet that is too long for a segment (XMP part 3, 1.1.3.1)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.parts: dict[int, bytes] = {}

    def hand_over(self, digest: str, found: ParsedFile) -> None:
        whole = b"".join(self.parts[offset] for offset in sorted(self.parts))
        if len(whole) == self.length:
            found.extended_xmp.add(digest)
            found.add(BlockType.XMP, "jpeg:APP1 extended", whole)
        else:
            found.note(NoteCode.TRUNCATED, "jpeg:APP1 extended", f"{len(whole)} of {self.length} bytes")


def _extension(body: bytes, found: ParsedFile, extended: dict[str, _Extended]) -> None:
    if len(body) < 40:
        found.note(NoteCode.MALFORMED, "jpeg:APP1 extended")
        return
    digest = body[:32].decode("latin-1")
    length, offset = struct.unpack_from(">II", body, 32)
    if length > MAX_XMP_BYTES or (digest not in extended and len(extended) >= 4):
        found.note(NoteCode.PIECE_TOO_LARGE, "jpeg:APP1 extended", f"{length} bytes")
        return
    packet = extended.setdefault(digest, _Extended(length))
    if sum(map(len, packet.parts.values())) + len(body) - 40 <= packet.length:
        packet.parts.setdefault(offset, body[40:])
