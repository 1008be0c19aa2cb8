"""Which act a report is about: its own, or one that another control group has reported already.

Two platforms that share a payment provider may both report the same refund. Such reports are one *act* and count
once (docs/decisions/0003-acts-and-groups.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedReport:
    """A live report met through one of a new report's subjects. `act_day` counts from the Unix epoch."""

    tag: bytes
    report_id: int
    act_id: int
    control_group: str
    amount_minor: int
    currency: str
    act_day: int


def act_to_join(
    met: Iterable[ListedReport],
    *,
    control_group: str,
    amount_minor: int,
    currency: str,
    act_day: int,
    window_days: int,
    replaces: int | None = None,
) -> int | None:
    """The act that a new report joins, or None: it is about an act of its own.

    Of the live reports in `met` (all that share a subject with the new one) it joins the earliest by another group with
    equal amount and currency and at most `window_days` between the acts. It never joins an act that its own group has
    reported already: that group's two reports are about two orders, so they are two acts, and letting another group's
    report make one of them would lower the total. The report that it `replaces` does not count as its group's.
    """
    listed = list(met)
    own = {one.act_id for one in listed if one.control_group == control_group and one.report_id != replaces}
    fit = [
        one
        for one in listed
        if one.control_group != control_group
        and one.amount_minor == amount_minor
        and one.currency == currency
        and abs(one.act_day - act_day) <= window_days
        and one.act_id not in own
    ]
    return min(fit, key=lambda one: one.report_id).act_id if fit else None


def is_duplicate(met: Iterable[ListedReport], report_id: int) -> bool:
    """Whether report `report_id` says no more than an older live one of its control group: of all reports in `met` that
    share a subject with it, itself among them, one was recorded before, of an act on the same day with the same amount
    and currency."""
    listed = list(met)
    mine = next((one for one in listed if one.report_id == report_id), None)
    return mine is not None and any(
        one.report_id < report_id
        and (one.control_group, one.act_day, one.amount_minor, one.currency)
        == (mine.control_group, mine.act_day, mine.amount_minor, mine.currency)
        for one in listed
    )
