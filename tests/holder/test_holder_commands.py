"""`holder admit | suspend | grant | status`, and `holder serve` as a process with real HTTP."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from ledger.cli import app
from ledger.errors import NotFound
from ledger.protocol.fingerprints import fingerprint
from ledger.protocol.threshold import verify_share
from tests.commands import build_commands_once
from tests.forked import ForkedProcess
from tests.holder.kit import (
    Caller,
    Consortium,
    HolderAnswer,
    SignedLog,
    evaluation_body,
    holder_schema,
    points,
    share_of,
)
from tests.support import ROOT

build_commands_once()


@pytest.fixture
def folder(consortium: Consortium) -> Path:
    """north's folder, with an empty database."""
    path = consortium.folders["north"].path
    database = path / "holder.db"
    database.touch(0o600)
    database.write_bytes(holder_schema())
    return path


def run(folder: Path, *words: object, code: int = 0) -> dict[str, Any]:
    """Run a command of the group; its JSON."""
    done = CliRunner().invoke(app, ["--json", "holder", *map(str, words), "--folder", str(folder)])
    assert done.exit_code == code, done.output
    value: dict[str, Any] = json.loads(done.stdout)
    return value if code == 0 else value["error"]


def key_file(folder: Path, caller: Caller) -> Path:
    """The platform's public key as it hands it over."""
    path = folder.parent / f"{caller.name}-{caller.kid}.pem"
    path.write_bytes(caller.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def admit(folder: Path, caller: Caller, *more: object, code: int = 0) -> dict[str, Any]:
    """Admit a platform with the command."""
    names = ["--platform", caller.name, "--control-group", caller.control_group, "--kid", caller.kid]
    return run(folder, "admit", *names, "--key", key_file(folder, caller), *more, code=code)


def test_admitting_suspending_and_granting(folder: Path) -> None:
    acme = Caller("acme", "east")
    assert admit(folder, acme, "--daily", 5000)["new_platform"] is True
    again = admit(folder, acme)
    assert (again["new_key"], again["fingerprint"]) == (False, fingerprint(acme.public_key))
    assert admit(folder, acme.renewed("k2"))["new_key"] is True
    assert admit(folder, acme.renewed("k2"), code=1)["code"] == "already_exists"
    assert admit(folder, Caller("Acme", "east"), code=2)["code"] == "invalid_request"
    run(folder, "grant", "--control-group", "east", "--elements", 2_000_000, "--reason", "first tagging", "--days", 30)
    value = run(folder, "status")
    (group,) = value["control_groups"]
    assert (group["today"], group["granted"], group["own_daily"]) == (5000, 2_000_000, 5000)
    assert (group["grants"][0]["reason"], value["log"], value["holder"]) == ("first tagging", None, "north")
    assert value["shares"][0]["state"] == "waiting"
    run(folder, "grant", "--control-group", "east", "--daily", 70)
    assert run(folder, "status")["control_groups"][0]["today"] == 70
    run(folder, "grant", "--control-group", "east", "--default-daily")
    assert run(folder, "status")["control_groups"][0]["today"] == 100_000
    assert run(folder, "suspend", "acme", "--kid", "k1")["revoked"] is True
    assert run(folder, "suspend", "acme")["suspended"] is True
    assert run(folder, "status")["platforms"][0]["suspended"] is True
    assert run(folder, "suspend", "acme", "--lift")["suspended"] is False
    (platform,) = run(folder, "status")["platforms"]
    assert [(key["kid"], key["revoked"]) for key in platform["keys"]] == [("k1", True), ("k2", False)]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["suspend", "bolt"], 1),
        (["suspend", "bolt", "--kid", "k1"], 1),
        (["suspend", "bolt", "--kid", "k1", "--lift"], 2),
        (["grant", "--control-group", "none", "--daily", "5"], 1),
        (["grant", "--control-group", "none"], 2),
        (["grant", "--control-group", "none", "--elements", "5"], 2),
        (["grant", "--control-group", "none", "--elements", "5", "--daily", "5", "--reason", "x"], 2),
    ],
)
def test_mistakes(folder: Path, words: list[str], code: int) -> None:
    run(folder, *words, code=code)


