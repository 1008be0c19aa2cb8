"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, LargeBinary, TypeDecorator

BigInt = BigInteger().with_variant(Integer(), "sqlite")
"""64-bit integer that SQLite accepts as a row id."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time. Naive values are refused. SQLite, which drops offsets, stores UTC; the type returns it as
    aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must carry its zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Bytes32(TypeDecorator[bytes]):
    """Exactly 32 bytes: a hash, commitment, tag, element or salt."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        if value is not None and len(value) != 32:
            raise ValueError(f"expected 32 bytes, got {len(value)}")
        return value
