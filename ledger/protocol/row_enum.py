"""Enums whose members are rows of one table: everything that is known of a code stands at its one member."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, Self


class Row(Protocol):
    """A frozen object that describes one code."""

    @property
    def code(self) -> str:
        """The stable code, as it stands in requests, answers and entries."""


class RowEnum(StrEnum):
    """A string enum whose members are written as rows: the member is the row's `code`, and `spec` is the row.

    `Cls("code")` looks a member up and raises ValueError for an unknown code. Tables keyed by code are derived from the
    members, so a further code is one further row.
    """

    spec: Any

    def __new__(cls, row: Row | str) -> Self:
        """The member of a row; the call with a code is a look-up that `enum` answers itself."""
        if isinstance(row, str):
            raise TypeError("a member is written as a row")
        member = str.__new__(cls, row.code)
        member._value_ = row.code
        member.spec = row
        return member
