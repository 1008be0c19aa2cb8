"""Files that parties of an appeal hand in: which are accepted, how they are stored on disk, and how they are served.

The bytes are on disk under random names; a row of `CaseAttachment` says to which case they belong. A file is written
before its row is committed, so a crash in between leaves at most a file without a row, which `sweep` removes. Erasure
works in the opposite order: rows first, then files. No part of a path comes from the sender.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from sqlalchemy import Connection, Engine, delete, func, insert, select

from ledger.errors import DatabaseUnavailable, NotFound
from ledger.server.appeals.file_types import (
    EXTENSIONS,
    Shape,
    check_mp4,
    check_pdf,
    jpeg_shape,
    png_shape,
    refused,
    sniff,
    webp_shape,
)
from ledger.server.db.bulk import chunks
from ledger.server.db.engine import reading
from ledger.server.db.row_mapping import RowMapping
from ledger.server.db.tables.appeals import AppealCase, CaseAttachment
from ledger.server.log import queries as log_queries
from ledger.server.settings import Settings

MAX_NAME_CHARS = 120

MAX_FRAMES = 16
"""Frames per picture: enough for depth maps and previews of phones, too few for a film."""

STRAY_AFTER = timedelta(days=1)
"""Age from which a file without a row is swept: far longer than any upload takes."""

_FILE = re.compile(r"[0-9a-f]{32}\Z")

_SHAPES: dict[str, tuple[Callable[[bytes], Shape], str, frozenset[str]]] = {
    "image/jpeg": (jpeg_shape, "JPEG", frozenset({"JPEG", "MPO"})),  # MPO: a JPEG with a second one behind it
    "image/png": (png_shape, "PNG", frozenset({"PNG"})),
    "image/webp": (webp_shape, "WEBP", frozenset({"WEBP"})),
}

_INLINE = frozenset(_SHAPES)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was accepted. `name` is for display only; the size in pixels is set for pictures."""

    media_type: str
    width_px: int | None
    height_px: int | None
    sha256: bytes
    name: str
    size_bytes: int


def check_file(data: bytes, declared_name: str, settings: Settings) -> CheckedFile:
    """Return what the file is, by its bytes. Pictures are measured, never decoded.

    Raises AttachmentRefused with `details["reason"]`: empty, too_large, type_not_taken, not_plain_text, markup,
    polyglot, broken, too_many_pixels, too_many_frames.
    """
    if not data:
        raise refused("empty", "The file is empty.")
    if len(data) > settings.attachment_limit_bytes:
        raise refused("too_large", f"A file has at most {settings.attachment_limit_bytes} bytes.")
    media_type = sniff(data)
    shape = _measure(data, media_type, settings.attachment_pixels_max)
    return CheckedFile(
        media_type=media_type,
        width_px=shape.width_px if shape else None,
        height_px=shape.height_px if shape else None,
        sha256=hashlib.sha256(data).digest(),
        name=display_name(declared_name, media_type),
        size_bytes=len(data),
    )


def check_room(connection: Connection, case_id: int, settings: Settings, party: str | None = None) -> None:
    """Check that the case can take one more file; the caller holds the lock. With `party` only its own files count, so
    neither party can use up the room of the other. Raises AttachmentRefused `too_many_files`."""
    if count_files(connection, case_id, party) >= settings.attachments_per_case:
        raise refused("too_many_files", f"A case takes at most {settings.attachments_per_case} files.")


def _measure(data: bytes, media_type: str, pixels_max: int) -> Shape | None:
    """Return a picture's size, None for other types. The header is read here first, because a decoder allocates memory
    already when it opens a picture."""
    if media_type == "application/pdf":
        check_pdf(data)
    elif media_type == "video/mp4":
        check_mp4(data)
    if media_type not in _SHAPES:
        return None
    measure, opener, formats = _SHAPES[media_type]
    shape = measure(data)
    if shape.frames > MAX_FRAMES:
        raise refused("too_many_frames", f"A picture has at most {MAX_FRAMES} frames; send a film as MP4.")
    if shape.width_px * shape.height_px * shape.frames > pixels_max:
        raise refused("too_many_pixels", f"A picture has at most {pixels_max} pixels.")
    _verify(data, opener, formats, shape)
    return shape


