"""EXIF (CIPA DC-008): the few tags that an inspection reads, from an untrusted TIFF structure.

Maker notes are not read: their form is not published, and they contain no label.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ledger.evidence.formats.metadata import NoteCode, ParsedFile, decode
from ledger.evidence.limits import MAX_EXIF_BYTES, MAX_IFD_ENTRIES, MAX_IFDS, MAX_VALUE_BYTES

TEXT_TAGS = {
    0x000B: "ProcessingSoftware",
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x013C: "HostComputer",
    0x8298: "Copyright",
    0x9C9C: "XPComment",
    0x9C9E: "XPKeywords",
    0xA43A: "RAWDevelopingSoftware",
    0xA43B: "ImageEditingSoftware",
}
_USER_COMMENT = 0x9286
_XMP = 0x02BC
_NUMBERS = {0x0112: "Orientation", 0xA002: "PixelXDimension", 0xA003: "PixelYDimension"}
_EXIF_IFD = 0x8769
_THUMBNAIL_AT, _THUMBNAIL_BYTES = 0x0201, 0x0202
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 9: 4, 13: 4, 129: 1}
"""Bytes of one value, by its type: those types that a wanted tag may have."""

_WIDE = frozenset({"XPComment", "XPKeywords"})


@dataclass(slots=True)
class Exif:
    """What was read of one EXIF block."""

    texts: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    comment: str = ""
    thumbnail: bytes = b""
    xmp: bytes = b""


class _Broken(Exception):
    """The structure contradicts itself."""


def parse(data: bytes, where: str, parsed: ParsedFile) -> Exif:
    """Return the wanted tags of a TIFF structure; notes say what could not be read."""
    if len(data) > MAX_EXIF_BYTES:
        parsed.note(NoteCode.PIECE_TOO_LARGE, where, f"{len(data)} bytes of EXIF")
        data = data[:MAX_EXIF_BYTES]
    exif = Exif()
    try:
        _Reader(data, exif).read()
    except (_Broken, struct.error) as error:
        parsed.note(NoteCode.EXIF_UNREADABLE, where, str(error))
    return exif


class _Reader:
    def __init__(self, data: bytes, exif: Exif) -> None:
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or struct.unpack_from(f"{order}H", data, 2) != (42,):
            raise _Broken("no TIFF header")
        self._data, self._exif, self._order = data, exif, order
        self._seen: set[int] = set()

    def read(self) -> None:
        """Read the chain of IFDs: the picture's, then the thumbnail's."""
        at = self._number("I", 4)
        self._thumbnail: dict[int, int] = {}
        first = True
        while at:
            at = self._directory(at, is_main=first)
            first = False
        start, length = self._thumbnail.get(_THUMBNAIL_AT), self._thumbnail.get(_THUMBNAIL_BYTES)
        if start is not None and length:
            self._exif.thumbnail = self._data[start : start + length]
            if len(self._exif.thumbnail) < length:
                raise _Broken("the thumbnail is cut off")

    def _number(self, form: str, at: int) -> int:
        value: int = struct.unpack_from(self._order + form, self._data, at)[0]
        return value

    def _directory(self, at: int, is_main: bool) -> int:
        """Read one IFD and return the position of the next."""
        if at in self._seen or len(self._seen) >= MAX_IFDS:
            raise _Broken("IFDs in a circle, or too many")
        self._seen.add(at)
        count = self._number("H", at)
        if count > MAX_IFD_ENTRIES:
            raise _Broken(f"{count} entries")
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(f"{self._order}HHI", self._data, entry)
            if is_main or tag in (_THUMBNAIL_AT, _THUMBNAIL_BYTES):
                self._entry(tag, kind, length, entry + 8)
        end = at + 2 + 12 * count
        return self._number("I", end) if end + 4 <= len(self._data) else 0

    def _entry(self, tag: int, kind: int, length: int, at: int) -> None:
        if tag == _EXIF_IFD:
            self._directory(self._number("I", at), is_main=True)
        elif tag in (_THUMBNAIL_AT, _THUMBNAIL_BYTES):
            self._thumbnail[tag] = self._number("H" if kind == 3 else "I", at)
        elif tag in _NUMBERS and kind in (3, 4) and length == 1:
            self._exif.numbers[_NUMBERS[tag]] = self._number("H" if kind == 3 else "I", at)
        elif tag in TEXT_TAGS:
            name = TEXT_TAGS[tag]
            value = self._value(kind, length, at, MAX_VALUE_BYTES)
            wide = value.decode("utf-16-le", "replace").rstrip("\0") if name in _WIDE else None
            self._exif.texts.setdefault(name, decode(value) if wide is None else wide)
        elif tag == _USER_COMMENT:
            self._exif.comment = self._exif.comment or _comment(
                self._value(kind, length, at, MAX_EXIF_BYTES), self._order
            )
        elif tag == _XMP:
            self._exif.xmp = self._value(kind, length, at, MAX_EXIF_BYTES)

    def _value(self, kind: int, length: int, at: int, limit: int) -> bytes:
        size = _SIZES.get(kind, 0) * length
        if size > limit:
            raise _Broken(f"a value of {size} bytes")
        start = at if size <= 4 else self._number("I", at)
        value = self._data[start : start + size]
        if len(value) < size:
            raise _Broken("a value lies outside")
        return value


def _comment(value: bytes, order: str) -> str:
    """Return a UserComment: eight bytes say how the rest is written, if the writer kept to that."""
    mark, rest = value[:8], value[8:]
    if mark == b"UNICODE\0":
        return rest.decode(_wide_encoding(rest, order), "replace").strip("\0")
    if mark in (b"ASCII\0\0\0", b"\0" * 8):
        return decode(rest)
    if mark.startswith(b"JIS"):
        return rest.decode("iso2022_jp", "replace").strip("\0")
    return decode(value)


def _wide_encoding(text: bytes, order: str) -> str:
    """Return the byte order of a text by the position of the zeros of Latin letters: many writers use another one than
    the block."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    high, low = text[0:2000:2].count(0), text[1:2000:2].count(0)
    if high == low:
        return "utf-16-be" if order == ">" else "utf-16-le"
    return "utf-16-be" if high > low else "utf-16-le"
