"""The guard: the last checkpoint signed, kept outside the database, so that history can never be signed twice.

Restoring an old backup or losing a failover's tail makes a shorter or different log that looks sound by itself. The
guard remembers what was signed. It is one file a log, held under an exclusive lock by the one publisher, replaced
by write, fsync, rename, fsync of the folder, and made for the first time only by `keys init`.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from ledger.errors import InvalidCheckpoint
from ledger.server.keys.files import fsync_folder
from ledger.tlog.checkpoint import Checkpoint, open_checkpoint

CHECKPOINT_FILE, LOCK_FILE = "checkpoint", "lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class CheckpointLock:
    """The guard of one log, locked while this object lives."""

    def __init__(self, folder: Path, origin: str, public_key: bytes) -> None:
        self._folder = folder
        self._origin = origin
        self._public_key = public_key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)

    def try_lock(self) -> bool:
        """Take the exclusive lock; False while another publisher holds it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def folder(self) -> Path:
        """Where the guard lies."""
        return self._folder

    def lock_id(self) -> str:
        """Names the locked file on this running machine: its kernel's boot, device and inode. Two processes with equal
        names exclude each other by the lock."""
        try:
            machine = _BOOT_ID.read_text().strip()
        except OSError:
            machine = socket.gethostname()
        found = os.fstat(self._lock)
        return f"{machine}:{found.st_dev}:{found.st_ino}"

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)

    def read(self) -> tuple[Checkpoint, str] | None:
        """The last checkpoint signed, with its note; None when there is no guard.

        Raises InvalidCheckpoint when the file is not a checkpoint of this log.
        """
        try:
            note = (self._folder / CHECKPOINT_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeError) as error:
            raise InvalidCheckpoint("The guard cannot be read.") from error
        return open_checkpoint(note, self._origin, self._public_key), note

    def write(self, note: str) -> None:
        """Replace the guard; durable when this returns."""
        temporary = self._folder / f"{CHECKPOINT_FILE}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._folder / CHECKPOINT_FILE)
        fsync_folder(self._folder)
