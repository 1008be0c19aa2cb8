"""Checks of the log's policies and snapshots for verifiers of the log: each change was published early enough, and each
snapshot was served only while its policy was in effect."""

from __future__ import annotations

from datetime import time

from ledger.errors import InvalidLeaf, LedgerError, PolicyTimeInvalid
from ledger.protocol.encoding import parse_time, unb64url
from ledger.rules.policy.timeline import PolicyTimeline, PublishedPolicy, published_entry
from ledger.rules.policy.values import check_in_effect
from ledger.snapshots.manifest import FORMAT
from ledger.tlog.entries import GovernanceType, Leaf


class PolicyAudit:
    """Checks the leaves of a log in their order. Governance entries of other sorts, and events, are passed over."""

    def __init__(self) -> None:
        self._published: list[PublishedPolicy] = []

    def see(self, leaf: Leaf) -> None:
        """Check the next leaf. Raises InvalidLeaf for a policy that is not the next version, is in effect too soon or
        not after the one before, or was not published in the hour of its entry; and for a snapshot of another policy
        than the one in effect until its end."""
        if leaf.type not in (GovernanceType.POLICY, GovernanceType.SNAPSHOT):
            return
        try:
            self._policy(leaf) if leaf.type == GovernanceType.POLICY else self._snapshot(leaf)
        except PolicyTimeInvalid as error:
            raise InvalidLeaf("The log publishes a policy less than 7 days ahead.", index=leaf.index) from error
        except InvalidLeaf:
            raise
        except (LedgerError, KeyError, TypeError) as error:
            raise InvalidLeaf("A policy or snapshot in the log is malformed.", index=leaf.index) from error

    def _policy(self, leaf: Leaf) -> None:
        new = published_entry(leaf, {})
        if new.published_at.replace(minute=0, second=0) != leaf.hour:
            raise InvalidLeaf("A policy in the log was not published when its entry says.", index=leaf.index)
        if self._published:
            before = self._published[-1]
            if new.version != before.version + 1 or new.in_effect_at <= before.in_effect_at:
                raise InvalidLeaf("A policy in the log does not follow the one before.", index=leaf.index)
            if new.in_effect_at.time() != time():
                raise InvalidLeaf("A policy in the log comes into effect at no midnight.", index=leaf.index)
            check_in_effect(new.published_at, new.in_effect_at)
        self._published.append(new)

    def _snapshot(self, leaf: Leaf) -> None:
        if not self._published:
            return
        body = dict(leaf.body or {})
        if type(body.get("v")) is int and body["v"] > FORMAT:  # of a later version: verified as an entry, not read
            return
        timeline, as_of, end = PolicyTimeline(self._published), parse_time(body["as_of"]), parse_time(body["not_after"])
        current, following = timeline.entry_at(as_of), timeline.next_after(as_of)
        if (body["policy"], unb64url(body["policy_sha256"], 32)) != (current.version, current.sha256):
            raise InvalidLeaf("A snapshot is of another policy than the one in effect.", index=leaf.index)
        if following is not None and end > following.in_effect_at:
            raise InvalidLeaf("A snapshot outlasts the policy that it is of.", index=leaf.index)
