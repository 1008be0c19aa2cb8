"""The policy: every number that turns recorded events into a standing, as one checked, frozen value.

It is TOML (`policies/` holds those shipped), versioned and logged. Some promises are kept here and not left to
the file: one control group alone never lifts anyone above `watch`, cooling never falls below 72 hours, no clock
is longer than its statute, and nothing is kept beyond 5 years. A file that breaks one of them is refused.

What is published goes through `parse_policy`, which knows every name or refuses. Clients, snapshots and auditors meet
policies of later ledgers: they use `read_policy`, which keeps what it can use and skips the rest.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar

from ledger.errors import PolicyInvalid, PolicyTimeInvalid
from ledger.protocol.encoding import DAY_SECONDS, from_day, unix_seconds
from ledger.rules.conduct import Conduct
from ledger.rules.jurisdictions import AppealClock as AppealClock
from ledger.rules.jurisdictions import Profile as Profile

MIN_PUBLICATION_DAYS = 7
"""A change is in effect this long after publication at the earliest; in code, so that no policy can waive it."""

MIN_COOLING_HOURS = 72
MAX_RETENTION_DAYS = 1826
"""5 years: the longest that art. 16 of the PRC Credit Reporting Regulation lets a bad record be kept."""

MAX_SEVERITY = 10


MAX_READ_SEVERITY = 255
"""The largest severity that `read_policy` takes: a later version may allow more than `MAX_SEVERITY`."""

_READ_CLOCK_DAYS = 3660


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
class Appeals:
    """Clocks of the appeal procedure. `clocks` has every `Profile`, with the default of its jurisdiction where the
    policy names none, and what a reader kept of profiles that it does not know."""

    question_days: int
    reopen_days: int
    clocks: Mapping[str, AppealClock]


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the policy: `severity` in points by conduct code, `retention_days` from the day of the act by
    severity.

    `reportable` are the conducts that the text names: no other may be reported while the policy is in effect.
    `severity` also has the conducts of this version that the text does not name, because reports of them may stand in
    the log under another policy: with their default, or the next smaller severity that the text has.

    `consent_for_lookups` are the profiles under which a lookup needs a reference to the person's consent.
    """

    version: int
    severity: Mapping[str, int]
    retention_days: Mapping[int, int]
    tiers: Tiers
    weights: Weights
    intake: IntakeRules
    lookup_expiry_minutes: int
    erasure: Erasure
    appeals: Appeals
    reportable: frozenset[str]
    consent_for_lookups: frozenset[str]

    def expiry_day(self, conduct: str, act_day: int, recorded_day: int | None = None) -> int:
        """The day (since the Unix epoch) at whose UTC midnight a report of an act on `act_day` is gone:
        the recorded one if any, or earlier if this policy keeps such reports for less time; never later."""
        day = act_day + self.retention_days[self.severity[conduct]]
        return day if recorded_day is None else min(day, recorded_day)


_T = TypeVar("_T")
_ZONE = re.compile(r"[A-Za-z]+(?:/[A-Za-z_]+){1,2}\Z")


def parse_policy(text: str) -> Policy:
    """The policy in TOML `text`, to be published or simulated. Raises PolicyInvalid for anything missing, unknown, out
    of range or unfair. A profile of this version may be missing, and so may a conduct that protects no person."""
    return _policy(text, strict=True)


def read_policy(text: str) -> Policy:
    """The policy in TOML `text`, which a later version may have written.

    Keeps the severities of unknown conducts and the clocks of unknown profiles, and ignores unknown tables and members.
    Raises PolicyInvalid where something that this version needs is missing, out of range or unfair.
    """
    return _policy(text, strict=False)


