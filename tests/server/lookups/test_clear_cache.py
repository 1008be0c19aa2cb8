"""Clean lookups from memory: nobody is called clear who was listed at the watermark, and no view is used for long."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from ledger.errors import DatabaseUnavailable
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.db.bulk import insert_rows
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.log import LogEntry
from ledger.server.db.tables.reports import Listing
from ledger.server.keys.epochs import read_epochs
from ledger.server.log import queries as log_store
from ledger.server.lookups import clear_cache as module
from ledger.server.lookups import listed_tags
from ledger.server.lookups.clear_cache import MAX_STALENESS_MS, ClearLookupCache
from ledger.server.lookups.listed_tags import ListedTag, packed_tags
from ledger.server.rotation.retire import retire
from ledger.server.runtime import Runtime
from tests import pg
from tests.processes import until
from tests.rotations import report, rotated, subjects_under
from tests.server.conftest import LedgerFixture
from tests.support import Platform, lookup_request, new_ledger, opened

pytestmark = pytest.mark.one_engine

STALENESS = MAX_STALENESS_MS / 1000


class Seconds:
    """A monotonic clock that tests turn."""

    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self) -> float:
        return self.value


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def watched(ledger: LedgerFixture, seconds: Seconds) -> ClearLookupCache:
    """A presence without threads: it knows what the test lets it read."""
    made = ClearLookupCache(ledger.rt.engine, seconds, now=ledger.clock)
    renew(made)
    return made


def renew(one: ClearLookupCache) -> None:
    """Build the filter if it is asked for, and refresh."""
    while not one.refresh():
        one.build()


def head(ledger: LedgerFixture) -> int:
    with reading(ledger.rt.engine) as connection:
        found = log_store.read_head(connection)
    assert found is not None
    return found.size


def tags(subjects: Iterable[tuple[Kind, bytes]]) -> list[bytes]:
    return [tag(kind, element) for kind, element in subjects]


def clean(
    one: ClearLookupCache, *who: bytes, epoch: int = 1, min_index: int | None = None, now: datetime | None = None
) -> int | None:
    return one.clean(epoch, list(who), min_index, now or datetime.now(UTC))


def unlisted(one: ClearLookupCache, **asked: Any) -> int | None:
    """What it says of strangers: of several, because one in 65,536 looks listed."""
    return next((found for _ in range(4) if (found := clean(one, secrets.token_bytes(32), **asked)) is not None), None)


def test_whoever_is_listed_is_not_clear_from_the_next_refresh_on(
    ledger: LedgerFixture, watched: ClearLookupCache
) -> None:
    ledger.report(ledger.acme, ledger.person(0))
    assert clean(watched, *tags(ledger.person(0))) == head(ledger) - 1, "what it says is true of its own watermark"
    watched.refresh()
    for who in (
        tags(ledger.person(0)),
        tags(ledger.person(0))[1:],
        [secrets.token_bytes(32), *tags(ledger.person(0))[:1]],
    ):
        assert clean(watched, *who) is None
    assert clean(watched, *tags(ledger.person(1))) == head(ledger)


def test_what_was_listed_when_the_filter_was_built_is_in_it(ledger: LedgerFixture, seconds: Seconds) -> None:
    for number in range(5):
        ledger.report(ledger.acme, ledger.person(number))
    made = ClearLookupCache(ledger.rt.engine, seconds)
    assert unlisted(made) is None, "it knows nothing yet"
    renew(made)
    assert made.sizes()[1] == 0
    for number in range(5):
        assert all(clean(made, one) is None for one in tags(ledger.person(number)))
    assert unlisted(made) == head(ledger)


def test_a_withdrawn_report_costs_a_query_until_the_filter_is_built_again(
    ledger: LedgerFixture, watched: ClearLookupCache
) -> None:
    made = ledger.report(ledger.acme, ledger.person())
    watched.refresh()
    ledger.withdraw(ledger.acme, made["id"])
    watched.refresh()
    assert clean(watched, *tags(ledger.person())) is None
    watched.build()
    watched.refresh()
    assert clean(watched, *tags(ledger.person())) == head(ledger)


def test_a_view_is_used_for_so_long_and_no_longer(
    ledger: LedgerFixture, watched: ClearLookupCache, seconds: Seconds
) -> None:
    seconds.value += STALENESS
    assert unlisted(watched) == head(ledger)
    assert watched.ready()
    seconds.value += 0.001
    assert unlisted(watched) is None
    assert not watched.ready()
    watched.refresh()
    assert unlisted(watched) == head(ledger)


def test_the_age_counts_from_before_the_reading(
    ledger: LedgerFixture, watched: ClearLookupCache, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(connection: Any) -> Any:
        seconds.value += STALENESS + 0.001
        return read_epochs(connection)

    monkeypatch.setattr(module, "read_epochs", slow)
    watched.refresh()
    assert unlisted(watched) is None


def test_min_index_is_answered_only_by_a_view_that_has_reached_it(
    ledger: LedgerFixture, watched: ClearLookupCache
) -> None:
    made = ledger.report(ledger.acme, ledger.person())
    reached = made["entry_index"] + 1
    assert unlisted(watched, min_index=reached) is None
    assert unlisted(watched, min_index=reached - 1) == reached - 1
    watched.refresh()
    assert unlisted(watched, min_index=reached) == reached
    assert unlisted(watched, min_index=reached + 1) is None


def test_what_this_process_has_accepted_is_known_before_it_is_acknowledged(ledger: LedgerFixture) -> None:
    for number in range(20):
        ledger.report(ledger.acme, ledger.person(number))
        request = lookup_request(ledger.rt, ledger.person(number))
        answer = json.loads(asyncio.run(ledger.rt.lookups.lookup(ledger.bolt.member(), request)))
        assert answer["tier"] == "watch"


def test_a_noted_tag_survives_a_new_filter(ledger: LedgerFixture, watched: ClearLookupCache) -> None:
    watched.build()  # waits to be taken over
    one = [secrets.token_bytes(32)]
    watched.note([ListedTag(one[0], 0)])
    assert clean(watched, *one) is None
    ledger.report(ledger.acme, ledger.person())
    watched.refresh()
    assert clean(watched, *tags(ledger.person())) is None


@pytest.mark.parametrize("why", ["many", "old"])
def test_the_filter_is_built_again_in_time(
    ledger: LedgerFixture, watched: ClearLookupCache, seconds: Seconds, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ADDED_LIMIT", 3)
    numbers = range(1) if why == "old" else range(2)
    for number in numbers:
        ledger.report(ledger.acme, ledger.person(number))
    watched.refresh()
    assert watched.sizes()[1] == 2 * len(numbers)
    if why == "old":
        seconds.value += module.REBUILD_SECONDS + 1
    watched.start(5)
    try:
        wait_for(lambda: watched.sizes()[1] == 0)
        assert clean(watched, *tags(ledger.person())) is None
    finally:
        watched.close()
    assert unlisted(watched) is None, "closed"


def wait_for(condition: Callable[[], object], limit_seconds: float = 20) -> None:
    end = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_another_history_of_the_log_is_noticed(ledger: LedgerFixture, watched: ClearLookupCache) -> None:
    """As after a failover that lost the newest entries: their indexes were given out again."""
    last = head(ledger) - 1
    ledger.report(ledger.acme, ledger.person(0))
    lost = [secrets.token_bytes(32)]
    with writing(ledger.rt.engine) as connection:
        row = connection.execute(select(Listing.__table__).limit(1)).mappings().one()
        insert_rows(connection, Listing, [{**row, "tag": lost[0], "report_id": last}])
        connection.execute(update(LogEntry).where(LogEntry.entry_index == last).values(leaf=b"another"))
    assert not watched.refresh()
    assert unlisted(watched) is None
    renew(watched)
    assert clean(watched, *lost) is None
    with writing(ledger.rt.engine) as connection:
        log_store.move_head(connection, last, ledger.clock())
    assert not watched.refresh(), "the log is shorter than it was"


def test_a_rotation_never_makes_anybody_clear(
    ledger: LedgerFixture, watched: ClearLookupCache, seconds: Seconds
) -> None:
    """Whatever the rotation has done so far: clear is said only of people whom the table does not have."""
    for number in range(6):
        report(ledger, ledger.acme, number, 1)
    watched.refresh()
    asked = answered = 0

    def check(*_: object) -> None:
        nonlocal asked, answered
        if asked % 3 == 0:
            watched.build()
        watched.refresh()
        with reading(ledger.rt.engine) as connection:
            states = {row.epoch: row.state for row in read_epochs(connection)}
        for epoch in states:
            asked += 1
            found = unlisted(watched, epoch=epoch)
            assert found is None or states[epoch] in ("current", "previous")
            answered += found is not None
            for number in range(6):
                assert clean(watched, *tags(subjects_under(ledger.rt.settings, epoch, number)), epoch=epoch) is None

    rotated(ledger, progress=check)
    assert answered
    assert not watched.refresh(), "the switch has changed the epochs: the filter is not good for the new one"
    check()
    renew(watched)
    check()
    assert unlisted(watched, epoch=1) == unlisted(watched, epoch=2) == head(ledger)
    report(ledger, ledger.bolt, 7, 1)
    report(ledger, ledger.bolt, 8, 2)
    watched.refresh()
    for number in (7, 8):
        for epoch in (1, 2):
            assert clean(watched, *tags(subjects_under(ledger.rt.settings, epoch, number)), epoch=epoch) is None
    ledger.clock.moment += timedelta(days=31)
    retire(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    renew(watched)
    assert unlisted(watched, epoch=1) is None
    assert unlisted(watched, epoch=2) == head(ledger)


def test_a_report_at_one_process_is_seen_at_the_other(ledger: LedgerFixture) -> None:
    with opened(ledger.rt.settings, ledger.clock) as other:
        wait_for(other.clear_cache.ready)
        first = ledger.report(ledger.acme, ledger.person(0))
        assert ask(other, ledger, 0, min_index=first["entry_index"] + 1) == "watch", "at once, if it is asked for"
        ledger.report(ledger.acme, ledger.person(1))
        wait_for(lambda: ask(other, ledger, 1) == "watch")
        assert ask(other, ledger, 2) == "clear"
    with opened(ledger.rt.settings, ledger.clock) as again:
        assert [ask(again, ledger, number) for number in range(3)] == ["watch", "watch", "clear"]
        wait_for(again.clear_cache.ready)
        assert [ask(again, ledger, number) for number in range(3)] == ["watch", "watch", "clear"]


def ask(rt: Runtime, ledger: LedgerFixture, number: int, **changes: Any) -> str:
    request = lookup_request(rt, ledger.person(number), **changes)
    return str(json.loads(asyncio.run(rt.lookups.lookup(ledger.bolt.member(), request)))["tier"])


@pytest.mark.postgresql
def test_a_lost_database_makes_lookups_fail_and_never_wrong(
    emptied_postgresql: Callable[[], str], tmp_path: Any
) -> None:
    made = new_ledger(emptied_postgresql(), tmp_path)
    acme = Platform("acme", "acme-group", "acme-1").enrol(made)
    with opened(made) as rt:
        wait_for(rt.clear_cache.ready)
        request = lookup_request(rt, [(Kind.PHONE, bytes([2] * 32))])
        assert json.loads(asyncio.run(rt.lookups.lookup(acme.member(), request)))["tier"] == "clear"
        with pg.refused_connections(made.database_url):
            wait_for(lambda: not rt.clear_cache.ready())
            with pytest.raises(DatabaseUnavailable):
                asyncio.run(rt.lookups.lookup(acme.member(), request))
            with pytest.raises(DatabaseUnavailable):
                rt.clear_cache.refresh()
        wait_for(rt.clear_cache.ready)
        assert json.loads(asyncio.run(rt.lookups.lookup(acme.member(), request)))["tier"] == "clear"
        pg.terminate_backends(made.database_url)
        wait_for(rt.clear_cache.ready)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 4)),
        st.tuples(st.just("withdraw"), st.integers(0, 4)),
        st.tuples(st.just("refresh"), st.just(0)),
        st.tuples(st.just("build"), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([10, 90, 150, 201])),
        st.tuples(st.just("ask"), st.integers(0, 4)),
    ),
    max_size=25,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps)
def test_memory_says_clear_only_where_the_database_said_so(
    ledger: LedgerFixture, watched: ClearLookupCache, seconds: Seconds, plan: list[tuple[str, int]]
) -> None:
    """Any order of reports, withdrawals, refreshes and questions: an answer is true of its watermark, and the watermark
    is that of a log of at most MAX_STALENESS_MS ago."""
    listed: dict[int, set[bytes]] = {}
    grown: list[tuple[float, int]] = []
    renew(watched)

    def note() -> None:
        grown.append((seconds.value, head(ledger)))
        with reading(ledger.rt.engine) as connection:
            packed = packed_tags(connection, 10**6)
        listed[grown[-1][1]] = {packed[place : place + 32] for place in range(0, len(packed), 32)}

    note()
    ids: dict[int, list[str]] = {}
    for what, value in [*plan, *(("ask", number) for number in range(5))]:
        if what == "report":
            ids.setdefault(value, []).append(ledger.report(ledger.acme, ledger.person(value))["id"])
            note()
        elif what == "withdraw" and ids.get(value):
            ledger.withdraw(ledger.acme, ids[value].pop())
            note()
        elif what == "refresh":
            renew(watched)
        elif what == "build":
            watched.build()
        elif what == "wait":
            seconds.value += value / 1000
        elif what == "ask":
            asked = tags(ledger.person(value))
            watermark = clean(watched, *asked)
            if watermark is not None:
                assert not listed[watermark] & set(asked)
                seen = [size for when, size in grown if when < seconds.value - STALENESS - 1e-9]
                assert watermark >= max(seen, default=0)
    renew(watched)
    for number in range(5):
        asked = tags(ledger.person(number))
        if clean(watched, *asked) is not None:
            assert ledger.lookup(ledger.person(number))["tier"] == "clear"
            assert not ids.get(number)
        if ids.get(number):
            assert clean(watched, *asked) is None


def test_asking_while_others_write_and_refresh(ledger: LedgerFixture, watched: ClearLookupCache) -> None:
    """Threads ask for people who were listed before the last refresh began: never clear."""
    known: list[bytes] = []
    wrong: list[bytes] = []
    stop = threading.Event()

    def asking() -> None:
        while not stop.wait(0.0005):
            wrong.extend(one for one in list(known) if clean(watched, one) is not None)

    threads = [threading.Thread(target=asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            subjects = ledger.person(number)
            ledger.report(ledger.acme, subjects)
            if number % 4 == 3:
                watched.build()
            renew(watched)
            known += tags(subjects)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_every_listing_is_packed(ledger: LedgerFixture) -> None:
    for number in (0, 0, 1):
        ledger.report(ledger.acme, ledger.person(number))
    with reading(ledger.rt.engine) as connection:
        packed = packed_tags(connection, 10**6)
    parts = [packed[place : place + 32] for place in range(0, len(packed), 32)]
    assert sorted(parts) == sorted([*tags(ledger.person(0)) * 2, *tags(ledger.person(1))])


# --- the end of a build -----------------------------------------------------------------------------------------


def test_a_build_that_waits_for_the_database_ends_at_once(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server takes long for the first part of its answer. No connection is cut that others have meanwhile."""
    slow = "SELECT CAST(pg_sleep(20) AS text)"
    if ledger.rt.engine.dialect.name == "sqlite":
        slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    monkeypatch.setattr(listed_tags, "_PACKED", text(slow))
    monkeypatch.setattr(listed_tags, "_IN_EFFECT", text(slow))
    one = ClearLookupCache(ledger.rt.engine)
    one.workers[1].start()
    one._wanted.set()
    until(lambda: one._reading is not None, "it does not read")
    time.sleep(0.1)
    started = time.monotonic()
    one.stop_building()
    assert one.workers[1].close(10)
    assert time.monotonic() - started < 3
    assert one._reading is None
    assert not caplog.records, "that it was stopped is no failure"
    one.stop_building()
    with reading(ledger.rt.engine) as connection:
        assert log_store.read_head(connection) is not None


def test_a_build_that_computes_looks_often(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped while it peels: at the next few thousand tags it ends, and leaves no filter."""
    one = ClearLookupCache(ledger.rt.engine)
    looks = 0

    def stopped() -> bool:
        nonlocal looks
        looks += 1
        return looks >= 12

    monkeypatch.setattr(one.workers[1], "stopping", stopped)
    monkeypatch.setattr(module, "packed_tags", lambda *_: secrets.token_bytes(32 * 100_000))
    one._build()
    assert looks <= 12 + 1, "the last one asks whether the error is the stop"
    assert (one._built, one._building) == (None, False)
