"""A conduct's minimum as a checklist for the reviewer: the evidence that was reported, uploaded, or is missing.

A report names its evidence by digest, and the files are uploaded only in an appeal. So each need of the minimum is in
one of four states; `on_paper` means that there is only the reporter's statement, not the file. Each need also has the
corroboration of its items by findings (`ledger.rules.corroboration`): an uploaded file shows what was reported, which
may still be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.rules.conduct import MINIMUMS, Conduct, Evidence, Need, Reading, is_met
from ledger.rules.corroboration import Again, Corroboration, corroborations


class FileState(StrEnum):
    """The state of the file of a reported item."""

    MATCHES = "matches"
    """It was uploaded and has the reported SHA-256."""
    NOT_HANDED_IN = "not_handed_in"
    DIFFERS = "differs"
    """A file was uploaded for this item, and its SHA-256 is another one."""


class NeedState(StrEnum):
    """How far a need is met, from best to worst."""

    MET = "met"
    """By files that were uploaded and match."""
    ON_PAPER = "on_paper"
    """Only together with items whose files were not uploaded."""
    FAILS = "fails"
    """Only together with items whose files do not match."""
    MISSING = "missing"
    """Not even by what the report names."""


@dataclass(frozen=True, slots=True)
class CheckedNeed:
    """A need and how far it is met, by files and by findings; `items` are the places (0 is the first) of reported items
    of its types. `support` is that of the worst item without which the need would not be met, None where it is not."""

    need: Need
    state: NeedState
    items: tuple[int, ...]
    support: Corroboration | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to reach the minimum."""

    checks: tuple[CheckedNeed, ...]

    @property
    def state(self) -> NeedState:
        """The state of the need with the worst one."""
        return max((check.state for check in self.checks), key=_ORDER.index)


_ORDER = list(NeedState)
_BELIEVED: tuple[tuple[NeedState, frozenset[FileState]], ...] = (
    (NeedState.MET, frozenset({FileState.MATCHES})),
    (NeedState.ON_PAPER, frozenset({FileState.MATCHES, FileState.NOT_HANDED_IN})),
    (NeedState.FAILS, frozenset(FileState)),
)


def checklist(
    conduct: Conduct,
    evidence: Sequence[Evidence],
    files: Sequence[FileState],
    again: Mapping[bytes, Again] | None = None,
    reading: Reading = Reading.RECORDED,
) -> tuple[Alternative, ...]:
    """Return the alternatives of the minimum of `conduct`, in their order; `files` has a state for each item of
    `evidence`, `again` what a reviewer's own inspections found, by the SHA-256 of the file, and `reading` says by which
    rules items count.

    Under `Reading.INTAKE` some alternative is not `missing` exactly where `check_evidence` finds the minimum reached,
    and some is `met` exactly where the items whose files match reach it. Raises ValueError when the two lists differ in
    length.
    """
    stated = list(zip(evidence, files, corroborations(evidence, again), strict=True))
    return tuple(
        Alternative(tuple(_check(need, stated, reading) for need in alternative)) for alternative in MINIMUMS[conduct]
    )


def best_state(alternatives: Sequence[Alternative]) -> NeedState:
    """Return the state of the alternative with the best one."""
    return min((alternative.state for alternative in alternatives), key=_ORDER.index)


def _check(need: Need, stated: Sequence[tuple[Evidence, FileState, Corroboration]], reading: Reading) -> CheckedNeed:
    items = tuple(place for place, (item, _, _) in enumerate(stated) if item.type in need.of)
    for state, believed in _BELIEVED:
        if is_met(need, [item for item, file, _ in stated if file in believed], reading):
            return CheckedNeed(need, state, items, _weakest_needed(need, stated, reading))
    return CheckedNeed(need, NeedState.MISSING, items, None)


def _weakest_needed(
    need: Need, stated: Sequence[tuple[Evidence, FileState, Corroboration]], reading: Reading
) -> Corroboration:
    """Return the weakest corroboration among the items needed to satisfy `need`.

    Precondition: all items together satisfy it.
    """
    order = list(Corroboration)
    return next(
        worst
        for number, worst in enumerate(order)
        if is_met(need, [item for item, _, support in stated if support in order[: number + 1]], reading)
    )
