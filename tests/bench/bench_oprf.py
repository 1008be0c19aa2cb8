"""How much of libsodium's own speed an evaluation keeps: a batch of 1000 with its proof, against bare multiplications.

The baseline calls libsodium's multiplication, and nothing else, as often as the protocol has to multiply (2n + 3:
n evaluations, n for the composite, then Z, t2 and t3), in the same process and thread. The composite also needs n - 1
additions of encoded points, each with two decodings and one encoding (over a quarter of a multiplication): with them
alone, bare libsodium keeps no more than about 0.87 of the baseline. The last row compares with multiplications and
additions together and shows what hashing, proof and Python cost on top. Rounds alternate, so that a change of clock
speed meets all.

    python tests/bench/bench_oprf.py
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from ledger.protocol import sodium, voprf

BATCH = voprf.MAX_BATCH
TARGET_RATIO = 0.85
TARGET_RATIO_WITH_ADDITIONS = 0.95
ROUNDS = 15


def run(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = baseline time / our time, median of rounds."""
    secret = voprf.derive_secret(bytes(range(32)), b"bench")
    nonce = bytes(range(64))
    points = [voprf.hash_to_group(i.to_bytes(4, "big")) for i in range(BATCH)]
    timings = alternate(
        {
            "multiplications": lambda: bare(secret, points, 2 * BATCH + 3, 0),
            "multiplications and additions": lambda: bare(secret, points, 2 * BATCH + 3, BATCH - 1),
            "one thread": lambda: voprf.evaluate(secret, points, nonce),
            "two threads": lambda: voprf.evaluate(secret, points, nonce, workers=2),
        },
        rounds,
    )
    return [
        _row(timings, "one thread", "multiplications", TARGET_RATIO),
        _row(timings, "two threads", "multiplications", TARGET_RATIO),
        _row(timings, "one thread", "multiplications and additions", TARGET_RATIO_WITH_ADDITIONS),
    ]


def alternate(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each task in each round; tasks take turns, after a round that is not measured."""
    timings: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, task in tasks.items():
                start = time.perf_counter()
                task()
                timings[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return timings


def bare(scalar: bytes, points: list[bytes], multiplications: int, additions: int) -> None:
    """Call libsodium's multiplication and addition this often, and nothing else."""
    lib = sodium._lib()
    multiply, add = lib.crypto_scalarmult_ristretto255, lib.crypto_core_ristretto255_add
    product, total = ctypes.create_string_buffer(32), ctypes.create_string_buffer(points[0], 32)
    n = len(points)
    for i in range(multiplications):
        if multiply(product, scalar, points[i % n]) != 0:
            raise AssertionError("libsodium refused a valid point")
    for i in range(additions):
        if add(total, total, points[i % n]) != 0:
            raise AssertionError("libsodium refused a valid point")


def _row(timings: dict[str, list[float]], ours: str, baseline: str, target: float) -> dict[str, Any]:
    ratio = statistics.median(b / o for b, o in zip(timings[baseline], timings[ours], strict=True))
    return {
        "name": f"oprf evaluate, batch of {BATCH} with proof, {ours}, against libsodium: {baseline}",
        "ours": round(BATCH / statistics.median(timings[ours])),
        "baseline": round(BATCH / statistics.median(timings[baseline])),
        "ratio": round(ratio, 3),
        "unit": "elements/s",
        "target": target,
        "met": ratio >= target,
    }


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    for row in run():
        print(row)
