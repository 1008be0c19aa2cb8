"""The type of a file by its first bytes, and all metadata in it. The type does not depend on its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from ledger.errors import EvidenceFormatUnknown, EvidenceMalformed
from ledger.evidence.formats import heif, isobmff, jpeg, png, webp
from ledger.evidence.formats.metadata import INCOMPLETE, NoteCode, ParsedFile

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "image/heic": (".heic", ".heif"),
    "image/avif": (".avif",),
    "video/mp4": (".mp4", ".m4v"),
    "video/quicktime": (".mov", ".qt"),
}
"""Media types that are inspected, with the endings their names may have."""

_READERS: dict[str, Callable[[bytes, ParsedFile], None]] = {
    "image/jpeg": jpeg.read,
    "image/png": png.read,
    "image/webp": webp.read,
    "image/heic": heif.read,
    "image/avif": heif.read,
    "video/mp4": isobmff.read,
    "video/quicktime": isobmff.read,
}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MOV_KINDS = frozenset({b"moov", b"mdat", b"wide", b"pnot"})
_MAX_BRANDS = 64


def media_type(data: bytes) -> str:
    """Return the media type of `data`. Raises EvidenceFormatUnknown."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(png.SIGNATURE):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if data[4:8] in _MOV_KINDS:
        return "video/quicktime"
    raise EvidenceFormatUnknown("The file is none of JPEG, PNG, WebP, HEIC, AVIF, MP4 and MOV, by its first bytes.")


def _by_brand(data: bytes) -> str:
    end = min(int.from_bytes(data[:4]), len(data), 16 + 4 * _MAX_BRANDS)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"qt  ":
        return "video/quicktime"
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "image/avif"
    if any(brand in _HEIF_BRANDS for brand in brands):
        return "image/heic"
    return "video/mp4"


def read(data: bytes, file_name: str | None = None) -> ParsedFile:
    """Return the metadata of `data` as the file states it. `file_name` is only compared with the type.

    Raises EvidenceFormatUnknown, and EvidenceMalformed if not even the header can be read.
    """
    parsed = ParsedFile(media_type(data))
    _READERS[parsed.media_type](data, parsed)
    broken = any(note.code in INCOMPLETE for note in parsed.notes)
    if not parsed.blocks and broken and not (parsed.width_px and parsed.height_px):
        raise EvidenceMalformed(
            "The file is damaged or cut off before anything in it can be read.", media_type=parsed.media_type
        )
    extension = PurePath(file_name or "").suffix.lower()
    if extension and extension not in EXTENSIONS[parsed.media_type]:
        parsed.note(NoteCode.EXTENSION_DIFFERS, "name", f"{extension} for {parsed.media_type}")
    return parsed
