"""Joining acts: another group's report of the same refund, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.acts import ListedReport, act_to_join

GROUPS = ("a", "b", "c")
REPORTS = st.lists(
    st.builds(
        lambda act, group, amount, day: (act, group, amount, day),
        st.integers(0, 4),
        st.sampled_from(GROUPS),
        st.sampled_from([100, 200]),
        st.integers(0, 20),
    ),
    max_size=8,
).map(
    lambda rows: [
        ListedReport(b"t" * 32, number, act, group, amount, "CNY", day)
        for number, (act, group, amount, day) in enumerate(rows)
    ]
)


def joined(met: list[ListedReport], *, day: int = 10, replaces: int | None = None) -> int | None:
    return act_to_join(
        met, control_group="a", amount_minor=100, currency="CNY", act_day=day, window_days=7, replaces=replaces
    )


@given(REPORTS, st.integers(0, 20))
def test_it_joins_what_the_rule_says_and_only_that(met: list[ListedReport], day: int) -> None:
    act = joined(met, day=day)
    mine = {item.act_id for item in met if item.control_group == "a"}
    fit = [
        item for item in met
        if item.control_group != "a" and item.amount_minor == 100 and abs(item.act_day - day) <= 7
    ]  # fmt: skip
    assert act not in mine
    if act is None:
        assert {item.act_id for item in fit} <= mine
    else:
        assert act == next(
            item.act_id for item in sorted(fit, key=lambda item: item.report_id) if item.act_id not in mine
        )


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_met_does_not_matter(met: list[ListedReport], random: object) -> None:
    shuffled = list(met)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert joined(shuffled) == joined(met)


def test_currency_and_the_replaced_report() -> None:
    theirs = ListedReport(b"t" * 32, 0, 0, "b", 100, "CNY", 10)
    mine = ListedReport(b"t" * 32, 1, 0, "a", 100, "CNY", 10)
    assert joined([theirs]) == 0
    assert joined([theirs, mine]) is None
    assert joined([theirs, mine], replaces=1) == 0
    assert act_to_join([theirs], control_group="a", amount_minor=100, currency="USD", act_day=10, window_days=7) is None
