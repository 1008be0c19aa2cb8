"""`report send --file`: JSON and tables, item by item, with errors that say which, and idempotency keys."""

from __future__ import annotations

import csv
import io
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import Result

from ledger.cli.exit_codes import ExitCode
from ledger.client import Buyer, RefundLedger, buyers
from ledger.client.reports.building import arguments_from_json
from ledger.client.reports.evidence import evidence_from_json
from ledger.client.tables import report_files
from ledger.client.tables.reader import TableFormat
from ledger.client.tables.report_files import read_report_file
from ledger.errors import (
    ConfigurationError,
    EvidenceInvalid,
    InvalidPhone,
    InvalidReport,
    InvalidRequest,
    InvalidTable,
    InvalidTime,
    OrderAlreadyReported,
    Unavailable,
)
from ledger.protocol.encoding import format_time
from tests.cli.test_commands import machine, report_json, run
from tests.counts import trials
from tests.faulty import free_port, proxy
from tests.kit import Connect, Running, person, report_arguments


@pytest.fixture
def access(running: Running, tmp_path: Path) -> list[object]:
    return ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "state"]


def written(path: Path, *reports: dict[str, Any], encoding: str = "utf-8") -> Path:
    path.write_text(json.dumps(list(reports), ensure_ascii=False), encoding=encoding)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True))


def test_one_bad_report_is_refused_alone_and_named(access: list[object], tmp_path: Path) -> None:
    bad = [
        (report_json({"phone": "138 0013 8000"}), "invalid_phone"),
        (report_json(person(), amont=1), "invalid_report"),
        (report_json(person(), act_ended_at="yesterday"), "invalid_time"),
        (report_json(person(), conduct="none"), "unknown_conduct"),
        (report_json(person(), order=1001), "invalid_report"),
        (report_json(person(), idempotency_key="订单-1"), "invalid_request"),
        (report_json(person(), evidence=[{"type": "carrier_record", "file": "a\0b"}]), "evidence_invalid"),
        ({"order": "no-buyer"}, "invalid_report"),
    ]
    file = written(
        tmp_path / "reports.json", report_json(person()), *[report for report, _ in bad], report_json(person())
    )
    errors = tmp_path / "errors.csv"
    answer = machine("report", "send", *access, "--file", file, "--errors", errors, code=ExitCode.REFUSED)["results"]
    assert [item["state"] for item in answer] == ["accepted", *["refused"] * len(bad), "accepted"]
    assert [item["index"] for item in answer] == list(range(1, len(bad) + 3))
    assert [item["error"]["code"] for item in answer[1:-1]] == [code for _, code in bad]
    given = [report["order"] if isinstance(report["order"], str) else None for report, _ in bad]
    assert [item["order"] for item in answer[1:-1]] == given
    assert "amont" in answer[2]["error"]["message"]
    assert answer[2]["error"]["details"] == {"unknown": ["amont"], "missing": []}
    assert "act_ended_at" in answer[3]["error"]["message"]
    assert answer[4]["error"]["details"]["known"]
    listed = rows(errors)
    assert [(row["index"], row["order"], row["code"]) for row in listed] == [
        (str(number), order or "", code) for number, order, (_, code) in zip(range(2, 10), given, bad, strict=True)
    ]
    assert errors.stat().st_mode & 0o777 == 0o600
    assert "138 0013" not in errors.read_text() + json.dumps(answer)

    mended = written(tmp_path / "mended.json", report_json(person()), report_json(person()))
    fine = machine("report", "send", *access, "--file", mended, "--errors", errors)["results"]
    assert [result["state"] for result in fine] == ["accepted", "accepted"]
    assert rows(errors) == []
    precious = tmp_path / "precious"
    precious.write_text("dear diary")
    machine("report", "send", *access, "--file", mended, "--errors", precious, code=ExitCode.USAGE)
    assert precious.read_text() == "dear diary"


def test_people_see_which_order_was_refused(access: list[object], tmp_path: Path) -> None:
    report = report_json(person(), order="A-1001")
    file = written(tmp_path / "reports.json", report, {**report, "evidence": []})
    output = run("report", "send", *access, "--file", file)
    assert output.exit_code == ExitCode.REFUSED
    words = " ".join(output.stdout.split())
    assert "A-1001" in words
    assert "…" not in words
    changed = written(tmp_path / "changed.json", {**report, "decided_by": "agent-2"}, report)
    again = machine("report", "send", *access, "--file", changed, code=ExitCode.REFUSED)["results"]
    assert again[0]["error"]["code"] == "order_already_reported"
    assert again[0]["error"]["details"]["report"] == again[1]["report"]["id"], "the same report as before"


