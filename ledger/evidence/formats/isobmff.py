"""Boxes of ISO base media files (ISO/IEC 14496-12): MP4 and MOV metadata; items of HEIC and AVIF are in `heif.py`.

Read are `moov/udta` and `moov/meta` with QuickTime's keys and iTunes' list, XMP and C2PA in `uuid` boxes, and the size
of the picture. A box never extends beyond the box that contains it, whatever its length says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_BOX_DEPTH, MAX_BOXES, MAX_ITEMS, MAX_TEXT_BYTES, MAX_XMP_BYTES

XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_CONTAINERS = frozenset({b"moov", b"trak", b"udta"})


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its type and where its content begins and ends."""

    kind: bytes
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.end - self.start


class Boxes:
    """The boxes of one file. Counts them, so that a file of nothing but headers ends as soon as any other."""

    def __init__(self, data: bytes, parsed: ParsedFile) -> None:
        self.data = data
        self.parsed = parsed
        self._left = MAX_BOXES

    def within(self, start: int, end: int, where: str) -> Iterator[Box]:
        """Yield the boxes between two positions."""
        at = start
        while at + 8 <= end:
            if self._left <= 0:
                self.parsed.note(NoteCode.LIMIT_REACHED, where, "boxes")
                return
            self._left -= 1
            length, kind = struct.unpack_from(">I4s", self.data, at)
            head = 8
            if length == 1 and at + 16 <= end:
                length, head = int.from_bytes(self.data[at + 8 : at + 16]), 16
            elif length == 0:
                length = end - at
            if length < head:
                if kind != b"\0\0\0\0":  # four zeros end a list of user data
                    self.parsed.note(NoteCode.MALFORMED, where, f"box at {at}")
                return
            if at + length > end:
                self.parsed.note(NoteCode.TRUNCATED, where, f"{name(kind)} promises {length} bytes")
                yield Box(kind, at + head, end)
                return
            yield Box(kind, at + head, at + length)
            at += length

    def content(self, box: Box, limit: int, where: str) -> bytes | None:
        """Return the bytes of a box, or None with a note if they are too many."""
        if box.size > limit:
            self.parsed.note(NoteCode.PIECE_TOO_LARGE, where, f"{box.size} bytes")
            return None
        return self.data[box.start : box.end]


def name(kind: bytes) -> str:
    """Return a box's type as text."""
    return kind.decode("latin-1")


def read(data: bytes, parsed: ParsedFile) -> None:
    """Add the metadata in the boxes of a film."""
    boxes = Boxes(data, parsed)
    film = False
    for box in boxes.within(0, len(data), "mp4"):
        if box.kind == b"uuid":
            uuid_box(boxes, box, "mp4")
        elif box.kind in _CONTAINERS:
            film = film or box.kind == b"moov"
            _walk(boxes, box, f"mp4:{name(box.kind)}", 1)
        elif box.kind == b"meta":
            _meta(boxes, box, "mp4:meta")
    if not film:
        parsed.note(NoteCode.TRUNCATED, "mp4", "no moov box")


def uuid_box(boxes: Boxes, box: Box, where: str) -> None:
    """Add XMP or the place of a C2PA manifest in a box of a type of its own."""
    uuid = boxes.data[box.start : min(box.start + 16, box.end)]
    if uuid == C2PA_UUID:
        boxes.parsed.manifest_bytes += box.size
        if not boxes.parsed.of(BlockType.C2PA):
            boxes.parsed.add(BlockType.C2PA, f"{where}:uuid")
    elif uuid == XMP_UUID:
        content = boxes.content(box, MAX_XMP_BYTES, f"{where}:uuid")
        if content is not None:
            boxes.parsed.add(BlockType.XMP, f"{where}:uuid", content[16:])


