"""Cooling reports are hidden: a tag with only cooling reports gets the same answer, on the same path, as an unknown
tag, until the UTC midnight from which its report counts. No snapshot contains it before."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from ledger.protocol.encoding import day_floor, format_time, from_day
from ledger.protocol.public_ids import encode_id
from ledger.protocol.tags import prefix, tag
from ledger.rules.appeals import Outcome
from ledger.server.db.engine import reading
from ledger.server.db.tables.lookups import LookupLog
from ledger.server.db.tables.reports import Report
from ledger.server.keys.files import load_log_key
from ledger.server.lookups.clear_cache import ClearLookupCache
from ledger.server.lookups.listed_tags import cooling_tags, tags_since
from ledger.server.snapshots.builder import PublishedSnapshot, publish_due
from ledger.server.snapshots.files import folder_of
from ledger.snapshots.fuse_filter import FuseFilter
from ledger.snapshots.sealed import open_bucket
from tests.server.appeals.test_appeals import contest
from tests.server.appeals.test_appeals_upkeep import decided
from tests.server.conftest import LedgerFixture, Subjects
from tests.server.lookups.test_clear_cache import Seconds, clean, renew, tags, unlisted
from tests.support import lookup_request, submit_lookup

pytestmark = pytest.mark.one_engine

LAST_MOMENT = timedelta(microseconds=1)


def cooling(ledger: LedgerFixture, number: int = 0, **changes: Any) -> tuple[Subjects, datetime]:
    """Return a person with one cooling report, and the midnight at which the report comes into effect."""
    person = ledger.person(number)
    accepted = ledger.report(ledger.acme, person, notice_sent_at=format_time(ledger.clock()), **changes)
    assert accepted["status"] == "cooling"
    return person, datetime.fromisoformat(accepted["effective_from"])


@contextmanager
def statements(ledger: LedgerFixture) -> Iterator[list[str]]:
    """Collect the statements that the thread which answers lookups sends to the database in the block."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread().name == "lookups":
            asked.append(statement)

    event.listen(ledger.rt.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(ledger.rt.engine, "before_cursor_execute", note)


def from_memory(ledger: LedgerFixture, who: Subjects) -> dict[str, Any] | None:
    """Return the answer from memory, as soon as memory answers; None if `who` needs the database."""
    member = ledger.bolt.member()
    end = time.monotonic() + 20
    while True:
        stranger = lookup_request(ledger.rt, ledger.person(90 + secrets.randbelow(10)))
        answers = [
            ledger.rt.lookups.from_memory(member, request)
            for request in (stranger, lookup_request(ledger.rt, who), stranger)
        ]
        if answers[1] is not None:
            return dict(json.loads(answers[1]))
        if None not in (answers[0], answers[2]) and ledger.rt.clear_cache.ready():
            return None  # memory answered just before and just after
        assert time.monotonic() < end
        if not ledger.rt.clear_cache.built():
            submit_lookup(ledger.rt, member, stranger).result(60)  # reserves ids
        time.sleep(0.01)


def shape(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    own = ("id", "nonce", "question", "as_of", "expires_at", "as_of_index", "padding")
    return None if answer is None else {name: value for name, value in answer.items() if name not in own}


def test_a_tag_that_only_cools_takes_the_way_of_a_clean_one(ledger: LedgerFixture) -> None:
    person, begins = cooling(ledger)
    stranger = ledger.person(1)
    from_memory(ledger, stranger)  # from now on ids are reserved, and there is a filter
    with statements(ledger) as asked:
        answers = [from_memory(ledger, who) for who in (person, person[:1], stranger)]
        assert None not in answers
        assert asked == [], "nothing is asked for any of them"
    assert shape(answers[0]) == shape(answers[1]) == shape(answers[2])
    assert answers[0] is not None
    assert answers[0]["tier"] == "clear"
    assert answers[0]["reasons"] == ["no_record"]
    # From the database too, if memory does not answer: one statement, no data of the listing, no record.
    counts = []
    for who in (person, stranger):
        with statements(ledger) as asked:
            assert shape(ledger.lookup(who)) == {k: v for k, v in (shape(answers[2]) or {}).items() if k != "padding"}
            counts.append(len(asked))
    assert counts[0] == counts[1]
    with reading(ledger.rt.engine) as connection:
        assert not list(connection.execute(select(LookupLog.id)))
    ledger.clock.moment = begins - LAST_MOMENT
    assert shape(from_memory(ledger, person)) == shape(answers[2])
    ledger.clock.moment = begins
    assert from_memory(ledger, person) is None, "from its first moment on the database answers"
    assert ledger.lookup(person)["tier"] == "watch"
    with reading(ledger.rt.engine) as connection:
        assert len(list(connection.execute(select(LookupLog.id)))) == 1


def test_a_cooling_report_is_not_shown_beside_others(ledger: LedgerFixture) -> None:
    person, begins = cooling(ledger)
    ledger.report(ledger.bolt, person, amount_minor=77)
    before = ledger.lookup(person)
    assert (before["events"], before["reporters"]) == (1, 1)
    ledger.clock.moment = begins
    after = ledger.lookup(person)
    assert (after["events"], after["reporters"]) == (2, 2)


@pytest.fixture
def watched(ledger: LedgerFixture) -> ClearLookupCache:
    cache = ClearLookupCache(ledger.rt.engine, Seconds(), now=ledger.clock)
    renew(cache)
    return cache


@pytest.mark.parametrize("how", ["refreshed", "built", "noted"])
def test_memory_has_in_advance_what_comes_into_effect(
    ledger: LedgerFixture, watched: ClearLookupCache, how: str
) -> None:
    """A view from before midnight is right at midnight, without reading anything in between."""
    person, begins = cooling(ledger)
    now = ledger.clock()
    if how == "built":
        watched.build()
    if how == "noted":
        with reading(ledger.rt.engine) as connection:
            watched.note(cooling_tags(connection, 0))
    else:
        watched.refresh()
    for hidden in tags(person):
        assert clean(watched, hidden, now=now) is not None
        assert clean(watched, hidden, now=begins - LAST_MOMENT) is not None
        assert clean(watched, hidden, now=begins) is None
        assert clean(watched, secrets.token_bytes(32), hidden, now=begins + timedelta(days=3)) is None
    assert unlisted(watched, now=begins) is not None
    assert watched.sizes()[1] == 0, "what cools is not among the tags in effect"
    ledger.clock.moment = begins
    watched.refresh()
    assert watched.sizes()[1] == len(person)
    assert all(clean(watched, hidden, now=begins) is None for hidden in tags(person))
    watched.build()
    watched.refresh()
    assert watched.sizes()[1] == 0
    assert all(clean(watched, hidden, now=begins) is None for hidden in tags(person)), "now it is in the filter"


def test_a_note_survives_a_filter_that_was_built_before_it(ledger: LedgerFixture, watched: ClearLookupCache) -> None:
    """The old view keeps its tags while a new filter waits to replace it."""
    first, begins = cooling(ledger, 0)
    watched.refresh()
    watched.build()
    second, _ = cooling(ledger, 1)
    with reading(ledger.rt.engine) as connection:
        watched.note([note for note in tags_since(connection, 0) if note.tag in tags(second)])
    for person in (first, second):
        assert all(clean(watched, hidden, now=begins) is None for hidden in tags(person))
    watched.refresh()
    for person in (first, second):
        assert all(clean(watched, hidden, now=begins) is None for hidden in tags(person))
        assert all(clean(watched, hidden, now=begins - LAST_MOMENT) is not None for hidden in tags(person))


def test_a_decision_that_protects_ends_the_cooling(ledger: LedgerFixture, watched: ClearLookupCache) -> None:
    """The protective note is shown at once, although the report that it replaces was still cooling."""
    person, begins = cooling(ledger)
    (case,) = contest(ledger, person, {"id": reported(ledger)})
    watched.refresh()
    assert clean(watched, tags(person)[0], now=ledger.clock()) is not None
    decided(ledger, case, Outcome.VICTIM)
    watched.refresh()
    assert clean(watched, tags(person)[0], now=ledger.clock()) is None
    assert ledger.clock() < begins
    assert ledger.lookup(person)["protected"]


def reported(ledger: LedgerFixture) -> str:
    """Return the public id of the newest report."""
    with reading(ledger.rt.engine) as connection:
        number = connection.scalars(select(Report.id).order_by(Report.id.desc())).first()
    assert number is not None
    return encode_id("rp", number, ledger.rt.settings.service)


# --- snapshots ------------------------------------------------------------------------------------------------------


def cut(ledger: LedgerFixture) -> PublishedSnapshot | None:
    """Run one round of the snapshotter."""
    settings = ledger.rt.settings
    return publish_due(
        settings, ledger.rt.engine, load_log_key(settings), ledger.clock(), random_bytes=secrets.token_bytes
    )


def test_one_is_cut_at_midnight_and_tells_what_begins_to_count(ledger: LedgerFixture) -> None:
    person, begins = cooling(ledger)
    ledger.clock.moment = begins - timedelta(minutes=45)
    before = cut(ledger)
    assert before is not None
    ledger.clock.moment = begins - timedelta(seconds=1)
    assert cut(ledger) is None
    ledger.clock.moment = begins
    after = cut(ledger)
    assert after is not None, "the hourly one is not due yet, that of the new day is"
    assert cut(ledger) is None
    assert before.manifest.not_after == begins + timedelta(hours=1)
    assert after.manifest.as_of == begins
    results = []
    for done in (before, after):
        manifest, folder = done.manifest, folder_of(ledger.rt.settings, done.version)
        held = FuseFilter.open((folder / "filter.bin").read_bytes(), manifest.filter_sha256)
        buckets = (folder / "buckets.bin").read_bytes()
        for kind, element in person:
            number = prefix(tag(kind, element), manifest.bits)
            bucket = buckets[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]
            events = open_bucket(bucket, element, kind, manifest.version, number)
            assert not events or tag(kind, element) in held
            results.append((manifest.tags, held.keys_count, [event.severity for event in events]))
    assert results == [(0, 0, [])] * 2 + [(2, 2, [3])] * 2
    ledger.clock.moment = begins + timedelta(hours=1)
    cut(ledger)
    with pytest.raises(FileNotFoundError):
        (folder_of(ledger.rt.settings, before.version) / "filter.bin").stat()


def test_a_snapshot_of_the_day_before_keeps_its_weights(ledger: LedgerFixture) -> None:
    """A snapshot that is valid after midnight has the weights of its cut; the next one has those of the new day."""
    person = ledger.person(3)
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    decided(ledger, case, Outcome.OVERTURNED)
    person = ledger.person(4)
    ledger.report(ledger.acme, person)
    weights = []
    midnight = from_day(day_floor(ledger.clock()) + 1)
    for moment in (ledger.clock(), midnight):
        ledger.clock.moment = moment
        done = cut(ledger)
        assert done is not None
        folder, manifest = folder_of(ledger.rt.settings, done.version), done.manifest
        kind, element = person[0]
        number = prefix(tag(kind, element), manifest.bits)
        bucket = (folder / "buckets.bin").read_bytes()[number * manifest.bucket_bytes :][: manifest.bucket_bytes]
        (event,) = open_bucket(bucket, element, kind, manifest.version, number)
        weights.append(event.weight)
    assert weights == [40, 35]
