"""The processes that a server started, as Linux lists them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import RunningServer

PATIENCE_SECONDS = 60


def runs(pid: int, module: str) -> bool:
    """Whether the process is there and runs this module: one may end between two looks, its number go to another."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def started(server: RunningServer, module: str) -> list[int]:
    """Processes of this module that the server started. Linux lists a child under the thread that made it."""
    listed: list[int] = []
    for task in Path(f"/proc/{server._process.pid}/task").iterdir():
        try:
            listed += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # a thread that ended meanwhile
    return [pid for pid in listed if runs(pid, module)]


def group_of(leader: int) -> set[int]:
    """The processes of a process group that run, its leader among them."""
    members = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it ended meanwhile
        if int(group) == leader and state != "Z":
            members.add(int(status.parent.name))
    return members


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for something true and answer with it; the test fails with `what` when it does not come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := true()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return value
