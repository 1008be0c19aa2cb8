"""Debian's PgBouncer for the tests, in front of the run's PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests import pg
from tests.faulty import free_port


@contextmanager
def pgbouncer(database_url: str, mode: str) -> Iterator[str]:
    """The URL of the same database through PgBouncer in `mode`: "session", or "transaction" with two server
    connections to share out. Skips the test where PgBouncer is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    target, port, folder = make_url(database_url), free_port(), pg.short_folder()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": 2 if mode == "transaction" else 40,
        "max_client_conn": 100,
        "logfile": folder / "pgbouncer.log",
    }
    where = f"host={target.query['host']} dbname={target.database} user=postgres"
    lines = [
        "[databases]",
        f"ledger = {where}",
        "[pgbouncer]",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))
    user = None
    if os.geteuid() == 0:  # as PostgreSQL, it refuses to run as root
        account = pwd.getpwnam("nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = "nobody"
    process = subprocess.Popen(
        [program, "-q", str(folder / "pgbouncer.ini")],
        user=user,
        group=None if user is None else account.pw_gid,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port, folder)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/ledger"
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="ledger", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            log = folder / "pgbouncer.log"
            said = log.read_text() if log.exists() else ""
            assert process.poll() is None, f"PgBouncer did not start: {said}"
            assert time.monotonic() < end, f"PgBouncer takes no connections: {said}"
            time.sleep(0.02)
