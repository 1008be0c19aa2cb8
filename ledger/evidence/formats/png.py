"""PNG chunks (W3C PNG third edition): texts, eXIf, caBX, up to IEND. A wrong checksum is noted and does not end the
reading."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ledger.evidence.formats.metadata import BlockType, Damaged, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_CHUNKS, MAX_EXIF_BYTES, MAX_TEXT_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = "XML:com.adobe.xmp"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_RAW_PROFILE = re.compile(r"Raw profile type (\w{1,20})\Z")
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_HEX = re.compile(rb"[0-9a-fA-F\s]*\Z")


class PngChunk(NamedTuple):
    """A chunk: its type, where its content begins and how long it is, and where the chunk ends, checksum included."""

    kind: bytes
    start: int
    length: int
    end: int


def chunks(data: bytes, most: int = MAX_CHUNKS) -> Iterator[PngChunk]:
    """Yield the chunks of a PNG up to IEND. Checksums are not compared.

    Raises Damaged when the structure is cut off, and after `most` chunks.
    """
    at = len(SIGNATURE)
    for _step in range(most):
        if at + 12 > len(data):
            raise Damaged(NoteCode.TRUNCATED, "png", f"chunk at {at}")
        length, kind = struct.unpack_from(">I4s", data, at)
        chunk = PngChunk(kind, at + 8, length, at + 12 + length)
        if chunk.end > len(data):
            if not kind.isalpha():
                raise _no_chunk(chunk)
            raise Damaged(NoteCode.TRUNCATED, f"png:{kind.decode()}", f"{length} bytes promised")
        yield chunk
        if kind == b"IEND":
            return
        at = chunk.end
    raise Damaged(NoteCode.LIMIT_REACHED, "png", "chunks")


def header_size(data: bytes, chunk: PngChunk) -> tuple[int, int] | None:
    """Return (width, height) in pixels by an IHDR chunk, None for another chunk or one of another length."""
    if chunk.kind != b"IHDR" or chunk.length != 13:
        return None
    width, height = struct.unpack_from(">II", data, chunk.start)
    return width, height


def _no_chunk(chunk: PngChunk) -> Damaged:
    return Damaged(NoteCode.MALFORMED, "png", f"chunk at {chunk.start - 8}")


def read(data: bytes, parsed: ParsedFile) -> None:
    """Add the metadata of the chunks of `data`."""
    try:
        for chunk in chunks(data):
            if not chunk.kind.isalpha():
                raise _no_chunk(chunk)
            if chunk.kind == b"IEND" and chunk.end < len(data):
                parsed.note(NoteCode.TRAILING_DATA, "png", f"{len(data) - chunk.end} bytes after the picture")
            elif chunk.kind not in (b"IDAT", b"IEND"):
                _chunk(data, chunk, parsed)
    except Damaged as damage:
        parsed.damaged(damage)


def _chunk(data: bytes, chunk: PngChunk, parsed: ParsedFile) -> None:
    kind, body, length, _ = chunk
    where = f"png:{kind.decode()}"
    size = header_size(data, chunk)
    if size is not None and not parsed.width_px:
        parsed.width_px, parsed.height_px = size
    elif kind == b"caBX":
        parsed.manifest_bytes += length
        parsed.add(BlockType.C2PA, where)
    elif kind in _TEXTS or kind == b"eXIf":
        limit = MAX_EXIF_BYTES if kind == b"eXIf" else MAX_TEXT_BYTES
        if length > limit:
            parsed.note(NoteCode.PIECE_TOO_LARGE, where, f"{length} bytes")
            return
        content = data[body : body + length]
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[body + length : body + length + 4]):
            parsed.note(NoteCode.CHECKSUM_WRONG, where)
        if kind == b"eXIf":
            parsed.add(BlockType.EXIF, where, content)
        else:
            _text(kind, content, where, parsed)


def _text(kind: bytes, content: bytes, where: str, parsed: ParsedFile) -> None:
    raw_key, separator, rest = content.partition(b"\0")
    if not separator or len(raw_key) > 79:
        parsed.note(NoteCode.TEXT_UNREADABLE, where, "no keyword")
        return
    key = raw_key.decode("latin-1")
    text: bytes | None = rest
    if kind == b"zTXt":
        text = parsed.inflate(rest[1:], where)
    elif kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        if len(rest) < 2 or len(parts) != 3:
            parsed.note(NoteCode.TEXT_UNREADABLE, where, "no language or translated keyword")
            return
        text = parsed.inflate(parts[2], where) if rest[0] else parts[2]
    if text is None:
        return
    profile = _RAW_PROFILE.match(key)
    if key == _XMP_KEY:
        parsed.add(BlockType.XMP, where, text)
    elif profile is not None:
        _raw_profile(profile[1].lower(), text, where, parsed)
    else:
        parsed.add(BlockType.TEXT, where, text, key)


def _raw_profile(name: str, text: bytes, where: str, parsed: ParsedFile) -> None:
    """Add EXIF or XMP in ImageMagick's form: name, length and hexadecimal digits on lines of their own."""
    if name not in ("exif", "app1", "xmp"):
        return
    lines = text.lstrip(b"\n").split(b"\n", 2)
    if len(lines) != 3 or not _HEX.match(lines[2]):
        parsed.note(NoteCode.TEXT_UNREADABLE, where, "raw profile")
        return
    digits = b"".join(lines[2].split())
    profile = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    if name == "xmp" or _XMP_HEAD in profile[:40]:
        parsed.add(BlockType.XMP, f"{where} raw profile", profile.partition(_XMP_HEAD)[2] or profile)
    else:
        parsed.add(BlockType.EXIF, f"{where} raw profile", profile.removeprefix(b"Exif\0\0"))
