"""`report send --file`: JSON and tables, item by item, with errors that say which, and idempotency keys."""

from __future__ import annotations

import csv
import io
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ledger.cli.output import ExitCode
from ledger.client.report_files import read_report_file
from ledger.client.tables import TableFormat
from ledger.errors import ConfigurationError, InvalidPhone, InvalidReport, InvalidRequest, InvalidTable, InvalidTime
from tests.cli.test_commands import machine, report_json, run
from tests.faulty import free_port
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
    file = written(tmp_path / "reports.json", report_json(person()), *[one for one, _ in bad], report_json(person()))
    errors = tmp_path / "errors.csv"
    told = machine("report", "send", *access, "--file", file, "--errors", errors, code=ExitCode.REFUSED)["results"]
    assert [one["state"] for one in told] == ["accepted", *["refused"] * len(bad), "accepted"]
    assert [one["index"] for one in told] == list(range(1, len(bad) + 3))
    assert [one["error"]["code"] for one in told[1:-1]] == [code for _, code in bad]
    given = [one["order"] if isinstance(one["order"], str) else None for one, _ in bad]
    assert [one["order"] for one in told[1:-1]] == given
    assert "amont" in told[2]["error"]["message"]
    assert told[2]["error"]["details"] == {"unknown": ["amont"], "missing": []}
    assert "act_ended_at" in told[3]["error"]["message"]
    assert told[4]["error"]["details"]["known"]
    listed = rows(errors)
    assert [(row["index"], row["order"], row["code"]) for row in listed] == [
        (str(number), order or "", code) for number, order, (_, code) in zip(range(2, 10), given, bad, strict=True)
    ]
    assert errors.stat().st_mode & 0o777 == 0o600
    assert "138 0013" not in errors.read_text() + json.dumps(told)

    mended = written(tmp_path / "mended.json", report_json(person()), report_json(person()))
    fine = machine("report", "send", *access, "--file", mended, "--errors", errors)["results"]
    assert [one["state"] for one in fine] == ["accepted", "accepted"]
    assert rows(errors) == []
    precious = tmp_path / "precious"
    precious.write_text("dear diary")
    machine("report", "send", *access, "--file", mended, "--errors", precious, code=ExitCode.USAGE)
    assert precious.read_text() == "dear diary"


def test_people_see_which_order_was_refused(access: list[object], tmp_path: Path) -> None:
    one = report_json(person(), order="A-1001")
    file = written(tmp_path / "reports.json", one, {**one, "evidence": []})
    told = run("report", "send", *access, "--file", file)
    assert told.exit_code == ExitCode.REFUSED
    words = " ".join(told.stdout.split())
    assert "A-1001" in words
    assert "…" not in words
    again = machine("report", "send", *access, "--file", file, code=ExitCode.REFUSED)["results"]
    assert again[0]["error"]["code"] == "order_already_reported"
    assert again[0]["error"]["details"]["report"].startswith("rp_")


def test_many_results_are_counted_and_only_the_others_listed(access: list[object], tmp_path: Path) -> None:
    bad = [report_json({"phone": "1"}, order=f"bad-{number}") for number in range(3)]
    file = written(tmp_path / "reports.json", *[report_json(person(), order=f"ok-{n}") for n in range(98)], *bad)
    told = run("report", "send", *access, "--file", file)
    assert "accepted: 98, refused: 3" in told.stdout
    assert "ok-" not in told.stdout
    for number in range(3):
        assert f"bad-{number}" in told.stdout


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
        told = sent(access, data, *options)
        assert told.exit_code in (0, ExitCode.REFUSED), told.output  # the order was reported by the first
    told = sent(access, text.encode("gbk"))
    assert told.exit_code == ExitCode.USAGE
    assert "--encoding gb18030" in " ".join(told.stderr.split())


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
    one = report_json(person(), order=secrets.token_hex(6))
    digest = one["evidence"][0]["sha256"]
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
    cells = ";".join(one[name] for name in names)
    lines = [
        f"订单号;手机号;payment;evidence;amount_minor;{';'.join(names)}",
        f"{one['order']};138 0013 8000;;carrier_record={tmp_path / 'carrier.pdf'};9900;{cells}",
        f"{one['order']}-2;;wallet/abc{secrets.token_hex(4)};carrier_record=sha256:{digest} | ;9900;{cells}",
        f"{one['order']}-3;138 0013 8000;;;9900;{cells}",
        f"{one['order']}-4;138 0013 8000;;carrier_record=sha256:{digest};99.00;{cells}",
        f"{one['order']}-5;;;carrier_record=sha256:{digest};9900;{cells}",
    ]
    options = ["--encoding", "gb18030", "--column", "phone=手机号", "--column", "order=订单号", "--region", "CN"]
    told = sent(access, "\r\n".join(lines).encode("gbk"), *options, "--json")
    results = json.loads(told.stdout)["results"]
    assert [one["state"] for one in results] == ["accepted", "accepted", "refused", "refused", "refused"]
    assert [one["error"]["code"] for one in results[2:]] == ["evidence_invalid", "invalid_report", "batch_size_invalid"]
    assert results[1]["order"] == f"{one['order']}-2"


