"""The simulator: without a change no tag moves, with a change no tag is lost, and no draft breaks a promise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ledger.errors import Overloaded
from ledger.protocol.encoding import format_time
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import parse_policy
from ledger.rules.standing import Tier
from ledger.server.appeals import staff_actions
from ledger.server.db.engine import reading
from ledger.server.staff import audit
from ledger.server.staff.audit import EventFilter
from ledger.server.stats import simulator
from ledger.server.stats.policy_draft import Draft, DraftRefused, draft, fields_of, values_of
from ledger.server.stats.simulator import Simulation, compare
from tests.server.appeals.test_appeals import contest
from tests.server.conftest import LedgerFixture
from tests.support import evidence

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

TEXT, POLICY = shipped_policy()
WEEK = timedelta(days=7)
GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}


@pytest.fixture
def busy(ledger: LedgerFixture) -> LedgerFixture:
    """Return a ledger with eight people: reported once, twice, by both groups, at a high severity, contested, and
    restituted."""
    now = ledger.clock()
    for number in range(8):
        person = ledger.person(number)
        report = ledger.report(ledger.acme, person, **(GRAVE if number % 3 == 0 else {}))
        if number % 2 == 0:
            earlier = {"act_ended_at": format_time(now - timedelta(days=30)), "notice_sent_at": format_time(now - WEEK)}
            ledger.report(ledger.bolt, person, **earlier)  # another act: reports within a week may be of one act
        if number in (1, 2):
            (case,) = contest(ledger, person, report)
            if number == 2:
                staff_actions.take(ledger.rt.context, case, Staff(1, "reviewer"))
                staff_actions.decide(ledger.rt.context, case, Staff(1, "reviewer"), Outcome.OVERTURNED, "As it shows.")
    return ledger


def simulated(ledger: LedgerFixture, changed: Draft, sample: int = 100) -> Simulation:
    with reading(ledger.rt.engine) as connection:
        return compare(connection, POLICY, changed.policy, ledger.clock(), sample, pause_seconds=0)


def typed(**changes: str) -> dict[str, str]:
    """Return a form as the page fills it in, with `changes` (table__key)."""
    given = {name: "" if value is None else str(value) for name, value in values_of(POLICY).items()}
    return {**given, **{name.replace("__", "."): value for name, value in changes.items()}}


def test_no_tag_moves_under_the_policy_in_force(busy: LedgerFixture) -> None:
    unchanged = draft(TEXT, POLICY, typed())
    assert unchanged.changes == ()
    assert unchanged.policy.version == POLICY.version + 1
    result = simulated(busy, unchanged)
    assert (result.sampled, result.listed, result.complete) == (16, 16, True)
    assert all(number == 0 for (now, then), number in result.moves.items() if now is not then)
    assert (result.more, result.less, result.up, result.down, result.weights_changed) == (0, 0, 0, 0, 0)
    assert {tier for tier in Tier if result.row(tier)} >= {Tier.CLEAR, Tier.WATCH, Tier.HIGH}


def test_what_a_higher_threshold_does(busy: LedgerFixture) -> None:
    before = simulated(busy, draft(TEXT, POLICY, typed()))
    high = {"tiers__high_second_group_millipoints": "20000", "tiers__review_cap_hundredths": "2000"}
    after = simulated(busy, draft(TEXT, POLICY, typed(**high)))
    assert before.row(Tier.HIGH) == after.row(Tier.HIGH) == after.moves[Tier.HIGH, Tier.REVIEW] > 0
    assert after.column(Tier.HIGH) == 0
    assert (after.down, after.up) == (before.row(Tier.HIGH), 0)


def test_groups_are_counted_and_not_named(busy: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    lower = {"severity__fake_return_tracking": "2", "retention_days__2": "300"}
    changed = draft(TEXT, POLICY, typed(**lower, tiers__watch_total_millipoints="2400"))
    result = simulated(busy, changed)
    assert result.groups == ()
    small = (result.other_groups[0], result.other_groups[1].tags)
    assert small == (2, 22), "14 of acme's group that are left, 8 of bolt"
    monkeypatch.setattr(simulator, "MIN_GROUP_TAGS", 2)
    result = simulated(busy, changed)
    assert [group.tags for group in result.groups] == [14, 8]
    assert result.other_groups[0] == 0
    assert sum(group.down for group in result.groups) >= result.down > 0
    assert "acme" not in repr(result)


def test_weights_follow_from_the_draft(busy: LedgerFixture) -> None:
    result = simulated(busy, draft(TEXT, POLICY, typed(weights__prior_reports="1")))
    assert result.weights_changed == 1
    assert result.less > 0


def test_a_sample_says_what_it_stands_for(busy: LedgerFixture) -> None:
    result = simulated(busy, draft(TEXT, POLICY, typed()), sample=5)
    assert (result.sampled, result.listed, result.complete) == (5, 16, False)
    assert sum(result.moves.values()) == 5
    low, high = result.estimate(2)
    assert 0 < low <= 2 * 16 / 5 <= high <= 16
    assert result.estimate(0)[0] == 0
    assert result.estimate(5)[1] == 16


SEVERITY = {f"severity.{conduct.value}" for conduct in Conduct}


@given(
    changes=st.dictionaries(st.sampled_from(fields_of(POLICY)), st.integers(1, 6000), max_size=6),
    sample=st.integers(1, 20),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck])
def test_no_identifier_is_lost_or_added(busy: LedgerFixture, changes: dict[Any, int], sample: int) -> None:
    given_ = typed(**{f"retention_days__{severity}": "300" for severity in range(11)})
    for field, number in changes.items():
        given_[field.name] = str(min(max(number % (field.most + 1), field.least), field.most))
    try:
        changed = draft(TEXT, POLICY, given_)
    except DraftRefused:
        assume(False)
    result = simulated(busy, changed, sample)
    assert sum(result.row(tier) for tier in Tier) == sum(result.column(tier) for tier in Tier) == result.sampled
    assert result.sampled == min(sample, 16)
    assert result.up + result.down + sum(result.moves[tier, tier] for tier in Tier) == result.sampled
    assert result.more + result.less <= result.sampled
    now = simulated(busy, draft(TEXT, POLICY, typed()), sample)
    assert [result.row(tier) for tier in Tier] == [now.row(tier) for tier in Tier], "what is now does not depend on it"


def test_a_run_is_in_the_audit_log_and_changes_nothing(busy: LedgerFixture) -> None:
    person = busy.person(4)
    busy.rt.members.refresh()  # lookups read the weights at intervals, and the restituted report has changed one
    before = busy.lookup(person)
    changed = draft(TEXT, POLICY, typed(tiers__watch_total_millipoints="2000"))
    simulator.simulate(busy.rt.engine, POLICY, changed, 3, busy.clock())
    after = busy.lookup(person)
    own = dict.fromkeys(("id", "nonce", "question"), "")
    assert {**before, **own} == {**after, **own}
    (row,) = audit.page(busy.rt.engine, EventFilter(object_type="policy"), None).events
    assert (row.action, row.object_type, row.object_id) == ("policy_simulated", "policy", str(POLICY.version))
    assert row.detail == "tiers.watch_total_millipoints 500 -> 2000"


def test_one_run_at_a_time(busy: LedgerFixture) -> None:
    assert simulator._running.acquire(blocking=False)
    try:
        with pytest.raises(Overloaded):
            simulator.simulate(busy.rt.engine, POLICY, draft(TEXT, POLICY, typed()), 3, busy.clock())
    finally:
        simulator._running.release()
    simulator.simulate(busy.rt.engine, POLICY, draft(TEXT, POLICY, typed()), 3, busy.clock())


# --- drafts ----------------------------------------------------------------------------------------------------


def test_a_draft_is_the_file_with_other_numbers() -> None:
    form = typed(severity__wardrobing="2", retention_days__2="120", tiers__credit_half_points="7")
    changed = draft(TEXT, POLICY, form)
    assert changed.policy == parse_policy(changed.text)
    assert set(changed.changes) == {
        ("severity.wardrobing", 1, 2),
        ("retention_days.1", 90, None),
        ("retention_days.2", None, 120),
        ("tiers.credit_half_points", 6, 7),
    }
    lines = set(changed.text.splitlines()) ^ set(TEXT.splitlines())
    assert {line.partition(" = ")[0] for line in lines} == {"version", "wardrobing", "1", "2", "credit_half_points"}


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"tiers__watch_total_millipoints": "x"}, "tiers.watch_total_millipoints", "whole number"),
        ({"tiers__watch_total_millipoints": "-5"}, "tiers.watch_total_millipoints", "whole number"),
        ({"tiers__watch_total_millipoints": "\u0665"}, "tiers.watch_total_millipoints", "whole number"),
        ({"tiers__watch_total_millipoints": ""}, "tiers.watch_total_millipoints", "whole number"),
        ({"weights__floor_eighths": "9"}, "weights.floor_eighths", "whole number"),
        ({"severity__wardrobing": "0"}, "severity.wardrobing", "whole number"),
        ({"severity__wardrobing": "2"}, "retention_days.2", "needs its retention"),
        ({"retention_days__6": "1827"}, "retention_days.6", "whole number"),
        ({"retention_days__6": "1800"}, "", "longest time"),
        ({"tiers__watch_total_millipoints": "2600"}, "", "must rise"),
        ({"tiers__watch_cap_hundredths": "300"}, "", "below the threshold"),
    ],
)
def test_a_draft_that_breaks_a_promise_is_refused(changes: dict[str, str], where: str, says: str) -> None:
    with pytest.raises(DraftRefused) as refused:
        draft(TEXT, POLICY, typed(**changes))
    assert says in refused.value.problems[where][0]


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(DraftRefused) as refused:
        draft(TEXT, POLICY, typed(weights__prior_reports="0", severity__wardrobing="4", tiers__credit_half_points="a"))
    assert set(refused.value.problems) == {"weights.prior_reports", "retention_days.4", "tiers.credit_half_points"}


def test_fields_that_are_no_part_of_the_form_change_nothing() -> None:
    more: Callable[..., dict[str, str]] = typed
    unchanged = draft(TEXT, POLICY, {**more(), "severity.impersonated": "9", "intake.cooling_hours": "1"})
    assert unchanged.changes == ()
