"""The client's commands against a running ledger: output for people and machines, and telling exit codes."""

from __future__ import annotations

import csv
import io
import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.protocol.encoding import b64url, format_time
from ledger.server.keys.files import load_log_key
from ledger.tlog.checkpoint import Checkpoint, sign
from tests.faulty import answering, free_port
from tests.kit import Connect, Running, person, report_arguments
from tests.support import CONSENT

CONSENTED = ("--consent-ref", CONSENT)


PATIENT = ("--timeout-ms", "20000")
"""On a busy machine a lookup may take longer than its 300 ms."""


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    output.reset()
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def machine(*arguments: object, code: int = 0, stdin: str | bytes | None = None) -> dict[str, Any]:
    """The JSON that the command prints, with its exit code checked."""
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def access(running: Running, tmp_path: Path) -> list[object]:
    return ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "state"]


def options(who: dict[str, str]) -> list[str]:
    return [part for kind, value in who.items() for part in (f"--{kind}", value)]


def report_file(path: Path, *reports: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(reports)))
    return path


def report_json(who: dict[str, str], **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "buyer": who,
        "conduct": "fake_return_tracking",
        "evidence": [{"type": "carrier_record", "sha256": b64url(secrets.token_bytes(32))}],
        "order": secrets.token_hex(6),
        "amount_minor": 9_900,
        "currency": "CNY",
        "outcome": "refund_refused",
        "act_ended_at": format_time(now - timedelta(days=6)),
        "notice_sent_at": format_time(now - timedelta(days=4)),
        "notice_ref": "n-1",
        "decided_by": "agent-1",
        "consent_ref": CONSENT,
        **changes,
    }


def test_tag_report_look_up_withdraw(access: list[object], tmp_path: Path) -> None:
    who = person()
    tags = machine("tag", *access, *options(who))["tags"]
    assert [tag["kind"] for tag in tags] == ["phone", "payment"]
    assert machine("lookup", *access, *PATIENT, "--order", "1", *CONSENTED, *options(who))["tier"] == "clear"

    proof = tmp_path / "tracking.txt"
    proof.write_text("the carrier never saw this number")
    now = datetime.now(UTC)
    sent = machine(
        "report", "send", *access, *options(who), "--conduct", "fake_return_tracking",
        "--evidence", f"carrier_record={proof}", "--order", secrets.token_hex(6), "--amount-minor", 9900,
        "--currency", "CNY", "--outcome", "refund_refused", "--act-ended-at", format_time(now - timedelta(days=6)),
        "--notice-sent-at", format_time(now - timedelta(days=4)), "--notice-ref", "n-1", "--decided-by", "agent-1",
        "--consent-ref", CONSENT,
    )["results"][0]  # fmt: skip
    report_id = sent["report"]["id"]
    assert sent["state"] == "accepted"

    by_tag = [part for tag in tags for part in ("--tag", f"{tag['kind']}={tag['tag']}")]
    answer = machine("lookup", *access, *PATIENT, "--order", "1", *CONSENTED, "--claim", "damaged", *by_tag)
    assert (answer["tier"], answer["guidance"]) == ("watch", ["live_reshoot"])
    readable = run("lookup", *access, *PATIENT, "--order", "1", *CONSENTED, *options(who))
    assert readable.exit_code == 0
    assert "watch" in readable.stdout
    assert "of 100" in readable.stdout

    receipt = tmp_path / "receipt.txt"
    proven = machine("report", "receipt", report_id, *access, "--out", receipt)
    assert proven["entry_index"] == sent["report"]["entry_index"]
    verified = machine("verify", "--suite", access[1], "--receipt", receipt, "--state", tmp_path / "seen")
    assert (verified["verified"], verified["receipts"]) == (True, 1)

    assert machine("report", "show", report_id, *access)["status"] == "counting"
    assert report_id in [report["id"] for report in machine("report", "list", *access)["reports"]]
    paid = format_time(now)
    restituted = machine(
        "report", "restitution", report_id, *access, "--received-at", paid, "--amount-minor", 9900, "--currency", "CNY"
    )
    assert restituted["results"][0]["report"]["restituted_at"] == paid
    withdrawn = machine("report", "withdraw", report_id, *access, "--reason", "wrong_facts")
    assert withdrawn["results"][0]["report"]["status"] == "withdrawn"
    refused = machine("report", "withdraw", report_id, *access, "--reason", "other", code=ExitCode.REFUSED)
    assert refused["error"]["code"] == "already_reversed"


