"""`referral` against a running ledger, and the checks of its folder exactly as they are stated."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pypdfium2  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.cli.exit_codes import ExitCode
from ledger.client import RefundLedger, claim_upload, evidence, inspected_evidence
from ledger.errors import AlreadyExists, InvalidRequest
from ledger.referral import bundle
from ledger.referral.bundle import refer
from ledger.referral.checks import PLATFORM_KEY_FILE, check_commands, evidence_command
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.cli.test_appeal_commands import access
from tests.cli.test_commands import machine, run
from tests.evidence import files
from tests.evidence.files import LABEL
from tests.kit import Connect, Running, person, report_arguments
from tests.referral.fonts import quick_font, reduced_font, whole_font
from tests.support import ROOT

__all__ = ["quick_font", "reduced_font", "whole_font"]

ANNA = Staff(1, "reviewer")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A labelled picture, with its inspection as `inspect --json` prints it beside it."""
    path = tmp_path / "claim.png"
    path.write_bytes(files.png(files.text_chunk("AIGC", LABEL.encode()), files.text_chunk("x", secrets.token_bytes(8))))
    path.with_suffix(".json").write_text(json.dumps(machine("inspect", path)))
    return path


def reported(acme: RefundLedger, order: str, photo: Path | None = None, **changes: Any) -> str:
    """The id of a report, about an AI-made photo if there is one."""
    if photo is not None:
        changes["conduct"] = "ai_fabricated_image"
        changes["evidence"] = [
            evidence("original_file", file=photo, origin=claim_upload(datetime(2024, 1, 1, tzinfo=UTC))),
            inspected_evidence("ai_label", photo),
            evidence("physical_contradiction", sha256=secrets.token_bytes(32)),
            evidence("live_reshoot_failed", sha256=secrets.token_bytes(32)),
        ]
    sent = acme.reports.create(acme.tag(**person()), **report_arguments(order=order, **changes)).report
    assert sent is not None
    return sent.id


def shell(folder: Path, command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a recipient would, where `refund-ledger` is on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "refund-ledger"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ledger "$@"\n')
    program.chmod(0o755)
    surroundings = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "http_proxy": ""}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )


def changed(path: Path, place: int) -> bytes:
    """Flip a bit of the file, and return what it was."""
    before = path.read_bytes()
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    return before


@pytest.mark.usefixtures("whole_font")
def test_a_referral_to_an_authority_is_checked_by_the_stated_commands(
    running: Running, connect: Connect, photo: Path, tmp_path: Path
) -> None:
    acme, order, out = connect("acme"), secrets.token_hex(6), tmp_path / "referral"
    first = reported(acme, order, photo, outcome="refund_suffered")
    second = reported(acme, secrets.token_hex(6), amount_minor=4200, currency="JPY")
    arguments = [first, second, *access(running, "acme", tmp_path), "--for", "authority", "--lang", "zh-CN"]
    options = ["--inspection", photo.with_suffix(".json"), "--order", f"{first}={order}", "--out", out]
    answer = machine("referral", *arguments, *options)
    assert answer == {"folder": str(out), "for": "authority", "reports": 2, "not_simply_standing": []}

    value = json.loads((out / "referral.json").read_bytes())
    assert [report["id"] for report in value["reports"]] == [first, second]
    assert value["reports"][0]["order"] == order
    assert value["reports"][0]["inspections"][0]["findings"][0]["facts"]["produce_id"] == "p-1"
    assert [(loss["currency"], loss["loss_minor"]) for loss in value["losses"]] == [("CNY", 12_900), ("JPY", 0)]
    text = "".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(out / "referral.pdf"))
    assert order in text
    assert all(part in text for part in check_commands(True)[1].split(" \\\n  "))

    sums, receipts = check_commands(True)
    stated = re.search(r"these very lines:\n\n```sh\n(.*?)```", (ROOT / "docs" / "referral.md").read_text(), re.DOTALL)
    assert stated is not None
    assert stated[1] == f"{sums}\n{receipts}\n"
    for command in (sums, receipts):
        done = shell(out, command, tmp_path)
        assert done.returncode == 0, done.stderr
    opened = machine(
        "verify", "--offline", "--suite", running.suite("acme"),
        "--platform-key", out / "platform-key.pem", "--receipt", out / "receipts",
    )  # fmt: skip
    amounts = {receipt["id"]: receipt["body"]["amount_minor"] for receipt in opened["receipts"]}
    assert amounts == {first: 12_900, second: 4_200}
    printed = shell(out, evidence_command().replace("FILE", str(photo)), tmp_path).stdout.split()[0]
    assert printed in [item["sha256"] for item in value["reports"][0]["evidence"]]

    receipt = out / "receipts" / f"{first}.txt"
    before = changed(receipt, 700)
    assert [shell(out, command, tmp_path).returncode for command in (sums, receipts)] == [1, ExitCode.REFUSED]
    receipt.write_bytes(before)
    before = changed(out / "referral.pdf", 100)
    assert shell(out, sums, tmp_path).returncode == 1
    (out / "referral.pdf").write_bytes(before)
    other = connect("bazaar").public_keys[0].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (out / "platform-key.pem").write_bytes(other)
    assert shell(out, receipts, tmp_path).returncode == ExitCode.REFUSED


