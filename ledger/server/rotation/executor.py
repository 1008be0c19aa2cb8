"""Where a rotation's multiplications run: for many elements in a process of its own, else in a thread.

libsodium works without the interpreter's lock, but has to take it back after every 50 microseconds. A thread that does
nothing but multiply would stand still whenever this one runs Python, which a rotation does for a third of its time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from ledger.errors import Unavailable

PROCESS_FROM = 20_000
"""Elements from which starting a process (a third of a second) pays."""

_LOOK_SECONDS = 1.0


@contextmanager
def beside(elements: int) -> Iterator[Executor]:
    """An executor for work beside the caller's, ended with the block. What it is given must be functions of modules.

    Raises Unavailable when its process was killed.
    """
    if elements < PROCESS_FROM:
        with ThreadPoolExecutor(1, thread_name_prefix="rotation") as threads:
            yield threads
        return
    # Not forked: this process may have threads, and connections that are its own.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)) as process:
        try:
            yield process
        except BrokenExecutor as error:
            raise Unavailable("The process that multiplies was killed. Run it again: it goes on.") from error


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, however it ended: it holds the quotient of the keys."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
