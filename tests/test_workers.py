"""Tests that run in forks of one process: every test runs once, and what goes wrong in a fork is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.workers import NAME

CONFTEST = """
import os
import pytest
from pathlib import Path
from tests.workers import Workers, run_folder

def pytest_configure(config):
    config.pluginmanager.register(Workers(2))

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    name = os.environ["TEST_WORKER"]
    assert run_folder(tmp_path_factory) == tmp_path_factory.getbasetemp().parent
    yield name
    Path(f"ended-{name}").touch()
"""
TESTS = """
import os
import sys
import time
import warnings
import pytest

@pytest.mark.parametrize("number", range(6))
def test_right(number, shared, tmp_path):
    print("not shown")
    time.sleep(0.02)
    assert shared in tmp_path.parts

def test_wrong(shared):
    print("on standard output")
    os.write(2, b"on standard error")
    warnings.warn("a warning", stacklevel=1)
    assert shared == "", "it is wrong"

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass
"""
CRASHING = """
import os

def test_crashes():
    os._exit(7)

def test_after():
    pass
"""
RAISING = """
class Raising:
    def __del__(self):
        raise ValueError("at its end")

def test_leaves_a_cycle():
    cycle = Raising()
    cycle.itself = cycle
"""


def run(folder: Path, options: list[str], **files: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run pytest with two workers on files of tests: what it prints, and the result of each test by its name."""
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text, "utf-8")
    # Only the plugins that have a part in it, for the sake of speed.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:hypothesispytest"]
    command += ["-p", "no:schemathesis", "-p", "no:pytest_cov", "--junitxml=results.xml", *options]
    variables = {name: value for name, value in os.environ.items() if name not in (NAME, "PYTEST_XDIST_WORKER")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    results = {
        case.attrib["name"]: case[0].tag if len(case) else "passed"
        for case in ElementTree.parse(folder / "results.xml").iter("testcase")
    }
    return done, results


def test_every_test_runs_once_and_its_result_is_reported(tmp_path: Path) -> None:
    done, results = run(tmp_path, [], some=TESTS, crashing=CRASHING)
    right = {f"test_right[{number}]": "passed" for number in range(6)}
    others = {"test_wrong": "failure", "test_skipped": "skipped", "test_crashes": "failure", "test_after": "passed"}
    assert results == {**right, **others}
    assert "2 failed, 7 passed, 1 skipped, 1 warning" in done.stdout
    assert "ended with status 7 during this test" in done.stdout
    assert "it is wrong" in done.stdout
    assert ("on standard output" in done.stdout, "on standard error" in done.stdout) == (True, True)
    assert "UserWarning: a warning" in done.stdout
    assert "not shown" not in done.stdout
    assert len(list(tmp_path.glob("ended-gw*"))) in (1, 2), "fixtures of the session end in each process"
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("name", "text", "options", "shown", "status"),
    [
        ("some", TESTS, ["-x", "-k", "wrong or right"], "stopping after 1 failures", pytest.ExitCode.TESTS_FAILED),
        ("raising", RAISING, [], "at its end", pytest.ExitCode.INTERRUPTED),
    ],
    ids=["the first failure", "what is raised after the last test"],
)
def test_a_run_that_is_stopped_says_why(
    tmp_path: Path, name: str, text: str, options: list[str], shown: str, status: pytest.ExitCode
) -> None:
    done, _ = run(tmp_path, options, **{name: text})
    assert shown in done.stdout
    assert done.returncode == status
