"""A client that was made before `fork()`: parent and children each get the answers to their own questions."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from ledger.client import RefundLedger
from tests.client.forking import Plan
from tests.kit import Connect, Running, person, report_arguments


def plan_for(running: Running, folder: Path, reporter: RefundLedger, **changes: Any) -> Plan:
    """A plan for platform acme: two people whom `reporter` has reported, and two who are clear."""
    people: list[tuple[dict[str, str], str]] = []
    for _ in range(2):
        listed = person()
        made = reporter.report(reporter.subject(**listed), **report_arguments()).report
        assert made is not None
        reporter.lookup(listed, order="seen", min_index=made.entry_index + 1)
        people += [(listed, "watch"), (person(), "clear")]
    state = folder / f"forking-{secrets.token_hex(4)}"
    return Plan(str(running.suite("acme")), str(running.key("acme")), str(state), people, **changes)


def check(counts: dict[str, int], forks: int) -> None:
    """Everything was answered, and rightly: no wrong standing or report, no false alarm, no outage, no dead child."""
    reports = sum(number % 5 == 2 for number in range(forks))
    expected = {"child right": 4 * forks, "child reported": reports}
    assert {name: count for name, count in counts.items() if name.startswith("child")} == expected
    assert {name for name, count in counts.items() if count} == {*expected, "parent right", "parent reported"}


def test_parent_and_children_are_told_the_truth(running: Running, connect: Connect, tmp_path: Path) -> None:
    plan = plan_for(running, tmp_path, connect("bazaar"))
    check(plan.run(), plan.idle + plan.busy)
