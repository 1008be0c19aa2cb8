"""How fast a reused picture is found among 10^6 hashes, against comparing with every hash in NumPy; recall is checked.

Half of the questions are hashes that are there, changed in 31 bits; the others are of no report. The tail that is not
in the lists is as long as it gets before they are made anew, which the first search has done.

    python tests/bench/bench_pictures.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ledger.rules.hash_index import TAIL_SHARE, HashIndex
from ledger.rules.pictures import HASH_BYTES, MAX_DISTANCE

HASHES = 10**6
QUESTIONS = 1_000
COMPARED = 100
TARGET = 50.0


def run() -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; the target is missed too if anything is."""
    random = np.random.default_rng(7)
    hashes = random.integers(0, 2**64, (HASHES, 4), np.uint64)
    index = HashIndex()
    listed = HASHES - HASHES // TAIL_SHARE
    index.add(np.arange(listed), hashes[:listed].tobytes())
    index.near(bytes(HASH_BYTES))
    index.add(np.arange(listed, HASHES), hashes[listed:].tobytes())
    asked = random.integers(0, 256, (QUESTIONS, 32), np.uint8)
    for place in range(0, QUESTIONS, 2):
        bits = np.unpackbits(hashes[random.integers(HASHES)].view(np.uint8))
        bits[random.permutation(256)[:MAX_DISTANCE]] ^= 1
        asked[place] = np.packbits(bits)
    questions = [item.tobytes() for item in asked]
    start = time.perf_counter()
    results = [index.near(question).tolist() for question in questions]
    ours = (time.perf_counter() - start) / QUESTIONS
    start = time.perf_counter()
    expected = [
        np.flatnonzero(np.bitwise_count(hashes ^ np.frombuffer(each, np.uint64)).sum(axis=1) <= MAX_DISTANCE).tolist()
        for each in questions[:COMPARED]
    ]
    brute = (time.perf_counter() - start) / COMPARED
    whole = results[:COMPARED] == expected and all(results[::2])
    return [
        {
            "name": f"reused pictures among {HASHES:,}: searches (recall {'1.0' if whole else 'below 1'}), NumPy",
            "ours": round(1 / ours),
            "baseline": round(1 / brute),
            "ratio": round(brute / ours, 1),
            "unit": "searches/s",
            "target": TARGET,
            "met": whole and brute >= TARGET * ours,
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
