"""The outbox: what is in it survives, and nothing leaves it without a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.client.outbox import Outbox, Verdict
from ledger.errors import ConfigurationError, LogFrozen, NotFound, OrderAlreadyReported

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
        [Verdict("a", "refused", OrderAlreadyReported("Reported.")), Verdict("b", "pending", LogFrozen("Frozen."))], NOW
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
