"""What the participants of a ceremony have to agree on, in words and digits for people."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.protocol.encoding import b64url, canonical_json
from ledger.tlog.ceremony_files import Ceremony, DealFile


def describe(ceremony: Ceremony) -> str:
    """Return kind, epoch, generation, threshold and attempt of a ceremony in a few words."""
    return (
        f"{ceremony.kind.value}, epoch {ceremony.epoch}, generation {ceremony.generation}, {ceremony.threshold} of "
        f"{len(ceremony.receivers)}, attempt {ceremony.attempt}"
    )


def deals_digest(deals: Sequence[DealFile]) -> bytes:
    """Return the SHA-256 over all files of the first round, in the order of the participants: their fingerprint is the
    same for all who have the same files."""
    listed = [
        [deal.holder, b64url(sha256(canonical_json(dict(deal.members))).digest())]
        for deal in sorted(deals, key=lambda deal: deal.holder)
    ]
    return sha256(b"refund-ledger deals v1\n" + canonical_json(listed)).digest()


def difference(own: Ceremony, other: Ceremony) -> str:
    """Return, as part of a sentence, in what `other` differs from `own`."""
    if own.card != other.card:
        return "for another ledger"
    if own.kind is not other.kind:
        return f"of another kind ({other.kind.value})"
    if (own.epoch, own.generation) != (other.epoch, other.generation):
        return f"for another generation (epoch {other.epoch}, generation {other.generation})"
    if own.attempt != other.attempt:
        return f"of another attempt ({other.attempt})"
    if own.threshold != other.threshold:
        return f"with another threshold ({other.threshold})"
    for left, right in zip(own.participants, other.participants, strict=False):
        if left.holder != right.holder:
            break
        if left != right:
            return f"with another participant file of {left.holder}"
    if [item.holder for item in own.participants] != [item.holder for item in other.participants]:
        return f"with other participants ({', '.join(item.holder for item in other.participants)})"
    return "with other leaving holders" if own.leaving != other.leaving else "with another present sharing"
