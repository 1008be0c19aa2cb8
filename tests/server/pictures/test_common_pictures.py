"""Pictures that anybody may have: the operator's list, and those that many unconnected people used."""

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
from tests.server.conftest import Town
from tests.server.pictures.test_pictures import PDQ, ask, count, near, pictured, rows
from tests.support import Platform, evidence, opened

pytestmark = pytest.mark.one_engine

REASON = "the courier's delivery page"
COMMON = {"reports": 0, "platforms": 0, "own_reports": 0, "more": False, "common": True}


def put(town: Town, pdq: bytes = PDQ) -> None:
    add_benign(town.rt.engine, pdq, REASON, town.clock())


def take(town: Town, pdq: bytes = PDQ) -> None:
    remove_benign(town.rt.engine, pdq, "it was a mistake", town.clock())


def far(bits: int) -> bytes:
    """A hash that differs from PDQ in other bits than `near` flips."""
    number = int.from_bytes(PDQ)
    for bit in range(bits):
        number ^= 1 << (bit * 8 + 1)
    return number.to_bytes(32)


def test_a_benign_picture_is_found_by_nobody_until_it_is_removed(town: Town) -> None:
    pictured(town, town.acme)
    assert count(town, town.bolt) == (1, 1, 0)
    put(town, near(31))
    assert ask(town, town.bolt) == [COMMON]
    assert len(rows(town, PictureSearch)) == 1, "nothing was told of anybody"
    take(town, near(31))
    assert count(town, town.bolt) == (1, 1, 0)
    put(town, near(32))
    assert count(town, town.bolt) == (1, 1, 0), "the picture is just too far away"


def test_what_is_like_a_benign_picture_is_not_met_by_a_search_for_something_else(town: Town) -> None:
    """The hash that is asked for is 42 away from the benign picture, and the report's is near both."""
    pictured(town, town.acme)
    pictured(town, town.acme, 1, far(31))
    asked = far(21)
    put(town, near(21))
    assert [one["reports"] for one in ask(town, town.bolt, asked)] == [1], "only the one that is near the asked alone"
    take(town, near(21))
    assert count(town, town.bolt, asked) == (2, 1, 0)


def test_other_processes_know_at_once(town: Town) -> None:
    pictured(town, town.acme)
    with opened(town.rt.settings, town.clock) as other:
        there = replace(town, rt=other)
        for _ in range(2):  # removed and added again: as many rows stand as before
            assert count(there, town.bolt) == (1, 1, 0)
            put(town)
            assert ask(there, town.bolt) == [COMMON]
            take(town)
        put(town, near(60))
        assert count(there, town.bolt) == (1, 1, 0)


def test_the_list_and_what_it_refuses(town: Town) -> None:
    put(town)
    put(town, near(1))
    assert [(one.pdq, one.reason, one.added_at) for one in list_benign(town.rt.engine)] == [
        (PDQ, REASON, town.clock()),
        (near(1), REASON, town.clock()),
    ]
    with pytest.raises(AlreadyExists):
        put(town)
    take(town)
    with pytest.raises(NotFound):
        take(town)
    assert [one.pdq for one in list_benign(town.rt.engine)] == [near(1)]
    with pytest.raises(PictureUnfit):
        put(town, bytes(32))
    for reason in ("", " ", "a" * (MAX_REASON_CHARS + 1), "two\nlines"):
        with pytest.raises(InvalidRequest):
            add_benign(town.rt.engine, near(2), reason, town.clock())
    with pytest.raises(InvalidRequest):
        put(town, PDQ[:31])


def test_the_list_has_an_end(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.server.pictures.benign.MAX_BENIGN", 1)
    put(town)
    with pytest.raises(InvalidRequest):
        put(town, near(40))
    take(town)
    put(town, near(40))


def test_each_change_is_in_the_audit_log_and_no_row_is_deleted(town: Town) -> None:
    put(town)
    take(town)
    with town.rt.engine.connect() as connection:
        events = connection.execute(select(StaffEvent.__table__).order_by(StaffEvent.id)).all()
    (row,) = rows(town, PictureBenign)
    assert [(one.staff_id, one.action, one.object_type, one.object_id, one.detail) for one in events] == [
        (None, "picture_benign_added", "picture", str(row.id), REASON),
        (None, "picture_benign_removed", "picture", str(row.id), "it was a mistake"),
    ]


@pytest.fixture
def members(town: Town) -> list[Platform]:
    """Three independent members."""
    third = Platform("corner", "corner-group", "corner-1").enrol(town.rt.settings)
    town.rt.members.refresh()
    return [town.acme, town.bolt, third]


def unforged(town: Town, platform: Platform, number: int, pdq: bytes = PDQ) -> dict[str, Any]:
    """A report that says nothing against the picture itself."""
    items = [*evidence("carrier_record", "original_file")]
    items[1] |= {"pdq": pdq.hex(), "pdq_quality": 80}
    return town.report(platform, town.person(number), conduct="fake_return_tracking", evidence=items)


def test_a_picture_that_many_unconnected_people_used_is_common(town: Town, members: list[Platform]) -> None:
    for number in range(4):
        unforged(town, members[number % 3], number)
    assert count(town, town.acme2) == (2, 2, 2)
    fifth = unforged(town, members[1], 4)
    assert ask(town, town.acme2) == [COMMON]
    town.withdraw(members[1], fifth["id"])
    assert count(town, town.acme2) == (2, 2, 2), "it is decided anew each time"


@pytest.mark.parametrize(
    "fifth",
    [
        lambda town, members: pictured(town, members[1], 4),  # says that the picture is forged
        lambda town, members: unforged(town, members[0], 0),  # a person who is counted already
    ],
)
def test_a_forged_picture_is_never_common_nor_one_of_few_people(
    town: Town, members: list[Platform], fifth: Callable[[Town, list[Platform]], Any]
) -> None:
    for number in range(4):
        unforged(town, members[number % 3], number)
    fifth(town, members)
    (one,) = ask(town, members[2])
    assert (one["common"], one["reports"], one["own_reports"]) == (False, 4, 1)


def test_one_refund_that_two_members_reported_is_no_reuse(town: Town) -> None:
    """They share a payment provider, say: the picture was sent once."""
    first = pictured(town, town.acme)
    pictured(town, town.bolt)
    third = Platform("corner", "corner-group", "corner-1").enrol(town.rt.settings)
    assert count(town, third) == (1, 2, 0), "one refund, which two members reported"
    assert count(town, town.acme) == (0, 0, 1), "nobody learns who else reported what they reported"
    own = json.loads(search_own(town.rt.pictures, town.acme.member(), first["id"]))["results"]
    assert [(one["reports"], one["own_reports"]) for one in own] == [(0, 0)]
    pictured(town, town.bolt, 1)
    assert count(town, town.acme) == (1, 1, 1)
    own = json.loads(search_own(town.rt.pictures, town.acme.member(), first["id"]))["results"]
    assert [(one["reports"], one["own_reports"]) for one in own] == [(1, 0)]
