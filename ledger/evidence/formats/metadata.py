"""The result of reading a container: blocks of metadata with their places, and notes on what could not be read."""

from __future__ import annotations

import unicodedata
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from ledger.evidence.limits import (
    MAX_FACT_CHARS,
    MAX_INFLATED_BYTES,
    MAX_METADATA_BLOCKS,
    MAX_NOTES,
    MAX_PARSED_BLOCKS,
    MAX_TEXT_BYTES,
)


class BlockType(StrEnum):
    """The type of a block of metadata."""

    XMP = "xmp"
    EXIF = "exif"
    TEXT = "text"
    """A text with a key: PNG text chunks, MP4 keys."""
    SEGMENT = "segment"
    """A comment or an application segment of no other type."""
    C2PA = "c2pa"
    """The place of a C2PA manifest store; the block has no bytes of it."""


class NoteCode(StrEnum):
    """The statements of an inspection about itself and the file, other than findings."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    LIMIT_REACHED = "limit_reached"
    PIECE_TOO_LARGE = "piece_too_large"
    CHECKSUM_WRONG = "checksum_wrong"
    TEXT_UNREADABLE = "text_unreadable"
    XMP_UNREADABLE = "xmp_unreadable"
    EXIF_UNREADABLE = "exif_unreadable"
    THUMBNAIL_UNREADABLE = "thumbnail_unreadable"
    PIXELS_NOT_COMPARED = "pixels_not_compared"
    C2PA_UNREADABLE = "c2pa_unreadable"
    C2PA_NOT_READ = "c2pa_not_read"
    C2PA_REMOTE = "c2pa_remote"
    C2PA_NO_SOURCE = "c2pa_no_source"
    C2PA_CREDENTIAL = "c2pa_credential"
    C2PA_CREDENTIAL_REFUSED = "c2pa_credential_refused"
    C2PA_IDENTITY = "c2pa_identity"
    EXTENSION_DIFFERS = "extension_differs"
    TRAILING_DATA = "trailing_data"
    NO_METADATA = "no_metadata"
    PICTURE_NOT_HASHED = "picture_not_hashed"
    PICTURE_UNFIT = "picture_unfit"
    LISTING_NOT_COMPARED = "listing_not_compared"


INCOMPLETE = frozenset(
    {
        *(NoteCode.TRUNCATED, NoteCode.MALFORMED, NoteCode.LIMIT_REACHED, NoteCode.PIECE_TOO_LARGE),
        *(NoteCode.TEXT_UNREADABLE, NoteCode.XMP_UNREADABLE, NoteCode.EXIF_UNREADABLE),
        *(NoteCode.C2PA_UNREADABLE, NoteCode.C2PA_NOT_READ, NoteCode.C2PA_REMOTE),
    }
)
"""Notes that mean: a label may be in the part that could not be read."""

TIME_DEPENDENT = frozenset({NoteCode.C2PA_CREDENTIAL, NoteCode.C2PA_CREDENTIAL_REFUSED, NoteCode.C2PA_IDENTITY})
"""Notes that a later inspection of the same file may rightly make differently: certificates expire."""

NAME_DEPENDENT = frozenset({NoteCode.EXTENSION_DIFFERS})
"""Notes about the file's name, which is no part of its bytes."""

DECODER_DEPENDENT = frozenset({NoteCode.PICTURE_NOT_HASHED, NoteCode.PICTURE_UNFIT, NoteCode.LISTING_NOT_COMPARED})
"""Notes about pixels: another decoder may read a damaged picture, or fall on the other side of a threshold."""


@dataclass(frozen=True, slots=True)
class MetadataBlock:
    """A block of metadata: `where` names the container and the segment, chunk or box."""

    type: BlockType
    where: str
    data: bytes = b""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One statement: what (`code`), where, and a detail for engineers."""

    code: NoteCode
    where: str = ""
    detail: str = ""


class Damaged(Exception):
    """The structure of a file cannot be followed any further: it is cut off, malformed, or has more parts than allowed.

    Raised by the functions that walk through a file. A reader of metadata keeps `note` and what it read before; a
    caller that accepts whole files only refuses the file.
    """

    def __init__(self, code: NoteCode, where: str, detail: str) -> None:
        super().__init__(f"{code.value} {where}: {detail}")
        self.note = Note(code, where, detail)


@dataclass(slots=True)
class ParsedFile:
    """The contents of one file as a reader found them. Readers add to it; nothing in it is trusted."""

    media_type: str
    width_px: int = 0
    height_px: int = 0
    blocks: list[MetadataBlock] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    tables: list[tuple[int, ...]] = field(default_factory=list)
    """Quantisation tables of a JPEG, 64 numbers each in the file's zigzag order, the first four at most."""
    progressive: bool = False
    scans: int = 0
    promised: set[BlockType] = field(default_factory=set)
    """The types of blocks that the header announces (WebP)."""
    manifest_bytes: int = 0
    extended_xmp: set[str] = field(default_factory=set)
    """Digests of the extended XMP packets that are complete (JPEG)."""
    inflated_bytes: int = 0

    def add(self, type: BlockType, where: str, data: bytes = b"", key: str = "") -> None:
        """Keep a block, or note that there are too many."""
        most = MAX_PARSED_BLOCKS if type in (BlockType.XMP, BlockType.EXIF) else MAX_METADATA_BLOCKS
        if len(self.blocks) >= MAX_METADATA_BLOCKS or len(self.of(type)) >= most:
            self.note(NoteCode.LIMIT_REACHED, where, "pieces")
            return
        self.blocks.append(MetadataBlock(type, where, data, clean(key, 80)))

    def damaged(self, damage: Damaged) -> None:
        """Keep the note of an interrupted walk."""
        self.note(damage.note.code, damage.note.where, damage.note.detail)

    def note(self, code: NoteCode, where: str = "", detail: str = "") -> None:
        """Keep a note, once."""
        note = Note(code, clean(where, 80), clean(detail))
        if note not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(note)

    def of(self, type: BlockType) -> list[MetadataBlock]:
        """Return the blocks of one type, in the order of the file."""
        return [block for block in self.blocks if block.type is type]

    def inflate(self, data: bytes, where: str) -> bytes | None:
        """Return inflated zlib data within the limits; None with a note if it is broken or would be too large."""
        room = min(MAX_TEXT_BYTES, MAX_INFLATED_BYTES - self.inflated_bytes)
        if room <= 0:
            self.note(NoteCode.PIECE_TOO_LARGE, where, "inflated")
            return None
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(data, room + 1)
        except zlib.error:
            self.note(NoteCode.TEXT_UNREADABLE, where, "zlib")
            return None
        self.inflated_bytes += len(text)
        if len(text) > room:
            self.note(NoteCode.PIECE_TOO_LARGE, where, "inflated")
            return None
        if not inflater.eof:
            self.note(NoteCode.TEXT_UNREADABLE, where, "zlib ends early")
        return text


def clean(text: str, limit: int = MAX_FACT_CHARS) -> str:
    """Return `text` as a receipt may hold it: valid Unicode in NFC, printable, on one line, at most `limit`
    characters."""
    cut = text[: 4 * limit].encode("utf-8", "replace").decode("utf-8")
    shown = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", cut))
    return unicodedata.normalize("NFC", " ".join(shown.split())[:limit])


def decode(data: bytes) -> str:
    """Return a text of unknown encoding: UTF-8 if the bytes are valid UTF-8, else Latin-1; without zeros at its end."""
    trimmed = data.rstrip(b"\0")
    try:
        return trimmed.decode("utf-8-sig")
    except UnicodeDecodeError:
        return trimmed.decode("latin-1")
