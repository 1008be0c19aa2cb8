"""Shared parts of the processes that run beside the API: signals, ending with the parent process, reporting why they
cannot run.

`refund-ledger serve` starts them with `--with-parent <its process id>`. The id is passed as an argument because a query
for the parent may come too late: the parent may have ended already, and the system then names another process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from ledger.errors import LedgerError
from ledger.server.process.json_logs import log_as_json
from ledger.server.settings import Settings, load_settings

WITH_PARENT = "--with-parent"


def orphaned(parent: int | None) -> bool:
    """True if the process that started this one has ended in any way. `parent` is its id; None: there is no parent to
    watch."""
    return parent is not None and os.getppid() != parent


def main(name: str, run: Callable[[Settings, threading.Event, int | None], int]) -> int:
    """Run the entry point of a process: call `run` until SIGTERM or SIGINT sets its event, and return the exit status.

    A LedgerError is printed as one JSON line on standard output, for the supervisor to read.
    """
    log_as_json(name)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    arguments = sys.argv[1:]
    parent = int(arguments[arguments.index(WITH_PARENT) + 1]) if WITH_PARENT in arguments else None
    try:
        return run(load_settings(), stop, parent)
    except LedgerError as error:
        tell({"error": error.code, "message": str(error)})
        return 1


def tell(value: dict[str, object]) -> None:
    """Print one JSON line for the supervisor."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
