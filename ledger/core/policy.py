"""The policy: every number that turns recorded events into a standing, as one checked, frozen value.

It is TOML (`policies/` holds those shipped), versioned and logged. Some promises are kept here and not left to
the file: one control group alone never lifts anyone above `watch`, cooling never falls below 72 hours, no clock
is longer than its statute, and nothing is kept beyond 5 years. A file that breaks one of them is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from ledger.core.conduct import Conduct
from ledger.core.encoding import DAY_SECONDS, from_day, unix_seconds
from ledger.errors import PolicyInvalid, PolicyTimeInvalid

MIN_PUBLICATION_DAYS = 7
"""A change is in effect this long after publication at the earliest; in code, so that no policy can waive it."""

MIN_COOLING_HOURS = 72
MAX_RETENTION_DAYS = 1826
"""5 years: the longest that art. 16 of the PRC Credit Reporting Regulation lets a bad record be kept."""

MAX_SEVERITY = 10


class Profile(StrEnum):
    """The legal profile of a platform: what it must obtain, and which clock an appeal runs on."""

    CN = "CN"
    EU = "EU"
    US = "US"


@dataclass(frozen=True, slots=True)
class Tiers:
    """Thresholds in milli-points, caps of the shown points in hundredths of a point."""

    watch_total_millipoints: int
    review_total_millipoints: int
    review_second_group_millipoints: int
    high_second_group_millipoints: int
    watch_cap_hundredths: int
    review_cap_hundredths: int
    credit_half_points: int


TWENTIETHS, EIGHTHS = 20, 8
"""The two units of weights that a policy may have: `floor_twentieths` or `floor_eighths` names it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How a control group's weight follows from its resolved cases.

    A weight is rounded down to a multiple of 1/`steps` (TWENTIETHS or EIGHTHS) and is `floor_steps`/`steps` at least.
    """

    steps: int
    floor_steps: int
    prior_reports: int
    window_months: int

    @property
    def daily(self) -> bool:
        """Whether weights are taken anew once a UTC day, from what was decided before its midnight. Weights in
        twentieths (policy version 1) follow each decision at once."""
        return self.steps == EIGHTHS


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """Waiting times and windows at intake."""

    cooling_hours: int
    clock_skew_minutes: int
    act_window_days: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """When bodies and elements go: after expiry, and at the very latest after the act."""

    after_expiry_days: int
    at_latest_days: int


@dataclass(frozen=True, slots=True)
class AppealClock:
    """A statutory clock: `days`, or calendar `months` where the statute counts those (the other is 0)."""

    days: int
    months: int
    extension_days: int
    time_zone: str


@dataclass(frozen=True, slots=True)
class Appeals:
    """Clocks of the appeal procedure."""

    question_days: int
    reopen_days: int
    clocks: Mapping[Profile, AppealClock]


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the policy: `severity` in points by conduct code, `retention_days` from the day of the act by
    severity."""

    version: int
    severity: Mapping[str, int]
    retention_days: Mapping[int, int]
    tiers: Tiers
    weights: Weights
    intake: IntakeRules
    lookup_expiry_minutes: int
    erasure: Erasure
    appeals: Appeals

    def expiry_day(self, conduct: str, act_day: int, recorded_day: int | None = None) -> int:
        """The day (since the Unix epoch) at whose UTC midnight a report of an act on `act_day` is gone:
        the recorded one if any, or earlier if this policy keeps such reports for less time; never later."""
        day = act_day + self.retention_days[self.severity[conduct]]
        return day if recorded_day is None else min(day, recorded_day)


_STATUTORY_DAYS = {Profile.CN: (20, 0), Profile.EU: (30, 0), Profile.US: (30, 15)}
_T = TypeVar("_T")
_ZONE = re.compile(r"[A-Za-z]+(?:/[A-Za-z_]+){1,2}\Z")