def test_many_results_are_counted_and_only_the_others_listed(access: list[object], tmp_path: Path) -> None:
    bad = [report_json({"phone": "1"}, order=f"bad-{number}") for number in range(3)]
    file = written(tmp_path / "reports.json", *[report_json(person(), order=f"ok-{n}") for n in range(98)], *bad)
    output = run("report", "send", *access, "--file", file)
    assert "accepted: 98, refused: 3" in output.stdout
    assert "ok-" not in output.stdout
    for number in range(3):
        assert f"bad-{number}" in output.stdout


def test_a_file_with_one_report_is_answered_like_one_with_many(access: list[object], tmp_path: Path) -> None:
    for wrong in (report_json({"phone": "1"}), report_json(person(), surprise=1)):
        file = written(tmp_path / "one.json", wrong)
        (result,) = machine("report", "send", *access, "--file", file, code=ExitCode.REFUSED)["results"]
        assert (result["index"], result["state"]) == (1, "refused")
        assert result["error"]["code"] in (InvalidPhone.code, InvalidReport.code)


def sent(access: list[object], data: bytes, *options: object) -> Result:
    return run("report", "send", *access, "--file", "-", *options, stdin=data)


def test_files_with_a_mark_and_in_other_encodings(access: list[object]) -> None:
    text = json.dumps(report_json(person(), notice_ref="告知函-王小明"), ensure_ascii=False)
    for data, options in (
        (b"\xef\xbb\xbf" + text.encode(), ()),
        (text.encode("utf-16"), ("--encoding", "utf-16")),
        (text.encode("gbk"), ("--encoding", "gbk")),
    ):
        output = sent(access, data, *options)
        assert output.exit_code in (0, ExitCode.REFUSED), output.output  # the order was reported by the first
    output = sent(access, text.encode("gbk"))
    assert output.exit_code == ExitCode.USAGE
    assert "--encoding gb18030" in " ".join(output.stderr.split())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"buyer":\n {"phone": "13800138000" "x"}}]', "Line 2, character 26"),
        ('[{"order": "13800138000", "order": "13800138000"}]', "names a field twice"),
        ('["13800138000"]', "JSON objects"),
        ("[]", "1 to 100,000"),
        ("[" * 100_000, "nested too deeply"),
        ('{"amount_minor": ' + "1" * 5000 + "}", "too long"),
        ("{", "Line 1, character 2"),
        ("13800138000\n", "must name the columns"),
        ("order,13800138000\nA,B\n", "Line 1, column 2"),
    ],
)
def test_files_that_are_not_understood(text: str, place: str) -> None:
    with pytest.raises(InvalidTable, match=place) as caught:
        read_report_file(io.BytesIO(text.encode()), TableFormat())
    assert "13800138000" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_table_of_reports(access: list[object], tmp_path: Path) -> None:
    (tmp_path / "carrier.pdf").write_bytes(b"the carrier never saw this number")
    report = report_json(person(), order=secrets.token_hex(6))
    digest = report["evidence"][0]["sha256"]
    names = [
        "conduct",
        "currency",
        "outcome",
        "act_ended_at",
        "notice_sent_at",
        "notice_ref",
        "decided_by",
        "consent_ref",
    ]
    cells = ";".join(report[name] for name in names)
    lines = [
        f"订单号;手机号;payment;evidence;amount_minor;{';'.join(names)}",
        f"{report['order']};138 0013 8000;;carrier_record={tmp_path / 'carrier.pdf'};9900;{cells}",
        f"{report['order']}-2;;wallet/abc{secrets.token_hex(4)};carrier_record=sha256:{digest} | ;9900;{cells}",
        f"{report['order']}-3;138 0013 8000;;;9900;{cells}",
        f"{report['order']}-4;138 0013 8000;;carrier_record=sha256:{digest};99.00;{cells}",
        f"{report['order']}-5;;;carrier_record=sha256:{digest};9900;{cells}",
    ]
    options = ["--encoding", "gb18030", "--column", "phone=手机号", "--column", "order=订单号", "--region", "CN"]
    output = sent(access, "\r\n".join(lines).encode("gbk"), *options, "--json")
    results = json.loads(output.stdout)["results"]
    assert [result["state"] for result in results] == ["accepted", "accepted", "refused", "refused", "refused"]
    assert [result["error"]["code"] for result in results[2:]] == [
        "evidence_invalid",
        "invalid_report",
        "batch_size_invalid",
    ]
    assert results[1]["order"] == f"{report['order']}-2"


