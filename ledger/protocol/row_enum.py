"""Enums whose members are rows of a table: all properties of a code are defined at its member."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, Self


class Row(Protocol):
    """A frozen object that describes one code."""

    @property
    def code(self) -> str:
        """The stable code that requests, answers and entries carry."""


class RowEnum(StrEnum):
    """A string enum whose members are written as rows: the member is the row's `code`, and `spec` is the row.

    `Cls("code")` looks a member up and raises ValueError for an unknown code. Tables keyed by code are derived from the
    members, so a further code is one further row.
    """

    spec: Any

    def __new__(cls, row: Row | str) -> Self:
        """Create the member of a row. (`enum` itself answers `Cls("code")`, which looks a member up.)"""
        if isinstance(row, str):
            raise TypeError("a member is written as a row")
        member = str.__new__(cls, row.code)
        member._value_ = row.code
        member.spec = row
        return member
