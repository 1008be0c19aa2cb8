"""Sharings of t of n: any t shares give the element of the whole key, fewer say nothing, and false ones are refused.

The oracle is Shamir's scheme over plain integers, written here without the package's own arithmetic.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    BatchSizeInvalid,
    HolderMismatch,
    IdentityPoint,
    InvalidInput,
    InvalidPoint,
    InvalidProof,
    InvalidScalar,
)
from ledger.protocol import sodium, voprf
from ledger.protocol.threshold import (
    HolderKey,
    KeySet,
    Share,
    VerifiedShare,
    combine,
    interpolate,
    lagrange,
    verify_share,
)
from tests.counts import trials

Q = sodium.GROUP_ORDER
SCALARS = st.integers(min_value=1, max_value=Q - 1)
NONCE = b"\x07" * 64
INPUTS = [b"phone:+8613800138000", b"email:a@example.org"]
BLINDS = [(12345).to_bytes(32, "little"), (Q - 2).to_bytes(32, "little")]
BLINDED = voprf.blind(INPUTS, BLINDS)


def scalar(value: int) -> bytes:
    return (value % Q).to_bytes(32, "little")


@dataclass(frozen=True)
class Sharing:
    """A sharing by plain integers: the polynomial's coefficients and the indexes of the holders."""

    coefficients: tuple[int, ...]
    indexes: tuple[int, ...]

    def value(self, at: int) -> int:
        total = 0
        for coefficient in reversed(self.coefficients):
            total = (total * at + coefficient) % Q
        return total

    def keys(self, generation: int = 1) -> KeySet:
        holders = [HolderKey(i, f"holder-{i}", voprf.public_key(scalar(self.value(i)))) for i in self.indexes]
        return KeySet(generation, len(self.coefficients), voprf.public_key(scalar(self.value(0))), tuple(holders))

    def share(self, index: int, blinded: Sequence[bytes] = BLINDED, generation: int = 1) -> Share:
        evaluation = voprf.evaluate(scalar(self.value(index)), blinded, NONCE)
        return Share(generation, index, evaluation.evaluated, evaluation.proof)


@st.composite
def sharings(draw: st.DrawFn, least: int = 1) -> Sharing:
    threshold = draw(st.integers(least, 4))
    indexes = draw(st.lists(st.integers(1, 255), min_size=threshold, max_size=threshold + 2, unique=True))
    coefficients = tuple(draw(st.lists(SCALARS, min_size=threshold, max_size=threshold)))
    sharing = Sharing(coefficients, tuple(sorted(indexes)))
    values = {sharing.value(index) for index in (0, *indexes)}
    return sharing if 0 not in values and len(values) == len(indexes) + 1 else Sharing((7, 1, 1)[:1], (1,))


TWO_OF_THREE = Sharing((11**40 % Q, 13**60 % Q), (1, 2, 3))
OTHER = Sharing((11**40 % Q, 17**55 % Q), (1, 2, 3))
"""The same key in another generation."""


def elements(sharing: Sharing, indexes: Sequence[int]) -> list[bytes]:
    keys = sharing.keys()
    return combine(BLINDS, [verify_share(keys, BLINDED, sharing.share(index)) for index in indexes])


def whole(sharing: Sharing) -> list[bytes]:
    return [sodium.scalarmult(scalar(sharing.value(0)), voprf.hash_to_group(message)) for message in INPUTS]


@settings(max_examples=trials(12, 200))
@given(sharings(), st.randoms(use_true_random=False))
def test_any_t_shares_give_the_element_of_the_whole_key(sharing: Sharing, random: object) -> None:
    subsets = list(itertools.combinations(sharing.indexes, len(sharing.coefficients)))
    for subset in subsets[: trials(3, 100)]:
        shuffled = list(subset)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert elements(sharing, shuffled) == whole(sharing)


@settings(max_examples=trials(20, 500))
@given(sharings(least=2), SCALARS)
def test_fewer_than_t_shares_fit_every_key(sharing: Sharing, candidate: int) -> None:
    """For each candidate key there is a polynomial of degree t - 1 through it and any t - 1 shares; through t shares
    there is one for the true key only."""
    t = len(sharing.coefficients)

    def fits(known: Sequence[int]) -> bool:
        points = [(0, candidate), *[(index, sharing.value(index)) for index in known[: t - 1]]]
        through = lagrange([index for index, _ in points], known[-1])
        extrapolated = sum(through[index] * value for index, value in points) % Q
        return len(known) < t or extrapolated == sharing.value(known[-1])

    assert fits(sharing.indexes[: t - 1])
    assert fits(sharing.indexes[:t]) is (candidate == sharing.value(0))


