"""Searches for reused pictures: the reports that count, the answers, and the records, on both engines."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from ledger.errors import InvalidRequest, NotFound, PictureUnfit, QuotaExceeded
from ledger.rules.appeals import Outcome
from ledger.rules.pictures import MAX_DISTANCE, distance
from ledger.server.appeals import staff_actions
from ledger.server.appeals.consumer_record import own_record
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.pictures import PictureHash, PictureHit, PictureSearch
from ledger.server.db.tables.reports import Listing, Report
from ledger.server.pictures import queries as store
from ledger.server.pictures import search as pictures
from ledger.server.pictures.queries import SearchRow
from ledger.server.pictures.search import ANSWER_BYTES, search, search_own
from ledger.server.platforms.members import set_status
from ledger.server.reports import erasure_queries as erasure
from ledger.server.reports.erasure import erase_due
from ledger.tlog.entries import PlatformState
from tests.counts import trials
from tests.rotations import report, retired, rotated, subjects_under
from tests.server.appeals.contested import contest, staff_of
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import LedgerFixture
from tests.support import Platform, evidence, opened, with_settings

pytestmark = pytest.mark.one_engine

PDQ = bytes.fromhex("0f1e2d3c4b5a6978" * 4)
ORDER = b"o" * 32
REPORTED = 12


def near(bits: int) -> bytes:
    """Return a hash that differs from PDQ in this number of bits, half of them set and half cleared."""
    number, flip = int.from_bytes(PDQ), 0
    for bit in range(bits):
        flip |= 1 << (bit % 32 * 8 + bit // 32)
    return (number ^ flip).to_bytes(32)


def used(*hashes: bytes) -> dict[str, Any]:
    """Return the arguments for a report with these hashes (PDQ by default) as the claimant's files."""
    items = [{**evidence("original_file")[0], "pdq": pdq.hex(), "pdq_quality": 80} for pdq in hashes or (PDQ,)]
    return {"conduct": "ai_fabricated_image", "evidence": items + evidence("listing_match", "admission")}


def pictured(
    ledger: LedgerFixture, platform: Platform, number: int = 0, *hashes: bytes, **changes: Any
) -> dict[str, Any]:
    """Record a report with these hashes about a person."""
    return ledger.report(platform, ledger.person(number), **{**used(*hashes), **changes})


def ask(ledger: LedgerFixture, platform: Platform, *hashes: bytes) -> list[dict[str, Any]]:
    answer = search(ledger.rt.pictures, platform.member(), list(hashes or (PDQ,)), ORDER)
    assert len(answer) == ANSWER_BYTES
    return list(json.loads(answer)["results"])


def count(ledger: LedgerFixture, platform: Platform, pdq: bytes = PDQ) -> tuple[int, int, int]:
    (result,) = ask(ledger, platform, pdq)
    return result["reports"], result["platforms"], result["own_reports"]


def rows(ledger: LedgerFixture, table: Any) -> list[Any]:
    with reading(ledger.rt.engine) as connection:
        return list(connection.execute(select(table.__table__)))


def test_it_says_how_often_and_by_how_many_but_not_who(ledger: LedgerFixture) -> None:
    assert count(ledger, ledger.bolt) == (0, 0, 0)
    pictured(ledger, ledger.acme)
    pictured(ledger, ledger.acme2, 1, near(10))
    assert count(ledger, ledger.bolt) == (2, 1, 0)
    pictured(ledger, ledger.bolt, 2)
    assert count(ledger, ledger.bolt) == (2, 1, 1)
    assert count(ledger, ledger.acme) == (1, 1, 2)
    answer = search(ledger.rt.pictures, ledger.bolt.member(), [PDQ], ORDER).decode()
    assert "acme" not in answer
    assert "rp_" not in answer


def test_the_distance_is_exact(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    results = ask(ledger, ledger.bolt, PDQ, near(31), near(32))
    assert [result["reports"] for result in results] == [1, 1, 0]
    assert distance(PDQ, near(32)) == 32


def test_one_report_counts_once_however_many_of_its_pictures_match(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme, 0, PDQ, near(4), near(8))
    assert count(ledger, ledger.bolt) == (1, 1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"disputed": True},
        {"unconfirmed": True},
        {"effective_hour": 10**6},
        {"expires_day": 1},
        {"conduct": "impersonated"},
    ],
)
def test_what_a_lookup_would_not_count_is_not_counted(ledger: LedgerFixture, change: dict[str, Any]) -> None:
    pictured(ledger, ledger.acme)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    with writing(ledger.rt.engine) as connection:
        connection.execute(update(Listing).values(change))
    assert count(ledger, ledger.bolt) == (0, 0, 0)


