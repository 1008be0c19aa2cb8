"""Idempotent writes: a request that is sent again under the same key gets the response that was stored the first time.

A request is identified by its platform, its idempotency key and a MAC over its content. The response is stored for
`IDEMPOTENCY_HOURS`, and only if the request succeeded: a refusal changes nothing, so the key can be used again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from sqlalchemy import Connection, delete, select, tuple_

from ledger.errors import IdempotencyMismatch, InvalidRequest
from ledger.protocol.encoding import canonical_json
from ledger.server.db.bulk import chunks
from ledger.server.db.tables.reports import Idempotency
from ledger.server.platforms.members import Member
from ledger.server.records.transaction import EntryBatch

IDEMPOTENCY_HOURS = 24
"""How long a response is stored."""

_KEY = re.compile(r"[!-~]{1,255}\Z")

Key = tuple[str, str]
"""(platform, idempotency key)."""


def is_key(key: object) -> TypeGuard[str]:
    """True if `key` is a valid idempotency key: 1 to 255 visible ASCII characters, no spaces."""
    return isinstance(key, str) and _KEY.match(key) is not None


def check_key(key: object) -> str:
    """Return `key` if it is a valid idempotency key. Raises InvalidRequest."""
    if not is_key(key):
        raise InvalidRequest("An idempotency key has 1 to 255 visible ASCII characters, no spaces.")
    return key


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """The identity of a write request: platform, its control group, idempotency key, and a MAC (32 bytes) over the
    content."""

    platform: str
    control_group: str
    key: str
    mac: bytes

    @property
    def id(self) -> Key:
        """(platform, idempotency key): what the response is stored under."""
        return self.platform, self.key


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a write: HTTP status, JSON text, and whether it is the stored one of an earlier request."""

    status: int
    body: str
    replayed: bool


def idempotent_request(
    mac_key: bytes, member: Member, key: str, content: Mapping[str, Any], operation: str
) -> IdempotentRequest:
    """Identify a request whose `content` is in canonical form (texts in NFC). `key` has passed `check_key`. Raises
    InvalidCanonicalForm."""
    return identified(mac_key, member, key, canonical_json(content), operation)


def identified(mac_key: bytes, member: Member, key: str, canonical: bytes, operation: str) -> IdempotentRequest:
    """Identify a request as `idempotent_request` does, from content that is canonical JSON already.

    The MAC is keyed, so that the content cannot be guessed from a stolen database.
    """
    mac = hmac.digest(mac_key, operation.encode() + b"\n" + canonical, hashlib.sha256)
    return IdempotentRequest(member.platform, member.control_group, key, mac)


class ResponseStore:
    """The stored responses of a transaction's requests, and those that it stores itself."""

    def __init__(self, batch: EntryBatch, requests: Iterable[IdempotentRequest]) -> None:
        """Load the stored responses of `requests`. Raises DatabaseUnavailable."""
        self._batch = batch
        self._rows = _read(batch.connection, [request.id for request in requests])

    def recall(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the stored response of an earlier request with this key, None if there is none. An expired one is
        deleted. Raises IdempotencyMismatch if the earlier request had another content."""
        row = self._rows.get(request.id)
        if row is None:
            return None
        if row.created_at <= self._batch.now - timedelta(hours=IDEMPOTENCY_HOURS):
            own = (Idempotency.platform == request.platform, Idempotency.key == request.key)
            self._batch.connection.execute(delete(Idempotency).where(*own))
            return None
        if bytes(row.request_mac) != request.mac:
            raise IdempotencyMismatch("This idempotency key was used for a different request.")
        return StoredResponse(row.status, row.body, replayed=True)

    def remember(self, request: IdempotentRequest, report_id: int, status: int, body: str) -> StoredResponse:
        """Store the response for `IDEMPOTENCY_HOURS`, or until the report is erased, and return it."""
        now = self._batch.now
        self._rows[request.id] = _Row(request.mac, status, body, now)
        self._batch.add(
            Idempotency,
            platform=request.platform,
            key=request.key,
            request_mac=request.mac,
            report_id=report_id,
            status=status,
            body=body,
            created_at=now,
        )
        return StoredResponse(status, body, replayed=False)


def is_stored(connection: Connection, request: IdempotentRequest) -> bool:
    """True if a response is stored under the request's key, expired or not."""
    return request.id in _read(connection, [request.id])


def forget_responses(connection: Connection, before: datetime, limit: int = 5_000) -> None:
    """Delete the responses stored before `before`, at most `limit` of them."""
    old = select(Idempotency.platform, Idempotency.key).where(Idempotency.created_at < before).limit(limit).subquery()
    connection.execute(
        delete(Idempotency).where(tuple_(Idempotency.platform, Idempotency.key).in_(select(old.c.platform, old.c.key)))
    )


@dataclass(frozen=True, slots=True)
class _Row:
    request_mac: bytes
    status: int
    body: str
    created_at: datetime


def _read(connection: Connection, ids: Iterable[Key]) -> dict[Key, _Row]:
    """Return stored responses by (platform, key). One statement for each platform: the index begins with it, and SQLite
    reads a list of pairs by no index."""
    columns = [getattr(Idempotency, name) for name in _Row.__dataclass_fields__]
    rows: dict[Key, _Row] = {}
    by_platform: dict[str, list[str]] = {}
    for platform, key in ids:
        by_platform.setdefault(platform, []).append(key)
    for platform, keys in by_platform.items():
        for some in chunks(keys):
            statement = select(Idempotency.key, *columns).where(
                Idempotency.platform == platform, Idempotency.key.in_(some)
            )
            for key, *values in connection.execute(statement):
                rows[platform, key] = _Row(*values)
    return rows
