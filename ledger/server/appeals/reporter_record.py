"""How a platform's reports have fared so far: what a reviewer may weigh, and no more than that.

It says how careful the platform is, not what happened in this case; the page says so beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import Connection

from ledger.rules.appeals import Action
from ledger.rules.deadlines import window_start
from ledger.rules.policy.values import Policy
from ledger.rules.standing import FULL_WEIGHT
from ledger.server.appeals import case_file_queries as store
from ledger.server.platforms.group_weights import without_suspensions


@dataclass(frozen=True, slots=True)
class ReporterRecord:
    """Numbers of one platform; all but `live` are of the last `months` months. `weight` is its group's, in
    fortieths; `response` the median time to an answer, None without one."""

    platform: str
    months: int
    live: int
    contested: int
    upheld: int
    amended: int
    overturned: int
    unconfirmed: int
    weight: int
    response: timedelta | None


def reporter_record(
    connection: Connection, policy: Policy, platform: str, control_group: str, now: datetime
) -> ReporterRecord:
    """The platform's record as of `now`."""
    since = window_start(now, policy.weights.window_months)
    fared = store.platform_outcomes(connection, platform, control_group, since)
    return ReporterRecord(
        platform=platform,
        months=policy.weights.window_months,
        live=store.live_reports(connection, platform),
        contested=store.contested(connection, platform, since),
        upheld=fared.get("upheld", 0),
        amended=fared.get("amended", 0),
        overturned=fared.get("overturned", 0),
        unconfirmed=store.unconfirmed(connection, platform, since),
        weight=without_suspensions(connection, policy, now).get(control_group, FULL_WEIGHT),
        response=response_time(store.questions(connection, platform, since)),
    )


def response_time(events: Iterable[tuple[int, str, datetime]]) -> timedelta | None:
    """The median time from a question to its answer, of (case id, action, time) in order within each case. Questions
    without an answer do not count here: their silence is counted among the overturned."""
    waits: list[timedelta] = []
    asked: dict[int, datetime] = {}
    for case_id, action, at in events:
        if action == Action.ASK_REPORTER:
            asked[case_id] = at
        elif case_id in asked:
            waits.append(at - asked.pop(case_id))
    return timedelta(seconds=median(wait.total_seconds() for wait in waits)) if waits else None
