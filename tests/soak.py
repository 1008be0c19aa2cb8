"""`make soak`: what holds for small counts in the tests, with large ones: the tests that count their tries
(`tests/counts.py`); random tables of customers, searched for identifiers in all that the commands write; random
outboxes through outages and kills; clients that fork again and again; random histories of a reporter that tries to
undo appeals, and of parties that try to use up the rights of a person; strange requests to every route; databases that
fail in every way; then the server killed again and again under load on both engines. Prints counts.

`--drills-only --drills N` does the failing databases only, N times each."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ledger.client import RefundLedger
from ledger.server.settings import Settings
from tests import pg
from tests.api.conftest import ACME, BETA, READER, running
from tests.api.fuzz import Visitors, fuzz
from tests.client import report_server
from tests.client.test_forks import check, plan_for
from tests.faults import drills
from tests.faults.test_sigkill import kill_again_and_again
from tests.kit import make_running
from tests.server.appeals import case_model, rights_kit
from tests.server.conftest import Clock, LedgerFixture, LedgerSeed
from tests.server.reports.line_model import play
from tests.support import ROOT, Platform, ledger_settings, new_ledger, opened
from tests.table_leaks import hunt_many

KILLS_A_ROUND = 10
FORKS_A_ROUND = 100
OUTBOXES = 1_000
"""Random outboxes that are flushed through outages and kills, once."""

TABLES = 2_000
"""Random tables of customers that the commands are run on, once."""

TRIED_MORE = (
    "tests/protocol",
    "tests/tlog",
    "tests/rules",
    "tests/snapshots",
    "tests/evidence",
    "tests/client/test_questions.py",
    "tests/client/test_tables.py",
    "tests/server",
    "tests/api",
    "tests/browser",
    "tests/faults/test_frozen.py",
    "tests/faults/test_rotation_kills.py",
    "tests/cli/test_replay.py",
    "tests/holder/test_ceremony_kills.py",
    "tests/holder/test_ceremony_backup.py",
)
"""Tests that take a count from `tests/counts.py` or hypothesis' own, or run on one engine only in `make test`."""

STORIES_A_ROUND = 20
STEPS_A_STORY = 60
STRANGE_REQUESTS = 2_000
COURSES = 15
STORIES = 40
"""Histories of orders that are played after each round."""


