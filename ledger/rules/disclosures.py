"""Who was shown something of a person's record: lookups grouped so that no platform can hide another one.

The person learns each platform, day and purpose (GDPR art. 15(1)(c), PIPL art. 45, 15 U.S.C. 1681g(a)(3)). Repeated
lookups about one order are one line with their number and times; so are the orders beyond `MAX_ORDERS` of a platform on
one UTC day, and the days before the newest `MAX_LINES` lines of a platform. Every limit is of one platform, so a
thousand lookups shorten nothing but the list of the platform that made them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from ledger.protocol.encoding import day_floor

DISCLOSURE_DAYS = 1095
"""How long records of lookups and searches are kept: three years, as long as the gravest report is listed."""

MAX_ORDERS = 10
"""Orders that a platform's lookups of one UTC day and purpose are listed by; further ones are one line."""

MAX_LINES = 366
"""Lines of one platform, the newest ones; what came before is one line a purpose."""


@dataclass(frozen=True, slots=True)
class LookupGroup:
    """Lookups by one platform for one purpose: how many, and the times of the first and the last.

    `order` is the order that all are about, None where they are about several. `claim`, `tier` and
    `consent` (whether it referred to the person's consent) are of the last one.
    """

    platform: str
    purpose: str
    order: bytes | None
    times: int
    first_at: datetime
    last_at: datetime
    claim: str | None
    tier: str
    consent: bool


def lines(lookups: Iterable[LookupGroup]) -> list[LookupGroup]:
    """Return the lines that the person is shown, newest first. `lookups` has every lookup once; lookups of one element
    are of one UTC day. The lines have as many lookups as were given."""
    days: dict[tuple[str, int, str], dict[bytes | None, LookupGroup]] = {}
    for item in lookups:
        orders = days.setdefault((item.platform, day_floor(item.last_at), item.purpose), {})
        orders[item.order] = _joined([orders[item.order], item], item.order) if item.order in orders else item
    merged = [line for orders in days.values() for line in _day(orders)]
    merged.sort(key=lambda item: (item.platform, _newest_first(item)))
    shown: list[LookupGroup] = []
    for _, some in groupby(merged, key=lambda item: item.platform):
        shown += _platform(list(some))
    return sorted(shown, key=_newest_first)


def _newest_first(line: LookupGroup) -> tuple[float, float, str, str, bytes]:
    return -line.last_at.timestamp(), -line.first_at.timestamp(), line.platform, line.purpose, line.order or b""


def _day(orders: dict[bytes | None, LookupGroup]) -> list[LookupGroup]:
    """Return the lines of a platform's day and purpose."""
    single = sorted((lookups for order, lookups in orders.items() if order is not None), key=_newest_first)
    rest = single[MAX_ORDERS:] + ([orders[None]] if None in orders else [])
    return single[:MAX_ORDERS] + ([_joined(rest, None)] if rest else [])


def _platform(newest_first: list[LookupGroup]) -> list[LookupGroup]:
    """Return at most `MAX_LINES` lines of a platform, and one line for each purpose of the older lookups."""
    kept, older = newest_first[:MAX_LINES], newest_first[MAX_LINES:]
    purposes = sorted({lookups.purpose for lookups in older})
    return kept + [_joined([lookups for lookups in older if lookups.purpose == purpose], None) for purpose in purposes]


def _joined(some: list[LookupGroup], order: bytes | None) -> LookupGroup:
    last = max(some, key=lambda item: item.last_at)
    first_at, times = min(lookups.first_at for lookups in some), sum(lookups.times for lookups in some)
    return replace(last, order=order, times=times, first_at=first_at)
