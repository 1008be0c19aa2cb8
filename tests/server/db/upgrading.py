"""One of several deployments that migrate at once: `python -m tests.server.db.upgrading URL` upgrades the database."""

from __future__ import annotations

import sys

from ledger.server.db import migrate

if __name__ == "__main__":
    migrate.upgrade(sys.argv[1])