def test_a_file_of_reports_where_one_is_refused(access: list[object], tmp_path: Path) -> None:
    file = report_file(
        tmp_path / "reports.json", report_json(person()), report_json(person(), evidence=[]), report_json(person())
    )
    results = machine("report", "send", *access, "--file", file, code=ExitCode.REFUSED)["results"]
    assert [result["state"] for result in results] == ["accepted", "refused", "accepted"]
    text = json.dumps(report_json(person()))
    assert machine("report", "send", *access, "--file", "-", stdin=text)["results"][0]["state"] == "accepted"
    bad = machine("report", "send", *access, "--file", "-", stdin="{", code=ExitCode.USAGE)
    assert bad["error"]["code"] == "invalid_table"
    assert bad["error"]["details"] == {"line": 1, "character": 2}
    unknown = json.dumps(report_json(person(), surprise=1))
    only = machine("report", "send", *access, "--file", "-", stdin=unknown, code=ExitCode.REFUSED)["results"]
    assert [result["error"]["code"] for result in only] == ["invalid_report"]


def test_tagging_a_table_keeps_other_columns_and_drops_identifiers(access: list[object], tmp_path: Path) -> None:
    people = [person(), person()]
    text = "customer,phone,payment\n" + "\n".join(
        [f"c1,{people[0]['phone']},{people[0]['payment']}", f"c2,{people[1]['phone']},", "c3,,"]
    )
    result = run("tag", *access, "--csv", "-", stdin=text)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["customer"] for row in rows] == ["c1", "c2", "c3"]
    assert list(rows[0]) == ["customer", "phone_tag", "payment_tag"]
    assert [bool(row["phone_tag"]) for row in rows] == [True, True, False]
    assert [bool(row["payment_tag"]) for row in rows] == [True, False, False]
    assert people[0]["payment"] not in result.stdout
    file = tmp_path / "people.csv"
    file.write_text(text)
    again = machine("tag", *access, "--csv", file)["rows"]
    assert again[0]["phone_tag"] == rows[0]["phone_tag"]
    wrong = run("tag", *access, "--csv", "-", stdin="name\nli\n")
    assert wrong.exit_code == ExitCode.USAGE


def test_wrong_use_exits_2(access: list[object], tmp_path: Path) -> None:
    wrong: list[list[object]] = [
        ["lookup", *access],  # no order
        ["lookup", *access, "--order", "1"],  # no person
        ["lookup", *access, "--order", "1", "--phone", "+86 138 0013 8000"],  # no consent
        ["check", *access, "--phone", "+86 138 0013 8000"],
        ["lookup", *access, "--order", "1", *CONSENTED, "--phone", "12"],
        ["tag", *access, "--phone", "+86 138 0013 8000", "--csv", "-"],
        ["lookup", "--suite", tmp_path / "none", "--key", access[3], "--order", "1", "--phone", "+86 138 0013 8000"],
        ["verify", "http://127.0.0.1:1"],  # no key
        ["report", "send", *access, "--evidence", "carrier_record"],
        ["nonsense"],
    ]
    for arguments in wrong:
        assert run(*arguments).exit_code == ExitCode.USAGE, arguments


def test_an_outage_exits_4_and_the_report_waits(running: Running, tmp_path: Path) -> None:
    state, suite = tmp_path / "state", running.suite("acme", f"http://127.0.0.1:{free_port()}")
    down: list[object] = ["--suite", suite, "--key", running.key("acme"), "--state-dir", state]
    answer = machine("lookup", *down, "--order", "1", *CONSENTED, *options(person()), code=ExitCode.UNAVAILABLE)
    assert (answer["tier"], answer["credit"], answer["guidance"]) == ("unavailable", None, [])
    assert "normal process" in run("lookup", *down, "--order", "1", *CONSENTED, *options(person())).stdout
    verified = machine("verify", "--suite", suite, "--state", tmp_path / "seen", "--timeout-seconds", 1, code=4)
    assert verified["error"]["code"] == "unavailable"


