"""Objects that a process must not share with the children that it makes with `fork()`, and how each child gets its own.

A child inherits every socket, file lock, database handle and mutex of its parent, but only the thread that forked: the
two would read each other's HTTP answers, and a mutex that another thread held stays locked for ever. So everything of
the SDK that holds one of these is a `ForkAware`: its methods are called before the fork and after it, in parent and
child. Python calls the hooks for every fork that it makes (`os.fork`, `multiprocessing`, gunicorn, Celery, uWSGI); for
a fork made behind its back, each entrance compares the process id (`renew_if_forked`).

Forking while threads run is never wholly safe: a lock inside another library that a thread held at that moment stays
locked in the child. All code of this package is covered.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from types import TracebackType
from weakref import WeakSet


class ForkAware:
    """Base of objects that must not be shared with a child process. The methods do nothing unless they are overridden;
    they run in the thread that forks, must be short and must not raise."""

    def __init__(self) -> None:
        with _registry.lock:
            _registry.members.add(self)

    def before_fork(self) -> None:
        """Bring inherited objects into a state that is safe in a child."""

    def after_fork_in_parent(self) -> None:
        """Undo what `before_fork` did."""

    def after_fork_in_child(self) -> None:
        """Drop the parent's objects without using them, and make new ones."""


class _Registry:
    """All `ForkAware` objects of the process `pid`. `lock` is held while it forks, so `frozen` is of one fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Reentrant: a signal handler that forks may interrupt the thread that holds it.
        self.lock = threading.RLock()
        self.members: WeakSet[ForkAware] = WeakSet()
        self.frozen: list[ForkAware] = []

    def before(self) -> None:
        self.lock.acquire()
        self.frozen = list(self.members)
        for member in self.frozen:
            member.before_fork()

    def after_in_parent(self) -> None:
        frozen, self.frozen = self.frozen, []
        for member in frozen:
            member.after_fork_in_parent()
        self.lock.release()

    def after_in_child(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.frozen = []
        for member in list(self.members):
            member.after_fork_in_child()


_registry = _Registry()
os.register_at_fork(
    before=_registry.before,
    after_in_parent=_registry.after_in_parent,
    after_in_child=_registry.after_in_child,
)


def renew_if_forked() -> None:
    """Do what Python's fork hooks do, in a child of a fork that they did not see."""
    if os.getpid() != _registry.pid:
        _registry.after_in_child()


class ForkLock(ForkAware):
    """A mutual exclusion lock, as `threading.Lock`, that is free in a child process, also if a thread of the parent
    held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        super().__init__()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock within `timeout` seconds, or without waiting; return whether that succeeded."""
        renew_if_forked()
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Make a new lock."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Descriptors(ForkAware):
    """Open file descriptors that a child only closes: a lock of `flock()` belongs to the open file, not to the process,
    and would be held for as long as any child keeps it open."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        super().__init__()

    def add(self, descriptor: int) -> None:
        """Have it closed in each child from now on."""
        self._open.add(descriptor)

    def discard(self, descriptor: int) -> None:
        """Stop closing it in children: it is about to be closed here."""
        self._open.discard(descriptor)

    def after_fork_in_child(self) -> None:
        """Close them, which leaves the parent's as they are."""
        inherited, self._open = self._open, set()
        for descriptor in inherited:
            with suppress(OSError):
                os.close(descriptor)


class Sockets(ForkAware):
    """Open sockets that a child only closes, with nothing sent or shut down: both processes have the same connection,
    and the close message of TLS from one would end it for the other."""

    def __init__(self) -> None:
        self._open: WeakSet[socket.socket] = WeakSet()
        super().__init__()

    def add(self, candidate: object) -> None:
        """Have it closed in each child from now on, if it is a socket."""
        if isinstance(candidate, socket.socket):
            self._open.add(candidate)

    def after_fork_in_child(self) -> None:
        """Close them, which leaves the parent's as they are."""
        inherited, self._open = list(self._open), WeakSet()
        for inherited_socket in inherited:
            with suppress(OSError):
                # Past the object's own close(), which for a TLS socket may one day say farewell.
                os.close(inherited_socket.detach())
