"""The policy in effect as far as the SDK knows it, for checks of a report before it is sent.

`GET /v1/suite` names the policy in effect and those that are announced. A change is announced at least 7 days before
it is in effect, so an answer read at some moment names the policy of every moment in the following 7 days. Later, or
where this version cannot read the text, the policy is unknown and only the ledger itself checks by it.

A snapshot carries the policy that its standings are computed with (`ledger.client.snapshots.files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from ledger.client.identity.suite import NamedPolicy, Service
from ledger.errors import LedgerError, PolicyInvalid
from ledger.rules.policy.shipped import shipped_policy, shipped_texts
from ledger.rules.policy.timeline import KNOWN_AHEAD
from ledger.rules.policy.values import Policy, read_policy

REFRESH = timedelta(days=1)
"""After this time the service is asked again, before a report is made."""

RETRY = timedelta(hours=1)
"""How long after a question that was not answered the next one is asked."""

FetchText = Callable[[str], str]
"""The text of the policy of a version, as the ledger answers it. Raises a LedgerError."""


class Policies:
    """The policies that the service named last; those of the suite file before the first answer."""

    def __init__(self, pinned: Service) -> None:
        self._named = _named(pinned)
        self._parsed: dict[bytes, Policy | None] = {}
        self._read_at: datetime | None = None
        self._asked_at: datetime | None = None
        self._fetched_at: dict[bytes, datetime] = {}

    def take(self, served: Service, now: datetime) -> None:
        """Store the policies that the service names at `now`."""
        self._named, self._read_at, self._asked_at = _named(served), now, now

    def is_due(self, now: datetime) -> bool:
        """True if the service should be asked again. A True counts as a request: the next one is an hour later."""
        if self._read_at is None or _within(now, self._read_at, REFRESH) or _within(now, self._asked_at, RETRY):
            return False
        self._asked_at = now
        return True

    def at(self, now: datetime, fetch: FetchText | None) -> Policy | None:
        """Return the policy in effect at `now`, None where it is not known. `fetch` gets a text that did not come with
        the package, once an hour at most until it succeeds; with None, such a policy is known once it was fetched."""
        if self._read_at is not None and not _within(now, self._read_at, KNOWN_AHEAD):
            return None
        in_effect = [policy for policy in self._named if policy.in_effect_at is None or policy.in_effect_at <= now]
        return self._policy(in_effect[-1], now, fetch)

    def _policy(self, named: NamedPolicy, now: datetime, fetch: FetchText | None) -> Policy | None:
        digest = named.sha256
        if digest is None:  # a service of an earlier version, which had one policy only
            shipped = shipped_policy()[1]
            return shipped if named.version == str(shipped.version) else None
        if digest not in self._parsed:
            text = shipped_texts().get(digest)
            if text is None and fetch is not None:
                text = self._fetched(named.version, digest, now, fetch)
            if text is None:
                return None
            try:
                self._parsed[digest] = read_policy(text)
            except PolicyInvalid:
                self._parsed[digest] = None
        return self._parsed[digest]

    def _fetched(self, version: str, digest: bytes, now: datetime, fetch: FetchText) -> str | None:
        if _within(now, self._fetched_at.get(digest), RETRY):
            return None
        self._fetched_at[digest] = now
        try:
            text = fetch(version)
        except LedgerError:
            return None
        return text if hashlib.sha256(text.encode()).digest() == digest else None


def _named(service: Service) -> tuple[NamedPolicy, ...]:
    """Return the policy in effect and those announced, in the order in which they come into effect."""
    return (NamedPolicy(service.policy, service.policy_sha256, None), *service.next_policies)


def _within(now: datetime, then: datetime | None, span: timedelta) -> bool:
    """True if `then` is less than `span` before `now`. A clock that was set back does not count."""
    return then is not None and timedelta(0) <= now - then < span
