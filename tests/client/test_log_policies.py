"""An auditor finds a policy that was published too late, and a snapshot of another policy than the one in effect."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.client.verify.policies import PolicyAudit
from ledger.errors import InvalidLeaf
from ledger.protocol.encoding import b64url, format_time
from ledger.tlog.entries import GovernanceType, governance_leaf, parse_leaf, policy_body

BEGIN = datetime(2026, 3, 1, 10, 30, 15, tzinfo=UTC)
PUBLISHED = datetime(2026, 3, 5, 9, 15, tzinfo=UTC)
MOMENT = datetime(2026, 3, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)


def digest(version: int) -> bytes:
    return hashlib.sha256(b"policy %d" % version).digest()


def policy(version: int, published_at: datetime, in_effect_at: datetime, hour: datetime | None = None) -> bytes:
    body = policy_body(
        version=version, toml_sha256=digest(version), published_at=published_at, in_effect_at=in_effect_at
    )
    at = (hour or published_at).replace(minute=0, second=0)
    return governance_leaf(version, GovernanceType.POLICY, at, body)


def snapshot(version: int, as_of: datetime, not_after: datetime, **changes: Any) -> bytes:
    """As far as the audit reads it: a manifest has more members."""
    body: dict[str, Any] = {
        "policy": version,
        "policy_sha256": b64url(digest(version)),
        "as_of": format_time(as_of),
        "not_after": format_time(not_after),
        **changes,
    }
    return governance_leaf(9, GovernanceType.SNAPSHOT, as_of.replace(minute=0, second=0), body)


FIRST, SECOND = policy(1, BEGIN, BEGIN), policy(2, PUBLISHED, MOMENT)


def audit(*leaves: bytes) -> None:
    seen = PolicyAudit()
    for leaf in leaves:
        seen.see(parse_leaf(leaf))


def test_what_the_rules_allow() -> None:
    audit(
        FIRST,
        snapshot(1, BEGIN + HOUR, BEGIN + 25 * HOUR),
        SECOND,
        snapshot(1, MOMENT - 3 * HOUR, MOMENT),
        snapshot(2, MOMENT, MOMENT + 24 * HOUR),
        policy(3, PUBLISHED + 7 * HOUR, MOMENT + 24 * HOUR),
    )
    audit(snapshot(7, BEGIN, BEGIN + HOUR))  # of a log that was read from the middle on, nothing is known


@pytest.mark.parametrize(
    ("leaves", "says"),
    [
        ((FIRST, policy(2, PUBLISHED, PUBLISHED.replace(hour=0, minute=0) + timedelta(days=7))), "less than 7 days"),
        ((FIRST, policy(2, PUBLISHED, MOMENT + HOUR)), "no midnight"),
        ((FIRST, policy(3, PUBLISHED, MOMENT)), "does not follow"),
        ((FIRST, policy(1, PUBLISHED, MOMENT)), "does not follow"),
        ((FIRST, SECOND, policy(3, PUBLISHED, MOMENT)), "does not follow"),
        ((FIRST, policy(2, PUBLISHED, MOMENT, hour=PUBLISHED + timedelta(days=6))), "when its entry says"),
        ((FIRST, SECOND, snapshot(2, MOMENT - HOUR, MOMENT)), "another policy"),
        ((FIRST, SECOND, snapshot(1, MOMENT, MOMENT + HOUR)), "another policy"),
        ((FIRST, snapshot(1, BEGIN, BEGIN + HOUR, policy_sha256=b64url(digest(5)))), "another policy"),
        ((FIRST, SECOND, snapshot(1, MOMENT - HOUR, MOMENT + HOUR)), "outlasts"),
        ((FIRST, snapshot(1, BEGIN, BEGIN + HOUR, policy_sha256="short")), "malformed"),
        ((governance_leaf(0, GovernanceType.POLICY, MOMENT, {"version": 1}),), "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_breaks_a_rule_is_found(leaves: tuple[bytes, ...], says: str) -> None:
    audit(*leaves[:-1])
    with pytest.raises(InvalidLeaf, match=says):
        audit(*leaves)
