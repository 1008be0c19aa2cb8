"""Refresh: new shares of the same key, by adding a sharing of zero. Pure.

Each holder i deals a polynomial z_i with z_i(0) = 0: its commitments begin with the one of x, because the commitment to
zero would be the identity. With z = sum of all z_i,

    k_j' = k_j + z(j),   K_j' = K_j + z(j) G,   K' = K

so the key and every tag stay, every share changes, and shares of the two generations are never combined: they are
values of different polynomials. The labels are this message's own, so that none of it is valid in another ceremony.
Holders of the present sharing that do not take part have no share of the new one; at least t take part.
"""

from __future__ import annotations

from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony.session import CeremonySession
from ledger.protocol.threshold import HolderKey, KeySet

FIRST = 1
"""The exponent of the first coefficient that is dealt."""


def refreshed_keys(session: CeremonySession, sums: tuple[bytes, ...]) -> KeySet:
    """Return the new sharing from the commitments to z.

    Raises IdentityPoint where a key or a change of one is the identity, HolderMismatch where two keys are equal.
    """
    holders = []
    for index, who in session.receivers:
        change = polynomials.commitment_at(sums, index, FIRST)
        key = polynomials.sum_of_points([session.previous.at(index).public_key, change])
        holders.append(HolderKey(index, who.holder, key))
    return KeySet(session.generation, session.threshold, session.previous.public_key, tuple(holders))


def refreshed_share(share: bytes, change: bytes) -> bytes:
    """Return k_j + z(j). Raises InvalidScalar for a value or a sum that is zero."""
    total = sodium.scalar_add(share, change)
    sodium.check_scalar(total)
    return total
