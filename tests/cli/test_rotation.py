"""`rotate` and `verify-rotation` as people use them: the commands of docs/rotation.md, in their order."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.cli.operator.platforms import enrol
from ledger.errors import NotFound
from ledger.server.keys.files import oprf_path
from ledger.server.reports.reports import submit_report
from ledger.server.rotation.convert import exclusive_run
from ledger.server.rotation.retire import finish_due
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests.cli.test_operator import SERVER_MODULES, without
from tests.faulty import answering
from tests.malformed import record
from tests.rotations import log_of, subjects_under
from tests.spellings import with_bit_255
from tests.support import ROOT, Platform, new_ledger, opened, publish, report_payload, server_environment


def run(*arguments: object, stdin: str | None = None) -> Result:
    output.reset()
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def machine(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def commands_of_the_page() -> list[list[str]]:
    """What the page tells to type, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "rotation.md").read_text(), re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    for name, value in server_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(settings.keys_dir)
    return settings


@pytest.fixture
def rt(settings: Settings) -> Iterator[Runtime]:
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    with opened(settings) as rt:
        for number in range(3):
            payload = report_payload(rt, acme, subjects_under(settings, 1, number))
            submit_report(rt.reports, acme.member(), payload, f"k{number}").result(10)
        yield rt


@pytest.fixture
def log_url(rt: Runtime) -> Iterator[str]:
    fetch = log_of(rt)

    def respond(_method: str, path: str, _body: bytes) -> tuple[int, dict[str, str], bytes]:
        try:
            return 200, {}, fetch(path.removeprefix("/log/"))
        except NotFound:
            return 404, {}, b""

    with answering(respond) as url:
        yield url


@pytest.fixture
def suite(rt: Runtime, settings: Settings, log_url: str) -> Path:
    path = settings.keys_dir / "acme.suite.json"
    enrol(
        settings, rt.engine, name="auditor", control_group="auditors", profile="EU", scopes=["log"], kid="auditor-1",
        quota=None, key_path=settings.keys_dir / "auditor.pem", suite_path=path, url=log_url,
    )  # fmt: skip
    return path


def test_the_commands_of_the_page(rt: Runtime, settings: Settings, suite: Path) -> None:
    shown: list[dict[str, Any]] = []
    for command in commands_of_the_page():
        if command[0] == "tag":
            assert "--epoch" in command  # tests/client tags whole files
            continue
        if command[0] == "verify-rotation":
            continue
        if command == ["rotate", "--retire"]:
            refused = machine(*command, code=ExitCode.REFUSED)["error"]
            assert refused["code"] == "rotation_refused"
            assert "grace" in refused["message"]
            continue
        shown.append(machine(*command))
    announced, at_first, switched, at_last = shown
    assert (announced["epoch"], announced["key_file"]) == (2, str(oprf_path(settings, 2)))
    assert [(epoch["state"], epoch["key_here"]) for epoch in at_first["epochs"]] == [("current", True), ("next", True)]
    assert (switched["from"], switched["to"], switched["elements"]) == (1, 2, 6)
    assert [(epoch["state"], epoch["subjects"]) for epoch in at_last["epochs"]] == [("previous", 6), ("current", 6)]

    publish(settings)
    checked = [machine(*command) for command in commands_of_the_page() if command[0] == "verify-rotation"]
    assert len(checked) == 2
    for report in checked:
        assert (report["verified"], report["root"], report["elements"]) == (True, switched["root"], 6)
    assert machine("rotate", code=ExitCode.REFUSED)["error"]["code"] == "rotation_refused"


