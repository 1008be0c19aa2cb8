"""Threads for requests that nothing waits for once their answer is not needed: daemons, started as needed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ledger.client.transport.forks import ForkAware, renew_if_forked
from ledger.errors import Unavailable

IDLE_SECONDS = 10.0
"""A thread without work for so long ends."""


class Workers(ForkAware):
    """At most `limit` daemon threads that run short tasks; more tasks wait for their turn. A process that ends waits
    for none of them, and a child of `fork()` starts its own. Thread-safe."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._closed = False
        self._reset()
        super().__init__()

    def _reset(self) -> None:
        self._ready = threading.Condition(threading.Lock())
        self._tasks: deque[Callable[[], object]] = deque()
        self._threads = 0
        self._idle = 0

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads, which do not exist here, and their tasks."""
        self._reset()

    def submit(self, task: Callable[[], object]) -> None:
        """Have a thread run `task`, which must not raise. Raises Unavailable when this is closed, or when no thread
        can be started and none runs."""
        renew_if_forked()
        with self._ready:
            if self._closed:
                raise Unavailable("The connection to the ledger is closed.", reason="closed")
            self._tasks.append(task)
            if self._idle >= len(self._tasks):
                self._ready.notify()
                return
            if self._threads >= self._limit:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._run, args=(self._ready,), name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._ready:
                self._threads -= 1
                if self._threads:
                    return
                self._tasks.remove(task)
            raise Unavailable("No thread can be started.", reason="closed") from error

    def close(self) -> None:
        """Have all threads end after the task that they run; waiting tasks are dropped."""
        renew_if_forked()
        with self._ready:
            self._closed = True
            self._tasks.clear()
            self._ready.notify_all()

    def _run(self, ready: threading.Condition) -> None:
        try:
            while (task := self._next(ready)) is not None:
                task()
                del task  # what it refers to is not kept while the thread waits
        finally:
            with ready:
                self._threads -= 1

    def _next(self, ready: threading.Condition) -> Callable[[], object] | None:
        """Return the next task; None if the thread must end."""
        with ready:
            signalled = True
            while not self._tasks:
                if self._closed or not signalled:
                    return None
                self._idle += 1
                signalled = ready.wait(IDLE_SECONDS)
                self._idle -= 1
            return self._tasks.popleft()
