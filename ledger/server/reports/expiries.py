"""Recorded expiries that a policy shortens.

A fold, a record and a clock take the earlier of the recorded expiry and the one of the policy in effect, so a shorter
retention holds from its first second on. Here the earlier day is recorded as well: what a policy has shortened stays
so under the next one, whatever that one allows, and erasure counts its days from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from ledger.rules.policy.values import Policy
from ledger.server.context import Context
from ledger.server.db.engine import reading, writing
from ledger.server.log import policy_queries as policies
from ledger.server.log.writer import open_head

WINDOW = 2000
"""Reports that are looked at in one transaction."""

SETTLED = timedelta(hours=1)
"""Until this long after a policy came into effect its shortening is repeated: until then a report may still be
recorded by a process whose clock is late."""

_START = -1


def shorten_due(context: Context, stop: Callable[[], bool] = lambda: False) -> int:
    """Record the expiries that follow from every policy that has come into effect; returns how many reports changed.

    Each policy is gone through once (`SETTLED`), in the order of their versions, and for those reports only that were
    recorded before its successor came into effect. It reads every report where a policy keeps some conduct for less
    time than an earlier one, and nothing otherwise. `stop` ends it early; it goes on next time. One whose text this
    program cannot read is left out. Raises LogFrozen, DatabaseUnavailable; what was done stays.
    """
    now, timeline, changed = context.now(), context.policies.timeline, 0
    with reading(context.engine) as connection:
        done = {digest for digest, text in policies.texts(connection).items() if text.expiries_cut_at is not None}
    for place, published in enumerate(timeline.published):
        if place == 0 or published.sha256 in done or published.policy is None or published.in_effect_at > now:
            continue
        successor = next(iter(timeline.published[place + 1 :]), None)
        kept_days = _shortened(published.policy, [earlier.policy for earlier in timeline.published[:place]])
        changed += _shorten(context, kept_days, None if successor is None else successor.in_effect_at, stop)
        if stop():
            break
        if now >= published.in_effect_at + SETTLED:
            with writing(context.engine) as connection:
                policies.insert_text(connection, published.text or "")
                policies.mark_expiries_cut(connection, published.sha256, now)
    return changed


def _shortened(policy: Policy, earlier: list[Policy | None]) -> dict[str, int]:
    """Return days of retention by conduct code, of the conducts that `policy` keeps for less time than one of the
    `earlier` policies does; of all conducts if one of those is unknown."""
    return {
        conduct: days
        for conduct, severity in policy.severity.items()
        if (days := policy.retention_days[severity])
        < max((_kept_days(before, conduct, longest=days + 1) for before in earlier), default=0)
    }


def _kept_days(policy: Policy | None, conduct: str, longest: int) -> int:
    if policy is None:
        return longest
    severity = policy.severity.get(conduct)
    return 0 if severity is None else policy.retention_days[severity]


def _shorten(
    context: Context, kept_days: Mapping[str, int], recorded_before: datetime | None, stop: Callable[[], bool]
) -> int:
    """Shorten the expiry of reports that were recorded with more than `kept_days` (by conduct code) after their act."""
    changed, after = 0, _START
    while kept_days and not stop():
        with reading(context.engine) as connection:
            last = policies.window(connection, after, WINDOW)
            if last is None:
                break
            expiries = policies.expiries(connection, after, last, recorded_before)
        if any(row.expires_day > row.act_day + kept_days.get(row.conduct, row.expires_day) for row in expiries):
            changed += _shorten_window(context, kept_days, after, last, recorded_before)
        after = last
    return changed


def _shorten_window(
    context: Context, kept_days: Mapping[str, int], after: int, last: int, recorded_before: datetime | None
) -> int:
    changed = 0
    with writing(context.engine) as connection:
        open_head(connection, context.now())  # decisions of cases, which change an expiry too, hold it as well
        for expiry in policies.expiries(connection, after, last, recorded_before):
            kept = kept_days.get(expiry.conduct)
            if kept is not None and expiry.expires_day > expiry.act_day + kept:
                policies.shorten(connection, expiry.report_id, expiry.act_day + kept)
                changed += 1
    return changed