def test_the_end_of_an_epoch(rt: Runtime, settings: Settings) -> None:
    nothing = machine("rotate", "--retire", code=ExitCode.REFUSED)["error"]
    assert nothing["code"] == "rotation_refused"
    machine("rotate")
    assert run("rotate", "--retire", "--now", stdin="n\n").exit_code == 1
    assert machine("rotate", "--status")["epochs"][0]["state"] == "previous"
    assert machine("rotate", "--retire", "--now", code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    ended = run("rotate", "--retire", "--now", stdin="y\n")
    assert ended.exit_code == 0, ended.output
    assert "Epoch 1 is retired" in ended.stdout
    again = machine("rotate", "--retire", "--now", "--yes")
    assert (again["retired"], again["destroyed"], again["destroy_from"] is None) == (None, [], False)
    finish_due(settings, rt.engine, lambda: datetime.now(UTC) + timedelta(minutes=2))
    assert not oprf_path(settings, 1).exists()
    assert "retired" in run("rotate", "--status").stdout
    assert machine("rotate", "--retire", code=ExitCode.REFUSED)["error"]["code"] == "rotation_refused"
    assert machine("rotate", "--announce-only")["epoch"] == 3


def test_malformed_reports_are_listed_and_do_not_stop_a_rotation(rt: Runtime, settings: Settings) -> None:
    assert machine("rotate", "--status")["malformed_reports"] == []
    assert "canonically" not in run("rotate", "--status").stdout
    beta = Platform("beta", "beta-group", "beta-1").enrol(settings)
    rt.members.refresh()
    kind, element = subjects_under(settings, 1, 7)[0]
    sent = record(rt, beta, [(kind, with_bit_255(element))])
    (answer,) = machine("rotate", "--status")["malformed_reports"]
    assert (answer["report"], answer["platform"], answer["taken_back"]) == (sent["id"], "beta", False)
    assert machine("rotate")["elements"] == 7
    (answer,) = machine("rotate", "--status")["malformed_reports"]
    assert (answer["report"], answer["taken_back"]) == (sent["id"], True)
    said = run("rotate", "--status").stdout
    assert "canonically" in said
    assert sent["id"] in said


def test_an_auditor_without_a_suite_file(rt: Runtime, settings: Settings, log_url: str, tmp_path: Path) -> None:
    done = machine("rotate", "--audit-dir", tmp_path / "audit")
    publish(settings)
    folder = tmp_path / "audit"
    anybody: list[object] = ["verify-rotation", folder, "--url", log_url, "--log-key", rt.keys.log_verifier_key]
    assert machine(*anybody)["elements"] == done["elements"] == 6
    readable = run(*anybody)
    assert "converted from the old key to the new one" in readable.stdout
    assert not set("[]'") & set(readable.stdout), "lists are in words"
    assert machine(*anybody, "--from", 1, "--to", 2)["switch_entry"] == done["entry_index"]
    assert machine(*anybody, "--to", 3, code=ExitCode.REFUSED)["error"]["code"] == "invalid_rotation"
    (folder / "rotation.json").unlink()
    assert machine(*anybody, code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    assert machine(*anybody, "--switch-entry", done["entry_index"])["verified"]
    assert machine(*anybody, "--switch-entry", 0, code=ExitCode.REFUSED)["error"]["code"] == "invalid_rotation"
    assert machine(*anybody, "--root-entry", 3, code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    assert machine("verify-rotation", folder, code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    for path in folder.glob("*.rot"):
        path.unlink()
    lost = machine(*anybody, "--switch-entry", done["entry_index"], code=ExitCode.REFUSED)
    assert lost["error"]["code"] == "invalid_rotation"


def test_what_is_said_about_the_files(rt: Runtime) -> None:
    said = run("rotate").stdout
    assert "confidential" in said
    assert "Erasure does not delete copies" in " ".join(said.split())


def test_wrong_use_and_a_run_beside_another(rt: Runtime, settings: Settings) -> None:
    for arguments in (["--status", "--retire"], ["--now"], ["--announce-only", "--status"], ["--grace-days", "0"]):
        assert run("rotate", *arguments).exit_code == ExitCode.USAGE
    with exclusive_run(settings):
        assert machine("rotate", code=ExitCode.REFUSED)["error"]["code"] == "rotation_refused"
    shutil.rmtree(settings.keys_dir)
    assert machine("rotate", code=ExitCode.USAGE)["error"]["code"] == "configuration_error"


def test_the_auditor_needs_no_server(tmp_path: Path) -> None:
    done = without(SERVER_MODULES, "verify-rotation", str(tmp_path), cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE, done.stderr
