"""How fast public ids are encoded, against the library that defines them.

A process encodes the ids of lookups in blocks of ten thousand, in a thread beside the one that answers. The baseline is
`Hashids.encode` of the same numbers in the same run; both give the same texts. The best of several repeats counts.

    python -m tests.bench ids
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hashids import Hashids  # type: ignore[import-untyped]

from ledger.protocol.public_ids import encode_id
from ledger.server.db.id_blocks import BLOCK

SERVICE = "ledger.example"
FIRST = 10**9
REPEATS = 5
TARGET = 5.0


def run(repeats: int = REPEATS) -> list[dict[str, Any]]:
    """One row {name, ours, baseline, ratio, unit, target, met}; `ratio` = ours / baseline."""
    library = Hashids(salt=f"refund-ledger:{SERVICE}:lk", min_length=8)
    numbers = range(FIRST, FIRST + BLOCK)
    ours, our_seconds = _best(lambda: [encode_id("lk", number, SERVICE) for number in numbers], repeats)
    theirs, their_seconds = _best(lambda: [f"lk_{library.encode(number)}" for number in numbers], repeats)
    if ours != theirs:
        raise AssertionError("the ids are not those of the library")
    ratio = their_seconds / our_seconds
    return [
        {
            "name": f"a block of {BLOCK:,} public ids, against hashids",
            "ours": round(BLOCK / our_seconds),
            "baseline": round(BLOCK / their_seconds),
            "ratio": round(ratio, 3),
            "unit": "ids/s",
            "target": TARGET,
            "met": ratio >= TARGET,
        }
    ]


def _best(task: Callable[[], list[str]], repeats: int) -> tuple[list[str], float]:
    """Return the ids and the shortest time in seconds."""
    seconds = []
    ids: list[str] = []
    for _ in range(repeats):
        started = time.perf_counter()
        ids = task()
        seconds.append(time.perf_counter() - started)
    return ids, min(seconds)
