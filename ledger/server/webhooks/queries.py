"""Queries on webhooks: endpoints, messages, and deliveries as senders take them and tell what became of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from ledger.rules.webhooks import DeliveryState
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.db.tables.platforms import Platform
from ledger.server.db.tables.webhooks import WebhookDelivery, WebhookEndpoint, WebhookMessage
from ledger.tlog.entries import PlatformState

ACTIVE, DISABLED = "active", "disabled"
_PENDING = DeliveryState.PENDING.value


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint as stored; the secrets are sealed, and kept out of `repr`."""

    id: int
    platform: str
    url: str
    events: str
    status: str
    disabled_reason: str | None
    secret: bytes
    previous_secret: bytes | None
    previous_until: datetime | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"EndpointRow(id={self.id}, status={self.status!r})"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery with the type and time of its message."""

    message_id: int
    type: str
    created_at: datetime
    attempts: int
    next_at: datetime
    state: str
    last_status: int | None
    last_error: str | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery in the hands of one sender until `claimed_until`, which also tells its claim from a later one."""

    id: int
    attempts: int
    claimed_until: datetime
    message_id: int
    body: str
    endpoint: EndpointRow


_ENDPOINT = select(*[getattr(WebhookEndpoint, name) for name in EndpointRow.__dataclass_fields__])
_DELIVERY = select(
    WebhookDelivery.message_id,
    WebhookMessage.type,
    WebhookMessage.created_at,
    WebhookDelivery.attempts,
    WebhookDelivery.next_at,
    WebhookDelivery.state,
    WebhookDelivery.last_status,
    WebhookDelivery.last_error,
    WebhookDelivery.last_at,
).join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)


# --- endpoints ----------------------------------------------------------------------------------------------------


def new_endpoint_id(connection: Connection) -> int:
    """An id that no endpoint had."""
    return reserve_ids(connection, "we", 1)


def insert_endpoint(connection: Connection, row: EndpointRow) -> None:
    """One endpoint."""
    connection.execute(insert(WebhookEndpoint).values({name: getattr(row, name) for name in row.__dataclass_fields__}))


def read_endpoints(connection: Connection, platform: str) -> list[EndpointRow]:
    """The platform's endpoints, oldest first."""
    query = _ENDPOINT.where(WebhookEndpoint.platform == platform).order_by(WebhookEndpoint.id)
    return [EndpointRow(*row) for row in connection.execute(query)]


def lock_endpoint(connection: Connection, platform: str, endpoint_id: int) -> EndpointRow | None:
    """The platform's endpoint of this id, locked until the transaction ends."""
    query = _ENDPOINT.where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.platform == platform)
    row = connection.execute(query.with_for_update()).one_or_none()
    return None if row is None else EndpointRow(*row)


def delete_endpoint(connection: Connection, endpoint_id: int) -> None:
    """The endpoint and its deliveries."""
    connection.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
    connection.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))


def set_secrets(
    connection: Connection, endpoint_id: int, *, secret: bytes, previous: bytes | None, until: datetime | None
) -> None:
    """New sealed secrets."""
    connection.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id)
        .values(secret=secret, previous_secret=previous, previous_until=until)
    )


def set_status(connection: Connection, endpoint_id: int, status: str, reason: str | None) -> None:
    """`active`, or `disabled` for a reason."""
    connection.execute(
        update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(status=status, disabled_reason=reason)
    )


def cancel_pending(connection: Connection, endpoint_id: int) -> None:
    """Nothing that waits for this endpoint is sent any more."""
    connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.state == _PENDING)
        .values(state=DeliveryState.CANCELLED.value, claimed_until=None)
    )


# --- messages -----------------------------------------------------------------------------------------------------


