"""`serve` opens the database, keys and threads once, and hands them to the application."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ledger.cli.operator.serve import run as serve
from ledger.cli.operator.server import environment_of
from ledger.server import runtime
from ledger.server.runtime import Runtime
from tests.support import new_ledger


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_it_opens_its_runtime_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, port=0)
    (settings.keys_dir / "log.key").unlink()  # a host without a publisher needs neither key nor guard
    shutil.rmtree(settings.guard_dir)
    opened: list[Runtime] = []
    open_runtime = runtime.open_runtime

    def counted(*arguments: Any, **options: Any) -> Runtime:
        opened.append(open_runtime(*arguments, **options))
        return opened[-1]

    used: list[Runtime] = []

    def run(server: uvicorn.Server, sockets: object = None) -> None:
        async def live() -> None:
            server.config.load()
            application = server.config.loaded_app
            while not hasattr(application, "router"):
                application = application.app
            async with application.router.lifespan_context(application):
                used.append(application.state.runtime)

        asyncio.run(live())
        assert used[0].sequencer.alive(), "the application leaves closing it to `serve`"

    monkeypatch.setattr("ledger.server.runtime.open_runtime", counted)
    monkeypatch.setattr("api.app.open_runtime", counted)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    serve(settings, environment_of(settings), publisher=False, snapshotter=False)
    assert opened == used
    assert len(opened) == 1
    assert not settings.guard_dir.exists()
    assert not opened[0].sequencer.alive()


def test_closing_keeps_its_time_when_a_thread_hangs(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    rt = runtime.open_runtime(settings)
    hanging = threading.Event()

    def hang() -> None:
        hanging.set()
        time.sleep(5)  # a call that nothing can interrupt

    rt.snapshots.worker._step = hang
    rt.snapshots.worker.wake()
    assert hanging.wait(30)
    began = time.monotonic()
    assert not rt.close(0.5)
    assert time.monotonic() - began < 4
