"""The fold case by case, and the worked examples of the docs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest

from ledger.protocol.encoding import day_floor, from_day, from_hour
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.shipped import shipped_policy, shipped_version
from ledger.rules.policy.values import parse_policy
from ledger.rules.reasons import MAX_REASONS, Reason
from ledger.rules.standing import (
    CLEAN,
    Event,
    Standing,
    Tier,
    credit_of,
    decayed,
    fold,
    group_weight,
    is_strong,
    merge,
)
from tests.rules.worked_examples import DOCS, NOW, result_cells, standing_of, table_rows

TEXT, POLICY = shipped_policy()
FIRST = shipped_version(1)[1]
TODAY = day_floor(NOW)
PAYMENT = frozenset({Kind.PAYMENT})


def event(number: int, group: str = "A", conduct: str = "edited_image", age: int = 10, **changes: object) -> Event:
    act_day = TODAY - age
    event_now = Event(
        report_id=number,
        act_id=number,
        control_group=group,
        conduct=conduct,
        act_day=act_day,
        effective_hour=(act_day + 4) * 24,
        expires_day=POLICY.expiry_day(conduct, act_day),
        matched=PAYMENT,
    )
    return replace(event_now, **changes)  # type: ignore[arg-type]


def standing(*events: Event, now: datetime = NOW, **weights: int) -> Standing:
    return fold(events, weights, POLICY, now)


@pytest.mark.parametrize("page", ["standing.md", "standing.zh-CN.md"])
def test_the_worked_examples_in_the_docs(page: str) -> None:
    heading = "Worked examples" if page == "standing.md" else "计算示例"
    rows = table_rows((DOCS / page).read_text(encoding="utf-8"), heading)
    assert len(rows) >= 20
    for row in rows:
        _, reports, matched, *expected = row
        assert result_cells(standing_of(reports, matched, POLICY)) == expected, row


def test_both_languages_work_the_same_examples() -> None:
    pages = [("standing.md", "Worked examples"), ("standing.zh-CN.md", "计算示例")]
    english, chinese = (table_rows((DOCS / page).read_text(encoding="utf-8"), heading) for page, heading in pages)
    assert [row[1:] for row in english] == [row[1:] for row in chinese]


def test_nobody_knows_most_people() -> None:
    assert standing() is CLEAN
    assert (CLEAN.tier, CLEAN.credit, CLEAN.points, CLEAN.reasons) == (Tier.CLEAR, 100, 0.0, (Reason.NO_RECORD,))


@pytest.mark.parametrize(("age", "points"), [(0, 6000), (547, 3001), (548, 2998), (1094, 1501)])
def test_points_halve_over_half_the_retention(age: int, points: int) -> None:
    assert decayed(6000, age, 1095) == points


@pytest.mark.parametrize("retention", [90, 365, 1095])
def test_points_are_rounded_down_exactly(retention: int) -> None:
    """Against 60-digit decimals: no machine's floating point may decide."""
    with localcontext() as context:
        context.prec = 60
        for fresh in (200, 1000, 2850, 6000):
            for age in range(0, retention + 1, 7):
                exact = fresh * Decimal(2) ** (Decimal(-2 * age) / retention)
                # A power of two with a whole exponent is exact; all others are irrational, far from the grid of 1e-50.
                assert decayed(fresh, age, retention) == int(exact + Decimal("1e-50"))


@pytest.mark.parametrize(("fresh", "age", "retention"), [(6825, 50, 101), (9025, 20, 1826)])
def test_an_edge_is_decided_in_integers(fresh: int, age: int, retention: int) -> None:
    """Points less than a millionth below a whole number: found by search, none occur under the shipped policy."""
    value = fresh * 0.5 ** (2 * age / retention)
    assert 0 < round(value) - value < 1e-6
    assert decayed(fresh, age, retention) == round(value) - 1


def test_whole_half_lives_are_exact() -> None:
    assert [decayed(6000, age, 90) for age in (0, 45, 90)] == [6000, 3000, 1500]


def test_credit_follows_the_shown_points() -> None:
    assert [credit_of(points, POLICY) for points in (0, 2490, 4990, 6000, 12000, 60000)] == [100, 75, 56, 50, 25, 0]
    assert credit_of(2499, POLICY) == credit_of(2490, POLICY)


def test_no_credit_figure_hangs_on_the_last_digit() -> None:
    """100 x 0.5^(points / 6) is never within 1e-6 of a half, so every machine rounds it alike; only whole half-lives
    are exact (12.5 at 18 points), and a power of two is so on every machine."""
    for hundredths in set(range(20_000)) - set(range(0, 20_000, 600)):
        value = 100 * 0.5 ** (hundredths / 600)
        assert abs(value % 1 - 0.5) > 1e-6


