"""Edwards25519 with Python's integers (RFC 8032 section 5.1): an oracle for which public keys are fit."""

from __future__ import annotations

from functools import cache
from hashlib import sha512

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """a + b by the complete addition law."""
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + y1 * x2) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def multiply(factor: int, point: Point) -> Point:
    """factor x point."""
    total = IDENTITY
    while factor:
        if factor & 1:
            total = add(total, point)
        point, factor = add(point, point), factor >> 1
    return total


def encode(point: Point) -> bytes:
    """The canonical encoding: y with the sign of x in bit 255."""
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def x_of(y: int) -> int | None:
    """The even x of the point with this y; None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square:
            return P - x if x & 1 else x
    return None


@cache
def small_order() -> tuple[Point, ...]:
    """The eight points whose order divides 8: multiples of one of order 8, found by taking points times L."""
    for y in range(2, 100):
        x = x_of(y)
        if x is None:
            continue
        point = multiply(L, (x, y))
        multiples = [multiply(n, point) for n in range(8)]
        if len(set(multiples)) == 8:
            return tuple(multiples)
    raise AssertionError("no point of order 8")


def spellings(point: Point) -> list[bytes]:
    """Every 32-byte value that a reader takes for `point` who reduces y, or takes x = 0 with either sign."""
    x, y = point
    signs = (0, 1) if x == 0 else (x & 1,)
    return [(value | sign << 255).to_bytes(32, "little") for value in range(y, 2**255, P) for sign in signs]


def public_key(seed: bytes) -> bytes:
    """The public key of RFC 8032 section 5.1.5: the generator times the clamped hash of the seed."""
    scalar = int.from_bytes(sha512(seed).digest()[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    y = 4 * pow(5, -1, P) % P
    x = x_of(y)
    assert x is not None
    return encode(multiply(scalar, (x, y)))


def decode(encoding: bytes) -> Point | None:
    """The point of a canonical encoding (RFC 8032 section 5.1.3), None for all else."""
    value = int.from_bytes(encoding, "little")
    y, sign = value & ((1 << 255) - 1), value >> 255
    x = x_of(y) if len(encoding) == 32 and y < P else None
    if x is None or (x == 0 and sign):
        return None
    return (P - x if sign else x), y


def fit(encoding: bytes) -> bool:
    """Whether it is the canonical encoding of a point of prime order."""
    point = decode(encoding)
    return point is not None and point != IDENTITY and multiply(L, point) == IDENTITY


def unfit_keys() -> list[bytes]:
    """Keys to be refused: all spellings of the points of small order, and one honest key with each of them added."""
    honest = decode(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw())
    assert honest is not None
    mixed = [encode(add(honest, point)) for point in small_order() if point != IDENTITY]
    return [spelling for point in small_order() for spelling in spellings(point)] + mixed
