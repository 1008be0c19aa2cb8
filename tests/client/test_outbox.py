"""The outbox: what is in it survives, and nothing leaves it without a reason."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.client.outbox.store import AttemptVerdict, New, Outbox
from ledger.errors import ConfigurationError, LogFrozen, NotFound, OrderAlreadyReported, ReportDisputed
from ledger.protocol.encoding import format_time

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_items_survive_a_crash_and_leave_when_delivered(tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.db"
    box = Outbox(path)
    box.add([("k1", "report", "/v1/reports", b"one"), ("k2", "withdraw", "/x", b"two")], NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = Outbox(path)  # the first is not closed: as after a crash
    assert [(item.idempotency_key, item.content) for item in again.items()] == [("k1", b"one"), ("k2", b"two")]
    again.delivered(["k1"])
    assert [item.idempotency_key for item in box.items()] == ["k2"]
    box.close()
    again.close()


def test_a_key_that_waits_keeps_its_first_content(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    box.add([("k", "report", "/v1/reports", b"first")], NOW)
    box.add([("k", "report", "/v1/reports", b"second")], NOW + timedelta(hours=1))
    item = box.get("k")
    assert item is not None
    assert (item.content, item.first_attempt_at, item.attempts) == (b"first", NOW, 1)
    box.attempting(["k"], NOW + timedelta(hours=2))
    item = box.get("k")
    assert item is not None
    assert (item.first_attempt_at, item.attempts) == (NOW, 2)
    assert "first" not in repr(item)
    box.close()


def test_refused_items_stay_until_somebody_decides(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    box.add([(key, "report", "/v1/reports", b"x") for key in ("a", "b", "c")], NOW)
    box.failed(
        [
            AttemptVerdict("a", "refused", OrderAlreadyReported("Reported.")),
            AttemptVerdict("b", "pending", LogFrozen("Frozen.")),
        ],
        NOW,
    )
    assert [item.idempotency_key for item in box.items("pending")] == ["b", "c"]
    refused = box.items("refused")
    assert [(item.idempotency_key, item.error) for item in refused] == [
        ("a", {"code": "order_already_reported", "message": "Reported."})
    ]
    box.retry("a")
    assert len(box.items("pending")) == 3
    box.discard("a")
    for change in (box.retry, box.discard):
        with pytest.raises(NotFound):
            change("a")
    box.close()


def test_adding_is_all_or_nothing(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    with pytest.raises(ConfigurationError):
        box.add([("a", "report", "/p", b"x"), ("b", "report", "/p", None)], NOW)  # type: ignore[list-item]
    assert box.items() == []
    box.close()


def test_a_folder_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        Outbox(tmp_path / "file" / "outbox.db")


def test_parked_items_say_when_they_are_tried_again(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    box.add([New("k", "report", "/v1/reports", b"x")], NOW)
    later = NOW + timedelta(hours=12)
    box.failed([AttemptVerdict("k", "parked", ReportDisputed("Contested.", case="ap_1"), later)], NOW)
    (item,) = box.items("parked")
    assert item.retry_at == later
    assert item.error == {"code": "report_disputed", "message": "Contested.", "details": {"case": "ap_1"}}
    box.retry("k")
    (item,) = box.items("pending")
    assert item.retry_at is None
    box.close()


def test_refused_items_leave_when_their_time_is_over(tmp_path: Path) -> None:
    box, keep = Outbox(tmp_path / "outbox.db"), timedelta(days=30)
    box.add([New(key, "report", "/v1/reports", b"x") for key in ("waits", "parked", "first", "second")], NOW)
    box.failed([AttemptVerdict("first", "refused", OrderAlreadyReported("Reported."))], NOW)
    box.failed([AttemptVerdict("parked", "parked", ReportDisputed("Contested."), NOW)], NOW)
    box.failed([AttemptVerdict("second", "refused", OrderAlreadyReported("Reported."))], NOW + timedelta(days=1))
    box.failed([AttemptVerdict("first", "refused", OrderAlreadyReported("Again."))], NOW + timedelta(days=20))
    assert box.expire(NOW + timedelta(days=30) - timedelta(seconds=1), keep) == 0
    assert box.expire(NOW + timedelta(days=30), keep) == 1, "refused since the first time, not the last"
    assert box.expire(NOW + timedelta(days=400), keep) == 1
    assert [item.idempotency_key for item in box.items()] == ["waits", "parked"], "what waits has no such limit"
    box.close()


def test_all_refused_are_discarded_and_nothing_else(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    box.add([New(key, "report", "/v1/reports", b"x") for key in ("a", "b", "c")], NOW)
    box.failed([AttemptVerdict(key, "refused", OrderAlreadyReported("Reported.")) for key in ("a", "c")], NOW)
    assert box.discard_refused() == 2
    assert [item.idempotency_key for item in box.items()] == ["b"]
    assert box.discard_refused() == 0
    for strange in ("\ud800", None):
        with pytest.raises(NotFound):
            box.discard(strange)  # type: ignore[arg-type]
    box.close()


def test_what_waits_is_counted_with_its_age(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.db")
    nothing = box.waiting()
    assert {state: state_count.count for state, state_count in nothing.items()} == {
        "pending": 0,
        "parked": 0,
        "refused": 0,
    }
    assert nothing["pending"].oldest_age(NOW) is None
    for hours, key in enumerate(("old", "newer")):
        box.add([New(key, "report", "/v1/reports", b"x")], NOW + timedelta(hours=hours))
    box.add([New("gone", "withdraw", "/v1/reports/rp_1/withdraw", b"x")], NOW - timedelta(days=1))
    box.failed([AttemptVerdict("gone", "refused", NotFound("Unknown."))], NOW)
    waiting = box.waiting()
    assert (waiting["pending"].count, waiting["refused"].count) == (2, 1)
    assert waiting["pending"].oldest_age(NOW + timedelta(hours=3)) == timedelta(hours=3)
    box.close()


def test_a_refused_item_takes_what_is_sent_under_its_key_next(tmp_path: Path) -> None:
    """A refusal changed nothing, so a corrected report may be sent under the same key."""
    box = Outbox(tmp_path / "outbox.db")
    box.add([New("k", "report", "/v1/reports", b"wrong")], NOW)
    box.failed([AttemptVerdict("k", "refused", OrderAlreadyReported("Reported."))], NOW)
    later = NOW + timedelta(days=2)
    box.add([New("k", "report", "/v1/reports", b"right")], later)
    (item,) = box.items()
    assert (item.state, item.content, item.first_attempt_at, item.attempts) == ("pending", b"right", later, 1)
    box.close()


_FIRST_SCHEMA = """
CREATE TABLE item (
    number INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL,
    path TEXT NOT NULL,
    content BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    added_at TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT,
    error TEXT
) STRICT
"""
"""The table of version 0.1.0."""


def first_file(path: Path, *rows: tuple[str, str, str, bytes, str]) -> None:
    """An outbox as version 0.1.0 left it, with (key, operation, path, content, state) in it."""
    with sqlite3.connect(path) as database:
        database.execute(_FIRST_SCHEMA)
        then = format_time(NOW)
        database.executemany(
            "INSERT INTO item (idempotency_key, operation, path, content, state, added_at, attempts, first_attempt_at) "
            f"VALUES (?, ?, ?, ?, ?, '{then}', 1, '{then}')",
            rows,
        )
    database.close()


def test_a_file_of_the_first_version_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first_file(
        path, ("a", "report", "/v1/reports", b"one", "pending"), ("b", "report", "/v1/reports", b"two", "refused")
    )
    earlier = sqlite3.connect(path, isolation_level=None)  # a process of the first version that is still running
    box = Outbox(path)
    assert [(item.idempotency_key, item.content, item.state) for item in box.items()] == [
        ("a", b"one", "pending"),
        ("b", b"two", "refused"),
    ]
    earlier.execute(
        "INSERT INTO item (idempotency_key, operation, path, content, added_at, attempts, first_attempt_at) "
        "VALUES ('c', 'report', '/v1/reports', x'33', '2026-01-31T12:00:00Z', 1, NULL)"
    )
    assert len(box.items("pending")) == 2
    assert box.expire(NOW + timedelta(days=300), timedelta(days=30)) == 0, "its time begins when this version sees it"
    assert box.expire(NOW + timedelta(days=330), timedelta(days=30)) == 1
    again = Outbox(path)
    assert [item.idempotency_key for item in again.items()] == ["a", "c"]
    for outbox in (box, again, earlier):
        outbox.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Outbox(path)
