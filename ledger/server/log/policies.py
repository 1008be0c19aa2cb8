"""The policies that the ledger's log publishes, and the one in effect."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, Engine

from ledger.errors import ConfigurationError
from ledger.rules.policy.shipped import shipped_texts
from ledger.rules.policy.timeline import PolicyTimeline, PublishedPolicy, published_policy
from ledger.rules.policy.values import Policy
from ledger.server.db.engine import read_again
from ledger.server.log import policy_queries as store
from ledger.server.process.supervision import Worker
from ledger.tlog.entries import GovernanceType

REFRESH_SECONDS = 2.0
"""How often a process reads newly published policies. It has 7 days before a new one is in effect."""

PATIENCE_SECONDS = 3600.0
"""How long reading may fail before the process reports it: the policies in memory stay correct for 7 days."""

log = logging.getLogger(__name__)


def read_timeline(connection: Connection) -> PolicyTimeline:
    """Return all published policies with their texts, which are read from the database or from the package. Raises
    ConfigurationError before genesis."""
    published = _published(connection, after=-1)
    if not published:
        raise ConfigurationError("The ledger has no log yet. Run `refund-ledger keys init` first.")
    return PolicyTimeline(published)


def logged_policy(connection: Connection, now: datetime) -> tuple[str, Policy]:
    """Return text and parsed form of the policy in effect at `now`. Raises ConfigurationError before genesis,
    PolicyUnreadable when its text is missing or has a form that this program does not support."""
    timeline = read_timeline(connection)
    policy = timeline.at(now)
    return timeline.entry_at(now).text or "", policy


class PolicyFollower:
    """The policy timeline of a running process, kept up to date by a background thread. Reading takes no lock."""

    def __init__(self, engine: Engine) -> None:
        """Read the timeline once. Raises ConfigurationError, DatabaseUnavailable."""
        self._engine = engine
        self._refreshing = threading.Lock()
        self._timeline = read_again(engine, read_timeline)
        self._warn(self._timeline.published)
        self.worker = Worker(
            "policies",
            lambda: self.refresh(),
            seconds=REFRESH_SECONDS,
            delay_seconds=REFRESH_SECONDS,
            patience_seconds=PATIENCE_SECONDS,
        )

    def start(self) -> PolicyFollower:
        """Start reading new policies in the background. Returns at once."""
        self.worker.start()
        return self

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop reading."""
        self.worker.close(timeout_seconds)

    @property
    def timeline(self) -> PolicyTimeline:
        """Return all policies that were published at the last refresh."""
        return self._timeline

    def at(self, now: datetime) -> Policy:
        """Return the policy in effect at `now` (aware). Raises PolicyUnreadable."""
        return self._timeline.at(now)

    def refresh(self) -> None:
        """Read the policies published since the last refresh. Raises DatabaseUnavailable; the timeline then stays
        unchanged."""
        last = self._timeline.newest.entry_index
        published = read_again(self._engine, lambda connection: _published(connection, after=last))
        with self._refreshing:
            # A concurrent refresh may have read the same policies.
            last = self._timeline.newest.entry_index
            new = [policy for policy in published if policy.entry_index > last]
            if new:
                self._timeline = PolicyTimeline((*self._timeline.published, *new))
        self._warn(new)

    def _warn(self, published: Sequence[PublishedPolicy]) -> None:
        for policy in published:
            if policy.policy is None:
                extra = {"version": policy.version, "in_effect_at": policy.in_effect_at.isoformat()}
                log.warning("policy_unreadable %d", policy.version, extra=extra)


def _published(connection: Connection, after: int) -> list[PublishedPolicy]:
    leaves = store.policy_leaves(connection, GovernanceType.POLICY, after)
    if not leaves:
        return []
    stored = {digest: row.text for digest, row in store.texts(connection).items()}
    # A text that was altered in the database is not the one that the log pins: it counts as missing.
    texts = shipped_texts() | {key: text for key, text in stored.items() if sha256(text.encode()).digest() == key}
    return [published_policy(leaf, texts) for leaf in leaves]
