"""Rotates and kills itself at a given stage: `python -m tests.faults.rotation_runner`.

Reads lines `<action> <stage> <count>`: rotate (or `apart`: the same with its multiplications in a process of their
own), retire or destroy, and at the count-th report of this stage die of
SIGKILL. Each line is done by a child of its own, forked before anything is opened; when it is gone, its exit status is
printed. A child that was refused exits with 1. Pieces are small, so that a stage has several of them.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime

from ledger.errors import RotationRefused
from ledger.server.db.engine import open_engine
from ledger.server.rotation import executor, fill, retire, run
from ledger.server.rotation.convert import RotationStage
from ledger.server.settings import Settings

fill.FILL_CHUNK, fill.PROOF_BATCH, retire.WINDOW = 7, 11, 15


def act(settings: Settings, action: str, point: str, count: int) -> None:
    """Do `action`, and die at `point`."""
    engine = open_engine(settings.database_url)

    def progress(stage: RotationStage, _done: int, _total: int) -> None:
        nonlocal count
        if stage == point:
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if action == "apart":
        executor.PROCESS_FROM = 0
    if action in ("rotate", "apart"):
        run.rotate(settings, engine, lambda: datetime.now(UTC), progress=progress)
    elif action == "retire":
        retire.retire(settings, engine, lambda: datetime.now(UTC), early=True, progress=progress)
    else:
        retire.destroy_settled(settings, engine, lambda: datetime.now(UTC) + 2 * retire.SETTLE, progress)


def main() -> None:
    """One child a line of standard input."""
    settings = Settings()
    for line in sys.stdin:
        action, point, count = line.split()
        child = os.fork()
        if child == 0:
            try:
                act(settings, action, point, int(count))
            except RotationRefused:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
