"""Due rows are processed to the last one: rows that fail, however many are in front, do not block the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from ledger.errors import DatabaseUnavailable
from ledger.protocol.public_ids import decode_id
from ledger.server.appeals import attachments, case_changes
from ledger.server.db.due_rows import work_off
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import AppealCase
from ledger.server.db.tables.reports import Report
from ledger.server.lookups import disclosure_queries as disclosure_store
from ledger.server.lookups import disclosures
from ledger.server.records import order_line_queries as lines_store
from ledger.server.records.order_line_queries import HeldRow
from ledger.server.reports import erasure, held, malformed
from ledger.server.reports import erasure_queries as erasure_store
from tests.counts import trials
from tests.malformed import record
from tests.server.appeals.contested import contest
from tests.server.conftest import LedgerFixture
from tests.server.lookups.test_disclosures import looked, sizes, tags_of
from tests.spellings import with_bit_255

pytestmark = pytest.mark.one_engine


@dataclass
class Table:
    """Rows in order. Some of them fail at every attempt; the others are processed once."""

    rows: list[int]
    bad: set[int]
    page: int
    done: list[int]

    def read(self, last: int | None) -> list[int]:
        left = [row for row in self.rows if row not in self.done and (last is None or row > last)]
        return left[: self.page]

    def work(self, rows: Sequence[int]) -> int:
        if self.bad & set(rows):
            raise ValueError("a row that nothing foresaw")
        self.done += rows
        return len(rows)


@settings(max_examples=trials(30, 1000), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), unique_by=lambda row: row[0], max_size=20),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_every_row_that_can_be_done_is_done_once(rows: list[tuple[int, bool]], page: int, together: int) -> None:
    numbers = sorted(number for number, _ in rows)
    bad = {number for number, fails in rows if fails}
    table = Table(numbers, bad, page, [])

    def run() -> int:
        return work_off(table.read, table.work, event="failed", name=str, together=together)

    if bad:
        with pytest.raises(ValueError, match="foresaw"):
            run()
    else:
        assert run() == len(rows)
    assert table.done == [number for number in numbers if number not in bad]


def test_the_first_failure_is_logged_with_its_places_and_each_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    table = Table([1, 2, 3, 4], {1, 3}, 1, [])
    with pytest.raises(ValueError, match="foresaw"):
        work_off(table.read, table.work, event="row_failed", name=lambda row: f"r{row}")
    assert [(record.message, bool(record.exc_info)) for record in caplog.records] == [
        ("row_failed r1", True),
        ("row_failed r3", False),
    ]


def test_an_outage_ends_the_round_and_so_does_a_stop() -> None:
    tried: list[int] = []

    def away(rows: Sequence[int]) -> int:
        tried.extend(rows)
        raise DatabaseUnavailable("away")

    table = Table([1, 2, 3], set(), 1, [])
    with pytest.raises(DatabaseUnavailable):
        work_off(table.read, away, event="failed", name=str)
    assert tried == [1]
    assert work_off(table.read, table.work, event="failed", name=str, stopped=lambda: bool(table.done)) == 1


# --- what the ledger works on -----------------------------------------------------------------------------------


def failing(module: Any, name: str, monkeypatch: pytest.MonkeyPatch, is_bad: Callable[..., bool]) -> None:
    """Make the function `name` of `module` raise for arguments for which `is_bad` is true."""
    real = getattr(module, name)

    def run(*arguments: Any) -> Any:
        if is_bad(*arguments):
            raise ValueError("a row that nothing foresaw")
        return real(*arguments)

    monkeypatch.setattr(module, name, run)


@pytest.mark.parametrize("limit", [1, 2])
def test_cases_that_fail_in_front_stop_no_clock(
    ledger: LedgerFixture, limit: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many cases fail as one query returns, and one more; all others are overdue after one round of the job."""
    ids = []
    for number in range(limit + 3):
        (case,) = contest(ledger, ledger.person(number), ledger.report(ledger.acme, ledger.person(number)))
        ids.append(decode_id("ap", case, ledger.rt.settings.service))
        ledger.clock.moment += timedelta(seconds=1)  # the order of their deadlines
    bad = set(ids[: limit + 1])
    monkeypatch.setattr(case_changes, "MAX_CASES", limit)
    failing(case_changes, "_apply_due_actions", monkeypatch, lambda _, row: row.id in bad)
    ledger.clock.moment += timedelta(days=60)
    (job,) = (job for job in ledger.rt.maintenance.clock_jobs if job.name == "appeal_clocks")
    caplog.clear()
    with pytest.raises(ValueError, match="foresaw"):
        job.run()
    with reading(ledger.rt.engine) as connection:
        overdue = set(connection.scalars(select(AppealCase.id).where(AppealCase.overdue)))
    assert overdue == set(ids) - bad
    messages = [record.message for record in caplog.records]
    assert len([message for message in messages if message.startswith("appeal_clock_failed ap_")]) == len(bad)


