"""Signatures, key derivation and encryption of the ceremonies: C2SP cocktail-dkg v0.2.1 with ristretto255, SHA-512 and
XChaCha20-Poly1305. Pure.

A `CeremonySuite` is this construction under labels of its own, so that a message of one kind of ceremony is worth
nothing in another:

    hash to scalar   SHA-512 of all, modulo the group order
    signature        R || z (64 bytes):  k = hash(nonce label || secret || message),  R = k G,
                     c = hash(H7 label || R || public key || message),  z = k + c secret
    pair key         SHA-512(H6 label || e_s P_r || d_s P_r || E_s || P_s || P_r || len(context) || context):
                     32 bytes of key, 24 of nonce;  lengths are 8 bytes, little-endian
    context          SHA-512(context label || len(session id) || session id || len(suite id) || suite id || n ||
                     P_1 .. P_n);  lengths are 8 bytes, big-endian, n is 4 bytes, little-endian

with e, E the sender's key pair of this message, d_s, P_s its static one, and P_r the receiver's static key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha512

from ledger.errors import InvalidPoint, InvalidScalar
from ledger.protocol import sodium

SIGNATURE_BYTES = 64
CONTEXT_BYTES = 64

_KEY_END = sodium.AEAD_KEY_BYTES
_NONCE_END = _KEY_END + sodium.AEAD_NONCE_BYTES
_GROUP = b"-Ristretto255-SHA512"


@dataclass(frozen=True, slots=True)
class CeremonySuite:
    """The construction under the labels that begin with `prefix`; `suite_id` is its name in contexts and
    transcripts."""

    suite_id: bytes
    prefix: bytes

    @classmethod
    def of(cls, name: str) -> CeremonySuite:
        """Return the suite under labels of this ledger, from a name such as `RefundLedgerRefresh-v1`."""
        return cls(f"{name}(Ristretto255, SHA-512)".encode(), name.encode())

    def context(self, session_id: bytes, keys: Sequence[bytes]) -> bytes:
        """Return the context of a session (64 bytes), which binds its id, this suite and the ordered static keys."""
        parts = [self.prefix, b"-CONTEXT"]
        for field in (session_id, self.suite_id):
            parts += [len(field).to_bytes(8, "big"), field]
        return sha512(b"".join([*parts, len(keys).to_bytes(4, "little"), *keys])).digest()

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message`. Its nonce is hashed from secret and message.

        Raises InvalidScalar; also, with probability 2^-252, for a nonce or a response that is zero: the session is
        then given up.
        """
        public = sodium.scalarmult_base(secret)
        nonce = _hash_to_scalar(self.prefix, _GROUP, b"-NONCE", secret, message)
        commitment = sodium.scalarmult_base(nonce)
        challenge = self._challenge(commitment, public, message)
        response = sodium.scalar_add(nonce, sodium.scalar_mul(challenge, secret))
        sodium.check_scalar(response)
        return commitment + response

    def verifies(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """True if `signature` is one of `message` by the owner of `public`. False for every malformed value."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        commitment, response = signature[:32], signature[32:]
        try:
            challenge = self._challenge(commitment, public, message)
            expected = sodium.add(commitment, sodium.scalarmult(challenge, public))
            return sodium.scalarmult_base(response) == expected
        except (InvalidPoint, InvalidScalar):
            return False

    def pair_key(
        self, shared: tuple[bytes, bytes], ephemeral: bytes, sender: bytes, receiver: bytes, context: bytes
    ) -> tuple[bytes, bytes]:
        """Return key and nonce between a sender and a receiver, from their two shared secrets (ephemeral, static)."""
        length = len(context).to_bytes(8, "little")
        parts = (self.prefix, _GROUP, b"-H6", *shared, ephemeral, sender, receiver, length, context)
        digest = sha512(b"".join(parts)).digest()
        return digest[:_KEY_END], digest[_KEY_END:_NONCE_END]

    def encrypt(self, ephemeral: bytes, static: bytes, receiver: bytes, context: bytes, plaintext: bytes) -> bytes:
        """Return `plaintext` encrypted with the sender's two secret scalars to a receiver's static key.

        Raises InvalidScalar, InvalidPoint, IdentityPoint.
        """
        shared = (sodium.scalarmult(ephemeral, receiver), sodium.scalarmult(static, receiver))
        publics = (sodium.scalarmult_base(ephemeral), sodium.scalarmult_base(static))
        key, nonce = self.pair_key(shared, *publics, receiver, context)
        return sodium.aead_encrypt(key, nonce, plaintext)

    def decrypt(self, secret: bytes, ephemeral: bytes, sender: bytes, context: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext of `encrypt` with the receiver's static secret, and the sender's two public keys.

        Raises InvalidCiphertext, InvalidScalar, InvalidPoint, IdentityPoint.
        """
        shared = (sodium.scalarmult(secret, ephemeral), sodium.scalarmult(secret, sender))
        key, nonce = self.pair_key(shared, ephemeral, sender, sodium.scalarmult_base(secret), context)
        return sodium.aead_decrypt(key, nonce, ciphertext)

    def _challenge(self, commitment: bytes, public: bytes, message: bytes) -> bytes:
        return _hash_to_scalar(self.prefix, _GROUP, b"-H7", commitment, public, message)


def _hash_to_scalar(*parts: bytes) -> bytes:
    return sodium.scalar_reduce(sha512(b"".join(parts)).digest())
