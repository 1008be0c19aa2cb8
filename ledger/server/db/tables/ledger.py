"""The tables, typed (SQLAlchemy 2.1 declarative). `migrations/` makes them; a drift check compares the two.

Three groups, by what may happen to a row:

- **record**: `log_entry`, `tile`, `checkpoint`: written once (a tile only grows), never deleted;
- **opening**: `entry_body`, `subject`, `listing`, `report`, `idempotency`: what erasure deletes (docs/reports.md);
- **projection and accounts**: derived from entries or kept for running the service.
`listing` is what a lookup reads. It stands alone (by tag first, no foreign keys, all that folding needs but weights).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime

# --- the record -----------------------------------------------------------------------------------------------


class LogHead(Base):
    """The one row that serialises writers. `size` entries are in the log; `frozen` says why it takes no more."""

    __tablename__ = "log_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInt)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    frozen: Mapped[str | None] = mapped_column(String(200))


class LogEntry(Base):
    """One entry: its place, its public record (the leaf's bytes) and nothing that tells who or what."""

    __tablename__ = "log_entry"

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)


class GovernanceEntry(Base):
    """Where the governance entries are: few among many, and looked for by sort at every start."""

    __tablename__ = "governance_entry"
    __table_args__ = (Index("ix_governance_entry_sort", "sort", "entry_index"),)

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    sort: Mapped[str] = mapped_column(String(16))


class EntryBody(Base):
    """The erasable opening of a private entry: salt and canonical body, committed to by the leaf."""

    __tablename__ = "entry_body"

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(16))
    hour: Mapped[datetime] = mapped_column(UtcDateTime)
    salt: Mapped[bytes] = mapped_column(Bytes32)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class Tile(Base):
    """A C2SP tile of height 8: `width` hashes of 32 bytes. A tile at the right edge grows in place."""

    __tablename__ = "tile"

    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    tile_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    width: Mapped[int] = mapped_column(SmallInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """Every checkpoint that was ever published."""

    __tablename__ = "checkpoint"

    size: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(Bytes32)
    note: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)


# --- reports --------------------------------------------------------------------------------------------------


