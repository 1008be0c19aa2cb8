"""Which appeals a report may still have, and which of them suspend it, by who filed each.

A *way* is either the person's own verified access or the control group of a platform that files for them. Only a
decision on the merits uses up a way, and only its own: no platform can use up the person's way, or that of a platform
of another group. A withdrawn round uses up nothing.

Pure: the arguments are the stored cases of one report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.rules.appeals import OPEN_STATES, CaseState, Outcome

MAX_GROUPS = 3
"""Control groups whose platforms may have a round about one report, besides the person's own round."""


@dataclass(frozen=True, slots=True)
class Round:
    """The part of a case that decides about rights. `group` is the control group that filed it for the person, None if
    the person did. `was_decided`: the case ever had a decision on the merits, also before it was reopened."""

    case_id: int
    group: str | None
    state: CaseState
    was_decided: bool = False
    suspends: bool = True
    overdue: bool = False

    @property
    def is_open(self) -> bool:
        """True while a decision is owed."""
        return self.state in OPEN_STATES

    @property
    def uses_up(self) -> bool:
        """True if the case takes the one round of its way: it is open, or was decided."""
        return self.is_open or self.was_decided


def blocking(cases: Iterable[Round], group: str | None) -> Round | None:
    """Return the case that takes this way's round already, None if another one may be filed."""
    return next((case for case in cases if case.group == group and case.uses_up), None)


def adoptable(cases: Iterable[Round]) -> Round | None:
    """Return the open case, filed by a platform, that the person's own appeal adopts: the one that suspends the report,
    else the oldest; None if there is none.

    A reopened case is not adopted: it has no reopening left, and the person still has one.
    """
    adoptable_cases = [case for case in cases if case.is_open and case.group is not None and not case.was_decided]
    return min(adoptable_cases, key=lambda case: (not case.suspends, case.case_id), default=None)


def has_room(cases: Iterable[Round], group: str, reporter: str) -> bool:
    """True if a platform of the control group `group` may have a round: at most `MAX_GROUPS` groups take one. A case
    that the reporter's own group filed (in ledgers of earlier versions) takes no place."""
    others = {case.group for case in cases if case.uses_up} - {None, group, reporter}
    return len(others) < MAX_GROUPS


def suspends(cases: Iterable[Round], group: str | None, reporter: str) -> bool:
    """True if a new round of this way suspends the report.

    The person's own round does. Of the rounds of platforms only the first does: none of another group is open or was
    decided, and this group had none before, withdrawn ones included, so that no group can suspend a report again and
    again.
    """
    if group is None:
        return True
    foreign = [case for case in cases if case.group not in (None, reporter)]
    return not any(case.group == group or case.uses_up for case in foreign)


def next_to_suspend(cases: Sequence[Round], reporter: str) -> Round | None:
    """Return the open case that suspends the report after the first round of a platform was withdrawn: the oldest one
    of a group that has withdrawn none; None if another round of a platform was decided, or still suspends."""
    foreign = [case for case in cases if case.group not in (None, reporter)]
    if any(case.was_decided or (case.is_open and case.suspends) for case in foreign):
        return None
    settled = {case.group for case in foreign if not case.is_open}
    waiting = [case for case in foreign if case.is_open and case.group not in settled]
    return min(waiting, key=lambda case: case.case_id, default=None)


def report_marks(cases: Iterable[Round], in_force: Outcome | None) -> tuple[bool, bool]:
    """Return the marks (disputed, unconfirmed) of a report that is kept. `in_force` is the newest decision on the
    merits about it.

    While a case that suspends it is open, the report is shown as disputed; once such a case is overdue, it is not
    shown. Otherwise the decision in force determines its marks.
    """
    suspending = [case for case in cases if case.is_open and case.suspends]
    if suspending:
        overdue = any(case.overdue for case in suspending)
        return (not overdue, overdue)
    return (False, in_force is not None and in_force.spec.effect.unconfirmed)
