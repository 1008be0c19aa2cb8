"""Multi-index hashing finds exactly what comparing with every hash finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.rules import hash_index
from ledger.rules.hash_index import HashIndex
from ledger.rules.pictures import MAX_DISTANCE, distance


def flipped(pdq: bytes, bits: list[int]) -> bytes:
    number = int.from_bytes(pdq)
    for bit in bits:
        number ^= 1 << bit
    return number.to_bytes(32)


def brute(ids: list[int], hashes: list[bytes], searched: bytes) -> list[int]:
    return [number for number, pdq in zip(ids, hashes, strict=True) if distance(pdq, searched) <= MAX_DISTANCE]


def listed(ids: list[int], hashes: list[bytes]) -> HashIndex:
    """An index with everything in its lists."""
    index = HashIndex()
    index.add(ids, b"".join(hashes))
    index._list()
    return index


@st.composite
def crowds(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A hash, and others at drawn distances around the limit, with bits drawn anywhere or crowded into few bands."""
    searched = draw(st.binary(min_size=32, max_size=32))
    hashes = []
    for _ in range(draw(st.integers(0, 12))):
        count = draw(st.integers(0, 40))
        within = draw(st.sampled_from([256, 128, 64, 48]))
        hashes.append(flipped(searched, draw(st.permutations(range(within)))[:count]))
    return searched, hashes


@given(crowds(), st.integers(0, 12))
def test_it_finds_what_brute_force_finds(crowd: tuple[bytes, list[bytes]], cut: int) -> None:
    searched, hashes = crowd
    ids = list(range(7, 7 + 3 * len(hashes), 3))
    assert listed(ids, hashes).near(searched).tolist() == brute(ids, hashes, searched)
    index = listed(ids[:cut], hashes[:cut])  # the rest in the tail
    index.add(ids[cut:], b"".join(hashes[cut:]))
    assert index.near(searched).tolist() == brute(ids, hashes, searched)


@pytest.mark.parametrize("lone", range(16))
def test_the_hardest_spreads_of_31_bits(lone: int) -> None:
    """Two bits in each band but one, which alone is found within one bit; and one bit more there."""
    searched = bytes(range(32))
    bits = [16 * band + bit for band in range(16) for bit in (3, 9) if (band, bit) != (lone, 9)]
    near, far = flipped(searched, bits), flipped(searched, [*bits, 16 * lone + 9])
    assert (distance(near, searched), distance(far, searched)) == (31, 32)
    assert listed([1, 2], [near, far]).near(searched).tolist() == [1]


def test_no_count_of_bits_overflows() -> None:
    nothing, everything = bytes(32), b"\xff" * 32
    assert listed([1], [everything]).near(nothing).tolist() == []
    assert listed([1], [everything]).near(everything).tolist() == [1]


def test_many_at_random_and_the_lists_made_anew() -> None:
    random = np.random.default_rng(5)
    hashes: NDArray[np.uint8] = random.integers(0, 256, (28_000, 32), np.uint8)
    index = HashIndex()
    for start in range(0, 28_000, 2_000):
        index.add(np.arange(start, start + 2_000), hashes[start : start + 2_000].tobytes())
        index.near(bytes(32))
    assert hash_index.TAIL_MIN < index._listed < len(index), "some in lists, some in the tail"
    for place in random.integers(0, 28_000, 60).tolist():
        bits = random.permutation(256)[: int(random.integers(0, 40))].tolist()
        searched = flipped(hashes[place].tobytes(), bits)
        differences = np.bitwise_count(hashes ^ np.frombuffer(searched, np.uint8)).sum(axis=1, dtype=int)
        assert index.near(searched).tolist() == np.flatnonzero(differences <= MAX_DISTANCE).tolist()


def test_numbers_ascend() -> None:
    index = HashIndex()
    index.add([3], bytes(32))
    assert (len(index), index.last_id) == (1, 3)
    for ids in ([3], [5, 4]):
        with pytest.raises(ValueError, match="ascend"):
            index.add(ids, bytes(32 * len(ids)))
    with pytest.raises(ValueError, match="32 bytes"):
        index.add([4], b"")
