"""Which policy is in effect when: the policies that the log publishes, in the order of their versions. Pure.

Every `policy` entry of the log says the version, the SHA-256 of the text, and from when on it is in effect. The list
only grows, and an entry is published at least MIN_PUBLICATION_DAYS before it is in effect (the first one of a ledger
excepted), so a list that was read at some moment names the policy in effect at every moment of the following 7 days.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol

from ledger.errors import (
    PolicyAlreadyPublished,
    PolicyInvalid,
    PolicyOvertaken,
    PolicyTimeInvalid,
    PolicyUnreadable,
    PolicyVersionNotNext,
)
from ledger.protocol.encoding import parse_time, unb64url
from ledger.rules.policy.values import MIN_PUBLICATION_DAYS, Policy, check_in_effect, parse_policy
from ledger.tlog.entries import Leaf, parse_leaf

MAX_PUBLICATION_DAYS = 92
"""A change is in effect this long after publication at the latest: as the next one has to be later still, a wrong
year would otherwise stop all changes until then."""

MAX_POLICY_BYTES = 64 * 1024
"""Size of a policy's text, in UTF-8, at most."""

KNOWN_AHEAD = timedelta(days=MIN_PUBLICATION_DAYS)
"""How long after it was read a timeline is complete: nothing published later is in effect before."""


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """A `policy` entry of the log with its text. `sha256` (32 bytes) pins the text, times are aware UTC.

    `text` is None where the text is not known here, `policy` is None where this program cannot read it.
    """

    version: int
    sha256: bytes
    published_at: datetime
    in_effect_at: datetime
    entry_index: int
    text: str | None
    policy: Policy | None


class PolicySource(Protocol):
    """What answers which policy is in effect: a timeline, or something that keeps one up to date."""

    @property
    def timeline(self) -> PolicyTimeline:
        """All policies that are known to be published."""

    def at(self, now: datetime) -> Policy:
        """Return the policy in effect at `now` (aware). Raises PolicyUnreadable."""


class PolicyTimeline:
    """The published policies of one ledger, oldest first; at least one."""

    __slots__ = ("published",)

    def __init__(self, published: Sequence[PublishedPolicy]) -> None:
        """Raises ValueError for an empty list."""
        if not published:
            raise ValueError("a ledger has at least one policy")
        self.published = tuple(published)

    @classmethod
    def of(cls, policy: Policy, text: str = "") -> PolicyTimeline:
        """Return a timeline of one policy that is in effect at all times: for programs that have no log."""
        always = datetime.min.replace(tzinfo=UTC)
        digest = hashlib.sha256(text.encode()).digest()
        return cls([PublishedPolicy(policy.version, digest, always, always, 0, text, policy)])

    def at(self, now: datetime) -> Policy:
        """Return the policy in effect at `now` (aware). Raises PolicyUnreadable when this program cannot read it."""
        return readable(self.entry_at(now))

    def entry_at(self, now: datetime) -> PublishedPolicy:
        """Return the entry of the policy in effect at `now` (aware); before the first one, the first."""
        for entry in reversed(self.published):
            if entry.in_effect_at <= now:
                return entry
        return self.published[0]

    def next_after(self, now: datetime) -> PublishedPolicy | None:
        """Return the entry that is in effect next after `now` (aware), or None when no change is announced."""
        return next(iter(self.announced(now)), None)

    def announced(self, now: datetime) -> list[PublishedPolicy]:
        """Return the entries that are not in effect yet at `now` (aware), in the order in which they will be."""
        current = self.entry_at(now)
        return [entry for entry in self.published if entry.in_effect_at > max(now, current.in_effect_at)]

    def find(self, version: int) -> PublishedPolicy | None:
        """Return the entry of this version."""
        return next((entry for entry in self.published if entry.version == version), None)

    @property
    def timeline(self) -> PolicyTimeline:
        """This timeline. It is therefore also a source, one that never changes."""
        return self

    @property
    def newest(self) -> PublishedPolicy:
        """The entry that was published last, in effect or not."""
        return self.published[-1]


def readable(entry: PublishedPolicy) -> Policy:
    """Return the parsed policy of `entry`. Raises PolicyUnreadable."""
    if entry.policy is None:
        why = "Its text is not in the database" if entry.text is None else "This version of the program cannot read it"
        raise PolicyUnreadable(
            f"Version {entry.version} of the policy is in effect. {why}: upgrade the program.",
            retry_after_seconds=60,
            version=entry.version,
        )
    return entry.policy


