"""Rotation: a refresh, and then one factor rho for the key and all shares. Pure.

    k_j' = rho (k_j + z(j)),   K_j' = rho (K_j + z(j) G),   K' = rho K,   T' = rho T,   rho = product of all rho_i

No holder chooses rho: in round 1 each holder commits to its rho_i, in round 2 it opens the commitment.

    round 1   SHA-512(label || "factor" || context || number || rho_i || opening)   64 bytes
              SHA-512(label || "key" || context || number || reveal key)            64 bytes
              the dealing of a refresh; each receiver's payload is the reveal key, 32 bytes
    round 2   the session, after its length in 4 bytes
              rho_i || opening, encrypted under the reveal key: one ciphertext for all participants
              E || rho_i || opening, encrypted to the ledger's receiving key
              the commitments to all factors

Participants certify round 1 only with the right reveal keys, and a reveal key is used for one ciphertext. So what
opens for one participant opens for all, and none can show its rho_i to a part of them. A holder that sees the other
factors first can refuse to open its own, so that the ceremony fails, but it cannot choose rho. The ledger needs rho
for recorded elements, and gets no share of a key.

The log carries a proof that the writer knew rho with K' = rho K (Schnorr's, made non-interactive):

    t = r K,  c = hash(label || len(context) || context || K || K' || t),  s = r + c rho,  proof c || s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha512

from ledger.errors import (
    CeremonyFault,
    InvalidCiphertext,
    InvalidEncoding,
    InvalidInput,
    InvalidPoint,
    InvalidProof,
    InvalidScalar,
    LedgerError,
)
from ledger.protocol import sodium
from ledger.protocol.ceremony.ciphersuite import CeremonySuite
from ledger.protocol.ceremony.envelope import (
    CERTIFIED_BYTES,
    ROUND_CERTIFY,
    Reader,
    fault,
    open_message,
    sender_of,
    unverified_body,
)
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.session import CeremonyParticipant, CeremonySession
from ledger.protocol.threshold import HolderKey, KeySet

COMMITMENT_BYTES = 64
OPENING_BYTES = 32
REVEAL_KEY_BYTES = sodium.AEAD_KEY_BYTES
PROOF_BYTES = 64
NONCE_BYTES = 64
ENTROPY_BYTES = 2 * sodium.UNIFORM_BYTES + OPENING_BYTES + REVEAL_KEY_BYTES

_LABEL = b"RefundLedgerFactor-v1-"
_LEDGER = CeremonySuite.of("RefundLedgerFactorForLedger-v1")
_MULTIPLE_LABEL = b"RefundLedgerMultiple-v1"
_MULTIPLE_NONCE_LABEL = b"RefundLedgerMultipleNonce-v1"
_OPENED_BYTES = sodium.SCALAR_BYTES + OPENING_BYTES
_BOX_BYTES = _OPENED_BYTES + sodium.AEAD_TAG_BYTES
_ONE = (1).to_bytes(sodium.SCALAR_BYTES, "little")
_BOX_NONCE = bytes(sodium.AEAD_NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class FactorSecrets:
    """What a holder keeps between the rounds: rho_i, its opening, the reveal key, and an ephemeral secret."""

    factor: bytes = field(repr=False)
    opening: bytes = field(repr=False)
    reveal_key: bytes = field(repr=False)
    ephemeral: bytes = field(repr=False)

    @classmethod
    def of(cls, entropy: bytes) -> FactorSecrets:
        """Return the secrets made of 192 random bytes. Raises InvalidInput for another length."""
        if len(entropy) != ENTROPY_BYTES:
            raise InvalidInput(f"A factor takes {ENTROPY_BYTES} random bytes.")
        reader = Reader(entropy)
        factor, ephemeral = (sodium.scalar_reduce(reader.take(sodium.UNIFORM_BYTES)) for _ in range(2))
        return cls(factor, reader.take(OPENING_BYTES), reader.take(REVEAL_KEY_BYTES), ephemeral)

    def commitments(self, session: CeremonySession, number: int) -> bytes:
        """Return the two commitments of round 1, 128 bytes."""
        factor = commitment(session, number, b"factor", self.factor + self.opening)
        return factor + commitment(session, number, b"key", self.reveal_key)

    def reveal(self, session: CeremonySession, number: int, secret: bytes, commitments: Sequence[bytes]) -> bytes:
        """Return what a certificate carries; `secret` is the static one, `commitments` are those to all factors.

        Raises InvalidScalar; InvalidInput if the session has no receiving key.
        """
        if session.receiving_key is None:
            raise InvalidInput("This ceremony has no factor.")
        opened = self.factor + self.opening
        box = sodium.aead_encrypt(self.reveal_key, _BOX_NONCE, opened, _associated(session, number))
        sealed = _LEDGER.encrypt(self.ephemeral, secret, session.receiving_key, session.context, opened)
        described = session.encode()
        ephemeral = sodium.scalarmult_base(self.ephemeral)
        return b"".join([len(described).to_bytes(4, "big"), described, box, ephemeral, sealed, *commitments])


@dataclass(frozen=True, slots=True)
class Factor:
    """rho, as the ledger gets it from the certificates, with the session that it belongs to and K' = rho K."""

    session: CeremonySession
    factor: bytes = field(repr=False)
    public_key: bytes


