"""A web application that makes its client when it is loaded: `gunicorn --preload` loads it once and then forks.

The environment variable PREFORK_PLAN holds a `Plan`. The module is gunicorn's configuration too: the first worker is
forked while the parent is idle, the others while threads of the parent look up. `GET /<number>` looks up one of the
people and answers with what was wrong, or `right`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.client.forking import PAUSE_SECONDS, THREADS, ask, plan_from

PLAN = plan_from(os.environ["PREFORK_PLAN"])
LEDGER = PLAN.open()
PARENT = os.getpid()
BUSY_SECONDS = 0.5

ask(LEDGER, PLAN, 0)


def pre_fork(arbiter: object, worker: Any) -> None:
    """Called by gunicorn in the parent before each fork; `worker.age` counts from 1."""
    if worker.age != 2:
        return
    end, started = time.monotonic() + BUSY_SECONDS, threading.Barrier(THREADS + 1)

    def be_busy() -> None:
        ask(LEDGER, PLAN, 0)
        started.wait()
        while time.monotonic() < end:
            ask(LEDGER, PLAN, 0)
            time.sleep(PAUSE_SECONDS)

    for _ in range(THREADS):
        threading.Thread(target=be_busy, daemon=True).start()
    started.wait()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    counts = ask(LEDGER, PLAN, int(environ["PATH_INFO"][1:]))
    wrong = sorted(counts.keys() - {"right"})
    if os.getpid() == PARENT:
        wrong.append("answered by the parent")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(", ".join(wrong) or "right").encode()]
