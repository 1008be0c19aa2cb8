"""Plain calculations that tests compare the product with, and that no part of the product needs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.errors import InvalidEncoding
from ledger.tlog.merkle import EMPTY_ROOT, HASH_BYTES

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""The order of ristretto255 (RFC 9496)."""


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root of a tree over `leaf_hashes` (32 bytes each), row by row (RFC 6962 section
    2.1). Raises InvalidEncoding for a hash of another length."""
    row = list(leaf_hashes)
    if any(len(item) != HASH_BYTES for item in row):
        raise InvalidEncoding("A Merkle hash must have 32 bytes.")
    if not row:
        return EMPTY_ROOT
    while len(row) > 1:
        above = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        # A last hash without a partner moves up unchanged; that yields the split of RFC 6962 section 2.1.
        row = above + row[-1:] if len(row) % 2 else above
    return row[0]


def shamir_share(secret: bytes, coefficients: Sequence[bytes], index: int) -> bytes:
    """The value at `index` of the polynomial secret + c1 x + c2 x^2 + ..., in plain integers."""
    value = 0
    for coefficient in reversed([secret, *coefficients]):
        value = (value * index + int.from_bytes(coefficient, "little")) % GROUP_ORDER
    return value.to_bytes(32, "little")


def scalar_sum(left: bytes, right: bytes) -> bytes:
    """Return left + right modulo the group order, for shares of a secret."""
    return ((int.from_bytes(left, "little") + int.from_bytes(right, "little")) % GROUP_ORDER).to_bytes(32, "little")
