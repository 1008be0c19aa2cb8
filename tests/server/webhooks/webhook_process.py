"""A sender in its own process, for tests that kill it: it sends due deliveries until none is left or it is killed."""

from __future__ import annotations

import json
import sys
from datetime import datetime

from ledger.server.db.engine import open_engine, reading
from ledger.server.log.logged_keys import load_server_keys
from ledger.server.settings import Settings
from ledger.server.webhooks.sender import Sender


def main(now: datetime) -> None:
    settings = Settings()
    engine = open_engine(settings.database_url, pool_size=4)
    with reading(engine) as connection:
        keys = load_server_keys(settings, connection)
    sender = Sender(settings, engine, keys.sealing_key, lambda: now)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps({"attempts": sender.round()}) + "\n")
    sender.close()
    engine.dispose()


if __name__ == "__main__":
    main(datetime.fromisoformat(sys.argv[1]))