def subscribers(connection: Connection, types: Collection[str], platform: str | None = None) -> dict[str, list[int]]:
    """Ids of the active endpoints that subscribe to one of `types`, by platform: of one, or of all. Suspended platforms
    are told nothing."""
    query = (
        select(WebhookEndpoint.platform, WebhookEndpoint.id, WebhookEndpoint.events)
        .join(Platform, Platform.name == WebhookEndpoint.platform)
        .where(WebhookEndpoint.status == ACTIVE, Platform.status == PlatformState.ACTIVE.value)
        .order_by(WebhookEndpoint.platform, WebhookEndpoint.id)
    )
    if platform is not None:
        query = query.where(WebhookEndpoint.platform == platform)
    found: dict[str, list[int]] = {}
    for row in connection.execute(query):
        if not frozenset(types).isdisjoint(row.events.split()):
            found.setdefault(row.platform, []).append(row.id)
    return found


def insert_message(
    connection: Connection, *, platform: str, type_: str, body: str, endpoints: Collection[int], now: datetime
) -> int:
    """One message, on its way to each of `endpoints` from now on; its id."""
    message_id = reserve_ids(connection, "wm", 1)
    connection.execute(
        insert(WebhookMessage).values(id=message_id, platform=platform, type=type_, body=body, created_at=now)
    )
    connection.execute(
        insert(WebhookDelivery),
        [
            {"message_id": message_id, "endpoint_id": endpoint, "attempts": 0, "next_at": now, "state": _PENDING}
            for endpoint in endpoints
        ],
    )
    return message_id


def forget_messages(connection: Connection, before: datetime, limit: int) -> int:
    """Delete at most `limit` messages older than `before` with their deliveries; how many."""
    query = select(WebhookMessage.id).where(WebhookMessage.created_at < before).order_by(WebhookMessage.id).limit(limit)
    old = connection.execute(query).scalars().all()
    if old:
        connection.execute(delete(WebhookDelivery).where(WebhookDelivery.message_id.in_(old)))
        connection.execute(delete(WebhookMessage).where(WebhookMessage.id.in_(old)))
    return len(old)


# --- deliveries ---------------------------------------------------------------------------------------------------


def page(connection: Connection, endpoint_id: int, *, limit: int, before_id: int | None) -> list[DeliveryRow]:
    """Deliveries to an endpoint, of the newest messages first, of those with ids below `before_id` if given."""
    query = _DELIVERY.where(WebhookDelivery.endpoint_id == endpoint_id)
    if before_id is not None:
        query = query.where(WebhookDelivery.message_id < before_id)
    rows = connection.execute(query.order_by(WebhookDelivery.message_id.desc()).limit(limit))
    return [DeliveryRow(*row) for row in rows]


def read_delivery(connection: Connection, endpoint_id: int, message_id: int) -> DeliveryRow | None:
    """The delivery of a message to an endpoint."""
    row = connection.execute(
        _DELIVERY.where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.message_id == message_id)
    ).one_or_none()
    return None if row is None else DeliveryRow(*row)


def pending_of_type(connection: Connection, endpoint_id: int, type_: str) -> DeliveryRow | None:
    """The newest delivery of this type that waits for the endpoint."""
    query = _DELIVERY.where(
        WebhookDelivery.endpoint_id == endpoint_id,
        WebhookDelivery.state == _PENDING,
        WebhookMessage.type == type_,
    ).order_by(WebhookDelivery.message_id.desc())
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else DeliveryRow(*row)


def restart_delivery(connection: Connection, endpoint_id: int, message_id: int, now: datetime) -> None:
    """Due now. One that was finished climbs the whole ladder again; one that is being sent stays claimed."""
    this = (WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.message_id == message_id)
    finished = update(WebhookDelivery).where(*this, WebhookDelivery.state != _PENDING)
    connection.execute(update(WebhookDelivery).where(*this, WebhookDelivery.state == _PENDING).values(next_at=now))
    connection.execute(finished.values(state=_PENDING, attempts=0, next_at=now, claimed_until=None))


