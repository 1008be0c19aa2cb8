"""Runs a process under its former name, after a warning in its log."""

from __future__ import annotations

import logging
import runpy

log = logging.getLogger(__name__)


def run_renamed(old: str, new: str) -> None:
    """Run the module `new` as the main program; the log's first line says that `old` is its former name.

    Raises SystemExit with the exit status of the process.
    """
    # The process sets up its log when it runs, so the line is written by a handler of the same form before that.
    from ledger.server.process.json_logs import JsonLines

    handler = JsonLines(new.rpartition(".")[2])
    log.addHandler(handler)
    log.propagate = False
    log.warning("module_renamed", extra={"old": old, "new": new})
    log.removeHandler(handler)
    runpy.run_module(new, run_name="__main__", alter_sys=True)
