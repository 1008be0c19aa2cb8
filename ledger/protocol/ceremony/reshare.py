"""Resharing: the same key for another set of holders or another threshold. Pure.

At least t holders of the present sharing deal. With lambda_i, the Lagrange coefficient of dealer i at exactly this set
of dealers, dealer i deals a polynomial of degree t' - 1 whose constant term is lambda_i k_i. Every participant checks
the commitment to it, lambda_i K_i, so that no dealer can change the key:

    k_j' = sum over dealers of f_i(j),   sum of lambda_i k_i = k,   K' = K

Dealers have their indexes of the present sharing and receivers those of the new one; a staying holder has both. All
participants certify. (Y. Desmedt and S. Jajodia, 1997; verifiable as in T. Wong, C. Wang and J. Wing, 2002.)
"""

from __future__ import annotations

from ledger.errors import InvalidInput
from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession
from ledger.protocol.threshold import HolderKey, KeySet, lagrange


def constant_term(session: CeremonySession, dealer: CeremonyParticipant, share: bytes) -> bytes:
    """Return lambda_i k_i, the secret that a dealer shares. Raises InvalidInput (no dealer), InvalidScalar."""
    return sodium.scalar_mul(_coefficient(session, dealer).to_bytes(sodium.SCALAR_BYTES, "little"), share)


def constant_commitment(session: CeremonySession, dealer: CeremonyParticipant) -> bytes:
    """Return lambda_i K_i, which the first commitment of a dealer must equal. Raises InvalidInput (no dealer)."""
    return sodium.sum_of_products([_coefficient(session, dealer)], [session.previous.at(dealer.dealer or 0).public_key])


def dealt_keys(session: CeremonySession, sums: tuple[bytes, ...]) -> KeySet:
    """Return the new sharing from the commitments to the sum of all dealt polynomials; `generate` uses it too.

    Raises IdentityPoint where a key is the identity, HolderMismatch where two are equal.
    """
    holders = [HolderKey(index, who.holder, polynomials.commitment_at(sums, index)) for index, who in session.receivers]
    return KeySet(session.generation, session.threshold, sums[0], tuple(holders))


def _coefficient(session: CeremonySession, dealer: CeremonyParticipant) -> int:
    coefficients = lagrange([who.dealer for who in session.dealers if who.dealer is not None])
    if dealer.dealer not in coefficients:
        raise InvalidInput("This participant deals nothing.")
    return coefficients[dealer.dealer]
