"""Common pictures: those in the operator's list, and those that many unconnected people used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import AlreadyExists, InvalidRequest, NotFound, PictureUnfit
from ledger.server.db.tables.pictures import PictureBenign, PictureSearch
from ledger.server.db.tables.staff import StaffEvent
from ledger.server.pictures.benign import MAX_REASON_CHARS, add_benign, list_benign, remove_benign
from ledger.server.pictures.search import search_own
from tests.server.conftest import LedgerFixture
from tests.server.pictures.test_pictures import PDQ, ask, count, near, pictured, rows
from tests.support import Platform, evidence, opened

pytestmark = pytest.mark.one_engine

REASON = "the courier's delivery page"
COMMON = {"reports": 0, "platforms": 0, "own_reports": 0, "more": False, "common": True}


def put(ledger: LedgerFixture, pdq: bytes = PDQ) -> None:
    add_benign(ledger.rt.engine, pdq, REASON, ledger.clock())


def take(ledger: LedgerFixture, pdq: bytes = PDQ) -> None:
    remove_benign(ledger.rt.engine, pdq, "it was a mistake", ledger.clock())


def far(bits: int) -> bytes:
    """Return a hash that differs from PDQ in other bits than those that `near` flips."""
    number = int.from_bytes(PDQ)
    for bit in range(bits):
        number ^= 1 << (bit * 8 + 1)
    return number.to_bytes(32)


def test_no_search_matches_a_benign_picture_until_it_is_removed(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    put(ledger, near(31))
    assert ask(ledger, ledger.bolt) == [COMMON]
    assert len(rows(ledger, PictureSearch)) == 1, "nothing was told of anybody"
    take(ledger, near(31))
    assert count(ledger, ledger.bolt) == (1, 1, 0)
    put(ledger, near(32))
    assert count(ledger, ledger.bolt) == (1, 1, 0), "the picture is just too far away"


def test_what_is_like_a_benign_picture_is_not_met_by_a_search_for_something_else(ledger: LedgerFixture) -> None:
    """The searched hash is at distance 42 from the benign picture, and the report's hash is near both."""
    pictured(ledger, ledger.acme)
    pictured(ledger, ledger.acme, 1, far(31))
    asked = far(21)
    put(ledger, near(21))
    assert [result["reports"] for result in ask(ledger, ledger.bolt, asked)] == [1], (
        "only the one that is near the asked alone"
    )
    take(ledger, near(21))
    assert count(ledger, ledger.bolt, asked) == (2, 1, 0)


def test_other_processes_know_at_once(ledger: LedgerFixture) -> None:
    pictured(ledger, ledger.acme)
    with opened(ledger.rt.settings, ledger.clock) as other:
        there = replace(ledger, rt=other)
        for _ in range(2):  # removed and added again: the list has the same number of rows as before
            assert count(there, ledger.bolt) == (1, 1, 0)
            put(ledger)
            assert ask(there, ledger.bolt) == [COMMON]
            take(ledger)
        put(ledger, near(60))
        assert count(there, ledger.bolt) == (1, 1, 0)


def test_the_list_and_what_it_refuses(ledger: LedgerFixture) -> None:
    put(ledger)
    put(ledger, near(1))
    assert [(row.pdq, row.reason, row.added_at) for row in list_benign(ledger.rt.engine)] == [
        (PDQ, REASON, ledger.clock()),
        (near(1), REASON, ledger.clock()),
    ]
    with pytest.raises(AlreadyExists):
        put(ledger)
    take(ledger)
    with pytest.raises(NotFound):
        take(ledger)
    assert [row.pdq for row in list_benign(ledger.rt.engine)] == [near(1)]
    with pytest.raises(PictureUnfit):
        put(ledger, bytes(32))
    for reason in ("", " ", "a" * (MAX_REASON_CHARS + 1), "two\nlines"):
        with pytest.raises(InvalidRequest):
            add_benign(ledger.rt.engine, near(2), reason, ledger.clock())
    with pytest.raises(InvalidRequest):
        put(ledger, PDQ[:31])


