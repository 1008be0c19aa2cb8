"""Key sets of t of n holders, and the combination of their shares (Shamir over the scalar field of ristretto255). Pure.

The key k is the value at 0 of a polynomial f of degree t - 1; holder i has the share k_i = f(i) and the public key
K_i = k_i G. Any t shares of one sharing give k, K and every element by Lagrange interpolation at 0:

    k = sum of lambda_i k_i,   K = sum of lambda_i K_i,   T = k H(x) = sum of lambda_i k_i H(x)
    lambda_i = product of j / (j - i) over the other indexes j of the subset

t - 1 shares say nothing about k: for each candidate there is exactly one polynomial of degree t - 1 through them and
the candidate. Shares of two sharings (generations) lie on different polynomials and give another element, so a share
names its generation and only shares of one generation are combined. (A. Shamir, "How to share a secret", 1979.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ledger.errors import BatchSizeInvalid, HolderMismatch, IdentityPoint, InvalidProof
from ledger.protocol import sodium, voprf

MAX_HOLDERS = 255
"""The largest number of holders, and the largest index of one."""
MAX_GENERATION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class HolderKey:
    """A key holder: its index in the sharing (from 1), its id, and its public key K_i."""

    index: int
    holder: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """One sharing of an epoch's key: the threshold t, the public key K, and all n holders, in the order of their
    indexes.

    Raises HolderMismatch for a threshold outside 1..n, for equal indexes, ids or public keys, for indexes outside
    1..255, and unless all K_i are values of one polynomial of degree t - 1, not less, whose value at 0 is K (with
    a smaller degree, fewer holders than the threshold would have the key); InvalidPoint, IdentityPoint for keys that
    are not elements.
    """

    generation: int
    threshold: int
    public_key: bytes
    holders: tuple[HolderKey, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "holders", tuple(sorted(self.holders, key=lambda holder: holder.index)))
        indexes = [holder.index for holder in self.holders]
        if not 1 <= self.generation <= MAX_GENERATION:
            raise HolderMismatch("The generation of a key set is a number from 1.")
        if not 1 <= self.threshold <= len(indexes) <= MAX_HOLDERS:
            raise HolderMismatch("A key set needs at least one holder, and a threshold of at most their number.")
        if len(set(indexes)) != len(indexes) or not 1 <= min(indexes) <= max(indexes) <= MAX_HOLDERS:
            raise HolderMismatch(f"Each key holder has an index of its own, from 1 to {MAX_HOLDERS}.")
        if len({holder.holder for holder in self.holders}) != len(indexes):
            raise HolderMismatch("Each key holder has an id of its own.")
        _check_keys(self.threshold, self.public_key, self.holders)

    @classmethod
    def single(cls, holder: str, public_key: bytes) -> KeySet:
        """Return the key set of one holder that has the whole key (1 of 1). Raises InvalidPoint, IdentityPoint."""
        return cls(1, 1, public_key, (HolderKey(1, holder, public_key),))

    @property
    def is_single(self) -> bool:
        """True if one holder has the whole key."""
        return len(self.holders) == 1

    def at(self, index: int) -> HolderKey:
        """Return the holder at `index`. Raises HolderMismatch."""
        for holder in self.holders:
            if holder.index == index:
                return holder
        raise HolderMismatch("No key holder has this index.", index=index)

    def of(self, holder: str) -> HolderKey:
        """Return the holder of this id. Raises HolderMismatch."""
        for key in self.holders:
            if key.holder == holder:
                return key
        raise HolderMismatch("No key holder has this id.", holder=holder)


@dataclass(frozen=True, slots=True)
class Share:
    """What one holder answered for a batch: an element for each blinded element, in order, and one proof (c || s)."""

    generation: int
    index: int
    evaluated: tuple[bytes, ...]
    proof: bytes


@dataclass(frozen=True, slots=True)
class VerifiedShare:
    """A share whose proof was checked against the holder's public key. Only `verify_share` makes it."""

    keys: KeySet
    index: int
    evaluated: tuple[bytes, ...]


def lagrange(indexes: Iterable[int], at: int = 0) -> dict[int, int]:
    """Return the Lagrange coefficient of each of the distinct `indexes` at `at`, modulo the group order.

    The value at `at` of the polynomial of degree len(indexes) - 1 through given values is the sum of coefficient x
    value. Raises HolderMismatch for no index, equal ones, or numbers outside 0..255.
    """
    return dict(_lagrange(tuple(indexes), at))


