"""PNG chunks (W3C PNG third edition): texts, eXIf, caBX, up to IEND. Checksums are told, not enforced."""

from __future__ import annotations

import re
import struct
import zlib

from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import MAX_CHUNKS, MAX_EXIF_BYTES, MAX_TEXT_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = "XML:com.adobe.xmp"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_RAW_PROFILE = re.compile(r"Raw profile type (\w{1,20})\Z")
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_HEX = re.compile(rb"[0-9a-fA-F\s]*\Z")


def read(data: bytes, found: ParsedFile) -> None:
    """Add what stands in the chunks of `data`."""
    at = len(SIGNATURE)
    for _step in range(MAX_CHUNKS):
        if at + 12 > len(data):
            found.note(NoteCode.TRUNCATED, "png", f"chunk at {at}")
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        body, after = at + 8, at + 12 + length
        if not kind.isalpha():
            found.note(NoteCode.MALFORMED, "png", f"chunk at {at}")
            return
        if after > len(data):
            found.note(NoteCode.TRUNCATED, f"png:{kind.decode()}", f"{length} bytes promised")
            return
        if kind == b"IEND":
            if after < len(data):
                found.note(NoteCode.TRAILING_DATA, "png", f"{len(data) - after} bytes after the picture")
            return
        if kind != b"IDAT":
            _chunk(kind, data, body, length, found)
        at = after
    found.note(NoteCode.LIMIT_REACHED, "png", "chunks")


def _chunk(kind: bytes, data: bytes, body: int, length: int, found: ParsedFile) -> None:
    where = f"png:{kind.decode()}"
    if kind == b"IHDR" and length == 13 and not found.width_px:
        found.width_px, found.height_px = struct.unpack_from(">II", data, body)
    elif kind == b"caBX":
        found.manifest_bytes += length
        found.add(BlockType.C2PA, where)
    elif kind in _TEXTS or kind == b"eXIf":
        limit = MAX_EXIF_BYTES if kind == b"eXIf" else MAX_TEXT_BYTES
        if length > limit:
            found.note(NoteCode.PIECE_TOO_LARGE, where, f"{length} bytes")
            return
        content = data[body : body + length]
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[body + length : body + length + 4]):
            found.note(NoteCode.CHECKSUM_WRONG, where)
        if kind == b"eXIf":
            found.add(BlockType.EXIF, where, content)
        else:
            _text(kind, content, where, found)


def _text(kind: bytes, content: bytes, where: str, found: ParsedFile) -> None:
    raw_key, separator, rest = content.partition(b"\0")
    if not separator or len(raw_key) > 79:
        found.note(NoteCode.TEXT_UNREADABLE, where, "no keyword")
        return
    key = raw_key.decode("latin-1")
    text: bytes | None = rest
    if kind == b"zTXt":
        text = found.inflate(rest[1:], where)
    elif kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        if len(rest) < 2 or len(parts) != 3:
            found.note(NoteCode.TEXT_UNREADABLE, where, "no language or translated keyword")
            return
        text = found.inflate(parts[2], where) if rest[0] else parts[2]
    if text is None:
        return
    profile = _RAW_PROFILE.match(key)
    if key == _XMP_KEY:
        found.add(BlockType.XMP, where, text)
    elif profile is not None:
        _raw_profile(profile[1].lower(), text, where, found)
    else:
        found.add(BlockType.TEXT, where, text, key)


def _raw_profile(name: str, text: bytes, where: str, found: ParsedFile) -> None:
    """ImageMagick's way to keep EXIF and XMP in a PNG: name, length and hexadecimal digits on lines of their own."""
    if name not in ("exif", "app1", "xmp"):
        return
    lines = text.lstrip(b"\n").split(b"\n", 2)
    if len(lines) != 3 or not _HEX.match(lines[2]):
        found.note(NoteCode.TEXT_UNREADABLE, where, "raw profile")
        return
    digits = b"".join(lines[2].split())
    profile = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    if name == "xmp" or _XMP_HEAD in profile[:40]:
        found.add(BlockType.XMP, f"{where} raw profile", profile.partition(_XMP_HEAD)[2] or profile)
    else:
        found.add(BlockType.EXIF, f"{where} raw profile", profile.removeprefix(b"Exif\0\0"))