def test_an_order_that_holds_the_buyer_is_not_repeated() -> None:
    report = report_json({"phone": "+86 138 0013 8000"}, order="A-13800138000", conduct="none")
    (item,) = read_report_file(io.BytesIO(json.dumps(report).encode()), TableFormat())
    assert (item.order, item.shown_order) == ("A-13800138000", None)
    assert "8000" not in repr(item)
    for order in ("a\nb", "\ud800"):
        (item,) = read_report_file(io.BytesIO(json.dumps({**report, "order": order}).encode()), TableFormat())
        assert item.shown_order is None


# --- the SDK ----------------------------------------------------------------------------------------------------------


def test_a_batch_sent_twice_is_recorded_once(connect: Connect, running: Running, tmp_path: Path) -> None:
    acme = connect()
    people = acme.tag_many([person() for _ in range(3)])
    keys = [f"nightly-{secrets.token_hex(6)}" for _ in people]
    reports = [(buyer, report_arguments(idempotency_key=key)) for buyer, key in zip(people, keys, strict=True)]
    state = tmp_path / "state-acme"
    away = connect(url=f"http://127.0.0.1:{free_port()}", budget_seconds=0.2, state_dir=state)
    away._session.epochs = acme._session.epochs  # it has seen the service before it went away
    assert {item.state for item in away.reports.create_many(reports)} == {"pending"}
    assert {item.state for item in away.reports.create_many(reports)} == {"pending"}
    assert [item.idempotency_key for item in away.outbox.list()] == keys, "the second run waits under the same keys"
    stored = [item.content for item in away.outbox.list()]
    first = acme.reports.create_many(reports)
    assert [(result.idempotency_key, result.state) for result in first] == [(key, "accepted") for key in keys]
    for delivery, content in zip(first, stored, strict=True):
        assert delivery.report is not None
        assert delivery.report.signature == json.loads(content)["signature"], "what was stored is what was sent"
    second = acme.reports.create_many(reports)
    assert [(result.state, result.replayed) for result in second] == [("accepted", True)] * 3
    assert [result.report for result in second] == [result.report for result in first], "the same answers"
    assert acme.outbox.list() == []
    for arguments in (report for _, report in reports):
        assert len(acme.reports.list(order=arguments["order"]).reports) == 1


def test_keys_that_are_unfit_or_given_twice_refuse_that_report_alone(connect: Connect) -> None:
    acme = connect()
    buyer = acme.tag(**person())
    key = secrets.token_hex(8)
    given = [key, key, "a b", "", "x" * 256, "订单-1", 5]
    results = acme.reports.create_many([(buyer, report_arguments(idempotency_key=key)) for key in given])
    assert [result.state for result in results] == ["accepted", *["refused"] * 6]
    assert all(isinstance(result.error, InvalidRequest) for result in results[1:])
    before = len(acme.outbox.list())
    for wrong in given[2:6]:
        with pytest.raises(InvalidRequest):
            acme.reports.create(buyer, **report_arguments(idempotency_key=wrong))
    assert len(acme.outbox.list()) == before


def test_of_many_people_the_malformed_one_is_numbered(connect: Connect) -> None:
    acme = connect()
    first, malformed, third = acme.tag_many([person(), {"phone": "138 0013 8000"}, person()])
    assert isinstance(first, Buyer)
    assert isinstance(third, Buyer)
    assert isinstance(malformed, InvalidPhone)
    assert malformed.details == {"index": 1}
    assert str(malformed).startswith("Person 2 of 3: ")
    assert "138" not in str(malformed)
    with pytest.raises(InvalidPhone, match="Person 2 of 3"):
        buyers([first, malformed, third])
    with pytest.raises(InvalidPhone) as caught:
        acme.tag(phone="138 0013 8000")
    assert caught.value.details == {}


