"""Sessions of consumers. The platform where a person is logged in asks for a link; the browser never holds a tag.

The link's code is in the fragment of the address (`/me#...`), which no browser sends and no proxy can log; the page
changes it for a session by a POST, once, within minutes. Database and logs hold hashes only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Connection, Engine

from ledger.errors import AppealInvalid, QuotaExceeded, SessionExpired, StaleEpoch
from ledger.i18n import LOCALES
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.server.appeals import session_queries as store
from ledger.server.appeals.session_queries import SessionRow
from ledger.server.db.engine import reading, writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.keys.epochs import current_of, read_epochs
from ledger.server.keys.files import LOOKUP_STATES
from ledger.server.lookups import queries as lookup_store
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.members import Member
from ledger.server.records import case_queries as appeal_store
from ledger.server.settings import Settings

CODE_BYTES = 32
KEPT_DAYS = 2
"""Sessions are deleted after this; that a record was opened stays among the lookups that the person can see."""

SESSION_PURPOSE = "subject_session"
"""How an opened record is told among the lookups."""


@dataclass(frozen=True, slots=True)
class Link:
    """What the platform hands to the person: good once, until `expires_at`."""

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
    """A single-use link to the record of the person with these (kind, tag) pairs.

    It is written among the lookups about them if there is anything to see: they read who opened their record.
    Raises AppealInvalid, StaleEpoch, QuotaExceeded, DatabaseUnavailable.
    """
    if locale not in LOCALES:
        raise AppealInvalid(f"`locale` is {' or '.join(LOCALES)}.")
    code = b64url(random_bytes(CODE_BYTES))
    expires_at = now + timedelta(minutes=settings.subject_link_minutes)
    with writing(engine) as connection:
        check_epoch(connection, epoch)
        _check_quota(connection, settings, member, now)
        number = store.insert_session(
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
    """Change the link's code for the token of a session. Raises SessionExpired when it was used or is too old."""
    token = b64url(random_bytes(CODE_BYTES))
    expires_at = now + timedelta(minutes=settings.subject_session_minutes)
    with writing(engine) as connection:
        if not store.redeem(connection, _hash(code), _hash(token), now, expires_at):
            raise SessionExpired("This link was used already, or its time is over. Ask the platform for a new one.")
    return token


def session_of(engine: Engine, token: str | None, now: datetime) -> SessionRow:
    """The open session of this token. Raises SessionExpired."""
    if token:
        with reading(engine) as connection:
            row = store.session(connection, _hash(token), now)
        if row is not None:
            return row
    raise SessionExpired("This session has ended. Ask the platform for a new link.")


def end_session(engine: Engine, token: str | None, now: datetime) -> None:
    """Close the session, if there is one."""
    if token:
        with writing(engine) as connection:
            store.end(connection, _hash(token), now)


def forget_sessions(engine: Engine, now: datetime, limit: int = 1000) -> int:
    """Delete old sessions; returns how many."""
    with writing(engine) as connection:
        return store.forget_sessions(connection, now - timedelta(days=KEPT_DAYS), limit)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def check_epoch(connection: Connection, epoch: int) -> None:
    """That tags of this key epoch are looked up. Raises StaleEpoch with the current one."""
    rows = read_epochs(connection)
    if epoch not in {row.epoch for row in rows if row.state in LOOKUP_STATES}:
        raise StaleEpoch("The tags were made under another key epoch.", epoch=current_of(rows).epoch)


def _check_quota(connection: Connection, settings: Settings, member: Member, now: datetime) -> None:
    member_store.lock_platform(connection, member.platform)  # so that two at once do not both find room
    midnight = datetime.combine(now.astimezone(UTC).date(), time(0), tzinfo=UTC)
    if store.count_since(connection, member.platform, midnight) >= settings.subject_sessions_daily_quota:
        seconds = int((midnight + timedelta(days=1) - now).total_seconds()) + 1
        raise QuotaExceeded("The daily quota of links to records is used up.", retry_after_seconds=seconds)


def _log_opening(connection: Connection, member: Member, tags: Sequence[bytes], now: datetime) -> None:
    if not appeal_store.reports_of_tags(connection, tags):
        return  # a list of people without a record, and of when they looked, would itself be a record
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
    lookup_store.log_disclosures(connection, [row], [{"tag": tag, "lookup_id": number} for tag in set(tags)])
