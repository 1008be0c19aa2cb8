"""Tables of key epochs, their sharings, and the key holders."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, ForeignKeyConstraint, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class KeyEpoch(Base):
    """A key epoch. `entry_index` is the `key_rotation` entry that announced it, `switch_index` the one that made it
    current. `public_key` is K.

    `holder` is the id of the one holder of the whole key (1 of 1). It is null where holders of a sharing hold the key;
    `generation` is then that of the newest logged sharing, and `threshold` its t.
    """

    __tablename__ = "key_epoch"
    __table_args__ = (CheckConstraint("state IN ('next', 'current', 'previous', 'retired')", name="state"),)

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(8))
    holder: Mapped[str | None] = mapped_column(String(32))
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    entry_index: Mapped[int] = mapped_column(BigInt)
    switch_index: Mapped[int | None] = mapped_column(BigInt)
    announced_at: Mapped[datetime] = mapped_column(UtcDateTime)
    grace_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    threshold: Mapped[int] = mapped_column(Integer)
    generation: Mapped[int] = mapped_column(Integer)


class KeySharing(Base):
    """A sharing of an epoch's key among holders. `entry_index` is the log's entry with its `statement` (canonical
    JSON), which all its holders signed."""

    __tablename__ = "key_sharing"
    __table_args__ = (CheckConstraint("kind IN ('generate', 'refresh', 'reshare', 'rotate')", name="kind"),)

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(8))
    entry_index: Mapped[int] = mapped_column(BigInt)
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    logged_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KeyHolder(Base):
    """A holder of one share: its index in the sharing, its public key K_i, its Ed25519 signing key, and the address
    that its card names."""

    __tablename__ = "key_holder"
    __table_args__ = (ForeignKeyConstraint(["epoch", "generation"], ["key_sharing.epoch", "key_sharing.generation"]),)

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    share_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(32))
    organisation: Mapped[str] = mapped_column(String(128))
    operator: Mapped[bool] = mapped_column(Boolean)
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    signing_key: Mapped[bytes] = mapped_column(Bytes32)
    url: Mapped[str] = mapped_column(String(200))
