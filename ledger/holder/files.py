"""Files of a holder's folder: written whole, never half, and destroyed. A process may be killed between any two steps.

A secret file appears under its name when its bytes are on disk. Until then they are in a temporary file
`.NAME.16 hex digits`, which `sweep` destroys after a crash. A file to be destroyed gets such a name first, so that no
reader ever finds half of it.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from ledger.errors import ConfigurationError
from ledger.server.keys.files import fsync_folder, write_secret

MAX_FILE_BYTES = 4 * 1024 * 1024

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\Z")


def write_once(path: Path, text: str) -> None:
    """Create a secret file with mode 0600, durable when this returns. A file that has this text already stays.

    Raises ConfigurationError if the file has another text, OSError.
    """
    if path.exists():
        if read_secret(path) != text:
            raise ConfigurationError(f"{path.name} exists already with other content, and is never overwritten.")
        return
    write_secret(path, text)


def replace_secret(path: Path, text: str) -> None:
    """Write a secret file in place of an earlier one, if there is any, and overwrite the earlier one's bytes. Raises
    OSError."""
    try:
        earlier = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        write_secret(path, text)
        return
    try:
        temporary = _temporary(path)
        _write(temporary, text, 0o600)
        os.replace(temporary, path)
        fsync_folder(path.parent)
        _overwrite(earlier)
    finally:
        os.close(earlier)


def write_public(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that leaves the folder, in place of one of that name, whole and durable. Raises OSError."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    _write(temporary, text, mode)
    os.replace(temporary, path)
    fsync_folder(path.parent)


def read_secret(path: Path) -> str:
    """Return the text of a secret file. Raises ConfigurationError if it cannot be read or is readable by others."""
    try:
        mode = path.stat().st_mode
        text = read_limited(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The file {path.name} of the holder's folder cannot be read.") from error
    if mode & 0o077:
        raise ConfigurationError(f"The file {path.name} must not be readable by others (mode 0600).")
    return text


def read_limited(path: Path) -> bytes:
    """Return the bytes of a file. Raises ConfigurationError for a file above 4 MiB, OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path.name} is too large: no file of a ceremony is.")
    return data


def destroy(path: Path) -> None:
    """Overwrite a file with zeros, and delete it. A file that does not exist is none. Raises OSError."""
    doomed = _temporary(path)
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    fsync_folder(path.parent)
    _destroy_temporary(doomed)


def sweep(folder: Path) -> None:
    """Destroy the temporary files that a killed process left. Raises OSError."""
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.match(path.name):
            _destroy_temporary(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _destroy_temporary(path: Path) -> None:
    # With a second name the bytes are those of a finished file, whose temporary name alone was not deleted.
    if path.stat().st_nlink == 1:
        descriptor = os.open(path, os.O_RDWR)
        try:
            _overwrite(descriptor)
        finally:
            os.close(descriptor)
    os.unlink(path)
    fsync_folder(path.parent)


def _overwrite(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    os.pwrite(descriptor, bytes(size), 0)
    os.fsync(descriptor)
