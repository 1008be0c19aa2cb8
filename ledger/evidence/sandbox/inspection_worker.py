"""Inspects a file in a process of its own (see `inspection`). Run as a script.

Arguments: bytes of memory, seconds and bytes of answer that it may use, the task, when the first file was received by
its platform (empty if that is not known), and the size of each file. Standard input: the files, one behind another.
Standard output: the answer. Limits are set before the first byte of a file is read.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ledger.evidence.listing.match import Photo
    from ledger.evidence.receipt import InspectionReceipt


def inspected(files: Sequence[bytes], received: str) -> bytes:
    """Return JSON {receipt, report, alone, compared} of the first file, compared with the others, which are listing
    photos, or {error} with the code of the error that prevents an inspection.

    `report` is {receipt_sha256, tool, findings}, and `alone` the same of an inspection without listing photos;
    `compared` says how many there were that could be compared.
    """
    from ledger.errors import ConfigurationError, InspectionInvalid
    from ledger.evidence.inspection import inspect_bytes
    from ledger.protocol.encoding import parse_time

    claim, *listings = files
    received_at = parse_time(received) if received else None
    try:
        alone = receipt = inspect_bytes(claim, received_at=received_at)
        photos = _photos(listings)
        if photos:
            receipt = inspect_bytes(claim, None, photos, received_at=received_at)
    except (ConfigurationError, InspectionInvalid) as error:
        return json.dumps({"error": error.code}).encode()
    answer = {
        "receipt": receipt.to_json(),
        "report": _carried(receipt),
        "alone": _carried(alone),
        "compared": len(photos),
    }
    return json.dumps(answer).encode()


def matched(files: Sequence[bytes], received: str) -> bytes:
    """Return a picture (PNG) of how the first file was made from the second; nothing if it was not, or cannot be
    compared."""
    photos = _photos(files)
    if len(photos) != 2:
        return b""
    from ledger.evidence.listing import match as listing
    from ledger.evidence.listing import match_drawing

    (match,) = listing.matches(photos[0], photos[1:])
    return match_drawing.draw(photos[0], photos[1], match) if match is not None else b""


def _photos(files: Sequence[bytes]) -> list[Photo]:
    """Return the files that are pictures, decoded for comparison; none if OpenCV is not installed."""
    from ledger.errors import PictureUnreadable

    try:
        from ledger.evidence.listing.match import photo
    except ImportError:
        return []
    photos = []
    for file in files:
        with contextlib.suppress(PictureUnreadable):
            photos.append(photo(file))
    return photos


def _carried(receipt: InspectionReceipt) -> dict[str, Any]:
    from ledger.protocol.encoding import b64url

    carried = receipt.in_report()
    value = {
        "receipt_sha256": b64url(carried.receipt_sha256),
        "tool": carried.tool,
        "findings": list(carried.findings),
    }
    return value if carried.trust is None else {**value, "trust": carried.trust.value}


TASKS: Mapping[str, Callable[[Sequence[bytes], str], bytes]] = {"inspect": inspected, "match": matched}


def main() -> None:
    """Read standard input, write standard output."""
    memory, seconds, answer = (int(argument) for argument in sys.argv[1:4])
    task, received = TASKS[sys.argv[4]], sys.argv[5]
    sizes = [int(argument) for argument in sys.argv[6:]]
    sys.dont_write_bytecode = (
        True  # under the limit on what it may write, a module's cache would be cut off, and stay so
    )
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the very code that the server runs
    _limit(memory, seconds, answer)
    files = [sys.stdin.buffer.read(size) for size in sizes]
    sys.stdout.buffer.write(task(files, received))


def _limit(memory_bytes: int, seconds: int, answer_bytes: int) -> None:
    """Limit this process. Its limits on memory and time can be raised up to the server's: the process that reads a C2PA
    manifest, a child of this one, sets its own."""
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
