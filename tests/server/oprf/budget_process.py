"""A process that waits for a signal, then takes from a platform's budget of blinded elements until it is refused, and
prints how many it got."""

from __future__ import annotations

import json
import sys
from datetime import datetime

from ledger.errors import QuotaExceeded
from ledger.server.oprf import budgets as oprf
from ledger.server.runtime import open_runtime
from ledger.server.settings import Settings
from tests.support import Platform


def main(now: datetime) -> None:
    runtime = open_runtime(Settings(), lambda: now)
    member = Platform("acme", "acme-group", "acme-1").member()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    granted = 0
    for _ in range(40):
        try:
            oprf.deduct(runtime.oprf, member, 3, now)
            granted += 3
        except QuotaExceeded:
            pass
    sys.stdout.write(f"{json.dumps(granted)}\n")
    runtime.close()


if __name__ == "__main__":
    main(datetime.fromisoformat(sys.argv[1]))
