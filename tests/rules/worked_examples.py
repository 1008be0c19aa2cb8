"""Reads the worked examples of docs/standing.md, so that tests recompute them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ledger.protocol.encoding import day_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.values import Policy
from ledger.rules.reports import effective_from_hour
from ledger.rules.standing import FULL_WEIGHT, Event, Standing, fold

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
_REPORT = re.compile(
    r"(?P<group>[A-Z]) (?P<conduct>\w+) (?P<age>\d+)d(?: act (?P<act>\d+))?(?: x(?P<weight>[01]\.\d+))?"
    r"(?P<flags>(?: restituted| disputed| unconfirmed)*)\Z"
)


def table_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below `heading`, without its two head lines; code marks are dropped."""
    lines = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return rows[2:]


def standing_of(reports: str, matched: str, policy: Policy) -> Standing:
    """The standing of an example. The person was informed on the day of the act, at noon."""
    events, weights = [], {}
    kinds = frozenset(Kind(kind) for kind in matched.split("+"))
    for number, text in enumerate([] if reports == "none" else reports.split("; "), 100):
        fields = _REPORT.match(text)
        assert fields, text
        reported_at = NOW - timedelta(days=int(fields["age"]))
        act_day = day_floor(reported_at)
        if fields["weight"]:
            weights[fields["group"]] = round(float(fields["weight"]) * FULL_WEIGHT)
        events.append(
            Event(
                report_id=number,
                act_id=int(fields["act"] or number),
                control_group=fields["group"],
                conduct=fields["conduct"],
                act_day=act_day,
                effective_hour=effective_from_hour(reported_at, reported_at, policy.intake.cooling_hours),
                expires_day=policy.expiry_day(fields["conduct"], act_day),
                matched=kinds,
                disputed="disputed" in fields["flags"],
                unconfirmed="unconfirmed" in fields["flags"],
                restituted="restituted" in fields["flags"],
            )
        )
    return fold(events, weights, policy, NOW)


def result_cells(standing: Standing) -> list[str]:
    """What a row of the table says about `standing`."""
    return [
        standing.tier,
        f"{standing.points:.2f}",
        str(standing.credit),
        str(standing.events),
        str(standing.reporters),
        ", ".join(standing.reasons),
    ]