@pytest.mark.parametrize("outcome", [Outcome.UPHELD, Outcome.UNCONFIRMED, Outcome.OVERTURNED])
def test_an_appeal_takes_a_report_out_until_it_is_upheld(ledger: LedgerFixture, outcome: Outcome) -> None:
    items = [*evidence("carrier_record", "original_file")]
    items[1] |= {"pdq": PDQ.hex(), "pdq_quality": 80}
    report = ledger.report(ledger.acme, ledger.person(), conduct="fake_return_tracking", evidence=items)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    (case,) = contest(ledger, ledger.person(), report)
    assert count(ledger, ledger.bolt) == (0, 0, 0)
    reviewer = staff_of(ledger, "ann")
    staff_actions.take(ledger.rt.context, case, reviewer)
    staff_actions.decide(ledger.rt.context, case, reviewer, outcome, "It was looked into.")
    counts = int(outcome is Outcome.UPHELD)
    assert count(ledger, ledger.bolt) == (counts, counts, 0)


def test_a_withdrawn_and_a_replaced_report_are_not_counted(ledger: LedgerFixture) -> None:
    first = pictured(ledger, ledger.acme, order="A-1")
    pictured(ledger, ledger.acme, order="A-1", replaces=first["id"], **ledger.told_now())
    assert count(ledger, ledger.bolt) == (0, 0, 0), "the replacement cools"
    ledger.clock.moment += timedelta(days=4)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    second = pictured(ledger, ledger.bolt, 1)
    ledger.withdraw(ledger.bolt, second["id"])
    assert count(ledger, ledger.acme) == (0, 0, 1)


