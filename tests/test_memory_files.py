"""Where temporary files of a run lie: in memory where there is room for them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests import memory_files


def test_a_folder_is_taken_with_room_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_files.memory_folder(tmp_path / "missing") is None
    assert memory_files.memory_folder(Path("/proc")) is None
    monkeypatch.setattr(memory_files, "ROOM_BYTES", 1)
    assert memory_files.memory_folder(tmp_path) == tmp_path
    monkeypatch.setattr(memory_files, "ROOM_BYTES", 2**62)
    assert memory_files.memory_folder(tmp_path) is None


def test_a_folder_that_the_environment_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_files, "ROOM_BYTES", 1)
    before, given = tempfile.gettempdir(), {"TMPDIR": "/elsewhere"}
    memory_files.use_memory(given)
    assert given == {"TMPDIR": "/elsewhere"}
    assert tempfile.gettempdir() == before
