"""Sessions of consumers. The platform where a person is logged in requests a link; the browser never holds a tag.

The link's code is in the fragment of the address (`/me#...`), which browsers do not send and proxies cannot log. The
page exchanges it for a session by a POST, once, within minutes. The database and the logs hold only hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from ledger.errors import AppealInvalid, QuotaExceeded, SessionExpired, StaleEpoch
from ledger.i18n import LOCALES
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.server.db.engine import reading, writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.db.tables.appeals import SubjectSession
from ledger.server.keys.epochs import current_of, read_epochs
from ledger.server.keys.files import LOOKUP_STATES
from ledger.server.lookups import queries as lookup_queries
from ledger.server.platforms import queries as platform_queries
from ledger.server.platforms.members import Member
from ledger.server.records import case_queries
from ledger.server.settings import Settings

CODE_BYTES = 32

KEPT_DAYS = 2
"""Days after which sessions are deleted. The opening of the record stays in the list of lookups that the person
sees."""

SESSION_PURPOSE = "subject_session"
"""The purpose of an opened record, in the list of lookups."""


@dataclass(frozen=True, slots=True)
class Link:
    """The link that the platform gives to the person: valid for one use, until `expires_at`."""

    id: str
    url: str
    expires_at: datetime


def open_link(
    engine: Engine,
    settings: Settings,
    member: Member,
    *,
    epoch: int,
    subjects: Sequence[tuple[Kind, bytes]],
    locale: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    base_url: str,
) -> Link:
    """Create a single-use link to the record of the person with these (kind, tag) pairs.

    The opening is listed among the lookups about the person if there is a record: they see who opened it. Raises
    AppealInvalid, StaleEpoch, QuotaExceeded, DatabaseUnavailable.
    """
    if locale not in LOCALES:
        raise AppealInvalid(f"`locale` is {' or '.join(LOCALES)}.")
    code = b64url(random_bytes(CODE_BYTES))
    expires_at = now + timedelta(minutes=settings.subject_link_minutes)
    with writing(engine) as connection:
        check_epoch(connection, epoch)
        _check_quota(connection, settings, member, now)
        number = _insert_session(
            connection,
            platform=member.platform,
            control_group=member.control_group,
            profile=member.profile,
            locale=locale,
            epoch=epoch,
            subjects=[(kind.value, tag) for kind, tag in subjects],
            code_hash=_hash(code),
            code_expires_at=expires_at,
            created_at=now,
        )
        _log_opening(connection, member, [tag for _, tag in subjects], now)
    return Link(encode_id("ss", number, settings.service), f"{base_url}/me#{code}", expires_at)


def redeem(engine: Engine, settings: Settings, code: str, now: datetime, random_bytes: Callable[[int], bytes]) -> str:
    """Exchange the link's code for the token of a session. Raises SessionExpired if it was used or has expired,
    DatabaseUnavailable."""
    token = b64url(random_bytes(CODE_BYTES))
    expires_at = now + timedelta(minutes=settings.subject_session_minutes)
    with writing(engine) as connection:
        if not _redeem_code(connection, _hash(code), _hash(token), now, expires_at):
            raise SessionExpired("This link was used already, or its time is over. Ask the platform for a new one.")
    return token


def session_of(engine: Engine, token: str | None, now: datetime) -> SubjectSessionRow:
    """Return the open session of this token. Raises SessionExpired, DatabaseUnavailable."""
    if token:
        with reading(engine) as connection:
            row = _read_session(connection, _hash(token), now)
        if row is not None:
            return row
    raise SessionExpired("This session has ended. Ask the platform for a new link.")


def end_session(engine: Engine, token: str | None, now: datetime) -> None:
    """Close the session, if there is one. Raises DatabaseUnavailable."""
    if token:
        with writing(engine) as connection:
            _end(connection, _hash(token), now)


def forget_sessions(engine: Engine, now: datetime, limit: int = 1000) -> int:
    """Delete at most `limit` old sessions; return the number deleted. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        return _delete_sessions(connection, now - timedelta(days=KEPT_DAYS), limit)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def check_epoch(connection: Connection, epoch: int) -> None:
    """Check that tags of this key epoch can be looked up. Raises StaleEpoch with the current epoch."""
    rows = read_epochs(connection)
    if epoch not in {row.epoch for row in rows if row.state in LOOKUP_STATES}:
        raise StaleEpoch("The tags were made under another key epoch.", epoch=current_of(rows).epoch)


