"""The server's wheel in an environment with nothing else: keys, migrations, API, pages and processes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from ledger.cli.server_missing import SERVER_COMMANDS
from ledger.server.db.migrate import newest_revision
from tests.counts import LONG
from tests.wheels.environments import Environment, environment_variables


@pytest.fixture(scope="module")
def folder(server: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ledger that `keys init` has made."""
    new = tmp_path_factory.mktemp("ledger")
    done = server.run("refund-ledger", "--json", "keys", "init", cwd=new, variables=settings(new))
    assert json.loads(done.stdout)["created_keys"]
    return new


def settings(folder: Path) -> dict[str, str]:
    """The variables of a ledger on SQLite in `folder`."""
    places = {
        name: str(folder / name.lower()) for name in ("KEYS_DIR", "GUARD_DIR", "SNAPSHOTS_DIR", "ATTACHMENTS_DIR")
    }
    values = {**places, "DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}"}
    return {f"REFUND_LEDGER_{name}": value for name, value in values.items()}


@contextmanager
def started(server: Environment, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the environment's `bin`, ended at the end."""
    process = subprocess.Popen(
        [str(server.folder / "bin" / command[0]), *command[1:]],
        cwd=folder,
        env=environment_variables(folder, settings(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
            process.communicate()


def test_keys_init_runs_all_migrations(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest_revision(),)]


def test_serve_answers_and_renders_pages(server: Environment, folder: Path) -> None:
    with started(server, folder, "refund-ledger", "--json", "serve", "--port", "0") as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with httpx2.Client(base_url=url, follow_redirects=True) as client:
            assert client.get("/readyz").status_code == 200
            assert client.get("/v1/suite").json()["service"]
            login = client.get("/console", headers={"accept-language": "zh-CN"})
            assert (login.status_code, login.url.path) == (200, "/console/login")
            assert "密码" in login.text
            record = client.get("/me", headers={"accept": "text/html"})
            assert "<html" in record.text
            assert "<h1" in record.text
            sheet = client.get(login.text.partition('rel="stylesheet" href="')[2].partition('"')[0])
            assert (sheet.status_code, sheet.headers["content-type"].partition(";")[0]) == (200, "text/css")
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_the_operators_commands_are_there(server: Environment, folder: Path) -> None:
    shown = server.run("refund-ledger", "--help", cwd=folder).stdout
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith("│ ")}
    assert set(SERVER_COMMANDS) | {"tag", "verify-rotation"} <= listed


@pytest.mark.parametrize(
    ("name", "key", "module"),
    [
        ("publisher", "signed_size", "ledger.server.log.publisher"),
        pytest.param(
            "snapshotter",
            "ready",
            "ledger.server.snapshots.snapshotter",
            marks=pytest.mark.skipif(not LONG, reason="the same as the publisher's: LONG_TESTS=1 runs it"),
        ),
    ],
)
def test_the_former_name_of_a_process_runs_it_and_warns(
    server: Environment, folder: Path, name: str, key: str, module: str
) -> None:
    with started(server, folder, "python", "-m", f"ledger.service.{name}") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert key in json.loads(process.stdout.readline())
        warning = json.loads(process.stderr.readline())
        assert warning["event"] == "module_renamed"
        assert (warning["level"], warning["process"]) == ("warning", name)
        assert (warning["old"], warning["new"]) == (f"ledger.service.{name}", module)
        process.terminate()
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not LONG, reason="the demonstration takes ten seconds: LONG_TESTS=1 runs it")
def test_the_demonstration_ends_well(server: Environment, tmp_path: Path) -> None:
    done = server.run("refund-ledger", "--json", "demo", "--dir", str(tmp_path / "demo"), cwd=tmp_path)
    assert json.loads(done.stdout)