def test_points_are_shown_with_two_decimals_rounded_down() -> None:
    assert replace(CLEAN, points_milli=499).points == 0.49
    assert replace(CLEAN, points_milli=11_709).points == 11.7


def test_thresholds_are_met_to_the_thousandth() -> None:
    def tier(threshold: int) -> Tier:
        text = TEXT.replace("watch_total_millipoints = 500", f"watch_total_millipoints = {threshold}")
        return fold([event(1, conduct="wardrobing", age=4)], {}, parse_policy(text), NOW).tier

    exact = decayed(1000, 4, 90)
    assert tier(exact) is Tier.WATCH
    assert tier(exact + 1) is Tier.CLEAR


def test_review_and_high_need_the_second_group() -> None:
    assert standing(event(1), event(2, "B", "wardrobing")).tier is Tier.WATCH
    second = (event(2, "B", "wardrobing"), event(3, "B", "wardrobing"))
    assert standing(event(1), *second).tier is Tier.REVIEW
    assert standing(event(1), *second, event(4, "B", "wardrobing"), event(5, "C")).tier is Tier.HIGH


def test_one_group_stays_below_review_whatever_it_says() -> None:
    result = standing(*[event(number) for number in range(50)])
    assert (result.tier, result.points, result.events, result.reporters) == (Tier.WATCH, 2.49, 50, 1)
    assert Reason.REPEATED in result.reasons


def test_two_acts_are_not_repeated() -> None:
    same = [event(number, act_id=number % 2) for number in range(5)]
    assert Reason.REPEATED not in standing(*same).reasons


def test_cooling_reports_are_not_shown_at_all() -> None:
    cooling = event(1, age=0, has_statement=True, disputed=True)
    starts = from_hour(cooling.effective_hour)
    assert standing(cooling, now=starts - timedelta(seconds=1)) is CLEAN
    assert standing(cooling, now=starts).disputed


def test_expired_reports_are_gone_at_midnight() -> None:
    old = event(1, age=0)
    end = from_day(old.expires_day)
    assert standing(old, now=end - timedelta(seconds=1)).tier is Tier.WATCH
    assert standing(old, now=end) is CLEAN


def test_a_policy_may_shorten_but_not_lengthen_a_recorded_expiry() -> None:
    shorter = parse_policy(TEXT.replace("6 = 1095", "6 = 30"))
    longer = parse_policy(TEXT.replace("6 = 1095", "6 = 1766"))
    assert fold([event(1, age=30)], {}, shorter, NOW) is CLEAN
    assert fold([event(1, age=29)], {}, shorter, NOW) is not CLEAN
    assert fold([event(1, age=1095)], {}, longer, NOW) is CLEAN


def test_disputed_reports_show_and_do_not_count() -> None:
    result = standing(event(1, disputed=True), event(2, "B", disputed=True, unconfirmed=True))
    assert (result.tier, result.credit, result.events, result.reporters) == (Tier.CLEAR, 100, 0, 0)
    assert result.disputed
    assert result.reasons == (Reason.DISPUTED,)


def test_unconfirmed_reports_are_silent() -> None:
    assert standing(event(1, unconfirmed=True, has_statement=True)) is CLEAN


def test_protection_is_no_event_and_no_reporter() -> None:
    result = standing(event(1, conduct="impersonated"), event(2, "B", "impersonated"))
    assert (result.tier, result.credit, result.events, result.reporters) == (Tier.CLEAR, 100, 0, 0)
    assert result.protected
    assert result.reasons == (Reason.PROTECTED,)


def test_nothing_is_told_of_a_suspended_group() -> None:
    suspended = [event(1, has_statement=True), event(2, disputed=True)]
    assert standing(*suspended, A=0) is CLEAN
    assert standing(*suspended, event(3, conduct="impersonated"), A=0).protected


def test_weights_scale_points() -> None:
    low, full = (standing(event(1, conduct="false_non_receipt", age=200), A=weight) for weight in (10, 40))
    assert low.points_milli == 350
    assert full.points_milli == 1403
    assert standing(event(1, conduct="false_non_receipt", age=200), B=10) == full


def test_weights_of_the_first_policy_are_twentieths() -> None:
    report = event(1, conduct="false_non_receipt", age=200)
    assert [fold([report], {"A": 2 * weight}, FIRST, NOW).points_milli for weight in (4, 19, 20)] == [280, 1333, 1403]
    halved = replace(report, restituted=True)
    assert fold([halved], {"A": 38}, FIRST, NOW).points_milli == decayed(3 * 19 * 25, 200, 365)