def test_the_outbox_is_shown_flushed_and_cleared(running: Running, connect: Connect, tmp_path: Path) -> None:
    state = tmp_path / "state-acme"
    down = connect(url=f"http://127.0.0.1:{free_port()}", budget_seconds=0.2, state_dir=state)
    waiting = down.reports.create(connect("bazaar").tag(**person()), **report_arguments())
    access = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", state]
    items = machine("report", "outbox", *access, code=ExitCode.UNAVAILABLE)["items"]
    assert [item["idempotency_key"] for item in items] == [waiting.idempotency_key]
    assert "unavailable" in run("report", "outbox", *access).stdout
    flushed = machine("report", "outbox", *access, "--flush")["results"]
    assert [result["state"] for result in flushed] == ["accepted"]
    assert machine("report", "outbox", *access) == {"items": []}
    assert machine("report", "outbox", *access, "--discard", "no-such", code=ExitCode.REFUSED)["error"]


def test_verify_finds_what_is_false(running: Running, tmp_path: Path) -> None:
    suite, seen = running.suite("acme"), tmp_path / "seen"
    pinned = json.loads(suite.read_text())["log"]
    first = machine("verify", "--suite", suite, "--state", seen)
    assert first["last_seen_size"] is None
    again = machine("verify", running.server.url, "--log-key", pinned["key"], "--state", seen)
    assert again["last_seen_size"] == first["size"]

    other = tmp_path / "other.checkpoint"
    other.write_text(seen.read_text())
    assert machine("verify", "--suite", suite, "--state", seen, "--compare", other)["same_as_other_view_up_to"]
    same = machine("verify", "--suite", suite, "--state", seen, "--compare", running.server.url)
    assert same["same_as_other_view_up_to"] == same["size"]

    forged = sign(Checkpoint(pinned["origin"], 2, b"\x07" * 32), load_log_key(running.settings))
    other.write_text(forged)
    compared = machine("verify", "--suite", suite, "--state", seen, "--compare", other, code=ExitCode.REFUSED)
    assert compared["error"]["code"] == "equivocation"
    seen.write_text(forged)
    assert machine("verify", "--suite", suite, "--state", seen, code=1)["error"]["code"] == "equivocation"
    assert seen.read_text() == forged
    wrong_key = pinned["key"].split("+")[0] + "+" + "00000000+AQ"
    assert run("verify", running.server.url, "--log-key", wrong_key, "--state", seen).exit_code == ExitCode.USAGE


def test_verify_fails_on_one_flipped_bit(running: Running, tmp_path: Path) -> None:
    import httpx2

    resources: dict[str, bytes] = {}

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path not in resources:
            answer = httpx2.get(running.server.url + path)
            resources[path] = answer.content if answer.status_code == 200 else b""
        data = resources[path]
        return (200, {}, data) if data else (404, {}, b"")

    suite = running.suite("acme")
    with answering(respond) as url:
        arguments: list[object] = ["verify", url, "--suite", suite, "--state", tmp_path / "mirror"]
        machine(*arguments)
        for path in [path for path in resources if resources[path]]:
            good = resources[path]
            for place in (0, len(good) // 2, len(good) - 1):
                resources[path] = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
                assert run(*arguments).exit_code in (ExitCode.REFUSED, ExitCode.USAGE), (path, place)
            resources[path] = good
        machine(*arguments)


def test_options_can_come_from_the_environment(
    running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFUND_LEDGER_SUITE", str(running.suite("acme")))
    monkeypatch.setenv("REFUND_LEDGER_KEY", str(running.key("acme")))
    monkeypatch.setenv("REFUND_LEDGER_STATE", str(tmp_path / "state"))
    patient = ("--order", "1", "--timeout-ms", "20000", *CONSENTED)  # the machine may be busy with other tests
    assert machine("lookup", *patient, *options(person()))["tier"] == "clear"
    output.reset()
    before = CliRunner().invoke(app, ["--json", "lookup", *patient, *options(person())])
    assert json.loads(before.stdout)["tier"] == "clear", "--json may stand before the command too"


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("refund-ledger ")
    text = run("--help").stdout
    for name in ("tag", "lookup", "report", "verify", "serve", "platform", "keys", "demo", "replay"):
        assert name in text
