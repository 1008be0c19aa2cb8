"""Who looked: no lookups of one platform push another's out of the record, and neither the rows of a person nor the
statements that read them grow with what one platform asks."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.protocol.tags import tag
from ledger.rules.disclosures import DISCLOSURE_DAYS
from ledger.server.appeals.consumer_record import export_record, own_record
from ledger.server.db.engine import reading, writing
from ledger.server.db.id_blocks import reserve_ids
from ledger.server.db.tables.lookups import DisclosureCount, LookupLog, LookupTag
from ledger.server.lookups import disclosure_queries as store
from ledger.server.lookups import disclosures
from ledger.server.lookups.disclosures import SINGLE_HOURS, count_crowded, count_old
from ledger.server.lookups.queries import log_disclosures
from ledger.server.reports.erasure import forget_disclosures
from ledger.server.rotation.queries import move_lookups
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import LedgerFixture, Subjects

pytestmark = pytest.mark.one_engine


@pytest.fixture(autouse=True)
def noon(ledger: LedgerFixture) -> None:
    """Lookups of a second or an hour ago are of the same UTC day."""
    ledger.clock.moment = ledger.clock.moment.replace(hour=12)


def looked(
    ledger: LedgerFixture,
    platform: str,
    tags: list[bytes],
    times: int = 1,
    *,
    order: bytes | None = None,
    ago_hours: float = 0,
) -> None:
    """`times` lookups of these tags, each about an order of its own unless `order` says which; a second apart."""
    with writing(ledger.rt.engine) as connection:
        first = reserve_ids(connection, "lk", times)
        at = ledger.clock() - timedelta(hours=ago_hours)
        rows = [
            {
                "id": first + number,
                "platform": platform,
                "purpose": "refund_review",
                "order_ref": order or secrets.token_bytes(32),
                "consent_ref": "consent-1" if platform == "bolt" else None,
                "claim": "damaged",
                "tier": "watch",
                "as_of_index": 5,
                "asked_at": at - timedelta(milliseconds=number),
            }
            for number in range(times)
        ]
        log_disclosures(connection, rows, [{"tag": one, "lookup_id": row["id"]} for row in rows for one in tags])


def seen(ledger: LedgerFixture, person: Subjects) -> list[dict[str, Any]]:
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, person))
    document = export_record(ledger.rt.context, {}, session_of(ledger, person), "ledger/log", "key", "en")
    assert document["record"]["lookups"] == record["lookups"]
    return list(record["lookups"])


def sizes(ledger: LedgerFixture) -> tuple[int, int, int]:
    """Rows of single lookups, of their tags, and of counts."""
    with reading(ledger.rt.engine) as connection:
        models = (LookupLog, LookupTag, DisclosureCount)
        one, two, three = (connection.execute(select(func.count()).select_from(model)).scalar_one() for model in models)
        return one, two, three


def tags_of(person: Subjects) -> list[bytes]:
    return [tag(kind, element) for kind, element in person]


def summary(found: list[dict[str, Any]]) -> list[tuple[str | None, int, str]]:
    return [(one["asked_by"], one["times"], one["orders"]) for one in found]


@pytest.mark.parametrize("one_order", [True, False])
def test_a_batch_pushes_no_other_platform_out(
    ledger: LedgerFixture, one_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MAX_SINGLE", 100), ("NEWEST", 500), ("MAX_COUNTED", 50)):
        monkeypatch.setattr(disclosures, name, value)
    person = ledger.person()
    looked(ledger, "bolt", tags_of(person), order=b"b" * 32, ago_hours=1)
    looked(ledger, "bolt", tags_of(person), order=b"b" * 32, ago_hours=1)
    looked(ledger, "evil", tags_of(person), 300, order=b"e" * 32 if one_order else None)
    expected = [300] if one_order else [1] * 10 + [290]
    for _ in range(2):  # as single rows, and with the most of them counted
        found = seen(ledger, person)
        by_evil = [one for one in found if one["asked_by"] is None]
        assert sorted(one["times"] for one in by_evil) == sorted(expected)
        assert ("bolt", 2, "one") in summary(found)
        assert len(found) <= 12
        ledger.rt.maintenance.clocks()
    assert count_crowded(ledger.rt.engine, whole=True) == 0, "the quick look found them"
    single, _, counted = sizes(ledger)
    assert single <= 2 * 100
    assert counted <= 2 * 2 * (store.MAX_ROWS + 1)


def test_old_lookups_are_counted_and_shown_as_before(ledger: LedgerFixture) -> None:
    """A person with two identifiers is told of each lookup once, whichever of them it was about."""
    person = ledger.person()
    both, phone = tags_of(person), tags_of(person)[:1]
    hours = SINGLE_HOURS + 24
    for tags, order in ((both, b"1"), (both, b"1"), (phone, b"1"), (both, b"2")):
        looked(ledger, "bolt", tags, order=order * 32, ago_hours=hours)
    looked(ledger, "acme", phone, 30, ago_hours=hours)
    looked(ledger, "acme", both, order=b"3" * 32)
    before = seen(ledger, person)
    only_payment = seen(ledger, person[1:])
    assert {one["times"] for one in before if one["asked_by"] == "bolt"} == {1, 3}
    assert all(one["consent"] is (one["asked_by"] == "bolt") for one in before), "whether, and not which"
    assert "consent-1" not in str(before)
    assert sorted(one["times"] for one in only_payment if one["asked_by"] == "bolt") == [1, 2]
    assert count_old(ledger.rt.engine, ledger.clock()) == 34
    assert count_old(ledger.rt.engine, ledger.clock()) == 0
    assert sizes(ledger)[:2] == (1, 2)
    after = seen(ledger, person)
    assert sum(one["times"] for one in after) == sum(one["times"] for one in before) == 35
    assert [one for one in after if one["asked_by"] == "bolt"] == [one for one in before if one["asked_by"] == "bolt"]
    assert all(one["consent"] is (one["asked_by"] == "bolt") for one in after)
    assert seen(ledger, person[1:]) == only_payment
    # More of the same day, counted later, join what was counted.
    looked(ledger, "bolt", both, order=b"1" * 32, ago_hours=hours)
    count_old(ledger.rt.engine, ledger.clock())
    assert max(one["times"] for one in seen(ledger, person) if one["asked_by"] == "bolt") == 4


def test_companions_that_change_do_not_multiply_what_is_kept_of_a_person(ledger: LedgerFixture) -> None:
    """A platform that adds another unknown identifier to each lookup makes each a set of its own."""
    person = ledger.person()
    for _ in range(40):
        looked(
            ledger, "evil", [tags_of(person)[0], secrets.token_bytes(32)], order=b"e" * 32, ago_hours=SINGLE_HOURS + 1
        )
    ledger.rt.maintenance.round()
    assert sizes(ledger)[0] == 0
    with reading(ledger.rt.engine) as connection:
        mine = select(func.count()).where(DisclosureCount.tag == tags_of(person)[0])
        assert connection.execute(mine).scalar_one() == store.MAX_ROWS + 1
    assert sum(one["times"] for one in seen(ledger, person)) == 40


def test_a_statement_can_be_read_for_a_day(ledger: LedgerFixture) -> None:
    """What a platform may still ask for by its lookup's id is not counted yet."""
    person = ledger.person()
    looked(ledger, "bolt", tags_of(person), ago_hours=disclosures.READABLE_HOURS)
    assert count_old(ledger.rt.engine, ledger.clock()) == 0
    assert sizes(ledger)[0] == 1


def test_counts_follow_a_new_key_and_end_after_three_years(ledger: LedgerFixture) -> None:
    person = ledger.person()
    old, new = tags_of(person)[0], secrets.token_bytes(32)
    for one in (old, old, new):
        looked(ledger, "bolt", [one], order=b"1" * 32, ago_hours=SINGLE_HOURS + 1)
    count_old(ledger.rt.engine, ledger.clock())
    with writing(ledger.rt.engine) as connection:
        move_lookups(connection, {old: new})
        found = store.lookups_about(connection, [new])
        assert store.lookups_about(connection, [old]) == []
    assert sum(one.times for one in found) == 3
    ledger.clock.moment += timedelta(days=DISCLOSURE_DAYS - 3)
    assert forget_disclosures(ledger.rt.engine, ledger.clock()) == 0
    ledger.clock.moment += timedelta(days=4)
    while forget_disclosures(ledger.rt.engine, ledger.clock()):
        pass
    assert sizes(ledger) == (0, 0, 0)