def _verify(data: bytes, opener: str, formats: frozenset[str], shape: Shape) -> None:
    """Check the file with the decoder's own reading of the header, and the checksums of a PNG. Raises
    AttachmentRefused."""
    try:
        with Image.open(io.BytesIO(data), formats=[opener]) as image:
            agreed = image.format in formats and image.size == (shape.width_px, shape.height_px)
            frames = getattr(image, "n_frames", 1)
            image.verify()
    except Exception as error:  # a decoder may raise anything for a hostile file
        raise refused("broken", "The file is damaged or incomplete.") from error
    if not agreed:
        raise refused("broken", "The file contradicts itself about what it is.")
    if frames > MAX_FRAMES:
        raise refused("too_many_frames", f"A picture has at most {MAX_FRAMES} frames; send a film as MP4.")


def display_name(declared: str, media_type: str) -> str:
    """Return the name shown for a file: without path, invisible characters and direction marks, and with an extension
    of its actual type."""
    last = re.split(r"[/\\]", declared[-4096:])[-1]
    visible = "".join(char for char in unicodedata.normalize("NFC", last) if _shown(char))
    name = re.sub(r'[<>:"|?*]', "_", re.sub(r"\s+", " ", visible)).strip(". ")
    endings = EXTENSIONS[media_type]
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    stem = name[: len(name) - len(ending)].rstrip(". ") or "file"
    ending = name[len(name) - len(ending) :] if ending else endings[0]
    return stem[: MAX_NAME_CHARS - len(ending)].rstrip(". ") + ending


def _shown(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] != "C" and category not in ("Zl", "Zp")


# On disk --------------------------------------------------------------------------------------------------------------


