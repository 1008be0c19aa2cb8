"""The act that a report is about: a new one, or one that another control group has reported already.

Two platforms that share a payment provider may both report the same refund. Such reports are one *act* and count
once (docs/decisions/0003-acts-and-groups.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedReport:
    """A live report that shares a subject with a new report. `act_day` counts from the Unix epoch."""

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
    """Return the act that a new report joins, None if it is about a new act.

    Of the live reports in `met` (all that share a subject with the new one) it joins the earliest by another group with
    equal amount and currency and at most `window_days` between the acts. It never joins an act that its own group has
    reported already: that group's two reports are about two orders, so they are two acts, and letting another group's
    report make one of them would lower the total. The report that it `replaces` does not count as its group's.
    """
    listed = list(met)
    own = {report.act_id for report in listed if report.control_group == control_group and report.report_id != replaces}
    fit = [
        report
        for report in listed
        if report.control_group != control_group
        and report.amount_minor == amount_minor
        and report.currency == currency
        and abs(report.act_day - act_day) <= window_days
        and report.act_id not in own
    ]
    return min(fit, key=lambda item: item.report_id).act_id if fit else None


def is_duplicate(met: Iterable[ListedReport], report_id: int) -> bool:
    """True if report `report_id` repeats an older live report of its control group.

    `met` are all reports that share a subject with it, itself included. An older one repeats it if its act was on the
    same day with the same amount and currency.
    """
    listed = list(met)
    mine = next((report for report in listed if report.report_id == report_id), None)
    return mine is not None and any(
        report.report_id < report_id
        and (report.control_group, report.act_day, report.amount_minor, report.currency)
        == (mine.control_group, mine.act_day, mine.amount_minor, mine.currency)
        for report in listed
    )
