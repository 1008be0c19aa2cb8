"""Operator commands with a wrong database or wrong settings: one line that says what is wrong, and no password."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.errors import ConfigurationError
from ledger.server.db.engine import open_engine, writing
from ledger.server.db.migrate import newest_revision
from ledger.server.settings import Settings, load_settings, unknown_settings
from tests.support import new_ledger, server_environment

PASSWORD = "S3cretPw"
COMMANDS = (
    ["keys", "init"],
    ["keys", "migrate"],
    ["keys", "show"],
    ["platform", "list"],
    ["staff", "list"],
    ["pictures", "benign", "list"],
    ["rotate", "--status"],
    ["serve", "--port", "0"],
)


def run(words: list[str], environment: dict[str, str], *, as_json: bool) -> tuple[int, str]:
    """Exit code and what was printed. Raises what a command let through."""
    output.reset()
    done = CliRunner().invoke(app, [*words, *(["--json"] if as_json else [])], env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout if as_json else done.stderr


def refused(words: list[str], environment: dict[str, str], code: ExitCode) -> str:
    """The message of a refusal, the same in words and in JSON."""
    status, printed = run(words, environment, as_json=True)
    assert status == code, printed
    message = str(json.loads(printed)["error"]["message"])
    status, words_printed = run(words, environment, as_json=False)
    assert status == code
    assert " ".join(words_printed.split()) == f"error: {message}", "one sentence or two, no traceback"
    assert PASSWORD not in printed + words_printed
    return message


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no database at all, only words in a file")
    return {
        "away": f"postgresql+psycopg://ledger:{PASSWORD}@127.0.0.1:1/ledger",
        "malformed": f"postgresql+psycopg//ledger:{PASSWORD}@db/ledger",
        "misspelt port": f"postgresql+psycopg://ledger:{PASSWORD}@db:54a32/ledger",
        "another driver": f"mysql://ledger:{PASSWORD}@db/ledger",
        "folder": f"sqlite:///{tmp_path / 'folder'}",
        "no database": f"sqlite:///{tmp_path / 'notes.txt'}",
        "missing folder": f"sqlite:///{tmp_path / 'typo' / 'ledger.db'}",
    }


SAYS = {
    "away": (ExitCode.UNAVAILABLE, "nothing listens at its address"),
    "malformed": (ExitCode.USAGE, "REFUND_LEDGER_DATABASE_URL"),
    "misspelt port": (ExitCode.USAGE, "REFUND_LEDGER_DATABASE_URL"),
    "another driver": (ExitCode.USAGE, "SQLite or PostgreSQL"),
    "folder": (ExitCode.USAGE, "names a folder"),
    "no database": (ExitCode.USAGE, "no SQLite database"),
    "missing folder": (ExitCode.USAGE, "folder that does not exist"),
}


@pytest.mark.parametrize("wrong", SAYS)
def test_a_wrong_database_is_one_line(places: dict[str, str], tmp_path: Path, wrong: str) -> None:
    environment = {
        "REFUND_LEDGER_DATABASE_URL": places[wrong],
        "REFUND_LEDGER_KEYS_DIR": str(tmp_path / "keys"),
        "REFUND_LEDGER_GUARD_DIR": str(tmp_path / "guard"),
    }
    code, says = SAYS[wrong]
    for words in COMMANDS:
        assert says in refused(words, environment, code), words
    assert not (tmp_path / "typo").exists()
    assert not (tmp_path / "keys").exists(), "nothing was made for a ledger that cannot be"


def test_a_schema_of_another_version_is_one_line(database_url: str, tmp_path: Path) -> None:
    """Newer: no command may ask for a migration that this version cannot do. Older: the command that does it."""
    settings = new_ledger(database_url, tmp_path)
    environment = server_environment(settings)
    engine = open_engine(database_url, pool_size=1)

    def stamp(revision: str | None) -> None:
        with writing(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": revision})

    before = newest_revision()
    for revision, says in (("9999", "newer version"), ("0012", "keys migrate")):
        stamp(revision)
        for words in COMMANDS[2:] if revision != "9999" else COMMANDS[1:]:
            message = refused(words, environment, ExitCode.USAGE)
            assert says in message, words
            assert revision != "9999" or "keys migrate" not in message
    stamp(before)
    assert run(["platform", "list"], environment, as_json=True)[0] == 0
    engine.dispose()


def test_an_empty_database_asks_for_keys(make_database: Callable[..., str], tmp_path: Path) -> None:
    url = make_database("sqlite")
    message = refused(["platform", "list"], {"REFUND_LEDGER_DATABASE_URL": url}, ExitCode.USAGE)
    assert "keys init" in message
    Path(url.removeprefix("sqlite:///")).touch()
    assert "keys init" in refused(["platform", "list"], {"REFUND_LEDGER_DATABASE_URL": url}, ExitCode.USAGE)


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "PORT": "99999",
        "POOLSIZE": "7",
        "SERVICE": "Has Capitals",
        "ENVIRONMENT": "prod",
        "METRICS_TOKEN": "short",
        "PUBLIC_URL": "ledger.example",
        "APPEAL_CLOCK_SECONDS": "soon",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"REFUND_LEDGER_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = str(caught.value)
    assert all(f"REFUND_LEDGER_{name}" in said for name in wrong)
    assert "\n" not in said
    for acceptable in ("65535 or less", "REFUND_LEDGER_POOL_SIZE?", "'live' or 'test'", "16 characters", "https://"):
        assert acceptable in said, acceptable
    assert "a number" in said
    assert not any(value in said for value in ("short", "Has Capitals", "99999")), "values may be secrets"


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://ledger.example", True),
        ("http://127.0.0.1:8000", True),
        ("https://[::1]:8443/", True),
        ("ledger.example", False),
        ("ftp://ledger.example", False),
        ("https://", False),
        ("https://user:pw@ledger.example", False),
        ("https://ledger.example/?a=1", False),
        ("https://ledger.example/#x", False),
        ("https://ledger.example:99999", False),
        ("https://ledger .example", False),
    ],
)
def test_the_public_url_is_looked_at(url: str, taken: bool) -> None:
    if taken:
        assert load_settings({}, public_url=url).public_url is not None
        return
    with pytest.raises(ConfigurationError, match="REFUND_LEDGER_PUBLIC_URL"):
        load_settings({}, public_url=url)


def test_a_given_environment_is_the_only_one_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_LEDGER_PORT", "9001")
    monkeypatch.setenv("REFUND_LEDGER_SERVICE", "of.the.process")
    given = {"REFUND_LEDGER_PORT": "9002", "refund_ledger_pool_size": "3", "REFUND_LEDGER_KEYS_DIR": "k", "HOME": "/"}
    loaded = load_settings(given, host="::1")
    assert (loaded.port, loaded.pool_size, loaded.keys_dir, loaded.host) == (9002, 3, Path("k"), "::1")
    assert loaded.service == "refund-ledger.local", "the process's own environment says nothing here"
    assert load_settings(given, port=9003).port == 9003, "changes go before both"
    assert load_settings(environment="test").environment == "test", "a setting has this name too"
    assert load_settings({"REFUND_LEDGER_PORT": "9001", "REFUND_LEDGER_SERVICE": "of.the.process"}) == load_settings()
    with pytest.raises(ConfigurationError, match="REFUND_LEDGER_PORT must be 65535 or less"):
        load_settings({"REFUND_LEDGER_PORT": "99999"})


@given(st.sampled_from(sorted(Settings.model_fields)), st.data())
def test_a_misspelt_name_is_told_with_the_right_one(name: str, data: st.DataObject) -> None:
    right = name.upper()
    place = data.draw(st.integers(0, len(right) - 1))
    wrong = right[:place] + right[place + 1 :]
    known = {field.upper() for field in Settings.model_fields}
    if wrong in known or len(wrong) < 5 or wrong in ("KEY", "STATE"):
        return
    (said,) = unknown_settings([f"REFUND_LEDGER_{wrong}"])
    assert f"REFUND_LEDGER_{wrong} is no setting" in said
    assert "do you mean REFUND_LEDGER_" in said


def test_names_of_others_are_no_mistakes() -> None:
    ours = ["REFUND_LEDGER_SUITE", "REFUND_LEDGER_KEY", "REFUND_LEDGER_STATE", "REFUND_LEDGER_PORT", "PATH"]
    kubernetes = ["REFUND_LEDGER_SERVICE_HOST", "REFUND_LEDGER_PORT_8000_TCP_ADDR", "REFUND_LEDGER_SERVICE_PORT"]
    assert unknown_settings([*ours, *kubernetes]) == []


def test_services_of_kubernetes_keep_no_server_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is called `refund-ledger` and one `refund-ledger-db`, in the namespace of the container."""
    for name, value in {
        "PORT": "tcp://10.0.0.1:8000", "SERVICE_HOST": "10.0.0.1", "DB_SERVICE_HOST": "10.0.0.2",
        "DB_SERVICE_PORT": "5432", "DB_PORT": "tcp://10.0.0.2:5432", "DB_PORT_5432_TCP_ADDR": "10.0.0.2",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"REFUND_LEDGER_{name}", value)
    assert load_settings().port == 8000
    monkeypatch.setenv("REFUND_LEDGER_DB_PORT", "5432")
    with pytest.raises(ConfigurationError, match="REFUND_LEDGER_DB_PORT is no setting"):
        load_settings()
