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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ledger.server.db.engine import reading
from ledger.server.db.row_mapping import RowMapping
from ledger.server.db.tables.appeals import AppealCase, CaseAttachment
from ledger.server.log import queries as log_queries
from ledger.server.settings import Settings


@dataclass(slots=True)
class WrittenFile:
    """A file on disk under the name `file`, and whether a row names it."""

    file: str
    named: bool = False


@contextmanager
def written_file(settings: Settings, data: bytes, random_bytes: Callable[[int], bytes]) -> Iterator[WrittenFile]:
    """Write the file before the transaction that names it; delete it if nothing came of that.

    Whether a commit that met an outage took place nobody knows: then the file stays, and `sweep` finds it if no row
    has its name.
    """
    draft = WrittenFile(save(settings, data, random_bytes))
    try:
        yield draft
    except DatabaseUnavailable:
        raise
    except BaseException:
        delete_many(settings, [draft.file])
        raise
    if not draft.named:
        delete_many(settings, [draft.file])


def reported_evidence(connection: Connection, report_id: int) -> list[dict[str, Any]]:
    """The items of evidence as the report's signed body names them."""
    opened = log_queries.read_body(connection, report_id)
    if opened is None:
        return []
    return list(json.loads(opened[2])["body"]["evidence"])


MAX_NAME_CHARS = 120


MAX_FRAMES = 16
"""Frames of one picture: depth maps and previews that phones add, not films."""


STRAY_AFTER = timedelta(days=1)
"""How old a file without a row must be before it is swept: far longer than any upload takes."""


_FILE = re.compile(r"[0-9a-f]{32}\Z")


_SHAPES: dict[str, tuple[Callable[[bytes], Shape], str, frozenset[str]]] = {
    "image/jpeg": (jpeg_shape, "JPEG", frozenset({"JPEG", "MPO"})),  # MPO: a JPEG with a second one behind it
    "image/png": (png_shape, "PNG", frozenset({"PNG"})),
    "image/webp": (webp_shape, "WEBP", frozenset({"WEBP"})),
}


_INLINE = frozenset(_SHAPES)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that may be kept. `name` is for people only; the size in pixels is a picture's."""

    media_type: str
    width_px: int | None
    height_px: int | None
    sha256: bytes
    name: str
    size_bytes: int


def check_file(data: bytes, declared_name: str, settings: Settings) -> CheckedFile:
    """What the file is, by its bytes; pictures are measured, never decoded.

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
    """That the case takes one more file; under the lock that the caller holds. With `party` only its own files count,
    so that neither party can leave the other without room. Raises AttachmentRefused `too_many_files`."""
    if count_files(connection, case_id, party) >= settings.attachments_per_case:
        raise refused("too_many_files", f"A case takes at most {settings.attachments_per_case} files.")


def _measure(data: bytes, media_type: str, pixels_max: int) -> Shape | None:
    """A picture's size. The header is read here first, because opening a picture already makes room for it."""
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
    """A second opinion: the decoder's own reading of the header, and the checksums of a PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=[opener]) as image:
            agreed = image.format in formats and image.size == (shape.width_px, shape.height_px)
            frames = getattr(image, "n_frames", 1)
            image.verify()
    except Exception as error:  # of a hostile file a decoder may say anything; all of it means the same
        raise refused("broken", "The file is damaged or incomplete.") from error
    if not agreed:
        raise refused("broken", "The file contradicts itself about what it is.")
    if frames > MAX_FRAMES:
        raise refused("too_many_frames", f"A picture has at most {MAX_FRAMES} frames; send a film as MP4.")


def display_name(declared: str, media_type: str) -> str:
    """What people see as the file's name: no path, nothing invisible or that turns the direction of writing, and an
    ending that fits what the file is, whatever it was called."""
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
    """Write `data` durably under a new random name, and return that name for the row.

    The row is inserted afterwards, in the caller's transaction; if that fails, the caller may `delete_many`, else
    `sweep` does. Raises FileExistsError if `random_bytes` repeats itself; nothing is overwritten.
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
            path.unlink()  # half a file on a full disk is of no use to anybody
        raise
    _sync(path.parent)
    return name


