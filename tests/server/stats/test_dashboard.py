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
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.clock import run_clocks
from ledger.server.db.engine import reading, writing
from ledger.server.log import queries as log_store
from ledger.server.platforms.members import set_status
from ledger.server.stats import queries as store
from ledger.server.stats.dashboard import STEPS, dashboard, limit_days
from ledger.server.stats.tag_standings import count_tiers, record_daily_tiers
from tests.server.appeals.test_appeals import contest
from tests.server.conftest import Town

pytestmark = pytest.mark.one_engine

ANNA = Staff(1, "reviewer")


def tomorrow(town: Town) -> None:
    """Turn the clock to a day that maintenance does not count any more; it counted today when the ledger was opened."""
    town.rt.maintenance.close()
    town.clock.moment += timedelta(days=1)


def test_every_listed_identifier_is_counted_once_on_its_own(town: Town) -> None:
    one, two = town.person(1), town.person(2)
    town.report(town.acme, one)
    town.report(town.acme, two)
    town.report(town.bolt, two)
    found = count_tiers(town.rt.engine, town.rt.policy, town.clock())
    assert sum(found.values()) == 4, "two people of two identifiers each"
    phone, wallet = ([pair] for pair in two)
    assert phone[0][0] is Kind.PHONE
    for subjects in ([one[0]], [one[1]], phone, wallet):
        assert found[Tier(town.lookup(subjects)["tier"])] >= 1
    expected = dict.fromkeys(Tier, 0)
    for pair in (*one, *two):
        expected[Tier(town.lookup([pair])["tier"])] += 1
    assert found == expected
    set_status(town.rt.engine, platform="bolt", status="suspended", now=town.clock())
    assert count_tiers(town.rt.engine, town.rt.policy, town.clock())[Tier.WATCH] == 4


def test_cooling_and_contested_reports_leave_an_identifier_clear(town: Town) -> None:
    contest(town, town.person(1), town.report(town.acme, town.person(1)))
    found = count_tiers(town.rt.engine, town.rt.policy, town.clock())
    assert (found[Tier.CLEAR], found[Tier.WATCH]) == (2, 0)


def test_a_day_is_counted_once(town: Town) -> None:
    tomorrow(town)
    town.report(town.acme, town.person(1))
    first = record_daily_tiers(town.rt.engine, town.rt.policy, town.clock())
    assert first is not None
    assert first[Tier.WATCH] == 2
    town.report(town.acme, town.person(2))
    assert record_daily_tiers(town.rt.engine, town.rt.policy, town.clock()) is None
    day = day_floor(town.clock())
    with writing(town.rt.engine) as connection:  # another process that began to count before the first one wrote
        assert not store.insert_daily_tiers(connection, day, {tier.value: 99 for tier in Tier})
    with reading(town.rt.engine) as connection:
        assert store.read_daily_tiers(connection, day, day)[day] == {"clear": 0, "watch": 2, "review": 0, "high": 0}
    town.clock.moment += timedelta(days=1)
    assert record_daily_tiers(town.rt.engine, town.rt.policy, town.clock()) is not None


def test_maintenance_counts_the_day(town: Town) -> None:
    town.clock.moment += timedelta(days=1)
    town.report(town.acme, town.person(1))
    town.rt.maintenance.round()
    with reading(town.rt.engine) as connection:
        assert store.has_daily_tiers(connection, day_floor(town.clock()))


def test_counting_waits_for_no_writer(town: Town) -> None:
    tomorrow(town)
    town.report(town.acme, town.person(1))
    with writing(town.rt.engine) as connection:
        log_store.lock_head(connection)
        if town.rt.engine.dialect.name == "postgresql":
            assert record_daily_tiers(town.rt.engine, town.rt.policy, town.clock()) is not None
        else:  # SQLite has one writer at a time, whatever it writes
            assert count_tiers(town.rt.engine, town.rt.policy, town.clock())[Tier.WATCH] == 2


def test_weeks_times_and_ages(town: Town) -> None:
    first = town.person(1)
    (case,) = contest(town, first, town.report(town.acme, first))
    town.clock.moment += timedelta(days=7)
    desk.take(town.rt.context, case, ANNA)
    desk.decide(town.rt.context, case, ANNA, Outcome.UPHELD, "As the documents show.")
    second = town.person(2)
    contest(town, second, town.report(town.acme, second))
    town.clock.moment += timedelta(days=21)
    while run_clocks(town.rt.context):
        pass
    third = town.person(3)
    contest(town, third, town.report(town.bolt, third))
    found = dashboard(town.rt.engine, town.rt.policy, town.clock(), 30)
    assert [(week.opened, week.decided, week.overdue) for week in found.appeals] == [
        (1, 0, 0),
        (1, 1, 0),
        (0, 0, 0),
        (0, 0, 0),
        (1, 0, 1),
    ]
    times = {one.profile: one for one in found.times}
    assert (times[Profile.CN].decided, times[Profile.CN].steps[2], times[Profile.CN].late) == (1, 1, 0)
    assert times[Profile.EU].decided == times[Profile.US].decided == 0
    assert (sum(found.open_cases.in_time), found.open_cases.in_time[0]) == (1, 1)
    assert (sum(found.open_cases.overdue), found.open_cases.overdue[7]) == (1, 1)


def test_a_late_decision_is_told_from_one_in_time(town: Town) -> None:
    person = town.person(1)
    (case,) = contest(town, person, town.report(town.acme, person))
    desk.take(town.rt.context, case, ANNA)
    town.clock.moment += timedelta(days=60)
    while run_clocks(town.rt.context):
        pass
    desk.decide(town.rt.context, case, ANNA, Outcome.OVERTURNED, "As the documents show.")
    (times, *_) = [one for one in dashboard(town.rt.engine, town.rt.policy, town.clock(), 90).times if one.decided]
    assert (times.late, times.steps[STEPS - 1]) == (1, 1)
    town.clock.moment += timedelta(days=40)
    assert not any(one.decided for one in dashboard(town.rt.engine, town.rt.policy, town.clock(), 30).times)


def test_days_that_nobody_counted_are_none(town: Town) -> None:
    tomorrow(town)
    for days, points in ((30, 30), (90, 90), (365, 53)):
        found = dashboard(town.rt.engine, town.rt.policy, town.clock(), days).tiers
        assert len(found) == points
        assert found[-1].day == day_floor(town.clock())
        assert found[-1].tags is None


def test_the_limits_hold_every_clock() -> None:
    clocks = shipped_policy()[1].appeals.clocks
    assert {profile: limit_days(profile, clocks[profile]) for profile in Profile} == {
        Profile.CN: (20, 21),
        Profile.EU: (28, 32),
        Profile.UK: (27, 31),
        Profile.US: (29, 30),
    }
