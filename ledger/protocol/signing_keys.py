"""The check of Ed25519 public keys.

Under a key of small order every party can make signatures that verify, so the key's owner could deny all of them. A
point with a component of small order beside the one of prime order makes signatures that some implementations of RFC
8032 accept and others refuse (section 5.1.7 allows both equations), so whether a report is signed would depend on the
reader. And a key with two encodings is two keys for a program that compares bytes. Keys that are generated as RFC 8032
section 5.1.5 says are never of these kinds.
"""

from __future__ import annotations

from functools import lru_cache

from ledger.errors import InvalidPublicKey
from ledger.protocol import sodium

PUBLIC_KEY_BYTES = 32


# A multiplication takes 0.1 ms, and the same few keys come again with each token, checkpoint and card.
@lru_cache(maxsize=10_000)
def is_sound(public_key: bytes) -> bool:
    """True if `public_key` is the canonical encoding of a point of prime order."""
    return sodium.is_ed25519_public_key(public_key)


def check_public_key(public_key: bytes) -> None:
    """Check a public key. Raises InvalidPublicKey unless it is 32 bytes and `is_sound`."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidPublicKey(f"An Ed25519 public key must have {PUBLIC_KEY_BYTES} bytes.")
    if not is_sound(public_key):
        raise InvalidPublicKey(
            "This is not the canonical encoding of an Ed25519 point of prime order. Others could sign in its name: "
            "make a new key."
        )
