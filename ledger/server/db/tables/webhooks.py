"""Tables of webhooks: the endpoints of platforms, the messages to them, and the state of each delivery.

They are not part of the log: the facts that a message reports are in the log or in the case files. Messages and
deliveries are deleted after 30 days.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.rules.webhooks import DeliveryState
from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, UtcDateTime

_STATES = ", ".join(f"'{state.value}'" for state in DeliveryState)


class WebhookEndpoint(Base):
    """A URL that receives a platform's webhooks. `events` are types separated by single spaces.

    `secret` is sealed for `webhook:{id}`. `previous_secret`, sealed in the same way, also signs until `previous_until`.
    Ids come from a block and are never reused: a sealed secret must not open for a later endpoint.
    """

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
        Index("ix_webhook_endpoint_platform_id", "platform", "id"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(String(500))
    events: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(8))
    disabled_reason: Mapped[str | None] = mapped_column(String(16))
    secret: Mapped[bytes] = mapped_column(LargeBinary(128))
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary(128))
    previous_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebhookMessage(Base):
    """A message to a platform. `body` holds the exact bytes that are signed and sent. The id becomes `webhook-id`, by
    which receivers drop duplicates, so ids come from a block and are never reused."""

    __tablename__ = "webhook_message"
    __table_args__ = (Index("ix_webhook_message_created_at", "created_at"),)

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    type: Mapped[str] = mapped_column(String(32))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebhookDelivery(Base):
    """The delivery of one message to one endpoint.

    A sender that takes it sets `claimed_until`; if the sender dies, any sender may take the delivery after that time.
    `last_error` is a code of `server.webhooks.attempt`, never text from the receiver.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state"),
        Index("ix_webhook_delivery_state_next_at", "state", "next_at"),
        Index("ix_webhook_delivery_endpoint_id_message_id", "endpoint_id", "message_id", unique=True),
        Index("ix_webhook_delivery_message_id", "message_id"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    message_id: Mapped[int] = mapped_column(BigInt)
    endpoint_id: Mapped[int] = mapped_column(BigInt)
    attempts: Mapped[int] = mapped_column(SmallInteger)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    state: Mapped[str] = mapped_column(String(10))
    claimed_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(String(64))
    last_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
