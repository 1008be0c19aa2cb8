"""The policy as a value: parsed from TOML, checked as a whole, never changed in place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ledger.core.conduct import Conduct
from ledger.errors import PolicyInvalid

NOTICE_DAYS = 7
"""A new policy takes effect at the earliest this many days after its publication."""

MAX_DAYS = 5 * 366
"""Nothing is kept longer than five years after the act (PRC Credit Reporting Industry Regulation, art. 16)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """See `policy.toml`, which explains each number. Points are integers in thousandths, weights in twentieths."""

    version: int
    severity: Mapping[Conduct, int]
    retention_days: Mapping[int, int]
    cooling_hours: int
    notice_ahead_minutes: int
    act_window_days: int
    erasure_after_days: int
    watch_total: int
    review_total: int
    review_second_group: int
    high_second_group: int
    watch_shown_at_most: int
    review_shown_at_most: int
    credit_half_points: int
    repeated_events: int
    weight_floor: int
    weight_prior: int
    weight_window_months: int
    answer_minutes: int

    def retention_of(self, conduct: Conduct) -> int:
        """Days from the act to expiry."""
        return self.retention_days[self.severity[conduct]]


_SECTIONS: dict[str, dict[str, str]] = {
    "report": {
        name: name for name in ("cooling_hours", "notice_ahead_minutes", "act_window_days", "erasure_after_days")
    },
    "tiers": {
        name: name
        for name in (
            "watch_total",
            "review_total",
            "review_second_group",
            "high_second_group",
            "watch_shown_at_most",
            "review_shown_at_most",
            "credit_half_points",
            "repeated_events",
        )
    },
    "weight": {"floor": "weight_floor", "prior": "weight_prior", "window_months": "weight_window_months"},
    "answer": {"minutes": "answer_minutes"},
}


def parse_policy(text: str) -> Policy:
    """The policy in TOML `text`. Raises PolicyInvalid for anything missing, unknown or out of order."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyInvalid("The policy is not valid TOML.") from error
    if data.keys() != {"version", "severity", "retention_days", *_SECTIONS}:
        raise PolicyInvalid("The policy has missing or unknown sections.")
    values: dict[str, Any] = {"version": _number(data["version"], "version", 1)}
    for section, names in _SECTIONS.items():
        given = _table(data[section], section)
        if given.keys() != names.keys():
            raise PolicyInvalid(f"Section {section} of the policy has missing or unknown values.")
        values |= {field: _number(given[name], name, 0) for name, field in names.items()}
    severity = _table(data["severity"], "severity")
    if severity.keys() != {conduct.value for conduct in Conduct}:
        raise PolicyInvalid("The policy must give every conduct a severity, and no other.")
    values["severity"] = MappingProxyType(
        {Conduct(name): _number(value, name, 0) for name, value in severity.items()}
    )
    retention = _table(data["retention_days"], "retention_days")
    if not all(name.isdecimal() for name in retention):
        raise PolicyInvalid("Retention is given by severity.")
    values["retention_days"] = MappingProxyType(
        {int(name): _number(days, "retention_days", 1) for name, days in retention.items()}
    )
    policy = Policy(**values)
    _check(policy)
    return policy


def _check(policy: Policy) -> None:
    if not set(policy.severity.values()) <= policy.retention_days.keys():
        raise PolicyInvalid("The policy must give every severity a retention.")
    if policy.severity[Conduct.IMPERSONATED] != 0:
        raise PolicyInvalid("`impersonated` protects a person and has severity 0.")
    if max(policy.retention_days.values()) + policy.erasure_after_days > MAX_DAYS:
        raise PolicyInvalid("Nothing may be kept longer than five years after the act.")
    if not 0 < policy.watch_total < policy.review_total <= policy.high_second_group * 2:
        raise PolicyInvalid("The tiers must rise.")
    if not 0 < policy.review_second_group <= policy.high_second_group:
        raise PolicyInvalid("The tiers must rise.")
    if not policy.watch_total <= policy.watch_shown_at_most <= policy.review_shown_at_most:
        raise PolicyInvalid("Shown points must rise with the tiers.")
    if not 0 <= policy.weight_floor <= 20 or policy.credit_half_points < 1 or policy.answer_minutes < 1:
        raise PolicyInvalid("A number of the policy is out of range.")


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PolicyInvalid(f"{name} must be a section of the policy.")
    return value


def _number(value: Any, name: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise PolicyInvalid(f"{name} must be a whole number of at least {least}.")
    return value
