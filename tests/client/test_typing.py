"""Programs of users pass a strict type checker: those of the pages, and one for each kind of argument."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ledger import client
from tests.support import ROOT

OLD_AND_NEW_NAMES = """
from datetime import UTC, datetime

from ledger.client import Buyer, Lookup, RefundLedger, evidence


def run(ledger: RefundLedger) -> list[str]:
    buyer: Buyer = ledger.tag(phone="+86 138 0013 8000")
    same: Buyer = ledger.subject(phone="+86 138 0013 8000", region="CN")
    standing: Lookup = ledger.lookup(buyer, order="A-1")
    now = datetime.now(UTC)
    for create in (ledger.reports.create, ledger.report):
        result = create(
            same, conduct="empty_parcel", evidence=[evidence("admission", sha256=bytes(32))], order="A-1",
            amount_minor=1, currency="CNY", outcome="refund_refused", act_ended_at=now, notice_sent_at=now,
            notice_ref="n", decided_by="a",
        )
        assert result.report is not None
        print(result.report.entry_index + 1)
    number: int = ledger.discard_refused()
    waiting = [item.idempotency_key for item in [*ledger.outbox(), *ledger.outbox.list("pending")]]
    return [standing.tier, str(number), *waiting, *ledger.letters("ap_1"), ledger.letter("ap_1", "received").text]
"""
WRONG_ARGUMENTS_OF_OLD_NAMES = """
from ledger.client import RefundLedger


def run(ledger: RefundLedger) -> None:
    ledger.withdraw(1, "other")  # wrong
    ledger.get_report("rp_1", 2)  # wrong
    ledger.outbox("gone")  # wrong
    number: str = ledger.discard_refused()  # wrong
"""
HELPERS = """
from datetime import datetime

from ledger.client import (
    Appeals, AppealGrounds, AppealState, Buyer, Canonical, CheckPolicy, DeliveryState, EarlierLetter, Evidence, Item,
    ItemState, OutboxQueue, Pictures, Query, Refund, RefundLedger, ReportArguments, Reports, Webhooks, WebhookEndpoint,
    issuer_answer,
)
from ledger.rules.appeals import CaseState, Grounds
from ledger.rules.guidance import Claim
from ledger.rules.provenance import Verdict
from ledger.rules.reports import RefundOutcome
from ledger.tlog.entries import WithdrawalReason


def arguments(items: list[Evidence], now: datetime) -> ReportArguments:
    return {
        "conduct": "empty_parcel", "evidence": items, "order": "A-1", "amount_minor": 1, "currency": "CNY",
        "outcome": RefundOutcome.REFUND_REFUSED, "act_ended_at": now, "notice_sent_at": now, "notice_ref": "n",
        "decided_by": "a", "idempotency_key": "job-1",
    }


def send(reports: Reports, buyer: Buyer, items: list[Evidence], now: datetime) -> list[DeliveryState]:
    reports.validate({"phone": "138"}, region="CN", **arguments(items, now))
    reports.withdraw("rp_1", WithdrawalReason.DUPLICATE)
    return [result.state for result in reports.create_many([(buyer, arguments(items, now))])]


def contest(appeals: Appeals, grounds: AppealGrounds) -> tuple[EarlierLetter, ...]:
    appeals.open(["rp_1"], Grounds.NOT_ME, "text")
    (case,) = appeals.open(["rp_1"], grounds, "text")
    states: tuple[AppealState, ...] = ("decided", CaseState.CLOSED)
    for state in states:
        appeals.list(role="filed", state=state)
    return appeals.list_earlier_letters(case.id)


def waiting(outbox: OutboxQueue, state: ItemState) -> list[Item]:
    return outbox.list(state)


def secret(webhooks: Webhooks) -> str:
    made: WebhookEndpoint = webhooks.create("https://hooks.example", ["report.voided"])
    return made.secret or webhooks.rotate_secret(made.id).secret


def search(ledger: RefundLedger, pictures: Pictures, people: list[Canonical], policy: CheckPolicy) -> Query:
    pictures.for_report("rp_1")
    (buyer,) = ledger.tag_canonical(people)
    ledger.check(buyer, policy=policy)
    issuer_answer("Provider", datetime.now(), Verdict.EDITED, bytes(32))
    return Query(buyer, "A-1", Refund(1, "CNY", Claim.DAMAGED), purpose="appeal")