def commitment(session: CeremonySession, number: int, kind: bytes, value: bytes) -> bytes:
    """Return the commitment of participant `number` to a secret of round 1, 64 bytes."""
    return sha512(_LABEL + kind + _associated(session, number) + value).digest()


def open_reveal(
    session: CeremonySession, who: CeremonyParticipant, reveal: bytes, reveal_key: bytes, commitments: Sequence[bytes]
) -> bytes:
    """Return rho_i from the reveal of `who`, as a participant; `commitments` are those that all certified, in the
    order of the participants. Raises CeremonyFault."""
    try:
        box, _, _, copied = _parts(reveal, len(session.participants))
        opened = sodium.aead_decrypt(reveal_key, _BOX_NONCE, box, _associated(session, who.number))
    except (InvalidEncoding, InvalidCiphertext) as error:
        raise fault(who, "factor", f"The factor of {who.holder} does not open.") from error
    if tuple(copied) != tuple(commitments):
        raise fault(who, "factor", "A participant's certificate has other commitments.")
    return _committed(session, who, opened, commitments)


def open_factor(certificates: Sequence[bytes], secret: bytes) -> Factor:
    """Return rho, as the ledger: from the certificates of all participants, with the secret of its receiving key.

    The caller compares the session with its log (service, environment, log key, epoch, and `old` with the present
    sharing), and K' with the statement that all holders signed. Raises CeremonyFault naming a participant whose
    certificate is missing, false or does not open, CeremonyMismatch for one of another session than the first;
    InvalidInput for another secret, kind or number of certificates.
    """
    if not certificates:
        raise InvalidInput("A rotation has a certificate of each participant.")
    try:
        session = CeremonySession.decode(Reader(unverified_body(certificates[0])[CERTIFIED_BYTES:]).take_framed())
        open_message(session, ROUND_CERTIFY, session.at(sender_of(certificates[0])), certificates[0])
    except LedgerError as error:
        sender = sender_of(certificates[0])
        raise CeremonyFault("A certificate was altered.", participant=sender, reason="malformed") from error
    if session.kind is not CeremonyKind.ROTATE or sodium.scalarmult_base(secret) != session.receiving_key:
        raise InvalidInput("These certificates are not for this receiving key.")
    if len(certificates) > len(session.participants):
        raise InvalidInput("There are more certificates than participants.")
    by_number = {sender_of(certificate): certificate for certificate in certificates}
    factors: list[bytes] = []
    agreed: tuple[bytes, ...] = ()
    for who in session.participants:
        if who.number not in by_number:
            raise fault(who, "missing", f"The certificate of {who.holder} is missing.")
        body = open_message(session, ROUND_CERTIFY, who, by_number[who.number])
        try:
            _, ephemeral, sealed, commitments = _parts(body[CERTIFIED_BYTES:], len(session.participants))
            opened = _LEDGER.decrypt(secret, ephemeral, who.key, session.context, sealed)
        except (InvalidEncoding, InvalidCiphertext, InvalidPoint) as error:
            raise fault(who, "factor", "A participant's factor does not open.") from error
        agreed = agreed or commitments
        if commitments != agreed:
            raise fault(who, "factor", "A participant's certificate has other commitments.")
        factors.append(_committed(session, who, opened, commitments))
    factor = product(factors)
    return Factor(session, factor, sodium.scalarmult(factor, session.previous.public_key))


