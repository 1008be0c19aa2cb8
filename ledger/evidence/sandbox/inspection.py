"""Inspect a file in a separate process, for a server that must survive what a hostile file does to its readers.

The process (`inspection_worker`) gets the files and nothing else: it does not get the environment of the server and the
secrets in it, and its memory, time and output are limited. Its answer is as untrusted as the file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ledger.evidence.limits import INSPECTION_MEMORY_BYTES, INSPECTION_SECONDS, MAX_ANSWER_BYTES
from ledger.protocol.encoding import format_time

CHILD = Path(__file__).with_name("inspection_worker.py")
_KEPT = ("LD_", "OPENBLAS_", "OMP_")
"""Prefixes of variables that say where libraries are and how they compute."""


def ask(
    task: str, files: Sequence[bytes], seconds: float = INSPECTION_SECONDS, received_at: datetime | None = None
) -> bytes | None:
    """Return the answer of the process within `seconds`; None if it was stopped, or died. Tasks are "inspect" (a file,
    and the listing photos to compare it with; `received_at` is when its platform received it, if that is known) and
    "match" (a file and a listing photo)."""
    sizes = [str(len(file)) for file in files]
    memory = INSPECTION_MEMORY_BYTES + 3 * sum(map(len, files))
    limits = [str(memory), str(int(seconds) + 1), str(MAX_ANSWER_BYTES)]
    received = "" if received_at is None else format_time(received_at)
    command = [sys.executable or "python3", "-P", str(CHILD), *limits, task, received, *sizes]
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env=kept,
            start_new_session=True,  # so that what it has started ends with it
        )
        with process:
            try:
                process.communicate(b"".join(files), timeout=seconds)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        answer.seek(0)
        return answer.read() if process.returncode == 0 else None
