"""Who holds the key of a ledger: what `RefundLedger.key_holders` returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """One holder of the key. `organisation`, `operator` (whether that is the ledger's operator) and `url` are None
    where they are not stated."""

    id: str
    organisation: str | None
    operator: bool | None
    url: str | None


@dataclass(frozen=True, slots=True)
class KeyHolders:
    """The holders of the current key: any `threshold` of them evaluate an identifier together, fewer learn nothing.
    `generation` counts the sharings of the epoch's key. `fingerprint` is that of the statement which the holders
    signed, ten groups of digits to be compared with a holder by telephone; None where one holder has the whole key."""

    epoch: int
    generation: int
    threshold: int
    holders: tuple[KeyHolder, ...]
    fingerprint: str | None = None

    @property
    def single(self) -> bool:
        """True if one holder has the whole key, and so could compute the tag of any identifier on its own."""
        return len(self.holders) == 1
