"""What a key costs that several holders share, 2 of 3, against one that one holder has.

- `tag()` of one new identifier with three holders on loopback against a ledger that evaluates itself: same SDK, real
  processes on SQLite, taking turns. Two holders evaluate at the same time, and the third one too, whose answer is not
  needed: with fewer cores than processes they share them.
- Verification and combination of 1000 elements from two holders against one share, same process, one thread. The
  combination takes the Lagrange coefficient and the blind off in one multiplication for each share and element.
- Evaluation at a holder, batch of 1000: its whole application (token, JSON, checks, budget and token recorded in the
  database, evaluation, proof, answer) without the sockets, against libsodium's multiplications that evaluation and
  proof need, called in one thread and nothing else (2n + 3, see `bench_oprf`).

    python -m tests.bench.bench_holders
"""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ledger.client import RefundLedger
from ledger.protocol import voprf
from ledger.protocol.threshold import HolderKey, KeySet, Share, combine, verify_share
from ledger.server.demo.local_holders import shared_ledger
from ledger.server.demo.local_ledger import local_ledger
from tests.bench.bench_oprf import alternate, bare
from tests.holder.kit import Caller, Consortium, HolderService, TurnedClock, evaluation_body, holder_settings
from tests.oracles import shamir_share

BATCH = voprf.MAX_BATCH
TAG_RATIO, VERIFY_RATIO, EVALUATE_RATIO = 2.0, 2.2, 0.8
TAGS = 150
ROUNDS = 15

Row = dict[str, Any]


def run(folder: Path, tags: int = TAGS, rounds: int = ROUNDS) -> list[Row]:
    """Rows {name, ours, baseline, ratio, unit, target, met}. `ratio` = our time / baseline time of the first two, and
    baseline time / our time of evaluation: medians of rounds."""
    return [*verification(rounds), *evaluation(folder / "evaluation", rounds), *tagging(folder / "tagging", tags)]


# --- tag() of one identifier -------------------------------------------------------------------------------------


