"""The dashboard's numbers, on both engines: tags by tier and day, appeals by week, times, ages."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.protocol.encoding import day_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Profile
from ledger.rules.standing import Tier
from ledger.server.appeals import staff_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.db.engine import reading, writing
from ledger.server.log import queries as log_store
from ledger.server.platforms.members import set_status
from ledger.server.stats import queries as store
from ledger.server.stats.dashboard import STEPS, dashboard, limit_days
from ledger.server.stats.tag_standings import count_tiers, record_daily_tiers
from tests.server.appeals.test_appeals import contest
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine

ANNA = Staff(1, "reviewer")


def tomorrow(ledger: LedgerFixture) -> None:
    """Set the clock to the next day, which is not counted yet: maintenance counted today when the ledger was opened."""
    ledger.rt.maintenance.close()
    ledger.clock.moment += timedelta(days=1)


def test_every_listed_identifier_is_counted_once_on_its_own(ledger: LedgerFixture) -> None:
    first, second = ledger.person(1), ledger.person(2)
    ledger.report(ledger.acme, first)
    ledger.report(ledger.acme, second)
    ledger.report(ledger.bolt, second)
    counts = count_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock())
    assert sum(counts.values()) == 4, "two people of two identifiers each"
    phone, wallet = ([pair] for pair in second)
    assert phone[0][0] is Kind.PHONE
    for subjects in ([first[0]], [first[1]], phone, wallet):
        assert counts[Tier(ledger.lookup(subjects)["tier"])] >= 1
    expected = dict.fromkeys(Tier, 0)
    for pair in (*first, *second):
        expected[Tier(ledger.lookup([pair])["tier"])] += 1
    assert counts == expected
    set_status(ledger.rt.engine, platform="bolt", status="suspended", now=ledger.clock())
    assert count_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock())[Tier.WATCH] == 4


def test_cooling_and_contested_reports_leave_an_identifier_clear(ledger: LedgerFixture) -> None:
    contest(ledger, ledger.person(1), ledger.report(ledger.acme, ledger.person(1)))
    counts = count_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock())
    assert (counts[Tier.CLEAR], counts[Tier.WATCH]) == (2, 0)


def test_a_day_is_counted_once(ledger: LedgerFixture) -> None:
    tomorrow(ledger)
    ledger.report(ledger.acme, ledger.person(1))
    first = record_daily_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock())
    assert first is not None
    assert first[Tier.WATCH] == 2
    ledger.report(ledger.acme, ledger.person(2))
    assert record_daily_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock()) is None
    day = day_floor(ledger.clock())
    with writing(ledger.rt.engine) as connection:  # another process that began to count before the first one wrote
        assert not store.insert_daily_tiers(connection, day, {tier.value: 99 for tier in Tier})
    with reading(ledger.rt.engine) as connection:
        assert store.read_daily_tiers(connection, day, day)[day] == {"clear": 0, "watch": 2, "review": 0, "high": 0}
    ledger.clock.moment += timedelta(days=1)
    assert record_daily_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock()) is not None


def test_maintenance_counts_the_day(ledger: LedgerFixture) -> None:
    ledger.clock.moment += timedelta(days=1)
    ledger.report(ledger.acme, ledger.person(1))
    ledger.rt.maintenance.round()
    with reading(ledger.rt.engine) as connection:
        assert store.has_daily_tiers(connection, day_floor(ledger.clock()))


def test_counting_waits_for_no_writer(ledger: LedgerFixture) -> None:
    tomorrow(ledger)
    ledger.report(ledger.acme, ledger.person(1))
    with writing(ledger.rt.engine) as connection:
        log_store.lock_head(connection)
        if ledger.rt.engine.dialect.name == "postgresql":
            assert record_daily_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock()) is not None
        else:  # SQLite has one writer at a time
            assert count_tiers(ledger.rt.engine, ledger.rt.policy, ledger.clock())[Tier.WATCH] == 2


def test_weeks_times_and_ages(ledger: LedgerFixture) -> None:
    first = ledger.person(1)
    (case,) = contest(ledger, first, ledger.report(ledger.acme, first))
    ledger.clock.moment += timedelta(days=7)
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.UPHELD, "As the documents show.")
    second = ledger.person(2)
    contest(ledger, second, ledger.report(ledger.acme, second))
    ledger.clock.moment += timedelta(days=21)
    while run_clocks(ledger.rt.context):
        pass
    third = ledger.person(3)
    contest(ledger, third, ledger.report(ledger.bolt, third))
    figures = dashboard(ledger.rt.engine, ledger.rt.policy, ledger.clock(), 30)
    assert [(week.opened, week.decided, week.overdue) for week in figures.appeals] == [
        (1, 0, 0),
        (1, 1, 0),
        (0, 0, 0),
        (0, 0, 0),
        (1, 0, 1),
    ]
    times = {of_profile.profile: of_profile for of_profile in figures.times}
    assert (times[Profile.CN].decided, times[Profile.CN].steps[2], times[Profile.CN].late) == (1, 1, 0)
    assert times[Profile.EU].decided == times[Profile.US].decided == 0
    assert (sum(figures.open_cases.in_time), figures.open_cases.in_time[0]) == (1, 1)
    assert (sum(figures.open_cases.overdue), figures.open_cases.overdue[7]) == (1, 1)


def test_late_decisions_are_counted_as_late(ledger: LedgerFixture) -> None:
    person = ledger.person(1)
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(ledger.rt.context, case, ANNA)
    ledger.clock.moment += timedelta(days=60)
    while run_clocks(ledger.rt.context):
        pass
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.OVERTURNED, "As the documents show.")
    (times, *_) = [
        times for times in dashboard(ledger.rt.engine, ledger.rt.policy, ledger.clock(), 90).times if times.decided
    ]
    assert (times.late, times.steps[STEPS - 1]) == (1, 1)
    ledger.clock.moment += timedelta(days=40)
    assert not any(times.decided for times in dashboard(ledger.rt.engine, ledger.rt.policy, ledger.clock(), 30).times)


def test_days_that_were_not_counted_are_none(ledger: LedgerFixture) -> None:
    tomorrow(ledger)
    for days, points in ((30, 30), (90, 90), (365, 53)):
        tiers = dashboard(ledger.rt.engine, ledger.rt.policy, ledger.clock(), days).tiers
        assert len(tiers) == points
        assert tiers[-1].day == day_floor(ledger.clock())
        assert tiers[-1].tags is None


def test_the_limits_hold_every_clock() -> None:
    clocks = shipped_policy()[1].appeals.clocks
    assert {profile: limit_days(profile, clocks[profile]) for profile in Profile} == {
        Profile.CN: (20, 21),
        Profile.EU: (28, 32),
        Profile.UK: (27, 31),
        Profile.US: (29, 30),
    }