def _walk(boxes: Boxes, parent: Box, where: str, depth: int) -> None:
    if depth > MAX_BOX_DEPTH:
        boxes.parsed.note(NoteCode.LIMIT_REACHED, where, "depth")
        return
    for box in boxes.within(parent.start, parent.end, where):
        path = f"{where}/{name(box.kind)}"
        if box.kind in _CONTAINERS:
            _walk(boxes, box, path, depth + 1)
        elif box.kind == b"tkhd":
            _track_size(boxes, box)
        elif box.kind == b"meta":
            _meta(boxes, box, path)
        elif box.kind == b"uuid":
            uuid_box(boxes, box, path)
        elif box.kind == b"XMP_":
            content = boxes.content(box, MAX_XMP_BYTES, path)
            if content is not None:
                boxes.parsed.add(BlockType.XMP, path, content)
        elif parent.kind == b"udta" and (box.kind[:1] == b"\xa9" or box.kind == b"AIGC"):
            _user_text(boxes, box, path)


def _track_size(boxes: Boxes, box: Box) -> None:
    """Keep width and height of the largest track: 16.16 numbers at the end of its header."""
    if box.size < 84:
        return
    width, height = struct.unpack_from(">HxxH", boxes.data, box.end - 8)
    if width * height > boxes.parsed.width_px * boxes.parsed.height_px:
        boxes.parsed.width_px, boxes.parsed.height_px = width, height


def _user_text(boxes: Boxes, box: Box, path: str) -> None:
    """Add QuickTime user data: length, language and text; some writers put the bare text."""
    content = boxes.content(box, MAX_TEXT_BYTES, path)
    if content is None:
        return
    length = int.from_bytes(content[:2])
    text = content[4 : 4 + length] if len(content) >= 4 and 0 < length <= len(content) - 4 else content
    boxes.parsed.add(BlockType.TEXT, path, text, name(box.kind))


def meta_children(boxes: Boxes, box: Box, where: str) -> list[Box]:
    """Return the boxes in a `meta` box, which has a version in ISO's form and none in QuickTime's."""
    plain = boxes.data[box.start + 4 : box.start + 8] == b"hdlr"
    start = box.start if plain else box.start + 4
    return list(boxes.within(min(start, box.end), box.end, where))


def _meta(boxes: Boxes, box: Box, where: str) -> None:
    children = meta_children(boxes, box, where)
    keys: list[str] = []
    for child in children:
        if child.kind == b"keys":
            keys = _keys(boxes, child, f"{where}/keys")
        elif child.kind == b"uuid":
            uuid_box(boxes, child, where)
    for child in children:
        if child.kind == b"ilst":
            _list(boxes, child, keys, f"{where}/ilst")


def _keys(boxes: Boxes, box: Box, where: str) -> list[str]:
    """Return the names of metadata items, numbered from one."""
    names: list[str] = []
    at = box.start + 8
    while at + 8 <= box.end and len(names) < MAX_ITEMS:
        length = int.from_bytes(boxes.data[at : at + 4])
        if length < 8 or at + length > box.end:
            boxes.parsed.note(NoteCode.MALFORMED, where, f"key at {at}")
            break
        names.append(boxes.data[at + 8 : at + length][:200].decode("utf-8", "replace"))
        at += length
    return names


def _list(boxes: Boxes, parent: Box, keys: list[str], where: str) -> None:
    """Add the values of `keys`, of iTunes' four-letter items, and of its `----` items, which have their name in
    them."""
    for item in boxes.within(parent.start, parent.end, where):
        number = int.from_bytes(item.kind)
        key = keys[number - 1] if 1 <= number <= len(keys) else name(item.kind)
        for part in boxes.within(item.start, item.end, where):
            if part.kind == b"name" and item.kind == b"----":
                key = boxes.data[part.start + 4 : min(part.end, part.start + 204)].decode("utf-8", "replace")
            elif part.kind == b"data":
                content = boxes.content(part, MAX_TEXT_BYTES, where)
                if content is not None and len(content) > 8 and int.from_bytes(content[:4]) in (0, 1):
                    boxes.parsed.add(BlockType.TEXT, where, content[8:], key)
