"""The command `refund-ledger`. This module loads quickly; the commands are imported when one is run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.cli.commands import app as app

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as in shells."""


def __getattr__(name: str) -> Any:
    if name == "app":
        from ledger.cli.commands import app

        return app
    raise AttributeError(name)


def main() -> None:
    """Run the command line. This is the entry point of the console script."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # Characters that the encoding of the locale lacks are printed as escapes; failing would come too late.
                stream.reconfigure(errors="backslashreplace")
        from ledger.cli.commands import app

        app()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("Interrupted.", file=sys.stderr)
            sys.stderr.flush()
        os._exit(INTERRUPTED)  # without the exit handlers of modules that are only half loaded
