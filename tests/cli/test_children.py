"""The processes beside a server: one that dies is started again, and none after the server is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from ledger.cli.operator import serve
from tests.processes import until

PATIENCE_SECONDS = 10


class Sleeper(serve.Child):
    """A child whose program says who it is and sleeps; `fail` attempts to start it find no process left."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.fail = 0
        super().__init__("sleeper", dict(os.environ))

    def _spawn(self) -> subprocess.Popen[str]:
        if self.fail:
            self.fail -= 1
            raise OSError(11, "Resource temporarily unavailable")
        program = 'import time; print(\'{"error": "x", "message": "said"}\', flush=True); time.sleep(60)'
        command = [sys.executable, "-S", "-E", "-c", program]
        process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True, errors="replace")
        self.started.append(process.pid)
        return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_died_is_started_again_until_stop(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "RESTART_SECONDS", 0.02)
    child = Sleeper()
    try:
        child.watch()
        for times in (2, 3):
            os.kill(child.started[-1], number)
            until(lambda times=times: len(child.started) == times, "it was not started again")  # type: ignore[misc]
        restarts = [record for record in caplog.records if record.message == "process_restarted"]
        assert [(record.child, record.status) for record in restarts] == [("sleeper", -number)] * 2  # type: ignore[attr-defined]
        until(lambda: any(record.message == "process_refuses" for record in caplog.records), "its words are not logged")
        child.fail = 2
        os.kill(child.started[-1], number)
        until(lambda: len(child.started) == 4, "it was not tried again")
        assert [record.message for record in caplog.records].count("process_not_started") == 2
    finally:
        child.stop()
    assert child._watcher is not None
    assert not child._watcher.is_alive()
    assert len(child.started) == 4, "none is started after the end"
    with pytest.raises(ProcessLookupError):
        os.kill(child.started[-1], 0)


def test_a_child_that_is_being_started_when_the_server_stops_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "RESTART_SECONDS", 0.0)
    spawning, may_spawn = threading.Event(), threading.Event()

    class Late(Sleeper):
        def _spawn(self) -> subprocess.Popen[str]:
            if self.started:
                spawning.set()
                assert may_spawn.wait(PATIENCE_SECONDS)
            return super()._spawn()

    caplog.set_level(logging.WARNING)
    child = Late()
    child.watch()
    os.kill(child.started[0], signal.SIGKILL)
    assert spawning.wait(PATIENCE_SECONDS)
    stopping = threading.Thread(target=child.stop)
    stopping.start()
    until(child._stop.is_set, "it is not asked to stop")
    may_spawn.set()
    stopping.join(PATIENCE_SECONDS)
    assert child._watcher is not None
    child._watcher.join(PATIENCE_SECONDS)
    assert not child._watcher.is_alive()
    assert (len(child.started), child._process.poll()) == (2, -signal.SIGTERM)
