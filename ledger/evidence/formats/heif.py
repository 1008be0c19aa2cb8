"""HEIC and AVIF (ISO/IEC 23008-12): the picture's size, and its EXIF and XMP items.

Items whose bytes are in the file or in `idat`, in one or several parts; constructions by other items, and encrypted
ones, are noted and left.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ledger.evidence.formats.isobmff import Box, Boxes, meta_children, uuid_box
from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_EXIF_BYTES, MAX_ITEMS, MAX_XMP_BYTES

_XMP_TYPE = b"application/rdf+xml"
_EXTENTS = 64


@dataclass(frozen=True, slots=True)
class _Location:
    from_idat: bool
    extents: tuple[tuple[int, int], ...]


def read(data: bytes, parsed: ParsedFile) -> None:
    """Add the metadata in the items of a still picture."""
    boxes = Boxes(data, parsed)
    seen = False
    for box in boxes.within(0, len(data), "heif"):
        if box.kind == b"uuid":
            uuid_box(boxes, box, "heif")
        elif box.kind == b"meta" and not seen:
            seen = True
            _items(boxes, meta_children(boxes, box, "heif:meta"))
    if not seen:
        parsed.note(NoteCode.TRUNCATED, "heif", "no meta box")


def _items(boxes: Boxes, children: list[Box]) -> None:
    kinds: dict[int, BlockType] = {}
    places: dict[int, _Location] = {}
    idat: Box | None = None
    for child in children:
        if child.kind == b"iinf":
            kinds = _kinds(boxes, child)
        elif child.kind == b"iloc":
            places = _locations(boxes, child)
        elif child.kind == b"idat":
            idat = child
        elif child.kind == b"iprp":
            _size(boxes, child)
    for item, sort in kinds.items():
        where = f"heif:item {sort.value}"
        if item not in places:
            boxes.parsed.note(NoteCode.MALFORMED, where, "no location")
            continue
        content = _content(
            boxes, places[item], idat, where, MAX_EXIF_BYTES if sort is BlockType.EXIF else MAX_XMP_BYTES
        )
        if content is not None and sort is BlockType.EXIF:
            skip = int.from_bytes(content[:4]) + 4
            content = content[skip:] if skip <= len(content) else b""
            boxes.parsed.add(BlockType.EXIF, where, content.removeprefix(b"Exif\0\0"))
        elif content is not None:
            boxes.parsed.add(BlockType.XMP, where, content)


def _kinds(boxes: Boxes, box: Box) -> dict[int, BlockType]:
    """Return the items that are EXIF or XMP."""
    data = boxes.data
    wide = box.size > 0 and data[box.start] > 0
    types: dict[int, BlockType] = {}
    for entry in boxes.within(box.start + (8 if wide else 6), box.end, "heif:iinf"):
        if entry.kind != b"infe" or entry.size < 12 or data[entry.start] not in (2, 3):
            continue
        four = data[entry.start] == 3
        at = entry.start + 4
        number = int.from_bytes(data[at : at + (4 if four else 2)])
        at += 6 if four else 4
        kind, rest = data[at : at + 4], data[at + 4 : min(entry.end, at + 300)]
        if kind == b"Exif":
            types[number] = BlockType.EXIF
        elif kind == b"mime" and _XMP_TYPE in rest.split(b"\0")[1:2]:
            types[number] = BlockType.XMP
        if len(types) >= MAX_ITEMS:
            break
    return types


def _locations(boxes: Boxes, box: Box) -> dict[int, _Location]:
    reader = _Numbers(boxes.data, box.start, box.end)
    locations: dict[int, _Location] = {}
    try:
        version = reader.take(1)
        reader.take(3)
        sizes = reader.take(2)
        offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_size = sizes & 15 if version in (1, 2) else 0
        for _ in range(min(reader.take(4 if version == 2 else 2), MAX_ITEMS)):
            number = reader.take(4 if version == 2 else 2)
            method = reader.take(2) & 15 if version in (1, 2) else 0
            reader.take(2)
            base = reader.take(base_size)
            extents = []
            for _extent in range(reader.take(2)):
                reader.take(index_size)
                extents.append((base + reader.take(offset_size), reader.take(length_size)))
                if len(extents) > _EXTENTS:
                    raise ValueError
            if method in (0, 1):
                locations[number] = _Location(method == 1, tuple(extents))
    except ValueError:
        boxes.parsed.note(NoteCode.MALFORMED, "heif:iloc")
    return locations


class _Numbers:
    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def take(self, size: int) -> int:
        """Return the next big-endian number of `size` bytes. Raises ValueError at the end, and for odd sizes."""
        if size not in (0, 1, 2, 3, 4, 8) or self._at + size > self._end:
            raise ValueError
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at])


def _content(boxes: Boxes, place: _Location, idat: Box | None, where: str, limit: int) -> bytes | None:
    start, end = (idat.start, idat.end) if place.from_idat and idat is not None else (0, len(boxes.data))
    parts: list[bytes] = []
    for offset, length in place.extents:
        first = start + offset
        last = first + length if length else end
        if first > end or last > end:
            boxes.parsed.note(NoteCode.TRUNCATED, where, f"{length} bytes promised")
            return None
        if last - first + sum(map(len, parts)) > limit:
            boxes.parsed.note(NoteCode.PIECE_TOO_LARGE, where, f"{last - first} bytes")
            return None
        parts.append(boxes.data[first:last])
    return b"".join(parts)


def _size(boxes: Boxes, box: Box) -> None:
    """Keep the size of the largest picture among the properties; tiles and thumbnails are smaller."""
    for container in boxes.within(box.start, box.end, "heif:iprp"):
        if container.kind != b"ipco":
            continue
        for prop in boxes.within(container.start, container.end, "heif:ipco"):
            if prop.kind == b"ispe" and prop.size >= 12:
                width, height = struct.unpack_from(">II", boxes.data, prop.start + 4)
                if width * height > boxes.parsed.width_px * boxes.parsed.height_px:
                    boxes.parsed.width_px, boxes.parsed.height_px = width, height
