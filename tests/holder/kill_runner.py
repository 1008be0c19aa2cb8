"""Runs a command of a holder and kills it at a given durable step: `python -m tests.holder.kill_runner`.

Reads lines of JSON, [count, word, ...]: each is run by a child of its own, which dies of SIGKILL before its durable
operation number `count`. When it is gone, its exit status is printed. The words `destroy-old FOLDER` are no command:
they stand for what the service does 24 hours after the log has generation 2.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger.holder.ceremony import destroy_old
from tests.holder.ceremony_kit import run

OPERATIONS = ("open", "fsync", "link", "replace", "rename", "unlink", "pwrite")
"""Names of functions of `os` that change what is on disk. `open` counts where it is for writing."""


def die_at(count: int) -> None:
    """Have this process kill itself before its durable operation number `count`."""
    left = [count]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            reads = original.__name__ == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
            left[0] -= not reads
            if left[0] == 0 and not reads:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return operate

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def act(count: int, words: Sequence[str]) -> None:
    """Run the command in this process, and end it."""
    try:
        die_at(count)
        if words[0] == "destroy-old":
            now = datetime.now(UTC)
            destroy_old(Path(words[1]), {(1, 1): now - timedelta(90), (1, 2): now - timedelta(1)}, {1}, now)
        else:
            run(*words)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Do one child for each line of standard input."""
    for line in sys.stdin:
        count, *words = json.loads(line)
        child = os.fork()
        if child == 0:
            act(count, words)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