@given(st.lists(st.integers(1, 255), min_size=1, max_size=6, unique=True), st.lists(SCALARS, min_size=6, max_size=6))
def test_coefficients_interpolate(indexes: list[int], coefficients: list[int]) -> None:
    sharing = Sharing(tuple(coefficients[: len(indexes)]), tuple(indexes))
    for at in (0, *indexes, 200):
        weights = lagrange(indexes, at)
        assert sum(weights[index] * sharing.value(index) for index in indexes) % Q == sharing.value(at)


@pytest.mark.parametrize("indexes", [[], [1, 1], [0, 256], [-1, 2]])
def test_impossible_indexes(indexes: list[int]) -> None:
    with pytest.raises(HolderMismatch):
        lagrange(indexes)


def test_shares_of_two_generations_are_not_combined() -> None:
    keys = TWO_OF_THREE.keys(1)
    with pytest.raises(HolderMismatch, match="another generation"):
        verify_share(keys, BLINDED, OTHER.share(2, generation=2))
    first = verify_share(keys, BLINDED, TWO_OF_THREE.share(1))
    second = verify_share(OTHER.keys(2), BLINDED, OTHER.share(2, generation=2))
    with pytest.raises(HolderMismatch, match="one key set"):
        combine(BLINDS, [first, second])
    # And if a program did it all the same, the result would be no element of the key.
    forced = combine(BLINDS, [first, replace(second, keys=keys)])
    assert not set(forced) & set(whole(TWO_OF_THREE))
    assert whole(TWO_OF_THREE) == whole(OTHER)


def test_a_share_under_another_generation_has_no_proof() -> None:
    claimed = replace(OTHER.share(2), generation=1)
    with pytest.raises(InvalidProof) as caught:
        verify_share(TWO_OF_THREE.keys(), BLINDED, claimed)
    assert caught.value.details == {"holder": "holder-2"}


def test_only_the_threshold_of_distinct_shares_is_combined() -> None:
    verified = [verify_share(TWO_OF_THREE.keys(), BLINDED, TWO_OF_THREE.share(index)) for index in (1, 2, 3)]
    for wrong in ([], verified[:1], verified, [verified[0], verified[0]]):
        with pytest.raises(HolderMismatch):
            combine(BLINDS, wrong)
    with pytest.raises(BatchSizeInvalid):
        combine(BLINDS[:1], verified[:2])
    with pytest.raises(InvalidScalar):
        combine([BLINDS[0], scalar(0)], verified[:2])


@pytest.mark.parametrize("swapped", ["elements", "holders", "doubled", "missing", "identity", "altered"])
def test_false_shares_are_refused_and_named(swapped: str) -> None:
    good, other = TWO_OF_THREE.share(1), TWO_OF_THREE.share(2)
    flipped = bytes([good.proof[0] ^ 1]) + good.proof[1:]
    false = {
        "elements": replace(good, evaluated=good.evaluated[::-1]),
        "holders": replace(other, index=1),
        "doubled": replace(good, evaluated=good.evaluated * 2),
        "missing": replace(good, evaluated=good.evaluated[:1]),
        "identity": replace(good, evaluated=(sodium.IDENTITY, good.evaluated[1])),
        "altered": replace(good, proof=flipped),
    }[swapped]
    with pytest.raises(InvalidProof) as caught:
        verify_share(TWO_OF_THREE.keys(), BLINDED, false)
    assert caught.value.details["holder"] == "holder-1"
    with pytest.raises(HolderMismatch):
        verify_share(TWO_OF_THREE.keys(), BLINDED, replace(good, index=9))


def test_shares_that_cancel_out_are_no_element() -> None:
    """Two shares k_1, k_2 = k_1 / 2 of a key 0: no key set has such a K, so the combination is forced here."""
    keys = TWO_OF_THREE.keys()
    point = voprf.hash_to_group(b"x")
    first = VerifiedShare(keys, 1, (point, point))
    second = VerifiedShare(keys, 2, (sodium.add(point, point), sodium.add(point, point)))
    with pytest.raises(IdentityPoint):
        combine(BLINDS, [first, second])


# --- key sets ---------------------------------------------------------------------------------------------------


