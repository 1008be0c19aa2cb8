"""The kinds of ceremonies. Pure."""

from __future__ import annotations

from enum import StrEnum


class CeremonyKind(StrEnum):
    """The ceremony that made a sharing."""

    GENERATE = "generate"
    REFRESH = "refresh"
    RESHARE = "reshare"
    ROTATE = "rotate"

    @property
    def number(self) -> int:
        """Return the number of the kind in messages, from 1."""
        return list(CeremonyKind).index(self) + 1
