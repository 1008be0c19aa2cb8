"""Publishing a policy: its text is stored and its entry appended in one transaction, at least 7 days before it is in
effect."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Engine

from ledger.rules.policy.timeline import PolicyTimeline, PublishedPolicy, check_publication, first_allowed
from ledger.server.db.engine import reading, writing
from ledger.server.log import policy_queries as store
from ledger.server.log.policies import read_timeline
from ledger.server.log.writer import GovernanceDraft, append, open_head
from ledger.tlog.entries import GovernanceType, policy_body


def publish_policy(engine: Engine, text: str, now: datetime, in_effect_at: datetime | None = None) -> PublishedPolicy:
    """Publish `text` as the next policy, in effect from `in_effect_at` on (by default the first UTC midnight that is
    allowed), and return its entry.

    Raises the errors of `check_publication`, LogFrozen, ConfigurationError before genesis, DatabaseUnavailable; then
    nothing is stored.
    """
    with writing(engine) as connection:
        head, recorded_at = open_head(connection, now)
        timeline = read_timeline(connection)
        moment = first_allowed(timeline, recorded_at) if in_effect_at is None else in_effect_at
        policy = check_publication(timeline, text, recorded_at, moment)
        digest = hashlib.sha256(text.encode()).digest()
        body = policy_body(version=policy.version, toml_sha256=digest, published_at=recorded_at, in_effect_at=moment)
        store.insert_text(connection, text)
        append(connection, head, [GovernanceDraft(GovernanceType.POLICY, body)], recorded_at)
    return PublishedPolicy(policy.version, digest, recorded_at.replace(microsecond=0), moment, head.size, text, policy)


def list_policies(engine: Engine) -> PolicyTimeline:
    """Return all published policies. Raises ConfigurationError before genesis, DatabaseUnavailable."""
    with reading(engine) as connection:
        return read_timeline(connection)
