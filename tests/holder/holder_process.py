"""A process beside a test that uses a holder's database: `python -m tests.holder.holder_process URL ACTION SEED`.

It prints `ready` and waits for a line. `spend` then spends tokens 0 to 39 of the seed, three elements each, and prints
how many were accepted, how many were used before, and how many were over the budget. `hang` spends the first token and
waits to be killed before it would answer.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from hashlib import sha256

from ledger.errors import LedgerError
from ledger.holder.budgets import GroupLimits, spend
from ledger.holder.database import open_holder_database
from ledger.holder.settings import HolderSettings
from tests.holder.kit import START

GROUP = "acme-group"
COUNT = 40
ELEMENTS = 3


def token(seed: str, number: int) -> tuple[bytes, int]:
    """The digest and expiry of a token."""
    return sha256(f"{seed} {number}".encode()).digest(), int(START.timestamp()) + 60


def main(url: str, action: str, seed: str, daily: str) -> None:
    engine = open_holder_database(HolderSettings(database_url=url))
    limits = GroupLimits(int(daily), 10_000, 10_000)
    say("ready")
    sys.stdin.readline()
    outcomes: Counter[str] = Counter()
    for number in range(1 if action == "hang" else COUNT):
        try:
            spend(engine, GROUP, limits, ELEMENTS, token(seed, number), START)
            outcomes["ok"] += 1
        except LedgerError as error:
            outcomes[error.code] += 1
    say(json.dumps(outcomes))
    if action == "hang":
        sys.stdin.readline()
    engine.dispose()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
