"""History that contradicts what was signed: nothing is signed any more, the log is frozen, reads go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from ledger.errors import LogFrozen
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import reading, writing
from ledger.server.db.schema import Base
from ledger.server.db.tables.log import CheckpointRow, LogHead, Tile
from ledger.server.log.checkpoint_lock import CHECKPOINT_FILE
from ledger.server.reports.reports import get_report, submit_report
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests.support import (
    Platform,
    element_of,
    lookup_request,
    new_ledger,
    opened,
    publish,
    report_payload,
    submit_lookup,
)

pytestmark = pytest.mark.one_engine


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return new_ledger(database_url, tmp_path)


@pytest.fixture
def acme(settings: Settings) -> Platform:
    return Platform("acme", "acme-group", "acme-1").enrol(settings)


@pytest.fixture
def rt(settings: Settings, acme: Platform) -> Iterator[Runtime]:
    with opened(settings) as runtime:
        yield runtime


def report(rt: Runtime, acme: Platform, key: str) -> str:
    element = element_of(rt, Kind.PHONE, "+8613800138000")
    stored = submit_report(rt.reports, acme.member(), report_payload(rt, acme, [(Kind.PHONE, element)]), key).result(60)
    return str(json.loads(stored.body)["id"])


def checkpoints(rt: Runtime) -> list[tuple[int, str]]:
    with reading(rt.engine) as connection:
        return [(size, note) for size, note in connection.execute(select(CheckpointRow.size, CheckpointRow.note))]


def backup(rt: Runtime) -> dict[str, list[dict[str, object]]]:
    with reading(rt.engine) as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(table.select())]
            for table in Base.metadata.sorted_tables
        }


def restore(rt: Runtime, saved: dict[str, list[dict[str, object]]]) -> None:
    with writing(rt.engine) as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        for table in Base.metadata.sorted_tables:
            if saved[table.name]:
                connection.execute(table.insert(), saved[table.name])


def assert_frozen(settings: Settings, rt: Runtime, acme: Platform, report_id: str, why: str) -> None:
    before = checkpoints(rt)
    guard = settings.guard_dir / CHECKPOINT_FILE
    guarded = guard.read_text() if guard.exists() else None
    for _ in range(2):
        verdict = publish(settings)
        assert verdict.signed_size is None
        assert verdict.frozen is not None
        assert why in verdict.frozen
    with pytest.raises(LogFrozen):
        report(rt, acme, "while-frozen")
    assert checkpoints(rt) == before, "nothing is signed"
    assert (guard.read_text() if guard.exists() else None) == guarded
    assert get_report(rt.context, acme.member(), report_id)["id"] == report_id, "reads go on"
    element = element_of(rt, Kind.PHONE, "+8613800138000")
    answer = json.loads(submit_lookup(rt, acme.member(), lookup_request(rt, [(Kind.PHONE, element)])).result(60))
    assert answer["tier"] == "watch"


def test_an_old_backup_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)
    saved = backup(rt)
    report(rt, acme, "two")
    publish(settings)
    restore(rt, saved)
    assert_frozen(settings, rt, acme, first, "old backup")


def test_a_backup_that_grew_again_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)
    saved = backup(rt)
    report(rt, acme, "two")
    publish(settings)
    restore(rt, saved)
    report(rt, acme, "another two")
    report(rt, acme, "another three")
    assert_frozen(settings, rt, acme, first, "differs from what was signed")


def test_a_missing_guard_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)
    (settings.guard_dir / CHECKPOINT_FILE).unlink()
    assert_frozen(settings, rt, acme, first, "missing")


def test_an_old_guard_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    old = (settings.guard_dir / CHECKPOINT_FILE).read_text()
    first = report(rt, acme, "one")
    publish(settings)
    (settings.guard_dir / CHECKPOINT_FILE).write_text(old)
    assert_frozen(settings, rt, acme, first, "old guard")


def test_a_damaged_guard_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)
    path = settings.guard_dir / CHECKPOINT_FILE
    path.write_text(path.read_text().replace("\n", " ", 1))
    assert_frozen(settings, rt, acme, first, "not a checkpoint")


def test_a_flipped_bit_in_a_tile_freezes_the_log(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)
    with writing(rt.engine) as connection:
        data = bytearray(connection.scalar(select(Tile.data).where(Tile.level == 0, Tile.tile_index == 0)) or b"")
        data[40] ^= 1
        connection.execute(update(Tile).where(Tile.level == 0, Tile.tile_index == 0).values(data=bytes(data)))
    assert_frozen(settings, rt, acme, first, "differs from what was signed")


def test_the_right_database_and_guard_thaw_it(settings: Settings, rt: Runtime, acme: Platform) -> None:
    report(rt, acme, "one")
    publish(settings)
    guard = settings.guard_dir / CHECKPOINT_FILE
    aside = guard.with_name("aside")
    shutil.copy(guard, aside)
    guard.unlink()
    assert publish(settings).frozen
    shutil.move(aside, guard)
    verdict = publish(settings)
    assert verdict.frozen is None
    report(rt, acme, "two")
    grown = publish(settings).signed_size
    assert grown is not None
    assert grown > (verdict.signed_size or 0)


def test_a_crash_between_guard_and_publishing_is_finished(settings: Settings, rt: Runtime, acme: Platform) -> None:
    report(rt, acme, "one")
    size = publish(settings).signed_size
    newest = max(checkpoints(rt))
    with writing(rt.engine) as connection:
        connection.execute(text("DELETE FROM checkpoint WHERE size = :size"), {"size": size})
    publish(settings)
    assert max(checkpoints(rt)) == newest, "the very checkpoint that was signed, not another of the same size"


def test_the_head_says_frozen(settings: Settings, rt: Runtime) -> None:
    (settings.guard_dir / CHECKPOINT_FILE).unlink()
    publish(settings)
    with reading(rt.engine) as connection:
        assert connection.scalar(select(LogHead.frozen)) == "the guard is missing"


def test_a_changed_tile_that_the_log_grew_over_is_not_signed(settings: Settings, rt: Runtime, acme: Platform) -> None:
    first = report(rt, acme, "one")
    publish(settings)

    def flip() -> None:
        with writing(rt.engine) as connection:
            data = bytearray(connection.scalar(select(Tile.data).where(Tile.level == 0, Tile.tile_index == 0)) or b"")
            data[40] ^= 1
            connection.execute(update(Tile).where(Tile.level == 0, Tile.tile_index == 0).values(data=bytes(data)))

    flip()
    report(rt, acme, "two")
    assert_frozen(settings, rt, acme, first, "differs from what was signed")
