"""A file of the state folder that is written in parts, and continues in memory when the disk is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ledger.client.identity.keyfiles import sync_folder
from ledger.client.state import is_unwritable
from ledger.errors import ConfigurationError

_PIECE_BYTES = 1 << 20
"""The number of bytes that are read back at a time."""


class NewFile:
    """Written under the name `temporary`, beside `target`; without one, in memory from the start.

    An error that says that files cannot be written (no permission, a read-only file system, no room, a quota) moves the
    written parts to memory, frees the disk, and calls `moved` with the error, once. Any other raises
    ConfigurationError.
    """

    def __init__(self, temporary: Path | None, target: Path, moved: Callable[[OSError], None]) -> None:
        self._temporary, self._target, self._moved = temporary, target, moved
        self._descriptor: int | None = None
        self._written = 0
        self._memory = bytearray()
        if temporary is not None:
            try:
                temporary.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                self._go_on_in_memory(error)

    def write(self, data: bytes) -> int:
        """Append `data` and return its length. Raises ConfigurationError."""
        left = memoryview(data)
        while left and self._descriptor is not None:
            try:
                number = os.write(self._descriptor, left)
            except OSError as error:
                self._go_on_in_memory(error)
                break
            self._written += number
            left = left[number:]
        self._memory += left
        return len(data)

    def finish(self) -> bytes | None:
        """Give the file its name, on disk when this returns, and return None; or return the content, if it is in
        memory. Raises ConfigurationError."""
        if self._descriptor is not None and self._temporary is not None:
            try:
                os.fsync(self._descriptor)  # where a full disk may show only now
                os.replace(self._temporary, self._target)
            except OSError as error:
                self._go_on_in_memory(error)
        if self._descriptor is None:
            return bytes(self._memory)
        with suppress(OSError):  # the name alone may be lost in a crash: the file is fetched again then
            sync_folder(self._target.parent)
        return None

    def close(self) -> None:
        """Close the file; one that has no name yet is deleted."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()

    def _go_on_in_memory(self, error: OSError) -> None:
        try:
            if not is_unwritable(error):
                raise error
            while self._descriptor is not None and len(self._memory) < self._written:
                part = os.pread(self._descriptor, _PIECE_BYTES, len(self._memory))
                if not part:
                    raise error
                self._memory += part[: self._written - len(self._memory)]
        except OSError as failure:
            raise ConfigurationError("The snapshot cannot be stored; is there room in the state folder?") from failure
        self.close()
        self._moved(error)
