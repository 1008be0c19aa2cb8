"""`appeal` and `record-link` against a running ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import TextOptions
from ledger.client import evidence
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.cli.test_commands import machine, options, run
from tests.kit import Connect, Running, person, report_arguments

ANNA = Staff(1, "reviewer")


def access(running: Running, name: str, folder: Path) -> list[object]:
    return ["--suite", running.suite(name), "--key", running.key(name), "--state-dir", folder / f"state-{name}"]


def test_a_case_by_commands(running: Running, connect: Connect, reviewers: Context, tmp_path: Path) -> None:
    acme, who = connect("acme"), person()
    proof = tmp_path / "record.txt"
    proof.write_text(f"Never seen: {who['phone'][-4:]}.\n")
    reported = [evidence("carrier_record", sha256=hashlib.sha256(proof.read_bytes()).digest())]
    report = acme.reports.create(acme.tag(**who), **report_arguments(evidence=reported)).report
    assert report is not None
    reporter, filer = access(running, "acme", tmp_path), access(running, "bazaar", tmp_path)

    filing = ["--report", report.id, "--grounds", "wrong_facts", "--text-file", "-", *options(who)]
    filed = machine("appeal", "file", *filer, *filing, stdin="I sent it back.")["appeals"][0]
    case = filed["id"]
    assert (filed["report"], filed["state"]) == (report.id, "submitted")
    again = machine("appeal", "file", *filer, *filing, stdin="Again.", code=ExitCode.REFUSED)
    assert again["error"]["code"] == "case_exists"
    assert case in [appeal["id"] for appeal in machine("appeal", "list", *filer, "--role", "filed")["appeals"]]
    assert machine("report", "show", report.id, *reporter)["appeal"]["id"] == case
    shown = run("report", "show", report.id, *reporter)
    assert f"{case} submitted" in " ".join(shown.stdout.split())

    staff_actions.take(reviewers, case, ANNA)
    staff_actions.ask_reporter(reviewers, case, ANNA, "Please send the record.")
    readable = run("appeal", "show", case, *reporter)
    assert readable.exit_code == 0, readable.output
    assert "Please send the record." in readable.stdout
    kept = machine("appeal", "attach", case, proof, *reporter, "--party", "reporter", "--evidence-index", "0")
    assert (kept["name"], kept["evidence_index"]) == ("record.txt", 0)
    wrong = tmp_path / "other.txt"
    wrong.write_text("Something else.\n")
    refused = machine("appeal", "attach", case, wrong, *reporter, "--party", "reporter", code=ExitCode.USAGE)
    assert refused["error"]["details"]["reason"] == "digest_mismatch"
    said = machine("appeal", "answer", case, *reporter, "--party", "reporter", "--text", "Attached.")
    assert (said["state"], said["timeline"][-1]["text"]) == ("under_review", "Attached.")

    staff_actions.decide(reviewers, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    assert machine("appeal", "letter", case, *filer) == {"letters": ["received", "decided"], "earlier": []}
    letter = run("appeal", "letter", case, "decided", *filer, "--locale", "en")
    assert "It cannot be shown." in letter.stdout
    assert machine("appeal", "reopen", case, *filer, "--text", "There is more.")["round"] == 2
    assert machine("appeal", "withdraw", case, *filer)["state"] == "withdrawn"
    assert machine("appeal", "withdraw", case, *filer, code=ExitCode.REFUSED)["error"]["code"] == "action_refused"
    assert machine("appeal", "show", "ap_abcdefgh", *filer, code=ExitCode.REFUSED)["error"]["code"] == "not_found"


def test_a_text_is_given_once(running: Running, tmp_path: Path) -> None:
    arguments = ["appeal", "reopen", "ap_abcdefgh", *access(running, "bazaar", tmp_path)]
    assert machine(*arguments, code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    both = machine(*arguments, "--text", "x", "--text-file", "-", code=ExitCode.USAGE)
    assert both["error"]["code"] == "invalid_request"
    missing = machine(*arguments, "--text-file", tmp_path / "none.txt", code=ExitCode.USAGE)
    assert missing["error"]["code"] == "configuration_error"


@pytest.mark.parametrize("source", ["file", "-"])
def test_a_text_file_of_another_encoding_is_refused_by_name(running: Running, tmp_path: Path, source: str) -> None:
    path = tmp_path / "answer.txt"
    path.write_bytes("我没有收到。".encode("gbk"))
    arguments = ["appeal", "reopen", "ap_abcdefgh", *access(running, "bazaar", tmp_path)]
    given = {"stdin": path.read_bytes()} if source == "-" else {}
    refused = machine(*arguments, "--text-file", path if source == "file" else "-", code=ExitCode.USAGE, **given)
    assert refused["error"]["code"] == "configuration_error"
    assert "not UTF-8 text (byte 1)" in refused["error"]["message"]
    assert "GBK" in refused["error"]["message"]


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    path.write_text("It came broken.", encoding="utf-8-sig")
    assert TextOptions(None, path).read() == "It came broken."


def test_a_link_is_printed_whole(running: Running, tmp_path: Path) -> None:
    filer = access(running, "bazaar", tmp_path)
    link = machine("record-link", *filer, *options(person()))
    assert link["url"].startswith(f"{running.server.url}/me#")
    printed = run("record-link", *filer, *options(person()), "--locale", "zh-CN")
    assert printed.stdout.startswith(f"{running.server.url}/me#")
    assert printed.stdout.count("\n") == 1