def test_without_our_software_a_receipt_is_checked_by_the_program_on_the_page(connect: Connect, tmp_path: Path) -> None:
    acme, out = connect("acme"), tmp_path / "referral"
    reports = [reported(acme, secrets.token_hex(6)) for _ in range(3)]
    refer(acme, reports, out, audience="merchant")
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "referral.md").read_text(), re.DOTALL)
    assert "ledger" not in re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)
    (tmp_path / "check.py").write_text(program)
    key = (out / "log-key.txt").read_text().strip()

    def check(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "check.py"), key, str(path)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    for report in reports:
        done = check(out / "receipts" / f"{report}.txt")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["id"] == report
    receipt = out / "receipts" / f"{reports[0]}.txt"
    for place in (60, 700, len(receipt.read_bytes()) - 20):
        before = changed(receipt, place)
        assert check(receipt).returncode != 0, place
        receipt.write_bytes(before)


def test_an_ai_provider_gets_sealed_receipts_that_verify(
    running: Running, connect: Connect, photo: Path, tmp_path: Path
) -> None:
    acme, out = connect("acme"), tmp_path / "referral"
    report = reported(acme, secrets.token_hex(6), photo)
    inspection = photo.with_suffix(".json")
    arguments = [report, *access(running, "acme", tmp_path), "--for", "ai-provider", "--inspection", inspection]
    machine("referral", *arguments, "--out", out)
    assert not (out / "platform-key.pem").exists()
    done = shell(out, check_commands(False)[1] + " --json", tmp_path)
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)["receipts"]
    assert answer["opened"] is False
    assert "body" not in answer
    receipt = out / "receipts" / f"{report}.txt"
    changed(receipt, 60)
    sealed = ["--suite", running.suite("acme"), "--receipt", out / "receipts"]
    assert run("verify", "--offline", *sealed).exit_code != 0
    ordered = machine("referral", *arguments, "--order", f"{report}=x", "--out", tmp_path / "b", code=ExitCode.USAGE)
    assert ordered["error"]["code"] == "invalid_request"