@settings(max_examples=trials(10, 100))
@given(sharings())
def test_the_key_set_of_a_sharing(sharing: Sharing) -> None:
    keys = sharing.keys()
    t = len(sharing.coefficients)
    assert [holder.index for holder in keys.holders] == sorted(sharing.indexes)
    pairs = [(holder.index, holder.public_key) for holder in keys.holders]
    assert interpolate(pairs[-t:]) == keys.public_key
    assert keys.at(sharing.indexes[0]) == keys.of(f"holder-{sharing.indexes[0]}")


def altered(change: str) -> KeySet:
    keys = Sharing((5, 6), (1, 2, 3, 4)).keys()
    holders = list(keys.holders)
    if change == "equal indexes":
        holders[1] = replace(holders[1], index=1)
    elif change == "equal ids":
        holders[1] = replace(holders[1], holder="holder-1")
    elif change == "equal keys":
        holders[3] = replace(holders[3], public_key=holders[0].public_key)
    elif change == "a key of no sharing":
        holders[3] = replace(holders[3], public_key=voprf.public_key(scalar(99)))
    elif change == "swapped keys":
        first, last = holders[0].public_key, holders[3].public_key
        holders[0], holders[3] = replace(holders[0], public_key=last), replace(holders[3], public_key=first)
    elif change == "identity":
        holders[2] = replace(holders[2], public_key=sodium.IDENTITY)
    elif change == "no holder":
        holders = []
    elif change == "index 0":
        holders[0] = replace(holders[0], index=0)
    numbers = {"another K": {"public_key": voprf.public_key(scalar(6))}, "threshold 1": {"threshold": 1}}
    numbers |= {"threshold 0": {"threshold": 0}, "threshold 5": {"threshold": 5}, "generation 0": {"generation": 0}}
    numbers |= {"threshold 3": {"threshold": 3}}
    return replace(keys, holders=tuple(holders), **numbers.get(change, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        *("equal indexes", "equal ids", "equal keys", "a key of no sharing", "swapped keys", "identity", "no holder"),
        *("index 0", "another K", "threshold 0", "threshold 1", "threshold 5", "generation 0"),
    ],
)
def test_key_sets_that_contradict_themselves(change: str) -> None:
    with pytest.raises((HolderMismatch, InvalidPoint)):
        altered(change)


def test_a_larger_threshold_than_the_shares_have() -> None:
    """Two shares of a line are enough, whatever threshold is claimed."""
    with pytest.raises(HolderMismatch, match="Fewer holders than the threshold"):
        altered("threshold 3")


def test_one_of_one() -> None:
    sharing = Sharing((41,), (1,))
    keys = KeySet.single("ledger", voprf.public_key(scalar(41)))
    assert keys.is_single
    assert not TWO_OF_THREE.keys().is_single
    assert combine(BLINDS, [verify_share(keys, BLINDED, sharing.share(1))]) == whole(sharing)


# --- what the combination is made of ---------------------------------------------------------------------------


@settings(max_examples=trials(20, 300))
@given(st.lists(SCALARS, min_size=1, max_size=6), SCALARS)
def test_many_scalars_at_once(values: list[int], factor: int) -> None:
    scalars = [scalar(value) for value in values]
    assert sodium.scalars_inverted(scalars) == [scalar(pow(value, -1, Q)) for value in values]
    assert sodium.scalars_scaled(scalar(factor), scalars) == [scalar(factor * value) for value in values]


def test_sums_of_products_by_rows() -> None:
    points = [voprf.hash_to_group(bytes([number])) for number in range(4)]
    columns = [([scalar(3), scalar(4)], points[:2]), ([scalar(5), scalar(6)], points[2:])]
    expected = [sodium.sum_of_products([3, 5], [points[0], points[2]]), sodium.sum_of_products([4, 6], points[1::2])]
    assert sodium.linear_combinations(columns) == expected
    assert sodium.scalars_inverted([]) == []
    for wrong in ([], [([scalar(1)], points)], [columns[0], ([scalar(1)], points[:1])]):
        with pytest.raises(InvalidInput):
            sodium.linear_combinations(wrong)
    with pytest.raises(InvalidScalar):
        sodium.scalars_inverted([scalar(1), scalar(0)])
    with pytest.raises(InvalidScalar):
        sodium.scalars_scaled(scalar(1), [scalar(0)])
    with pytest.raises(InvalidPoint):
        sodium.linear_combinations([([scalar(1)], [b"\xff" * 32])])
    with pytest.raises(IdentityPoint):
        sodium.linear_combinations([([scalar(1)], points[:1]), ([scalar(Q - 1)], points[:1])])
