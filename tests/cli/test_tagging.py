"""`tag --in --out`: a user base into tags, in batches, to be gone on with whatever stopped it; and `check`."""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.client.identity.keyfiles import load_or_create_signing_key
from ledger.client.tables import tagging as client_tagging
from ledger.client.tables.tagging import tag_file
from ledger.errors import ConfigurationError, InvalidRequest, StaleEpoch, Unavailable
from tests.client.small_ledger import SmallLedger, small_ledger
from tests.kit import Connect, Running, person


def run(*arguments: object) -> Result:
    output.reset()
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def machine(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def users(path: Path, count: int, **columns: Sequence[str]) -> Path:
    """A table of `count` users: customer, phone, payment, and other columns."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "phone", "note", "payment", *columns])
        for number in range(count):
            who = person()
            more = [values[number] for values in columns.values()]
            writer.writerow([f"c{number}", who["phone"], 'a, "quoted"\nnote', who["payment"], *more])
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def access(running: Running, tmp_path: Path) -> list[object]:
    return ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "state"]


def test_a_table_of_users_becomes_a_table_of_tags(access: list[object], tmp_path: Path, connect: Connect) -> None:
    source = users(tmp_path / "users.csv", 4, email=["li@example.com", "not an address", "", "wang@example.com"])
    target, errors = tmp_path / "tags.csv", tmp_path / "errors.csv"
    done = machine("tag", *access, "--in", source, "--out", target, "--errors", errors)
    assert {name: done[name] for name in ("identifiers", "invalid", "resumed", "finished")} == {
        "identifiers": 11, "invalid": 1, "resumed": 0, "finished": True,
    }  # fmt: skip
    written, given = rows(target), rows(source)
    assert [(row["id"], row["kind"]) for row in written] == [
        (row["customer"], kind) for row in given for kind in ("phone", "payment", "email") if row[kind]
    ]
    assert [row["error"] for row in written if not row["tag"]] == ["invalid_email"]
    acme = connect()
    for row in written[:2]:
        (want,) = acme.tag(**{row["kind"]: given[0][row["kind"]]}).tags()
        assert (row["kind"], row["tag"], row["epoch"]) == (*want, "1")
    (bad,) = rows(errors)
    assert (bad["id"], bad["kind"], bad["code"]) == ("c1", "email", "invalid_email")
    assert bad["line"] == "5", "the line on which the record ends"
    for path in (target, errors):
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text()
        assert not any(row[kind] in text for row in given for kind in ("phone", "payment", "email") if row[kind])
    again = machine("tag", *access, "--in", source, "--out", target, "--errors", errors)
    assert (again["identifiers"], again["resumed"], again["finished"]) == (11, 11, True)
    assert rows(target) == written
    assert rows(errors) == [bad]


def test_a_run_goes_on_wherever_it_was_stopped(tmp_path: Path, connect: Connect) -> None:
    acme = connect()
    source = users(tmp_path / "users.csv", 6, email=["x"] * 6)
    whole, target, errors = tmp_path / "whole.csv", tmp_path / "tags.csv", tmp_path / "errors.csv"
    tag_file(acme, source, whole)
    data = whole.read_bytes()
    for cut in (0, 5, len("id,kind,epoch,tag,error\n"), len(data) // 3, len(data) // 2, len(data) - 1, len(data)):
        target.write_bytes(data[:cut])
        done = tag_file(acme, source, target, errors=errors, batch_size=4)
        assert target.read_bytes() == data
        assert (done.identifiers, done.invalid, done.finished) == (18, 6, True)
        assert done.resumed == max(0, data[:cut].count(b"\n") - 1)
        assert len(rows(errors)) == 6


def test_batches_are_on_disk_before_the_next_is_asked(tmp_path: Path, connect: Connect) -> None:
    """Stopped in the middle by an exception of the progress bar, as by Ctrl-C."""
    acme = connect()
    source, target = users(tmp_path / "users.csv", 4), tmp_path / "tags.csv"

    def stop(read: int, total: int, done: client_tagging.Tagging) -> None:
        assert 0 < read <= total
        if done.identifiers == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag_file(acme, source, target, progress=stop, batch_size=3)
    assert len(rows(target)) == 6
    assert tag_file(acme, source, target).resumed == 6
    assert len(rows(target)) == 8


def test_other_tables_are_refused_and_left_alone(access: list[object], tmp_path: Path, connect: Connect) -> None:
    source, target = users(tmp_path / "users.csv", 3), tmp_path / "tags.csv"
    precious = tmp_path / "precious"
    for text in ("dear diary", "id,kind\n1,2\n", "\n", "id,kind,epoch,tag,error\n1,2\n"):
        precious.write_text(text)
        for where in (["--out", precious], ["--out", target, "--errors", precious])[: 1 if text[:2] == "id" else 2]:
            assert run("tag", *access, "--in", source, *where).exit_code == ExitCode.USAGE
            assert precious.read_text() == text
            target.unlink(missing_ok=True)
    machine("tag", *access, "--in", source, "--out", target)
    data = target.read_bytes()
    others = [users(tmp_path / "others.csv", 2), tmp_path / "changed.csv"]
    others[1].write_text(source.read_text().replace("c1,", "c9,"))
    for other in others:
        assert run("tag", *access, "--in", other, "--out", target).exit_code == ExitCode.USAGE
        assert target.read_bytes() == data
    target.write_bytes(data.replace(b",1,", b",7,"))
    with pytest.raises(StaleEpoch):
        tag_file(connect(), source, target)
    link = tmp_path / "link"
    link.symlink_to(precious)
    assert run("tag", *access, "--in", source, "--out", link).exit_code == ExitCode.USAGE
    with target.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another run"):
            tag_file(connect(), source, target)
    assert run("tag", *access, "--in", source).exit_code == ExitCode.USAGE
    assert run("tag", *access, "--in", source, "--out", tmp_path / "t", "--csv", "-").exit_code == ExitCode.USAGE
    assert run("tag", *access, "--in", tmp_path / "none", "--out", tmp_path / "t").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "table",
    ["", "name\nli\n", "phone,phone\n1,2\n", "phone\n+86 138 0013 8000,too many\n", 'phone\n"', "phone,id\n1,\xff\n"],
)
def test_malformed_tables_are_refused(tmp_path: Path, connect: Connect, table: str) -> None:
    source, target = tmp_path / "users.csv", tmp_path / "tags.csv"
    source.write_bytes(table.encode("latin-1"))
    with pytest.raises(InvalidRequest):
        tag_file(connect(), source, target)
    assert not target.exists()


def test_the_column_that_is_copied(tmp_path: Path, connect: Connect) -> None:
    acme = connect()
    source, target = users(tmp_path / "users.csv", 2, account=["x", "y"]), tmp_path / "tags.csv"
    tag_file(acme, source, target, id_column="account")
    assert [row["id"] for row in rows(target)] == ["x", "x", "y", "y"]
    for wrong in ("phone", "nothing"):
        with pytest.raises(InvalidRequest):
            tag_file(acme, source, tmp_path / "other.csv", id_column=wrong)
    source.write_text("\ufeffphone\n138 0013 8000\n\n138 0013 8001\n")
    bare = tmp_path / "bare.csv"
    tag_file(acme, source, bare, region="CN")
    assert [(row["id"], bool(row["tag"])) for row in rows(bare)] == [("1", True), ("3", True)]


def tired(ledger: SmallLedger, elements: int, limit: str, retry_after: int) -> None:
    """Evaluate `elements` batches from now on, then refuse with 429."""
    left = [elements]

    def evaluate(answer: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            return answer
        problem = {"code": "quota_exceeded", "detail": "Too many.", "limit": limit}
        return 429, {"Retry-After": str(retry_after)}, json.dumps(problem).encode()

    ledger.replace["/v1/oprf/evaluate"] = evaluate


def test_a_used_up_quota_ends_a_run_that_can_be_gone_on_with(tmp_path: Path) -> None:
    source, target = users(tmp_path / "users.csv", 4), tmp_path / "tags.csv"
    with small_ledger(tmp_path) as ledger, ledger.connect() as acme:
        tired(ledger, 2, "daily", 7200)
        done = tag_file(acme, source, target, batch_size=3)
        assert (done.identifiers, done.finished, done.retry_after_seconds) == (6, False, 7200)
        slept: list[float] = []

        def renew(seconds: float) -> None:
            slept.append(seconds)
            ledger.replace.clear()

        done = tag_file(acme, source, target, wait=True, batch_size=3, sleep=renew)
        assert (done.identifiers, done.resumed, done.finished, slept) == (8, 6, True, [7200])

        tired(ledger, 1, "burst", 30)
        fresh = users(tmp_path / "more.csv", 4)
        done = tag_file(acme, fresh, tmp_path / "more-tags.csv", batch_size=3, sleep=renew)
        assert (done.identifiers, done.finished, slept[1:]) == (8, True, [30])


def test_the_command_says_how_to_go_on_after_a_used_up_quota(tmp_path: Path) -> None:
    source, target = users(tmp_path / "users.csv", 4), tmp_path / "tags.csv"
    with small_ledger(tmp_path) as ledger:
        suite = tmp_path / "acme.suite.json"
        suite.write_text(json.dumps(ledger.suite_file()))
        load_or_create_signing_key(tmp_path / "acme.pem")
        access = ["--suite", suite, "--key", tmp_path / "acme.pem", "--state-dir", tmp_path / "state"]
        tired(ledger, 0, "daily", 7200)
        stopped = run("tag", *access, "--in", source, "--out", target)
        assert stopped.exit_code == ExitCode.REFUSED
        assert "after midnight UTC (in about 2 h)" in " ".join(stopped.stdout.split())
        ledger.replace.clear()
        assert run("tag", *access, "--in", source, "--out", target).exit_code == 0
        assert len(rows(target)) == 8
        wrong = machine("tag", *access, "--epoch", "next", "--phone", "+86 138 0013 8000", code=ExitCode.USAGE)
        assert wrong["error"]["code"] == "invalid_request"
        ledger.announce(2)
        ahead = machine("tag", *access, "--epoch", "next", "--in", source, "--out", tmp_path / "ahead.csv")
        assert (ahead["epoch"], ahead["finished"]) == (2, True)
        assert {row["epoch"] for row in rows(tmp_path / "ahead.csv")} == {"2"}
        assert not {row["tag"] for row in rows(target)} & {row["tag"] for row in rows(tmp_path / "ahead.csv")}
        ledger.switch(2)
        with ledger.connect() as acme:
            done = tag_file(acme, source, tmp_path / "ahead.csv")
            assert (done.resumed, done.finished) == (8, True), "the announced epoch is now the current one"


def test_outages_are_waited_out_for_some_minutes(tmp_path: Path) -> None:
    source, target = users(tmp_path / "users.csv", 4), tmp_path / "tags.csv"
    with small_ledger(tmp_path) as ledger, ledger.connect(budget_seconds=0.2) as acme:
        acme.connect()
        slept: list[float] = []

        ledger.replace["/v1/oprf/evaluate"] = lambda answer: (503, {}, b"") if len(slept) < 3 else answer
        assert tag_file(acme, source, target, sleep=slept.append).finished
        assert slept[:3] == [1, 2, 4]  # a good answer that took longer than the budget is an outage more
        slept.clear()
        ledger.replace["/v1/oprf/evaluate"] = lambda _: (503, {}, b"")
        with pytest.raises(Unavailable):
            tag_file(acme, users(tmp_path / "more.csv", 1), tmp_path / "more-tags.csv", sleep=slept.append)
        assert 500 < sum(slept) <= client_tagging.PATIENCE_SECONDS


def test_check_prints_like_lookup(tmp_path: Path) -> None:
    who = {"phone": "+86 138 0013 8000", "payment": "alipay/2088123412341234"}
    with small_ledger(tmp_path) as ledger:
        suite = tmp_path / "acme.suite.json"
        suite.write_text(json.dumps(ledger.suite_file()))
        load_or_create_signing_key(tmp_path / "acme.pem")
        access = ["--suite", suite, "--key", tmp_path / "acme.pem", "--state-dir", tmp_path / "state"]
        someone = [part for kind, value in who.items() for part in (f"--{kind}", value)]
        assert machine("check", *access, *someone, code=ExitCode.REFUSED)["error"]["code"] == "snapshot_unknown"
        ledger.publish({(kind, value): [ledger.event()] for kind, value in who.items()})
        for policy in ("private", "download"):
            shown = machine("check", *access, "--policy", policy, "--claim", "damaged", *someone)
            assert (shown["source"], shown["bounded"], shown["events"]) == (policy, True, 1)
            assert shown["guidance"] == ["live_reshoot"]
            readable = " ".join(run("check", *access, "--policy", policy, *someone).stdout.split())
            assert "a lookup may be stricter than this, never milder" in readable
            assert "of 100" in readable
        answer = machine("check", *access, "--phone", who["phone"])
        assert (answer["tier"], answer["bounded"]) == ("watch", False)
        tags = machine("tag", *access, "--device", "device-0123456789abcdef")["tags"]
        by_tag = [f"{tags[0]['kind']}={tags[0]['tag']}"]
        assert run("check", *access, "--policy", "private", "--tag", *by_tag).exit_code == ExitCode.USAGE
        assert run("check", *access).exit_code == ExitCode.USAGE
        assert run("check", *access, "--policy", "direct", *someone).exit_code == ExitCode.USAGE