def product(factors: Sequence[bytes]) -> bytes:
    """Return rho. Raises CeremonyFault, which names none, if it is 1; InvalidScalar for a factor that is zero."""
    total = _ONE
    for factor in factors:
        total = sodium.scalar_mul(total, factor)
    sodium.check_scalar(total)
    if total == _ONE:
        raise CeremonyFault("The factors of a rotation cancel out.", participant=None, reason="factor")
    return total


def rotated_keys(keys: KeySet, factor: bytes) -> KeySet:
    """Return the sharing of rho K from a refreshed one, computed from public data. Raises InvalidScalar,
    HolderMismatch."""
    publics = sodium.scalarmult_many(factor, [keys.public_key, *[holder.public_key for holder in keys.holders]])
    holders = [
        HolderKey(holder.index, holder.holder, key) for holder, key in zip(keys.holders, publics[1:], strict=True)
    ]
    return KeySet(keys.generation, keys.threshold, publics[0], tuple(holders))


def prove_multiple(factor: bytes, old_key: bytes, new_key: bytes, context: bytes, nonce: bytes) -> bytes:
    """Return the proof (64 bytes) that K' = rho K for a known rho. `nonce` is 64 fresh random bytes; the proof's scalar
    r is hashed from it, the factor and the statement, so that a repeated nonce reveals nothing.

    `context` names what the proof is for. Raises InvalidInput (nonce length, or another multiple), InvalidScalar,
    InvalidPoint, IdentityPoint.
    """
    if len(nonce) != NONCE_BYTES:
        raise InvalidInput(f"A proof nonce must have {NONCE_BYTES} bytes.")
    if sodium.scalarmult(factor, old_key) != new_key:
        raise InvalidInput("The factor does not lead from the old public key to the new one.")
    statement = len(context).to_bytes(8, "big") + context + old_key + new_key
    r = sodium.scalar_reduce(sha512(_MULTIPLE_NONCE_LABEL + factor + nonce + statement).digest())
    challenge = _multiple_challenge(statement, sodium.scalarmult(r, old_key))
    return challenge + sodium.scalar_add(r, sodium.scalar_mul(challenge, factor))


def verify_multiple(old_key: bytes, new_key: bytes, context: bytes, proof: bytes) -> None:
    """Check that the writer of `proof` knew rho with K' = rho K, and that K' is not K. Raises InvalidProof for every
    fault."""
    statement = len(context).to_bytes(8, "big") + context + old_key + new_key
    challenge, response = proof[:32], proof[32:]
    try:
        answered = sodium.sub(sodium.scalarmult(response, old_key), sodium.scalarmult(challenge, new_key))
        proven = len(proof) == PROOF_BYTES and _multiple_challenge(statement, answered) == challenge
    except (InvalidPoint, InvalidScalar) as error:
        raise InvalidProof("The proof that a key is a known multiple of another is malformed.") from error
    if not proven or old_key == new_key:
        raise InvalidProof("The proof that a key is a known multiple of another is false.")


def _associated(session: CeremonySession, number: int) -> bytes:
    return session.context + bytes([number])


def _committed(
    session: CeremonySession, who: CeremonyParticipant, opened: bytes, commitments: Sequence[bytes]
) -> bytes:
    factor = opened[: sodium.SCALAR_BYTES]
    place = session.participants.index(who)
    if commitment(session, who.number, b"factor", opened) != commitments[place] or not sodium.is_canonical_scalar(
        factor
    ):
        raise fault(who, "factor", "A participant's factor is not the one that it committed to.")
    return factor


def _parts(reveal: bytes, participants: int) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    reader = Reader(reveal)
    reader.take_framed()
    box, ephemeral, sealed = reader.take(_BOX_BYTES), reader.take(sodium.POINT_BYTES), reader.take(_BOX_BYTES)
    commitments = reader.take_each(participants, COMMITMENT_BYTES)
    reader.end()
    return box, ephemeral, sealed, commitments


def _multiple_challenge(statement: bytes, answered: bytes) -> bytes:
    return sodium.scalar_reduce(sha512(_MULTIPLE_LABEL + statement + answered).digest())
