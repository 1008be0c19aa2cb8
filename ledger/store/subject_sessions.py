"""Queries on consumers' sessions, and on what a person may see of lookups about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from ledger.store.appeal_tables import SubjectSession
from ledger.store.tables import LookupLog, LookupTag

_CHUNK = 500


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


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A lookup that disclosed an event of the person: who asked, when and why."""

    id: int
    platform: str
    purpose: str
    claim: str | None
    tier: str
    asked_at: datetime


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


def lookups_of(connection: Connection, tags: Iterable[bytes], limit: int) -> list[SeenRow]:
    """Lookups that disclosed something under any of `tags`, newest first, at most `limit`."""
    ids: set[int] = set()
    unique = list(dict.fromkeys(tags))
    for start in range(0, len(unique), _CHUNK):
        some = unique[start : start + _CHUNK]
        ids.update(connection.scalars(select(LookupTag.lookup_id).where(LookupTag.tag.in_(some))))
    columns = [getattr(LookupLog, name) for name in SeenRow.__dataclass_fields__]
    found: list[SeenRow] = []
    wanted = sorted(ids)
    for start in range(0, len(wanted), _CHUNK):
        rows = connection.execute(select(*columns).where(LookupLog.id.in_(wanted[start : start + _CHUNK])))
        found += [SeenRow(*row) for row in rows]
    return sorted(found, key=lambda row: (row.asked_at, row.id), reverse=True)[:limit]
