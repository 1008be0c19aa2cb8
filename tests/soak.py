"""`make soak`: the fault tests, long: the server killed again and again under load on both engines, and long random
stories of appeals. Prints counts."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from rich.console import Console

from ledger.settings import Settings
from tests import pg
from tests.faults.test_sigkill import kill_again_and_again
from tests.service.conftest import Clock, Town
from tests.service.rights_kit import play
from tests.support import Platform, new_ledger, opened

KILLS_A_ROUND = 10
STORIES_A_ROUND = 20
STEPS_A_STORY = 60


def main() -> None:
    """Run rounds until the time is over; any broken promise ends it with a traceback."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console()
    deadline = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory(prefix="rcl-soak-") as name:
        folder = Path(name)
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
            play(Town(rt, clock, accused, sister, other), steps)
    return STORIES_A_ROUND


if __name__ == "__main__":
    main()
