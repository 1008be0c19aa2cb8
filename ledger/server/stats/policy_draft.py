"""Drafts of a policy for the simulator: the text of the policy in force, with numbers replaced by those of a form.

A form may change only the fields of this module. `parse_policy` checks a draft like any policy, so the simulator never
runs with a policy that breaks a promise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ledger.errors import PolicyInvalid
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import EIGHTHS, MAX_RETENTION_DAYS, MAX_SEVERITY, Policy, parse_policy


@dataclass(frozen=True, slots=True)
class Field:
    """A number of the policy that a form may change: `table` and `key` in the file, and the allowed range."""

    table: str
    key: str
    least: int
    most: int

    @property
    def name(self) -> str:
        """Return the field's name in a form."""
        return f"{self.table}.{self.key}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft of a policy: its text with the next version, and its differences from the policy in force, as (name of
    the field, number before, number in the draft)."""

    text: str
    policy: Policy
    changes: tuple[tuple[str, int | None, int | None], ...]


class DraftRefused(Exception):
    """Raised for numbers that make no valid draft. `problems` are (English text, its values) by the name of the field;
    the key "" holds a problem that concerns no single field."""

    def __init__(self, problems: Mapping[str, tuple[str, Mapping[str, int]]]) -> None:
        super().__init__("The draft was refused.")
        self.problems = problems


def _(text: str) -> str:
    """Return `text`; the call marks it for the catalogues."""
    return text


_TIERS = (
    "watch_total_millipoints", "review_total_millipoints", "review_second_group_millipoints",
    "high_second_group_millipoints", "watch_cap_hundredths", "review_cap_hundredths", "credit_half_points",
)  # fmt: skip
_FIELDS: tuple[Field, ...] = (
    *(Field("tiers", name, 1, 1_000_000) for name in _TIERS),
    *(Field("severity", conduct.value, 1, MAX_SEVERITY) for conduct in Conduct if conduct.spec.severity),
    *(Field("retention_days", str(severity), 2, MAX_RETENTION_DAYS) for severity in range(MAX_SEVERITY + 1)),
    Field("weights", "prior_reports", 1, 1000),
)

_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_NAMED = re.compile(r"^(\w+) = \d", re.M)
_LINE = re.compile(r"(\w+)( = )(\d+)(.*)", re.S)


def fields_of(policy: Policy) -> tuple[Field, ...]:
    """Return all fields that a form may change. The conduct `impersonated` protects a person and stays at severity 0;
    the unit of weights stays that of `policy`."""
    steps = policy.weights.steps
    return (*_FIELDS, Field("weights", _floor_key(policy), 1, steps))


def _floor_key(policy: Policy) -> str:
    return "floor_eighths" if policy.weights.steps == EIGHTHS else "floor_twentieths"


def values_of(policy: Policy) -> dict[str, int | None]:
    """Return the numbers of `policy` by the fields' names; None for the retention of a severity that the policy does
    not use, and for a conduct that it does not name."""
    tables: dict[str, Mapping[str, int]] = {
        "tiers": {key: getattr(policy.tiers, key) for key in _TIERS},
        "severity": {name: points for name, points in policy.severity.items() if name in policy.reportable},
        "retention_days": {str(severity): days for severity, days in policy.retention_days.items()},
        "weights": {
            "prior_reports": policy.weights.prior_reports,
            _floor_key(policy): policy.weights.floor_steps,
        },
    }
    return {field.name: tables[field.table].get(field.key) for field in fields_of(policy)}


def draft(text: str, policy: Policy, given: Mapping[str, str], version: int | None = None) -> Draft:
    """Return the draft that results from the policy in force (`text` and `policy`) and the form `given`, which maps
    names of fields to typed texts; a missing field keeps its number. `version` is the draft's version, by default the
    policy's own plus one.

    The retention of a severity that no conduct has is left out. Raises DraftRefused.
    """
    before, fields = values_of(policy), fields_of(policy)
    after, problems = _typed(fields, given, before)
    used = {0, *(after[field.name] for field in fields if field.table == "severity")}
    for field in fields:
        if field.table != "retention_days":
            continue
        if int(field.key) not in used:
            after[field.name] = None
            problems.pop(field.name, None)
        elif after[field.name] is None and field.name not in problems:
            problems[field.name] = (_("Severity %(severity)s needs its retention."), {"severity": int(field.key)})
    if problems:
        raise DraftRefused(problems)
    changed = _rewritten(text, policy.version + 1 if version is None else version, after)
    try:
        draft_policy = parse_policy(changed)
    except PolicyInvalid as error:
        raise DraftRefused({"": (str(error), {})}) from error
    changes = tuple((name, before[name], after[name]) for name in before if before[name] != after[name])
    return Draft(changed, draft_policy, changes)


def _typed(
    fields: Iterable[Field], given: Mapping[str, str], before: Mapping[str, int | None]
) -> tuple[dict[str, int | None], dict[str, tuple[str, Mapping[str, int]]]]:
    """Return the numbers by the fields' names, and the problems by the fields' names (see `DraftRefused`)."""
    after: dict[str, int | None] = {}
    problems: dict[str, tuple[str, Mapping[str, int]]] = {}
    for field in fields:
        typed = given.get(field.name)
        after[field.name] = before[field.name]
        if typed is None:
            continue
        typed = typed.strip()
        if not typed and (field.table == "retention_days" or before[field.name] is None):
            after[field.name] = None
        elif _NUMBER.match(typed) and field.least <= int(typed) <= field.most:
            after[field.name] = int(typed)
        else:
            limits = {"least": field.least, "most": field.most}
            problems[field.name] = (_("Give a whole number from %(least)s to %(most)s."), limits)
    return after, problems


def _rewritten(text: str, version: int, numbers: Mapping[str, int | None]) -> str:
    """Return the file with other numbers and its own comments. A conduct that the file does not name is added."""
    named = {match[1] for match in _NAMED.finditer(text)}
    table, lines = "", []
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            table = line.partition("]")[0][1:]
            lines.append(line)
            if table == "severity":
                lines += [
                    f"{conduct} = {points}\n"
                    for conduct in Conduct
                    if conduct not in named and (points := numbers.get(f"severity.{conduct}")) is not None
                ]
            if table == "retention_days":
                lines += [
                    f"{severity} = {days}\n"
                    for severity in range(MAX_SEVERITY + 1)
                    if (days := numbers[f"retention_days.{severity}"]) is not None
                ]
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            lines.append(line)
        elif table == "" and parts[1] == "version":
            lines.append(f"version = {version}{parts[4]}")
        elif table != "retention_days":
            number = numbers.get(f"{table}.{parts[1]}")
            lines.append(line if number is None else f"{parts[1]}{parts[2]}{number}{parts[4]}")
    return "".join(lines)
