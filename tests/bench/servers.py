"""Yardstick servers in processes of their own, and loads that alternate between two servers."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx2

from tests.bench import load
from tests.faulty import free_port
from tests.support import ROOT

CONNECTIONS = 16


@contextmanager
def uvicorn(factory: str, quiet: bool = False, /, **environment: str) -> Iterator[str]:
    """The URL of an application under uvicorn, with the loop and parser that the ledger's own server takes. `quiet`
    drops what it writes: the ledger's own access log."""
    port = free_port()
    output = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port), "--loop", "uvloop",
         "--http", "httptools", "--no-access-log", "--log-level", "warning"],
        cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(400):
            try:
                httpx2.get(f"{url}/openapi.json")
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def against(
    ours: tuple[str, list[bytes]], theirs: tuple[str, list[bytes]], *, seconds: float, rounds: int
) -> tuple[float, float, float]:
    """Requests a second of both (URL, requests), and their ratio: medians over rounds that take turns, so that whatever
    else the machine does meets both."""
    results = []
    for _ in range(rounds):
        pair = [measured(url, requests, seconds).per_second for url, requests in (ours, theirs)]
        results.append((pair[0], pair[1], pair[0] / pair[1]))
    return tuple(statistics.median(column) for column in zip(*results, strict=True))


def measured(url: str, requests: Sequence[bytes], seconds: float, connections: int = CONNECTIONS) -> load.Load:
    """A load of which every answer was 200."""
    result = load.run(url, list(requests), connections=connections, seconds=seconds)
    assert set(result.statuses) == {200}, result
    return result
