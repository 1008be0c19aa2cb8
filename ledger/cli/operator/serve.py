"""`serve`: run the API in this process, and the publisher and the snapshotter in child processes.

The child processes load the log key and never the OPRF key; this process loads the OPRF key and never the log key. A
child that ends is started again. When this process ends for any reason, the children end too. SIGTERM ends all of them
within STOP_SECONDS, even if a request or a thread hangs: each stage of the stop has a share of that time, after which
the process exits without waiting any longer.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ledger.cli import output
from ledger.cli.operator.keys import SINGLE_PARTY
from ledger.errors import ConfigurationError
from ledger.protocol.urls import path_prefix

if TYPE_CHECKING:
    from ledger.server.keys.epochs import EpochRow
    from ledger.server.settings import Settings

FIRST_LINE_SECONDS = 30
RESTART_SECONDS = 1.0
STOP_SECONDS = 9.0
"""Longest time from SIGTERM to the end of the process."""

GRACEFUL_SECONDS = 4
"""Part of STOP_SECONDS in which running requests are answered."""

CLOSE_SECONDS = 2.5
"""Part of STOP_SECONDS in which the threads finish their queues."""

CHILD_SECONDS = 2.0
"""Part of STOP_SECONDS after which the child processes are killed. They can be killed without losing data."""

KEEP_ALIVE_SECONDS = 30
"""Idle connections are kept for this time, which is longer than clients keep them: otherwise a request could be sent on
a connection that the server is closing."""

CHILD_MODULES = {
    "publisher": "ledger.server.log.publisher",
    "snapshotter": "ledger.server.snapshots.snapshotter",
}
"""Modules of the child processes, by their name in log lines."""

log = logging.getLogger(__name__)


class Child:
    """A child process that runs one of `CHILD_MODULES`, and the thread that starts it again when it ends."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self._name = name
        self._environment = environment
        self._stop = threading.Event()
        self._process = self._spawn()
        self._watcher: threading.Thread | None = None

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", CHILD_MODULES[self._name], "--with-parent", str(os.getpid())],
            env=self._environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )

    def first_line(self) -> dict[str, Any]:
        """Return the first line that the process prints, as a dictionary. Raises ConfigurationError if it does not
        start."""
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
        """Start the process again whenever it ends, until `stop` is called."""
        self._watcher = threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            assert self._process.stdout is not None
            with suppress(ValueError):  # closed already, because the last start failed
                for line in self._process.stdout:  # read to the end, also so that the pipe never fills
                    self._log(line)
            self._process.wait()
            self._process.stdout.close()
            if self._stop.wait(RESTART_SECONDS):
                return
            log.warning("process_restarted", extra={"child": self._name, "status": self._process.returncode})
            try:
                self._process = self._spawn()
            except OSError:  # no process or file descriptor is free; the next round tries again
                log.exception("process_not_started", extra={"child": self._name})
                continue
            if self._stop.is_set():
                self._process.terminate()

    def _log(self, line: str) -> None:
        """Log a line that the process prints after its first one."""
        try:
            document = json.loads(line)
        except ValueError:
            return
        if isinstance(document, dict) and "error" in document:
            message = str(document.get("message", ""))
            log.error("process_refuses", extra={"child": self._name, "says": message})

    def kill(self) -> None:
        """End it at once."""
        self._stop.set()
        self._process.kill()

    def terminate(self) -> None:
        """Ask it to end."""
        self._stop.set()
        self._process.terminate()

    def stop(self, seconds: float = CHILD_SECONDS) -> None:
        """End the process, between two rounds if possible; kill it after `seconds`."""
        self.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._watcher is not None:
            self._watcher.join(seconds)


