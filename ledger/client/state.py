"""The state folder: where things lie, how processes take turns, and the newest checkpoint of the log that was seen."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.client.forks import Descriptors
from ledger.client.keyfiles import replace_file
from ledger.client.local_text import kept_text
from ledger.client.log import Fetch, compare_views
from ledger.client.suite import Suite
from ledger.core.checkpoint import Checkpoint, open_checkpoint
from ledger.errors import ConfigurationError, InvalidCheckpoint, Unavailable

CHECKPOINT_FILE = "checkpoint"
EPOCHS_FILE = "epochs.json"
SNAPSHOTS_FOLDER = "snapshots"
OUTBOX_FILE = "outbox.db"

_held = Descriptors()
"""Of the lock files that are open now."""


def default_state_dir(suite: Suite) -> Path:
    """`~/.local/state/refund-ledger/<service>-<log>/<platform>`, below `XDG_STATE_HOME` if that is set.

    <log> is made from the log's key: another log must not be compared with what was seen of this one.
    """
    return state_home() / f"{suite.pinned.service}-{log_label(suite.pinned.log_key)}" / suite.platform


def state_home() -> Path:
    """Where all state goes by default (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "refund-ledger"


def log_label(log_key: str) -> str:
    """Eight hexadecimal digits that tell logs apart by their key."""
    return hashlib.sha256(log_key.encode()).hexdigest()[:8]


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of `path`, a file beside it, against other processes and threads.

    Raises ConfigurationError when the folder cannot be written, and Unavailable when another has the lock and is not
    to be waited for.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError("The state folder cannot be written.") from error
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
    """The newest checkpoint seen, as a signed note in the file `path`. Processes take turns by a lock beside it."""

    def __init__(self, path: Path, origin: str, public_key: bytes) -> None:
        self._path = path
        self._origin = origin
        self._public_key = public_key

    def note(self) -> str | None:
        """The signed note, or None when nothing was seen yet. Raises ConfigurationError when it is damaged."""
        try:
            found = kept_text(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(_damaged(self._path)) from error
        try:
            open_checkpoint(found, self._origin, self._public_key)
        except InvalidCheckpoint as error:  # what this machine has kept, which says nothing about the ledger
            raise ConfigurationError(_damaged(self._path)) from error
        return found

    def accept(self, note: str, fetch: Fetch) -> Checkpoint:
        """Check that `note` continues, or is a part of, what was seen before; keep the newer of the two.

        `fetch` reads the log. The first checkpoint is taken as it is: there is nothing to compare it with.
        Raises Equivocation when the log has told two histories, InvalidCheckpoint, InvalidTile, NotFound.
        """
        with locked(self._path):
            seen = self.note()
            if seen is None:
                self._keep(note)
                return open_checkpoint(note, self._origin, self._public_key)
            newer = compare_views(seen, note, fetch, self._origin, self._public_key).newer
            if newer != open_checkpoint(seen, self._origin, self._public_key):
                self._keep(note)
            return newer

    def _keep(self, note: str) -> None:
        open_checkpoint(note, self._origin, self._public_key)
        try:
            replace_file(self._path, note.encode())
        except OSError as error:
            raise ConfigurationError("The checkpoint cannot be stored; is the state folder writable?") from error
