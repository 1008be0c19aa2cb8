"""Processes of the ledger that are forked from one that has imported everything.

Starting `python -m ledger serve` costs four seconds of processor time, nearly all of it imports: its own, and those of
publisher and snapshotter. A test that is about something else starts the server here: multiprocessing's fork server
imports once in each test process, and each server is a fork of it, which then runs the same command with the same
arguments, environment and pipes. What differs: the name in `/proc`, and that the fork server is every process's parent.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver, reduction
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.forked_imports"])
_STARTING = threading.Lock()


def start_server() -> None:
    """Start the fork server, which otherwise the first forked process does. Forks of this process can use it too."""
    forkserver.ensure_running()


class _Descriptor:
    """A file descriptor that reaches the forked process, under a number of its own."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._number),)


def _received(duplicate: Any) -> int:
    return int(duplicate.detach())


class ForkedProcess:
    """`python -m MODULE ARGUMENTS...`, with the part of `subprocess.Popen`'s interface that servers and tests use.

    Without a `group` it leads a process group of its own, else it joins that one. Standard error is a pipe unless a
    descriptor is given; standard input is one with `talk`.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        group: int = 0,
        stderr: int | None = None,
        talk: bool = False,
    ) -> None:
        self.args = [module, *arguments]
        self.returncode: int | None = None
        self._polling = threading.Lock()
        reading, writing = os.pipe()
        error_reading, error_writing = os.pipe() if stderr is None else (None, os.dup(stderr))
        shown, telling = os.pipe() if talk else (os.open(os.devnull, os.O_RDONLY), None)
        with _STARTING:
            self._process = _FORKS.Process(
                target=_become,
                args=(
                    module, list(arguments), dict(environment), str(folder), group,
                    _Descriptor(shown), _Descriptor(writing), _Descriptor(error_writing),
                ),
            )  # fmt: skip
            self._process.start()
        for number in (shown, writing, error_writing):
            os.close(number)
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdin: IO[str] | None = None if telling is None else os.fdopen(telling, "w")
        self.stdout: IO[str] | None = open(reading, encoding="utf-8", errors="replace")  # noqa: SIM115
        self.stderr: IO[str] | None = None
        if error_reading is not None:
            self.stderr = open(error_reading, encoding="utf-8", errors="replace")  # noqa: SIM115

    def close(self) -> None:
        """Close this side's ends of the pipes."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._polling:
            if self.returncode is None:
                self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status. Raises subprocess.TimeoutExpired."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)


def run_command(
    arguments: Sequence[object],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    module: str = "ledger",
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS...` to its end, by default `refund-ledger ARGUMENTS...`.

    Raises subprocess.TimeoutExpired after it has been killed.
    """
    words = [str(argument) for argument in arguments]
    process = ForkedProcess(
        module, words, environment=os.environ if environment is None else environment, folder=folder
    )
    said = {"stdout": "", "stderr": ""}

    def read(name: str) -> None:
        with getattr(process, name) as pipe:
            said[name] = pipe.read()

    readers = [threading.Thread(target=read, args=(name,)) for name in said]
    for reader in readers:
        reader.start()
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    finally:
        for reader in readers:
            reader.join()
    return subprocess.CompletedProcess(process.args, code, **said)


def _become(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    group: int,
    stdin: int,
    stdout: int,
    stderr: int,
) -> None:
    """In the forked process: be `python -m module`."""
    os.setpgid(0, group)
    for number, place in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(number, place)
        os.close(number)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    # The fork server that made this process makes its children too; by itself this one would start another.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    if module == "ledger":
        _fork_children_too()
    elif "--with-parent" in arguments:
        _follow_the_stated_parent()
    sys.modules.pop(module, None)  # it runs as `__main__` now
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fork_children_too() -> None:
    """Let `serve` fork publisher and snapshotter as well, and the demo its services."""
    from ledger.cli.operator import serve
    from ledger.server.demo import local_ledger

    def spawn(child: Any) -> ForkedProcess:
        return ForkedProcess(
            serve.CHILD_MODULES[child._name],
            ["--with-parent", str(os.getpid())],
            environment=child._environment,
            folder=Path.cwd(),
            group=os.getpgid(0),
            stderr=2,
        )

    def service(arguments: Sequence[str], environment: Mapping[str, str], log_file: IO[bytes]) -> ForkedProcess:
        return ForkedProcess(
            "ledger",
            ["--json", *arguments],
            environment=environment,
            folder=Path.cwd(),
            group=os.getpgid(0),
            stderr=log_file.fileno(),
        )

    serve.Child._spawn = spawn  # type: ignore[method-assign,assignment]
    local_ledger._spawn = service  # type: ignore[assignment]


def _follow_the_stated_parent() -> None:
    """End with the process that is named as the parent, which is not the one that forked this."""
    from ledger.server.process import child as processes

    started_by = os.pidfd_open(int(sys.argv[sys.argv.index(processes.WITH_PARENT) + 1]))

    def orphaned(parent: int | None) -> bool:
        return parent is not None and bool(wait([started_by], 0))

    processes.orphaned = orphaned
