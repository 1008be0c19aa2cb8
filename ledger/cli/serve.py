"""`refund-ledger serve`: publisher and snapshotter in processes of their own, and the API in this one.

Publisher and snapshotter hold the log key and never the OPRF key; this process the other way round. Each comes back
when it dies; when this process ends, however it ends, they end too.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ledger.cli import output
from ledger.core.urls import path_prefix
from ledger.errors import ConfigurationError

if TYPE_CHECKING:
    from ledger.settings import Settings

FIRST_LINE_SECONDS = 30
STOP_SECONDS = 10
RESTART_SECONDS = 1.0
GRACEFUL_SECONDS = 10
KEEP_ALIVE_SECONDS = 30
"""Longer than clients keep idle connections: if the server closed first, a request could meet a closing one."""


class Child:
    """A process of the ledger's own, `python -m ledger.service.<name>`, and the thread that starts it again."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self._name = name
        self._environment = environment
        self._stop = threading.Event()
        self._process = self._spawn()
        self._watcher: threading.Thread | None = None

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", f"ledger.service.{self._name}", "--with-parent", str(os.getpid())],
            env=self._environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def first_line(self) -> dict[str, Any]:
        """Wait for what it says first. Raises ConfigurationError when it will not run."""
        timer = threading.Timer(FIRST_LINE_SECONDS, self._process.kill)
        timer.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        try:
            verdict = json.loads(line)
        except ValueError as error:
            self.stop()
            raise ConfigurationError(f"The {self._name} did not start; its own output says why.") from error
        if "error" in verdict:
            self.stop()
            raise ConfigurationError(str(verdict["message"]))
        return dict(verdict)

    def watch(self) -> None:
        """Start it again whenever it ends, until `stop`."""
        self._watcher = threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            assert self._process.stdout is not None
            for line in self._process.stdout:  # to the end, which also keeps the pipe from filling
                if line.startswith('{"error"'):
                    output.messages().print(Text(f"The {self._name} says: {json.loads(line)['message']}", "yellow"))
            self._process.wait()
            self._process.stdout.close()
            if self._stop.wait(RESTART_SECONDS):
                return
            output.messages().print(f"The {self._name} ended; starting it again.", style="yellow")
            self._process = self._spawn()

    def terminate(self) -> None:
        """Ask it to end."""
        self._stop.set()
        self._process.terminate()

    def stop(self) -> None:
        """End it, between two rounds if it can."""
        self.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._watcher is not None:
            self._watcher.join(STOP_SECONDS)


def run(settings: Settings, environment: dict[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. `environment` makes the other processes read the same settings.

    Raises ConfigurationError when keys, log, schema or address do not allow it.
    """
    import uvicorn

    from api.app import create_app, limited_http
    from ledger.service.runtime import open_runtime
    from ledger.service.staff import needs_admin

    if settings.public_url is not None:
        path_prefix(settings.public_url)  # refused here, before anything starts
    rt = open_runtime(settings)  # what is wrong with keys or schema shows here, as one line instead of a traceback
    try:
        no_admin = needs_admin(rt.engine)
    finally:
        rt.close()
    listening = _listen(settings.host, settings.port)
    url = _url(settings.host, listening.getsockname()[1])
    publisher = Child("publisher", environment)
    verdict = publisher.first_line()
    publisher.watch()
    children = [publisher]

    class Server(uvicorn.Server):
        """Says where it listens once it does."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                # A full collection over everything imported takes longer than a lookup may; so none ever looks at it.
                gc.collect()
                gc.freeze()
                _announce(settings, url, verdict, no_admin)
                # Nothing that is served waits for it, so it need not hold up the start.
                children.append(Child("snapshotter", environment))
                children[-1].watch()

    config = uvicorn.Config(
        lambda: create_app(settings),
        factory=True,
        log_config=None,
        access_log=False,
        server_header=False,
        http=limited_http(settings),
        ws="none",
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
        _stop_all(children)
        listening.close()


def _stop_all(children: list[Child]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.stop()


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


def _announce(settings: Settings, url: str, verdict: dict[str, Any], no_admin: bool) -> None:
    console_url = f"{(settings.public_url or url).rstrip('/')}/console"

    def show(console: Any) -> None:
        console.print(
            Text.assemble("Refund Credit Ledger at ", (url, "bold"), f" ({settings.environment}), stop with Ctrl-C")
        )
        console.print(Text.assemble("Console for the staff at ", (console_url, "bold")))
        if no_admin:
            console.print("Nobody can sign in there yet: refund-ledger staff add NAME --role admin")

    frozen = verdict.get("frozen")
    said = {"url": url, "environment": settings.environment, "service": settings.service, "frozen": frozen}
    output.emit({**said, "console": console_url, "needs_admin": no_admin}, show)
    if frozen:
        output.messages().print(
            Text(f"The log is frozen: {frozen}. Reads are answered, writes are refused.", style="bold red")
        )
