"""Tests in several processes, which are forked from the one that has imported and collected them.

`--workers 4` is the option. pytest-xdist starts each of its processes anew: each imports the ledger, its libraries and
all test files, and collects eight thousand tests, which takes nine seconds of a processor. Here that happens once. The
first process collects, hands the tests out, and reports; a test, its fixtures and what a file's tests share run in a
worker, as with xdist.

The tests of a file, or of a folder that is a package, stay together in pytest's order until no group is left: then a
worker that has nothing to do takes the second half of what another still has to run.

Measuring coverage needs xdist (`make test COVERAGE=1`), and `--pdb` needs one process.
"""

from __future__ import annotations

import fcntl
import gc
import itertools
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.shared_server import files_with_server

NAME = "TEST_WORKER"
"""The environment variable with a worker's name; the first process has none."""
AHEAD = 2
"""How many tests a worker has: the one that runs, and the next one, which decides about fixtures to keep."""
ENDING_SECONDS = 20.0
"""How long a worker may take to end after its last test."""
_FORKS = multiprocessing.get_context("fork")


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all processes of this run share."""
    base = factory.getbasetemp()
    return base.parent if NAME in os.environ or "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the file or folder `name` of the whole test run. The first process that asks fills it with `make`, while
    the others wait."""
    root = run_folder(factory)
    path, finished = root / name, root / f"{name}.finished"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            make(path)
            finished.touch()
    return path


