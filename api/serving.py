"""What a process that serves an application needs besides it: the limits of its connections, and the logs of libraries.

Nothing of an application is loaded here: a key holder's service needs little of the ledger's.
"""

from __future__ import annotations

from typing import Any

from api.connections import limited_http
from api.logs import bridge_logging, make_logger
from ledger.server.settings import Settings


def start_logging() -> None:
    """Write the logs of libraries to standard error as JSON lines, until the application is created."""
    bridge_logging(make_logger())


def server_options(settings: Settings) -> dict[str, Any]:
    """Return the options of uvicorn's `Config` that set the limits of docs/operations.md and disable answers and logs
    of uvicorn itself."""
    return {
        "http": limited_http(settings),
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # no code here reads the address of the caller
    }
