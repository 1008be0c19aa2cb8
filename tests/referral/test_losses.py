"""The platform's loss: what is added, and what never is."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ledger.referral.facts import REFERABLE
from ledger.referral.losses import CONTESTED, Money, losses
from ledger.rules.reports import RefundOutcome, Status

PAID_BACK = datetime(2026, 11, 1, tzinfo=UTC)
MONEY = st.builds(
    Money,
    st.integers(0, 10**9),
    st.sampled_from(["CNY", "JPY", "KWD"]),
    st.sampled_from(list(RefundOutcome)),
    st.sampled_from([None, PAID_BACK]),
)
REPORTS = st.lists(st.tuples(st.sampled_from(sorted(REFERABLE)), MONEY), max_size=20)


@given(REPORTS)
def test_every_report_is_in_one_currency_and_one_column(reports: list[tuple[Status, Money]]) -> None:
    sums = losses(reports)
    assert [loss.currency for loss in sums] == sorted({money.currency for _, money in reports})
    assert sum(loss.reports_count + loss.contested_count for loss in sums) == len(reports)
    for loss in sums:
        stands = [m for status, m in reports if status not in CONTESTED and m.currency == loss.currency]
        columns = loss.suffered_minor + loss.recovered_minor + loss.refused_minor
        assert columns == sum(money.amount_minor for money in stands)
        assert 0 <= loss.loss_minor <= loss.suffered_minor


@given(REPORTS, st.tuples(st.sampled_from(sorted(REFERABLE)), MONEY))
def test_one_more_report_adds_to_the_loss_only_what_was_paid_and_stands(
    reports: list[tuple[Status, Money]], more: tuple[Status, Money]
) -> None:
    status, money = more

    def loss_minor(reported: list[tuple[Status, Money]]) -> int:
        return sum(loss.loss_minor for loss in losses(reported) if loss.currency == money.currency)

    lost = status not in CONTESTED and money.outcome is RefundOutcome.REFUND_SUFFERED and money.restituted_at is None
    assert loss_minor([*reports, more]) - loss_minor(reports) == (money.amount_minor if lost else 0)


@given(REPORTS, st.randoms())
def test_the_order_of_reports_does_not_matter(reports: list[tuple[Status, Money]], random: object) -> None:
    turned = list(reports)
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert losses(turned) == losses(reports)


def test_an_example_by_hand() -> None:
    def cny(amount: int, outcome: RefundOutcome, paid_back: datetime | None = None) -> Money:
        return Money(amount, "CNY", outcome, paid_back)

    [loss] = losses(
        [
            (Status.COUNTING, cny(100, RefundOutcome.REFUND_SUFFERED)),
            (Status.COOLING, cny(40, RefundOutcome.REFUND_SUFFERED, PAID_BACK)),
            (Status.COUNTING, cny(7, RefundOutcome.REFUND_RECOVERED)),
            (Status.COUNTING, cny(5, RefundOutcome.REFUND_REFUSED)),
            (Status.DISPUTED, cny(3000, RefundOutcome.REFUND_SUFFERED)),
            (Status.UNCONFIRMED, cny(900, RefundOutcome.REFUND_REFUSED)),
        ]
    )
    assert (loss.loss_minor, loss.suffered_minor, loss.restituted_minor) == (100, 140, 40)
    assert (loss.recovered_minor, loss.refused_minor) == (7, 5)
    assert (loss.reports_count, loss.contested_count, loss.contested_minor) == (4, 2, 3000)
