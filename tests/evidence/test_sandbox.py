"""Inspections in a separate process: the same answer, and no file can harm the process that asks."""

from __future__ import annotations

import json
import os
import textwrap
import time
from pathlib import Path

import pytest

from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.sandbox import inspection as sandbox
from ledger.protocol.encoding import b64url
from tests.evidence import files


def child(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Another program in the place of the one that inspects: what a file that took it over might do."""
    script = folder / "child.py"
    script.write_text(f"import os, subprocess, sys, time\n{textwrap.dedent(code)}", "utf-8")
    monkeypatch.setattr(sandbox, "CHILD", script)


@pytest.mark.parametrize("data", [files.png(), files.png(files.text_chunk("AIGC", files.LABEL.encode())), files.mp4()])
def test_it_says_what_the_inspection_says(data: bytes) -> None:
    receipt = inspect_bytes(data)
    answer = json.loads(sandbox.ask("inspect", [data]) or b"")
    assert answer["receipt"] == receipt.to_json()
    assert answer["report"]["receipt_sha256"] == b64url(receipt.in_report().receipt_sha256)


def test_manifests_are_read_in_there_too(signed_png: bytes) -> None:
    answer = json.loads(sandbox.ask("inspect", [signed_png]) or b"")
    assert answer["report"]["findings"] == ["c2pa_ai_generated"]


@pytest.mark.parametrize(
    ("data", "code"), [(b"%PDF-1.7", "evidence_format_unknown"), (b"\xff\xd8\xff", "evidence_malformed")]
)
def test_what_cannot_be_inspected_has_its_code(data: bytes, code: str) -> None:
    assert json.loads(sandbox.ask("inspect", [data]) or b"") == {"error": code}


def test_nothing_of_the_servers_environment_is_in_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFUND_LEDGER_DATABASE_URL", "postgresql://secret")
    child(monkeypatch, tmp_path, "print(sorted(name for name in os.environ if not name.startswith('LC_')))")
    answer = (sandbox.ask("inspect", [b""]) or b"").decode()
    assert "REFUND" not in answer
    assert "PATH" not in answer.replace("LD_LIBRARY_PATH", "")


def test_it_is_stopped_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(
        monkeypatch,
        tmp_path,
        """
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open(sys.argv[0] + ".new", "w").write(str(other.pid))
        os.rename(sys.argv[0] + ".new", sys.argv[0] + ".pid")
        time.sleep(60)
        """,
    )
    noted = tmp_path / "child.py.pid"
    for seconds in (1, 5, 20):  # more on a machine that does not start two processes in less
        started = time.monotonic()
        assert sandbox.ask("inspect", [b"x" * 2**20], seconds=seconds) is None
        assert time.monotonic() - started < seconds + 9
        if noted.exists():
            break
    number = int(noted.read_text())
    until = time.monotonic() + 10
    while running(number) and time.monotonic() < until:
        time.sleep(0.02)
    assert not running(number)


def running(number: int) -> bool:
    """True if there is such a process, other than one that has ended and was not waited for."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("code", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "raise MemoryError"])
def test_one_that_died_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    child(monkeypatch, tmp_path, f"print('an answer', flush=True)\n{code}")
    assert sandbox.ask("inspect", [files.png()]) is None


def test_too_little_memory_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "INSPECTION_MEMORY_BYTES", 2**24)
    assert sandbox.ask("inspect", [files.png()]) is None


def test_no_answer_is_longer_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_ANSWER_BYTES", 100)
    assert sandbox.ask("inspect", [files.png()]) is None