def test_the_list_has_an_end(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.server.pictures.benign.MAX_BENIGN", 1)
    put(ledger)
    with pytest.raises(InvalidRequest):
        put(ledger, near(40))
    take(ledger)
    put(ledger, near(40))


def test_each_change_is_in_the_audit_log_and_no_row_is_deleted(ledger: LedgerFixture) -> None:
    put(ledger)
    take(ledger)
    with ledger.rt.engine.connect() as connection:
        events = connection.execute(select(StaffEvent.__table__).order_by(StaffEvent.id)).all()
    (row,) = rows(ledger, PictureBenign)
    assert [(event.staff_id, event.action, event.object_type, event.object_id, event.detail) for event in events] == [
        (None, "picture_benign_added", "picture", str(row.id), REASON),
        (None, "picture_benign_removed", "picture", str(row.id), "it was a mistake"),
    ]


@pytest.fixture
def members(ledger: LedgerFixture) -> list[Platform]:
    """Return three independent members."""
    third = Platform("corner", "corner-group", "corner-1").enrol(ledger.rt.settings)
    ledger.rt.members.refresh()
    return [ledger.acme, ledger.bolt, third]


def unforged(ledger: LedgerFixture, platform: Platform, number: int, pdq: bytes = PDQ) -> dict[str, Any]:
    """Record a report that does not dispute the picture itself."""
    items = [*evidence("carrier_record", "original_file")]
    items[1] |= {"pdq": pdq.hex(), "pdq_quality": 80}
    return ledger.report(platform, ledger.person(number), conduct="fake_return_tracking", evidence=items)


def test_a_picture_that_many_unconnected_people_used_is_common(ledger: LedgerFixture, members: list[Platform]) -> None:
    for number in range(4):
        unforged(ledger, members[number % 3], number)
    assert count(ledger, ledger.acme2) == (2, 2, 2)
    fifth = unforged(ledger, members[1], 4)
    assert ask(ledger, ledger.acme2) == [COMMON]
    ledger.withdraw(members[1], fifth["id"])
    assert count(ledger, ledger.acme2) == (2, 2, 2), "it is decided anew each time"


@pytest.mark.parametrize(
    "fifth",
    [
        lambda ledger, members: pictured(ledger, members[1], 4),  # says that the picture is forged
        lambda ledger, members: unforged(ledger, members[0], 0),  # a person who is counted already
    ],
)
def test_a_forged_picture_is_never_common_nor_one_of_few_people(
    ledger: LedgerFixture, members: list[Platform], fifth: Callable[[LedgerFixture, list[Platform]], Any]
) -> None:
    for number in range(4):
        unforged(ledger, members[number % 3], number)
    fifth(ledger, members)
    (result,) = ask(ledger, members[2])
    assert (result["common"], result["reports"], result["own_reports"]) == (False, 4, 1)


def test_one_refund_that_two_members_reported_is_no_reuse(ledger: LedgerFixture) -> None:
    """For example, they share a payment provider: the picture was sent once."""
    first = pictured(ledger, ledger.acme)
    pictured(ledger, ledger.bolt)
    third = Platform("corner", "corner-group", "corner-1").enrol(ledger.rt.settings)
    assert count(ledger, third) == (1, 2, 0), "one refund, which two members reported"
    assert count(ledger, ledger.acme) == (0, 0, 1), "nobody learns who else reported what they reported"
    own = json.loads(search_own(ledger.rt.pictures, ledger.acme.member(), first["id"]))["results"]
    assert [(result["reports"], result["own_reports"]) for result in own] == [(0, 0)]
    pictured(ledger, ledger.bolt, 1)
    assert count(ledger, ledger.acme) == (1, 1, 1)
    own = json.loads(search_own(ledger.rt.pictures, ledger.acme.member(), first["id"]))["results"]
    assert [(result["reports"], result["own_reports"]) for result in own] == [(1, 0)]
