"""Queries on consumers' sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from ledger.server.db.tables.appeals import SubjectSession


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored, without its secrets; `subjects` are (kind, tag)."""

    id: int
    platform: str
    control_group: str
    profile: str
    locale: str
    epoch: int
    subjects: tuple[tuple[str, bytes], ...]
    expires_at: datetime | None
    created_at: datetime


_SESSION = select(
    SubjectSession.id,
    SubjectSession.platform,
    SubjectSession.control_group,
    SubjectSession.profile,
    SubjectSession.locale,
    SubjectSession.epoch,
    SubjectSession.subjects,
    SubjectSession.expires_at,
    SubjectSession.created_at,
)


def insert_session(
    connection: Connection,
    *,
    platform: str,
    control_group: str,
    profile: str,
    locale: str,
    epoch: int,
    subjects: Sequence[tuple[str, bytes]],
    code_hash: bytes,
    code_expires_at: datetime,
    created_at: datetime,
) -> int:
    """A new session that waits to be opened; its id."""
    done = connection.execute(
        insert(SubjectSession)
        .values(
            platform=platform,
            control_group=control_group,
            profile=profile,
            locale=locale,
            epoch=epoch,
            subjects=json.dumps([[kind, tag.hex()] for kind, tag in subjects]),
            code_hash=code_hash,
            code_expires_at=code_expires_at,
            created_at=created_at,
        )
        .returning(SubjectSession.id)
    )
    return int(done.scalar_one())


def redeem(connection: Connection, code_hash: bytes, token_hash: bytes, now: datetime, expires_at: datetime) -> bool:
    """Change the link's code for a token; False when it is unknown, past its time or was used."""
    done = connection.execute(
        update(SubjectSession)
        .where(
            SubjectSession.code_hash == code_hash,
            SubjectSession.code_expires_at > now,
            SubjectSession.token_hash.is_(None),
        )
        .values(token_hash=token_hash, expires_at=expires_at)
    )
    return done.rowcount == 1


def session(connection: Connection, token_hash: bytes, now: datetime) -> SessionRow | None:
    """The open session of this token."""
    row = connection.execute(
        _SESSION.where(SubjectSession.token_hash == token_hash, SubjectSession.expires_at > now)
    ).one_or_none()
    if row is None:
        return None
    subjects = tuple((str(kind), bytes.fromhex(tag)) for kind, tag in json.loads(row.subjects))
    return SessionRow(*row[:6], subjects, row.expires_at, row.created_at)


def end(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Close a session before its time."""
    connection.execute(
        update(SubjectSession).where(SubjectSession.token_hash == token_hash).values(expires_at=now, subjects="[]")
    )


def count_since(connection: Connection, platform: str, since: datetime) -> int:
    """Sessions that a platform had made since then."""
    mine = (SubjectSession.platform == platform, SubjectSession.created_at >= since)
    return connection.execute(select(func.count()).select_from(SubjectSession).where(*mine)).scalar_one()


def forget_sessions(connection: Connection, before: datetime, limit: int) -> int:
    """Delete sessions made before then, at most `limit`; returns how many."""
    old = list(connection.scalars(select(SubjectSession.id).where(SubjectSession.created_at < before).limit(limit)))
    if old:
        connection.execute(delete(SubjectSession).where(SubjectSession.id.in_(old)))
    return len(old)
