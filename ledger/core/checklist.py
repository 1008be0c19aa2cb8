"""The evidence minimum of a conduct, ticked off: what was reported, and what of it a reviewer was really shown.

At intake a report names its items by type and digest; the files stay at the platform. In an appeal the reporter hands
files in, and only a file with the reported digest is taken. An item nobody has shown rests on the reporter's word.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.core.conduct import MINIMUMS, Conduct, Evidence, Need, is_met


class NeedState(StrEnum):
    """How far a need is met."""

    SHOWN = "shown"
    """By files that were handed in and have the reported digests."""
    REPORTED = "reported"
    """By what the report names; not all files are here."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class CheckedNeed:
    """One need of one alternative, and the places of the items that count for it (0 is the first)."""

    need: Need
    state: NeedState
    items: tuple[int, ...]


def checklist(conduct: Conduct, evidence: Sequence[Evidence], shown: Collection[int]) -> list[list[CheckedNeed]]:
    """The alternatives of `conduct`'s minimum; `shown` are the places of the items whose files are here."""
    seen = [item for place, item in enumerate(evidence) if place in shown]
    return [[_check(need, evidence, seen) for need in alternative] for alternative in MINIMUMS[conduct]]


def best_state(alternatives: Sequence[Sequence[CheckedNeed]]) -> NeedState:
    """How far the minimum as a whole is met: by its best alternative, which is as good as its weakest need."""
    order = list(NeedState)
    worst = [max((order.index(one.state) for one in needs), default=0) for needs in alternatives]
    return order[min(worst)]


def _check(need: Need, evidence: Sequence[Evidence], seen: Sequence[Evidence]) -> CheckedNeed:
    items = tuple(place for place, item in enumerate(evidence) if item.type in need.of)
    if is_met(need, seen):
        return CheckedNeed(need, NeedState.SHOWN, items)
    return CheckedNeed(need, NeedState.REPORTED if is_met(need, evidence) else NeedState.MISSING, items)
