"""The reporting platform's loss in the reports of one referral, by currency. Pure.

Refunds that were refused or recovered are no loss; their sums are given separately. So are the sums of contested and
unconfirmed reports. Sums are never added across currencies, and are not the amount of one person: the reports of a
referral may be about several persons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ledger.rules.reports import RefundOutcome, Status

CONTESTED = frozenset({Status.DISPUTED, Status.UNCONFIRMED})


@dataclass(frozen=True, slots=True)
class Money:
    """The money of one report, in minor units. `restituted_at`: the full amount came back."""

    amount_minor: int
    currency: str
    outcome: RefundOutcome
    restituted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums of one currency in minor units.

    Of the `reports_count` reports in force: `suffered_minor` was paid out, of which `restituted_minor` came back;
    `recovered_minor` was paid out and recovered before the report, `refused_minor` was claimed and not paid. Of the
    `contested_count` others, `contested_minor` was paid out and did not come back.
    """

    currency: str
    reports_count: int
    suffered_minor: int
    restituted_minor: int
    recovered_minor: int
    refused_minor: int
    contested_count: int
    contested_minor: int

    @property
    def loss_minor(self) -> int:
        """The amount that was paid out and did not come back."""
        return self.suffered_minor - self.restituted_minor


def losses(reports: Iterable[tuple[Status, Money]]) -> tuple[Loss, ...]:
    """Return the sums of each currency, ordered by its code."""
    by_currency: dict[str, list[tuple[Status, Money]]] = {}
    for status, money in reports:
        by_currency.setdefault(money.currency, []).append((status, money))
    return tuple([_loss(currency, by_currency[currency]) for currency in sorted(by_currency)])


def _loss(currency: str, reports: list[tuple[Status, Money]]) -> Loss:
    counting = [money for status, money in reports if status not in CONTESTED]
    contested = [money for status, money in reports if status in CONTESTED]
    suffered = [money for money in counting if money.outcome is RefundOutcome.REFUND_SUFFERED]
    return Loss(
        currency=currency,
        reports_count=len(counting),
        suffered_minor=_sum(suffered),
        restituted_minor=_sum(money for money in suffered if money.restituted_at is not None),
        recovered_minor=_sum(money for money in counting if money.outcome is RefundOutcome.REFUND_RECOVERED),
        refused_minor=_sum(money for money in counting if money.outcome is RefundOutcome.REFUND_REFUSED),
        contested_count=len(contested),
        contested_minor=_sum(
            money
            for money in contested
            if money.outcome is RefundOutcome.REFUND_SUFFERED and money.restituted_at is None
        ),
    )


def _sum(moneys: Iterable[Money]) -> int:
    return sum(money.amount_minor for money in moneys)
