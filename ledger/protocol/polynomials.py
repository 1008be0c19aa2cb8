"""Secret polynomials over the scalar field, and Feldman's commitments to them in the exponent. Pure.

A polynomial f is given by its coefficients in ascending order, beginning with the one of x^`first`: `first` is 0, or 1
for a polynomial whose value at 0 is zero. Its commitments are coefficient x generator, and

    f(i) x generator = sum over k of i^k x commitment_k

lets the receiver of the share f(i) check it. (P. Feldman, "A practical scheme for non-interactive verifiable secret
sharing", 1987.) Secret values are multiplied and added by libsodium in constant time; integers are indexes, which are
public.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import IdentityPoint, InvalidInput, InvalidScalar
from ledger.protocol import sodium

MAX_INDEX = 2**32 - 1

_ZERO = bytes(sodium.SCALAR_BYTES)


def evaluate(coefficients: Sequence[bytes], index: int, first: int = 0) -> bytes:
    """Return the share f(index), a scalar (Horner's method).

    Raises InvalidInput for no coefficient or an index outside 1..2^32-1, InvalidScalar for a coefficient or an
    intermediate sum that is zero (for random coefficients with probability 2^-252).
    """
    _check(len(coefficients), index)
    x = index.to_bytes(sodium.SCALAR_BYTES, "little")
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = sodium.scalar_add(sodium.scalar_mul(value, x), coefficient)
    for _ in range(first):
        value = sodium.scalar_mul(value, x)
    sodium.check_scalar(value)
    return value


def commit(coefficients: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return coefficient x generator for each coefficient, in order. Raises InvalidScalar."""
    return tuple([sodium.scalarmult_base(coefficient) for coefficient in coefficients])


def commitment_at(commitments: Sequence[bytes], index: int, first: int = 0) -> bytes:
    """Return f(index) x generator from the commitments alone.

    Raises InvalidInput for no commitment or an index outside 1..2^32-1, InvalidPoint, IdentityPoint (also for a result
    that is the identity).
    """
    _check(len(commitments), index)
    order = sodium.GROUP_ORDER
    powers = [pow(index, exponent, order) for exponent in range(first, first + len(commitments))]
    return sodium.sum_of_products(powers, commitments)


def holds(share: bytes, index: int, commitments: Sequence[bytes], first: int = 0) -> bool:
    """True if `share` is a scalar other than zero and the value at `index` of the committed polynomial.

    Raises InvalidInput and InvalidPoint as `commitment_at`.
    """
    try:
        return sodium.scalarmult_base(share) == commitment_at(commitments, index, first)
    except (InvalidScalar, IdentityPoint):
        return False


def sum_of_scalars(scalars: Sequence[bytes]) -> bytes:
    """Return the sum of at least one scalar. Sums on the way may be zero. Raises InvalidScalar for a scalar or a result
    that is zero or not canonical."""
    total = _ZERO
    for scalar in scalars:
        sodium.check_scalar(scalar)
        total = scalar if total == _ZERO else sodium.scalar_add(total, scalar)
    sodium.check_scalar(total)
    return total


def sum_of_points(points: Sequence[bytes]) -> bytes:
    """Return the sum of elements. Sums on the way may be the identity. Raises InvalidPoint, IdentityPoint (also for a
    result that is the identity)."""
    return sodium.sum_of_products([1] * len(points), points)


def _check(count: int, index: int) -> None:
    if count < 1 or not 1 <= index <= MAX_INDEX:
        raise InvalidInput("A polynomial has a coefficient, and its shares have indexes from 1.")
