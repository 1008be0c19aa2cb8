"""Writing messages, and forgetting them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.core.webhooks import WebhookType, message_body
from ledger.store import webhooks as store
from ledger.store.engine import writing

KEPT_DAYS = 30
"""Messages and their deliveries are forgotten after so long."""

MAX_FORGOTTEN = 1_000
"""Messages that one transaction forgets."""


def emit(
    connection: Connection, now: datetime, platform: str, type_: WebhookType, data: Mapping[str, str | int]
) -> None:
    """Tell `platform` inside the caller's `writing` transaction: one message, on its way to each active endpoint that
    subscribes to `type_`. Where there is none, nothing is written.

    `data` holds public ids and states only: `{"appeal": "ap_...", "report": "rp_...", "state": "under_review"}`.
    """
    for endpoints in store.subscribers(connection, type_.value, platform).values():
        _insert(connection, now, platform, type_, data, endpoints)


def emit_all(connection: Connection, now: datetime, type_: WebhookType, data: Mapping[str, str | int]) -> None:
    """As `emit`, for every platform."""
    for platform, endpoints in store.subscribers(connection, type_.value).items():
        _insert(connection, now, platform, type_, data, endpoints)


def _insert(
    connection: Connection,
    now: datetime,
    platform: str,
    type_: WebhookType,
    data: Mapping[str, str | int],
    endpoints: list[int],
) -> None:
    body = message_body(type_, now, data)
    store.insert_message(connection, platform=platform, type_=type_.value, body=body, endpoints=endpoints, now=now)


def forget(engine: Engine, now: datetime) -> int:
    """Delete messages older than `KEPT_DAYS` with their deliveries, `MAX_FORGOTTEN` at most; how many. Call it until it
    returns 0. Raises DatabaseUnavailable."""
    with writing(engine) as connection:
        return store.forget_messages(connection, now - timedelta(days=KEPT_DAYS), MAX_FORGOTTEN)