def _due(now: datetime, busy: Collection[int]) -> ColumnElement[bool]:
    """Deliveries that may be sent: pending, their time has come, nobody has them in hand, their endpoint is active."""
    return and_(
        WebhookDelivery.state == _PENDING,
        WebhookDelivery.next_at <= now,
        or_(WebhookDelivery.claimed_until.is_(None), WebhookDelivery.claimed_until <= now),
        WebhookDelivery.endpoint_id.not_in(busy),
        WebhookDelivery.endpoint_id.in_(select(WebhookEndpoint.id).where(WebhookEndpoint.status == ACTIVE)),
    )


def any_due(connection: Connection, now: datetime, busy: Collection[int]) -> bool:
    """Whether `claim_due` would find something. Takes no lock."""
    return connection.execute(select(WebhookDelivery.id).where(_due(now, busy)).limit(1)).first() is not None


def claim_due(
    connection: Connection, now: datetime, until: datetime, busy: Collection[int], limit: int
) -> list[ClaimedDelivery]:
    """Take at most `limit` due deliveries, the oldest one of each endpoint that is not in `busy`.

    No two senders get the same one: PostgreSQL passes over what another transaction has locked, SQLite has one writer.
    """
    oldest = select(func.min(WebhookDelivery.id)).where(_due(now, busy)).group_by(WebhookDelivery.endpoint_id)
    query = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.id.in_(oldest), _due(now, busy))
        .order_by(WebhookDelivery.next_at, WebhookDelivery.id)
        .limit(limit)
    )
    ids = connection.execute(query.with_for_update(skip_locked=True, of=WebhookDelivery)).scalars().all()
    if not ids:
        return []
    connection.execute(update(WebhookDelivery).where(WebhookDelivery.id.in_(ids)).values(claimed_until=until))
    columns = [getattr(WebhookEndpoint, name) for name in EndpointRow.__dataclass_fields__]
    rows = connection.execute(
        select(WebhookDelivery.id, WebhookDelivery.attempts, WebhookDelivery.message_id, WebhookMessage.body, *columns)
        .join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.id.in_(ids))
        .order_by(WebhookDelivery.next_at, WebhookDelivery.id)
    )
    return [ClaimedDelivery(row[0], row[1], until, row[2], row[3], EndpointRow(*row[4:])) for row in rows]


def set_delivered(connection: Connection, claim: ClaimedDelivery, status: int, now: datetime) -> None:
    """It arrived. That holds even where the claim had run out and another sender has the delivery in hand."""
    connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == claim.id, WebhookDelivery.state == _PENDING)
        .values(
            state=DeliveryState.DELIVERED.value,
            attempts=claim.attempts + 1,
            claimed_until=None,
            last_status=status,
            last_error=None,
            last_at=now,
        )
    )


def set_undelivered(
    connection: Connection,
    claim: ClaimedDelivery,
    *,
    state: DeliveryState,
    next_at: datetime,
    status: int | None,
    error: str,
    now: datetime,
) -> bool:
    """It did not arrive; whether that still was this sender's to say."""
    statement = (
        update(WebhookDelivery)
        .where(_still(claim))
        .values(
            state=state.value,
            attempts=claim.attempts + 1,
            next_at=next_at,
            claimed_until=None,
            last_status=status,
            last_error=error,
            last_at=now,
        )
        .returning(WebhookDelivery.id)
    )
    return connection.execute(statement).first() is not None


def release(connection: Connection, claim: ClaimedDelivery) -> None:
    """Give a delivery back as it was: anybody may send it at once."""
    connection.execute(update(WebhookDelivery).where(_still(claim)).values(claimed_until=None))


def _still(claim: ClaimedDelivery) -> ColumnElement[bool]:
    return and_(
        WebhookDelivery.id == claim.id,
        WebhookDelivery.state == _PENDING,
        WebhookDelivery.claimed_until == claim.claimed_until,
    )