def tagging(folder: Path, tags: int = TAGS) -> list[Row]:
    """The row of `tag()`."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        single = stack.enter_context(local_ledger(folder / "single", {"acme": "acme-group"}, service="bench.example"))
        shared = stack.enter_context(shared_ledger(folder / "shared", {"acme": "acme-group"}, service="bench.example"))
        clients = {"one": single["acme"], "two": shared.platforms["acme"]}
        for _ in range(10):
            for client in clients.values():
                _tag(client)
        timings: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(tags):
            for name, client in clients.items():
                timings[name].append(_tag(client))
        failures = shared.platforms["acme"].holder_failures
        assert not failures, failures
    ours, baseline = (statistics.median(timings[name]) for name in ("two", "one"))
    return [_row("tag() of one new identifier, 2 of 3 holders, against 1 of 1", ours, baseline, TAG_RATIO, "ms")]


def _tag(client: RefundLedger) -> float:
    """The seconds of a tag of a new number."""
    started = time.perf_counter()
    client.tag(phone=f"+86138{secrets.randbelow(10**8):08d}")
    return time.perf_counter() - started


# --- verification and combination --------------------------------------------------------------------------------


def verification(rounds: int = ROUNDS) -> list[Row]:
    """The row of verification and combination."""
    secret = voprf.derive_secret(bytes(range(32)), b"bench")
    slope = voprf.derive_secret(bytes(range(32)), b"slope")
    blinds = [voprf.blinding_scalar(secrets.token_bytes(64)) for _ in range(BATCH)]
    blinded = voprf.blind([i.to_bytes(4, "big") for i in range(BATCH)], blinds)
    parts = {index: shamir_share(secret, [slope], index) for index in (1, 2, 3)}
    holders = [HolderKey(index, f"holder-{index}", voprf.public_key(part)) for index, part in parts.items()]
    shared = KeySet(1, 2, voprf.public_key(secret), tuple(holders))
    single = KeySet.single("ledger", voprf.public_key(secret))
    shares = [_share(index, parts[index], blinded) for index in (1, 3)]
    whole = _share(1, secret, blinded)

    def combined(keys: KeySet, given: list[Share]) -> list[bytes]:
        return combine(blinds, [verify_share(keys, blinded, share) for share in given])

    assert combined(shared, shares) == combined(single, [whole])
    timings = alternate(
        {"two": lambda: combined(shared, shares), "one": lambda: combined(single, [whole])},
        rounds,
    )
    ours, baseline = (statistics.median(timings[name]) for name in ("two", "one"))
    ratio = statistics.median(two / one for two, one in zip(timings["two"], timings["one"], strict=True))
    name = f"verification and combination of {BATCH} elements, 2 shares, against 1"
    return [_row(name, ours, baseline, VERIFY_RATIO, "ms", ratio)]


def _share(index: int, secret: bytes, blinded: list[bytes]) -> Share:
    evaluation = voprf.evaluate(secret, blinded, secrets.token_bytes(64), workers=2)
    return Share(1, index, evaluation.evaluated, evaluation.proof)


# --- evaluation at a holder --------------------------------------------------------------------------------------


def evaluation(folder: Path, rounds: int = ROUNDS) -> list[Row]:
    """The rows of evaluation at a holder: one thread, and two."""
    consortium, clock = Consortium(folder), TurnedClock()
    share = consortium.generate().shares[1]
    points = [voprf.hash_to_group(i.to_bytes(4, "big")) for i in range(BATCH)]
    body, caller = evaluation_body(points), Caller("acme", "acme-group")
    budgets = {"daily_quota_elements": 10**9, "burst_elements": 10**6, "rate_elements_per_second": 10**6}
    services = {}
    try:
        for threads, name in ((1, "north"), (2, "south")):
            settings = holder_settings(consortium.folders[name].path, threads=threads, **budgets)
            services[threads] = HolderService(settings, consortium, clock)
            services[threads].rt.follower.follow()
            caller.admitted(services[threads].rt.engine)
            services[threads].rt.state.refresh()

        def evaluate(threads: int) -> None:
            clock.turn(seconds=1)
            service = services[threads]
            answer = service.post("/v1/oprf/evaluate", caller.token(service.holder, body, clock()), body)
            assert answer.status == 200, answer.body

        timings = alternate(
            {
                "multiplications": lambda: bare(share, points, 2 * BATCH + 3, 0),
                "one thread": lambda: evaluate(1),
                "two threads": lambda: evaluate(2),
            },
            rounds,
        )
    finally:
        for service in services.values():
            service.close()
    rows = []
    for ours in ("one thread", "two threads"):
        pairs = zip(timings["multiplications"], timings[ours], strict=True)
        ratio = statistics.median(baseline / seconds for baseline, seconds in pairs)
        rows.append(
            {
                "name": f"evaluation at a holder, batch of {BATCH}, token and budget, {ours}, against libsodium",
                "ours": round(BATCH / statistics.median(timings[ours])),
                "baseline": round(BATCH / statistics.median(timings["multiplications"])),
                "ratio": round(ratio, 3),
                "unit": "elements/s",
                "target": EVALUATE_RATIO,
                "met": ratio >= EVALUATE_RATIO,
            }
        )
    return rows


def _row(name: str, ours: float, baseline: float, target: float, unit: str, ratio: float | None = None) -> Row:
    """A row of two times in seconds; a ratio above the target misses it."""
    ratio = ours / baseline if ratio is None else ratio
    return {
        "name": name,
        "ours": round(ours * 1000, 2),
        "baseline": round(baseline * 1000, 2),
        "ratio": round(ratio, 3),
        "unit": unit,
        "target": target,
        "met": ratio <= target,
    }


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="rcl-bench-") as name:
        for row in run(Path(name)):
            print(row)
