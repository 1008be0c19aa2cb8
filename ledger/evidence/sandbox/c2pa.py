"""Asks the C2PA library about a file, in a process that can do no harm (see `c2pa_child`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile
from ledger.evidence.limits import C2PA_MEMORY_BYTES, C2PA_SECONDS, MAX_MANIFEST_BYTES, MAX_MANIFEST_JSON_BYTES
from ledger.evidence.signals.signers import SHIPPED_FOLDER

CHILD = Path(__file__).with_name("c2pa_worker.py")


@dataclass(frozen=True, slots=True)
class C2paAnswer:
    """What the library said: a manifest store as it writes it, and of each manifest's signature what `signers` judges
    by; both are still unchecked JSON objects."""

    store: dict[str, Any]
    where: str
    sdk: str
    signatures: dict[str, Any] = field(default_factory=dict)


def ask(
    data: bytes, parsed: ParsedFile, seconds: float = C2PA_SECONDS, trust_folder: Path = SHIPPED_FOLDER
) -> C2paAnswer | None:
    """Return the manifest store of a file in which a reader saw one, checked against the trust lists of a folder; None
    with a note if it cannot be read."""
    with asked(data, parsed, seconds, trust_folder) as answer:
        return answer()


@contextmanager
def asked(
    data: bytes, parsed: ParsedFile, seconds: float = C2PA_SECONDS, trust_folder: Path = SHIPPED_FOLDER
) -> Iterator[Callable[[], C2paAnswer | None]]:
    """Start `ask` within the context: the process reads while the caller does something else, and the yielded function
    waits for its answer."""
    places = parsed.of(BlockType.C2PA)
    if not places:
        yield lambda: None
        return
    where = places[0].where
    if parsed.manifest_bytes > MAX_MANIFEST_BYTES:
        parsed.note(NoteCode.C2PA_NOT_READ, where, f"{parsed.manifest_bytes} bytes")
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(_run, parsed.media_type.encode() + b"\n" + data, seconds, trust_folder)
        yield lambda: _answer(said, parsed, where)


def _run(given: bytes, seconds: float, trust_folder: Path) -> bytes:
    limits = [str(C2PA_MEMORY_BYTES), str(int(seconds) + 1)]
    command = [sys.executable or "python3", "-P", str(CHILD), *limits, str(trust_folder.resolve())]
    return subprocess.run(command, input=given, capture_output=True, timeout=seconds, check=False).stdout


def _answer(said: Future[bytes], parsed: ParsedFile, where: str) -> C2paAnswer | None:
    try:
        return _read(said.result(), parsed, where)
    except subprocess.TimeoutExpired:
        parsed.note(NoteCode.C2PA_NOT_READ, where, "out of time")
    except OSError:
        parsed.note(NoteCode.C2PA_NOT_READ, where, "no process")
    return None


def _read(out: bytes, parsed: ParsedFile, where: str) -> C2paAnswer | None:
    answer: Any = None
    if len(out) <= MAX_MANIFEST_JSON_BYTES:
        try:
            answer = json.loads(out)
        except (ValueError, RecursionError):
            answer = None
    if not isinstance(answer, dict):
        parsed.note(NoteCode.C2PA_NOT_READ, where, "the reader stopped")
        return None
    store = answer.get("store")
    if not isinstance(store, dict):
        parsed.note(NoteCode.C2PA_UNREADABLE, where, str(answer.get("error", "")).partition("\n")[0])
        return None
    signatures = answer.get("signatures")
    return C2paAnswer(store, where, str(answer.get("sdk", "")), signatures if isinstance(signatures, dict) else {})
