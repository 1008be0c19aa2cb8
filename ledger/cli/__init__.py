"""The command `refund-ledger`. This module loads quickly; the commands are loaded when one is run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.cli.commands import app as app

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


def __getattr__(name: str) -> Any:
    if name == "app":
        from ledger.cli.commands import app

        return app
    raise AttributeError(name)


def main() -> None:
    """Entry point of the console script."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # What the encoding of the locale lacks is shown as an escape; the command has done its work by then.
                stream.reconfigure(errors="backslashreplace")
        from ledger.cli.commands import app

        app()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("Interrupted.", file=sys.stderr)
            sys.stderr.flush()
        os._exit(INTERRUPTED)  # without running what a half-loaded module has registered for the end
