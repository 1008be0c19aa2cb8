"""When snapshots are cut and when they end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.protocol.encoding import day_floor, from_day
from ledger.snapshots.times import ends_at, is_due
from tests.counts import trials

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
moments = st.integers(0, 3 * 86_400).map(lambda seconds: MIDNIGHT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("as_of", "lifetime", "end"),
    [
        (MIDNIGHT, DAY, MIDNIGHT + DAY),
        (MIDNIGHT + timedelta(minutes=3), DAY, MIDNIGHT + DAY + timedelta(minutes=3)),
        (MIDNIGHT + HOUR, DAY, MIDNIGHT + DAY + HOUR),
        (MIDNIGHT + 2 * HOUR, DAY, MIDNIGHT + DAY + HOUR),
        (MIDNIGHT - timedelta(seconds=1), DAY, MIDNIGHT + HOUR),
        (MIDNIGHT - 3 * HOUR, 2 * HOUR, MIDNIGHT - HOUR),
    ],
)
def test_a_snapshot_of_the_day_before_ends_at_one(as_of: datetime, lifetime: timedelta, end: datetime) -> None:
    assert ends_at(as_of, lifetime) == end


@pytest.mark.parametrize("life", [timedelta(0), timedelta(hours=-1), timedelta(hours=24, seconds=1)])
def test_a_snapshot_lives_for_a_day_at_most(life: timedelta) -> None:
    with pytest.raises(ValueError, match="24 hours"):
        ends_at(MIDNIGHT, life)


@given(moments, st.integers(1, 86_400))
def test_no_snapshot_meets_a_second_midnight(as_of: datetime, seconds: int) -> None:
    """From the second midnight on, an entry does not show whether its event has expired."""
    end = ends_at(as_of, timedelta(seconds=seconds))
    assert as_of < end <= as_of + DAY
    assert day_floor(end - timedelta(microseconds=1)) <= day_floor(as_of) + 1
    assert end <= from_day(day_floor(as_of) + 1) + HOUR


@pytest.mark.parametrize(
    ("newest", "now", "due"),
    [
        (MIDNIGHT - timedelta(seconds=1), MIDNIGHT, True),
        (MIDNIGHT - timedelta(minutes=40), MIDNIGHT - timedelta(seconds=1), False),
        (MIDNIGHT, MIDNIGHT + HOUR - timedelta(seconds=1), False),
        (MIDNIGHT, MIDNIGHT + HOUR, True),
        (MIDNIGHT - 2 * HOUR, MIDNIGHT - timedelta(minutes=10, seconds=1), True),
        (MIDNIGHT - 2 * HOUR, MIDNIGHT - timedelta(minutes=10), False),
        (MIDNIGHT + HOUR, MIDNIGHT, False),
    ],
)
def test_when_one_is_due(newest: datetime, now: datetime, due: bool) -> None:
    assert is_due(newest, now, HOUR) is due


@settings(max_examples=trials(15, 500))
@given(first=moments, build_seconds=st.integers(1, 880), interval_minutes=st.integers(10, 180))
def test_one_is_cut_within_five_minutes_of_midnight(first: datetime, build_seconds: int, interval_minutes: int) -> None:
    """By a snapshotter that looks once a minute, whose builds may take almost a quarter of an hour. (The very first
    snapshot of a ledger is cut at once, so the first midnight may meet its build.)"""
    interval, now, cuts = timedelta(minutes=interval_minutes), first, [first]
    midnight = from_day(day_floor(first) + 2)
    while now < midnight + HOUR:
        if is_due(cuts[-1], now, interval):
            cuts.append(now)
            now += timedelta(seconds=build_seconds)
        now += timedelta(seconds=60)
    assert any(midnight <= cut <= midnight + timedelta(minutes=6) for cut in cuts)
    assert all(
        later - earlier >= interval or day_floor(later) > day_floor(earlier) for earlier, later in pairwise(cuts)
    )
