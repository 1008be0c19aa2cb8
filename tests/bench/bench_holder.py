"""How much of libsodium's own speed a holder's service keeps: a batch of 1000 with token, budget, evaluation, proof and
JSON, against bare multiplications.

The baseline is that of `bench_oprf`: libsodium's multiplication as often as evaluation and proof need it (2n + 3), in
the same process and thread. The service is called as its ASGI application, with its database on disk, so everything but
the parsing of HTTP is measured. Rounds alternate, so that a change of clock speed meets both.

    python -m tests.bench holder
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from tests.bench.bench_oprf import BATCH, bare
from tests.holder.kit import Caller, Consortium, HolderService, TurnedClock, evaluation_body, holder_settings, points

TARGET_RATIO = 0.8
ROUNDS = 15


def run(folder: Path, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = baseline time / our time, median of rounds."""
    consortium = Consortium(folder)
    secret = consortium.generate().shares[1]
    caller, rows = Caller("acme", "acme-group"), []
    for threads in (1, 2):
        settings = holder_settings(
            consortium.folders["north"].path,
            threads=threads,
            daily_quota_elements=10**9,
            burst_elements=10**9,
            rate_elements_per_second=10**6,
        )
        service = HolderService(settings, consortium, TurnedClock())
        caller.admitted(service.rt.engine)
        service.rt.state.refresh()
        try:
            rows.append(_row(service, caller, secret, threads, rounds))
        finally:
            service.close()
    return rows


def _row(service: HolderService, caller: Caller, secret: bytes, threads: int, rounds: int) -> dict[str, Any]:
    elements = list(points(BATCH))
    timed(service, caller, BATCH)
    ours, baseline = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        bare(secret, elements, 2 * BATCH + 3, 0)
        baseline.append(time.perf_counter() - start)
        ours.append(timed(service, caller, BATCH))
    ratio = statistics.median(b / o for b, o in zip(baseline, ours, strict=True))
    name = (
        f"holder's service, batch of {BATCH} with token and budget, {'one thread' if threads == 1 else 'two threads'}"
    )
    return {
        "name": f"{name}, against libsodium: multiplications",
        "ours": round(BATCH / statistics.median(ours)),
        "baseline": round(BATCH / statistics.median(baseline)),
        "ratio": round(ratio, 3),
        "unit": "elements/s",
        "target": TARGET_RATIO,
        "met": ratio >= TARGET_RATIO,
    }


def timed(service: HolderService, caller: Caller, count: int) -> float:
    """The seconds of one request; its token is signed before."""
    body = evaluation_body(points(count))
    token = caller.token(service.holder, body, service.clock())
    fields = [(b"authorization", b"Bearer " + token.encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/oprf/evaluate", "query_string": b"", "headers": fields}
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def call() -> float:
        start = time.perf_counter()
        await service.app(scope, receive, send)
        return time.perf_counter() - start

    seconds = asyncio.run(call())
    assert statuses[0] == 200
    return seconds
