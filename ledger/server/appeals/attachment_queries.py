"""Queries on the files of cases. The bytes lie on disk (`ledger.server.appeals.attachments`); a row says whose they
are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from ledger.server.db.bulk import chunks
from ledger.server.db.tables.appeals import AppealCase, CaseAttachment


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


def add(connection: Connection, new: NewAttachment) -> int:
    """Record a file that is on disk already; returns its id."""
    values = {name: getattr(new, name) for name in NewAttachment.__dataclass_fields__}
    made: int = connection.execute(insert(CaseAttachment).values(**values).returning(CaseAttachment.id)).scalar_one()
    return made


def get(connection: Connection, attachment_id: int) -> AttachmentRow | None:
    """The file of this id."""
    row = connection.execute(_rows().where(CaseAttachment.id == attachment_id)).one_or_none()
    return None if row is None else _row(row)


def of_case(connection: Connection, case_id: int) -> list[AttachmentRow]:
    """Files of a case, oldest first."""
    rows = connection.execute(_rows().where(CaseAttachment.case_id == case_id).order_by(CaseAttachment.id))
    return [_row(row) for row in rows]


def count(connection: Connection, case_id: int, party: str | None = None) -> int:
    """How many files a case has, or one party of it."""
    statement = select(func.count()).select_from(CaseAttachment).where(CaseAttachment.case_id == case_id)
    if party is not None:
        statement = statement.where(CaseAttachment.party == party)
    return connection.execute(statement).scalar_one()


def of_reports(connection: Connection, report_ids: Iterable[int]) -> list[AttachmentRow]:
    """Files of the cases about these reports: what has to go when the reports are erased."""
    found: list[AttachmentRow] = []
    for some in chunks(report_ids):
        joined = _rows().join(AppealCase, AppealCase.id == CaseAttachment.case_id)
        rows = connection.execute(joined.where(AppealCase.report_id.in_(some)).order_by(CaseAttachment.id))
        found.extend(_row(row) for row in rows)
    return found


def forget(connection: Connection, attachment_ids: Iterable[int]) -> None:
    """Delete rows; the caller deletes the files once that is committed."""
    for some in chunks(attachment_ids):
        connection.execute(delete(CaseAttachment).where(CaseAttachment.id.in_(some)))


def known_files(connection: Connection, files: Iterable[str]) -> set[str]:
    """Which of these names on disk a row has."""
    found: set[str] = set()
    for some in chunks(files):
        found.update(connection.scalars(select(CaseAttachment.file).where(CaseAttachment.file.in_(some))))
    return found


_COLUMNS = tuple(AttachmentRow.__dataclass_fields__)


def _rows() -> Select[Any]:
    return select(*[getattr(CaseAttachment, name) for name in _COLUMNS])


def _row(row: Row[Any]) -> AttachmentRow:
    return AttachmentRow(**dict(zip(_COLUMNS, row, strict=True)))
