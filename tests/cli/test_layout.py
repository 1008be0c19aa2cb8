"""What commands print for people: ids, keys and dates are whole at every width and in a pipe, and control characters of
other people's names and texts reach no terminal."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from ledger.cli import app, output, tables
from ledger.client import RefundLedger
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.cli.test_appeal_commands import access
from tests.cli.test_commands import options
from tests.counts import trials
from tests.faulty import free_port
from tests.kit import Connect, Running, person, report_arguments
from tests.personas import PNG
from tests.receiver import receiving
from tests.support import CONSENT, ROOT, server_environment

WIDTHS = trials((30, 80), (30, 40, 80, 200))
WHOLE = re.compile(
    r"[a-z]{2}_[A-Za-z0-9]{8,}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|[\w.-]+/log\+[0-9a-f]{8}\+[\w+/=]+|[0-9a-f]{64}|"
    r"[a-z]+-[A-Za-z0-9_-]{24}|[A-Za-z0-9_-]{43}"
)
"""Ids, times, verifier keys, picture hashes, idempotency keys, tags."""


def printed(words: list[object], columns: int | None, environment: dict[str, str]) -> str:
    """What the command prints on a terminal so wide, or into a pipe (None)."""
    output.reset()
    terminal = {"COLUMNS": "20"} if columns is None else {"COLUMNS": str(columns), "TTY_COMPATIBLE": "1"}
    result = CliRunner().invoke(app, [str(word) for word in words], env={**environment, **terminal, "NO_COLOR": "1"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)


def strings(value: Any) -> Iterator[str]:
    """All strings of a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)
    elif isinstance(value, str):
        yield value


def check(words: list[object], least: int, environment: dict[str, str] | None = None) -> None:
    """Check that at every width each id, time and key of the JSON is in one line or absent, and at least `least` are
    shown."""
    environment = environment or {}
    output.reset()
    machine = CliRunner().invoke(app, [*[str(word) for word in words], "--json"], env=environment).stdout
    known = {identifier for text in strings(json.loads(machine)) for identifier in WHOLE.findall(text)}
    for columns in (None, *WIDTHS):
        text = printed(words, columns, environment)
        shown = {identifier for identifier in known if any(identifier in line for line in text.splitlines())}
        shown |= set(WHOLE.findall(text))  # the same command a second later has another time in it
        assert len(shown) >= least, (words, known, text)
        rest = text
        for identifier in sorted(shown, key=len, reverse=True):
            rest = rest.replace(identifier, "")
        for identifier in known:
            assert identifier[:7] not in rest, (words, columns, identifier, text)
        assert "…" not in text, (words, columns, text)


def test_what_platforms_are_shown(running: Running, connect: Connect, reviewers: Context, tmp_path: Path) -> None:
    acme, who = connect("acme"), person()
    report = acme.reports.create(acme.tag(**who), **report_arguments()).report
    assert report is not None
    reporter, filer = access(running, "acme", tmp_path), access(running, "bazaar", tmp_path)
    filing = ["--report", report.id, "--grounds", "wrong_facts", "--text", "I sent it back, twice.", *options(who)]
    text = printed(["appeal", "file", *filer, *filing], 40, {})
    case = re.search(r"ap_[A-Za-z0-9]+", text)
    assert case is not None
    anna = Staff(1, "reviewer")
    staff_actions.take(reviewers, case[0], anna)
    staff_actions.ask_reporter(reviewers, case[0], anna, "Please send the record of the carrier.")
    check(["appeal", "list", *reporter, "--limit", 1], 3)
    check(["appeal", "show", case[0], *reporter, "--party", "reporter"], 3)
    check(["report", "list", *reporter, "--limit", 2], 3)
    check(["report", "show", report.id, *reporter], 3)
    check(["tag", *reporter, *options(who)], 2)
    check(["lookup", *reporter, "--timeout-ms", "20000", "--order", "L-1", "--consent-ref", CONSENT, *options(who)], 1)
    with receiving() as receiver:
        endpoint = acme.webhooks.create(receiver.url, ["appeal.opened"])
        acme.webhooks.send_test(endpoint.id)
        check(["webhook", "list", *reporter], 1)
        check(["webhook", "deliveries", endpoint.id, *reporter], 1)
        acme.webhooks.delete(endpoint.id)
    suite, key, state = running.suite("acme", f"http://127.0.0.1:{free_port()}"), running.key("acme"), tmp_path / "off"
    with RefundLedger(suite, key, state_dir=state, budget_seconds=0.1) as waiting:
        waiting.reports.withdraw("rp_abcdefgh", "wrong_facts")
    check(["report", "outbox", "--suite", suite, "--key", key, "--state-dir", state], 2)