class Worker:
    """A worker as the first process sees it: its process, this end of its pipe, its tests in their order."""

    def __init__(self, number: int, session: pytest.Session, others: Sequence[Worker]) -> None:
        self.name = f"gw{number}"
        self.waiting: deque[int] = deque()
        self.given: deque[int] = deque()
        """What it has and has not reported yet: `AHEAD` tests at most."""
        self.ended = False
        self.pipe, theirs = _FORKS.Pipe()
        ours = [self.pipe, *[other.pipe for other in others]]
        self.process = _FORKS.Process(target=_work, args=(session, self.name, theirs, ours))
        self.process.start()
        theirs.close()
        assert self.process.pid is not None
        self.exit = os.pidfd_open(self.process.pid)

    def give(self, number: int | None) -> None:
        """Send the worker the number of its next test; None after the last one."""
        with suppress(BrokenPipeError):  # it has crashed, which its exit shows
            self.pipe.send(number)
        if number is None:
            self.ended = True
        else:
            self.given.append(number)

    def close(self) -> int | None:
        """Return the status of the worker's end, which is waited for and after `ENDING_SECONDS` brought about."""
        self.process.join(ENDING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        status = self.process.exitcode
        self.process.close()
        self.pipe.close()
        os.close(self.exit)
        return status


class Workers:
    """A plugin for pytest that runs the collected tests in `number` workers."""

    def __init__(self, number: int) -> None:
        self._number = number

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """For all tests, start the one fork server of the run: it imports while this process collects."""
        if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS and not session.config.option.keyword:
            forked.start_server()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all tests in workers. None, so that pytest runs them itself, without tests or with `--pdb`."""
        config = session.config
        if not session.items or config.option.collectonly or config.option.usepdb:
            return None
        if session.testsfailed and not config.option.continue_on_collection_errors:
            return None
        run_folder(config._tmp_path_factory)  # type: ignore[attr-defined] # made here, once
        _Run(session, min(self._number, len(session.items))).to_the_end()
        return True


class _Run:
    """The first process while workers run the tests."""

    def __init__(self, session: pytest.Session, number: int) -> None:
        self._session = session
        self._names = itertools.count()
        self._groups = deque(_in_groups(session.items))
        self._workers: list[Worker] = []
        for _ in range(number):
            self._start()

    def to_the_end(self) -> None:
        """Hand out all tests and report their results. Raises what a failed or stopped session raises."""
        try:
            while self._workers:
                ready = wait([each for worker in self._workers for each in (worker.pipe, worker.exit)])
                for worker in list(self._workers):
                    if worker.pipe in ready or worker.exit in ready:
                        self._hear(worker)
        finally:
            for worker in self._workers:
                worker.process.terminate()
                worker.close()
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _start(self, waiting: Sequence[int] = ()) -> None:
        gc.freeze()
        worker = Worker(next(self._names), self._session, self._workers)
        self._workers.append(worker)
        worker.waiting.extend(waiting)
        for _ in range(AHEAD):
            self._give(worker)

    def _give(self, worker: Worker) -> None:
        """Give the worker its next test: of its group, of the next one, or of another worker's."""
        if worker.ended:
            return
        if self._session.shouldfail or self._session.shouldstop:
            worker.give(None)
            return
        if not worker.waiting and self._groups:
            worker.waiting.extend(self._groups.popleft())
        if not worker.waiting:
            longest = max(self._workers, key=lambda each: len(each.waiting)).waiting
            worker.waiting.extendleft([longest.pop() for _ in range((len(longest) + 1) // 2)])
        worker.give(worker.waiting.popleft() if worker.waiting else None)

    def _hear(self, worker: Worker) -> None:
        """Report what the worker sends; replace it after a crash."""
        try:
            said: tuple[str, Any] = worker.pipe.recv() if worker.pipe.poll() else ("crash", None)
        except (EOFError, ConnectionResetError):
            said = "crash", None
        kind, content = said
        if kind == "ran":
            self._report(worker.given.popleft(), content)
            self._give(worker)
        elif kind == "warning":
            self._session.config.hook.pytest_warning_recorded.call_historic(kwargs=content)
        else:
            self._workers.remove(worker)
            status = worker.close()
            if kind == "broken":
                self._session.shouldstop = f"{worker.name}: {content}"
            elif kind == "crash":
                self._crashed(worker, status)

    def _report(self, number: int, reports: Sequence[dict[str, Any]]) -> None:
        config, item = self._session.config, self._session.items[number]
        for data in reports:
            report = config.hook.pytest_report_from_serializable(config=config, data=data)
            config.hook.pytest_runtest_logreport(report=report)
        config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _crashed(self, worker: Worker, status: int | None) -> None:
        """The test that ran has failed; what the worker had not begun goes to a new one."""
        left = [*worker.given, *worker.waiting]
        if worker.given:
            item = self._session.items[left.pop(0)]
            words = f"the process of {worker.name} ended with status {status} during this test"
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")
            self._session.config.hook.pytest_runtest_logreport(report=report)
        if left:
            self._start(left)


def _in_groups(items: Sequence[pytest.Item]) -> list[list[int]]:
    """Return the numbers of the items in lists whose tests share fixtures: first one list for the files that share a
    server and one for each package of tests (a folder with `__init__.py` below `tests`), then one for each file."""
    with_server = files_with_server(items)
    groups: dict[tuple[bool, str], list[int]] = {}
    for number, item in enumerate(items):
        package = item.getparent(pytest.Package)
        if item.path in with_server:
            group = (False, "server")
        elif package is not None and package.nodeid != "tests":
            group = (False, package.nodeid)
        else:
            group = (True, str(item.path))
        groups.setdefault(group, []).append(number)
    return [groups[group] for group in sorted(groups, key=lambda group: group[0])]


class _Reports:
    """A plugin of a worker that keeps the reports of the running test, and sends warnings."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self._config = config
        self._pipe = pipe
        self.of_test: list[dict[str, Any]] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report in the form in which it can be sent."""
        self.of_test.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    @pytest.hookimpl
    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Send a warning to the first process."""
        warning_message.source = None  # any object
        content = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        self._pipe.send(("warning", content))


def _work(session: pytest.Session, name: str, pipe: Connection, ours: Sequence[Connection]) -> None:
    """The worker: run the tests whose numbers the first process sends."""
    for end in ours:
        end.close()  # the first process's, whose end this one shall notice
    os.environ[NAME] = name
    config = session.config
    _become_a_worker(config, name)
    reports = _Reports(config, pipe)
    config.pluginmanager.register(reports)
    try:
        number = pipe.recv()
        while number is not None:
            following = pipe.recv()
            reports.of_test = []
            item = session.items[number]
            config.hook.pytest_runtest_protocol(
                item=item, nextitem=None if following is None else session.items[following]
            )
            pipe.send(("ran", reports.of_test))
            number = following
        garbage = _garbage()
        pipe.send(("broken", garbage) if garbage else ("done", None))
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        session._setupstate.teardown_exact(None)
    except BaseException:  # whatever it is ends this worker and the run
        pipe.send(("broken", traceback.format_exc()))
        raise


def _become_a_worker(config: pytest.Config, name: str) -> None:
    """Take away what belongs to the first process, or what a forked one may not share with it."""
    for plugin in ("terminalreporter", "lfplugin", "nfplugin", "stepwiseplugin"):
        if config.pluginmanager.has_plugin(plugin):
            config.pluginmanager.unregister(name=plugin)
    for plugin in list(config.pluginmanager.get_plugins()):
        if type(plugin).__name__ in ("LogXML", "Workers"):
            config.pluginmanager.unregister(plugin)
    # Captured output is in files whose positions all forks would share. The objects stay: modules refer to them.
    capturing = config.pluginmanager.getplugin("capturemanager")._global_capturing
    for stream in (capturing.out, capturing.err):
        if hasattr(stream, "targetfd"):  # there is a file
            with tempfile.TemporaryFile() as own:
                os.dup2(own.fileno(), stream.tmpfile.fileno(), inheritable=False)
    factory = config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = factory.getbasetemp() / name
    factory._basetemp.mkdir(mode=0o700)
    # The tracker of semaphores and shared memory is not a child of this process either.
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = tracker._pid = None
    if forkserver._forkserver._forkserver_pid is not None:  # type: ignore[attr-defined]
        # It is no child of this process, which would therefore start another.
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]


def _garbage() -> str:
    """What objects that nothing refers to any longer raise when they are deleted; "" for nothing."""
    raised: list[str] = []
    sys.unraisablehook = lambda said: raised.append(f"{said.object!r}: {said.exc_value!r}")
    gc.collect()
    return "\n".join(raised)
