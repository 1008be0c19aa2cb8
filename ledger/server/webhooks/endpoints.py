"""What a platform can do with its endpoints and deliveries. Those of others raise NotFound, as if they did not
exist."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from ledger.errors import InvalidRequest, NotFound, WebhookInvalid
from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import decode_id, encode_id
from ledger.rules.webhook_urls import parse_url
from ledger.rules.webhooks import (
    DeliveryState,
    MessageSource,
    Recipient,
    WebhookType,
    format_secret,
    message_body,
    parse_types,
)
from ledger.server.context import Context
from ledger.server.db.engine import reading, writing
from ledger.server.keys.sealing import NONCE_BYTES, seal
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.members import Member
from ledger.server.settings import Settings
from ledger.server.webhooks import queries as store
from ledger.server.webhooks.attempt import Resolve, checked_addresses, resolve
from ledger.server.webhooks.queries import DeliveryRow, EndpointRow

MAX_ENDPOINTS = 5
"""Endpoints of one platform."""

OVERLAP_HOURS = 24
"""How long the previous secret stays valid after a rotation."""

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class WebhookContext:
    """What endpoints need beside the context: settings (whether private addresses are allowed), and the key that seals
    their secrets."""

    context: Context
    settings: Settings
    sealing_key: bytes


def create(
    webhooks: WebhookContext, member: Member, url: str, events: Iterable[str], *, resolve: Resolve = resolve
) -> dict[str, Any]:
    """Register an endpoint and return its view with its `secret`, which is never shown again.

    Raises WebhookInvalid: the URL or its host's addresses are not allowed, an event is unknown, or there are
    `MAX_ENDPOINTS` already.
    """
    types = parse_types(events)
    private = webhooks.settings.webhook_allow_private
    target = parse_url(url, allow_private=private)
    if not private:
        checked_addresses(target, private, resolve)
    secret = secrets.token_bytes(SECRET_BYTES)
    now = webhooks.context.now()
    with writing(webhooks.context.engine) as connection:
        member_store.lock_platform(connection, member.platform)  # so that two at once do not both find room
        if len(store.read_endpoints(connection, member.platform)) >= MAX_ENDPOINTS:
            raise WebhookInvalid(f"A platform has at most {MAX_ENDPOINTS} endpoints. Delete one first.")
        endpoint_id = store.new_endpoint_id(connection)
        row = EndpointRow(
            id=endpoint_id,
            platform=member.platform,
            url=url,
            events=" ".join(types),
            status=store.ACTIVE,
            disabled_reason=None,
            secret=_sealed(webhooks, endpoint_id, secret),
            previous_secret=None,
            previous_until=None,
            created_at=now,
        )
        store.insert_endpoint(connection, row)
    return {**_view(webhooks, row), "secret": format_secret(secret)}


def list_all(webhooks: WebhookContext, member: Member) -> dict[str, Any]:
    """Return {data}: the platform's endpoints, oldest first. There are few, so they are on one page."""
    with reading(webhooks.context.engine) as connection:
        return {"data": [_view(webhooks, row) for row in store.read_endpoints(connection, member.platform)]}


def get(webhooks: WebhookContext, member: Member, endpoint: str) -> dict[str, Any]:
    """Return one endpoint. Raises NotFound."""
    with reading(webhooks.context.engine) as connection:
        return _view(webhooks, _read(webhooks, connection, member, endpoint))


def delete(webhooks: WebhookContext, member: Member, endpoint: str) -> None:
    """Delete the endpoint with all its deliveries; one that is being sent may still arrive. Raises NotFound."""
    with writing(webhooks.context.engine) as connection:
        store.delete_endpoint(connection, _lock(webhooks, connection, member, endpoint).id)


def rotate(webhooks: WebhookContext, member: Member, endpoint: str) -> dict[str, Any]:
    """Make a new secret and return the endpoint with it; it is shown once. The previous secret stays valid for
    `OVERLAP_HOURS`; any older one is revoked immediately.

    Raises NotFound.
    """
    secret, until = secrets.token_bytes(SECRET_BYTES), webhooks.context.now() + timedelta(hours=OVERLAP_HOURS)
    with writing(webhooks.context.engine) as connection:
        row = _lock(webhooks, connection, member, endpoint)
        sealed = _sealed(webhooks, row.id, secret)
        store.set_secrets(connection, row.id, secret=sealed, previous=row.secret, until=until)
    return {
        **_view(webhooks, replace(row, previous_secret=row.secret, previous_until=until)),
        "secret": format_secret(secret),
    }


def enable(webhooks: WebhookContext, member: Member, endpoint: str) -> dict[str, Any]:
    """Make a disabled endpoint active again. Cancelled deliveries stay cancelled; they can be replayed. Raises
    NotFound."""
    with writing(webhooks.context.engine) as connection:
        row = _lock(webhooks, connection, member, endpoint)
        store.set_status(connection, row.id, store.ACTIVE, None)
    return _view(webhooks, replace(row, status=store.ACTIVE, disabled_reason=None))


