"""The canonical JSON of an event's leaf, recognised by its shape.

Nearly all leaves are of events, and this takes a fifth of the time of parsing JSON and writing it again to compare."""

from __future__ import annotations

import re
from typing import Any

_SHAPE = re.compile(
    rb'\{"commitment":"([A-Za-z0-9_-]{43})","hour":"([0-9TZ:-]{20})","index":(0|[1-9][0-9]{0,15}),"sort":"(event)"\}'
)
"""What it leaves open are texts without escapes and an integer."""


def event_members(data: bytes) -> dict[str, Any] | None:
    """Return the members of an event's leaf if `data` has the form of its canonical JSON, else None. The values of the
    members are not checked, except that they consist of the right characters."""
    if (match := _SHAPE.fullmatch(data)) is None:
        return None
    commitment, hour, index, sort = match.groups()
    return {"commitment": commitment.decode(), "hour": hour.decode(), "index": int(index), "sort": sort.decode()}
