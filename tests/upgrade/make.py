"""Make the files of this version for the tests of the next: `python -m tests.upgrade.make FOLDER`.

FOLDER gets one archive for each engine, named after the newest migration: the database (`ledger.db` or `ledger.sql`),
keys, guard, published snapshots, and what lookups and records said (`said.json`).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from ledger.server.db import migrate
from tests import pg
from tests.server.conftest import Clock, LedgerFixture, LedgerSeed
from tests.support import ROOT, opened
from tests.upgrade.story import LATER, make, observe

NEWEST = max(path.name[:4] for path in (ROOT / "migrations/versions").glob("0*.py"))
"""The number of the newest migration."""


def dump(url: str, folder: Path) -> None:
    """Write the whole database into one file of `folder`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with sqlite3.connect(str(parsed.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("VACUUM")
        connection.close()
        shutil.copyfile(str(parsed.database), folder / "ledger.db")
        return
    with tempfile.TemporaryDirectory() as workspace:
        command = [
            str(pg.binaries(Path(workspace), None) / "bin" / "pg_dump"), "--no-owner", "--no-privileges",
            "--schema=public", f"--host={parsed.query['host']}", f"--username={parsed.username}", str(parsed.database),
        ]  # fmt: skip
        text = subprocess.run(command, check=True, capture_output=True).stdout
    (folder / "ledger.sql").write_bytes(text)


def main(folder: Path) -> None:
    """Make both archives in `folder`."""
    # The keeper of PostgreSQL ends after this process.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workspace:
        work = Path(workspace)
        (work / "home").mkdir()
        seed = LedgerSeed(work / "home")
        for engine in ("sqlite", "postgresql"):
            here = work / engine
            here.mkdir()
            if engine == "sqlite":
                url = f"sqlite:///{here / 'ledger.db'}"
            else:
                url = pg.create_database(pg.server(work)).render_as_string(hide_password=False)
            migrate.upgrade(url)
            settings = seed.copy_to(url, here)
            clock = Clock()
            with opened(settings, clock) as rt:
                ledger = LedgerFixture(rt, clock, seed.acme, seed.acme2, seed.bolt)
                make(ledger)
                end = clock.moment
                said = [observe(ledger, end + wait) for wait in LATER]
                clock.moment = end
            out = work / f"{engine}-files"
            out.mkdir()
            dump(url, out)
            for part in ("keys", "guard", "snapshots"):
                shutil.copytree(here / part, out / part)
            (out / "said.json").write_text(json.dumps({"end": said[0]["at"], "said": said}, sort_keys=True))
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(folder / f"{NEWEST}.{engine}.tar.gz", "w:gz") as archive:
                for path in sorted(out.iterdir()):
                    archive.add(path, path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
