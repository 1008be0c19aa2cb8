"""A load generator that is not the bottleneck: raw HTTP/1.1 over keep-alive sockets in a process of its own.

Requests are made beforehand and sent as they are; of an answer only the status and the length are looked at. One
process does about 30,000 requests a second here, ten times what the servers under test do.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Load:
    """What a run saw: requests a second, latencies in milliseconds, and how many answers of each status."""

    per_second: float
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]
    seconds: float


def request(method: str, url: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of one request."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def run(url: str, requests: list[bytes], *, connections: int, seconds: float | None = None) -> Load:
    """Send `requests` once each over `connections`, or over and over for `seconds`. Runs in its own process."""
    parts = urlsplit(url)
    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        pickle.dump((parts.hostname, parts.port, requests, connections, seconds), file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.load", file.name],
            cwd=ROOT, check=True, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    answer = json.loads(done.stdout)
    answer["statuses"] = {int(status): count for status, count in answer["statuses"].items()}
    return Load(**answer)


class _Client(asyncio.Protocol):
    def __init__(self, shared: _Shared) -> None:
        self.shared = shared
        self.buffer = bytearray()
        self.need = -1
        self.waiting = False
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.send()

    def send(self) -> None:
        payload = self.shared.next()
        if payload is None:
            self.transport.close()
            self.shared.finished()
            return
        self.sent_at = time.perf_counter()
        self.waiting = True
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        if self.need < 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end]).lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise RuntimeError(f"an answer without Content-Length: {head!r}")
            stop = head.find(b"\r\n", at)
            self.need = end + 4 + int(head[at + 15 : stop if stop >= 0 else len(head)])
        if len(buffer) >= self.need:
            self.shared.record(int(buffer[9:12]), time.perf_counter() - self.sent_at)
            buffer.clear()
            self.need = -1
            self.waiting = False
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting and not self.shared.failed.done():
            self.shared.failed.set_exception(error or RuntimeError("the server closed a connection half-way"))


class _Shared:
    def __init__(self, requests: list[bytes], connections: int, seconds: float | None) -> None:
        self.requests, self.open, self.index = requests, connections, 0
        self.deadline = None if seconds is None else time.perf_counter() + seconds
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        if self.deadline is None:
            if self.index >= len(self.requests):
                return None
        elif time.perf_counter() >= self.deadline:
            return None
        self.index += 1
        return self.requests[(self.index - 1) % len(self.requests)]

    def record(self, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.latencies.append(seconds)

    def finished(self) -> None:
        self.open -= 1
        if self.open == 0 and not self.failed.done():
            self.failed.set_result(None)


async def _drive(host: str, port: int, requests: list[bytes], connections: int, seconds: float | None) -> Load:
    loop = asyncio.get_running_loop()
    shared = _Shared(requests, connections, seconds)

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not shared.failed.done():  # or the run would wait for ever
            shared.failed.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(fail)
    started = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(shared), host, port)
    await shared.failed
    elapsed = time.perf_counter() - started
    latencies = sorted(shared.latencies)
    count = len(latencies)
    return Load(
        per_second=count / elapsed,
        p50_ms=latencies[count // 2] * 1000,
        p99_ms=latencies[min(count - 1, count * 99 // 100)] * 1000,
        statuses=dict(shared.statuses),
        seconds=elapsed,
    )


def main() -> None:
    """Run in a process of its own: read the plan from a file, print the result as JSON."""
    import uvloop

    host, port, requests, connections, seconds = pickle.loads(Path(sys.argv[1]).read_bytes())
    load = uvloop.run(_drive(host, port, requests, connections, seconds))
    print(json.dumps({name: getattr(load, name) for name in Load.__dataclass_fields__}))


if __name__ == "__main__":
    main()
