"""Every spelling of a ristretto255 element but its canonical one, and an independent reading of RFC 9496.

Nothing here calls the code under test, except to make elements out of numbers.
"""

from __future__ import annotations

from hashlib import sha512

from hypothesis import strategies as st

from ledger.protocol import sodium

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
_BIT_255 = 1 << 255


def element(number: int) -> bytes:
    """An element for each `number` below 2^64."""
    return sodium.point_from_hash(sha512(number.to_bytes(8, "big")).digest())


def other_spellings(encoding: bytes) -> list[bytes]:
    """All 32-byte values but `encoding` that a reader takes for it who reduces the number modulo p, ignores bit 255 or
    takes an odd number for the even one of s and -s, or does several of these."""
    s = int.from_bytes(encoding, "little")
    values = set()
    for value in {s % P, -s % P}:
        for spelled in range(value, 2**256, P):
            values.add(spelled)
            if spelled < _BIT_255:
                values.add(spelled | _BIT_255)
    return sorted(item.to_bytes(32, "little") for item in values - {s})


def with_bit_255(encoding: bytes) -> bytes:
    """The spelling that libsodium 1.0.18 takes for the element itself."""
    return encoding[:31] + bytes([encoding[31] | 0x80])


def decodes(encoding: bytes) -> bool:
    """Whether Decode of RFC 9496 section 4.3.1 succeeds, written out with Python's integers."""
    s = int.from_bytes(encoding, "little")
    if len(encoding) != 32 or s >= P or s & 1:
        return False
    ss = s * s % P
    u1, u2 = (1 - ss) % P, (1 + ss) % P
    u2_sqr = u2 * u2 % P
    v = (-D * u1 * u1 - u2_sqr) % P
    inverse = _inverse_square_root(v * u2_sqr % P)
    if inverse is None:
        return False
    den_x = inverse * u2 % P
    den_y = inverse * den_x * v % P
    x = 2 * s * den_x % P
    x = P - x if x & 1 else x
    y = u1 * den_y % P
    return not (x * y % P) & 1 and y != 0


def _inverse_square_root(value: int) -> int | None:
    """1 / sqrt(value), 0 for 0, None where `value` is no square."""
    if value == 0:
        return 0
    root = pow(value, (P + 3) // 8, P)
    if root * root % P != value:
        root = root * SQRT_M1 % P
    return pow(root, -1, P) if root * root % P == value else None


SMALL = [s.to_bytes(32, "little") for s in range(2, 40) if decodes(s.to_bytes(32, "little"))]
"""Elements whose encoding is so small that it also fits with 2p added."""

ELEMENTS = st.one_of(st.integers(0, 2**64 - 1).map(element), st.sampled_from(SMALL))
"""Canonical encodings of elements other than the identity."""

IDENTITIES = [bytes(32), *other_spellings(bytes(32))]
"""The identity in every spelling."""

SPELLINGS = st.one_of(
    ELEMENTS.flatmap(lambda encoding: st.sampled_from(other_spellings(encoding))), st.sampled_from(IDENTITIES)
)
"""What is to be refused wherever an element comes in."""