class StopDeadline:
    """End this process STOP_SECONDS after the first signal, if it is still running.

    A thread in a call that hangs (a database that does not answer) cannot be interrupted, and the interpreter waits for
    it at exit; only `os._exit` ends it. Acknowledged writes are committed, so none is lost.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self.children: list[Child] = []

    def start(self) -> None:
        """Start the timer and terminate the children. Later calls do nothing."""
        if self._timer is None:
            self._timer = threading.Timer(STOP_SECONDS, self._end)
            self._timer.daemon = True
            self._timer.start()
            for child in self.children:
                child.terminate()

    def _end(self) -> None:
        for child in self.children:
            child.kill()
        log.error("stop_forced")
        sys.stderr.flush()
        os._exit(1)


def run(settings: Settings, environment: dict[str, str], *, publisher: bool = True, snapshotter: bool = True) -> None:
    """Serve until SIGTERM or SIGINT. `environment` are the variables of the child processes, so that they read the same
    settings; `publisher` and `snapshotter` say which of them to run.

    Raises ConfigurationError if keys, log, schema or address do not allow it, DatabaseUnavailable.
    """
    from api.app import create_app
    from api.serving import server_options, start_logging
    from ledger.server.runtime import open_runtime
    from ledger.server.staff.accounts import needs_admin

    if settings.public_url is not None:
        path_prefix(settings.public_url)  # refused here, before anything starts
    start_logging()
    rt = open_runtime(settings)  # reports problems of keys or schema as one line, not as a traceback
    deadline = StopDeadline()
    children = deadline.children
    listening: socket.socket | None = None
    try:
        no_admin = needs_admin(rt.engine)
        listening = listen(settings.host, settings.port)
        url = http_url(settings.host, listening.getsockname()[1])
        verdict: dict[str, Any] = {"frozen": None}
        if publisher:
            children.append(Child("publisher", environment))
            verdict |= children[0].first_line()
            children[0].watch()

        def announce() -> None:
            _announce(settings, url, verdict, no_admin, rt.keys.current)
            if snapshotter:
                # No request waits for it, so it need not delay the start.
                children.append(Child("snapshotter", environment))
                children[-1].watch()

        run_server(lambda: create_app(settings, runtime=rt), server_options(settings), listening, deadline, announce)
    finally:
        rt.close(CLOSE_SECONDS)
        _stop_all(children)
        if listening is not None:
            listening.close()


def run_server(
    create: Callable[[], Any],
    options: dict[str, Any],
    listening: socket.socket,
    deadline: StopDeadline,
    on_started: Callable[[], None],
) -> None:
    """Serve the application that `create` returns until SIGTERM or SIGINT, which starts `deadline`. `options` are those
    of uvicorn's `Config`; `on_started` is called when the server listens."""
    import uvicorn

    class Server(uvicorn.Server):
        """Calls `on_started` when it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                # A full collection of all imported objects takes longer than a lookup may; frozen objects are
                # never collected.
                gc.collect()
                gc.freeze()
                on_started()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            deadline.start()
            super().handle_exit(sig, frame)

    server = Server(
        uvicorn.Config(
            create,
            factory=True,
            **options,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        deadline.start()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn finishes its requests and then raises the signal again; the default handler would end this process
        # before the caller's `finally`.
        signal.signal(number, stop)
    server.run(sockets=[listening])


def _stop_all(children: list[Child]) -> None:
    end = time.monotonic() + CHILD_SECONDS
    for child in children:
        child.terminate()
    for child in children:
        child.stop(max(0.1, end - time.monotonic()))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address, for `run_server`. Raises ConfigurationError."""
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


def http_url(host: str, port: int) -> str:
    """Return the URL of an address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(settings: Settings, url: str, verdict: dict[str, Any], no_admin: bool, epoch: EpochRow) -> None:
    holders = max(1, len(epoch.holders))
    console_url = f"{(settings.public_url or url).rstrip('/')}/console"

    def show(console: Any) -> None:
        console.print(
            Text.assemble("Refund Credit Ledger at ", (url, "bold"), f" ({settings.environment}), stop with Ctrl-C")
        )
        console.print(Text.assemble("Console for the staff at ", (console_url, "bold")))
        if no_admin:
            console.print("No account can sign in there yet: refund-ledger staff add NAME --role admin")
        if epoch.is_shared:
            console.print(
                f"Any {epoch.threshold} of {holders} key holders evaluate; this server has no share of the key."
            )
        else:
            console.print(Text(SINGLE_PARTY, style="yellow"))
        if frozen:
            console.print(
                Text(f"The log is frozen: {frozen}. Lookups are answered, writes are refused.", style="bold red")
            )
        if standby:
            console.print(Text(f"The publisher of this server is on standby: {standby}.", style="yellow"))

    frozen, standby = verdict.get("frozen"), verdict.get("standby")
    answer = {"url": url, "environment": settings.environment, "service": settings.service, "frozen": frozen}
    keys = {"epoch": epoch.epoch, "generation": epoch.generation, "threshold": epoch.threshold, "holders": holders}
    output.emit({**answer, "standby": standby, "console": console_url, "needs_admin": no_admin, "keys": keys}, show)
    if not epoch.is_shared:
        log.warning("one_holder_has_the_whole_key", extra={"says": SINGLE_PARTY})
    if frozen:
        log.error("log_is_frozen", extra={"reason": frozen})
    if standby:
        log.warning("publisher_stands_by", extra={"reason": standby})