def test_what_operators_are_shown(running: Running) -> None:
    environment = {**os.environ, **server_environment(running.settings)}
    printed(["staff", "add", "layout-tester", "--role", "auditor"], 40, environment)
    for words, least in (
        (["keys", "show"], 2),
        (["platform", "list"], 0),
        (["staff", "list"], 0),
        (["rotate", "--status"], 0),
        (["platform", "budget", "acme"], 0),
        (["platform", "former-labels"], 0),
        (["pictures", "benign", "list"], 0),
    ):
        check([*words], least, environment)
    names = printed(["platform", "list"], 40, environment)
    assert all(name in names for name in ("acme-1", "corner-1", "bazaar-1", "asker-1"))


def test_the_verifier_key_alone_is_what_verify_takes(running: Running, tmp_path: Path) -> None:
    environment = {**os.environ, **server_environment(running.settings)}
    for columns in (None, 40):
        (line,) = printed(["keys", "show", "--log-key"], columns, environment).splitlines()
        assert line.startswith(f"{running.settings.origin}+")
        said = printed(["verify", running.server.url, "--log-key", line, "--state", tmp_path / "seen"], 80, environment)
        assert "verified" in said.lower() or "entries" in said


IDS = st.text("abcdefXYZ0123456789_-", min_size=1, max_size=45)
SENTENCES = st.lists(st.text("abc中文", min_size=1, max_size=6), min_size=2, max_size=8).map(" ".join)


@settings(max_examples=trials(24, 40))
@given(
    rows=st.integers(1, 4).flatmap(
        lambda columns: st.lists(
            st.tuples(*[IDS if number % 2 == 0 else SENTENCES for number in range(columns)]), min_size=1, max_size=4
        )
    ),
    width=st.integers(24, 120),
)
def test_no_table_cuts_or_breaks_an_id(rows: list[tuple[str, ...]], width: int) -> None:
    table = tables.Table(*[f"column number {number}" for number in range(len(rows[0]))])
    for row in rows:
        table.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, no_color=True, highlight=False).print(table, crop=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "…" not in text
    for line in text.splitlines():
        assert cell_len(line.rstrip()) <= width or line.split()[-1] in {item for row in rows for item in row[::2]}
    for row in rows:
        for number, cell in enumerate(row):
            if number % 2 == 0:
                assert any(cell in line for line in text.splitlines()), (cell, text)
            else:
                assert all(word in text for word in cell.split() if word.isascii()), (cell, text)


def test_there_is_one_kind_of_table() -> None:
    for path in (ROOT / "ledger").rglob("*.py"):
        if path.name != "tables.py":
            assert "rich.table" not in path.read_text(encoding="utf-8"), path


# --- control characters -----------------------------------------------------------------------------------------------

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202egnp.exe"


@given(text=st.text(st.characters(max_codepoint=0x2FFF)))
def test_what_is_printed_holds_no_control_characters(text: str) -> None:
    shown = tables.visible(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    if text.isprintable() and text.isascii():
        assert shown == text
    shown.encode()


@pytest.mark.parametrize("name", [HOSTILE.replace("/", "_") + ".png", os.fsdecode(b"\xff\xfe-\xe4.png")])
def test_a_file_name_reaches_no_terminal_as_it_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(PNG)
    listing = tmp_path / ("l" + name)
    listing.write_bytes(PNG)
    for first, *more in ([file], [file, "--listing", listing], [tmp_path / f"none{name}"]):
        words = ["inspect", first, *more]
        output.reset()
        result = CliRunner().invoke(app, [str(word) for word in words], env={"TTY_COMPATIBLE": "1", "NO_COLOR": "1"})
        shown = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown), ascii(shown)
        output.reset()
        machine = CliRunner().invoke(app, [*[str(word) for word in words], "--json"])
        value = json.loads(machine.stdout_bytes.decode("utf-8"))
        assert value["files"][0]["file"] == os.path.basename(str(first))
