"""What the log's entries alone say of a person: an independent reading, to hold projections and lookups against.

It knows the entry bodies and the policy, and nothing of the tables that the service keeps beside them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from ledger.protocol.encoding import day_floor, from_day, hour_floor, parse_time
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.values import Policy
from ledger.rules.standing import Event, Standing, fold
from ledger.server.db.engine import reading
from ledger.server.db.tables.log import EntryBody
from ledger.server.db.tables.reports import Listing

Row = tuple[Any, ...]
"""(slot, conduct, disputed, unconfirmed, restituted, has a statement, day of expiry)."""


@dataclass
class Told:
    """A report as its entries leave it."""

    number: int
    control_group: str
    conduct: str
    act_day: int
    effective_hour: int
    expires_day: int
    kinds: dict[int, Kind]
    disputed: bool = False
    unconfirmed: bool = False
    restituted: bool = False
    has_statement: bool = False
    gone: bool = False
    held: bool = False
    rests_on: tuple[str, ...] = ()
    open_cases: dict[str, bool] = field(default_factory=dict)
    """Open cases: whether each suspends the report."""
    overdue: set[str] = field(default_factory=set)
    in_force: str | None = None
    """The newest decision on the merits."""
    lost: str | None = None
    """How it counts that it was taken back while it was contested: overturned or nothing."""

    @property
    def contested(self) -> bool:
        """Whether any case about it is open."""
        return bool(self.open_cases)

    def settle(self) -> None:
        """The marks that follow from the open cases and the decision in force."""
        suspending = {case for case, suspends in self.open_cases.items() if suspends}
        late = bool(suspending & self.overdue)
        self.disputed = bool(suspending) and not late
        self.unconfirmed = late or (not suspending and self.in_force == "unconfirmed")


def read_log(engine: Engine, policy: Policy, until: datetime | None = None) -> dict[str, Told]:
    """Every report by its public id, after all entries, or those recorded before `until`."""
    with reading(engine) as connection:
        rows = connection.execute(select(EntryBody.entry_index, EntryBody.body).order_by(EntryBody.entry_index)).all()
    reports: dict[str, Told] = {}
    costs = False
    """Whether the next contested report that is withdrawn counts as overturned: one for each act of a reporter."""
    for index, raw in rows:
        body = json.loads(raw)
        if until is not None and parse_time(body["recorded_at"]) >= until:
            continue
        if body["type"] == "report":
            signed = body["body"]
            costs = True
            if signed.get("replaces") in reports:
                reports[signed["replaces"]].gone = True
            reports[body["id"]] = Told(
                number=index,
                control_group=body["control_group"],
                conduct=signed["conduct"],
                act_day=day_floor(parse_time(signed["act_ended_at"])),
                effective_hour=hour_floor(parse_time(body["effective_from"])),
                expires_day=day_floor(parse_time(body["expires_at"])),
                kinds={slot: Kind(one["kind"]) for slot, one in enumerate(signed["subjects"])},
                held="held_for" in body,
                rests_on=tuple(one["report_id"] for one in signed["evidence"] if "report_id" in one),
            )
        elif body["type"] == "withdrawal":
            if body["reason"] != "linked_report_void":
                costs = body["reason"] != "not_released"
            report = reports[body["report"]]
            if report.contested:
                report.lost = "overturned" if costs else "nothing"
                costs = False
            report.gone = True
            report.open_cases.clear()
        elif body["type"] != "erasure":
            costs = False
            _apply(reports[body["report"]], body, policy)
    return reports


def _apply(report: Told, body: dict[str, Any], policy: Policy) -> None:
    if body["type"] == "release":
        report.held, report.effective_hour = False, hour_floor(parse_time(body["effective_from"]))
    elif body["type"] == "reopening":
        report.open_cases[body["case"]] = False
        report.settle()
    elif body["type"] == "restitution":
        report.restituted = True
    elif body["type"] == "statement":
        report.has_statement = True
    elif body["type"] == "dispute":
        report.open_cases[body["case"]] = body.get("suspends", True)
        report.settle()
    else:
        _resolve(report, body, policy)


def _resolve(report: Told, body: dict[str, Any], policy: Policy) -> None:
    outcome, recorded_at = body["outcome"], parse_time(body["recorded_at"])
    if outcome == "overdue":
        report.overdue.add(body["case"])
        report.settle()
        return
    del report.open_cases[body["case"]]
    report.overdue.discard(body["case"])
    report.held = report.held and outcome != "victim"
    if outcome == "withdrawn":
        report.settle()
        return
    report.in_force = outcome
    report.settle()
    if outcome == "amended":
        report.conduct = body["conduct"]
        kept = policy.retention_days[policy.severity[report.conduct]]
        report.expires_day = min(report.expires_day, report.act_day + kept)
    elif outcome == "unlinked":
        for slot in body["slots"]:
            del report.kinds[slot]
    elif outcome == "overturned":
        report.gone = True
        report.open_cases.clear()
    elif outcome == "victim":
        report.open_cases.clear()
        report.settle()
        today = day_floor(recorded_at)
        latest = report.act_day + policy.erasure.at_latest_days - policy.erasure.after_expiry_days
        report.conduct, report.act_day, report.effective_hour = "impersonated", today, hour_floor(recorded_at)
        report.expires_day = min(today + policy.retention_days[0], latest)
        report.restituted = report.has_statement = False


def marks(reports: dict[str, Told], one: Told, today: int) -> tuple[bool, bool]:
    """(disputed, unconfirmed) of a report: its own marks, and those of what it rests on while that is not gone. A
    dispute that was not decided ends with the expiry of what it is about."""
    linked = [reports[name] for name in one.rests_on if not reports[name].gone]
    below = [marks(reports, other, today) for other in linked if not (other.contested and other.expires_day <= today)]
    found = [(one.disputed, one.unconfirmed), *below]
    return any(mark[0] for mark in found), any(mark[1] for mark in found)


def weights_of(engine: Engine, policy: Policy, now: datetime) -> dict[str, int]:
    """Weight in fortieths by control group at `now`, all decisions being recent: 1 - overturned / (resolved + 10) of
    what was decided before the last UTC midnight, in eighths and 2/8 at least."""
    reports = read_log(engine, policy, from_day(day_floor(now)))
    found: dict[str, int] = {}
    for group in {one.control_group for one in reports.values()}:
        mine = [one for one in reports.values() if one.control_group == group]
        last = [one.lost or one.in_force for one in mine if one.lost or one.in_force]
        resolved = sum(1 for outcome in last if outcome in ("upheld", "amended", "overturned"))
        overturned = last.count("overturned")
        found[group] = 5 * max(2, 8 * (resolved + 10 - overturned) // (resolved + 10))
    return found


def standing(
    reports: dict[str, Told], mine: dict[str, set[int]], weights: dict[str, int], policy: Policy, now: datetime
) -> Standing:
    """The standing of the person whose reports are `mine` (public id -> slots that are theirs)."""
    events = [
        Event(
            report_id=one.number,
            act_id=one.number,
            control_group=one.control_group,
            conduct=one.conduct,
            act_day=one.act_day,
            effective_hour=one.effective_hour,
            expires_day=one.expires_day,
            matched=frozenset(one.kinds[slot] for slot in slots if slot in one.kinds),
            disputed=marks(reports, one, day_floor(now))[0],
            unconfirmed=marks(reports, one, day_floor(now))[1],
            restituted=one.restituted,
            has_statement=one.has_statement,
        )
        for public, slots in mine.items()
        if not (one := reports[public]).gone and not one.held and any(slot in one.kinds for slot in slots)
    ]
    return fold(events, weights, policy, now)


def listings(engine: Engine) -> dict[int, set[Row]]:
    """What the projection holds, by report."""
    columns = (
        Listing.report_id, Listing.slot, Listing.conduct, Listing.disputed, Listing.unconfirmed, Listing.restituted,
        Listing.has_statement, Listing.expires_day,
    )  # fmt: skip
    found: dict[int, set[Row]] = {}
    with reading(engine) as connection:
        for report_id, *rest in connection.execute(select(*columns)):
            found.setdefault(report_id, set()).add(tuple(rest))
    return found


def expected_listings(reports: dict[str, Told], today: int) -> dict[int, set[Row]]:
    """What it should hold on `today`, in days since the Unix epoch."""
    return {
        one.number: {
            (slot, one.conduct, *marks(reports, one, today), one.restituted, one.has_statement, one.expires_day)
            for slot in one.kinds
        }
        for one in reports.values()
        if not one.gone and not one.held
    }
