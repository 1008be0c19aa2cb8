"""The checkpoint lock file: the last signed checkpoint, kept outside the database, so that history is never signed
twice.

Settings, messages and documents call it the guard. Restoring an old backup, or losing the last transactions in a
failover, leaves a shorter or different log that is consistent in itself. The file records what was signed. There is one
per log, under an exclusive lock of the one publisher. It is replaced by write, fsync, rename, fsync of the folder, and
only `keys init` creates it.
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
    """The last-signed checkpoint of one log, and the lock on its folder."""

    def __init__(self, folder: Path, origin: str, public_key: bytes) -> None:
        self._folder = folder
        self._origin = origin
        self._public_key = public_key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)

    def try_lock(self) -> bool:
        """Take the exclusive lock. False while another publisher holds it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def folder(self) -> Path:
        """Return the folder of the checkpoint file."""
        return self._folder

    def lock_id(self) -> str:
        """Return a name of the locked file on this running machine: its kernel's boot, device and inode. Two processes
        with equal names exclude each other by the lock. Raises OSError."""
        try:
            machine = _BOOT_ID.read_text().strip()
        except OSError:
            machine = socket.gethostname()
        status = os.fstat(self._lock)
        return f"{machine}:{status.st_dev}:{status.st_ino}"

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def read(self) -> tuple[Checkpoint, str] | None:
        """Return the last signed checkpoint, with its note; None when there is no file.

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
        """Replace the checkpoint file with `note`; durable when this returns. Raises OSError."""
        temporary = self._folder / f"{CHECKPOINT_FILE}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._folder / CHECKPOINT_FILE)
        fsync_folder(self._folder)
