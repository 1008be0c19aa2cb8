"""What a key costs that several holders share, 2 of 3, against one that one holder has.

- `tag()` of one new identifier with three holders on loopback against a ledger that evaluates itself: same SDK, real
  processes on SQLite, taking turns. Two holders evaluate at the same time, and the third one too, whose answer is not
  needed: with fewer cores than processes they share them.
- Verification and combination of 1000 elements from two holders against one share, same process, one thread. The
  combination takes the Lagrange coefficient and the blind off in one multiplication for each share and element.

Evaluation at a holder is measured by `bench_holder`.

    python -m tests.bench sharing
"""

from __future__ import annotations

import secrets
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ledger.client import RefundLedger
from ledger.protocol import voprf
from ledger.protocol.threshold import HolderKey, KeySet, Share, combine, verify_share
from ledger.server.demo.local_holders import shared_ledger
from ledger.server.demo.local_ledger import local_ledger
from tests.bench.bench_oprf import BATCH, alternate
from tests.oracles import shamir_share

TAG_RATIO, VERIFY_RATIO = 2.0, 2.2
TAGS = 150
ROUNDS = 15

Row = dict[str, Any]


def run(folder: Path, tags: int = TAGS, rounds: int = ROUNDS) -> list[Row]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = our time / baseline time."""
    return [tagging(folder, tags), verification(rounds)]


# --- tag() of one identifier -------------------------------------------------------------------------------------


def tagging(folder: Path, tags: int) -> Row:
    """The row of `tag()`: medians of all tags."""
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
    return _row(
        "tag() of one new identifier, 2 of 3 holders, against 1 of 1", ours, baseline, ours / baseline, TAG_RATIO
    )


def _tag(client: RefundLedger) -> float:
    """The seconds of a tag of a new number."""
    started = time.perf_counter()
    client.tag(phone=f"+86138{secrets.randbelow(10**8):08d}")
    return time.perf_counter() - started


# --- verification and combination --------------------------------------------------------------------------------


def verification(rounds: int) -> Row:
    """The row of verification and combination: medians of rounds."""
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
    ratio = statistics.median(pair / lone for pair, lone in zip(timings["two"], timings["one"], strict=True))
    name = f"verification and combination of {BATCH} elements, 2 shares, against 1"
    return _row(name, ours, baseline, ratio, VERIFY_RATIO)


def _share(index: int, secret: bytes, blinded: list[bytes]) -> Share:
    evaluation = voprf.evaluate(secret, blinded, secrets.token_bytes(64), workers=2)
    return Share(1, index, evaluation.evaluated, evaluation.proof)


def _row(name: str, ours: float, baseline: float, ratio: float, target: float) -> Row:
    """A row of two times in seconds; a ratio above the target misses it."""
    return {
        "name": name,
        "ours": round(ours * 1000, 2),
        "baseline": round(baseline * 1000, 2),
        "ratio": round(ratio, 3),
        "unit": "ms",
        "target": target,
        "met": ratio <= target,
    }
