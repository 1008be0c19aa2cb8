"""The executor for a rotation's multiplications: a separate process for many elements, else a thread.

libsodium releases the interpreter's lock, but has to acquire it again after every 50 microseconds. So a thread that
only multiplies would wait whenever the main thread runs Python, which is a third of a rotation's time.
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
"""Number of elements from which on a process saves more time than its start takes (a third of a second)."""

_LOOK_SECONDS = 1.0


@contextmanager
def multiplication_executor(elements: int) -> Iterator[Executor]:
    """Provide an executor that runs while the caller works, until the block ends. Submit only functions of modules,
    because they are pickled.

    Raises Unavailable if its process was killed.
    """
    if elements < PROCESS_FROM:
        with ThreadPoolExecutor(1, thread_name_prefix="rotation") as threads:
            yield threads
        return
    # Spawned, not forked: this process may have threads, and connections that a child must not use.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)) as process:
        try:
            yield process
        except BrokenExecutor as error:
            raise Unavailable("The process that multiplies was killed. Run it again: it goes on.") from error


def _end_with(parent: int) -> None:
    """End this process when the process that started it has ended in any way, because this one holds the quotient of
    the keys."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
