"""Sealing of secrets that must be read again (one-time-code seeds, webhook secrets), before they are stored in the
database.

ChaCha20-Poly1305 (RFC 8439) under a key derived from `session.key`, with a random nonce in front. The associated data
name the owner of the secret, so a secret that was moved to another row does not open. A copy of the database alone
opens none.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger.errors import ConfigurationError

NONCE_BYTES = 12


def seal(key: bytes, nonce: bytes, owner: str, secret: bytes) -> bytes:
    """Return `secret` sealed for `owner` ("staff:7") under the 32-byte `key`, with `nonce` of 12 fresh random bytes."""
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, secret, owner.encode())


def unseal(key: bytes, owner: str, sealed: bytes) -> bytes:
    """Return the secret. Raises ConfigurationError if the key or the owner differs from the one that it was sealed
    with."""
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
    except (InvalidTag, ValueError) as error:
        raise ConfigurationError("A stored secret does not open: session.key is not the one that sealed it.") from error
