"""`refund-ledger serve`: the publisher in a process of its own, and the API in this one.

The publisher holds the log key and never the OPRF key; this process the other way round. The publisher comes back when
it dies; when this process ends, however it ends, the publisher ends too.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ledger.cli import output
from ledger.errors import ConfigurationError

if TYPE_CHECKING:
    from ledger.settings import Settings

FIRST_VERDICT_SECONDS = 30
STOP_SECONDS = 10
RESTART_SECONDS = 1.0
GRACEFUL_SECONDS = 10
KEEP_ALIVE_SECONDS = 30
"""Longer than clients keep idle connections: if the server closed first, a request could meet a closing one."""


class Publisher:
    """The publisher process and the thread that watches it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._stop = threading.Event()
        self._process = self._spawn()
        self.verdict = self._first_line()
        self._watcher = threading.Thread(target=self._watch, name="publisher-watch", daemon=True)
        self._watcher.start()

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledger.service.publisher", "--with-parent"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def _first_line(self) -> dict[str, Any]:
        """What the publisher says first. Raises ConfigurationError when it will not run."""
        timer = threading.Timer(FIRST_VERDICT_SECONDS, self._process.kill)
        timer.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        try:
            verdict = json.loads(line)
        except ValueError as error:
            self._process.kill()
            self._process.wait()
            raise ConfigurationError("The publisher did not start; its own output says why.") from error
        if "error" in verdict:
            self._process.wait()
            raise ConfigurationError(str(verdict["message"]))
        return dict(verdict)

    def _watch(self) -> None:
        while True:
            assert self._process.stdout is not None
            for _ in self._process.stdout:  # keeps the pipe from filling
                pass
            self._process.wait()
            self._process.stdout.close()
            if self._stop.wait(RESTART_SECONDS):
                return
            output.messages().print("The publisher ended; starting it again.", style="yellow")
            self._process = self._spawn()

    def stop(self) -> None:
        """End the publisher, between two rounds if it can."""
        self._stop.set()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watcher.join(STOP_SECONDS)


def run(settings: Settings, environment: dict[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. `environment` makes the publisher read the same settings.

    Raises ConfigurationError when keys, log, schema or address do not allow it.
    """
    import uvicorn

    from api.app import create_app
    from ledger.service.runtime import open_runtime

    open_runtime(settings).close()  # what is wrong with keys or schema shows here, as one line instead of a traceback
    listening = _listen(settings.host, settings.port)
    url = _url(settings.host, listening.getsockname()[1])
    publisher = Publisher(environment)

    class Server(uvicorn.Server):
        """Says where it listens once it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _announce(settings, url, publisher.verdict)

    config = uvicorn.Config(
        lambda: create_app(settings),
        factory=True,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here reads the address of the caller
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = Server(config)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn finishes what runs and then raises the signal again; by default that would end us before `finally`.
        signal.signal(number, stop)
    try:
        server.run(sockets=[listening])
    finally:
        publisher.stop()
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
    listening.set_inheritable(True)
    return listening


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(settings: Settings, url: str, verdict: dict[str, Any]) -> None:
    def show(console: Any) -> None:
        console.print(
            Text.assemble("Refund Credit Ledger at ", (url, "bold"), f" ({settings.environment}), stop with Ctrl-C")
        )

    frozen = verdict.get("frozen")
    output.emit({"url": url, "environment": settings.environment, "service": settings.service, "frozen": frozen}, show)
    if frozen:
        output.messages().print(
            Text(f"The log is frozen: {frozen}. Reads are answered, writes are refused.", style="bold red")
        )
