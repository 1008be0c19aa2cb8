"""A client that was made before `fork()`: parent and children each get the answers to their own questions."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from ledger.client import RefundLedger
from tests.client.forking import Plan
from tests.counts import LONG
from tests.faulty import free_port
from tests.kit import Connect, Running, person, report_arguments
from tests.support import CONSENT, ROOT

PATIENCE_SECONDS = 60.0
TASKS = 9


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where the package is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def plan_for(running: Running, folder: Path, reporter: RefundLedger, **changes: Any) -> Plan:
    """A plan for platform acme: two people whom `reporter` has reported, and two who are clear."""
    people: list[tuple[dict[str, str], str]] = []
    for _ in range(2):
        listed = person()
        report = reporter.reports.create(reporter.tag(**listed), **report_arguments()).report
        assert report is not None
        reporter.lookup(listed, order="seen", consent_ref=CONSENT, min_index=report.entry_index + 1)
        people += [(listed, "watch"), (person(), "clear")]
    state = folder / f"forking-{secrets.token_hex(4)}"
    return Plan(str(running.suite("acme")), str(running.key("acme")), str(state), people, **changes)


def check(counts: dict[str, int], forks: int) -> None:
    """Everything was answered, and rightly: no wrong standing or report, no false alarm, no outage, no dead child."""
    reports = sum(number % 5 == 2 for number in range(forks))
    expected = {"child right": 2 * forks, "child reported": reports}
    assert {name: count for name, count in counts.items() if name.startswith("child")} == expected
    assert {name for name, count in counts.items() if count} == {*expected, "parent right", "parent reported"}


def test_parent_and_children_are_told_the_truth(running: Running, connect: Connect, tmp_path: Path) -> None:
    plan = plan_for(running, tmp_path, connect("bazaar"))
    check(plan.run(), plan.idle + plan.busy)


def test_locks_files_and_connections_after_a_fork(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.client.fork_cases", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr


@needs("gunicorn")
def test_workers_of_gunicorn_that_were_forked_after_loading(running: Running, connect: Connect, tmp_path: Path) -> None:
    plan, port = plan_for(running, tmp_path, connect("bazaar")), free_port()
    environment = {**os.environ, "PREFORK_PLAN": plan.json()}
    options = [
        "--config=python:tests.client.prefork_web",
        "--preload",
        "--workers=3",
        "--worker-class=gthread",
        "--threads=4",
        f"--bind=127.0.0.1:{port}",
    ]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn", *options]
    server = subprocess.Popen(
        [*command, "--log-level=error", "tests.client.prefork_web:app"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def ask(number: int) -> str:
        # The moment of the forks is the dangerous one: what comes first is asked as soon as a worker listens.
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            try:
                connection.request("GET", f"/{number}")
                return connection.getresponse().read().decode()
            except ConnectionError:
                assert time.monotonic() < end
                time.sleep(0.02)
            finally:
                connection.close()

    try:
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask, range(24))) == {"right"}
    finally:
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=PATIENCE_SECONDS)
    assert (server.returncode, output) == (0, "")


@needs("celery")
@pytest.mark.skipif(not LONG, reason="two starts of Celery take ten seconds: LONG_TESTS=1 runs it")
def test_tasks_of_a_celery_worker_that_forks(running: Running, connect: Connect, tmp_path: Path) -> None:
    plan, folder = plan_for(running, tmp_path, connect("bazaar")), tmp_path / "results"
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "tests.client.prefork_tasks", plan.json(), str(TASKS), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert answers == [{"right": 2}] * TASKS, done.stderr
