"""The policy: every number that turns recorded events into a standing, as one checked, frozen value.

A policy is a TOML text (`texts/` has those shipped), versioned and logged. Its form is checked by msgspec. Some
promises are kept by this module and do not depend on the text: one control group alone never raises a person above
`watch`, cooling is at least 72 hours, no clock is longer than its statute, and nothing is kept beyond 5 years. A text
that breaks one of them is refused.

A text that is published is parsed by `parse_policy`, which refuses unknown names. Clients, snapshots and auditors read
policies of later versions: they use `read_policy`, which keeps what this version can use and ignores the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ledger.errors import PolicyInvalid, PolicyTimeInvalid
from ledger.protocol.encoding import DAY_SECONDS, unix_seconds
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
"""The largest severity that `read_policy` accepts: a later version may allow more than `MAX_SEVERITY`."""

_READ_CLOCK_DAYS = 3660
_READ_CLOCK_MONTHS = 12

TWENTIETHS, EIGHTHS = 20, 8
"""The two units of weights that a policy may have: `floor_twentieths` or `floor_eighths` names it."""

_Points = Annotated[int, Meta(ge=1, le=1_000_000)]
_Time = Annotated[int, Meta(ge=0, le=10_000)]
_KeptDays = Annotated[int, Meta(ge=0, le=MAX_RETENTION_DAYS)]
_Thousand = Annotated[int, Meta(ge=1, le=1000)]
_Code = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
_Severity = Annotated[int, Meta(ge=0, le=MAX_READ_SEVERITY)]
_SeverityName = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]?)\Z")]


@dataclass(frozen=True, slots=True)
class Tiers:
    """Thresholds in milli-points, caps of the shown points in hundredths of a point."""

    watch_total_millipoints: _Points
    review_total_millipoints: _Points
    review_second_group_millipoints: _Points
    high_second_group_millipoints: _Points
    watch_cap_hundredths: _Points
    review_cap_hundredths: _Points
    credit_half_points: _Points


@dataclass(frozen=True, slots=True)
class Weights:
    """The parameters by which a control group's weight follows from its resolved cases.

    A weight is rounded down to a multiple of 1/`steps` (TWENTIETHS or EIGHTHS) and is `floor_steps`/`steps` at least.
    """

    steps: int
    floor_steps: int
    prior_reports: int
    window_months: int

    @property
    def daily(self) -> bool:
        """True if weights are computed once a UTC day, from the cases decided before its midnight. Weights in
        twentieths (policy version 1) change with each decision."""
        return self.steps == EIGHTHS


@dataclass(frozen=True, slots=True)
class IntakeRules:
    """Waiting times and windows at intake."""

    cooling_hours: _Time
    clock_skew_minutes: _Time
    act_window_days: _Time


@dataclass(frozen=True, slots=True)
class Erasure:
    """Days until bodies and elements are erased: after the expiry, and at the latest after the act."""

    after_expiry_days: _KeptDays
    at_latest_days: _KeptDays


@dataclass(frozen=True, slots=True)
class AppealRules:
    """Clocks of the appeal procedure.

    `clocks` has every `Profile`, with the default of its jurisdiction where the policy names none, and the readable
    clocks of profiles that this version does not know.
    """

    question_days: int
    reopen_days: int
    clocks: Mapping[str, AppealClock]


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the policy: `severity` in points by conduct code, `retention_days` from the day of the act by
    severity.

    `reportable` are the conducts that the text names: no other may be reported while the policy is in effect.
    `severity` also has the conducts of this version that the text does not name, because the log may have reports of
    them under another policy: with their default, or the next smaller severity that the text has.

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
    appeals: AppealRules
    reportable: frozenset[str]
    consent_for_lookups: frozenset[str]

    def expiry_day(self, conduct: str, act_day: int, recorded_day: int | None = None) -> int:
        """Return the day (since the Unix epoch) at whose UTC midnight a report of an act on `act_day` expires.

        This is `recorded_day` if given, or an earlier day if this policy keeps such reports for less time.
        """
        day = act_day + self.retention_days[self.severity[conduct]]
        return day if recorded_day is None else min(day, recorded_day)


_T = TypeVar("_T")


class _Lookup(msgspec.Struct):
    expiry_minutes: Annotated[int, Meta(ge=1, le=1440)]


class _Weights(msgspec.Struct):
    prior_reports: _Thousand
    window_months: _Thousand


class _WeightsInEighths(_Weights):
    floor_eighths: Annotated[int, Meta(ge=1, le=EIGHTHS)]


class _WeightsInTwentieths(_Weights):
    floor_twentieths: Annotated[int, Meta(ge=1, le=TWENTIETHS)]


class _Clock(msgspec.Struct):
    extension_days: Annotated[int, Meta(ge=0, le=_READ_CLOCK_DAYS)]
    time_zone: Annotated[str, Meta(pattern=r"^[A-Za-z]+(?:/[A-Za-z_]+){1,2}\Z")]


class _ClockInDays(_Clock):
    days: Annotated[int, Meta(ge=1, le=_READ_CLOCK_DAYS)]


class _ClockInMonths(_Clock):
    months: Annotated[int, Meta(ge=1, le=_READ_CLOCK_MONTHS)]


class _Appeals(msgspec.Struct):
    question_days: Annotated[int, Meta(ge=1, le=20)]
    reopen_days: Annotated[int, Meta(ge=1, le=365)]
    clocks: dict[str, object]


class _Consent(msgspec.Struct):
    lookups: list[str]


class _Document(msgspec.Struct):
    """The text of a policy. Weights and clocks have two forms each and are converted one by one."""

    version: Annotated[int, Meta(ge=1, le=2**31)]
    severity: Annotated[dict[_Code, _Severity], Meta(min_length=1)]
    retention_days: dict[_SeverityName, Annotated[int, Meta(ge=2, le=MAX_RETENTION_DAYS)]]
    tiers: Tiers
    weights: dict[str, object]
    intake: IntakeRules
    lookup: _Lookup
    erasure: Erasure
    appeals: _Appeals
    consent: _Consent = msgspec.field(default_factory=lambda: _Consent([]))


def parse_policy(text: str) -> Policy:
    """Return the policy in TOML `text`, which is to be published or simulated.

    A profile of this version may be missing, and so may a conduct that protects no person. Raises PolicyInvalid for a
    missing or unknown name, a value out of range, or a broken promise.
    """
    return _policy(text, strict=True)


def read_policy(text: str) -> Policy:
    """Return the policy in TOML `text`, which a later version may have written.

    Keeps the severities of unknown conducts and the clocks of unknown profiles, and ignores unknown tables and members.
    Raises PolicyInvalid if a name that this version needs is missing, a value is out of range, or a promise is broken.
    """
    return _policy(text, strict=False)


def _policy(text: str, *, strict: bool) -> Policy:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid("The policy is not valid TOML.") from error
    document = _converted(data, _Document, "policy", strict)
    if strict:
        _check_names(document)
    policy = Policy(
        version=document.version,
        severity=MappingProxyType({**_defaults(document.severity), **document.severity}),
        retention_days=MappingProxyType({int(severity): days for severity, days in document.retention_days.items()}),
        tiers=document.tiers,
        weights=_weights(document.weights, strict),
        intake=document.intake,
        lookup_expiry_minutes=document.lookup.expiry_minutes,
        erasure=document.erasure,
        appeals=AppealRules(
            question_days=document.appeals.question_days,
            reopen_days=document.appeals.reopen_days,
            clocks=_clocks(document.appeals.clocks, strict),
        ),
        reportable=frozenset(document.severity),
        consent_for_lookups=frozenset(document.consent.lookups),
    )
    _check_promises(policy)
    return policy


def _converted(data: object, form: type[_T], name: str, strict: bool) -> _T:
    """Return `data` as `form`. Raises PolicyInvalid if it does not fit; if `strict`, for an unknown name too."""
    try:
        value = msgspec.convert(data, form)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`object`", "a table").replace("Object ", "A table is ")
        raise PolicyInvalid(f"The table {name} is malformed: {reason}.") from error
    if strict and (unknown := sorted(_unknown(data, msgspec.to_builtins(value)))):
        raise PolicyInvalid(f"The table {name} has unknown names: {', '.join(unknown)}.")
    return value


def _unknown(data: object, known: object) -> set[str]:
    """Return the names in the tables of `data` that `known`, the same tables as they were converted, does not have."""
    if not (isinstance(data, dict) and isinstance(known, dict)):
        return set()
    nested = (_unknown(value, known[name]) for name, value in data.items() if name in known)
    return (data.keys() - known.keys()).union(*nested)


def _check_names(document: _Document) -> None:
    """Raises PolicyInvalid for a conduct, a profile or a severity that this version does not have, and for a profile
    whose law does not ask for consent."""
    unknown = sorted((document.severity.keys() - set(Conduct)) | (document.appeals.clocks.keys() - set(Profile)))
    if unknown:
        raise PolicyInvalid(f"The policy has unknown conducts or profiles: {', '.join(unknown)}.")
    if max(document.severity.values()) > MAX_SEVERITY:
        raise PolicyInvalid(f"A severity is an integer from 0 to {MAX_SEVERITY}.")
    with_consent = {str(profile) for profile in Profile if profile.spec.consent_for_lookups}
    if not with_consent.issuperset(document.consent.lookups):
        names = ", ".join(sorted(with_consent))
        raise PolicyInvalid(f"consent.lookups names only profiles whose law asks for it: {names}.")


def _weights(table: dict[str, object], strict: bool) -> Weights:
    """Return the weights of either form: `floor_twentieths` (version 1) or `floor_eighths`."""
    if "floor_twentieths" in table:
        first = _converted(table, _WeightsInTwentieths, "weights", strict)
        return Weights(TWENTIETHS, first.floor_twentieths, first.prior_reports, first.window_months)
    weights = _converted(table, _WeightsInEighths, "weights", strict)
    return Weights(EIGHTHS, weights.floor_eighths, weights.prior_reports, weights.window_months)


def _clocks(table: dict[str, object], strict: bool) -> Mapping[str, AppealClock]:
    clocks = {str(profile): profile.spec.clock for profile in Profile}
    for name, value in table.items():
        try:
            clocks[name] = _clock(name, value, strict)
        except PolicyInvalid:
            if strict or name in set(Profile):
                raise
            # A later ledger's profile, with a clock of a type that this version cannot count.
    return MappingProxyType(clocks)


def _clock(name: str, value: object, strict: bool) -> AppealClock:
    if isinstance(value, dict) and "months" in value:
        counted = _converted(value, _ClockInMonths, name, strict)
        clock = AppealClock(0, counted.months, counted.extension_days, counted.time_zone)
    else:
        in_days = _converted(value, _ClockInDays, name, strict)
        clock = AppealClock(in_days.days, 0, in_days.extension_days, in_days.time_zone)
    if strict:
        limits = Profile(name).spec.limits
        if clock.months and not limits.months:
            raise PolicyInvalid(f"The statute of {name} counts days, not months.")
        for unit in ("days", "months", "extension_days"):
            if getattr(clock, unit) > getattr(limits, unit):
                raise PolicyInvalid(f"The statute of {name} allows at most {getattr(limits, unit)} {unit}.")
    return clock


def check_in_effect(published_at: datetime, in_effect_at: datetime) -> None:
    """Raises PolicyTimeInvalid if a change published at `published_at` would be in effect less than 7 days later.

    The first policy of a ledger replaces no other and is exempt: do not call this for it.
    """
    if in_effect_at - published_at < timedelta(days=MIN_PUBLICATION_DAYS):
        raise PolicyTimeInvalid(f"A policy is in effect {MIN_PUBLICATION_DAYS} days after publication at the earliest.")


def is_expired(expires_day: int, now: datetime) -> bool:
    """True if UTC midnight of `expires_day` has passed at `now`."""
    return unix_seconds(now) >= expires_day * DAY_SECONDS


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


def _defaults(named: Mapping[str, int]) -> dict[str, int]:
    """Return the severities of the conducts that the text does not name: the default of each, or the next smaller one
    that the text has a retention for."""
    known = sorted(points for points in set(named.values()) if points)
    defaults = {}
    for conduct in Conduct:
        if conduct not in named and conduct.spec.severity:
            smaller = [points for points in known if points <= conduct.spec.severity]
            defaults[str(conduct)] = max(smaller, default=min(known, default=0))
    return defaults
