"""`refund-ledger publish`, and the snapshotter that `serve` runs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.cli.operator.publish import STAGES
from ledger.cli.progress import stage_bars
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import open_engine, reading
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as store
from ledger.server.snapshots.files import BuildStage
from tests.processes import group_of, until
from tests.support import new_ledger, server_environment, serving


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A ledger of which the commands' environment speaks."""
    created = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    for name, value in server_environment(created).items():
        monkeypatch.setenv(name, value)
    return created


def run(*arguments: str) -> Result:
    output.reset()
    return CliRunner().invoke(app, arguments)


def refusal(code: ExitCode) -> dict[str, Any]:
    result = run("publish", "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout)["error"])


def published(settings: Settings) -> list[str]:
    """Versions, the newest first."""
    engine = open_engine(settings.database_url, pool_size=1)
    try:
        with reading(engine) as connection:
            return [b64url(row.version) for row in store.published(connection)]
    finally:
        engine.dispose()


def test_publish_says_what_it_published(settings: Settings) -> None:
    result = run("publish", "--json")
    assert result.exit_code == ExitCode.OK, result.output
    value = json.loads(result.stdout)
    assert published(settings) == [value["version"]]
    assert (value["cut"], value["entry_index"], value["tags"], value["entries"], value["bits"]) == (2, 2, 0, 0, 1)
    files = list((settings.snapshots_dir / value["version"]).iterdir())
    assert value["bytes"] == sum(path.stat().st_size for path in files)
    assert value["seconds"] >= 0
    result = run("publish")
    assert result.exit_code == ExitCode.OK, result.output
    newest = published(settings)[0]
    assert newest != value["version"]
    assert newest in result.stdout


def test_publish_says_why_it_cannot(settings: Settings) -> None:
    settings.snapshots_dir.mkdir()
    with (settings.snapshots_dir / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = refusal(ExitCode.UNAVAILABLE)
    assert (refused["code"], "Another process" in refused["message"]) == ("unavailable", True)
    key = settings.keys_dir / "log.key"
    key.rename(key.with_suffix(".away"))
    assert "log.key" in refusal(ExitCode.USAGE)["message"]
    key.write_text(b64url(b"x" * 32))
    key.chmod(0o600)
    assert "not the one that the log names" in refusal(ExitCode.USAGE)["message"]
    assert published(settings) == []


def test_publish_before_there_is_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "keys init" in refusal(ExitCode.USAGE)["message"]


def test_progress_is_shown_stage_by_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "0")
    output.reset()
    with stage_bars(STAGES) as progress:
        progress("counting", 0, 0)
        progress("sealing", 300, 1000)
        progress("sealing", 1000, 1000)
        progress("filter", 0, 1000)
    shown = capsys.readouterr().err
    assert "sealing entries" in shown
    assert "1000/1000" in shown
    assert {str(stage) for stage in BuildStage} == STAGES.keys()


def test_serve_publishes_on_a_schedule_brings_its_children_back_and_stops_cleanly(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with serving(settings) as server:
        until(lambda: published(settings), "there is no first snapshot")
        # Publisher and snapshotter, which a forked server has in its process group.
        before = until(
            lambda: pair if len(pair := group_of(server._process.pid) - {server._process.pid}) == 2 else (), ""
        )
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(group_of(server._process.pid) - before) == 3, "publisher and snapshotter did not come back")
        assert server.stop() == 0
        until(lambda: not group_of(server._process.pid), "a process outlived the server")
    assert len(published(settings)) == 1