def test_times_say_which_field_they_are_of() -> None:
    report = report_json(person(), notice_sent_at="2026-01-31")
    report.pop("buyer")
    with pytest.raises(InvalidTime, match="notice_sent_at"):
        arguments_from_json(report)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_report_file(tmp_path / "none.json", TableFormat())


# --- the same file again, a dry run, an outage ------------------------------------------------------------------------


def test_a_file_sent_twice_gives_the_same_results(access: list[object], connect: Connect, tmp_path: Path) -> None:
    reports = [report_json(person()) for _ in range(3)]
    own = report_json(person(), idempotency_key=secrets.token_hex(8))
    file = written(tmp_path / "reports.json", *reports, own, report_json({"phone": "1"}))
    results = [machine("report", "send", *access, "--file", file, code=ExitCode.REFUSED)["results"] for _ in range(3)]
    assert [result["state"] for result in results[0]] == [*["accepted"] * 4, "refused"]
    for again in results[1:]:
        assert [result["replayed"] for result in again] == [True] * 4 + [False]
        assert [{**result, "replayed": None} for result in again] == [
            {**result, "replayed": None} for result in results[0]
        ]
    with connect(state_dir=tmp_path / "state") as acme:
        assert acme.outbox.list() == [], "nothing is left over"
        for item in (*reports, own):
            assert len(acme.reports.list(order=item["order"]).reports) == 1
    (key,) = {result["idempotency_key"] for result in results[0]} & {own["idempotency_key"]}
    assert all(result["idempotency_key"].startswith("content-") for result in results[0][:3])
    assert key not in json.dumps(results[0][:3])


def test_one_report_from_options_or_a_file_can_be_sent_again(access: list[object], tmp_path: Path) -> None:
    file = written(tmp_path / "one.json", report_json(person()))
    first, again = [machine("report", "send", *access, "--file", file)["results"][0] for _ in range(2)]
    assert (first["report"], again["replayed"]) == (again["report"], True)


def test_a_file_is_known_again_without_its_state_folder(access: list[object], tmp_path: Path) -> None:
    """On another host, or after a lost disk, the ledger recognises the same report by its key."""
    file = written(tmp_path / "reports.json", *[report_json(person()) for _ in range(2)])
    first = machine("report", "send", *access, "--file", file)["results"]
    elsewhere = [*access[:-1], tmp_path / "other-state"]
    again = machine("report", "send", *elsewhere, "--file", file)["results"]
    assert [(result["state"], result["replayed"]) for result in again] == [("accepted", True)] * 2
    assert [result["report"]["id"] for result in again] == [result["report"]["id"] for result in first]
    assert machine("report", "outbox", *elsewhere) == {"items": []}


def test_reports_of_a_file_that_say_the_same_are_told_apart(access: list[object], tmp_path: Path) -> None:
    report, key = report_json(person()), secrets.token_hex(8)
    keyed = [report_json(person(), idempotency_key=key) for _ in range(2)]
    file = written(tmp_path / "reports.json", report, report, *keyed)
    answer = machine("report", "send", *access, "--file", file, code=ExitCode.REFUSED)["results"]
    assert [result["state"] for result in answer] == ["accepted", "refused", "accepted", "refused"]
    assert "Report 1 of this file" in answer[1]["error"]["message"]
    assert "Report 3 of this file" in answer[3]["error"]["message"]


