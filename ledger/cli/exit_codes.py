"""Exit codes of the commands, in a module that needs no extra."""

from __future__ import annotations

from enum import IntEnum

INTERRUPTED = 130
"""After Ctrl-C: 128 plus the number of SIGINT, as in shells."""


class ExitCode(IntEnum):
    """Exit status of a command."""

    OK = 0
    REFUSED = 1
    """Refused by the ledger, or a verification failed."""
    USAGE = 2
    """Wrong options, input or configuration."""
    EXTRA_MISSING = 3
    """The command needs an extra, or the server, which is not installed."""
    UNAVAILABLE = 4
    """The ledger could not be reached, or a report still waits in the outbox."""