def test_restitution_halves_points() -> None:
    assert standing(event(1, conduct="wardrobing", age=4, restituted=True)).points_milli == decayed(500, 4, 90)
    # Half of 3 x 875 thousandths is no whole number of them: rounded down, and that decays.
    odd = event(1, conduct="false_non_receipt", age=0, effective_hour=0, restituted=True)
    assert standing(odd, A=35).points_milli == 1312
    assert standing(replace(odd, act_day=TODAY - 200), A=35).points_milli == decayed(1312, 200, 365)


def test_statements_are_told_of_what_is_shown() -> None:
    assert standing(event(1, has_statement=True)).has_statement
    assert not standing(event(1), event(2, has_statement=True, unconfirmed=True)).has_statement


def test_matched_kinds_are_told_of_what_is_shown() -> None:
    phone, email = frozenset({Kind.PHONE}), frozenset({Kind.EMAIL})
    result = standing(event(1, matched=phone), event(2, matched=PAYMENT), event(3, matched=email, unconfirmed=True))
    assert result.matched_kinds == ("payment", "phone")


@pytest.mark.parametrize(
    ("kinds", "strong"),
    [
        ("payment", True),
        ("cn_id", True),
        ("phone", False),
        ("email", False),
        ("device", False),
        ("phone email", True),
        ("device phone", True),
        ("payment phone", True),
    ],
)
def test_match_strength(kinds: str, strong: bool) -> None:
    assert is_strong(event(1, matched=frozenset(Kind(kind) for kind in kinds.split()))) is strong


def test_strength_is_per_event_and_not_per_lookup() -> None:
    """A phone that met one report and a mailbox that met another are two weak matches, not a strong one."""
    apart = [event(1, matched=frozenset({Kind.PHONE})), event(2, "B", matched=frozenset({Kind.EMAIL}))]
    assert standing(*apart).tier is Tier.WATCH
    assert Reason.WEAK_MATCH in standing(*apart).reasons
    assert Reason.WEAK_MATCH not in standing(*apart, event(3)).reasons


def test_merge_joins_what_met_the_same_report() -> None:
    phone = [event(1, matched=frozenset({Kind.PHONE})), event(2, "B", matched=frozenset({Kind.PHONE}))]
    email = [replace(item, matched=frozenset({Kind.EMAIL})) for item in phone]
    merged = merge(phone + email)
    assert [item.matched for item in merged] == [frozenset({Kind.PHONE, Kind.EMAIL})] * 2
    assert standing(*merged).tier is Tier.HIGH
    assert merge(phone) == phone


def test_a_withdrawal_does_not_hand_an_act_to_another_group() -> None:
    """The counter-example of decision 3: under "first reporter" this withdrawal would lead from watch to high."""
    first, second, other = event(1, act_id=1), event(2, "B", act_id=1), event(3, act_id=2)
    assert standing(first, second, other).tier is Tier.HIGH
    assert standing(second, other).tier is Tier.HIGH
    assert standing(first, other).tier is Tier.WATCH
    assert standing(first, second).tier is Tier.WATCH


def test_at_most_four_reasons() -> None:
    weak = frozenset({Kind.PHONE})
    events = [event(number, matched=weak, restituted=True) for number in range(3)]
    result = standing(*events, event(8, conduct="impersonated"), event(9, disputed=True))
    assert result.reasons == (Reason.PROTECTED, Reason.DISPUTED, Reason.WEAK_MATCH, Reason.REPEATED)
    assert len(result.reasons) == MAX_REASONS


@pytest.mark.parametrize(
    ("resolved", "overturned", "twentieths", "eighths"),
    [
        (0, 0, 20, 8),
        (1, 1, 18, 7),
        (2, 2, 16, 6),
        (10, 1, 19, 7),
        (10, 5, 15, 6),
        (10, 10, 10, 4),
        (100, 100, 4, 2),
        (1000, 1000, 4, 2),
        (90, 5, 19, 7),
        (4000, 1, 19, 7),
    ],
)
def test_group_weights(resolved: int, overturned: int, twentieths: int, eighths: int) -> None:
    assert group_weight(resolved, overturned, FIRST) == 2 * twentieths
    assert group_weight(resolved, overturned, POLICY) == 5 * eighths


@pytest.mark.parametrize(("resolved", "overturned"), [(0, 1), (5, -1)])
def test_overturned_cases_are_resolved_ones(resolved: int, overturned: int) -> None:
    with pytest.raises(ValueError, match="overturned"):
        group_weight(resolved, overturned, POLICY)


def test_the_time_zone_of_now_does_not_matter() -> None:
    shanghai = NOW.astimezone(timezone(timedelta(hours=8)))
    assert standing(event(1), now=shanghai) == standing(event(1))
    assert NOW.tzinfo is UTC
