"""Builds snapshots and kills itself at a given stage: `python -m tests.faults.snapshot_builder`.

Reads lines `<stage>` or `<stage> <count>`: build, and at the count-th report of this stage (default: the first) die of
SIGKILL; `commit` dies in place of the commit that would publish. Each line is done by a child of its own, forked before
anything is opened; when it is gone, its exit status is printed.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from datetime import UTC, datetime

from sqlalchemy import event

from ledger.server.keys.files import load_log_key
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from ledger.server.snapshots.files import BuildStage


def build(settings: Settings, point: str, count: int) -> None:
    """Build, and die at `point`."""
    engine = builder_engine(settings)
    publishing = False

    def progress(stage: BuildStage, _done: int, _total: int) -> None:
        nonlocal count, publishing
        publishing = publishing or stage == BuildStage.PUBLISHING
        if stage == point:
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    @event.listens_for(engine, "commit")
    def _on_commit(_connection: object) -> None:
        if publishing and point == "commit":
            os.kill(os.getpid(), signal.SIGKILL)

    build_and_publish(
        settings, engine, load_log_key(settings), datetime.now(UTC), random_bytes=secrets.token_bytes, progress=progress
    )


def main() -> None:
    """One child a line of standard input."""
    settings = Settings()
    for line in sys.stdin:
        point, _, count = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            build(settings, point, int(count or 1))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