def test_a_dry_run_finds_what_is_wrong_and_sends_nothing(running: Running, tmp_path: Path) -> None:
    fine, order = report_json(person()), secrets.token_hex(6)
    bad = [
        (report_json({"phone": "1"}), "invalid_phone"),
        (report_json(person(), evidence=[]), "evidence_invalid"),
        (report_json(person(), conduct="empty_parcel"), "evidence_insufficient"),
        (report_json(person()), "consent_missing"),
        (report_json(person(), act_ended_at="2020-01-01T00:00:00Z"), "already_expired"),
        (report_json(person(), amount_minor=1.5), "invalid_report"),
        (report_json(person(), currency="cny"), "invalid_report"),
        (report_json(person(), evidence=[{"type": "carrier_record", "file": "not-there.pdf"}]), "evidence_invalid"),
        (report_json(person(), notice_ref="\ud800"), "invalid_report"),
        (fine, "invalid_request"),
        (report_json(person(), order=fine["order"]), "order_already_reported"),
        (report_json(person(), sha256="x"), "invalid_report"),
    ]
    del bad[3][0]["consent_ref"]
    path = tmp_path / "reports.json"
    path.write_text(json.dumps([fine, *[report for report, _ in bad], report_json(person(), order=order)]))
    nowhere: list[object] = ["--suite", running.suite("acme", f"http://127.0.0.1:{free_port()}")]
    nowhere += ["--key", running.key("acme"), "--state-dir", tmp_path / "state"]
    errors = tmp_path / "errors.csv"
    answer = machine("report", "send", *nowhere, "--file", path, "--dry-run", "--errors", errors, code=ExitCode.REFUSED)
    assert answer["dry_run"] is True
    assert [result["state"] for result in answer["results"]] == ["fit", *["unfit"] * len(bad), "fit"]
    codes = [result["error"]["code"] for result in answer["results"][1:-1]]
    assert codes == [code for _, code in bad]
    assert [row["code"] for row in rows(errors)] == codes
    assert not (tmp_path / "state" / "outbox.db").exists()
    words = run("report", "send", *nowhere, "--file", path, "--dry-run")
    assert "nothing sent; fit: 2" in words.stdout
    path.write_text(json.dumps(report_json(person())))
    assert machine("report", "send", *nowhere, "--file", path, "--dry-run")["results"][0]["state"] == "fit"


