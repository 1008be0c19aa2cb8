"""What the appender is asked to do: commands already checked as far as they can be without the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.rules.policy.values import Profile
from ledger.rules.reports import Intake, ReportBody
from ledger.tlog.entries import WithdrawalReason


@dataclass(frozen=True, slots=True)
class PreparedSubject:
    """A subject whose commitment was checked: blinded element, commitment salt, and the tag lookups will use."""

    kind: str
    element: bytes
    salt: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, and under which idempotency key. `request_mac` is 32 bytes over the whole request."""

    platform: str
    control_group: str
    key: str
    request_mac: bytes


@dataclass(frozen=True, slots=True)
class SubmitReport:
    """Record a report. `signed` is the body as the platform signed it, `replaces` and `links` are decoded ids.

    `converted` has the subjects' elements under other key epochs, as far as they were converted beforehand. `intake`
    follows from the policy of version `policy` and the platform's `profile`.
    """

    asked: Asked
    body: ReportBody
    signed: Mapping[str, Any]
    signature: bytes
    intake: Intake
    profile: Profile
    policy: int
    subjects: tuple[PreparedSubject, ...]
    replaces: int | None
    links: tuple[int, ...]
    converted: Mapping[int, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WithdrawReport:
    """Take a report back."""

    asked: Asked
    report_id: int
    reason: WithdrawalReason


@dataclass(frozen=True, slots=True)
class RestituteReport:
    """The buyer paid the full amount back."""

    asked: Asked
    report_id: int
    received_at: datetime
    amount_minor: int
    currency: str


Command = SubmitReport | WithdrawReport | RestituteReport


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a command: HTTP status, JSON text, and whether it was remembered from before."""

    status: int
    body: str
    replayed: bool