def test_an_order_that_holds_the_buyer_is_not_repeated() -> None:
    one = report_json({"phone": "+86 138 0013 8000"}, order="A-13800138000", conduct="none")
    (item,) = read_report_file(io.BytesIO(json.dumps(one).encode()), TableFormat())
    assert (item.order, item.shown_order) == ("A-13800138000", None)
    assert "8000" not in repr(item)
    for order in ("a\nb", "\ud800"):
        (item,) = read_report_file(io.BytesIO(json.dumps({**one, "order": order}).encode()), TableFormat())
        assert item.shown_order is None


# --- the SDK ----------------------------------------------------------------------------------------------------------


def test_a_batch_sent_twice_is_recorded_once(connect: Connect, running: Running, tmp_path: Path) -> None:
    acme = connect()
    buyers = acme.subjects_many([person() for _ in range(3)])
    keys = [f"nightly-{secrets.token_hex(6)}" for _ in buyers]
    reports = [(buyer, report_arguments(idempotency_key=key)) for buyer, key in zip(buyers, keys, strict=True)]
    state = tmp_path / "state-acme"
    away = connect(url=f"http://127.0.0.1:{free_port()}", budget_seconds=0.2, state_dir=state)
    away._epochs = acme._epochs  # it has seen the service before it went away
    assert {one.state for one in away.report_many(reports)} == {"pending"}
    assert {one.state for one in away.report_many(reports)} == {"pending"}
    assert [item.idempotency_key for item in away.outbox()] == keys, "the second run waits under the same keys"
    stored = [item.content for item in away.outbox()]
    first = acme.report_many(reports)
    assert [(one.idempotency_key, one.state) for one in first] == [(key, "accepted") for key in keys]
    for delivery, content in zip(first, stored, strict=True):
        assert delivery.report is not None
        assert delivery.report.signature == json.loads(content)["signature"], "what was stored is what was sent"
    second = acme.report_many(reports)
    assert {one.error.code for one in second if one.error} <= {"idempotency_mismatch", "order_already_reported"}
    for arguments in (one for _, one in reports):
        assert len(acme.list_reports(order=arguments["order"]).reports) == 1


def test_keys_that_are_unfit_or_given_twice_refuse_that_report_alone(connect: Connect) -> None:
    acme = connect()
    buyer = acme.subject(**person())
    key = secrets.token_hex(8)
    given = [key, key, "a b", "", "x" * 256, "订单-1", 5]
    results = acme.report_many([(buyer, report_arguments(idempotency_key=one)) for one in given])
    assert [one.state for one in results] == ["accepted", *["refused"] * 6]
    assert all(isinstance(one.error, InvalidRequest) for one in results[1:])
    before = len(acme.outbox())
    for wrong in given[2:6]:
        with pytest.raises(InvalidRequest):
            acme.report(buyer, **report_arguments(idempotency_key=wrong))
    assert len(acme.outbox()) == before


def test_of_many_people_the_malformed_one_is_numbered(connect: Connect) -> None:
    acme = connect()
    with pytest.raises(InvalidPhone, match="Person 2 of 3") as caught:
        acme.subjects_many([person(), {"phone": "138 0013 8000"}, person()])
    assert caught.value.details == {"index": 1}
    assert "138" not in str(caught.value)
    with pytest.raises(InvalidPhone) as caught:
        acme.subject(phone="138 0013 8000")
    assert caught.value.details == {}


def test_times_say_which_field_they_are_of() -> None:
    from ledger.client.reports import arguments_from_json

    one = report_json(person(), notice_sent_at="2026-01-31")
    one.pop("buyer")
    with pytest.raises(InvalidTime, match="notice_sent_at"):
        arguments_from_json(one)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_report_file(tmp_path / "none.json", TableFormat())
