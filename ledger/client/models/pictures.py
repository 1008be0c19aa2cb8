"""Hashes of pictures, and how often pictures were used, as typed values."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.client.models.decoding import Count, Model, decode
from ledger.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class PictureHash:
    """A PDQ hash (64 hexadecimal digits) and its quality, as `ledger.evidence.perceptual_hash.pdq` makes them from a
    file."""

    pdq: str
    quality: int


@dataclass(frozen=True, slots=True)
class PictureReuse:
    """How often a picture, or one that looks the same, was used in confirmed reports. A reason to look closer, never
    one to refuse: it says nothing about the person who sends the picture now."""

    reports: Count
    """Counting reports of others; a refund that several members reported counts once."""
    platforms: Count
    """Independent members that made them."""
    own_reports: Count
    """Counting reports of your own control group, not among `reports`."""
    more: bool
    """There are more than the ledger counts at once."""
    common: bool
    """A picture that many unrelated people have, such as a courier's page: nothing is counted, and a hit would say
    nothing."""


class _Search(Model, frozen=True):
    results: tuple[PictureReuse, ...]


def parse_reuses(value: object, asked: int | None = None) -> tuple[PictureReuse, ...]:
    """Return the results of a search for pictures, of which there must be `asked` if given. Raises UnexpectedAnswer."""
    results = decode(value, _Search).results
    if asked is not None and len(results) != asked:
        raise UnexpectedAnswer("The ledger answered another number of pictures than were asked about.")
    return results