def try_more() -> None:
    """Run the tests of `TRIED_MORE` with their large counts. Raises CalledProcessError where one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "--workers", "2", *TRIED_MORE]
    environment = {**os.environ, "LONG_TESTS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def fork_again_and_again(folder: Path, forks: int, console: Console) -> None:
    """Fork a process with a client `forks` times, half of them while it is busy; any wrong answer ends it."""
    with contextmanager(make_running)(folder) as running:
        reporter = RefundLedger(running.suite("bazaar"), running.key("bazaar"), state_dir=folder / "bazaar")
        with reporter:
            for start in range(0, forks, FORKS_A_ROUND):
                count = min(FORKS_A_ROUND, forks - start)
                plan = plan_for(running, folder, reporter, idle=count // 2, busy=count - count // 2)
                counts = plan.run()
                check(counts, count)
                console.print(f"forks {start} to {start + count - 1}: {dict(counts)}")


def lies(home: Path, seed: int) -> str:
    """Play `STORIES` random histories against a fresh ledger; what happened in them."""
    home.mkdir()
    ledger_seed, clock, chance = LedgerSeed(home), Clock(), random.Random(seed)
    counts = {"reports": 0, "held": 0, "released": 0, "contested": 0}
    with opened(ledger_settings(f"sqlite:///{home / 'ledger.db'}", home), clock) as rt:
        ledger = LedgerFixture(rt, clock, ledger_seed.acme, ledger_seed.acme2, ledger_seed.bolt)
        for _ in range(STORIES):
            steps = [(chance.randrange(20), chance.randrange(10**7)) for _ in range(chance.randrange(8, 60))]
            for lie in play(ledger, steps).lies:
                counts["reports"] += 1
                counts["held"] += lie.held
                counts["released"] += lie.released
                counts["contested"] += bool(lie.cases)
    return f"{STORIES} histories of orders, {counts}"


def courses(home: Path, seed: int) -> str:
    """Play `COURSES` random histories of all parties together against a fresh ledger; how many acts were done and
    refused."""
    home.mkdir()
    ledger_seed, clock, chance = LedgerSeed(home), Clock(), random.Random(seed)
    done = refused = 0
    with opened(ledger_settings(f"sqlite:///{home / 'ledger.db'}", home), clock) as rt:
        ledger = LedgerFixture(rt, clock, ledger_seed.acme, ledger_seed.acme2, ledger_seed.bolt)
        for _ in range(COURSES):
            steps = [(chance.randrange(40), chance.randrange(10**7)) for _ in range(STEPS_A_STORY)]
            story = case_model.play(ledger, steps)
            refused += sum(": " in item for item in story.done)
            done += len(story.done)
    return f"{COURSES} histories of all parties, {done} acts, {refused} of them refused"


def outboxes(folder: Path, stories: int, seed: int) -> str:
    """Flush `stories` random outboxes through outages and kills; what was lost, doubled or blocked ends it."""
    folder.mkdir()
    chance = random.Random(seed)
    with report_server.stage(folder) as stage:
        for _ in range(stories):
            stage.play(report_server.random_story(chance, items=12))
    return f"{stories} outboxes, nothing lost, doubled or blocked"


def strange_requests(url: str, home: Path) -> str:
    """Send `STRANGE_REQUESTS` random requests to every route of a fresh ledger; how often each status came."""
    home.mkdir()
    settings = new_ledger(url, home, webhook_allow_private=True)
    for platform in (ACME, BETA, READER):
        platform.enrol(settings)
    with running(settings) as api:
        counts = fuzz(Visitors(api), STRANGE_REQUESTS, derandomize=False)
    return f"{STRANGE_REQUESTS} strange requests, each answered: {dict(sorted(counts.items()))}"


def main() -> None:
    """Run rounds until the time is over; any broken promise ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forks", type=int, default=1000, help="of a process that has a client")
    parser.add_argument("--skip-tests", action="store_true", help="leave out the tests with large counts")
    parser.add_argument("--drills", type=int, default=20, help="rounds of databases that fail")
    parser.add_argument("--drills-only", action="store_true")
    arguments = parser.parse_args()
    console = Console(width=140)
    if not (arguments.skip_tests or arguments.drills_only):
        try_more()
    deadline = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory(prefix="rcl-soak-") as name:
        folder = Path(name)
        drills.main(arguments.drills, folder, console.print)
        if arguments.drills_only:
            return
        console.print(f"{TABLES} tables, nothing leaked, {dict(hunt_many(folder, TABLES, arguments.seed))}")
        console.print(outboxes(folder / "outboxes", OUTBOXES, arguments.seed))
        (folder / "forks").mkdir()
        fork_again_and_again(folder / "forks", arguments.forks, console)
        admin = pg.server(folder)
        number = 0
        while number < 2 or time.monotonic() < deadline:  # each engine at least once
            engine = ("sqlite", "postgresql")[number % 2]
            home = folder / f"round-{number}"
            home.mkdir()
            url = (
                f"sqlite:///{home / 'ledger.db'}"
                if engine == "sqlite"
                else pg.create_database(admin).render_as_string(hide_password=False)
            )
            settings = new_ledger(url, home)
            platforms = [Platform(f"p{n}", f"g{n % 2}", f"p{n}-1").enrol(settings) for n in range(3)]
            seen, counts = kill_again_and_again(
                settings, platforms, kills=KILLS_A_ROUND, threads=8, seed=arguments.seed + number
            )
            stories = play_rights(settings, seed=arguments.seed + number)
            console.print(f"round {number} {engine}: {stories} stories of appeals, nobody's right used up by another")
            console.print(
                f"round {number} {engine}: {KILLS_A_ROUND} kills, {len(seen.reports)} acknowledged, "
                f"{counts}, answers {dict(seen.statuses)}"
            )
            console.print(f"round {number} {engine}: {courses(folder / f'courses-{number}', arguments.seed + number)}")
            console.print(f"round {number} {engine}: {lies(folder / f'lines-{number}', arguments.seed + number)}")
            again = (
                f"sqlite:///{folder / f'strange-{number}.db'}"
                if engine == "sqlite"
                else pg.create_database(admin).render_as_string(hide_password=False)
            )
            console.print(f"round {number} {engine}: {strange_requests(again, folder / f'strange-{number}')}")
            number += 1
    console.print(f"{number} rounds, {number * KILLS_A_ROUND} kills, no promise broken")


def play_rights(settings: Settings, seed: int) -> int:
    """Play random stories of appeals by several parties on the ledger; how many. Raises AssertionError where a party
    used up another's right, or log and projections disagree."""
    chance = random.Random(seed)
    accused, sister = (Platform(name, "accused-group", f"{name}-1").enrol(settings) for name in ("accused", "sister"))
    other = Platform("bolt", "bolt-group", "bolt-1", profile="EU").enrol(settings)
    clock = Clock()
    with opened(settings, clock) as rt:
        for _ in range(STORIES_A_ROUND):
            steps = [(chance.randrange(14), chance.randrange(40)) for _ in range(STEPS_A_STORY)]
            rights_kit.play(LedgerFixture(rt, clock, accused, sister, other), steps)
    return STORIES_A_ROUND


if __name__ == "__main__":
    main()
