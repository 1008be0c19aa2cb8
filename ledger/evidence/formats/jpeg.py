"""JPEG segments (ISO/IEC 10918-1 annex B, Exif, XMP part 3): metadata, quantisation tables, the shape of the scans.

The walk looks at markers only; nothing is decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ledger.evidence.formats.metadata import BlockType, Damaged, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_JPEG_SEGMENTS, MAX_XMP_BYTES

END, SCAN = 0xD9, 0xDA
"""Markers of the end of the picture, and of a start of scan."""

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
"""Application segments of an unknown type are kept if they contain one of these."""


class Segment(NamedTuple):
    """A segment with a length: its marker, and the positions where its content begins and ends."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments of a JPEG up to the end of the picture, whose marker (`END`) has an empty one.

    Coded data between a start of scan and the next marker is passed over. Raises Damaged when the structure is cut off
    or malformed, and after `MAX_JPEG_SEGMENTS` markers.
    """
    at = 2
    for _step in range(MAX_JPEG_SEGMENTS):
        marked = _MARKER.match(data, at)
        if marked is None:
            code = NoteCode.TRUNCATED if at >= len(data) - 1 else NoteCode.MALFORMED
            raise Damaged(code, "jpeg", f"marker at {at}")
        marker, at = data[marked.end() - 1], marked.end()
        if marker == END:
            yield Segment(marker, at, at)
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2]) if at + 2 <= len(data) else -1
        if length < 2 or at + length > len(data):
            code = NoteCode.TRUNCATED if length != 0 and length != 1 else NoteCode.MALFORMED
            raise Damaged(code, f"jpeg:{_name(marker)}", f"length at {at}")
        yield Segment(marker, at + 2, at + length)
        at += length
        if marker == SCAN:
            after = _AFTER_SCAN.search(data, at)
            if after is None:
                raise Damaged(NoteCode.TRUNCATED, "jpeg", "no end of image")
            at = after.start()
    raise Damaged(NoteCode.LIMIT_REACHED, "jpeg", "segments")


def is_frame(segment: Segment) -> bool:
    """True for a frame header, whatever its length."""
    return segment.marker in _FRAMES


def frame_size(data: bytes, segment: Segment) -> tuple[int, int] | None:
    """Return (width, height) in pixels by a frame header, None for another segment or one that is too short."""
    if not is_frame(segment) or segment.end - segment.start < 6:
        return None
    height, width = struct.unpack_from(">HH", data, segment.start + 1)
    return width, height


def read(data: bytes, parsed: ParsedFile) -> None:
    """Add the metadata of the segments of `data`, up to the end of the picture."""
    extended: dict[str, _Extended] = {}
    try:
        for segment in segments(data):
            if segment.marker == END and segment.end < len(data):
                parsed.note(NoteCode.TRAILING_DATA, "jpeg", f"{len(data) - segment.end} bytes after the picture")
            elif segment.marker != END:
                _segment(data, segment, parsed, extended)
            parsed.scans += segment.marker == SCAN
    except Damaged as damage:
        parsed.damaged(damage)
    for digest, parts in extended.items():
        parts.hand_over(digest, parsed)


def bare(data: bytes) -> bytes:
    """Return the picture without application segments and comments, for a decoder that would parse them: kept is the
    one that says how colours are coded (APP14). Empty if there is no scan within the limits."""
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


def _segment(data: bytes, segment: Segment, parsed: ParsedFile, extended: dict[str, _Extended]) -> None:
    marker, body = segment.marker, data[segment.start : segment.end]
    where = f"jpeg:{_name(marker)}"
    if is_frame(segment):
        size = frame_size(data, segment)
        if size is not None and not parsed.width_px:
            parsed.width_px, parsed.height_px = size
            parsed.progressive = marker in _PROGRESSIVE
    elif marker == 0xDB:
        _tables(body, parsed)
    elif marker == 0xE1 and body.startswith(_EXIF):
        parsed.add(BlockType.EXIF, where, body[6:])
    elif marker == 0xE1 and body.startswith(_XMP):
        parsed.add(BlockType.XMP, where, body[len(_XMP) :])
    elif marker == 0xE1 and body.startswith(_XMP_MORE):
        _extension(body[len(_XMP_MORE) :], parsed, extended)
    elif marker == 0xEB and body.startswith(_JUMBF):
        parsed.manifest_bytes += len(body)
        if not parsed.of(BlockType.C2PA):
            parsed.add(BlockType.C2PA, where)
    elif marker == 0xFE or (0xE0 <= marker <= 0xEF and any(mark in body for mark in _MARKS)):
        parsed.add(BlockType.SEGMENT, where, body)


def _tables(body: bytes, parsed: ParsedFile) -> None:
    at = 0
    while at < len(body) and len(parsed.tables) < _MAX_TABLES:
        wide = body[at] >> 4
        end = at + 1 + _TABLE_ENTRIES * (2 if wide else 1)
        if wide > 1 or end > len(body):
            parsed.note(NoteCode.MALFORMED, "jpeg:DQT")
            return
        parsed.tables.append(struct.unpack_from(f">{_TABLE_ENTRIES}{'H' if wide else 'B'}", body, at + 1))
        at = end


class _Extended:
    """Parts of one XMP packet that is too long for a segment (XMP part 3, 1.1.3.1)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.parts: dict[int, bytes] = {}

    def hand_over(self, digest: str, parsed: ParsedFile) -> None:
        whole = b"".join(self.parts[offset] for offset in sorted(self.parts))
        if len(whole) == self.length:
            parsed.extended_xmp.add(digest)
            parsed.add(BlockType.XMP, "jpeg:APP1 extended", whole)
        else:
            parsed.note(NoteCode.TRUNCATED, "jpeg:APP1 extended", f"{len(whole)} of {self.length} bytes")


def _extension(body: bytes, parsed: ParsedFile, extended: dict[str, _Extended]) -> None:
    if len(body) < 40:
        parsed.note(NoteCode.MALFORMED, "jpeg:APP1 extended")
        return
    digest = body[:32].decode("latin-1")
    length, offset = struct.unpack_from(">II", body, 32)
    if length > MAX_XMP_BYTES or (digest not in extended and len(extended) >= 4):
        parsed.note(NoteCode.PIECE_TOO_LARGE, "jpeg:APP1 extended", f"{length} bytes")
        return
    packet = extended.setdefault(digest, _Extended(length))
    if sum(map(len, packet.parts.values())) + len(body) - 40 <= packet.length:
        packet.parts.setdefault(offset, body[40:])
