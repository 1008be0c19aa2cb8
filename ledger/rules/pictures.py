"""The pictures of a report that can be found again, and the rule by which two of them are the same.

A PDQ hash has 256 bits (`ledger.evidence.perceptual_hash.pdq` makes it). Two pictures are taken as equal when their
hashes differ in at most `MAX_DISTANCE` bits, the threshold that the hash's authors recommend.

Not every hash of a report is searched for (docs/decisions/0011-reused-pictures.md): one that says little about its
picture, or that the merchant's own photo has too, would meet people who did nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.rules.conduct import Conduct, Evidence, EvidenceType

HASH_BYTES = 32
MAX_DISTANCE = 31
MIN_QUALITY = 50
"""Below it the picture is too flat for its hash to mean anything (0 to 100)."""

MIN_SET_BITS, MAX_SET_BITS = 112, 144
"""The hash cuts at the median, so half of its bits are set, but for ties. What is far from that was not made from a
picture with anything in it."""

MAX_SEARCHED = 8
"""Hashes that one search may carry."""

FORGED = frozenset(conduct for conduct in Conduct if conduct.spec.forges_picture)
"""Conduct that says of the picture itself that it is false."""

COMMON_PEOPLE, COMMON_GROUPS = 5, 3
"""A picture that no report calls forged is common from this many unconnected people and independent members on: it is
probably a screenshot of a courier's page, or a picture of the shop."""


@dataclass(frozen=True, slots=True)
class Use:
    """A counting report that a picture was used in: what bears on whether the picture is common. `tags` are those of
    its person."""

    conduct: Conduct
    control_group: str
    tags: Collection[bytes]


def distance(first: bytes, second: bytes) -> int:
    """Return the number of bits in which two hashes of 32 bytes differ."""
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


def is_degenerate(pdq: bytes) -> bool:
    """True if these 32 bytes cannot be the hash of a picture with anything in it."""
    return not MIN_SET_BITS <= int.from_bytes(pdq).bit_count() <= MAX_SET_BITS


class Unsearched(StrEnum):
    """The reason why the hash of an item is not searchable."""

    PROTECTIVE = "protective"
    """The report accuses no person."""
    NOT_THE_CLAIMANTS = "not_the_claimants"
    """The item is no `original_file`: the picture is not what the claimant sent."""
    NO_QUALITY = "no_quality"
    LOW_QUALITY = "low_quality"
    FLAT = "flat"
    """Bits that no picture with anything in it gives."""
    MERCHANTS_PHOTO = "merchants_photo"
    """Nearly the hash of a `source_image` of the same report."""


def why_unsearched(conduct: Conduct, evidence: Sequence[Evidence]) -> list[Unsearched | None]:
    """Return for each item the first reason why its hash is not searched; None if it is, or if it has no hash.

    Searched are hashes of the claimant's own files of sufficient quality, unless the report itself shows that the
    merchant's photo has nearly the same hash: a picture that was only retouched, or the listing photo itself, would
    match every person who sends the listing photo for an honest reason. A protective report accuses no person.
    """
    sources = [
        bytes.fromhex(item.pdq) for item in evidence if item.type is EvidenceType.SOURCE_IMAGE and item.pdq is not None
    ]
    return [None if item.pdq is None else _why(conduct, item, bytes.fromhex(item.pdq), sources) for item in evidence]


def _why(conduct: Conduct, item: Evidence, pdq: bytes, sources: Sequence[bytes]) -> Unsearched | None:
    if conduct is Conduct.IMPERSONATED:
        return Unsearched.PROTECTIVE
    if item.type is not EvidenceType.ORIGINAL_FILE:
        return Unsearched.NOT_THE_CLAIMANTS
    if item.pdq_quality is None:
        return Unsearched.NO_QUALITY
    if item.pdq_quality < MIN_QUALITY:
        return Unsearched.LOW_QUALITY
    if is_degenerate(pdq):
        return Unsearched.FLAT
    if any(distance(pdq, source) <= MAX_DISTANCE for source in sources):
        return Unsearched.MERCHANTS_PHOTO
    return None


def searchable(conduct: Conduct, evidence: Sequence[Evidence]) -> list[bytes]:
    """Return the searchable hashes of a report (see `why_unsearched`), each once, in the order of its evidence."""
    reasons = zip(evidence, why_unsearched(conduct, evidence), strict=True)
    hashes = [bytes.fromhex(item.pdq) for item, reason in reasons if item.pdq is not None and reason is None]
    return list(dict.fromkeys(hashes))


def may_be_common(uses: Collection[Use]) -> bool:
    """True if `is_common` can be true for some people; tags are not compared."""
    if any(use.conduct in FORGED for use in uses):
        return False
    return len(uses) >= COMMON_PEOPLE and len({use.control_group for use in uses}) >= COMMON_GROUPS


def is_common(uses: Collection[Use]) -> bool:
    """True if the picture is common: many unrelated people used it, so a match is not evidence.

    The times of the uses do not matter. A picture that one of the reports calls forged is never common, however many
    people used it: it may be the template of a ring.
    """
    return may_be_common(uses) and people(use.tags for use in uses) >= COMMON_PEOPLE


def people(tags: Iterable[Iterable[bytes]]) -> int:
    """Return the largest possible number of people who are known by these sets of tags. Sets that share a tag, or are
    connected by others that do, are of one person."""
    parent: dict[bytes, bytes] = {}

    def root(tag: bytes) -> bytes:
        while parent[tag] != tag:
            parent[tag] = tag = parent[parent[tag]]
        return tag

    for known in tags:
        first: bytes | None = None
        for key in known:
            parent.setdefault(key, key)
            first = root(key) if first is None else first
            parent[root(key)] = first
    return sum(parent[tag] == tag for tag in parent)
