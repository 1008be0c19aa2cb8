"""`refund-ledger staff`, and what `serve` says about the console."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pyotp
import pytest

from ledger.cli.exit_codes import ExitCode
from ledger.server.db.engine import open_engine, reading
from ledger.server.log.logged_keys import load_server_keys
from ledger.server.settings import Settings
from ledger.server.staff.sessions import login, session_staff
from tests.cli.test_operator import Operator, new_settings
from tests.forked import ForkedProcess, run_command
from tests.staffing import TIMES
from tests.support import ROOT, serving


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    fixture = Operator(tmp_path)
    fixture("keys", "init")
    return fixture


def who_signs_in(settings: Settings, name: str, password: str, uri: str) -> tuple[str, str | None]:
    """(role, control group) of whom the server lets in with these."""
    engine = open_engine(settings.database_url, pool_size=1)
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    now = datetime.now(UTC)
    try:
        with reading(engine) as connection:
            key = load_server_keys(settings, connection).sealing_key
        token = login(
            engine,
            key,
            name=name,
            password=password,
            code=totp.at(now),
            times=TIMES,
            now=now,
            random_bytes=secrets.token_bytes,
        )
        staff = session_staff(engine, token, TIMES, now)
    finally:
        engine.dispose()
    return staff.role, staff.control_group


def test_from_the_first_admin_to_a_reset(operator: Operator) -> None:
    assert operator("staff", "list") == {"staff": []}
    ann = operator("staff", "add", "ann", "--role", "admin", "--language", "zh-CN")
    assert (ann["name"], ann["role"], ann["language"], ann["control_group"]) == ("ann", "admin", "zh-CN", None)
    settings = new_settings(operator)
    assert who_signs_in(settings, "ann", ann["password"], ann["totp_uri"]) == ("admin", None)

    key = operator.folder / "acme.pem"
    missing = operator("staff", "add", "bo", "--role", "reviewer", "--control-group", "east", code=ExitCode.USAGE)
    assert missing["error"]["code"] == "staff_invalid"
    operator("platform", "add", "acme", "--control-group", "east", "--key", key)
    bo = operator("staff", "add", "bo", "--role", "reviewer", "--control-group", "east")
    assert operator("staff", "add", "bo", "--role", "admin", code=ExitCode.REFUSED)["error"]["code"] == "already_exists"

    assert operator("staff", "disable", "bo") == {"name": "bo", "disabled": True}
    listed = {account["name"]: account for account in operator("staff", "list")["staff"]}
    assert (listed["bo"]["disabled"], listed["ann"]["disabled"]) == (True, False)
    assert bo["password"] not in str(listed)
    operator("staff", "enable", "bo")
    again = operator("staff", "reset", "bo")
    assert again["password"] != bo["password"]
    assert who_signs_in(settings, "bo", again["password"], again["totp_uri"]) == ("reviewer", "east")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("add", "Ann", "--role", "admin"), ExitCode.USAGE, "staff_invalid"),
        (("add", "ann", "--role", "boss"), ExitCode.USAGE, "staff_invalid"),
        (("disable", "nobody"), ExitCode.REFUSED, "not_found"),
        (("reset", "nobody"), ExitCode.REFUSED, "not_found"),
    ],
)
def test_refusals(operator: Operator, arguments: tuple[str, ...], code: ExitCode, error: str) -> None:
    assert operator("staff", *arguments, code=code)["error"]["code"] == error


def test_the_last_admin_cannot_be_disabled(operator: Operator) -> None:
    operator("staff", "add", "ann", "--role", "admin")
    assert operator("staff", "disable", "ann", code=ExitCode.USAGE)["error"]["code"] == "staff_invalid"


def test_people_get_a_password_a_code_and_a_picture(operator: Operator) -> None:
    done = run_command(
        ["staff", "add", "ann", "--role", "admin"],
        folder=operator.folder,
        environment={**operator.environment, "COLUMNS": "40"},
    )
    assert done.returncode == 0
    assert "one-time password" in done.stdout
    (uri,) = [line for line in done.stdout.splitlines() if line.startswith("otpauth://totp/")]
    assert isinstance(pyotp.parse_uri(uri), pyotp.TOTP), "a narrow terminal does not break it"
    picture = [line for line in done.stdout.splitlines() if set(line) <= set("█▀▄ ") and "█" in line]
    assert len(picture) > 15
    assert len({len(line) for line in picture}) <= 2
    assert done.stderr == ""


def test_serve_names_the_console(operator: Operator) -> None:
    """(That one without an admin says so is the next test.)"""
    operator("staff", "add", "ann", "--role", "admin")
    with serving(new_settings(operator)) as server:
        assert server.said["needs_admin"] is False
        assert server.said["console"] == f"{server.url}/console"
        assert httpx2.get(server.said["console"], follow_redirects=True).status_code == 200


def test_serve_tells_people_how_to_make_the_first_admin(operator: Operator) -> None:
    with Path(os.devnull).open("w") as nowhere:
        process = ForkedProcess(
            "ledger",
            ["serve", "--port", "0"],
            environment={**operator.environment, "COLUMNS": "200"},
            folder=ROOT,
            stderr=nowhere.fileno(),
        )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
    finally:
        process.terminate()
        process.wait(20)
        process.close()
    assert "/console" in lines[1]
    assert "refund-ledger staff add NAME --role admin" in lines[2]
