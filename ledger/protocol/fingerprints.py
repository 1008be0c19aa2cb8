"""Fingerprints that people read aloud to compare files and keys."""

from __future__ import annotations

from hashlib import sha256

GROUPS = 10


def fingerprint(data: bytes) -> str:
    """Return the first 160 bits of the SHA-256 of `data` as ten groups of five decimal digits.

    Digits are read aloud in every language. Each group is 16 bits, 00000 to 65535. A party that makes both of two texts
    needs about 2^80 attempts to give them one fingerprint.
    """
    digest = sha256(data).digest()
    groups = [int.from_bytes(digest[2 * place : 2 * place + 2], "big") for place in range(GROUPS)]
    return " ".join([f"{group:05}" for group in groups])