def _policy(text: str, *, strict: bool) -> Policy:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid("The policy is not valid TOML.") from error
    names = {"version", "severity", "retention_days", "tiers", "weights", "intake", "lookup", "erasure", "appeals"}
    _keys(data, names | ({"consent"} & data.keys()), "policy", strict)
    appeals = _table(data, "appeals")
    _keys(appeals, {"question_days", "reopen_days", "clocks"}, "appeals", strict)
    lookup = _table(data, "lookup")
    _keys(lookup, {"expiry_minutes"}, "lookup", strict)
    named = _severities(_table(data, "severity"), strict)
    policy = Policy(
        version=_integer(data, "version", 1, 2**31),
        severity=MappingProxyType({**_defaults(named), **named}),
        retention_days=_retention(_table(data, "retention_days")),
        tiers=_numbers(Tiers, _table(data, "tiers"), 1, 1_000_000, strict),
        weights=_weights(_table(data, "weights"), strict),
        intake=_numbers(IntakeRules, _table(data, "intake"), 0, 10_000, strict),
        lookup_expiry_minutes=_integer(lookup, "expiry_minutes", 1, 1440),
        erasure=_numbers(Erasure, _table(data, "erasure"), 0, MAX_RETENTION_DAYS, strict),
        appeals=Appeals(
            question_days=_integer(appeals, "question_days", 1, 20),
            reopen_days=_integer(appeals, "reopen_days", 1, 365),
            clocks=_clocks(_table(appeals, "clocks"), strict),
        ),
        reportable=frozenset(named),
        consent_for_lookups=_consent(_table(data, "consent"), strict) if "consent" in data else frozenset(),
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
            (policy.severity.get(conduct, 0) == 0) == (conduct.spec.severity == 0) for conduct in Conduct
        ),
        "A conduct that protects a person, such as impersonated, must be named: decisions rest on it.": all(
            conduct in policy.reportable for conduct in Conduct if conduct.spec.severity == 0
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


_CONDUCT_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def _severities(table: dict[str, Any], strict: bool) -> dict[str, int]:
    """Severity by the conducts that the text names."""
    if not table:
        raise PolicyInvalid("The table severity names no conduct.")
    if strict:
        _keys(table, set(table) & set(Conduct), "severity", strict)
    elif not all(_CONDUCT_CODE.match(name) for name in table):
        raise PolicyInvalid("A conduct's code has lower-case letters, digits and underscores.")
    return {name: _integer(table, name, 0, MAX_SEVERITY if strict else MAX_READ_SEVERITY) for name in table}


def _defaults(named: Mapping[str, int]) -> dict[str, int]:
    """Severity of the conducts that the text does not name: the default of each, or the next smaller one that the text
    has a retention for."""
    known = sorted(points for points in set(named.values()) if points)
    found = {}
    for conduct in Conduct:
        if conduct not in named and conduct.spec.severity:
            found[str(conduct)] = max((points for points in known if points <= conduct.spec.severity), default=0)
            found[str(conduct)] = found[str(conduct)] or min(known, default=0)
    return found


def _retention(table: dict[str, Any]) -> Mapping[int, int]:
    if not all(re.fullmatch(r"0|[1-9]\d?", key) for key in table):
        raise PolicyInvalid("retention_days maps a severity to a number of days.")
    return MappingProxyType({int(key): _integer(table, key, 2, MAX_RETENTION_DAYS) for key in table})


def _consent(table: dict[str, Any], strict: bool) -> frozenset[str]:
    """The profiles under which a lookup needs the person's consent. To be published, only those whose law asks for it;
    a reader keeps the profiles of later ledgers."""
    _keys(table, {"lookups"}, "consent", strict)
    named = table["lookups"]
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise PolicyInvalid("consent.lookups is a list of profiles such as CN.")
    asked = {str(profile) for profile in Profile if profile.spec.consent_for_lookups}
    if strict and not asked.issuperset(named):
        raise PolicyInvalid(f"consent.lookups names only profiles whose law asks for it: {', '.join(sorted(asked))}.")
    return frozenset(named)


def _weights(table: dict[str, Any], strict: bool) -> Weights:
    """The weights of either form: `floor_twentieths` (version 1) or `floor_eighths`."""
    steps, name = (TWENTIETHS, "floor_twentieths") if "floor_twentieths" in table else (EIGHTHS, "floor_eighths")
    _keys(table, {name, "prior_reports", "window_months"}, "weights", strict)
    return Weights(
        steps=steps,
        floor_steps=_integer(table, name, 1, steps),
        prior_reports=_integer(table, "prior_reports", 1, 1000),
        window_months=_integer(table, "window_months", 1, 1000),
    )


def _clocks(table: dict[str, Any], strict: bool) -> Mapping[str, AppealClock]:
    if strict:
        _keys(table, set(table) & set(Profile), "appeals.clocks", strict)
    clocks = {str(profile): profile.spec.clock for profile in Profile}
    for name in table:
        try:
            clocks[name] = _clock(table, name, strict)
        except PolicyInvalid:
            if strict or name in set(Profile):
                raise
            # A later ledger's profile, with a clock of a kind that this version does not count.
    return MappingProxyType(clocks)


def _clock(table: dict[str, Any], name: str, strict: bool) -> AppealClock:
    clock = _table(table, name)
    in_months = "months" in clock
    _keys(clock, {"months" if in_months else "days", "extension_days", "time_zone"}, name, strict)
    most_days, most_months, most_extension = _READ_CLOCK_DAYS, 12, _READ_CLOCK_DAYS
    if strict:
        limits = Profile(name).spec.limits
        most_days, most_months, most_extension = limits.days, limits.months, limits.extension_days
    if in_months and not most_months:
        raise PolicyInvalid(f"The statute of {name} counts days, not months.")
    zone = clock["time_zone"]
    if not isinstance(zone, str) or not _ZONE.match(zone):
        raise PolicyInvalid("A clock needs an IANA time zone such as Asia/Shanghai.")
    return AppealClock(
        days=0 if in_months else _integer(clock, "days", 1, most_days),
        months=_integer(clock, "months", 1, most_months) if in_months else 0,
        extension_days=_integer(clock, "extension_days", 0, most_extension),
        time_zone=zone,
    )


def _keys(table: dict[str, Any], wanted: set[str], name: str, strict: bool = True) -> None:
    """Raises PolicyInvalid for a missing name, and where it is `strict` for an unknown one too."""
    wrong = sorted({str(key) for key in (table.keys() ^ wanted if strict else wanted - table.keys())})
    if wrong:
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


def _numbers(cls: type[_T], table: dict[str, Any], least: int, most: int, strict: bool) -> _T:
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    _keys(table, set(names), cls.__name__.lower(), strict)
    return cls(**{name: _integer(table, name, least, most) for name in names})
