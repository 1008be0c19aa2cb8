"""Writing messages, and forgetting them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.rules.webhooks import MessageSource, Recipient, WebhookType, check_payload, message_body, subscriptions_to
from ledger.server.db.engine import writing
from ledger.server.webhooks import queries as store

KEPT_DAYS = 30
"""Messages and their deliveries are forgotten after so long."""

MAX_FORGOTTEN = 1_000
"""Messages that one transaction forgets."""


def emit(
    connection: Connection,
    now: datetime,
    source: MessageSource,
    platform: str,
    type_: WebhookType,
    recipient: Recipient,
    data: Mapping[str, str | int],
) -> None:
    """Write one message to `platform` inside the caller's `writing` transaction, on its way to each of its active
    endpoints that subscribe to the event. Where there is none, nothing is written.

    Raises ValueError, also without endpoints, unless `data` is the payload of the event's row for `recipient`.
    """
    check_payload(type_, recipient, data)
    for endpoints in store.subscribers(connection, subscriptions_to(type_), platform).values():
        _insert(connection, now, source, platform, type_, recipient, data, endpoints)


def emit_all(
    connection: Connection, now: datetime, source: MessageSource, type_: WebhookType, data: Mapping[str, str | int]
) -> None:
    """As `emit`, to every platform, as a member of the ledger."""
    check_payload(type_, Recipient.MEMBER, data)
    for platform, endpoints in store.subscribers(connection, subscriptions_to(type_)).items():
        _insert(connection, now, source, platform, type_, Recipient.MEMBER, data, endpoints)


def _insert(
    connection: Connection,
    now: datetime,
    source: MessageSource,
    platform: str,
    type_: WebhookType,
    recipient: Recipient,
    data: Mapping[str, str | int],
    endpoints: list[int],
) -> None:
    body = message_body(type_, recipient, source, now, data)
    store.insert_message(connection, platform=platform, type_=type_.value, body=body, endpoints=endpoints, now=now)


def forget(engine: Engine, now: datetime) -> int:
    """Delete messages older than `KEPT_DAYS` with their deliveries, `MAX_FORGOTTEN` at most; how many. Call it until it
    returns 0. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        return store.forget_messages(connection, now - timedelta(days=KEPT_DAYS), MAX_FORGOTTEN)