def read(settings: Settings, file: str) -> bytes:
    """The bytes of a kept file. Raises NotFound when it is not there."""
    try:
        descriptor = os.open(_path(settings, file), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise NotFound("This file is not kept here any more.") from error
    with os.fdopen(descriptor, "rb") as source:
        return source.read()


def delete_many(settings: Settings, files: Iterable[str]) -> int:
    """Delete kept files for good, after the transaction that deleted their rows; returns how many were there. Raises
    the first OSError, after it has tried all files."""
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
    """Delete files that no row names and that are older than `STRAY_AFTER`; returns how many.

    Safe beside uploads: a file is listed before the rows are asked for it, and a young one is left alone. Ages are by
    the disk's clock, so a `now` that runs ahead of it (a sandbox's) makes nothing older. Nothing is deleted while the
    log is frozen, or where there is none: the database may be an old backup that does not know the newest files.
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
    """Kept files and when they were written. What does not look like ours is not touched."""
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


# Served again ---------------------------------------------------------------------------------------------------------


def serving_headers(media_type: str, name: str) -> dict[str, str]:
    """Headers under which a stranger's file may be sent to a browser: pictures are shown, all else is downloaded,
    and nothing in it runs, is guessed at, is cached or is embedded by another site."""
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


_CHUNK = 500
"""Values in one IN list: well under SQLite's limit on variables."""


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """A file to be recorded; the columns are those of `CaseAttachment`."""

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
    """A recorded file."""

    id: int


_FILES = RowMapping(AttachmentRow, CaseAttachment)


def insert_file_row(connection: Connection, new: NewAttachment) -> int:
    """Record a file that is on disk already; return its id."""
    statement = insert(CaseAttachment).values(**asdict(new)).returning(CaseAttachment.id)
    return int(connection.execute(statement).scalar_one())


def file_row(connection: Connection, attachment_id: int) -> AttachmentRow | None:
    """The file of this id."""
    row = connection.execute(select(*_FILES.columns).where(CaseAttachment.id == attachment_id)).one_or_none()
    return None if row is None else _FILES.load(row)


def files_of_case(connection: Connection, case_id: int) -> list[AttachmentRow]:
    """Files of a case, oldest first."""
    rows = connection.execute(
        select(*_FILES.columns).where(CaseAttachment.case_id == case_id).order_by(CaseAttachment.id)
    )
    return [_FILES.load(row) for row in rows]


def count_files(connection: Connection, case_id: int, party: str | None = None) -> int:
    """How many files a case has, or one party of it."""
    statement = select(func.count()).select_from(CaseAttachment).where(CaseAttachment.case_id == case_id)
    if party is not None:
        statement = statement.where(CaseAttachment.party == party)
    return connection.execute(statement).scalar_one()


def files_of_reports(connection: Connection, report_ids: Iterable[int]) -> list[AttachmentRow]:
    """Files of the cases about these reports: what has to go when the reports are erased."""
    found: list[AttachmentRow] = []
    for some in _chunks(report_ids):
        joined = select(*_FILES.columns).join(AppealCase, AppealCase.id == CaseAttachment.case_id)
        rows = connection.execute(joined.where(AppealCase.report_id.in_(some)).order_by(CaseAttachment.id))
        found.extend(_FILES.load(row) for row in rows)
    return found


def delete_file_rows(connection: Connection, attachment_ids: Iterable[int]) -> None:
    """Delete rows; the caller deletes the files once that is committed."""
    for some in _chunks(attachment_ids):
        connection.execute(delete(CaseAttachment).where(CaseAttachment.id.in_(some)))


def known_files(connection: Connection, files: Iterable[str]) -> set[str]:
    """Which of these names on disk a row has."""
    found: set[str] = set()
    for some in _chunks(files):
        found.update(connection.scalars(select(CaseAttachment.file).where(CaseAttachment.file.in_(some))))
    return found


def _chunks(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), _CHUNK):
        yield unique[start : start + _CHUNK]
