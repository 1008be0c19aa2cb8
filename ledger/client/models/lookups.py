"""Standings as typed values, and the ledger's answer to a lookup.

A tier that this version does not know is `unavailable`: never `clear`, and never a reason against the person.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, cast

import msgspec

from ledger.client.lookups.reasons import Reason as Reason
from ledger.client.lookups.reasons import explained, unexplained
from ledger.client.models.decoding import Code, Count, Label, Model, Number, decode
from ledger.client.models.pictures import PictureReuse
from ledger.errors import UnexpectedAnswer
from ledger.protocol.identifiers import Kind
from ledger.rules.reasons import Reason as KnownReason

Tier = Literal["clear", "watch", "review", "high", "unavailable"]
TIERS: tuple[Tier, ...] = ("clear", "watch", "review", "high")
"""The tiers a ledger answers, mildest first. `unavailable` is the SDK's own: no answer came in time."""

_REASONS = frozenset(KnownReason)
_KINDS: dict[str, Kind] = {kind.value: kind for kind in Kind}

UNKNOWN_TIER = "unknown_tier"
"""Why an answer with a tier that this version does not know is `unavailable`."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A buyer's standing in the ledger. Advice for a human step, never a reason to refuse by itself.

    When no answer came in time, `tier` is `unavailable`, `credit` and `id` are None, `guidance` is empty and
    `unavailable_because` says why: follow your normal process.
    """

    tier: Tier
    credit: int | None
    """0 to 100; 100 is a clean record."""
    points: float | None
    events: int
    reporters: int
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Reason, ...]
    guidance: tuple[str, ...]
    matched_kinds: tuple[Kind | str, ...]
    """Kinds of identifiers that matched; one that this version does not know is its text."""
    id: str | None = None
    policy: str | None = None
    as_of_index: int | None = None
    """Entries of the log that this answer has seen."""
    as_of: datetime | None = None
    expires_at: datetime | None = None
    unavailable_because: str | None = None
    """The code of what went wrong, when `tier` is `unavailable`; docs/sdk.md says what each means."""
    unavailable_status: int | None = None
    """The HTTP status that came in place of an answer, if one came."""
    request_id: str | None = None
    """The id of the request in the ledger's logs, for questions to its operator."""
    source: Literal["direct", "local_filter"] = "direct"
    """`local_filter`: no answer came in time, and the person was not in the local filter of `as_of`."""
    pictures: tuple[PictureReuse, ...] | None = None
    """One for each picture that was asked about with the lookup, in order; None if none was, or no answer came."""
    pictures_unavailable_because: str | None = None
    """The code of what went wrong when pictures were asked about and `pictures` is None."""

    @property
    def available(self) -> bool:
        """True if the ledger answered."""
        return self.tier != "unavailable"


def unavailable(because: str, status: int | None = None, request_id: str | None = None) -> Lookup:
    """Return the Lookup for an outage: its reason, and the HTTP status and the id of the request if there are any."""
    return Lookup(
        "unavailable", None, None, 0, 0, False, False, False, (), (), (),
        unavailable_because=because, unavailable_status=status, request_id=request_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """A buyer's standing as computed on this machine from a snapshot; the ledger does not learn who is checked.

    It may start a human step. Before an adverse decision, ask with a fresh `lookup`.
    """

    tier: Tier
    credit: int
    """0 to 100; 100 is a clean record."""
    points: float
    events: int
    reporters: int
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Reason, ...]
    guidance: tuple[str, ...]
    matched_kinds: tuple[Kind, ...]
    bounded: bool
    """Several identifiers are listed, and how their reporters confirm one another cannot be seen from here: a lookup
    may be stricter than this answer, never milder."""
    source: Literal["download", "private"]
    version: str
    """The snapshot's, base64url."""
    policy: str
    as_of_index: int
    """Entries of the log that the snapshot has seen."""
    as_of: datetime
    expires_at: datetime


class _LookupAnswer(Model, frozen=True):
    """The ledger's answer to a lookup."""

    tier: Code
    credit: Annotated[int, msgspec.Meta(ge=0, le=100)]
    points: Number
    events: Count
    reporters: Count
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Code, ...]
    guidance: tuple[str, ...]
    matched_kinds: tuple[str, ...]
    id: str
    policy: Label
    as_of_index: Count
    as_of: datetime
    expires_at: datetime


def parse_lookup(value: object) -> Lookup:
    """Return the Lookup in the service's answer. Raises UnexpectedAnswer.

    With a tier of a later version, it is `unavailable` because of `unknown_tier`, without credit, points and guidance.
    """
    answer = decode(value, _LookupAnswer)
    if answer.tier == "unavailable":
        raise UnexpectedAnswer("The ledger answered with a tier that only the SDK uses.")
    known = answer.tier in TIERS
    return Lookup(
        tier=cast(Tier, answer.tier) if known else "unavailable",
        credit=answer.credit if known else None,
        points=answer.points if known else None,
        events=answer.events,
        reporters=answer.reporters,
        disputed=answer.disputed,
        protected=answer.protected,
        has_statement=answer.has_statement,
        reasons=tuple([explained(code) if code in _REASONS else unexplained(code) for code in answer.reasons]),
        guidance=answer.guidance if known else (),
        matched_kinds=tuple([_KINDS.get(kind, kind) for kind in answer.matched_kinds]),
        id=answer.id,
        policy=str(answer.policy),
        as_of_index=answer.as_of_index,
        as_of=answer.as_of,
        expires_at=answer.expires_at,
        unavailable_because=None if known else UNKNOWN_TIER,
    )
