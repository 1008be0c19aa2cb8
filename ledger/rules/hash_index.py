"""Exact search by Hamming distance over many 256-bit hashes, by multi-index hashing.

The 256 bits are cut into 16 bands of 16. If two hashes differ in at most 31 bits, some band differs in at most
floor(31 / 16) = 1 bit, so it is enough to look at the hashes that agree in some band up to one bit: 16 x 17 short
lists, about 4,200 candidates of a million, instead of all. Each candidate is then compared in full. Nothing is missed
and nothing is found by chance: a property test holds it against comparing with every hash.

A list is a stretch of one array of positions, ordered by the band's value; `_starts` says where each begins. Hashes
that were added since the lists were made, the tail, are compared one by one until there are enough of them to make the
lists anew, which the next search does: half a second for a million, and rarer the more there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ledger.rules.pictures import HASH_BYTES, MAX_DISTANCE

Scalar = TypeVar("Scalar", bound=np.generic)

BANDS = 16
BAND_BITS = 16
_VALUES = 1 << BAND_BITS
_WORDS = HASH_BYTES // 8
_PROBES = np.concatenate([[0], 1 << np.arange(BAND_BITS)]).astype(np.int64)
_OFFSETS = (np.arange(BANDS, dtype=np.int64) * (_VALUES + 1))[:, None]

_LOW, _HALF, _BYTE, _TWO_BYTES = np.uint32(0x00FF00FF), np.uint32(0xFFFF), np.uint32(8), np.uint32(16)

assert MAX_DISTANCE // BANDS <= 1, "a band may differ in one bit at most, or the probes are too few"

TAIL_MIN = 4096
TAIL_SHARE = 128
"""The lists are made anew when more than 4096 hashes, and more than a 128th of all, are not in them yet: comparing a
longer tail would take most of a search."""

_GROWTH = 8
"""Arrays that are full grow by an eighth, so that adding one hash does not copy all."""


class HashIndex:
    """Hashes of 32 bytes, each under a number, in ascending order of the numbers. Not safe for use by two threads."""

    def __init__(self) -> None:
        self._count = 0
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._hashes: NDArray[np.uint64] = np.empty((0, _WORDS), np.uint64)
        self._listed = 0
        self._positions: NDArray[np.int32] = np.empty(0, np.int32)
        self._starts: NDArray[np.int64] = np.empty(0, np.int64)  # eight megabytes once there are lists

    def __len__(self) -> int:
        return self._count

    @property
    def last_id(self) -> int:
        """The highest number, -1 while there is none."""
        return int(self._ids[self._count - 1]) if self._count else -1

    def add(self, ids: Sequence[int] | NDArray[np.int64], hashes: bytes) -> None:
        """Add packed `hashes` under `ids`, which ascend and are higher than all before."""
        if len(hashes) != len(ids) * HASH_BYTES:
            raise ValueError("each number needs a hash of 32 bytes")
        if len(ids) == 0:
            return
        numbers = np.asarray(ids, np.int64)
        if numbers[0] <= self.last_id or np.any(np.diff(numbers) <= 0):
            raise ValueError("numbers must ascend")
        count = self._count + len(numbers)
        if count > len(self._ids):
            room = max(count, len(self._ids) + len(self._ids) // _GROWTH)
            self._ids = _grown(self._ids, self._count, room)
            self._hashes = _grown(self._hashes, self._count, room)
        self._ids[self._count : count] = numbers
        self._hashes[self._count : count] = np.frombuffer(hashes, np.uint64).reshape(-1, _WORDS)
        self._count = count

    def near(self, pdq: bytes) -> NDArray[np.int64]:
        """Return the numbers of all hashes within `MAX_DISTANCE` of `pdq`, ascending."""
        tail_length = self._count - self._listed
        if tail_length > TAIL_MIN and tail_length * TAIL_SHARE > self._count:
            self._list()
        searched = np.frombuffer(pdq, np.uint64)
        fresh = self._hashes[self._listed : self._count]
        tail = self._listed + np.flatnonzero(_differences(fresh, searched) <= MAX_DISTANCE)
        if self._listed == 0:
            return self._ids[tail]
        places = (_OFFSETS + (np.frombuffer(pdq, np.uint16).astype(np.int64)[:, None] ^ _PROBES)).ravel()
        starts, ends = self._starts[places].tolist(), self._starts[places + 1].tolist()
        positions = self._positions
        candidates = np.concatenate([positions[start:end] for start, end in zip(starts, ends, strict=True)])
        # `take` with a mode skips the check of bounds; indexing costs four times as much.
        compared = self._hashes.take(candidates, axis=0, mode="clip")
        hits = candidates[_differences(compared, searched) <= MAX_DISTANCE]
        ids: NDArray[np.int64] = self._ids[np.concatenate([np.unique(hits), tail])]
        return ids

    def _list(self) -> None:
        count = self._count
        # The old lists go first: two generations of them would be most of the memory.
        self._listed, self._positions = 0, np.empty(0, np.int32)
        bands = self._hashes[:count].view(np.uint16)
        positions = np.empty((BANDS, count), np.int32)
        starts = np.empty((BANDS, _VALUES + 1), np.int64)
        for band in range(BANDS):
            values = np.ascontiguousarray(bands[:, band])
            positions[band] = np.argsort(values, kind="stable")
            starts[band, 0] = band * count
            np.cumsum(np.bincount(values, minlength=_VALUES), out=starts[band, 1:])
            starts[band, 1:] += band * count
        self._positions, self._starts, self._listed = positions.ravel(), starts.ravel(), count


def distances(hashes: bytes, pdq: bytes) -> NDArray[np.uint32]:
    """Return the distance of `pdq` from each of some packed hashes."""
    return _differences(np.frombuffer(hashes, np.uint64).reshape(-1, _WORDS), np.frombuffer(pdq, np.uint64))


def _grown(array: NDArray[Scalar], count: int, room: int) -> NDArray[Scalar]:
    """Return a longer array that begins with the first `count` of `array`."""
    larger = np.empty((room, *array.shape[1:]), array.dtype)
    larger[:count] = array[:count]
    return larger


def _differences(hashes: NDArray[np.uint64], searched: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the number of bits in which each of `hashes` differs from `searched`."""
    # Four counts of one byte each are summed as halves of one number: many times faster than `sum(axis=1)` over four.
    counts = np.bitwise_count(hashes ^ searched).view(np.uint32).ravel()
    halves = (counts & _LOW) + (counts >> _BYTE & _LOW)
    differences: NDArray[np.uint32] = (halves & _HALF) + (halves >> _TWO_BYTES)
    return differences