def test_a_contested_report_goes_with_what_the_person_said(
    running: Running, connect: Connect, reviewers: Context, tmp_path: Path
) -> None:
    acme, bazaar, who = connect("acme"), connect("bazaar"), person()
    sent = acme.reports.create(acme.tag(**who), **report_arguments()).report
    assert sent is not None
    [case] = bazaar.appeals.open([sent.id], "wrong_facts", "I sent it back on Monday.", buyer=bazaar.tag(**who))
    referral = refer(acme, [sent.id], tmp_path / "contested", audience="authority")
    assert referral.reports[0].status == "disputed"
    value = json.loads((tmp_path / "contested" / "referral.json").read_bytes())
    assert [(text["by"], text["text"]) for text in value["reports"][0]["appeal"]["said"]] == [
        ("person", "I sent it back on Monday.")
    ]
    assert "bazaar" not in json.dumps(value)

    staff_actions.take(reviewers, case.id, ANNA)
    staff_actions.decide(reviewers, case.id, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    machine("referral", sent.id, *access(running, "acme", tmp_path), "--for", "merchant", "--out", tmp_path / "kept")
    text = (tmp_path / "kept" / "referral.json").read_text()
    assert '"status":"unconfirmed"' in text
    assert '"contested_count":1' in text
    assert "It cannot be shown." in text


def test_what_no_longer_stands_is_refused_and_nothing_is_written(
    running: Running, connect: Connect, photo: Path, tmp_path: Path
) -> None:
    acme, out = connect("acme"), tmp_path / "referral"
    order = secrets.token_hex(6)
    gone, stands = reported(acme, secrets.token_hex(6)), reported(acme, order)
    acme.reports.withdraw(gone, "wrong_facts")
    common = [*access(running, "acme", tmp_path), "--for", "merchant", "--out", out]
    before = sorted(path.name for path in tmp_path.iterdir())
    refused = machine("referral", stands, gone, *common, code=ExitCode.REFUSED)["error"]
    assert refused["code"] == "report_not_referable"
    assert refused["details"] == {"report": gone, "status": "withdrawn"}
    foreign = reported(connect("bazaar"), secrets.token_hex(6))
    wrong: list[tuple[list[object], ExitCode, str]] = [
        ([stands, "--inspection", photo.with_suffix(".json")], ExitCode.USAGE, "inspection_mismatch"),
        ([stands, "--inspection", photo], ExitCode.USAGE, "configuration_error"),
        ([stands, "--order", f"{stands}=another"], ExitCode.USAGE, "invalid_request"),
        ([stands, "--order", "another"], ExitCode.USAGE, "invalid_request"),
        ([stands, "--order", f"{gone}={order}"], ExitCode.USAGE, "invalid_request"),
        ([stands, stands], ExitCode.USAGE, "invalid_request"),
        (["../x"], ExitCode.USAGE, "invalid_request"),
        ([stands, "--lang", "fr"], ExitCode.USAGE, "invalid_request"),
        ([foreign], ExitCode.REFUSED, "not_found"),
        (["rp_abcdefgh"], ExitCode.REFUSED, "not_found"),
    ]
    for arguments, code, name in wrong:
        assert machine("referral", *arguments, *common, code=code)["error"]["code"] == name, arguments
    other = [*common[:-3], "--for", "police", "--out", out]
    assert machine("referral", stands, *other, code=ExitCode.USAGE)["error"]["code"] == "invalid_request"
    assert not out.exists()
    left = {path.name for path in tmp_path.iterdir()} - set(before)
    assert left <= {"state-acme", "state-bazaar"}
    out.mkdir()
    assert machine("referral", stands, *common, code=ExitCode.REFUSED)["error"]["code"] == "already_exists"


@pytest.mark.usefixtures("whole_font")
def test_the_same_referral_gives_the_same_bytes(connect: Connect, tmp_path: Path) -> None:
    """Of one referral: asked for again a moment later, the log may have grown, and the receipt with it."""
    acme, now = connect("acme"), datetime.now(UTC) + timedelta(seconds=1)
    report, folder = reported(acme, secrets.token_hex(6)), tmp_path / "one"
    referral = refer(acme, [report], folder, audience="authority", locale="zh-CN", now=now)
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert bundle.bundle(referral, "zh-CN", written[PLATFORM_KEY_FILE]) == written
    with pytest.raises(AlreadyExists):
        refer(acme, [report], tmp_path / "one", audience="authority")
    with pytest.raises(InvalidRequest):
        refer(acme, [], tmp_path / "three", audience="authority")


def test_without_the_extra_it_names_it(running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "_NEEDED", ("fpdf", "no_such_package"))
    missing = run("referral", "rp_abcdefgh", *access(running, "acme", tmp_path), "--for", "merchant", "--out", "x")
    assert missing.exit_code == ExitCode.EXTRA_MISSING
    assert "refund-credit-ledger[referral]" in missing.output
    assert "no_such_package" in missing.output


def test_the_command_is_there_without_the_extra_and_without_the_server() -> None:
    program = (
        "import sys, ledger.referral.document\n"
        "assert not {'sqlalchemy', 'fastapi'} & sys.modules.keys()\n"
        "from tests.cli.lacking import lack\n"
        "lack(['fpdf', 'babel', 'PIL', 'sqlalchemy', 'fastapi'])\n"
        "import ledger.cli, ledger.referral.bundle\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_offline_verification_needs_a_key_and_receipts(running: Running, tmp_path: Path) -> None:
    suite = running.suite("acme")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.pem").write_text("no key")
    (tmp_path / "receipt.txt").write_text("no receipt")
    receipt = ["--receipt", tmp_path / "receipt.txt"]
    wrong: list[tuple[list[object], str]] = [
        (["--suite", suite], "invalid_request"),
        (receipt, "invalid_request"),
        (["--suite", suite, "--receipt", tmp_path / "empty"], "invalid_request"),
        (["--suite", suite, "--receipt", tmp_path / "none"], "configuration_error"),
        (["--suite", suite, *receipt, "--platform-key", tmp_path / "bad.pem"], "configuration_error"),
    ]
    for arguments, name in wrong:
        assert machine("verify", "--offline", *arguments, code=ExitCode.USAGE)["error"]["code"] == name, arguments
    refused = machine("verify", "--offline", "--suite", suite, *receipt, code=ExitCode.REFUSED)["error"]
    assert (refused["code"], refused["details"]) == ("invalid_receipt", {"receipt": "receipt.txt"})
