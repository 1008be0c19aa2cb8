"""How fast the local filter answers, and how large it is, with 10^6 tags in it.

The targets are absolute numbers, so the baseline of each row is the target itself. A filter file is mapped and opened
as the SDK does it; half of the tags that are asked for are in it, in random order. The best of several repeats counts:
what else the machine does can only make a repeat slower.

    python tests/bench/bench_filter.py
"""

from __future__ import annotations

import gc
import hashlib
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.snapshots.fuse_filter import FuseFilter, build

TAGS = 10**6
ONE_BY_ONE = 200_000
TARGET_ONE_BY_ONE = 500_000
TARGET_VECTORISED = 10_000_000
TARGET_BITS = 9.2
REPEATS = 7


def run(repeats: int = REPEATS) -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = ours / target number (for bits the inverse)."""
    random = np.random.default_rng(2022)
    members = random.integers(0, 256, (TAGS, 32), np.uint8)
    file = build(members, bytes(range(32)))
    asked = np.concatenate([members[: TAGS // 2], random.integers(0, 256, (TAGS - TAGS // 2, 32), np.uint8)])
    random.shuffle(asked)
    with tempfile.TemporaryFile() as handle:
        handle.write(file)
        handle.flush()
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            opened = FuseFilter.open(mapped, hashlib.sha256(file).digest())
            bits = opened.bits_per_key
            speeds = _speeds(opened, asked, repeats)
            del opened
    return [
        _row("one by one, contains()", speeds[0], TARGET_ONE_BY_ONE),
        _row("one by one, in", speeds[1], TARGET_ONE_BY_ONE),
        _row("vectorised", speeds[2], TARGET_VECTORISED),
        {
            "name": f"filter of {TAGS:,} tags: size of the file, against the target number",
            "ours": round(bits, 3),
            "baseline": TARGET_BITS,
            "ratio": round(TARGET_BITS / bits, 3),
            "unit": "bits/tag",
            "target": 1.0,
            "met": bits <= TARGET_BITS,
        },
    ]


def _speeds(opened: FuseFilter, asked: NDArray[np.uint8], repeats: int) -> tuple[float, float, float]:
    """Tags a second: by `contains`, by `in`, and vectorised."""
    singles = [tag.tobytes() for tag in asked[:ONE_BY_ONE]]
    return (
        len(singles) / _best(lambda: _each(opened.contains, singles), repeats),
        len(singles) / _best(lambda: _each_in(opened, singles), repeats),
        len(asked) / _best(lambda: opened.contains_many(asked), repeats),
    )


def _each(contains: Callable[[bytes], bool], tags: list[bytes]) -> None:
    for tag in tags:
        contains(tag)


def _each_in(opened: FuseFilter, tags: list[bytes]) -> None:
    for tag in tags:
        tag in opened  # noqa: B015


def _best(task: Callable[[], object], repeats: int) -> float:
    seconds = []
    gc.disable()
    try:
        for _ in range(repeats):
            start = time.perf_counter()
            task()
            seconds.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return min(seconds)


def _row(what: str, ours: float, target: int) -> dict[str, Any]:
    return {
        "name": f"filter of {TAGS:,} tags: checks {what}, against the target number",
        "ours": round(ours),
        "baseline": target,
        "ratio": round(ours / target, 3),
        "unit": "tags/s",
        "target": 1.0,
        "met": ours >= target,
    }


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, NumPy {np.__version__}")
    for row in run():
        print(row)