def test_held_reports_that_fail_in_front_stop_no_other(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [int(ledger.report(ledger.acme, ledger.person(number))["entry_index"]) for number in range(3)]
    values = dict.fromkeys(HeldRow.__dataclass_fields__)
    with writing(ledger.rt.engine) as connection:
        for number in numbers:
            given = {"report_id": number, "control_group": "acme-group", "case_id": 1, "like_id": 1, "revision": 0}
            row = HeldRow(**{**values, **given, "void_at": ledger.clock()})  # type: ignore[arg-type]
            lines_store.insert_held(connection, row)
    monkeypatch.setattr(held, "MAX_VOID", 1)
    failing(held, "_void", monkeypatch, lambda _, row: row.id in numbers[:2])
    with pytest.raises(ValueError, match="foresaw"):
        held.void_due(ledger.rt.context)
    with reading(ledger.rt.engine) as connection:
        live = set(connection.scalars(select(Report.id).where(Report.live)))
    assert live == set(numbers[:2])


def test_reports_that_cannot_be_erased_stop_no_other(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [int(ledger.report(ledger.acme, ledger.person(number))["entry_index"]) for number in range(5)]
    bad = {numbers[0], numbers[2]}
    monkeypatch.setattr(erasure, "MAX_REPORTS", 2)
    failing(erasure_store, "erase", monkeypatch, lambda _, ids: bool(bad & set(ids)))
    ledger.clock.moment += timedelta(days=500)
    with pytest.raises(ValueError, match="foresaw"):
        erasure.erase_due(ledger.rt.context, ledger.rt.settings)
    with reading(ledger.rt.engine) as connection:
        assert set(connection.scalars(select(Report.id))) == bad


def test_lookups_that_cannot_be_counted_stop_no_other(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.clock.moment = ledger.clock.moment.replace(hour=12)
    looked(ledger, "bolt", tags_of(ledger.person()), 5, ago_hours=disclosures.SINGLE_HOURS + 1)
    bad = 1
    monkeypatch.setattr(disclosures, "MAX_COUNTED", 2)
    with reading(ledger.rt.engine) as connection:
        rows = disclosure_store.single_before(connection, ledger.clock(), 10)
    failing(disclosure_store, "count_single", monkeypatch, lambda _, some: rows[0] in some)
    with pytest.raises(ValueError, match="foresaw"):
        disclosures.count_old(ledger.rt.engine, ledger.clock())
    assert sizes(ledger)[0] == bad


def test_malformed_reports_that_fail_stop_no_other(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []
    for number in range(3):
        subjects = [(kind, with_bit_255(value)) for kind, value in ledger.person(number)]
        numbers.append(record(ledger.rt, ledger.acme, subjects)["entry_index"])
    failing(malformed, "_take_back", monkeypatch, lambda _, ids: numbers[0] in ids)
    with pytest.raises(ValueError, match="foresaw"):
        malformed.take_back_malformed(ledger.rt.context)
    with reading(ledger.rt.engine) as connection:
        assert set(connection.scalars(select(Report.id).where(Report.live))) == {numbers[0]}


def test_a_file_that_cannot_be_deleted_stops_no_other(ledger: LedgerFixture, caplog: pytest.LogCaptureFixture) -> None:
    folder: Path = ledger.rt.settings.attachments_dir / "aa"
    names = ["aa" + digit * 30 for digit in "123"]
    (folder / names[0]).mkdir(parents=True)  # unlink refuses a folder
    for name in names[1:]:
        (folder / name).write_bytes(b"")
    with pytest.raises(OSError, match=names[0]):
        attachments.delete_many(ledger.rt.settings, names)
    assert [file.name for file in folder.iterdir()] == names[:1]
    with caplog.at_level(logging.ERROR):
        erasure._delete_files(ledger.rt.settings, names)
    assert [record.message for record in caplog.records] == ["erased_files_not_deleted"]
