"""The root of the command tree: program name, usage errors, interruptions and file errors.

Usage errors are printed as JSON if `--json` is anywhere on the command line, even after an unknown option. A mistake of
a user never ends in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer import rich_utils
from typer.core import TyperGroup

from ledger.cli import output
from ledger.cli.exit_codes import INTERRUPTED, ExitCode
from ledger.errors import ConfigurationError

NAME = "refund-ledger"
USAGE_CODE = "usage"

_ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""Base class of usage errors; typer does not export it."""


class RootGroup(TyperGroup):
    """The root of all commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command of `args` (default: the arguments of the process) and exit with its code."""
        arguments = list(sys.argv[1:] if args is None else args)
        output.reset("--json" in arguments)
        try:
            code = super().main(arguments, NAME, standalone_mode=False, **extra)
        except _ClickException as error:
            _usage_error(error)
        except typer.Abort:
            output.say("Aborted.")
            sys.exit(int(ExitCode.REFUSED))
        except OSError as error:
            _file_error(error)
        if code == INTERRUPTED:
            output.say("Interrupted.")
        sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: Exception) -> None:
    """Print what is wrong with the command line, and exit."""
    if str(getattr(error, "message", "")).startswith("Got unexpected extra argument"):
        # The argument may be an identifier of a person, whose option was forgotten.
        error.message = "There is an argument too many. Is the name of an option missing before it?"  # type: ignore[attr-defined]
    if output.json_asked():
        context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
        is_bare = type(error).__name__ == "NoArgsIsHelpError"
        message = "Name a command." if is_bare else str(error.format_message())  # type: ignore[attr-defined]
        details = {
            "command": NAME if context is None else context.command_path,
            "parameter": None if parameter is None else parameter.opts[0],
        }
        output.complain({"message": message, "code": USAGE_CODE, "details": details})
    else:
        rich_utils.rich_format_error(error)  # type: ignore[arg-type]
    sys.exit(int(getattr(error, "exit_code", ExitCode.USAGE)))


def _file_error(error: OSError) -> None:
    """Print which file could not be used, and exit. An error without a file name is one of a stream."""
    reason = os.strerror(error.errno) if error.errno else "it cannot be used"
    name = os.path.basename(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else ""
    output.complain(
        {
            "message": f"{name or 'A file or stream'} cannot be used: {reason}.",
            "code": ConfigurationError.code,
            "details": {},
        }
    )
    sys.exit(int(ExitCode.USAGE))
