"""What a rotation costs on top of its multiplications: 10^5 elements in two batches, with proofs, commitments and root.

The baseline calls libsodium's multiplication once for each element and nothing else, in one thread of the same process:
what turning T into T' takes at the least. A proof takes another multiplication and an addition for each element (the
composite M), so one thread cannot come near 1.4 of that; the second row shares the work among two threads, as a server
does, and the third compares one thread with all multiplications that a proven rotation has to make (2n + 4 a batch):
what additions, hashing and Python cost on top. `ratio` is our time / baseline time, at most `target`. Rounds
alternate, so that a change of clock speed meets all.

    python -m tests.bench.bench_rotation

`run_service` measures the same through the service on a durable PostgreSQL: filling rows under the head, batch files on
disk, the switch with its check that no row is missing. Its baselines are all the multiplications that this takes, with
as many threads, and n of them in one. The database's work and Python's run beside the multiplications, which are in a
process of their own: so the first is met where a core is left for them, not where threads take them all.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from ledger.protocol import sodium, voprf
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.db.bulk import insert_rows
from ledger.server.db.engine import open_engine, writing
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.files import load_oprf
from ledger.server.rotation.run import rotate
from ledger.tlog import key_rotation as rotation
from ledger.tlog.key_rotation import Rotated, RotationKeys, RotationTree
from tests.support import new_ledger

ELEMENTS = 100_000
TARGET_RATIO = 1.4
ROUNDS = 3
NONCE = bytes(range(64))
MULTIPLICATIONS_BESIDES = 4  # in each proof: the check of the factor, Z, t2 and t3


def run(elements: int = ELEMENTS, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = our time / baseline time, median of rounds."""
    old_secret, new_secret = (voprf.derive_secret(bytes(32), info) for info in (b"old", b"new"))
    keys = RotationKeys(1, 2, voprf.public_key(old_secret), voprf.public_key(new_secret))
    factor = rotation.rotation_factor(old_secret, new_secret)
    points = [voprf.hash_to_group(i.to_bytes(4, "big")) for i in range(elements)]
    salts = [sha256(i.to_bytes(4, "big")).digest() for i in range(elements)]
    batches = -(-elements // rotation.MAX_BATCH)
    timings = _alternate(
        {
            "n multiplications": lambda: bare(factor, points),
            "one thread": lambda: _rotate(factor, keys, points, salts, 1),
            "two threads": lambda: _rotate(factor, keys, points, salts, 2),
        },
        rounds,
    )
    needed = 2 + MULTIPLICATIONS_BESIDES * batches / elements
    timings["all its multiplications"] = [seconds * needed for seconds in timings["n multiplications"]]
    name = f"rotation of {elements:,} elements, core only"
    return [
        row(name, timings, "one thread", "n multiplications"),
        row(name, timings, "two threads", "n multiplications"),
        row(name, timings, "one thread", "all its multiplications"),
    ]


def run_service(new_database: Callable[[], str], folder: Path, elements: int = ELEMENTS) -> list[dict[str, Any]]:
    """Rows as `run`. `new_database()` gives an empty PostgreSQL database."""
    points = [voprf.hash_to_group(i.to_bytes(4, "big")) for i in range(elements)]
    first = _service(new_database(), folder / "one", points, 1)
    two = _service(new_database(), folder / "two", points, 2)
    name, everything = f"rotation of {elements:,} elements, PostgreSQL", "all its multiplications, as many threads"
    single = {"two threads": two["ours"], "n multiplications": [sum(first["bare"]) / 2]}
    return [
        row(name, {"one thread": first["ours"], everything: [sum(first["bare"])]}, "one thread", everything),
        row(name, {"two threads": two["ours"], everything: [sum(two["bare"])]}, "two threads", everything),
        row(name, single, "two threads", "n multiplications"),
    ]


def _service(database_url: str, folder: Path, points: list[bytes], threads: int) -> dict[str, list[float]]:
    """Seconds of a whole rotation, and of n multiplications before and after it."""
    settings = new_ledger(database_url, folder, oprf_threads=threads)
    scalar = load_oprf(settings, 1)[2]
    engine = open_engine(settings.database_url)
    try:
        record(engine, points)
        before = _seconds(lambda: bare_threaded(scalar, points, threads))
        ours = _seconds(lambda: rotate(settings, engine, lambda: datetime.now(UTC)))
        after = _seconds(lambda: bare_threaded(scalar, points, threads))
    finally:
        engine.dispose()
    return {"ours": [ours], "bare": [before, after]}


def record(engine: Engine, points: list[bytes]) -> None:
    """A subject and a listing for each element under epoch 1, as if each had been reported by itself."""
    day, hour = 20_000, 480_000
    common = {"slot": 0, "epoch": 1, "kind": "phone"}
    fixed = {"control_group": "east", "conduct": "wardrobing", "amount_minor": 1, "currency": "CNY"}
    marks = dict.fromkeys(("disputed", "unconfirmed", "restituted", "has_statement"), False)
    days = {"act_day": day, "effective_hour": hour, "expires_day": day + 90}
    for start in range(0, len(points), 10_000):
        numbered = list(enumerate(points[start : start + 10_000], 1000 + start))
        subjects = [{"report_id": n, "element": value, "salt": value, **common} for n, value in numbered]
        listings = [
            {"tag": tag("phone", item), "report_id": n, "act_id": n, **common, **fixed, **marks, **days}
            for n, item in numbered
        ]
        with writing(engine) as connection:
            insert_rows(connection, Subject, subjects)
            insert_rows(connection, Listing, listings)


def bare_threaded(scalar: bytes, points: list[bytes], threads: int) -> None:
    """`bare`, shared among threads: libsodium runs without the interpreter's lock."""
    size = -(-len(points) // threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(bare, scalar, points[start : start + size]) for start in range(0, len(points), size)]
        for part in parts:
            part.result()


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def bare(scalar: bytes, points: list[bytes]) -> None:
    """libsodium's multiplication of each point, the results thrown away."""
    multiply = sodium._lib().crypto_scalarmult_ristretto255
    product = ctypes.create_string_buffer(32)
    for point in points:
        if multiply(product, scalar, point) != 0:
            raise AssertionError("libsodium refused a valid point")


def row(name: str, timings: dict[str, list[float]], ours: str, baseline: str) -> dict[str, Any]:
    """One row of the table; a ratio above the target misses it."""
    ratio = statistics.median(o / b for b, o in zip(timings[baseline], timings[ours], strict=True))
    return {
        "name": f"{name}, {ours}, against libsodium: {baseline}",
        "ours": round(statistics.median(timings[ours]), 2),
        "baseline": round(statistics.median(timings[baseline]), 2),
        "ratio": round(ratio, 3),
        "unit": "s",
        "target": TARGET_RATIO,
        "met": ratio <= TARGET_RATIO,
    }


def _rotate(factor: bytes, keys: RotationKeys, points: list[bytes], salts: list[bytes], workers: int) -> bytes:
    """The root over the whole rotation, its proofs made and dropped."""
    tree = RotationTree()
    for start in range(0, len(points), rotation.MAX_BATCH):
        old = points[start : start + rotation.MAX_BATCH]
        new = rotation.rotate_elements(factor, old, workers=workers)
        rotation.prove(factor, keys, old, new, NONCE, workers=workers)
        for i, (t, t_new) in enumerate(zip(old, new, strict=True), start):
            item = Rotated(i, 0, Kind.PHONE, t, t_new, salts[i], salts[-i])
            tree.add(*item.place, *rotation.commitments(item, keys))
    return tree.root()


def _alternate(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    timings: dict[str, list[float]] = {name: [] for name in tasks}
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


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    for result in run():
        print(result)