def published_policy(leaf: bytes, texts: dict[bytes, str]) -> PublishedPolicy:
    """Return the `policy` entry in the bytes of `leaf`; `texts` are by their SHA-256. Raises InvalidCanonicalForm,
    InvalidEncoding, InvalidTime."""
    return published_entry(parse_leaf(leaf), texts)


def published_entry(entry: Leaf, texts: dict[bytes, str]) -> PublishedPolicy:
    """Return the `policy` entry of a parsed leaf, as `published_policy`. Raises InvalidEncoding, InvalidTime, KeyError
    for a missing member."""
    body: dict[str, Any] = dict(entry.body or {})
    digest = unb64url(body["toml_sha256"], 32)
    text = texts.get(digest)
    return PublishedPolicy(
        version=body["version"],
        sha256=digest,
        published_at=parse_time(body["published_at"]),
        in_effect_at=parse_time(body["in_effect_at"]),
        entry_index=entry.index,
        text=text,
        policy=None if text is None else _read(text),
    )


def first_allowed(timeline: PolicyTimeline, published_at: datetime) -> datetime:
    """Return the first UTC midnight at which the next policy, published at `published_at` (aware), may come into
    effect."""
    after_newest = timeline.newest.in_effect_at + timedelta(seconds=1)
    earliest = max(published_at + timedelta(days=MIN_PUBLICATION_DAYS), after_newest).astimezone(UTC)
    midnight = datetime.combine(earliest.date(), time(), UTC)
    return midnight if midnight == earliest else midnight + timedelta(days=1)


def check_publication(timeline: PolicyTimeline, text: str, published_at: datetime, in_effect_at: datetime) -> Policy:
    """Return the policy in `text`, if it may be published at `published_at` (aware) as the newest of `timeline`, to be
    in effect from `in_effect_at` (aware) on.

    Changes come one after the other: the version is the newest one's plus 1, and a policy that is announced comes into
    effect before the next one does, so none that was announced is skipped. A policy names every conduct that the newest
    one names, because reports of it are recorded.

    Raises PolicyInvalid (the text breaks a rule), PolicyAlreadyPublished (this very text), PolicyVersionNotNext,
    PolicyTimeInvalid (no UTC midnight, less than 7 or more than 92 days ahead), PolicyOvertaken.
    """
    encoded = text.encode()
    if len(encoded) > MAX_POLICY_BYTES:
        raise PolicyInvalid(f"The text of a policy has at most {MAX_POLICY_BYTES} bytes.")
    digest, newest = hashlib.sha256(encoded).digest(), timeline.newest
    known = next((entry for entry in timeline.published if entry.sha256 == digest), None)
    if known is not None:
        raise PolicyAlreadyPublished(f"This text is published already, as version {known.version}.")
    policy = parse_policy(text)
    if policy.version != newest.version + 1:
        raise PolicyVersionNotNext(
            f"The newest policy is version {newest.version}; the next one has version {newest.version + 1}.",
            expected=newest.version + 1,
        )
    if newest.policy is not None and not newest.policy.severity.keys() <= policy.severity.keys():
        lacking = ", ".join(sorted(newest.policy.severity.keys() - policy.severity.keys()))
        raise PolicyInvalid(f"The policy lacks conducts that the one before names: {lacking}.")
    if in_effect_at.astimezone(UTC).time() != time():
        raise PolicyTimeInvalid("A policy comes into effect at midnight UTC, such as 2026-12-24T00:00:00Z.")
    check_in_effect(published_at, in_effect_at)
    if in_effect_at - published_at > timedelta(days=MAX_PUBLICATION_DAYS):
        raise PolicyTimeInvalid(f"A policy is in effect {MAX_PUBLICATION_DAYS} days after publication at the latest.")
    if in_effect_at <= newest.in_effect_at:
        raise PolicyOvertaken(
            f"Version {newest.version} comes into effect first. Choose a later midnight than that one's.",
            version=newest.version,
        )
    return policy


def _read(text: str) -> Policy | None:
    try:
        return parse_policy(text)
    except PolicyInvalid:
        return None
