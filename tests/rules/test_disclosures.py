"""Lines of "who looked": every lookup is in one line, and no platform's lookups touch another's lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger.protocol.encoding import day_floor
from ledger.rules.disclosures import MAX_LINES, MAX_ORDERS, LookupGroup, lines

START = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = [bytes([number]) * 32 for number in range(2 * MAX_ORDERS)]


def once(
    platform: str, hours: float, order: bytes | None, purpose: str = "refund_review", times: int = 1
) -> LookupGroup:
    at = START + timedelta(hours=hours)
    return LookupGroup(platform, purpose, order, times, at, at, "damaged", "watch", True)


LOOKUPS = st.lists(
    st.builds(
        once,
        st.sampled_from(["acme", "bolt", "evil"]),
        st.integers(0, 100),
        st.sampled_from([*ORDERS, None]),
        st.sampled_from(["refund_review", "appeal"]),
        st.integers(1, 5),
    ),
    max_size=30,
)


@given(LOOKUPS)
def test_every_lookup_is_in_one_line(lookups: list[LookupGroup]) -> None:
    merged = lines(lookups)
    for platform, purpose in {(item.platform, item.purpose) for item in lookups}:
        given = [item for item in lookups if (item.platform, item.purpose) == (platform, purpose)]
        shown = [item for item in merged if (item.platform, item.purpose) == (platform, purpose)]
        assert sum(item.times for item in shown) == sum(given_line.times for given_line in given)
        assert {day_floor(item.last_at) for item in shown} == {day_floor(given_line.last_at) for given_line in given}
        assert min(item.first_at for item in shown) == min(given_line.first_at for given_line in given)
        assert max(item.last_at for item in shown) == max(given_line.last_at for given_line in given)
        days = [(day_floor(item.last_at), item.order) for item in shown]
        assert len(days) == len(set(days)), "one line an order and day"
        assert all(sum(day == other for other, _ in days) <= MAX_ORDERS + 1 for day, _ in days)
    assert [item.last_at for item in merged] == sorted((item.last_at for item in merged), reverse=True)


@given(LOOKUPS, LOOKUPS)
def test_no_platform_changes_another_ones_lines(lookups: list[LookupGroup], others: list[LookupGroup]) -> None:
    mine = [item for item in lookups if item.platform != "evil"]
    alone = lines(mine)
    beside = lines([*mine, *(once("evil", 0, other.order, other.purpose, 1000) for other in others)])
    assert [item for item in beside if item.platform != "evil"] == alone


@given(LOOKUPS)
def test_grouping_twice_is_grouping_once(lookups: list[LookupGroup]) -> None:
    assert lines(lines(lookups)) == lines(lookups)


def test_a_platform_that_asks_every_day_keeps_its_newest_lines() -> None:
    daily = [once("evil", 24 * day, ORDERS[0]) for day in range(MAX_LINES + 50)]
    merged = lines([*daily, once("acme", 0, ORDERS[1])])
    assert len(merged) == MAX_LINES + 2
    assert merged[0] == daily[-1]
    older = [item for item in merged if item.order is None]
    assert [(lookups.platform, lookups.times, lookups.first_at, lookups.last_at) for lookups in older] == [
        ("evil", 50, daily[0].first_at, daily[49].last_at)
    ]
    assert once("acme", 0, ORDERS[1]) in merged
