"""`refund-ledger webhook` from the first endpoint to its deletion, against a running ledger and a real receiver."""

from __future__ import annotations

from pathlib import Path

from ledger.cli.exit_codes import ExitCode
from tests.cli.test_commands import machine, run
from tests.kit import Running
from tests.receiver import receiving


def test_an_endpoint_from_its_registration_to_its_deletion(running: Running, tmp_path: Path) -> None:
    access = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "state"]
    with receiving() as receiver:
        answer = machine("webhook", "add", receiver.url, "--event", "appeal.opened", "--event", "key.rotated", *access)
        assert (answer["events"], answer["status"]) == (["appeal.opened", "key.rotated"], "active")
        listed = machine("webhook", "list", *access)["endpoints"]
        assert listed == [{name: value for name, value in answer.items() if name != "secret"}]
        sent = machine("webhook", "test", answer["id"], *access)
        assert receiver.arrived.acquire(timeout=10)
        assert receiver.arrivals[0].id == sent["message"]
        rotated = machine("webhook", "rotate", answer["id"], *access)
        assert rotated["secret"] != answer["secret"]
        machine("webhook", "replay", answer["id"], sent["message"], *access)
        (delivery,) = machine("webhook", "deliveries", answer["id"], *access)["deliveries"]
        assert (delivery["message"], delivery["type"]) == (sent["message"], "webhook.test")
        assert machine("webhook", "enable", answer["id"], *access)["status"] == "active"
    for command in (["list"], ["deliveries", answer["id"]]):
        shown = run("webhook", *command, *access)
        assert shown.exit_code == 0
        assert "whsec_" not in shown.output
    assert machine("webhook", "delete", answer["id"], *access) == {"deleted": answer["id"]}
    assert machine("webhook", "list", *access) == {"endpoints": []}


def test_what_goes_wrong_is_said_in_one_line(running: Running, tmp_path: Path) -> None:
    access = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "state"]
    for arguments, code, exit_with in (
        (["add", "https://a.example/", "--event", "all"], "webhook_invalid", ExitCode.USAGE),
        (["test", "we_abcdefgh"], "not_found", ExitCode.REFUSED),
        (["test", "../suite"], "invalid_request", ExitCode.USAGE),
        (["replay", "we_abcdefgh", "x"], "invalid_request", ExitCode.USAGE),
    ):
        error = machine("webhook", *arguments, *access, code=int(exit_with))["error"]
        assert error["code"] == code
