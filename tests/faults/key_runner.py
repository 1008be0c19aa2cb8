"""Runs commands of a shared key and kills itself at a given durable step: `python -m tests.faults.key_runner`.

Reads lines `<count> <command line as JSON>`. A forked child runs the command with `--json` and dies of SIGKILL before
its count-th durable step: a file is synced, linked, renamed or unlinked, a transaction commits; and directly after a
commit. Its exit status is printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect
from typer.testing import CliRunner

from ledger.cli import app, output


def counting(count: int) -> None:
    """Kill this process before its count-th durable step."""
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(function: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            step()
            result = function(*arguments, **options)
            if after:
                step()
            return result

        return call

    for name in ("fsync", "link", "rename", "replace", "unlink"):
        setattr(os, name, stepping(getattr(os, name)))
    for name in ("rename", "replace", "unlink"):
        setattr(Path, name, stepping(getattr(Path, name)))
    DefaultDialect.do_commit = stepping(DefaultDialect.do_commit, after=True)  # type: ignore[method-assign]


def run(count: int, command: list[str]) -> int:
    """Run a command, and die before its count-th step; return its exit status."""
    counting(count)
    output.reset()
    result = CliRunner().invoke(app, [*command, "--json"])
    if result.exit_code:
        sys.stderr.write(result.output)
    return result.exit_code


def main() -> None:
    """One child for each line of standard input. What the commands load is loaded before: each child has it then."""
    for module in ("rotation.run", "rotation.sharings", "log.genesis", "keys.cards", "db.opening"):
        import_module(f"ledger.server.{module}")
    for line in sys.stdin:
        count, _, command = line.partition(" ")
        child = os.fork()
        if child == 0:
            os._exit(run(int(count), json.loads(command)))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
