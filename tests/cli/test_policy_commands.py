"""`policy`: publish, list and show, for people and for programs; what is refused leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.protocol.encoding import b64url, parse_time
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.timeline import MAX_POLICY_BYTES
from ledger.server.db.engine import open_engine, reading
from ledger.server.log import queries as log_store
from ledger.server.settings import Settings
from tests.policies import changed_policy
from tests.support import new_ledger, server_environment

SHIPPED, FIRST = shipped_policy()
NEXT = FIRST.version + 1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    created = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    for name, value in server_environment(created).items():
        monkeypatch.setenv(name, value)
    return created


@pytest.fixture
def run(settings: Settings) -> Callable[..., dict[str, Any]]:
    def run(*words: object, code: int = 0) -> dict[str, Any]:
        output.reset()
        done = CliRunner().invoke(app, ["policy", *map(str, words), "--json"])
        assert done.exit_code == code, done.output
        return dict(json.loads(done.stdout))

    return run


def size(settings: Settings) -> int:
    engine = open_engine(settings.database_url, pool_size=1)
    with reading(engine) as connection:
        head = log_store.read_head(connection)
    engine.dispose()
    assert head is not None
    return head.size


def test_publish_list_and_show(run: Callable[..., dict[str, Any]], settings: Settings, tmp_path: Path) -> None:
    assert run("show")["toml"] == SHIPPED
    text = changed_policy(NEXT, lookup__expiry_minutes=10)
    file = tmp_path / "next.toml"
    file.write_bytes(text.encode())
    done = run("publish", file)
    moment = parse_time(done["in_effect_at"])
    ahead = moment - datetime.now(UTC)
    assert timedelta(days=7) - timedelta(minutes=1) <= ahead <= timedelta(days=8)
    assert moment.hour == moment.minute == moment.second == 0
    assert (done["version"], done["state"], done["entry_index"]) == (NEXT, "announced", size(settings) - 1)
    assert done["toml_sha256"] == b64url(hashlib.sha256(text.encode()).digest())
    listed = run("list")["policies"]
    assert [(row["version"], row["state"]) for row in listed] == [(NEXT - 1, "in_effect"), (NEXT, "announced")]
    assert listed[1] == done
    assert run("show", NEXT)["toml"] == text
    assert run("show", "--in-effect") == run("show") == run("show", NEXT - 1)
    output.reset()
    assert CliRunner().invoke(app, ["policy", "show", str(NEXT)]).stdout == text, "the file itself"
    later = (moment + timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    file.write_text(changed_policy(NEXT + 1))
    assert run("publish", file, "--in-effect-at", later)["in_effect_at"] == later


def test_what_is_refused_has_its_code_and_changes_nothing(
    run: Callable[..., dict[str, Any]], settings: Settings, tmp_path: Path
) -> None:
    file, before = tmp_path / "next.toml", size(settings)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    def refused(text: bytes, *words: str, code: int) -> str:
        file.write_bytes(text)
        error = run("publish", file, *words, code=code)["error"]
        return str(error["code"])

    good = changed_policy(NEXT).encode()
    at = [f"{today + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (7, 100)]
    assert refused(SHIPPED.encode(), code=ExitCode.REFUSED) == "policy_already_published"
    assert refused(changed_policy(NEXT + 1).encode(), code=ExitCode.REFUSED) == "policy_version_not_next"
    for moment in (at[0], at[1], f"{today + timedelta(days=20):%Y-%m-%d}T12:00:00Z"):
        assert refused(good, "--in-effect-at", moment, code=ExitCode.USAGE) == "policy_time_invalid"
    assert refused(good, "--in-effect-at", "tomorrow", code=ExitCode.USAGE) == "invalid_time"
    for text in (b"\xff\xfe", b"version = 1", good + b"#" * MAX_POLICY_BYTES, good.replace(b"cooling_hours = 72", b"")):
        assert refused(text, code=ExitCode.USAGE) == "policy_invalid"
    file.unlink()
    assert run("publish", file, code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    assert run("show", NEXT, code=ExitCode.REFUSED)["error"]["code"] == "not_found"
    assert run("show", NEXT - 1, "--in-effect", code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    assert size(settings) == before
    assert len(run("list")["policies"]) == 1
    file.write_bytes(good)
    moment = run("publish", file)["in_effect_at"]
    overtaking = changed_policy(NEXT + 1).encode()
    assert refused(overtaking, "--in-effect-at", moment, code=ExitCode.REFUSED) == "policy_overtaken"
