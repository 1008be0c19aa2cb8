"""Which pictures of a report can be found again, and what it takes to call two of them the same.

A PDQ hash has 256 bits (`ledger.evidence.pdq` makes it). Two pictures are taken for one when their hashes differ in at
most `MAX_DISTANCE` bits, the threshold that the hash's authors recommend.

Not every hash of a report is searched for (docs/decisions/0011-reused-pictures.md): one that says little about its
picture, or that the merchant's own photo has too, would meet people who did nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ledger.core.conduct import Conduct, Evidence, EvidenceType

HASH_BITS = 256
HASH_BYTES = 32
MAX_DISTANCE = 31
MIN_QUALITY = 50
"""Below it the picture is too flat for its hash to mean anything (0 to 100)."""

MIN_SET_BITS, MAX_SET_BITS = 112, 144
"""The hash cuts at the median, so half of its bits are set, but for ties. What is far from that was not made from a
picture with anything in it."""

MAX_SEARCHED = 8
"""Hashes that one search may carry."""

FORGED = frozenset({Conduct.AI_FABRICATED_IMAGE, Conduct.EDITED_IMAGE, Conduct.TAMPERED_VIDEO})
"""Conduct that says of the picture itself that it is false."""

COMMON_PEOPLE, COMMON_GROUPS = 5, 3
"""From how many unconnected people, and independent members, on a picture that nobody calls forged is taken for one
that anybody may have: a screenshot of a courier's page, a picture from the shop."""


@dataclass(frozen=True, slots=True)
class Use:
    """A counting report that a picture was used in: what bears on whether the picture is common. `tags` are those of
    its person."""

    conduct: Conduct
    control_group: str
    tags: Collection[bytes]


def distance(one: bytes, other: bytes) -> int:
    """In how many bits two hashes of 32 bytes differ."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def is_degenerate(pdq: bytes) -> bool:
    """Whether these 32 bytes cannot be the hash of a picture with anything in it."""
    return not MIN_SET_BITS <= int.from_bytes(pdq).bit_count() <= MAX_SET_BITS


def searchable(conduct: Conduct, evidence: Iterable[Evidence]) -> list[bytes]:
    """The hashes of a report that others may find, each once, in the order of its evidence.

    They are those of the claimant's own files (`original_file`) of sufficient quality, unless the report itself shows
    that the merchant's photo (`source_image`) has as good as the same hash: a picture that was only retouched, or the
    listing photo itself, would meet everybody who sends the listing photo for an honest reason. A protective report
    accuses nobody and is not searched.
    """
    if conduct is Conduct.IMPERSONATED:
        return []
    items = [(item.type, bytes.fromhex(item.pdq), item.pdq_quality) for item in evidence if item.pdq is not None]
    sources = [pdq for kind, pdq, _ in items if kind is EvidenceType.SOURCE_IMAGE]
    found: dict[bytes, None] = {}
    for kind, pdq, quality in items:
        if kind is not EvidenceType.ORIGINAL_FILE or quality is None or quality < MIN_QUALITY or is_degenerate(pdq):
            continue
        if all(distance(pdq, source) > MAX_DISTANCE for source in sources):
            found[pdq] = None
    return list(found)


def may_be_common(uses: Collection[Use]) -> bool:
    """Whether `is_common` could say yes, whoever the people are; looks at no tag."""
    if any(one.conduct in FORGED for one in uses):
        return False
    return len(uses) >= COMMON_PEOPLE and len({one.control_group for one in uses}) >= COMMON_GROUPS


def is_common(uses: Collection[Use]) -> bool:
    """Whether a picture with these uses is in so many hands that meeting it again says nothing about anybody.

    Time does not enter: what many unconnected people have, they have this year and next. A picture that one of the
    reports calls forged is never common, however many used it: that is what a ring with one template looks like.
    """
    return may_be_common(uses) and people(one.tags for one in uses) >= COMMON_PEOPLE


def people(tags: Iterable[Iterable[bytes]]) -> int:
    """How many people there are at most, of whom one is known by each of these sets of tags: sets that share a tag, or
    are connected by others that do, are of one."""
    parent: dict[bytes, bytes] = {}

    def root(one: bytes) -> bytes:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    for known in tags:
        first: bytes | None = None
        for one in known:
            parent.setdefault(one, one)
            first = root(one) if first is None else first
            parent[root(one)] = first
    return sum(parent[one] == one for one in parent)