class Report(Base):
    """A report as the member that made it sees it. `id` is its entry's index."""

    __tablename__ = "report"
    __table_args__ = (
        Index(
            "uq_report_live_order",
            "control_group",
            "order_ref",
            unique=True,
            sqlite_where=text("live"),
            postgresql_where=text("live"),
        ),
        Index("ix_report_control_group_order_ref", "control_group", "order_ref"),
        Index("ix_report_platform_id", "platform", "id"),
        Index("ix_report_platform_order_ref", "platform", "order_ref", "id"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    control_group: Mapped[str] = mapped_column(String(32))
    order_ref: Mapped[bytes] = mapped_column(Bytes32)
    conduct: Mapped[str] = mapped_column(String(32))
    amount_minor: Mapped[int] = mapped_column(BigInt)
    currency: Mapped[str] = mapped_column(String(3))
    outcome: Mapped[str] = mapped_column(String(32))
    act_ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    notice_sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    effective_hour: Mapped[int] = mapped_column(Integer)
    expires_day: Mapped[int] = mapped_column(Integer, index=True)
    act_id: Mapped[int] = mapped_column(BigInt)
    live: Mapped[bool] = mapped_column(Boolean)
    replaces: Mapped[int | None] = mapped_column(BigInt, index=True)


class ReportLink(Base):
    """An `account_farm` report stands on reports about the linked accounts; it is void when one of them is."""

    __tablename__ = "report_link"
    __table_args__ = (Index("ix_report_link_linked_id", "linked_id"),)

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    linked_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class Reversal(Base):
    """What took a report back. The primary key is the rule that nothing is reversed twice."""

    __tablename__ = "reversal"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    entry_index: Mapped[int] = mapped_column(BigInt, unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Restitution(Base):
    """The buyer paid the full amount back: halves the points, once."""

    __tablename__ = "restitution"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    entry_index: Mapped[int] = mapped_column(BigInt, unique=True)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Subject(Base):
    """The blinded identifier of a report, with the salt of its commitment; a row for each key epoch. Erasable."""

    __tablename__ = "subject"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    element: Mapped[bytes] = mapped_column(Bytes32)
    salt: Mapped[bytes] = mapped_column(Bytes32)


class Listing(Base):
    """What a lookup by tag reads: a row for each subject of each live report, under each key epoch that answers."""

    __tablename__ = "listing"
    __table_args__ = (Index("ix_listing_report_id", "report_id"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(16))
    act_id: Mapped[int] = mapped_column(BigInt)
    control_group: Mapped[str] = mapped_column(String(32))
    conduct: Mapped[str] = mapped_column(String(32))
    amount_minor: Mapped[int] = mapped_column(BigInt)
    currency: Mapped[str] = mapped_column(String(3))
    act_day: Mapped[int] = mapped_column(Integer)
    effective_hour: Mapped[int] = mapped_column(Integer)
    expires_day: Mapped[int] = mapped_column(Integer)
    disputed: Mapped[bool] = mapped_column(Boolean)
    unconfirmed: Mapped[bool] = mapped_column(Boolean)
    restituted: Mapped[bool] = mapped_column(Boolean)
    has_statement: Mapped[bool] = mapped_column(Boolean)


class Idempotency(Base):
    """The answer to a POST that wrote, kept 24 hours. `request_mac` is an HMAC, so no body can be guessed from it."""

    __tablename__ = "idempotency"
    __table_args__ = (Index("ix_idempotency_created_at", "created_at"), Index("ix_idempotency_report_id", "report_id"))

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_mac: Mapped[bytes] = mapped_column(Bytes32)
    report_id: Mapped[int] = mapped_column(BigInt)
    status: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


# --- keys and snapshots ---------------------------------------------------------------------------------------


class KeyEpoch(Base):
    """A key epoch. `entry_index` is the `key_rotation` entry that announced it, `switch_index` made it current."""

    __tablename__ = "key_epoch"
    __table_args__ = (CheckConstraint("state IN ('next', 'current', 'previous', 'retired')", name="state"),)

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(8))
    holder: Mapped[str] = mapped_column(String(32))
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    entry_index: Mapped[int] = mapped_column(BigInt)
    switch_index: Mapped[int | None] = mapped_column(BigInt)
    announced_at: Mapped[datetime] = mapped_column(UtcDateTime)
    grace_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Snapshot(Base):
    """A snapshot of the listings at a cut, committed before anything is built. Publication drops the secret."""

    __tablename__ = "snapshot"
    __table_args__ = (CheckConstraint("status IN ('building', 'published')", name="status"),)

    version: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    status: Mapped[str] = mapped_column(String(9))
    cut: Mapped[int] = mapped_column(BigInt)
    as_of: Mapped[datetime] = mapped_column(UtcDateTime)
    not_after: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    epoch: Mapped[int] = mapped_column(Integer)
    policy: Mapped[int] = mapped_column(Integer)
    weights: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes | None] = mapped_column(Bytes32)
    manifest: Mapped[str | None] = mapped_column(Text)
    signature: Mapped[bytes | None] = mapped_column(LargeBinary(64))
    entry_index: Mapped[int | None] = mapped_column(BigInt, unique=True)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


# --- members and accounts -------------------------------------------------------------------------------------


class ControlGroup(Base):
    """Accounts under one control. `weight_twentieths` is its weight under a policy whose weights follow each decision
    at once (version 1); other weights are computed from `case_outcome` when they are read."""

    __tablename__ = "control_group"
    __table_args__ = (CheckConstraint("weight_twentieths BETWEEN 0 AND 20", name="weight"),)

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    weight_twentieths: Mapped[int] = mapped_column(SmallInteger)


class Platform(Base):
    """A member platform. `name` is the `iss` of its tokens. `status_changed_at` is when its status changed last, and
    `weighed_before` whether its reports carried weight at the UTC midnight before; both None where it never changed."""

    __tablename__ = "platform"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    control_group: Mapped[str] = mapped_column(ForeignKey("control_group.name"))
    profile: Mapped[str] = mapped_column(String(2))
    scopes: Mapped[str] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(16))
    oprf_daily_quota_elements: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    status_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    weighed_before: Mapped[bool | None] = mapped_column(Boolean)


class PlatformKey(Base):
    """A platform's Ed25519 public key. Only public keys are stored; each can be revoked."""

    __tablename__ = "platform_key"
    __table_args__ = (UniqueConstraint("public_key"),)

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    platform: Mapped[str] = mapped_column(ForeignKey("platform.name"), index=True)
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OprfUse(Base):
    """Blinded elements evaluated for a platform in a UTC day: deducted and committed before evaluating."""

    __tablename__ = "oprf_use"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    elements: Mapped[int] = mapped_column(BigInt)


class OprfBurst(Base):
    """When a platform's burst allowance is whole again, in microseconds since the Unix epoch."""

    __tablename__ = "oprf_burst"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    whole_at_us: Mapped[int] = mapped_column(BigInt)


class OprfGrant(Base):
    """Elements granted beyond the daily quota: for the first tagging of a user base, or after a key rotation."""

    __tablename__ = "oprf_grant"
    __table_args__ = (
        Index("ix_oprf_grant_platform_expires_at", "platform", "expires_at"),
        CheckConstraint("used BETWEEN 0 AND elements", name="used"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    platform: Mapped[str] = mapped_column(String(32))
    elements: Mapped[int] = mapped_column(BigInt)
    used: Mapped[int] = mapped_column(BigInt)
    reason: Mapped[str] = mapped_column(String(200))
    granted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LookupLog(Base):
    """A lookup that disclosed an event: who asked, when and why, for the person to see."""

    __tablename__ = "lookup_log"

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(16))
    order_ref: Mapped[bytes] = mapped_column(Bytes32)
    consent_ref: Mapped[str | None] = mapped_column(String(128))
    claim: Mapped[str | None] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(8))
    as_of_index: Mapped[int] = mapped_column(BigInt)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class LookupTag(Base):
    """The tags a disclosing lookup was about."""

    __tablename__ = "lookup_tag"
    __table_args__ = (Index("ix_lookup_tag_lookup_id", "lookup_id"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    lookup_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class LookupCount(Base):
    """Lookups by platform and UTC day. Clean ones are only counted: a log of them would be a shopping record."""

    __tablename__ = "lookup_count"
    __table_args__ = (Index("ix_lookup_count_day", "day"),)

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    clean: Mapped[int] = mapped_column(BigInt)
    disclosed: Mapped[int] = mapped_column(BigInt)


class IdBlock(Base):
    """The next free integer of a kind of public id; processes reserve blocks of them."""

    __tablename__ = "id_block"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    next: Mapped[int] = mapped_column(BigInt)