def send_test(webhooks: WebhookContext, member: Member, endpoint: str) -> dict[str, Any]:
    """Send a `webhook.test` and return its delivery. While one waits, that one is returned and no other is sent.

    Raises NotFound, WebhookInvalid for a disabled endpoint.
    """
    now = webhooks.context.now()
    with writing(webhooks.context.engine) as connection:
        row = _active(_lock(webhooks, connection, member, endpoint))
        delivery = store.pending_of_type(connection, row.id, WebhookType.TEST)
        if delivery is None:
            source = MessageSource(webhooks.context.service, webhooks.context.environment)
            body = message_body(WebhookType.TEST, Recipient.MEMBER, source, now, {"webhook": _public(webhooks, row)})
            message_id = store.insert_message(
                connection,
                platform=row.platform,
                type_=WebhookType.TEST.value,
                body=body,
                endpoints=[row.id],
                now=now,
            )
            delivery = store.read_delivery(connection, row.id, message_id)
            assert delivery is not None
    return _delivery(webhooks, delivery)


def deliveries(
    webhooks: WebhookContext, member: Member, endpoint: str, limit: int, starting_after: str | None
) -> dict[str, Any]:
    """Return {data, has_more}: deliveries of the last 30 days, newest messages first. Raises NotFound,
    InvalidRequest."""
    before_id = None if starting_after is None else decode_id("wm", starting_after, webhooks.context.service)
    with reading(webhooks.context.engine) as connection:
        row = _read(webhooks, connection, member, endpoint)
        rows = store.page(connection, row.id, limit=limit + 1, before_id=before_id)
    return {"data": [_delivery(webhooks, delivery) for delivery in rows[:limit]], "has_more": len(rows) > limit}


def replay(webhooks: WebhookContext, member: Member, endpoint: str, message: str) -> dict[str, Any]:
    """Send a message again now, whatever the state of its delivery, under the same id; return its delivery.

    Raises NotFound, WebhookInvalid for a disabled endpoint.
    """
    message_id = _number(webhooks, "wm", message)
    with writing(webhooks.context.engine) as connection:
        row = _lock(webhooks, connection, member, endpoint)
        if store.read_delivery(connection, row.id, message_id) is None:
            raise NotFound("There is no such delivery.")
        _active(row)
        store.restart_delivery(connection, row.id, message_id, webhooks.context.now())
        delivery = store.read_delivery(connection, row.id, message_id)
        assert delivery is not None
    return _delivery(webhooks, delivery)


# --- inside ---------------------------------------------------------------------------------------------------------


def _number(webhooks: WebhookContext, prefix: Any, text: str) -> int:
    try:
        return decode_id(prefix, text, webhooks.context.service)
    except InvalidRequest as error:
        raise NotFound("There is nothing of this id.") from error


def _read(webhooks: WebhookContext, connection: Connection, member: Member, endpoint: str) -> EndpointRow:
    number = _number(webhooks, "we", endpoint)
    for row in store.read_endpoints(connection, member.platform):
        if row.id == number:
            return row
    raise NotFound("There is no such webhook endpoint.")


def _lock(webhooks: WebhookContext, connection: Connection, member: Member, endpoint: str) -> EndpointRow:
    row = store.lock_endpoint(connection, member.platform, _number(webhooks, "we", endpoint))
    if row is None:
        raise NotFound("There is no such webhook endpoint.")
    return row


def _active(row: EndpointRow) -> EndpointRow:
    if row.status != store.ACTIVE:
        raise WebhookInvalid("This endpoint is disabled. Enable it first.")
    return row


def _sealed(webhooks: WebhookContext, endpoint_id: int, secret: bytes) -> bytes:
    return seal(webhooks.sealing_key, secrets.token_bytes(NONCE_BYTES), f"webhook:{endpoint_id}", secret)


def _public(webhooks: WebhookContext, row: EndpointRow) -> str:
    return encode_id("we", row.id, webhooks.context.service)


def _view(webhooks: WebhookContext, row: EndpointRow) -> dict[str, Any]:
    until = row.previous_until
    return {
        "id": _public(webhooks, row),
        "url": row.url,
        "events": row.events.split(),
        "status": row.status,
        "disabled_reason": row.disabled_reason,
        "created_at": format_time(row.created_at),
        "previous_secret_until": _time(until if until is not None and until > webhooks.context.now() else None),
    }


def _delivery(webhooks: WebhookContext, row: DeliveryRow) -> dict[str, Any]:
    pending = row.state == DeliveryState.PENDING
    return {
        "message": encode_id("wm", row.message_id, webhooks.context.service),
        "type": row.type,
        "created_at": format_time(row.created_at),
        "state": row.state,
        "attempts": row.attempts,
        "next_attempt_at": _time(row.next_at if pending else None),
        "last_attempt_at": _time(row.last_at),
        "last_status": row.last_status,
        "last_error": row.last_error,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