"""
WRONG_VALUES = """
from ledger.client import Query, Refund, RefundLedger, ReportArguments, Buyer
from ledger.tlog.entries import WithdrawalReason


def run(ledger: RefundLedger, buyer: Buyer) -> None:
    ledger.lookup(buyer, order="A-1", purpose="curiosity")  # wrong
    Query(buyer, "A-1", purpose="refund")  # wrong
    Refund(1, "CNY", "boredom")  # wrong
    ledger.reports.withdraw("rp_1", "wrong-person")  # wrong
    ledger.reports.withdraw("rp_1", WithdrawalReason.NOT_RELEASED)  # wrong
    ledger.reports.validate(buyer, amount=1)  # wrong
    ledger.appeals.open(["rp_1"], "not_mine", "text")  # wrong
    ledger.appeals.list(role="reporter")  # wrong
    ledger.appeals.list(state="open")  # wrong
    ledger.appeals.answer("ap_1", "buyer", "text")  # wrong
    ledger.appeals.get_letter("ap_1", "reminder")  # wrong
    arguments: ReportArguments = {"conduct": "empty_parcel"}  # wrong
    ledger.webhooks.get("we_1").secret.strip()  # wrong
"""
GIVEN_BY_THE_READER = """
from collections.abc import Mapping
from datetime import datetime


class Request:
    headers: Mapping[str, str]
    body: bytes


request = Request()
received_at = answered_at = datetime.now()
evidence_sha256 = bytes(32)


def keep(secret: str) -> None: ...
def look_closer(reports: int, platforms: int) -> None: ...


"""
"""What the examples of docs/sdk.md use and leave to the reader: a web request, times, functions."""


def blocks(page: str) -> str:
    """Return the Python of a page as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL))


PROGRAMS = {
    "old_and_new_names": OLD_AND_NEW_NAMES,
    "wrong_arguments_of_old_names": WRONG_ARGUMENTS_OF_OLD_NAMES,
    "helpers": HELPERS,
    "wrong_values": WRONG_VALUES,
    "page_sdk": GIVEN_BY_THE_READER + blocks("docs/sdk.md"),
    "page_readme": blocks("README.md"),
    "page_readme_zh_cn": blocks("README.zh-CN.md"),
}


def reported_errors(folder: Path) -> Mapping[str, list[str]]:
    """Return the errors that mypy reports in its strict mode, for each program: one run for all of them."""
    for name, text in PROGRAMS.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--follow-imports", "silent"]
    finished = subprocess.run(
        [*command, "--cache-dir", str(folder / "cache"), *[str(folder / f"{name}.py") for name in PROGRAMS]],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert f"(checked {len(PROGRAMS)} source files)" in finished.stdout, finished.stdout + finished.stderr
    errors: dict[str, list[str]] = {name: [] for name in PROGRAMS}
    for line in finished.stdout.splitlines():
        path, _, rest = line.partition(":")
        if ": error:" in line:
            errors[Path(path).stem].append(rest)
    return errors


@pytest.mark.checks_code
def test_right_programs_have_no_error_and_each_wrong_line_has_one(tmp_path: Path) -> None:
    """One test, so that one process of a test run starts mypy."""
    for name, errors in reported_errors(tmp_path).items():
        lines = PROGRAMS[name].splitlines()
        assert lines
        wrong = [str(number) for number, line in enumerate(lines, 1) if line.endswith("# wrong")]
        assert bool(wrong) == name.startswith("wrong")
        assert [error.split(":")[0] for error in errors] == wrong, errors


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.startswith("page")])
def test_every_import_of_a_page_exists_at_run_time(name: str) -> None:
    imports = [node for node in ast.walk(ast.parse(PROGRAMS[name])) if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "ledger.client" for node in imports)
    for node in imports:
        assert node.module is not None
        module = importlib.import_module(node.module)
        assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_what_the_sdk_exports_is_sorted_and_exists() -> None:
    names = client.__all__
    assert sorted(set(names), key=lambda name: (name[0].islower(), name)) == names
    assert [name for name in names if not hasattr(client, name)] == []
