"""Inspections in a separate process, made once in a test process for the same files.

Starting the process and loading its libraries is nearly all of the time, and most tests of pages inspect the same
files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from ledger.evidence.limits import INSPECTION_SECONDS
from ledger.evidence.sandbox import inspection as sandbox

_ask = sandbox.ask


@cache
def _remembered(
    child: Path, task: str, files: tuple[bytes, ...], seconds: float, received_at: datetime | None
) -> bytes | None:
    return _ask(task, files, seconds, received_at)


def _asked(
    task: str, files: Sequence[bytes], seconds: float = INSPECTION_SECONDS, received_at: datetime | None = None
) -> bytes | None:
    return _remembered(sandbox.CHILD, task, tuple(files), seconds, received_at)


@pytest.fixture(autouse=True)
def inspections_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file that imports this, the same program is asked about the same files once."""
    monkeypatch.setattr(sandbox, "ask", _asked)
