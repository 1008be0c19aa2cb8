"""Reads C2PA manifests in a process of its own: the native library must not be able to harm the one that inspects.

Run as a script by `c2pa_reader`. Standard input is the media type, a line feed and the file; standard output one JSON
object {sdk, store} or {sdk, error}. Before the library sees a byte, the process gives up the right to open anything:
no file and no socket can be had any more, whatever a manifest asks for, and memory and time are limited by the system.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

# The package would read its own version out of the metadata of what is installed, which takes as long as the rest of
# its start together, and does without where it cannot.
sys.modules["importlib.metadata"] = None  # type: ignore[assignment]
import c2pa  # type: ignore[import-untyped]  # noqa: E402

SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"allowed_network_hosts": []},
}
"""The library's own switches for the network; the lack of descriptors holds even if a version forgets them."""


def main() -> None:
    """Read standard input, write standard output."""
    memory, seconds = (int(argument) for argument in sys.argv[1:3])
    given = sys.stdin.buffer.read()
    media_type, _, data = given.partition(b"\n")
    del given
    context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
    _give_up(memory + 3 * len(data), seconds)
    answer: dict[str, Any] = {"sdk": c2pa.sdk_version()}
    try:
        with c2pa.Reader(media_type.decode("ascii"), io.BytesIO(data), context=context) as reader:
            answer["store"] = json.loads(reader.json())
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"[:500]
    sys.stdout.write(json.dumps(answer))


def _give_up(memory_bytes: int, seconds: int) -> None:
    """Limits of this process; where the system has none, those of the library and the caller's clock remain."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


if __name__ == "__main__":
    main()