def parse_policy(text: str) -> Policy:
    """The policy in TOML `text`. Raises PolicyInvalid for anything missing, unknown, out of range or unfair."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid("The policy is not valid TOML.") from error
    names = {"version", "severity", "retention_days", "tiers", "weights", "intake", "lookup", "erasure", "appeals"}
    _keys(data, names, "policy")
    appeals = _table(data, "appeals")
    _keys(appeals, {"question_days", "reopen_days", "clocks"}, "appeals")
    lookup = _table(data, "lookup")
    _keys(lookup, {"expiry_minutes"}, "lookup")
    policy = Policy(
        version=_integer(data, "version", 1, 2**31),
        severity=_severities(_table(data, "severity")),
        retention_days=_retention(_table(data, "retention_days")),
        tiers=_numbers(Tiers, _table(data, "tiers"), 1, 1_000_000),
        weights=_weights(_table(data, "weights")),
        intake=_numbers(IntakeRules, _table(data, "intake"), 0, 10_000),
        lookup_expiry_minutes=_integer(lookup, "expiry_minutes", 1, 1440),
        erasure=_numbers(Erasure, _table(data, "erasure"), 0, MAX_RETENTION_DAYS),
        appeals=Appeals(
            question_days=_integer(appeals, "question_days", 1, 20),
            reopen_days=_integer(appeals, "reopen_days", 1, 365),
            clocks=_clocks(_table(appeals, "clocks")),
        ),
    )
    _check_promises(policy)
    return policy


def check_in_effect(published_at: datetime, in_effect_at: datetime) -> None:
    """Raises PolicyTimeInvalid if a change published at `published_at` would be in effect less than 7 days later.
    The first policy of a ledger replaces none and is exempt: do not call this for it."""
    if in_effect_at - published_at < timedelta(days=MIN_PUBLICATION_DAYS):
        raise PolicyTimeInvalid(f"A policy is in effect {MIN_PUBLICATION_DAYS} days after publication at the earliest.")


def is_expired(expires_day: int, now: datetime) -> bool:
    """Whether UTC midnight of `expires_day` has come."""
    return unix_seconds(now) >= expires_day * DAY_SECONDS


def expiry_time(expires_day: int) -> datetime:
    """The instant from which a report that expires on `expires_day` is gone: midnight UTC."""
    return from_day(expires_day)


def _check_promises(policy: Policy) -> None:
    tiers, intake = policy.tiers, policy.intake
    rules = {
        "Every severity needs its retention, and every retention a severity.": set(policy.severity.values())
        == set(policy.retention_days),
        "impersonated protects a person and has severity 0; everything else has more.": all(
            (points == 0) == (conduct == Conduct.IMPERSONATED) for conduct, points in policy.severity.items()
        ),
        "The tiers' thresholds must rise.": tiers.watch_total_millipoints
        < tiers.review_total_millipoints
        <= 2 * tiers.high_second_group_millipoints
        and tiers.review_second_group_millipoints <= tiers.high_second_group_millipoints,
        "Shown points must stay below the threshold of the next tier.": tiers.watch_total_millipoints
        <= 10 * tiers.watch_cap_hundredths
        < tiers.review_total_millipoints
        <= 10 * tiers.review_cap_hundredths
        < 2 * tiers.high_second_group_millipoints,
        "Retention and the days until erasure must not exceed the longest time that anything is kept.": (
            max(policy.retention_days.values()) + policy.erasure.after_expiry_days <= policy.erasure.at_latest_days
        ),
        f"Cooling is at least {MIN_COOLING_HOURS} hours.": intake.cooling_hours >= MIN_COOLING_HOURS,
        "The clock skew allowed at intake is at most 60 minutes.": intake.clock_skew_minutes <= 60,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise PolicyInvalid(sentence)


def _severities(table: dict[str, Any]) -> Mapping[str, int]:
    _keys(table, set(Conduct), "severity")
    return MappingProxyType({str(conduct): _integer(table, conduct, 0, MAX_SEVERITY) for conduct in Conduct})


def _retention(table: dict[str, Any]) -> Mapping[int, int]:
    if not all(re.fullmatch(r"0|[1-9]\d?", key) for key in table):
        raise PolicyInvalid("retention_days maps a severity to a number of days.")
    return MappingProxyType({int(key): _integer(table, key, 2, MAX_RETENTION_DAYS) for key in table})


def _weights(table: dict[str, Any]) -> Weights:
    """The weights of either form: `floor_twentieths` (version 1) or `floor_eighths`."""
    steps, name = (TWENTIETHS, "floor_twentieths") if "floor_twentieths" in table else (EIGHTHS, "floor_eighths")
    _keys(table, {name, "prior_reports", "window_months"}, "weights")
    return Weights(
        steps=steps,
        floor_steps=_integer(table, name, 1, steps),
        prior_reports=_integer(table, "prior_reports", 1, 1000),
        window_months=_integer(table, "window_months", 1, 1000),
    )


def _clocks(table: dict[str, Any]) -> Mapping[Profile, AppealClock]:
    _keys(table, set(Profile), "appeals.clocks")
    clocks = {}
    for profile in Profile:
        clock = _table(table, profile)
        _keys(clock, {"months" if "months" in clock else "days", "extension_days", "time_zone"}, profile)
        days_most, extension_most = _STATUTORY_DAYS[profile]
        in_months = "months" in clock
        if in_months and profile is not Profile.EU:
            raise PolicyInvalid("Only the EU clock counts months.")
        zone = clock["time_zone"]
        if not isinstance(zone, str) or not _ZONE.match(zone):
            raise PolicyInvalid("A clock needs an IANA time zone such as Asia/Shanghai.")
        clocks[profile] = AppealClock(
            days=0 if in_months else _integer(clock, "days", 1, days_most),
            months=_integer(clock, "months", 1, 1) if in_months else 0,
            extension_days=_integer(clock, "extension_days", 0, extension_most),
            time_zone=zone,
        )
    return MappingProxyType(clocks)


def _keys(table: dict[str, Any], wanted: set[str], name: str) -> None:
    if table.keys() != wanted:
        wrong = sorted(table.keys() ^ {str(key) for key in wanted})
        raise PolicyInvalid(f"The table {name} lacks or does not know: {', '.join(wrong)}.")


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data[key]
    if not isinstance(value, dict):
        raise PolicyInvalid(f"{key} must be a table.")
    return value


def _integer(table: dict[str, Any], key: str, least: int, most: int) -> int:
    value = table[key]
    if type(value) is not int or not least <= value <= most:
        raise PolicyInvalid(f"{key} must be an integer from {least} to {most}.")
    return value


def _numbers(cls: type[_T], table: dict[str, Any], least: int, most: int) -> _T:
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    _keys(table, set(names), cls.__name__.lower())
    return cls(**{name: _integer(table, name, least, most) for name in names})