def save(settings: Settings, data: bytes, random_bytes: Callable[[int], bytes]) -> str:
    """Write `data` durably under a new random name; return that name for the row.

    The row is inserted afterwards, in the caller's transaction. If that fails, the caller may call `delete_many`, else
    `sweep` removes the file. Raises FileExistsError if `random_bytes` repeats a value; nothing is overwritten. Raises
    OSError if the disk is full.
    """
    name = random_bytes(16).hex()
    path = _path(settings, name)
    _make_private(settings.attachments_dir)
    _make_private(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()  # an incomplete file is of no use
        raise
    _sync(path.parent)
    return name


@dataclass(slots=True)
class WrittenFile:
    """A file on disk under the name `file`; `named` is True once a row has its name."""

    file: str
    named: bool = False


@contextmanager
def written_file(settings: Settings, data: bytes, random_bytes: Callable[[int], bytes]) -> Iterator[WrittenFile]:
    """Write a file before the transaction that names it, and delete it if that fails.

    After an outage during the commit it is unknown whether the row exists: the file then stays, and `sweep` removes it
    if no row has its name. Raises OSError.
    """
    written = WrittenFile(save(settings, data, random_bytes))
    try:
        yield written
    except DatabaseUnavailable:
        raise
    except BaseException:
        delete_many(settings, [written.file])
        raise
    if not written.named:
        delete_many(settings, [written.file])


def reported_evidence(connection: Connection, report_id: int) -> list[dict[str, Any]]:
    """Return the items of evidence as the report's signed body names them; none if the body was erased."""
    opened = log_queries.read_body(connection, report_id)
    if opened is None:
        return []
    return list(json.loads(opened[2])["body"]["evidence"])


def read(settings: Settings, file: str) -> bytes:
    """Return the bytes of a kept file. Raises NotFound if it is not there."""
    try:
        descriptor = os.open(_path(settings, file), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise NotFound("This file is not kept here any more.") from error
    with os.fdopen(descriptor, "rb") as source:
        return source.read()


def delete_many(settings: Settings, files: Iterable[str]) -> int:
    """Delete files for good, after the transaction that deleted their rows; return the number deleted. Raises the first
    OSError, after all files were tried."""
    deleted, folders = 0, set()
    first: OSError | None = None
    for file in files:
        path = _path(settings, file)
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            first = first or error
            continue
        deleted += 1
        folders.add(path.parent)
    for folder in folders:
        _sync(folder)
    if first is not None:
        raise first
    return deleted


def sweep(engine: Engine, settings: Settings, now: datetime) -> int:
    """Delete files that no row names and that are older than `STRAY_AFTER`; return the number deleted.

    Safe beside uploads: files are listed before the rows are read, and young files are kept. Ages follow the disk's
    clock, so a `now` ahead of it (in a sandbox) makes nothing older. Nothing is deleted while the log is frozen or
    absent: the database may be an old backup without the newest rows. Raises OSError, DatabaseUnavailable.
    """
    before = min(now, datetime.now(UTC)) - STRAY_AFTER
    old = [name for name, changed_at in _kept(settings) if changed_at < before]
    if not old:
        return 0
    with reading(engine) as connection:
        head = log_queries.read_head(connection)
        if head is None or head.frozen is not None:
            return 0
        known = known_files(connection, old)
    return delete_many(settings, [name for name in old if name not in known])


def _kept(settings: Settings) -> Iterator[tuple[str, datetime]]:
    """Yield stored files and when they were written. Files with other names are ignored."""
    if not settings.attachments_dir.is_dir():
        return
    for folder in settings.attachments_dir.iterdir():
        if len(folder.name) != 2 or folder.is_symlink() or not folder.is_dir():
            continue
        for path in folder.iterdir():
            if _FILE.match(path.name) and path.name.startswith(folder.name) and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield path.name, datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _path(settings: Settings, file: str) -> Path:
    if not _FILE.match(file):
        raise NotFound("There is no such file.")
    return settings.attachments_dir / file[:2] / file


def _make_private(folder: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Serving --------------------------------------------------------------------------------------------------------------


def serving_headers(media_type: str, name: str) -> dict[str, str]:
    """Return the headers under which a stranger's file may be sent to a browser: pictures are shown, other files are
    downloaded. Nothing in a file can run, have its type guessed, be cached or be embedded by another site."""
    known = media_type in EXTENSIONS
    content_type = "text/plain; charset=utf-8" if media_type == "text/plain" else media_type
    shown = "inline" if media_type in _INLINE else "attachment"
    plain = re.sub(r'[^ -~]|["%\\]', "_", name)
    encoded = quote(name.encode("utf-8", "replace"), safe="!#$&+^`|~")  # attr-char of RFC 8187
    return {
        "Content-Type": content_type if known else "application/octet-stream",
        "Content-Disposition": f"{shown}; filename=\"{plain}\"; filename*=UTF-8''{encoded}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


# Rows ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file to store; the columns are those of `CaseAttachment`."""

    case_id: int
    party: str
    platform: str | None
    name: str
    media_type: str
    size_bytes: int
    width_px: int | None
    height_px: int | None
    sha256: bytes
    file: str
    evidence_index: int | None
    added_at: datetime


@dataclass(frozen=True, slots=True)
class AttachmentRow(NewAttachment):
    """A stored file."""

    id: int


_FILES = RowMapping(AttachmentRow, CaseAttachment)


def insert_file_row(connection: Connection, new: NewAttachment) -> int:
    """Insert the row of a file that is on disk already; return its id."""
    statement = insert(CaseAttachment).values(**asdict(new)).returning(CaseAttachment.id)
    return int(connection.execute(statement).scalar_one())


def file_row(connection: Connection, attachment_id: int) -> AttachmentRow | None:
    """Return the row of this id, None if there is none."""
    row = connection.execute(select(*_FILES.columns).where(CaseAttachment.id == attachment_id)).one_or_none()
    return None if row is None else _FILES.load(row)


def files_of_case(connection: Connection, case_id: int) -> list[AttachmentRow]:
    """Return the files of a case, oldest first."""
    rows = connection.execute(
        select(*_FILES.columns).where(CaseAttachment.case_id == case_id).order_by(CaseAttachment.id)
    )
    return [_FILES.load(row) for row in rows]


def count_files(connection: Connection, case_id: int, party: str | None = None) -> int:
    """Return the number of files of a case, or of one party in it."""
    statement = select(func.count()).select_from(CaseAttachment).where(CaseAttachment.case_id == case_id)
    if party is not None:
        statement = statement.where(CaseAttachment.party == party)
    return connection.execute(statement).scalar_one()


def files_of_reports(connection: Connection, report_ids: Iterable[int]) -> list[AttachmentRow]:
    """Return the files of the cases about these reports, which are deleted when the reports are erased."""
    files: list[AttachmentRow] = []
    for chunk in chunks(report_ids):
        joined = select(*_FILES.columns).join(AppealCase, AppealCase.id == CaseAttachment.case_id)
        rows = connection.execute(joined.where(AppealCase.report_id.in_(chunk)).order_by(CaseAttachment.id))
        files.extend(_FILES.load(row) for row in rows)
    return files


def delete_file_rows(connection: Connection, attachment_ids: Iterable[int]) -> None:
    """Delete rows; the caller deletes the files after the commit."""
    for chunk in chunks(attachment_ids):
        connection.execute(delete(CaseAttachment).where(CaseAttachment.id.in_(chunk)))


def known_files(connection: Connection, files: Iterable[str]) -> set[str]:
    """Return those of these file names that a row has."""
    known: set[str] = set()
    for chunk in chunks(files):
        known.update(connection.scalars(select(CaseAttachment.file).where(CaseAttachment.file.in_(chunk))))
    return known
