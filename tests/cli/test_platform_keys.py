"""`platform` and keys that others can sign for: refused, and listed where an earlier version took one."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.client.identity.suite import load_suite
from ledger.server.db.engine import open_engine, writing
from ledger.server.platforms import queries as members
from tests import edwards
from tests.support import new_ledger, server_environment


def pem(path: Path, key: bytes) -> Path:
    """A file with this Ed25519 public key (RFC 8410)."""
    der = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + key)
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\n" + der + b"\n-----END PUBLIC KEY-----\n")
    return path


def test_unfit_keys_are_refused_listed_and_left_out_of_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    for name, value in server_environment(settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: object, code: int = 0) -> dict[str, Any]:
        output.reset()
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == code, done.output
        return dict(json.loads(done.stdout))

    unfit = edwards.unfit_keys()
    for key in (unfit[0], unfit[-1]):
        path = pem(tmp_path / "weak.public.pem", key)
        refused = run("platform", "add", "beta", "--control-group", "west", "--key", path, code=ExitCode.USAGE)
        assert refused["error"]["code"] == "configuration_error"
        assert not (tmp_path / "beta.suite.json").exists()
    assert run("platform", "list")["platforms"] == []

    run("platform", "add", "acme", "--control-group", "east", "--key", tmp_path / "acme.pem")
    refused = run("platform", "add-key", "acme", "--kid", "acme-2", "--key", path, code=ExitCode.USAGE)
    assert refused["error"]["code"] == "configuration_error"
    engine = open_engine(settings.database_url, pool_size=1)
    with writing(engine) as connection:
        members.insert_key(connection, kid="acme-2", platform="acme", public_key=unfit[0], created_at=datetime.now(UTC))
    engine.dispose()
    (listed,) = run("platform", "list")["platforms"]
    assert listed["keys"] == [
        {"kid": "acme-1", "revoked": False, "sound": True},
        {"kid": "acme-2", "revoked": True, "sound": False},
    ]
    output.reset()
    assert "unsound" in CliRunner().invoke(app, ["platform", "list"]).stdout
    run("platform", "suite", "acme", "--suite", tmp_path / "again.json", "--kid", "acme-1")
    assert [key.kid for key in load_suite(tmp_path / "again.json").keys] == ["acme-1"]
    assert run("platform", "revoke-key", "acme-2") == {"kid": "acme-2", "revoked": True}
