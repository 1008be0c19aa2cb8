"""The command `refund-ledger`. This module loads quickly; the commands are imported when one is run."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from ledger.cli.exit_codes import INTERRUPTED, ExitCode

if TYPE_CHECKING:
    from ledger.cli.commands import app as app

_EXTRA_MODULES = frozenset({"rich", "typer"})
"""The modules that the extra `cli` installs."""


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
        try:
            from ledger.cli.commands import app
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA_MODULES:
                raise
            _refuse_without_extra(error.name)
        app()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            print("Interrupted.", file=sys.stderr)
            sys.stderr.flush()
        os._exit(INTERRUPTED)  # without the exit handlers of modules that are only half loaded


def _refuse_without_extra(missing: str) -> NoReturn:
    """Report that the extra `cli` is not installed, on standard output where `--json` is given, and exit."""
    message = f"The command needs the extra: pip install 'refund-credit-ledger[cli]' (missing: {missing})."
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": {"message": message, "code": "extra_missing", "extra": "cli"}}))
    else:
        print(f"error: {message}", file=sys.stderr)
    sys.exit(ExitCode.EXTRA_MISSING)