def test_a_suspended_groups_reports_are_not_counted(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    for platform in (ledger.acme, ledger.acme2):
        set_status(ledger.rt.engine, platform=platform.name, status=PlatformState.SUSPENDED, now=ledger.clock())
    ledger.rt.members.refresh()
    for days, counted in ((0, (1, 1, 0)), (1, (0, 0, 0))):  # a weight changes at the next UTC midnight
        ledger.clock.moment += timedelta(days=days)
        assert count(ledger, ledger.bolt) == counted
    set_status(ledger.rt.engine, platform=ledger.acme.name, status=PlatformState.ACTIVE, now=ledger.clock())
    ledger.rt.members.refresh()
    ledger.clock.moment += timedelta(days=1)
    assert count(ledger, ledger.bolt) == (1, 1, 0)


def test_an_expired_report_is_not_counted_and_an_erased_one_is_gone(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    ledger.clock.moment += timedelta(days=1095)
    assert count(ledger, ledger.bolt) == (0, 0, 0)
    assert len(rows(ledger, PictureHit)) == 1
    ledger.clock.moment += timedelta(days=61)
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 1
    assert rows(ledger, PictureHash) == rows(ledger, PictureHit) == rows(ledger, PictureSearch) == []
    assert len(ledger.rt.pictures.index._index) == 1
    assert ledger.rt.pictures.index.refresh()
    assert len(ledger.rt.pictures.index._index) == 0
    assert not ledger.rt.pictures.index.refresh()


def test_nothing_is_dropped_while_all_is_there(ledger: LedgerFixture) -> None:
    assert not ledger.rt.pictures.index.refresh()
    pictured(ledger, ledger.acme)
    count(ledger, ledger.bolt)
    pictured(ledger, ledger.bolt, 1)
    assert not ledger.rt.pictures.index.refresh()
    assert count(ledger, ledger.acme) == (1, 1, 1)


def test_a_search_goes_with_the_last_report_that_it_met(ledger: LedgerFixture) -> None:
    first = pictured(ledger, ledger.acme)
    ask(ledger, ledger.bolt)
    second = pictured(ledger, ledger.acme, 1)
    ask(ledger, ledger.bolt)
    with writing(ledger.rt.engine) as connection:
        erasure.erase(connection, [first["entry_index"]])
    (kept,) = rows(ledger, PictureSearch)
    assert [(row.search_id, row.report_id) for row in rows(ledger, PictureHit)] == [(kept.id, second["entry_index"])]
    with reading(ledger.rt.engine) as connection:
        numbers = [first["entry_index"], second["entry_index"]]
        assert [search.reports for search in store.searches_of(connection, numbers)] == [(second["entry_index"],)]
    assert count(ledger, ledger.bolt) == (1, 1, 0)


def test_hashes_do_not_depend_on_key_epochs(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1, **used())
    rotated(ledger)
    assert count(ledger, ledger.bolt) == (1, 1, 0), "listed under two epochs, it is one report"
    retired(ledger)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    session = session_of(ledger, subjects_under(ledger.rt.settings, 2, 1))
    searches = own_record(ledger.rt.context, ledger.rt.members.weights(), session)["picture_searches"]
    assert sum(search["times"] for search in searches) == 2


def test_a_restarted_process_knows_what_there_was(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    with opened(ledger.rt.settings, ledger.clock) as anew:
        assert not anew.pictures.index.refresh()
        assert len(anew.pictures.index._index) == 1, "a round of maintenance reads them before anybody searches"
        assert count(replace(ledger, rt=anew), ledger.bolt) == (1, 1, 0)


def test_threads_that_search_while_reports_come_in_miss_nothing_acknowledged(ledger: LedgerFixture) -> None:
    acknowledged, done = [0], threading.Event()
    failures: list[str] = []

    def searches() -> None:
        while not done.is_set():
            least = acknowledged[0]
            counted = count(ledger, ledger.bolt)[0]
            if not least <= counted <= REPORTED:
                failures.append(f"{counted} found, {least} were acknowledged")

    threads = [threading.Thread(target=searches) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(REPORTED):
        pictured(ledger, ledger.acme, number)
        acknowledged[0] += 1
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count(ledger, ledger.bolt) == (REPORTED, 1, 0)


def test_another_process_sees_at_once_what_this_one_recorded(ledger: LedgerFixture) -> None:
    with opened(ledger.rt.settings, ledger.clock) as other:
        ledger_there = replace(ledger, rt=other)
        assert count(ledger_there, ledger.bolt) == (0, 0, 0)
        pictured(ledger, ledger.acme)
        assert count(ledger_there, ledger.bolt) == (1, 1, 0)


def test_a_search_is_recorded_if_it_met_a_report_and_only_then(ledger: LedgerFixture) -> None:
    report = pictured(ledger, ledger.acme)
    ask(ledger, ledger.bolt, PDQ, near(40))
    ask(ledger, ledger.bolt, near(40))
    ask(ledger, ledger.acme2)  # only its own group's reports
    (logged,) = rows(ledger, PictureSearch)
    assert (logged.platform, bytes(logged.order_ref)) == ("bolt", ORDER)
    assert [(row.search_id, row.report_id) for row in rows(ledger, PictureHit)] == [(logged.id, report["entry_index"])]
    with reading(ledger.rt.engine) as connection:
        number = report["entry_index"]
        (search,) = store.searches_of(connection, [number, 10**9])
    assert search == SearchRow("bolt", ledger.clock(), ledger.clock(), 1, (number,))


def test_records_of_searches_are_kept_as_long_as_those_of_lookups(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    ask(ledger, ledger.bolt)
    ledger.clock.moment += timedelta(days=1094)
    assert pictures.forget_searches(ledger.rt.engine, ledger.clock()) == 0
    ledger.clock.moment += timedelta(days=2)
    assert pictures.forget_searches(ledger.rt.engine, ledger.clock()) == 1
    assert rows(ledger, PictureSearch) == rows(ledger, PictureHit) == []


def test_the_quota_counts_hashes_and_is_a_days(ledger: LedgerFixture) -> None:
    quota = ledger.rt.settings.model_copy(update={"pictures_daily_quota_hashes": 3})
    limited = replace(ledger, rt=with_settings(ledger.rt, quota))
    ask(limited, ledger.bolt, PDQ, PDQ)
    with pytest.raises(QuotaExceeded) as caught:
        ask(limited, ledger.bolt, PDQ, PDQ)
    assert 0 < int(str(caught.value.details["retry_after_seconds"])) <= 86_400
    ask(limited, ledger.bolt)
    ask(limited, ledger.acme, PDQ, PDQ, PDQ)
    with pytest.raises(QuotaExceeded):
        ask(limited, ledger.bolt)
    ledger.clock.moment += timedelta(days=1)
    ask(limited, ledger.bolt)


def test_what_would_meet_too_many_is_refused(ledger: LedgerFixture) -> None:
    for bad in (bytes(32), b"\xff" * 32):
        with pytest.raises(PictureUnfit):
            ask(ledger, ledger.bolt, PDQ, bad)
    with pytest.raises(InvalidRequest):
        search(ledger.rt.pictures, ledger.bolt.member(), [], ORDER)
    with pytest.raises(InvalidRequest):
        search(ledger.rt.pictures, ledger.bolt.member(), [PDQ] * 9, ORDER)


def test_a_flat_picture_is_recorded_but_never_found(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme, 0, bytes(32))
    assert rows(ledger, PictureHash) == []


def test_own_report(ledger: LedgerFixture) -> None:
    report = pictured(ledger, ledger.bolt, 0, near(3), near(60))
    pictured(ledger, ledger.acme, 1)
    pictured(ledger, ledger.bolt, 2)
    answer = json.loads(search_own(ledger.rt.pictures, ledger.bolt.member(), report["id"]))
    assert [(result["reports"], result["own_reports"]) for result in answer["results"]] == [(1, 1), (0, 0)]
    met = {pdq: result["reports"] for pdq, result in pictures.reuse(ledger.rt.pictures, report["entry_index"]).items()}
    assert met == {near(3): 2, near(60): 0}
    for unknown in ("rp_nonsense1", pictured(ledger, ledger.acme, 3)["id"]):
        with pytest.raises(NotFound):
            search_own(ledger.rt.pictures, ledger.bolt.member(), unknown)


def test_more_matches_than_are_looked_at(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_MATCHES", 2)
    for number in range(3):
        pictured(ledger, ledger.acme, number)
    (result,) = ask(ledger, ledger.bolt)
    assert (result["reports"], result["more"]) == (2, True)


def test_the_longest_answer_fits(ledger: LedgerFixture) -> None:
    result = {"reports": pictures.MAX_MATCHES, "platforms": 2000, "own_reports": 2000, "more": False, "common": False}
    assert len(pictures._padded({"results": [result] * 8, "as_of": "2026-01-01T00:00:00Z"})) == ANSWER_BYTES


HASHES = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def test_recall_is_exact_on_the_database_too(ledger: LedgerFixture) -> None:
    """The index is compared with brute force; hashes are inserted directly into the tables, between searches."""
    first = pictured(ledger, ledger.acme)["entry_index"]
    stored = [PDQ]
    with writing(ledger.rt.engine) as connection:
        template = connection.execute(select(Report.__table__).where(Report.id == first)).mappings().one()
        listing = connection.execute(select(Listing.__table__).where(Listing.report_id == first)).mappings().first()
    assert listing is not None

    @settings(max_examples=trials(12, 25), suppress_health_check=list(HealthCheck), deadline=None)
    @given(HASHES, st.integers(0, 60))
    def check(distances: list[int], asked: int) -> None:
        fresh = {first + 1_000 + len(stored) + place: near(bits) for place, bits in enumerate(distances)}
        reports = [
            {**template, "id": number, "act_id": number, "order_ref": secrets.token_bytes(32)} for number in fresh
        ]
        listings = [
            {**listing, "report_id": number, "act_id": number, "tag": secrets.token_bytes(32)} for number in fresh
        ]
        hashes = [{"id": store.picture_id(number, 0), "report_id": number, "pdq": pdq} for number, pdq in fresh.items()]
        with writing(ledger.rt.engine) as connection:
            connection.execute(Report.__table__.insert(), reports)  # type: ignore[attr-defined]
            connection.execute(Listing.__table__.insert(), listings)  # type: ignore[attr-defined]
            connection.execute(PictureHash.__table__.insert(), hashes)  # type: ignore[attr-defined]
        stored.extend(fresh.values())
        expected = sum(distance(pdq, near(asked)) <= MAX_DISTANCE for pdq in stored)
        assert count(ledger, ledger.bolt, near(asked))[0] == expected

    check()
