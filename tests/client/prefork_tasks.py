"""A Celery worker that makes its client when it is loaded, and forks its pool afterwards.

`python -m tests.client.prefork_tasks PLAN TASKS FOLDER` runs the worker, has it do this number of tasks, and ends it.
Tasks are passed in memory; the answers to each are written to a file of the folder, as counts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.client.forking import ask, plan_from

PLAN = plan_from(sys.argv[1])
TASKS = int(sys.argv[2])
FOLDER = Path(sys.argv[3])
PATIENCE_SECONDS = 60.0

LEDGER = PLAN.open()
ask(LEDGER, PLAN, 0)
PARENT = os.getpid()

# Imported by name, because its types are not published.
celery: Any = import_module("celery")
signals: Any = import_module("celery.signals")
app = celery.Celery("prefork", broker="memory://")
app.conf.worker_hijack_root_logger = False


def _look_up(number: int) -> None:
    """Look up one of the people."""
    counts = ask(LEDGER, PLAN, number)
    if os.getpid() == PARENT:
        counts["done by the parent"] += 1
    part = FOLDER / f".{number}"
    part.write_text(json.dumps(counts))
    part.rename(FOLDER / f"{number}.json")


look_up = app.task(_look_up, name="look-up", ignore_result=True)


def _found() -> list[Path]:
    return list(FOLDER.glob("*.json"))


def _send(**_: Any) -> None:
    def send_and_wait() -> None:
        for number in range(TASKS):
            look_up.delay(number)
        end = time.monotonic() + PATIENCE_SECONDS
        while len(_found()) < TASKS and time.monotonic() < end:
            ask(LEDGER, PLAN, 0)  # the parent goes on asking, and makes new children meanwhile
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send_and_wait, daemon=True).start()


signals.worker_ready.connect(_send)


def main() -> None:
    """Run the worker until all is done, or the time is over. Does not return."""
    worker = ["worker", "--pool=prefork", "--concurrency=3", "--max-tasks-per-child=3", "--loglevel=ERROR"]
    code = 1
    try:
        app.worker_main([*worker, "--without-gossip", "--without-mingle", "--without-heartbeat"])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        # Celery's pool is closed by now. What it does once more when Python ends waits for a semaphore that a child may
        # have held when it ended, and then for ever: seen in 3 of 60 runs of a worker that has no client of ours.
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
