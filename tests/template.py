"""Processes of the project that need not import it: a template process has imported everything, and forks.

`start("ledger", ["--json", "serve"], ...)` is `python -m ledger --json serve` in a process of its own, with its own
environment, folder, standard streams and exit status; only the seconds that its imports take are spared. The template
starts no threads and opens nothing, so a fork of it is as good as a fresh interpreter. A process group of its own holds
each process, or it joins the group of an earlier one. The template ends with the process that asked for it.

For what happens while modules load, or what an installed command does at its start, run `sys.executable` instead.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
MAX_REQUEST_BYTES = 1 << 17
IMPORTED = (
    "api.app",
    "ledger.client",
    "ledger.cli.serve",
    "ledger.referral.bundle",
    "ledger.service.publisher",
    "ledger.service.rotation.run",
    "ledger.service.rotation.retire",
    "ledger.service.snapshotter",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
PACKAGES = ("ledger.cli",)
"""Of these every module."""

_templates: dict[int, socket.socket] = {}
"""The end of the conversation with the template, by the process that started it: forks of that one have no template."""


@dataclass
class Forked:
    """A process that a template forked, with what the tests use of `subprocess.Popen`."""

    pid: int
    _status: socket.socket
    stdout: TextIO | None = None
    stderr: TextIO | None = None
    stdin: TextIO | None = None
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """The exit status as `subprocess` has it (negative: the signal), None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            said = self._status.recv(32)
            assert said, "the template ended"
            self.returncode = os.waitstatus_to_exitcode(int(said))
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close what this process holds of its standard streams."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def start(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    group: int = 0,
    talk: bool = False,
    stderr: bool = True,
) -> Forked:
    """`python -m <module> <arguments>`; its standard output, and with `stderr` its standard error, are read from what
    this returns, and with `talk` its standard input is written to there. `group`: the process group that it joins, of
    a process started before (0: its own)."""
    pipes = {name: os.pipe() for name, wanted in (("stdin", talk), ("stdout", True), ("stderr", stderr)) if wanted}
    status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    nothing = os.open(os.devnull, os.O_RDWR)
    given = [pipes[name][0 if name == "stdin" else 1] if name in pipes else nothing for name in _STREAMS]
    try:
        request = {"module": module, "arguments": [*arguments], "env": dict(env), "cwd": str(cwd), "group": group}
        data = json.dumps(request).encode()
        assert len(data) < MAX_REQUEST_BYTES
        socket.send_fds(_template(), [data], [*given, theirs.fileno()])
    finally:
        theirs.close()
        for number in {*given, nothing}:
            os.close(number)
    said = status.recv(32)
    assert said, "the template did not start the process"
    process = Forked(int(said), status)
    for name, ends in pipes.items():
        setattr(process, name, os.fdopen(ends[1] if name == "stdin" else ends[0], "w" if name == "stdin" else "r"))
    return process


def run(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run([python, "-m", module, ...], capture_output=True, text=True)` gives. Raises
    subprocess.TimeoutExpired."""
    process = start(module, arguments, env=env, cwd=cwd)
    try:
        said = _read_all(process, timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        process.close()
    return subprocess.CompletedProcess([module, *arguments], process.wait(timeout), *said)


_STREAMS = ("stdin", "stdout", "stderr")


def _read_all(process: Forked, timeout: float) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    read: dict[int, bytes] = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    waiting = set(read)
    while waiting:
        ready = select.select([*waiting], [], [], timeout)[0]
        if not ready:
            raise subprocess.TimeoutExpired(f"process {process.pid}", timeout)
        for number in ready:
            data = os.read(number, 1 << 16)
            read[number] += data
            if not data:
                waiting.remove(number)
    first, second = read.values()
    return first.decode(), second.decode()


def _template() -> socket.socket:
    """The conversation with this process's template, which is started first where there is none."""
    made = _templates.get(os.getpid())
    if made is None:
        made, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.set_inheritable(False)
        # Its own session, so that Ctrl-C in the terminal does not end the servers before the tests have let go of them.
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.template", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        process.returncode = 0  # it goes when this process goes; Popen would warn of that
        _templates[os.getpid()] = made
        atexit.register(made.close)
    return made


@dataclass(frozen=True)
class _Request:
    module: str
    arguments: list[str]
    env: dict[str, str]
    cwd: str
    group: int


def _import_all() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _fork_on_request(control: socket.socket) -> _Request | None:
    """In the template: fork what is asked for until there is no one left to ask; then None. In a forked process: its
    request, with everything as that process is to find it."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, _noted)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        ready = select.select([control.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 1 << 12)
            _tell_ended(running)
        if control.fileno() not in ready:
            continue
        data, numbers, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 4)
        if not data:
            return None
        request = _Request(**json.loads(data))
        status = socket.socket(fileno=numbers.pop())
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (control, status, *running.values()):
                one.close()
            for number in (woken, wakes):
                os.close(number)
            _become(request, numbers)
            return request
        _in_group(pid, request.group or pid)  # by both, so that it is so whichever comes first
        for number in set(numbers):
            os.close(number)
        running[pid] = status
        with suppress(OSError):
            status.send(str(pid).encode())


def _noted(_number: int, _frame: object) -> None:
    """SIGCHLD only writes to the wakeup pipe."""


def _tell_ended(running: dict[int, socket.socket]) -> None:
    """Tell the exit status of each process that ended to the one that waits for it."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as told, suppress(OSError):
            told.send(str(status).encode())


def _in_group(pid: int, group: int) -> None:
    with suppress(OSError):
        os.setpgid(pid, group)


def _become(request: _Request, streams: list[int]) -> None:
    """What a fresh interpreter would find: streams, environment, folder, arguments."""
    _in_group(0, request.group or os.getpid())
    for target, number in enumerate(streams):
        os.dup2(number, target)
    for number in {number for number in streams if number > 2}:
        os.close(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    sys.path[0] = request.cwd
    if str(ROOT) not in sys.path:
        sys.path.insert(1, str(ROOT))
    sys.argv = [request.module, *request.arguments]
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def main() -> None:
    """The template."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    request = _fork_on_request(control)
    if request is not None:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
