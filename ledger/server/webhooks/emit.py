"""Writing messages, and deleting old ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.rules.webhooks import MessageSource, Recipient, WebhookType, check_payload, message_body, subscriptions_to
from ledger.server.db.engine import writing
from ledger.server.webhooks import queries as store

KEPT_DAYS = 30
"""Messages and their deliveries are deleted after this time."""

MAX_FORGOTTEN = 1_000
"""The maximum number of messages that one transaction deletes."""


def emit(
    connection: Connection,
    now: datetime,
    source: MessageSource,
    platform: str,
    type_: WebhookType,
    recipient: Recipient,
    data: Mapping[str, str | int],
) -> None:
    """Write one message to `platform` in the caller's `writing` transaction, with a delivery to each of its active
    endpoints that subscribe to the event. Without such endpoints it writes nothing.

    Raises ValueError, also without endpoints, unless `data` is the payload of the event's row for `recipient`.
    """
    check_payload(type_, recipient, data)
    for endpoints in store.subscribers(connection, subscriptions_to(type_), platform).values():
        _insert(connection, now, source, platform, type_, recipient, data, endpoints)


def emit_all(
    connection: Connection, now: datetime, source: MessageSource, type_: WebhookType, data: Mapping[str, str | int]
) -> None:
    """Write one message to every platform, as a member of the ledger, as `emit` does. Raises ValueError."""
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
    """Delete messages older than `KEPT_DAYS` with their deliveries, at most `MAX_FORGOTTEN`, and return their number.
    Call it until it returns 0. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        return store.forget_messages(connection, now - timedelta(days=KEPT_DAYS), MAX_FORGOTTEN)
