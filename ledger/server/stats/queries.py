"""Queries for the dashboard and the simulator: listings of many tags in order, daily counts, dates of cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, func, select
from sqlalchemy.orm import aliased

from ledger.rules.appeals import OPEN_STATES, Action
from ledger.server.db.bulk import table_of, upsert
from ledger.server.db.tables.appeals import AppealCase, CaseEvent
from ledger.server.db.tables.reports import Listing
from ledger.server.db.tables.stats import DailyTiers
from ledger.server.lookups.queries import ListingRow

OPENINGS = (Action.OPEN.value, Action.REOPEN.value)
"""Actions that start the clock of a round."""

DECISIONS = (Action.DECIDE.value, Action.SIGN.value, Action.REPORTER_SILENT.value)
"""Actions that end a round with an outcome. (A case that was withdrawn, or whose report was erased, has none.)"""

_ROWS_AT_ONCE = 2000
_LISTING = [getattr(Listing, name) for name in ListingRow._fields]
_OPEN = [state.value for state in OPEN_STATES]


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A case that waits for a decision."""

    opened_at: datetime
    due_at: datetime
    profile: str
    overdue: bool


class DatedAction(NamedTuple):
    """An action in a case, and its time."""

    at: datetime
    action: str


class Decision(NamedTuple):
    """A decided round of a case: the start of its clock, the time of the decision, and whether it was marked
    overdue."""

    profile: str
    opened_at: datetime
    decided_at: datetime
    overdue: bool


def stream_tags(connection: Connection, epoch: int) -> Iterator[ListingRow]:
    """Yield every listing of `epoch`, ordered by (tag, report), with few rows in memory at a time.

    It reads in the order of the primary key and sorts nothing, so a caller that stops early pays only for the rows that
    it read.
    """
    statement = select(*_LISTING).where(Listing.epoch == epoch).order_by(Listing.tag, Listing.report_id)
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(statement) as rows:
        for row in rows:
            yield ListingRow(*row)


def count_tags(connection: Connection, epoch: int) -> int:
    """Return the number of different tags listed under `epoch`."""
    return connection.execute(select(func.count(Listing.tag.distinct())).where(Listing.epoch == epoch)).scalar_one()


# --- daily counts ---------------------------------------------------------------------------------------------


def has_daily_tiers(connection: Connection, day: int) -> bool:
    """True if the day has been counted."""
    return connection.execute(select(DailyTiers.day).where(DailyTiers.day == day).limit(1)).first() is not None


def insert_daily_tiers(connection: Connection, day: int, tags: Mapping[str, int]) -> bool:
    """Insert the counts of a day, unless another process was first; return True if they were inserted. The counts of
    the first process stay complete: all processes insert the rows in the same order, so the second one waits for the
    commit of the first at the first row."""
    statement = upsert(connection, DailyTiers).on_conflict_do_nothing()
    inserted = [
        connection.execute(statement.values(day=day, tier=tier, tags=tags[tier]).returning(DailyTiers.day)).first()
        for tier in sorted(tags)
    ]
    return None not in inserted


def read_daily_tiers(connection: Connection, first_day: int, last_day: int) -> dict[int, dict[str, int]]:
    """Return {day: {tier: tags}} of the counted days from `first_day` to `last_day`, both included."""
    table = table_of(DailyTiers)
    rows = connection.execute(
        select(table.c.day, table.c.tier, table.c.tags).where(table.c.day.between(first_day, last_day))
    )
    counts: dict[int, dict[str, int]] = {}
    for day, tier, tags in rows:
        counts.setdefault(day, {})[tier] = tags
    return counts


# --- cases ----------------------------------------------------------------------------------------------------


def case_events(
    connection: Connection, actions: Iterable[str], since: datetime, but_of: str | None = None
) -> list[DatedAction]:
    """Return the events with these actions from `since` on, in order of time, without cases about reports of control
    group `but_of`."""
    statement = (
        select(CaseEvent.at, CaseEvent.action)
        .where(CaseEvent.action.in_(sorted(actions)), CaseEvent.at >= since)
        .order_by(CaseEvent.at, CaseEvent.id)
    )
    if but_of is not None:
        statement = statement.join(AppealCase, AppealCase.id == CaseEvent.case_id).where(*_without(but_of))
    return [DatedAction(*row) for row in connection.execute(statement)]


def decisions(connection: Connection, since: datetime, but_of: str | None = None) -> list[Decision]:
    """Return the rounds that were decided from `since` on, by staff or because the reporter did not answer, without
    cases about reports of control group `but_of`."""
    began, ended, late, opening = (aliased(CaseEvent) for _ in range(4))
    newest = select(func.max(opening.id)).where(
        opening.case_id == ended.case_id, opening.round == ended.round, opening.action.in_(OPENINGS)
    )  # a round that was withdrawn can begin again under the same number
    same = began.id == newest.correlate(ended).scalar_subquery()
    was_late = exists().where(
        late.case_id == ended.case_id, late.round == ended.round, late.action == Action.OVERDUE.value
    )
    statement = (
        select(AppealCase.profile, began.at, ended.at, was_late)
        .select_from(ended)
        .join(began, same)
        .join(AppealCase, AppealCase.id == ended.case_id)
        .where(ended.action.in_(DECISIONS), ended.at >= since, *_without(but_of))
        .order_by(ended.at, ended.id)
    )
    return [Decision(*row) for row in connection.execute(statement)]


def open_cases(connection: Connection, but_of: str | None = None) -> list[OpenCase]:
    """Return all cases that wait for a decision, oldest first, without those about reports of group `but_of`."""
    columns = [getattr(AppealCase, name) for name in OpenCase.__dataclass_fields__]
    rows = connection.execute(
        select(*columns).where(AppealCase.state.in_(_OPEN), *_without(but_of)).order_by(AppealCase.opened_at)
    )
    return [OpenCase(*row) for row in rows]


def _without(control_group: str | None) -> list[ColumnElement[bool]]:
    return [] if control_group is None else [AppealCase.control_group != control_group]
