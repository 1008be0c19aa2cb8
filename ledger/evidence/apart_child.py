"""Inspects a file in a process of its own (see `apart`). Run as a script.

Arguments: bytes of memory, seconds and bytes of answer that it may use, the task, and the size of each file. Standard
input: the files, one behind another. Standard output: the answer. Limits come before the first byte of a file.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def inspected(files: Sequence[bytes]) -> bytes:
    """JSON {receipt, report: {receipt_sha256, tool, findings}}, or {error} with the code of what keeps the file from
    being inspected."""
    from ledger.core.encoding import b64url
    from ledger.errors import ConfigurationError, InspectionInvalid
    from ledger.evidence.inspection import inspect_bytes

    try:
        receipt = inspect_bytes(files[0])
    except (ConfigurationError, InspectionInvalid) as error:
        return json.dumps({"error": error.code}).encode()
    carried = receipt.in_report()
    report = {
        "receipt_sha256": b64url(carried.receipt_sha256),
        "tool": carried.tool,
        "findings": list(carried.findings),
    }
    return json.dumps({"receipt": receipt.to_json(), "report": report}).encode()


TASKS: Mapping[str, Callable[[Sequence[bytes]], bytes]] = {"inspect": inspected}


def main() -> None:
    """Read standard input, write standard output."""
    memory, seconds, answer = (int(argument) for argument in sys.argv[1:4])
    task, sizes = TASKS[sys.argv[4]], [int(argument) for argument in sys.argv[5:]]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the very code that the server runs
    _limit(memory, seconds, answer)
    files = [sys.stdin.buffer.read(size) for size in sizes]
    sys.stdout.buffer.write(task(files))


def _limit(memory_bytes: int, seconds: int, answer_bytes: int) -> None:
    """Limits of this process. Those on memory and time can be raised up to what the server has: the process that reads
    a C2PA manifest, a child of this one, sets its own."""
    with contextlib.suppress(ImportError):
        import resource

        for name, soft, hard in (
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_FSIZE, answer_bytes, answer_bytes),
            (resource.RLIMIT_CPU, seconds, None),
            (resource.RLIMIT_AS, memory_bytes, None),
        ):
            most = resource.getrlimit(name)[1]
            limit = soft if most == resource.RLIM_INFINITY else min(soft, most)
            resource.setrlimit(name, (limit, most if hard is None else min(hard, limit)))


if __name__ == "__main__":
    main()
