"""Decode the ledger's answers into typed values, and compare an answer with its question.

Members that this version does not know are ignored, and codes that it does not know are kept as text, so that an older
SDK works with a newer service. A missing member, or one of another type, raises UnexpectedAnswer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from ledger.errors import AnswerMismatch, UnexpectedAnswer

T = TypeVar("T")

Count = Annotated[int, msgspec.Meta(ge=0)]
"""An integer that is not negative."""
Number = Annotated[float, msgspec.Meta(ge=0)]
"""A number that is not negative."""
Code = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_]{0,63}\Z")]
"""The form of a code that a later version may add."""
Label = str | int
"""Text, or an integer that is shown as text."""


class Model(msgspec.Struct, frozen=True):
    """A JSON object with typed members. Immutable; equal if all members are equal.

    `_secret` names members that `repr` leaves out: they are secrets, or personal.
    """

    _secret: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = [name for name in self.__struct_fields__ if name not in self._secret]
        return f"{type(self).__name__}({', '.join([f'{name}={getattr(self, name)!r}' for name in shown])})"


def decode(value: object, type: type[T]) -> T:
    """Return the JSON value `value` as a `type`: a Model or a dataclass, or a tuple of them.

    Unknown members are ignored; times are in UTC and have whole seconds. Raises UnexpectedAnswer, whose message names
    the member and repeats no value.
    """
    try:
        decoded = msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise UnexpectedAnswer(f"The ledger's answer is not of the expected form: {error}.") from error
    _check_times(decoded)
    return decoded


def _check_times(value: object) -> None:
    """Raises UnexpectedAnswer for a time that is not in UTC or has a fraction of a second, at any depth of structs and
    tuples."""
    if isinstance(value, datetime):
        if (value.tzinfo is not UTC and value.utcoffset() != timedelta(0)) or value.microsecond:
            raise UnexpectedAnswer(
                "A time of the ledger's answer is malformed: it must look like 2026-01-31T23:59:59Z."
            )
    elif isinstance(value, tuple):
        for item in value:
            _check_times(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _check_times(getattr(value, name))


def decode_json(data: bytes, type: type[T]) -> T:
    """Return the JSON document `data` as a `type`. Raises UnexpectedAnswer."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswer("The ledger's answer is not JSON.") from error
    return decode(value, type)


def compare(name: str, answered: object, asked: object) -> None:
    """Compare the answer's member `name` with what was asked. Raises AnswerMismatch where they differ."""
    if answered != asked:
        raise AnswerMismatch(f"The ledger's answer belongs to another question: `{name}` differs.", compared=name)


def about(parse: Callable[[Any], T], **asked: object) -> Callable[[Any], T]:
    """Return `parse` for the answer about one thing: it raises AnswerMismatch unless the parsed value has the members
    `asked`."""

    def parse_own(value: object) -> T:
        parsed = parse(value)
        for name, expected in asked.items():
            compare(name, getattr(parsed, name), expected)
        return parsed

    return parse_own


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return `value`, which must be a JSON object. Raises UnexpectedAnswer."""
    if not isinstance(value, dict):
        raise UnexpectedAnswer("The ledger's answer is not a JSON object.")
    return value
