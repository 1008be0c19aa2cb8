"""`keys init --threshold`, `keys init --card`, `keys publish` and `rotate --card` as people use them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ledger.cli.exit_codes import ExitCode
from ledger.cli.operator.keys import SINGLE_PARTY
from ledger.cli.operator.platforms import enrol
from ledger.server.db.engine import open_engine
from ledger.server.keys.factors import factor_path
from ledger.server.settings import Settings
from ledger.tlog.ledger_card import parse_ledger_card
from tests.cli.test_rotation import log_url, machine, run
from tests.sharing import NAMES, OPERATOR, Holders, SharedLedger, opened_shared, shared_ledger
from tests.support import ROOT, ledger_settings, new_ledger, publish, server_environment, sqlite_schema

__all__ = ["log_url"]


def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings, folder: Path) -> None:
    for name, value in server_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.chdir(folder)


def commands_of_the_page() -> list[list[str]]:
    """The commands for several holders, without comments."""
    blocks = re.findall(r"```shell\n(.*?)```", (ROOT / "docs" / "rotation.md").read_text(), re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


def test_from_an_empty_folder_to_the_second_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ledger.db").write_bytes(sqlite_schema())
    settings = ledger_settings(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    environment(monkeypatch, settings, tmp_path)
    prepare = ("keys", "init", "--threshold", "--organisation", OPERATOR, "--url", "https://ledger.example/")
    first = machine(*prepare)
    assert (first["created_keys"], machine(*prepare)["created_keys"]) == (True, False)
    assert "ledger.json" in run(*prepare).output
    card = parse_ledger_card(Path(first["ledger_card"]).read_bytes())
    assert (card.operator, card.url, card.log_key) == (OPERATOR, "https://ledger.example", first["log_key"])
    assert machine("keys", "init", code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    holders = Holders(card)
    made = holders.generate().write(tmp_path)
    begun = machine("keys", "init", *made.options(tmp_path, "card"))
    assert (begun["threshold"], begun["holders"], begun["log_size"]) == (2, 3, 2)
    assert machine("keys", "show")["threshold"] == 2
    # The page's commands, in the order in which holders meet: first a refresh, then a rotation.
    announce, status, rotate, publishing = commands_of_the_page()
    holders.refresh().write(tmp_path)
    logged = machine(*publishing)
    assert (logged["generation"], logged["logged"]) == (2, True)
    assert machine(*publishing)["logged"] is False
    holders.rotate().write(tmp_path)
    refused = machine("rotate", code=ExitCode.REFUSED)["error"]
    assert refused["code"] == "rotation_refused"
    assert "--certificate" in refused["message"]
    announced = machine(*announce)
    assert (announced["epoch"], announced["key_file"]) == (2, str(factor_path(settings, 2)))
    shown = machine(*status)["epochs"]
    assert [(epoch["state"], epoch["generation"], epoch["key_here"]) for epoch in shown] == [
        ("current", 2, None),
        ("next", 1, True),
    ]
    assert [holder["id"] for holder in shown[1]["holders"]] == list(NAMES)
    assert "2 of 3: north, south, west" in run(*status).output
    assert machine(*rotate)["to"] == 2
    assert [epoch["state"] for epoch in machine(*status)["epochs"]] == ["previous", "current"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedLedger:
    settings, holders, made = shared_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    environment(monkeypatch, settings, tmp_path)
    with opened_shared(settings, holders, made) as ledger:
        return ledger


def test_the_options_that_belong_together(shared: SharedLedger, tmp_path: Path) -> None:
    made = shared.first.write(tmp_path)
    cards = made.options(tmp_path, "card")
    for command in (
        ("keys", "init", "--threshold", *cards),
        ("keys", "init", "--threshold"),
        ("keys", "init", "--url", "https://ledger.example"),
        ("keys", "publish"),
        ("rotate", *cards),
        ("rotate", "--status", *cards, *made.options(tmp_path, "certificate")),
    ):
        assert run(*command).exit_code == ExitCode.USAGE, command


def test_a_1_of_1_ledger_says_what_it_is_and_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ledger_settings(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    (tmp_path / "ledger.db").write_bytes(sqlite_schema())
    environment(monkeypatch, settings, tmp_path)
    assert SINGLE_PARTY in " ".join(run("keys", "init").output.split())
    (tmp_path / "other").mkdir()
    _, holders, _ = shared_ledger(f"sqlite:///{tmp_path / 'other' / 'ledger.db'}", tmp_path / "other")
    files = tmp_path / "files"
    turned = holders.rotate().write(files)
    for command in (
        ("keys", "publish", *turned.options(files, "card")),
        ("rotate", *turned.options(files, "card", "certificate")),
    ):
        refused = machine(*command, code=ExitCode.REFUSED)["error"]
        assert "begun 1 of 1 cannot become one that protects those already in it" in refused["message"]
    added = run("platform", "add", "acme", "--control-group", "acme-group", "--key", tmp_path / "acme.pem")
    assert added.exit_code == 0, added.output
    assert SINGLE_PARTY in " ".join(added.output.split())


def test_the_ledger_has_no_budgets(shared: SharedLedger) -> None:
    for command in (("grant", "acme", "--elements", "5", "--reason", "x"), ("quota", "acme", "7")):
        refused = machine("platform", *command, code=ExitCode.REFUSED)["error"]
        assert refused["code"] == "evaluated_by_holders", shared


def test_a_suite_file_names_the_holders(shared: SharedLedger, tmp_path: Path) -> None:
    settings = shared.rt.settings
    engine = open_engine(settings.database_url)
    path = tmp_path / "corp.suite.json"
    enrol(
        settings, engine, name="corp", control_group="corp-group", profile="EU", scopes=["lookup"], kid="corp-1",
        quota=None, key_path=tmp_path / "corp.pem", suite_path=path, url="https://ledger.example",
    )  # fmt: skip
    engine.dispose()
    (epoch,) = json.loads(path.read_text())["epochs"]
    assert [(holder["id"], holder["index"], holder["url"]) for holder in epoch["holders"]] == [
        (name, index, f"https://{name}.example") for index, name in enumerate(NAMES, 1)
    ]
    publish(settings)


def test_a_new_1_of_1_ledger_still_begins_as_before(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    assert {path.name for path in settings.keys_dir.iterdir()} == {"oprf.json", "session.key", "log.key"}
