"""The operator's commands: keys, platforms, serve, and what is missing without the server's packages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from ledger.cli import app
from ledger.cli.exit_codes import ExitCode
from ledger.client import RefundLedger
from ledger.client.identity.keyfiles import load_public_keys
from ledger.errors import InvalidReceipt, LedgerError, PlatformSuspended, UnknownKey
from ledger.protocol.encoding import b64url
from ledger.protocol.fingerprints import fingerprint
from ledger.referral.bundle import refer
from tests.cli import lacking
from tests.forked import run_command
from tests.kit import person, report_arguments
from tests.processes import runs, started, until
from tests.support import ROOT, new_ledger, server_environment, serving

PUBLISHER = "ledger.server.log.publisher"
EFFECTIVE_SECONDS = 5
"""A new platform, key, revocation or suspension reaches every process within this time (docs/api.md, docs/cli.md)."""


class Operator:
    """Runs commands in a folder with its own ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REFUND_LEDGER_")},
            "PYTHONPATH": str(ROOT),
            "REFUND_LEDGER_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "REFUND_LEDGER_KEYS_DIR": str(folder / "keys"),
            "REFUND_LEDGER_GUARD_DIR": str(folder / "guard"),
            "REFUND_LEDGER_SNAPSHOTS_DIR": str(folder / "snapshots"),
            "REFUND_LEDGER_AUTH_REFRESH_SECONDS": "0.2",
        }

    def __call__(self, *arguments: object, code: int = 0, **environment: str) -> dict[str, Any]:
        """The command's answer. `serve` is a process of its own; the rest runs in this one, which spares its start."""
        words = [*map(str, arguments), "--json"]
        run = self._process if arguments[0] == "serve" else self._here
        status, stdout, stderr = run(words, {**self.environment, **environment})
        assert status == code, (stdout, stderr)
        assert "Traceback" not in stderr
        value = json.loads(stdout)
        assert isinstance(value, dict)
        return value

    def _process(self, words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        done = run_command(words, folder=self.folder, environment=environment)
        return done.returncode, done.stdout, done.stderr

    def _here(self, words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        with contextlib.chdir(self.folder):
            done = CliRunner().invoke(app, words, env=environment)
        return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_from_nothing_to_a_first_lookup_and_back(operator: Operator) -> None:
    folder = operator.folder
    assert operator("platform", "list", code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    assert operator("serve", code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    answer = operator("keys", "init")
    assert answer["created_keys"]
    assert answer["log_size"] == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder / "keys").iterdir())
    assert operator("keys", "init", code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    assert operator("keys", "migrate") == {"migrated": True}
    shown = operator("keys", "show")

    key = folder / "acme.pem"
    add: list[object] = ["platform", "add", "acme", "--control-group", "east", "--key", key]
    added = operator(*add, "--profile", "UK", "--scopes", "lookup, report", "--quota", 3)
    suite = json.loads(Path(added["suite"]).read_text())
    assert (suite["platform"], suite["control_group"], suite["profile"], suite["kid"]) == (
        "acme",
        "east",
        "UK",
        "acme-1",
    )
    assert suite["log"] == shown["log"]
    assert suite["epochs"][0]["holders"][0]["public_key"] == shown["holders"][0]["public_key"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert operator(*add, code=ExitCode.REFUSED)["error"]["code"] == "already_exists"
    wrong = operator("platform", "add", "A", "--control-group", "x", "--key", folder / "a.pem", code=ExitCode.USAGE)
    assert wrong["error"]["code"] == "invalid_request"
    (listed,) = operator("platform", "list")["platforms"]
    assert (listed["platform"], listed["scopes"], listed["quota"]) == ("acme", ["lookup", "report"], 3)

    second = folder / "second.pem"
    halves = operator("make-key", second)
    digits = fingerprint(load_public_keys(folder / "second.public.pem")[0].public_bytes_raw())
    assert halves == {
        "key": str(second),
        "public_key": str(folder / "second.public.pem"),
        "fingerprint": digits,
        "order_key": None,
    }
    assert sorted(path.name for path in folder.glob("*.order.key")) == ["acme.order.key"], "a platform has one"
    assert second.stat().st_mode & 0o777 == 0o600
    assert operator("make-key", second, code=ExitCode.REFUSED)["error"]["code"] == "already_exists"
    operator("platform", "add-key", "acme", "--key", halves["public_key"], "--kid", "acme-2")
    operator("platform", "suite", "acme", "--suite", folder / "two.suite.json", "--kid", "acme-2")
    settings = new_settings(operator)
    with serving(settings) as server:
        ledger = RefundLedger(
            _moved(folder / "acme.suite.json", server.url), key, state_dir=folder / "s1", budget_seconds=2
        )
        two = RefundLedger(
            _moved(folder / "two.suite.json", server.url), second, state_dir=folder / "s2", budget_seconds=2
        )
        with ledger, two:
            ledger.tag(device="device-0123456789ab")
            with pytest.raises(LedgerError, match="quota"):
                ledger.tag_many([person() for _ in range(3)])
            operator("platform", "quota", "acme", 1000)
            _until(lambda: ledger.tag_many([person() for _ in range(3)]))
            before = _reported(ledger, "A-1")
            operator("platform", "revoke-key", "acme-1")
            _until_raises(ledger, UnknownKey)
            assert two.lookup(person(), order="1").tier in ("clear", "unavailable")
            operator("platform", "suspend", "acme")
            operator("platform", "suspend", "acme", "--urgent")
            _until_raises(two, PlatformSuspended)
            operator("platform", "resume", "acme")
            _until(lambda: two.tag(**person()))
            _stands_under_both_keys(operator, two, [before, _reported(two, "A-2")])
            missing = operator("platform", "suspend", "nobody", code=ExitCode.REFUSED)
            assert missing["error"]["code"] == "not_found"


def _reported(ledger: RefundLedger, order: str) -> str:
    sent = ledger.reports.create(ledger.tag(**person()), **report_arguments(order=order)).report
    assert sent is not None
    return sent.id


def _stands_under_both_keys(operator: Operator, ledger: RefundLedger, reports: list[str]) -> None:
    """What the platform reported under its revoked key is proven, found by its order, and referred like the rest."""
    old, new = [ledger.reports.receipt(report).signed_by.public_bytes_raw() for report in reports]
    named = {
        key["kid"]: key["public_key"] for key in json.loads((operator.folder / "two.suite.json").read_text())["keys"]
    }
    assert named == {"acme-1": b64url(old), "acme-2": b64url(new)}
    assert [view.id for view in ledger.reports.list(order="A-1").reports] == reports[:1]
    out = operator.folder / "referral"
    created = refer(ledger, reports, out, audience="authority", orders=dict(zip(reports, ("A-1", "A-2"), strict=True)))
    assert [report.order for report in created.reports] == ["A-1", "A-2"], "one order key, whichever key signs"
    keys = load_public_keys(out / "platform-key.pem")
    assert [key.public_bytes_raw() for key in keys] == [old, new]
    check: list[object] = ["verify", "--offline", "--log-key", (out / "log-key.txt").read_text().strip()]
    check += ["--receipt", out / "receipts", "--platform-key", out / "platform-key.pem"]
    assert [receipt["signed_by_platform_key"] for receipt in operator(*check)["receipts"]] == [True, True]
    (out / "platform-key.pem").write_bytes(keys[1].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert operator(*check, code=ExitCode.REFUSED)["error"]["code"] == "invalid_receipt"
    referral = operator.folder / "without"
    bare = replace(ledger.suite, keys=())
    uninformed = RefundLedger(bare, operator.folder / "second.pem", state_dir=operator.folder / "s3")
    with uninformed, pytest.raises(InvalidReceipt, match="known key"):
        refer(uninformed, reports, referral, audience="authority")
    assert not referral.exists()


def new_settings(operator: Operator) -> Any:
    from ledger.server.settings import Settings

    return Settings(
        database_url=operator.environment["REFUND_LEDGER_DATABASE_URL"],
        keys_dir=operator.folder / "keys",
        guard_dir=operator.folder / "guard",
        snapshots_dir=operator.folder / "snapshots",
        auth_refresh_seconds=0.2,
    )


def _moved(suite: Path, url: str) -> Path:
    suite.write_text(json.dumps({**json.loads(suite.read_text()), "url": url}))
    return suite


def _until(work: Any) -> None:
    """`work()` succeeds soon. (A server that gets no processor time reads late what it admits; what it refuses it
    refuses in time, see `_until_raises`.)"""
    end = time.monotonic() + 4 * EFFECTIVE_SECONDS
    while True:
        try:
            work()
            return
        except LedgerError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _until_raises(ledger: RefundLedger, error: type[LedgerError]) -> None:
    """Calls raise `error`, at the latest one that begins when the change must have reached every process."""
    end = time.monotonic() + EFFECTIVE_SECONDS
    while True:
        begun = time.monotonic()
        try:
            ledger.tag(**person())
        except error:
            return
        assert begun < end, f"{error.__name__} was not raised within {EFFECTIVE_SECONDS} s"
        time.sleep(0.1)


def test_the_publisher_ends_with_a_killed_server(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with serving(settings, forked=False) as server:
        (publisher,) = until(lambda: started(server, PUBLISHER), "there is no publisher")
        os.kill(server._process.pid, signal.SIGKILL)
        until(lambda: not runs(publisher, PUBLISHER), "the publisher outlived the server")


def test_serve_says_in_one_line_why_it_cannot(tmp_path: Path, operator: Operator) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = operator("serve", "--port", port, code=ExitCode.USAGE, **server_environment(settings))
        assert "cannot be used" in refused["error"]["message"]
    assert operator("serve", "--port", 99999, code=ExitCode.USAGE)["error"]["code"] == "configuration_error"
    (settings.keys_dir / "oprf.json").chmod(0o644)
    refused = operator("serve", "--port", 0, code=ExitCode.USAGE, **server_environment(settings))
    assert "oprf.json" in refused["error"]["message"]


SERVER_MODULES = ["sqlalchemy", "fastapi", "uvicorn", "alembic", "pydantic_settings", "orjson", "starlette"]


def without(missing: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process where these modules are not installed."""
    return run_command([json.dumps(missing), *arguments], folder=cwd, module=lacking.__name__)


CLIENT_COMMANDS = ["--help", "verify http://127.0.0.1:1"]
SERVER_COMMANDS = ["keys init", "platform list", "demo --dir d", "keys show", "keys migrate", "serve", "publish"]


@pytest.fixture(scope="module")
def without_server(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each command says in a process where the server's packages are not installed, as `tests.cli.lacking` lists
    it. The client's commands come first."""
    commands = [*CLIENT_COMMANDS, *SERVER_COMMANDS]
    typed = json.dumps([words.split() for words in commands])
    done = without(SERVER_MODULES, lacking.EACH, typed, cwd=tmp_path_factory.mktemp("lacking"))
    assert (done.returncode, done.stderr) == (0, "")
    said = {" ".join(words): outcome for words, *outcome in map(json.loads, done.stdout.splitlines())}
    assert [*said] == commands
    return said


def test_server_commands_without_its_packages_exit_3_and_name_its_distribution(
    without_server: dict[str, list[Any]],
) -> None:
    for words in SERVER_COMMANDS:
        code_plain, errors, code_json, answer = without_server[words]
        assert (code_plain, code_json) == (ExitCode.EXTRA_MISSING, ExitCode.EXTRA_MISSING), words
        assert "pip install refund-credit-ledger-server" in errors
        assert "Traceback" not in errors
        assert json.loads(answer)["error"]["code"] == "extra_missing"


def test_client_commands_need_none_of_the_servers_packages(without_server: dict[str, list[Any]]) -> None:
    for words, code in zip(CLIENT_COMMANDS, (ExitCode.OK, ExitCode.USAGE), strict=True):
        code_plain, errors, code_json, _ = without_server[words]
        assert (code_plain, code_json) == (code, code), errors
