"""The interval of a share, against published values and for every small case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.wilson import wilson_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_values(hits: int, trials: int, low: float, high: float) -> None:
    """Table I of R. G. Newcombe, Statistics in Medicine 17 (1998), method 3."""
    assert [round(bound, 4) for bound in wilson_interval(hits, trials)] == [low, high]


def test_no_trial_says_nothing_and_all_or_none_reach_the_end() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0
    with pytest.raises(ValueError, match="among"):
        wilson_interval(2, 1)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_it_holds_the_share_and_mirrors(pair: tuple[int, int]) -> None:
    hits, trials = pair
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    other = wilson_interval(trials - hits, trials)
    assert low == pytest.approx(1 - other[1], abs=1e-12)
    assert high == pytest.approx(1 - other[0], abs=1e-12)