def test_the_status_for_people(folder: Path) -> None:
    admit(folder, Caller("acme", "east"), "--daily", 1000)
    text = CliRunner().invoke(app, ["holder", "status", "--folder", str(folder)]).stdout
    for part in ("Key holder north", "2 of 3", "not logged yet", "The log was not read yet", "acme", "1,000", "31,000"):
        assert part in text
    assert f"{10**6:,}" in text, "days for 10^9"


# --- as a process -----------------------------------------------------------------------------------------------


@contextmanager
def served(log: SignedLog) -> Iterator[str]:
    """The address of a server of the log."""

    class Handler(BaseHTTPRequestHandler):
        """Answers with what the log has."""

        def do_GET(self) -> None:
            """Answer one request."""
            try:
                body, status = log.fetch(self.path.removeprefix("/log/")), 200
            except NotFound:
                body, status = b"", 404
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class HolderProcess:
    """`refund-ledger holder serve` in a process of its own."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        environment = {
            **os.environ,
            "REFUND_LEDGER_HOLDER_DIR": str(folder),
            "REFUND_LEDGER_HOLDER_LEDGER_URL": ledger_url,
            "REFUND_LEDGER_HOLDER_PORT": "0",
            "REFUND_LEDGER_HOLDER_LOG_SECONDS": "0.2",
            "REFUND_LEDGER_HOLDER_REFRESH_SECONDS": "0.2",
        }
        words = ["--json", "holder", "serve"]
        self.process = ForkedProcess("ledger", words, environment=environment, folder=ROOT)
        assert self.process.stdout is not None
        self.first: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; the exit status and what was logged."""
        os.kill(self.process.pid, number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; the exit status and what was logged."""
        status = self.process.wait(20)
        assert self.process.stderr is not None
        logged = self.process.stderr.read()
        self.process.close()
        return status, logged

    def post(self, path: str, token: str, body: bytes) -> HolderAnswer:
        """POST over HTTP."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self.request("POST", path, body, headers)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> HolderAnswer:
        """Send a request over HTTP."""
        connection = http.client.HTTPConnection(self.first["url"].removeprefix("http://"), timeout=20)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        result = HolderAnswer(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        )
        connection.close()
        return result


def test_a_service_evaluates_survives_a_kill_and_stops(folder: Path, consortium: Consortium) -> None:
    acme, element = Caller("acme", "east"), points(1)
    admit(folder, acme)
    body = evaluation_body(element)
    with served(consortium.log) as url:
        service = HolderProcess(folder, url)
        assert (service.first["holder"], service.first["shares"], service.first["log"]) == ("north", "ok", "ok")
        assert service.request("GET", "/readyz").status == 200
        token = acme.token("north", body, datetime.now(UTC))
        share = share_of(service.post("/v1/oprf/evaluate", token, body))
        verify_share(consortium.sharings[0].statement.keys, element, share)
        assert service.request("GET", "/v1/card").json["index"] == 1
        assert service.end(signal.SIGKILL)[0] == -signal.SIGKILL
        again = HolderProcess(folder, url)
        assert again.post("/v1/oprf/evaluate", token, body).code == "token_used", "the kill lost nothing"
        assert run(folder, "status")["control_groups"][0]["used_today"] == 1
        status, logged = again.end()
        assert status == 0
        assert token not in logged
    assert '"route":"/v1/oprf/evaluate","status":401' in logged


def test_a_start_that_is_refused(folder: Path, consortium: Consortium) -> None:
    with served(consortium.log) as url:
        pass
    unreachable = HolderProcess(folder, url)
    assert unreachable.first["error"]["code"] == "unavailable"
    assert unreachable.ended()[0] == 4
    for each in consortium.folders.values():
        (each.path / "share-1-1.json").unlink()
    consortium.generate(publish=False)
    with served(consortium.log) as url:
        misfit = HolderProcess(folder, url)
    assert "does not fit the key in the log" in misfit.first["error"]["message"]
    assert misfit.ended()[0] == 2
