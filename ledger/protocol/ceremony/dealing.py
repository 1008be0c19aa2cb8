"""One dealer's message: commitments to its polynomial, proofs of possession, and an encrypted share for each receiver,
in the format of msg_1 of cocktail-dkg v0.2.1. Pure.

    C_first .. C_(t-1) || proofs || E || for each receiver: length of the ciphertext (8 bytes, big-endian) || ciphertext

`first` is the exponent of the first commitment: 0, or 1 for a sharing of zero, whose constant commitment would be the
identity and is left out. With 0 there is one proof, under C_0; with 1 there is a proof under each commitment, because
no single one determines what the dealer deals. Each proof signs context || all commitments || E. A plaintext is the
share and, after it, the payload.

A share that is zero is refused, although the specification allows it: an honest dealer deals it with probability
2^-252 only, and the scalar zero is accepted nowhere in this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import InvalidCiphertext, InvalidEncoding, InvalidInput, InvalidPoint
from ledger.protocol import polynomials, sodium
from ledger.protocol.ceremony.ciphersuite import SIGNATURE_BYTES, CeremonySuite
from ledger.protocol.ceremony.envelope import Reader

MAX_CIPHERTEXT_BYTES = 65_536
MIN_CIPHERTEXT_BYTES = sodium.SCALAR_BYTES + sodium.AEAD_TAG_BYTES
MAX_PAYLOAD_BYTES = MAX_CIPHERTEXT_BYTES - MIN_CIPHERTEXT_BYTES

_LENGTH_BYTES = 8
_POINT = sodium.POINT_BYTES


class DealingFault(Exception):
    """A dealer's message is false; `reason` is a stable word. Callers name the dealer."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Dealing:
    """The parts of a dealer's message; one ciphertext for each receiver, in the order of their indexes."""

    commitments: tuple[bytes, ...]
    proofs: tuple[bytes, ...]
    ephemeral: bytes
    ciphertexts: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the message."""
        return b"".join([*self.commitments, *self.proofs, self.ephemeral, bundle(self.ciphertexts)])

    @classmethod
    def decode(cls, data: bytes, threshold: int, receivers: int, first: int = 0) -> Dealing:
        """Return the parts of a message for exactly this threshold and number of receivers.

        Raises DealingFault for another length, a point that is not an element or is the identity, and a ciphertext
        above 65,536 bytes or too short for a share.
        """
        reader = Reader(data)
        try:
            commitments = reader.take_each(threshold - first, _POINT)
            proofs = reader.take_each(threshold - first if first else 1, SIGNATURE_BYTES)
            ephemeral = reader.take(_POINT)
            ciphertexts = take_bundle(reader, receivers)
            reader.end()
            for point in (*commitments, ephemeral):
                sodium.check_point(point)
        except (InvalidEncoding, InvalidPoint) as error:
            raise DealingFault("malformed", str(error)) from error
        return cls(commitments, proofs, ephemeral, ciphertexts)

    def check_proofs(self, suite: CeremonySuite, context: bytes) -> None:
        """Check each proof of possession. Raises DealingFault."""
        signed = context + b"".join(self.commitments) + self.ephemeral
        for commitment, proof in zip(self.commitments, self.proofs, strict=False):
            if not suite.verifies(commitment, signed, proof):
                raise DealingFault("possession", "A dealer's proof of possession is false.")

    def open_share(
        self, suite: CeremonySuite, context: bytes, secret: bytes, sender: bytes, index: int, place: int, first: int = 0
    ) -> tuple[bytes, bytes]:
        """Return (share, payload) for the receiver with the static `secret` and this index, whose ciphertext is number
        `place` from 0. `sender` is the dealer's static key.

        Raises DealingFault for a ciphertext that does not open and a share that is not the committed one.
        """
        try:
            plaintext = suite.decrypt(secret, self.ephemeral, sender, context, self.ciphertexts[place])
        except InvalidCiphertext as error:
            raise DealingFault("ciphertext", "A dealer's encrypted share does not open.") from error
        share, payload = plaintext[: sodium.SCALAR_BYTES], plaintext[sodium.SCALAR_BYTES :]
        if not polynomials.holds(share, index, self.commitments, first):
            raise DealingFault("share", "A dealer's share is not the one that it committed to.")
        return share, payload


def deal(
    suite: CeremonySuite,
    context: bytes,
    coefficients: Sequence[bytes],
    ephemeral: bytes,
    secret: bytes,
    receivers: Sequence[tuple[int, bytes, bytes]],
    first: int = 0,
) -> Dealing:
    """Return the dealing of a secret polynomial. `ephemeral` is a fresh secret scalar, `secret` the dealer's static
    one; a receiver is (index, static key, payload).

    Raises InvalidScalar, InvalidPoint, IdentityPoint, and InvalidInput for a payload above 65,488 bytes.
    """
    if any(len(payload) > MAX_PAYLOAD_BYTES for _, _, payload in receivers):
        raise InvalidInput(f"A payload has at most {MAX_PAYLOAD_BYTES} bytes.")
    commitments = polynomials.commit(coefficients)
    public = sodium.scalarmult_base(ephemeral)
    signed = context + b"".join(commitments) + public
    proofs = [suite.sign(coefficient, signed) for coefficient in (coefficients if first else coefficients[:1])]
    ciphertexts = [
        suite.encrypt(ephemeral, secret, key, context, polynomials.evaluate(coefficients, index, first) + payload)
        for index, key, payload in receivers
    ]
    return Dealing(commitments, tuple(proofs), public, tuple(ciphertexts))


def transcript(
    suite: CeremonySuite,
    context: bytes,
    threshold: int,
    keys: Sequence[bytes],
    dealings: Sequence[Dealing],
    extension: bytes = b"",
) -> bytes:
    """Return what the participants certify: parameters, static keys, and the public parts of all dealings, in order."""
    parts = [len(suite.suite_id).to_bytes(8, "little"), suite.suite_id, len(context).to_bytes(8, "little"), context]
    parts += [len(keys).to_bytes(4, "little"), threshold.to_bytes(4, "little"), *keys]
    parts += [point for dealing in dealings for point in dealing.commitments]
    parts += [proof for dealing in dealings for proof in dealing.proofs]
    parts += [dealing.ephemeral for dealing in dealings]
    return b"".join([*parts, len(extension).to_bytes(8, "little"), extension])


def bundle(ciphertexts: Sequence[bytes]) -> bytes:
    """Return ciphertexts one after the other, each after its length."""
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "big") + text for text in ciphertexts])


def take_bundle(reader: Reader, count: int) -> tuple[bytes, ...]:
    """Return the next `count` ciphertexts of a `bundle`. Raises InvalidEncoding for wrong lengths."""
    ciphertexts = []
    for _ in range(count):
        length = int.from_bytes(reader.take(_LENGTH_BYTES), "big")
        if not MIN_CIPHERTEXT_BYTES <= length <= MAX_CIPHERTEXT_BYTES:
            raise InvalidEncoding("A ciphertext is too short for a share, or too long.")
        ciphertexts.append(reader.take(length))
    return tuple(ciphertexts)


def column_sums(dealings: Sequence[Dealing]) -> tuple[bytes, ...]:
    """Return the commitments to the sum of the dealt polynomials. Raises IdentityPoint where they cancel out, which
    would lower the threshold or leave no key."""
    return tuple(
        [polynomials.sum_of_points(column) for column in zip(*[item.commitments for item in dealings], strict=True)]
    )
