"""The state folder: where files are, how processes take turns, and the newest checkpoint of the log that was seen.

A folder that cannot be written (a read-only container, another owner, a full disk) stops no lookup: what would be
stored is kept in memory until the process ends, and one warning is logged. The outbox alone needs a folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ledger.client.identity.keyfiles import replace_file
from ledger.client.identity.suite import Suite
from ledger.client.transport.event_log import log_advice
from ledger.client.transport.forks import Descriptors, ForkLock
from ledger.client.verify.local_text import kept_text
from ledger.client.verify.log import Fetch, compare_views
from ledger.errors import ConfigurationError, InvalidCheckpoint, Unavailable
from ledger.tlog.checkpoint import Checkpoint, open_checkpoint

CHECKPOINT_FILE = "checkpoint"
EPOCHS_FILE = "epochs.json"
SNAPSHOTS_FOLDER = "snapshots"
OUTBOX_FILE = "outbox.db"

_UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})

_held = Descriptors()
"""Of the lock files that are open now."""

_reported: set[Path | None] = set()
"""State folders about which this process has logged its warning."""


def default_state_dir(suite: Suite) -> Path | None:
    """Return `~/.local/state/refund-ledger/<service>-<log>/<platform>`, below `XDG_STATE_HOME` if that is set; None
    where no home folder is known.

    <log> is made from the log's key: another log must not be compared with what was seen of this one.
    """
    home = state_home()
    return home and home / f"{suite.pinned.service}-{log_label(suite.pinned.log_key)}" / suite.platform


def state_home() -> Path | None:
    """Return the default folder of all state (XDG Base Directory Specification); None where no home folder is known:
    neither `XDG_STATE_HOME` nor `HOME` is set, and the user id has no entry among the system's users."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "refund-ledger"
    except RuntimeError:
        return None


def is_unwritable(error: OSError) -> bool:
    """True if `error` says that files cannot be written here: no permission, a read-only file system, no room."""
    return error.errno in _UNWRITABLE


def warn_of_memory(folder: Path | None, error: OSError | None = None) -> None:
    """Log, once for each state folder and process, that state is kept in memory because of `error`."""
    if folder in _reported:
        return
    _reported.add(folder)
    reason = "no home folder is known" if error is None else (os.strerror(error.errno or 0)).lower()
    log_advice(
        "state_in_memory",
        "The state folder cannot be used ({reason}): {folder}. Checkpoint, key epochs and snapshots are kept in memory "
        "until this process ends, and reports are not accepted. Mount a folder that can be written, and give it as "
        "state_dir, --state-dir or REFUND_LEDGER_STATE.",
        reason=reason,
        folder="none" if folder is None else str(folder),
    )


def log_label(log_key: str) -> str:
    """Return eight hexadecimal digits that distinguish logs by their key."""
    return hashlib.sha256(log_key.encode()).hexdigest()[:8]


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it, against other processes and threads.

    Raises ConfigurationError when the folder cannot be written, and Unavailable when another has the lock and is not
    to be waited for.
    """
    try:
        descriptor = _open_lock(path)
    except OSError as error:
        raise ConfigurationError("The state folder cannot be written.") from error
    with _holding(descriptor, wait):
        yield


@contextmanager
def turn(path: Path, memory: ForkLock, wait: bool = True) -> Iterator[OSError | None]:
    """Hold the lock of `path` as `locked` does, and yield None; where the folder cannot be written, hold `memory`, a
    lock of this process, and yield the reason. Raises ConfigurationError for any other fault of the folder, and
    Unavailable as `locked` does."""
    with ExitStack() as stack:
        try:
            descriptor = _open_lock(path)
        except OSError as error:
            if not is_unwritable(error):
                raise ConfigurationError("The state folder cannot be written.") from error
            stack.enter_context(memory)
            problem: OSError | None = error
        else:
            stack.enter_context(_holding(descriptor, wait))
            problem = None
        yield problem


def _open_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)


@contextmanager
def _holding(descriptor: int, wait: bool) -> Iterator[None]:
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Unavailable("Another process is at it.", retry_after_seconds=1) from error
        try:
            yield
        finally:
            # By name: closing alone would leave it locked while a child made meanwhile has the file open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _damaged(path: Path) -> str:
    return (
        f"The file {path.name} in the state folder, the last checkpoint seen by this machine, is damaged or belongs to "
        "another log. Nothing is wrong with the ledger's answer. Restore the file from a backup, or move it away: then "
        "the log is compared with nothing seen before."
    )


class SeenCheckpoint:
    """The newest checkpoint seen, as a signed note in the file `path`. Processes take turns by a lock beside it.

    Without a path, or once the file cannot be read or written, it is kept in memory for the rest of the process.
    """

    def __init__(self, path: Path | None, origin: str, public_key: bytes) -> None:
        self._path = path
        self._origin = origin
        self._public_key = public_key
        self._in_memory = path is None
        self._memory: str | None = None
        self._lock = ForkLock()

    def note(self) -> str | None:
        """Return the signed note, or None when nothing was seen yet. Raises ConfigurationError when it is damaged."""
        if self._path is None or self._in_memory:
            return self._memory
        try:
            text = kept_text(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._give_up_file(error, None)
            return None
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(_damaged(self._path)) from error
        try:
            open_checkpoint(text, self._origin, self._public_key)
        except InvalidCheckpoint as error:  # what this machine has kept, which says nothing about the ledger
            raise ConfigurationError(_damaged(self._path)) from error
        return text

    def accept(self, note: str, fetch: Fetch) -> Checkpoint:
        """Check that `note` continues, or is a part of, what was seen before; keep the newer of the two.

        `fetch` reads the log. The first checkpoint is taken as it is: there is nothing to compare it with. Raises
        Equivocation when the log has shown two histories, InvalidCheckpoint, InvalidTile, NotFound.
        """
        with self._turn():
            seen = self.note()
            if seen is None:
                self._keep(note)
                return open_checkpoint(note, self._origin, self._public_key)
            newer = compare_views(seen, note, fetch, self._origin, self._public_key).newer
            if newer != open_checkpoint(seen, self._origin, self._public_key):
                self._keep(note)
            return newer

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._path is None:
            warn_of_memory(None)
        if self._path is None or self._in_memory:
            with self._lock:
                yield
            return
        with turn(self._path, self._lock) as problem:
            if problem is not None:
                self._give_up_file(problem, self.note())
            yield

    def _keep(self, note: str) -> None:
        open_checkpoint(note, self._origin, self._public_key)
        if self._path is not None and not self._in_memory:
            try:
                replace_file(self._path, note.encode())
            except OSError as error:
                if not is_unwritable(error):
                    raise ConfigurationError(
                        "The checkpoint cannot be stored; is the state folder writable?"
                    ) from error
                self._give_up_file(error, None)
        self._memory = note

    def _give_up_file(self, error: OSError, seen: str | None) -> None:
        """Continue in memory, with the checkpoint `seen` so far."""
        if self._in_memory or self._path is None:
            return
        self._memory, self._in_memory = seen, True
        warn_of_memory(self._path.parent, error)
