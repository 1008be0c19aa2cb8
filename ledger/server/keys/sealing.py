"""Secrets that must be read again (one-time-code seeds, webhook secrets), sealed before they go into the database.

ChaCha20-Poly1305 (RFC 8439) under a key derived from `session.key`, a random nonce in front, and as associated data
what the secret belongs to: a row's secret moved to another row does not open. A copy of the database alone opens none.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ledger.errors import ConfigurationError

NONCE_BYTES = 12


def seal(key: bytes, nonce: bytes, owner: str, secret: bytes) -> bytes:
    """`secret` sealed for `owner` ("staff:7") under the 32-byte `key` with 12 fresh random bytes of `nonce`."""
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, secret, owner.encode())


def unseal(key: bytes, owner: str, sealed: bytes) -> bytes:
    """The secret. Raises ConfigurationError where the key or the row is another one than it was sealed with."""
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], owner.encode())
    except (InvalidTag, ValueError) as error:
        raise ConfigurationError("A stored secret does not open: session.key is not the one that sealed it.") from error
