"""Temporary files of a test run lie in memory where the machine has room for them.

Each test's SQLite database, keys and guard are made durable by `fsync`, as a ledger needs it. On a disk that costs a
test more than its work does; a file system in memory answers at once. PostgreSQL's data go there too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory."""
ROOM_BYTES = 4 * 2**30
"""What must be free there: a run needs less than half, as a test that passes leaves nothing behind."""


def memory_folder(folder: Path = MEMORY) -> Path | None:
    """The folder for temporary files in memory; None where it is missing, too small or may not hold programs.

    Containers often give it 64 MB, and forbid programs in it, which some tests write.
    """
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    free = state.f_bavail * state.f_frsize
    forbidden = state.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    return None if forbidden or free < ROOM_BYTES or not os.access(folder, os.W_OK | os.X_OK) else folder


def use_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """From now on this process and its children make temporary files in memory, unless `TMPDIR` says where.

    There only a failed test's folder outlives its test. Call it when pytest's own plugins are configured.
    """
    folder = memory_folder()
    if folder is not None and "TMPDIR" not in environment:
        environment["TMPDIR"] = str(folder)
        tempfile.tempdir = None  # which is where it was before: ask again
