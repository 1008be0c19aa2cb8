"""Secret polynomials and their commitments against plain integers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import IdentityPoint, InvalidInput, InvalidPoint, InvalidScalar
from ledger.protocol import polynomials, sodium
from tests.counts import trials

Q = sodium.GROUP_ORDER
COEFFICIENTS = st.lists(st.integers(1, 2**250), min_size=1, max_size=6)
"""Below half of the order: short sums of them are not zero."""


def scalar(value: int) -> bytes:
    return (value % Q).to_bytes(32, "little")


def points(*values: int) -> list[bytes]:
    return [sodium.scalarmult_base(scalar(value)) for value in values]


@settings(max_examples=trials(25, 500))
@given(COEFFICIENTS, st.integers(1, 2**32 - 1), st.sampled_from([0, 1]))
def test_values_and_commitments(coefficients: list[int], index: int, first: int) -> None:
    expected = sum(coefficient * index ** (place + first) for place, coefficient in enumerate(coefficients)) % Q
    secrets = [scalar(coefficient) for coefficient in coefficients]
    commitments = polynomials.commit(secrets)
    share = polynomials.evaluate(secrets, index, first)
    assert share == scalar(expected)
    assert polynomials.commitment_at(commitments, index, first) == sodium.scalarmult_base(share)
    assert polynomials.holds(share, index, commitments, first)
    assert not polynomials.holds(scalar(expected + 1), index, commitments, first)
    assert not polynomials.holds(share, index, commitments, 1 - first) or index == 1
    assert not polynomials.holds(share, index, (*commitments, commitments[0]), first)


@pytest.mark.parametrize("share", [bytes(32), scalar(-1), b"\xff" * 32, Q.to_bytes(32, "little"), b"", b"\x01" * 31])
def test_shares_that_are_no_scalars_never_hold(share: bytes) -> None:
    """1 - x is zero at 1: not even then is zero a share."""
    commitments = polynomials.commit([scalar(1), scalar(-1)])
    assert not polynomials.holds(share, 1, commitments)
    with pytest.raises(IdentityPoint):
        polynomials.commitment_at(commitments, 1)


def test_impossible_polynomials() -> None:
    for coefficients, index in (([], 1), ([scalar(1)], 0), ([scalar(1)], 2**32)):
        with pytest.raises(InvalidInput):
            polynomials.evaluate(coefficients, index)
        with pytest.raises(InvalidInput):
            polynomials.commitment_at(polynomials.commit(coefficients), index)
    for coefficient in (bytes(32), b"\xff" * 32):
        with pytest.raises(InvalidScalar):
            polynomials.evaluate([scalar(1), coefficient], 1)
        with pytest.raises(InvalidScalar):
            polynomials.commit([coefficient])
    with pytest.raises(InvalidPoint):
        polynomials.holds(scalar(1), 1, [b"\xff" * 32])


@settings(max_examples=trials(15, 200))
@given(st.lists(st.integers(1, Q - 1), min_size=1, max_size=5).filter(lambda values: sum(values) % Q))
def test_sums(values: list[int]) -> None:
    assert polynomials.sum_of_scalars([scalar(value) for value in values]) == scalar(sum(values))
    assert polynomials.sum_of_points(points(*values)) == points(sum(values))[0]


def test_sums_that_are_zero_on_the_way_and_at_the_end() -> None:
    assert polynomials.sum_of_scalars([scalar(5), scalar(-5), scalar(3)]) == scalar(3)
    assert polynomials.sum_of_points(points(5, -5, 3)) == points(3)[0]
    with pytest.raises(InvalidScalar):
        polynomials.sum_of_scalars([scalar(5), scalar(-5)])
    with pytest.raises(InvalidScalar):
        polynomials.sum_of_scalars([scalar(5), bytes(32)])
    with pytest.raises(IdentityPoint):
        polynomials.sum_of_points(points(5, -5))
    with pytest.raises(IdentityPoint):
        polynomials.sum_of_points([bytes(32), points(5)[0]])
