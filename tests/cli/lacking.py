"""`python -m tests.cli.lacking MODULES ARGUMENTS...`: `refund-ledger ARGUMENTS...` where MODULES are not installed.

MODULES is a JSON list of names. The ledger's own modules are imported anew, also in a process that is forked from one
that has them all. With `--each COMMANDS` (a JSON list of lists) in place of the arguments it runs each of these
commands twice, for people and with `--json`, and prints for each a JSON list: the command, its exit code and standard
error, and with `--json` its exit code and standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

EACH = "--each"


def lack(missing: Sequence[str]) -> None:
    """From now on importing these modules fails, and the ledger's own modules are imported anew."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("ledger", "api", *missing):
            del sys.modules[name]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]


def run_each(commands: Sequence[Sequence[str]]) -> None:
    """Run each command for people and with `--json`, and print what came of it."""
    from typer.testing import CliRunner

    from ledger.cli import app, output

    for words in commands:
        lines: list[object] = [words]
        for arguments in (words, ["--json", *words]):
            output.reset()
            done = CliRunner().invoke(app, arguments)
            lines += [done.exit_code, done.stdout if "--json" in arguments else done.stderr]
        sys.stdout.write(json.dumps(lines) + "\n")


def main() -> None:
    """Run what the command line says."""
    missing, *arguments = sys.argv[1:]
    lack(json.loads(missing))
    if arguments[0] == EACH:
        run_each(json.loads(arguments[1]))
        return
    sys.argv = ["refund-ledger", *arguments]
    from ledger.cli import main as run

    run()


if __name__ == "__main__":
    main()