def test_what_an_outage_leaves_of_a_file_is_told_and_can_be_sent_again(
    running: Running, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identifiers of those who were not blinded are nowhere, so the rest is not in the outbox."""
    monkeypatch.setattr(report_files, "BATCH_ITEMS", 2)
    file = written(tmp_path / "reports.json", *[report_json(person()) for _ in range(5)])
    items = read_report_file(file, TableFormat())
    shown: list[tuple[int, int]] = []
    with proxy(running.server.url) as between, connect(url=between.url, budget_seconds=30) as acme:

        def progress(done: int, total: int) -> None:
            shown.append((done, total))
            between.refuse, acme._session.budget_seconds = True, 0.3

        results = report_files.send_reports(acme, items, progress=progress)
        assert [result.state for result in results] == ["accepted", "accepted", "unsent", "unsent", "unsent"]
        assert [result.index for result in results] == [1, 2, 3, 4, 5]
        assert shown == [(2, 5), (4, 5), (5, 5)]
        assert {result.error.code for result in results if result.error} == {"unavailable"}
        assert acme.outbox.list() == []
        during = report_files.send_reports(acme, items)
        assert [result.state for result in during] == ["accepted", "accepted", "unsent", "unsent", "unsent"], (
            "known already"
        )
        with pytest.raises(Unavailable):
            report_files.send_reports(acme, items[2:])
        between.refuse, acme._session.budget_seconds = False, 30
        again = report_files.send_reports(acme, items)
        assert [(result.state, result.replayed) for result in again] == [("accepted", True)] * 2 + [
            ("accepted", False)
        ] * 3


def test_a_field_that_is_misspelt_is_named_with_the_nearest() -> None:
    for wrong, right in (("amont", "amount_minor"), ("curency", "currency"), ("notice", "notice_ref")):
        value = report_json(person(), **{wrong: 1})
        value.pop("buyer")
        with pytest.raises(InvalidReport, match=rf"{wrong} \(did you mean {right}\?\)"):
            arguments_from_json(value)
    with pytest.raises(InvalidTable, match=r"Line 1, column 2: .*did you mean currency\?"):
        read_report_file(io.BytesIO(b"order,curency\nA-1,CNY\n"), TableFormat())


def test_the_outbox_is_counted_parked_and_emptied_by_command(
    running: Running, connect: Connect, tmp_path: Path
) -> None:
    state = tmp_path / "state-acme"
    access: list[object] = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", state]
    acme, bazaar, who, order = connect("acme"), connect("bazaar"), person(), secrets.token_hex(8)
    first = acme.reports.create(acme.tag(**who), **report_arguments(order=order)).report
    assert first is not None
    bazaar.appeals.open([first.id], "wrong_facts", "I sent it back.", "en", bazaar.tag(**who))
    correction = report_json(who, order=order, replaces=first.id, notice_sent_at=format_time(datetime.now(UTC)))
    file = written(tmp_path / "correction.json", correction)
    (parked,) = machine("report", "send", *access, "--file", file, code=ExitCode.UNAVAILABLE)["results"]
    assert (parked["state"], parked["retry_at"] is None) == ("parked", False)
    with pytest.raises(OrderAlreadyReported):
        acme.reports.create(acme.tag(**who), **report_arguments(order=order))
    answer = machine("report", "outbox", *access, "--status", code=ExitCode.UNAVAILABLE)
    assert {state: waiting["count"] for state, waiting in answer.items()} == {"pending": 0, "parked": 1, "refused": 1}
    assert answer["parked"]["oldest_seconds"] >= 0
    assert answer["pending"]["oldest_seconds"] is None
    assert "parked" in run("report", "outbox", *access, "--status").stdout
    assert machine("report", "outbox", *access, "--flush") == {"results": []}
    tried = machine("report", "outbox", *access, "--flush", "--parked", code=ExitCode.UNAVAILABLE)["results"]
    assert [result["state"] for result in tried] == ["parked"]
    left = machine("report", "outbox", *access, "--discard-all-refused", code=ExitCode.UNAVAILABLE)["items"]
    assert [(result["state"], result["error"]["code"]) for result in left] == [("parked", "report_disputed")]
    assert machine("report", "outbox", *access, "--discard", left[0]["idempotency_key"]) == {"items": []}
    assert run("report", "outbox", *access, "--parked").exit_code == ExitCode.USAGE


def test_unfit_arguments_of_commands_are_one_line(access: list[object]) -> None:
    for command in (
        ["appeal", "withdraw", "ap_Xk3mPq9a", *access, "--idempotency-key", "订单"],
        ["appeal", "withdraw", "ap_Xk3mPq9a", *access, "--idempotency-key", "a\nb"],
        ["appeal", "answer", "ap_Xk3mPq9a", *access, "--party", "reporter", "--text", "\udcff"],
        ["report", "withdraw", "rp_Xk3mPq9a", *access, "--reason", "\udcff"],
        ["report", "withdraw", "rp_Xk3mPq9a", *access, "--reason", "wrong_persn"],
        ["report", "restitution", "rp_Xk3mPq9a", *access, "--received-at", "yesterday", "--amount-minor", "1",
         "--currency", "CNY"],
        ["report", "explain", "rp_Xk3mPq9a", *access, "--text", "\udcff"],
    ):  # fmt: skip
        error = machine(*command, code=ExitCode.USAGE)["error"]
        assert error["code"] in ("invalid_request", "invalid_time"), command
    assert machine("report", "outbox", *access) == {"items": []}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
EVIDENCE_FIELDS = (
    *("type", "file", "sha256", "pdq", "pdq_quality", "inspection", "finding", "report_id", "origin", "confirmation"),
)


@settings(max_examples=trials(36, 60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_of_a_field_ends_a_file(running: Running, data: st.DataObject) -> None:
    """For any value of a field, the report is fit or has its own error, and the other reports of the file are fit."""
    value = report_json({"phone": "+86 138 0013 8000"})
    name = data.draw(st.sampled_from([*value, "replaces", "idempotency_key", "phone", *EVIDENCE_FIELDS]))
    wrong = data.draw(JSON_VALUES)
    if name in EVIDENCE_FIELDS:
        value["evidence"][0][name] = wrong
    elif name == "phone":
        value["buyer"][name] = wrong
    else:
        value[name] = wrong
    items = read_report_file(io.BytesIO(json.dumps([value, report_json(person())]).encode()), TableFormat())
    with RefundLedger(running.suite("acme", "http://127.0.0.1:1"), running.key("acme")) as offline:
        first, second = report_files.check_reports(offline, items)
        assert second.error is None
        assert first.error is None or str(first.error)


def test_a_type_of_evidence_is_checked_before_its_file_is_read() -> None:
    with pytest.raises(EvidenceInvalid, match="Unknown type of evidence") as refused:
        evidence_from_json({"type": "zz", "file": "no-such-file"})
    assert refused.value.details["field"] == "type"
    with pytest.raises(EvidenceInvalid, match="cannot be read"):
        evidence_from_json({"type": "original_file", "file": "no-such-file"})
