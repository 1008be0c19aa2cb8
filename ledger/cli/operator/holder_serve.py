"""`holder serve`: run a key holder's service in this process until SIGTERM or SIGINT."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ledger.cli import output
from ledger.cli.operator.serve import CLOSE_SECONDS, StopDeadline, http_url, listen, run_server

if TYPE_CHECKING:
    from ledger.holder.runtime import HolderRuntime
    from ledger.holder.settings import HolderSettings


def run_holder(settings: HolderSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigurationError if folder, share, database or address do not allow it, Unavailable when the log cannot be
    read and the holder has no state of it, Inconsistent for a faulty log without such a state, DatabaseUnavailable.
    """
    from api.holder.app import HolderApp
    from api.serving import server_options, start_logging
    from ledger.holder.runtime import open_holder_runtime

    start_logging()
    runtime = open_holder_runtime(settings)
    listening: socket.socket | None = None
    try:
        listening = listen(settings.host, settings.port)
        url = http_url(settings.host, listening.getsockname()[1])
        runtime.start()
        run_server(
            lambda: HolderApp(runtime),
            server_options(settings.shared),
            listening,
            StopDeadline(),
            lambda: _announce(runtime, url),
        )
    finally:
        runtime.close(CLOSE_SECONDS)
        if listening is not None:
            listening.close()


def _announce(runtime: HolderRuntime, url: str) -> None:
    card = runtime.folder.card
    state = runtime.readiness()
    answer = {
        "url": url,
        "holder": runtime.folder.holder,
        "service": card.service,
        "environment": card.environment,
        "shares": state["shares"],
        "log": state["log"],
    }

    def show(console: Any) -> None:
        line = Text.assemble("Key holder ", (runtime.folder.holder, "bold"), f" of {card.service} at ", (url, "bold"))
        console.print(line.append(f" ({card.environment}), stop with Ctrl-C"))
        if state["shares"] != "ok":
            console.print("The log does not have a sharing with this holder yet: nothing is evaluated until it has.")
        if state["log"] != "ok":
            console.print(Text(f"The ledger's log: {state['log']}. The last state of it stays in use.", style="yellow"))

    output.emit(answer, show)