@lru_cache(maxsize=1024)
def _lagrange(indexes: tuple[int, ...], at: int) -> tuple[tuple[int, int], ...]:
    if not indexes or len(set(indexes)) != len(indexes) or not 0 <= min(indexes) <= max(*indexes, at) <= MAX_HOLDERS:
        raise HolderMismatch("Shares are combined at distinct indexes.")
    order = sodium.GROUP_ORDER
    coefficients = []
    for i in indexes:
        numerator = denominator = 1
        for j in indexes:
            if j != i:
                numerator = numerator * (at - j) % order
                denominator = denominator * (i - j) % order
        coefficients.append((i, numerator * pow(denominator, -1, order) % order))
    return tuple(coefficients)


def interpolate(points: Sequence[tuple[int, bytes]], at: int = 0) -> bytes:
    """Return the group element at `at` of the polynomial in the exponent through (index, element) pairs.

    Raises HolderMismatch (indexes), InvalidPoint, IdentityPoint (also for a result that is the identity).
    """
    coefficients = lagrange([index for index, _ in points], at)
    # A coefficient is 0 exactly if `at` is the index of another pair; a product with it would be the identity.
    used = [(coefficients[index], point) for index, point in points if coefficients[index]]
    return sodium.sum_of_products([coefficient for coefficient, _ in used], [point for _, point in used])


def verify_share(keys: KeySet, blinded: Sequence[bytes], share: Share) -> VerifiedShare:
    """Check a share against the holder's public key, and return it verified.

    Raises InvalidProof, with `holder` in its details, for every fault in the values of the holder; HolderMismatch for
    another generation or an unknown index; BatchSizeInvalid, InvalidPoint, IdentityPoint for the caller's own values.
    """
    if share.generation != keys.generation:
        raise HolderMismatch("A share of another generation of the key is not combined with these.", index=share.index)
    holder = keys.at(share.index)
    try:
        voprf.verify(holder.public_key, blinded, share.evaluated, share.proof)
    except InvalidProof as error:
        raise InvalidProof(str(error), holder=holder.holder) from error
    return VerifiedShare(keys, share.index, share.evaluated)


def combine(blinds: Sequence[bytes], shares: Sequence[VerifiedShare]) -> list[bytes]:
    """Return the elements T in order: exactly t verified shares of one key set combined, blinds removed.

    One multiplication for each share and element: the Lagrange coefficient and the inverse of the blind are multiplied
    as scalars. Raises HolderMismatch (not t shares of one key set at distinct indexes), IdentityPoint (the shares
    cancel out), BatchSizeInvalid, InvalidScalar.
    """
    if not shares or any(share.keys != shares[0].keys for share in shares):
        raise HolderMismatch("Only shares of one key set are combined.")
    if len(shares) != shares[0].keys.threshold or len({share.index for share in shares}) != len(shares):
        raise HolderMismatch("The threshold's number of shares is combined, each of another holder.")
    if any(len(share.evaluated) != len(blinds) for share in shares):
        raise BatchSizeInvalid("The lists of one batch must have the same length.")
    inverses = sodium.scalars_inverted(blinds)
    coefficients = lagrange([share.index for share in shares])
    columns = []
    for share in shares:
        factor = coefficients[share.index].to_bytes(sodium.SCALAR_BYTES, "little")
        scalars = inverses if len(shares) == 1 else sodium.scalars_scaled(factor, inverses)
        columns.append((scalars, share.evaluated))
    return sodium.linear_combinations(columns)


# A statement is read again with each card, checkpoint and request of a ceremony. What is refused is not kept.
@lru_cache(maxsize=1024)
def _check_keys(threshold: int, public_key: bytes, holders: tuple[HolderKey, ...]) -> None:
    voprf.check_element(public_key)
    for holder in holders:
        voprf.check_element(holder.public_key)
    if len({holder.public_key for holder in holders}) != len(holders):
        raise HolderMismatch("Two key holders have one public key: one of them copied the other's share.")
    basis = [(holder.index, holder.public_key) for holder in holders[:threshold]]
    values = [(0, public_key), *[(holder.index, holder.public_key) for holder in holders[threshold:]]]
    if not all(_is_value(basis, index, key) for index, key in values):
        raise HolderMismatch("The holders' public keys are not those of one sharing of the public key.")
    if threshold > 1 and _is_value(basis[:-1], 0, public_key):
        raise HolderMismatch("Fewer holders than the threshold have the whole key.")


def _is_value(points: Sequence[tuple[int, bytes]], at: int, key: bytes) -> bool:
    try:
        return interpolate(points, at) == key
    except IdentityPoint:
        return False
