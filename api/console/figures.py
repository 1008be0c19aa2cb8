"""Texts of the dashboard's figures: titles, names and labels in a reader's language, for the plots and for the tables
below them, which have the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.console.plots import Band, Form, Plot, Series
from ledger.i18n import Texts
from ledger.protocol.encoding import from_day
from ledger.rules.policy.values import Profile
from ledger.rules.standing import Tier
from ledger.server.stats.dashboard import STEP_DAYS, STEPS, Dashboard, TimeToDecision

TIER_COLOURS = {Tier.CLEAR: "#d3dae2", Tier.WATCH: "#f0c75e", Tier.REVIEW: "#d9702b", Tier.HIGH: "#7d1740"}
BLUE, GREEN, RED, PALE = "#0072b2", "#007a5a", "#b5420c", "#8fc1e3"


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its name in the address, its description in a sentence or two, and whether it has data."""

    name: str
    plot: Plot
    about: Sequence[str]
    empty: bool

    @property
    def rows(self) -> list[tuple[str, list[int | None]]]:
        """Return the rows of the table: (label, a number of each series)."""
        columns = [series.values for series in self.plot.series]
        return [(label, [column[place] for column in columns]) for place, label in enumerate(self.plot.labels)]


NAMES = ("tiers", "appeals", *(f"time-{profile.lower()}" for profile in Profile), "open")


def figures(data: Dashboard, t: Texts) -> list[Figure]:
    """Return all figures, in the order of `NAMES`."""
    return [_tiers(data, t), _appeals(data, t), *(_time(times, t) for times in data.times), _open(data, t)]


def tier_names(t: Texts) -> dict[Tier, str]:
    """Return the names of the tiers."""
    return {
        Tier.CLEAR: t.gettext("clear"),
        Tier.WATCH: t.gettext("watch"),
        Tier.REVIEW: t.gettext("review"),
        Tier.HIGH: t.gettext("high"),
    }


def day_label(day: int, t: Texts) -> str:
    """Return month and day of a UTC day in short form."""
    return t.month_day(from_day(day))


def _tiers(data: Dashboard, t: Texts) -> Figure:
    names = tier_names(t)
    series = [
        Series(names[tier], [None if day.tags is None else day.tags[tier] for day in data.tiers], TIER_COLOURS[tier])
        for tier in Tier
    ]
    plot = Plot(
        Form.STACKED,
        t.gettext("Listed identifiers by tier"),
        t.gettext("day (UTC)"),
        [day_label(day.day, t) for day in data.tiers],
        series,
    )
    about = [
        t.gettext(
            "Each identifier is judged on its own; a person has several, and a lookup that meets more of them may give "
            "a higher tier. Identifiers that nobody reported are in no tier here."
        ),
        t.gettext("Counted once a day. Days on which no server ran are missing and cannot be counted later."),
    ]
    return Figure("tiers", plot, about, all(day.tags is None for day in data.tiers))


def _appeals(data: Dashboard, t: Texts) -> Figure:
    weeks = data.appeals
    plot = Plot(
        Form.LINES,
        t.gettext("Appeals by week"),
        t.gettext("first day of the week (UTC)"),
        [day_label(week.first_day, t) for week in weeks],
        [
            Series(t.gettext("opened"), [week.opened for week in weeks], BLUE),
            Series(t.gettext("decided"), [week.decided for week in weeks], GREEN),
            Series(t.gettext("became overdue"), [week.overdue for week in weeks], RED),
        ],
    )
    about = [
        t.gettext(
            "A reopened case counts as opened again. Decided means with an outcome, by staff or by the reporter's "
            "silence; withdrawn cases are not among them. The last week ends today."
        )
    ]
    return Figure("appeals", plot, about, not any(week.opened + week.decided + week.overdue for week in weeks))


def _time(times: TimeToDecision, t: Texts) -> Figure:
    profile = times.profile
    start, end = times.limit_days
    bands = [Band(t.gettext("statutory limit"), start, end)]
    about = [t.gettext(profile.spec.limit_text)]
    if times.extension_days:
        bands.append(Band(t.gettext("limit if extended"), start + times.extension_days, end + times.extension_days))
    if times.decided:
        about.append(
            t.gettext(
                "%(late)s of %(decided)s had been marked overdue before they were decided.",
                late=t.number(times.late),
                decided=t.number(times.decided),
            )
        )
    plot = Plot(
        Form.HISTOGRAM,
        t.gettext("Time to decision, profile %(profile)s", profile=profile.value),
        t.gettext("days from opening to decision"),
        step_labels(t),
        [Series(t.gettext("decided"), times.steps, PALE)],
        step=STEP_DAYS,
        bands=bands,
    )
    return Figure(f"time-{profile.lower()}", plot, about, not times.decided)


def _open(data: Dashboard, t: Texts) -> Figure:
    cases = data.open_cases
    plot = Plot(
        Form.STACKED,
        t.gettext("Open cases by age"),
        t.gettext("days since the case was opened"),
        step_labels(t),
        [
            Series(t.gettext("within the limit"), cases.in_time, PALE),
            Series(t.gettext("overdue"), cases.overdue, RED),
        ],
    )
    about = [t.gettext("Now, whatever range is chosen. The report of an overdue case does not count.")]
    return Figure("open", plot, about, not any((*cases.in_time, *cases.overdue)))


def step_labels(t: Texts) -> list[str]:
    """Return the names of the steps of days."""
    starts = range(0, STEPS * STEP_DAYS, STEP_DAYS)
    named = [f"{start}–{start + STEP_DAYS - 1}" for start in starts]
    return [*named[:-1], t.gettext("%(days)s or more", days=(STEPS - 1) * STEP_DAYS)]
