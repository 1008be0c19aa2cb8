"""The PostgreSQL of the tests: real, shared by a run, and gone when its last user is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from tests import pg


def test_it_is_postgresql_18_and_each_database_is_its_own(make_database: Callable[..., str]) -> None:
    first, second = make_database("postgresql"), make_database("postgresql")
    assert first != second
    engine = create_engine(first)
    with engine.begin() as connection:
        assert str(connection.scalar(text("SHOW server_version"))).startswith("18")
        connection.execute(text("CREATE TABLE t (a int)"))
    engine.dispose()
    copy = create_engine(make_database("postgresql", template=first))
    with copy.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM t")) == 0
    copy.dispose()


def test_backends_are_cut_and_connections_refused(make_database: Callable[..., str]) -> None:
    url = make_database("postgresql")
    target = make_url(url)
    where = f"host={target.query['host']} user=postgres dbname={target.database}"
    with psycopg.connect(where) as connection:
        assert pg.terminate_backends(url) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pg.refused_connections(url), pytest.raises(psycopg.OperationalError):
        psycopg.connect(where)
    psycopg.connect(where).close()


ROOT = Path(__file__).resolve().parents[1]
USE_UNTIL_KILLED = "import sys, time; from pathlib import Path; from tests import pg; pg.server(Path(sys.argv[1]))"


def test_it_goes_when_its_last_user_is_killed(tmp_path: Path) -> None:
    users = [
        subprocess.Popen([sys.executable, "-c", f"{USE_UNTIL_KILLED}; print(1, flush=True); time.sleep(600)", tmp_path],
                         cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == b"1\n"
    state = json.loads((tmp_path / "postgresql.json").read_text())
    users[0].send_signal(signal.SIGKILL)
    users[0].communicate()
    time.sleep(0.6)
    os.kill(state["pid"], 0)  # the other user keeps it
    users[1].send_signal(signal.SIGKILL)
    users[1].communicate()
    deadline = time.monotonic() + 20
    while Path(state["socket_dir"]).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(state["socket_dir"]).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(state["pid"], 0)