def _check_quota(connection: Connection, settings: Settings, member: Member, now: datetime) -> None:
    """Check the platform's links of this UTC day, under its lock. Raises QuotaExceeded."""
    platform_queries.lock_platform(connection, member.platform)  # so that two at once do not both pass
    midnight = datetime.combine(now.astimezone(UTC).date(), time(0), tzinfo=UTC)
    if _count_since(connection, member.platform, midnight) >= settings.subject_sessions_daily_quota:
        seconds = int((midnight + timedelta(days=1) - now).total_seconds()) + 1
        raise QuotaExceeded("The daily quota of links to records is used up.", retry_after_seconds=seconds)


def _log_opening(connection: Connection, member: Member, tags: Sequence[bytes], now: datetime) -> None:
    """List the opening among the lookups about the person, if any report is about them."""
    if not case_queries.reports_of_tags(connection, tags):
        return  # otherwise the list would itself be a record of people who have none
    number = reserve_ids(connection, "lk", 1)
    row = {
        "id": number,
        "platform": member.platform,
        "purpose": SESSION_PURPOSE,
        "order_ref": bytes(32),
        "consent_ref": None,
        "claim": None,
        "tier": "none",
        "as_of_index": 0,
        "asked_at": now,
    }
    lookup_queries.log_disclosures(connection, [row], [{"tag": tag, "lookup_id": number} for tag in set(tags)])


# --- queries ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubjectSessionRow:
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


def _insert_session(
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
    """Insert a session that is not opened yet; return its id."""
    inserted = connection.execute(
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
    return int(inserted.scalar_one())


def _redeem_code(
    connection: Connection, code_hash: bytes, token_hash: bytes, now: datetime, expires_at: datetime
) -> bool:
    """Exchange the link's code for a token; return False if it is unknown, expired or used."""
    updated = connection.execute(
        update(SubjectSession)
        .where(
            SubjectSession.code_hash == code_hash,
            SubjectSession.code_expires_at > now,
            SubjectSession.token_hash.is_(None),
        )
        .values(token_hash=token_hash, expires_at=expires_at)
    )
    return updated.rowcount == 1


def _read_session(connection: Connection, token_hash: bytes, now: datetime) -> SubjectSessionRow | None:
    """Return the open session of this token, None if there is none."""
    row = connection.execute(
        _SESSION.where(SubjectSession.token_hash == token_hash, SubjectSession.expires_at > now)
    ).one_or_none()
    if row is None:
        return None
    subjects = tuple((str(kind), bytes.fromhex(tag)) for kind, tag in json.loads(row.subjects))
    return SubjectSessionRow(*row[:6], subjects, row.expires_at, row.created_at)


def _end(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Close a session before its time."""
    connection.execute(
        update(SubjectSession).where(SubjectSession.token_hash == token_hash).values(expires_at=now, subjects="[]")
    )


def _count_since(connection: Connection, platform: str, since: datetime) -> int:
    """Return the number of sessions that a platform created since then."""
    of_platform = (SubjectSession.platform == platform, SubjectSession.created_at >= since)
    return connection.execute(select(func.count()).select_from(SubjectSession).where(*of_platform)).scalar_one()


def _delete_sessions(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` sessions created before then; return the number deleted."""
    old = list(connection.scalars(select(SubjectSession.id).where(SubjectSession.created_at < before).limit(limit)))
    if old:
        connection.execute(delete(SubjectSession).where(SubjectSession.id.in_(old)))
    return len(old)
