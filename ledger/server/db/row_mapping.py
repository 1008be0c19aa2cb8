"""Load and save a dataclass as rows of a table: each column is the field of the same name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from ledger.server.db.base import Base
from ledger.server.db.bulk import table_of

T = TypeVar("T")


class RowMapping(Generic[T]):
    """The mapping between the dataclass `of` and the table of `model`.

    Fields without a column are not stored and must have a default. A column without a field raises TypeError. A field
    whose type is an enum (or None) is stored as the value of its member.
    """

    def __init__(self, of: type[T], model: type[Base]) -> None:
        """Match the fields of `of` with the columns of `model`. Raises TypeError for a column without a field."""
        table = table_of(model)
        names = [field.name for field in fields(of) if field.name in table.c]  # type: ignore[arg-type]
        if missing := set(table.c.keys()) - set(names):
            raise TypeError(f"{of.__name__} has no field for {sorted(missing)} of {table.name}")
        hints = get_type_hints(of)
        self._of = of
        self._names = names
        self._enums = [(name, enum) for name in names if (enum := _enum_of(hints[name])) is not None]
        self.columns: list[Any] = [getattr(model, name) for name in names]
        """The columns to select, in the order that `load` expects."""

    def load(self, row: Sequence[Any]) -> T:
        """Return the object of a row of `columns`. Raises ValueError for a value that an enum does not have."""
        values = dict(zip(self._names, row, strict=True))
        for name, enum in self._enums:
            if values[name] is not None:
                values[name] = enum(values[name])
        return self._of(**values)

    def values(self, stored: T, *, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the column values of an object by name, except the columns `without`."""
        columns = {name: getattr(stored, name) for name in self._names if name not in without}
        for name, _ in self._enums:
            if isinstance(columns.get(name), Enum):
                columns[name] = columns[name].value
        return columns


def _enum_of(hint: Any) -> Callable[[Any], Any] | None:
    """Return the enum class of a field's type, None if it has none."""
    types = [kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type) and issubclass(kind, Enum)]
    return types[0] if types else None
