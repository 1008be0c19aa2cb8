"""Lines of "who looked": every lookup is in one line, and no platform's lookups touch another's lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger.protocol.encoding import day_floor
from ledger.rules.disclosures import MAX_LINES, MAX_ORDERS, Lookups, lines

START = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = [bytes([number]) * 32 for number in range(2 * MAX_ORDERS)]


def once(platform: str, hours: float, order: bytes | None, purpose: str = "refund_review", times: int = 1) -> Lookups:
    at = START + timedelta(hours=hours)
    return Lookups(platform, purpose, order, times, at, at, "damaged", "watch", True)


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
def test_every_lookup_is_in_one_line(found: list[Lookups]) -> None:
    made = lines(found)
    for platform, purpose in {(one.platform, one.purpose) for one in found}:
        given = [one for one in found if (one.platform, one.purpose) == (platform, purpose)]
        shown = [one for one in made if (one.platform, one.purpose) == (platform, purpose)]
        assert sum(one.times for one in shown) == sum(one.times for one in given)
        assert {day_floor(one.last_at) for one in shown} == {day_floor(one.last_at) for one in given}
        assert min(one.first_at for one in shown) == min(one.first_at for one in given)
        assert max(one.last_at for one in shown) == max(one.last_at for one in given)
        days = [(day_floor(one.last_at), one.order) for one in shown]
        assert len(days) == len(set(days)), "one line an order and day"
        assert all(sum(day == other for other, _ in days) <= MAX_ORDERS + 1 for day, _ in days)
    assert [one.last_at for one in made] == sorted((one.last_at for one in made), reverse=True)


@given(LOOKUPS, LOOKUPS)
def test_no_platform_changes_another_ones_lines(found: list[Lookups], others: list[Lookups]) -> None:
    mine = [one for one in found if one.platform != "evil"]
    alone = lines(mine)
    beside = lines([*mine, *(once("evil", 0, one.order, one.purpose, 1000) for one in others)])
    assert [one for one in beside if one.platform != "evil"] == alone


@given(LOOKUPS)
def test_grouping_twice_is_grouping_once(found: list[Lookups]) -> None:
    assert lines(lines(found)) == lines(found)


def test_a_platform_that_asks_every_day_keeps_its_newest_lines() -> None:
    daily = [once("evil", 24 * day, ORDERS[0]) for day in range(MAX_LINES + 50)]
    made = lines([*daily, once("acme", 0, ORDERS[1])])
    assert len(made) == MAX_LINES + 2
    assert made[0] == daily[-1]
    older = [one for one in made if one.order is None]
    assert [(one.platform, one.times, one.first_at, one.last_at) for one in older] == [
        ("evil", 50, daily[0].first_at, daily[49].last_at)
    ]
    assert once("acme", 0, ORDERS[1]) in made
