"""Reports that were recorded under other spellings of elements: taken back, told, and no obstacle to a rotation."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import InvalidPoint, SubjectsInvalid
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.db.tables.webhooks import WebhookMessage
from ledger.server.log.queries import read_body
from ledger.server.reports.malformed import START, MalformedReport, malformed_reports, take_back_malformed
from ledger.server.reports.reports import check_report, get_report
from ledger.server.rotation import queries as rotation_store
from ledger.server.rotation.queries import FilledRow
from ledger.server.rotation.retire import SETTLE, destroy_settled
from ledger.server.rotation.run import announce
from ledger.server.settings import Settings
from ledger.server.webhooks import endpoints
from tests.malformed import IDENTITY_AGAIN, record
from tests.rotations import audited, epochs, on_one_engine, places, report, retired, subjects_under, turned
from tests.server.appeals.contested import contest
from tests.server.appeals.test_appeals import session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.spellings import other_spellings, with_bit_255
from tests.support import report_payload, with_settings

pytestmark = pytest.mark.one_engine


def hidden(ledger: LedgerFixture, number: int, epoch: int = 1) -> Subjects:
    """A person's subjects in the spelling under which no lookup finds them."""
    return [(kind, with_bit_255(one)) for kind, one in subjects_under(ledger.rt.settings, epoch, number)]


def record_of(ledger: LedgerFixture, number: int, epoch: int = 1) -> list[dict[str, Any]]:
    """The reports in a person's own record, newest first."""
    found = own_record(ledger.rt.context, ledger.rt.members.weights(), session(ledger, number, epoch))
    return list(found["reports"])


def session(ledger: LedgerFixture, number: int, epoch: int) -> SubjectSessionRow:
    """A session of the person."""
    row = session_of(ledger, subjects_under(ledger.rt.settings, epoch, number))
    return replace(row, epoch=epoch)


def tier(ledger: LedgerFixture, number: int, epoch: int = 1) -> tuple[str, int]:
    answer = ledger.lookup(subjects_under(ledger.rt.settings, epoch, number), epoch=epoch)
    return answer["tier"], answer["events"]


def stored(ledger: LedgerFixture) -> list[bytes]:
    with reading(ledger.rt.engine) as connection:
        return [bytes(one) for one in connection.scalars(select(Subject.element))]


def messages(ledger: LedgerFixture) -> list[tuple[str, str, dict[str, Any]]]:
    with reading(ledger.rt.engine) as connection:
        rows = connection.execute(
            select(WebhookMessage.platform, WebhookMessage.type, WebhookMessage.body).order_by(WebhookMessage.id)
        )
        return [(platform, type_, json.loads(body)["data"]) for platform, type_, body in rows]


def test_a_hidden_report_is_taken_back_and_told_to_both(settings: Settings, ledger: LedgerFixture) -> None:
    rt = with_settings(ledger.rt, settings.model_copy(update={"webhook_allow_private": True}))
    endpoints.create(rt.webhooks, ledger.acme.member(), "http://127.0.0.1:9/", ["report.voided"])
    seen = report(ledger, ledger.bolt, 1, 1)
    made = record(rt, ledger.acme, hidden(ledger, 1), order="A-1")
    nobody = record(rt, ledger.acme, [(Kind.PHONE, IDENTITY_AGAIN)])
    assert tier(ledger, 1) == ("watch", 1), "only the other report is seen: that is the fault"
    assert [one["id"] for one in record_of(ledger, 1)] == [seen["id"]]
    assert malformed_reports(rt.engine) == [
        MalformedReport(one["entry_index"], "acme", ledger.clock(), False) for one in (made, nobody)
    ]

    last, changed = take_back_malformed(rt.context)
    assert (last, changed) == (nobody["entry_index"], [made["entry_index"], nobody["entry_index"]])
    assert tier(ledger, 1) == ("watch", 1)
    mine, theirs = record_of(ledger, 1)
    assert (mine["id"], mine["status"], mine["withdrawal_reason"]) == (made["id"], "withdrawn", "malformed_subject")
    assert (mine["appealable"], mine["matched_kinds"], mine["reported_by"]) == (False, ["payment", "phone"], None)
    assert (theirs["id"], theirs["withdrawal_reason"]) == (seen["id"], None)
    for one in (made, nobody):
        view = get_report(rt.context, ledger.acme.member(), one["id"])
        assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "malformed_subject")
        with reading(rt.engine) as connection:
            opened = read_body(connection, view["withdrawal"]["entry_index"])
        assert opened is not None
        entry = json.loads(opened[2])
        assert (entry["type"], entry["report"], entry["reason"]) == ("withdrawal", one["id"], "malformed_subject")
    assert sorted(messages(ledger), key=str) == sorted(
        [("acme", "report.voided", {"report": one["id"], "reason": "malformed_subject"}) for one in (made, nobody)],
        key=str,
    )
    assert malformed_reports(rt.engine) == [
        MalformedReport(one["entry_index"], "acme", ledger.clock(), True) for one in (made, nobody)
    ]
    assert set(stored(ledger)) == {one for _, one in subjects_under(rt.settings, 1, 1)}
    assert not places(rt.engine, Listing, 1) & {(one["entry_index"], 0) for one in (made, nobody)}

    assert take_back_malformed(rt.context)[1] == [], "once"
    assert len(messages(ledger)) == 2
    again = report(ledger, ledger.acme, 1, 1, order="A-1", notice_sent_at=format_time(ledger.clock()))
    assert again["status"] == "cooling", "a further report of the order has a notice of its own"
    assert record_of(ledger, 1)[0]["appealable"]


@on_one_engine
@pytest.mark.parametrize("both", [False, True], ids=["before", "twice in one report"])
def test_a_report_is_taken_back_as_a_whole(ledger: LedgerFixture, both: bool) -> None:
    """One malformed subject is enough: intake takes no such report. Those who found it find that it is withdrawn."""
    canonical = subjects_under(ledger.rt.settings, 1, 1)
    other = [(canonical[0][0], with_bit_255(canonical[0][1]))] if both else hidden(ledger, 2)[1:]
    made = record(ledger.rt, ledger.acme, [canonical[0], *other])
    assert [one["status"] for one in record_of(ledger, 1)] == ["counting"]
    assert take_back_malformed(ledger.rt.context)[1] == [made["entry_index"]]
    assert tier(ledger, 1) == ("clear", 0)
    for number in (1,) if both else (1, 2):
        assert [one["withdrawal_reason"] for one in record_of(ledger, number)] == ["malformed_subject"]
    assert not record_of(ledger, 3)


def test_what_rests_on_it_falls_and_what_was_reversed_is_only_spelled_anew(ledger: LedgerFixture) -> None:
    rt = ledger.rt
    linked = [record(rt, ledger.acme, hidden(ledger, 1)), report(ledger, ledger.acme, 2, 1)]
    items = [{"type": "linked_instrument", "sha256": b64url(bytes([n]) * 32)} for n in range(2)]
    for item, one in zip(items, linked, strict=True):
        item["report_id"] = one["id"]
    farm = report(ledger, ledger.acme, 3, 1, conduct="account_farm", evidence=items)
    gone = record(rt, ledger.acme, hidden(ledger, 4))
    ledger.withdraw(ledger.acme, gone["id"])
    size = take_back_malformed(rt.context)[1]
    assert size == [linked[0]["entry_index"], gone["entry_index"]]
    reasons = {
        one["id"]: get_report(rt.context, ledger.acme.member(), one["id"])["withdrawal"]
        for one in (*linked, farm, gone)
    }
    assert {name: value and value["reason"] for name, value in reasons.items()} == {
        linked[0]["id"]: "malformed_subject",
        linked[1]["id"]: None,
        farm["id"]: "linked_report_void",
        gone["id"]: "other",
    }
    assert record_of(ledger, 4) == [], "as with every report that its platform took back"
    assert not [one for one in stored(ledger) if one[31] & 0x80]


def test_a_case_about_it_ends_in_the_persons_favour(ledger: LedgerFixture) -> None:
    canonical = subjects_under(ledger.rt.settings, 1, 1)
    made = record(ledger.rt, ledger.acme, [canonical[0], (canonical[1][0], with_bit_255(canonical[1][1]))])
    (case,) = contest(ledger, canonical, made)
    take_back_malformed(ledger.rt.context)
    (shown,) = record_of(ledger, 1)
    assert (shown["status"], shown["case"]["id"], shown["case"]["state"]) == ("withdrawn", case, "closed")


# --- rotations ----------------------------------------------------------------------------------------------------


def test_a_rotation_goes_on_with_a_ledger_that_holds_both_kinds(ledger: LedgerFixture) -> None:
    rt = ledger.rt
    report(ledger, ledger.bolt, 1, 1)
    made = record(rt, ledger.acme, hidden(ledger, 1))
    record(rt, ledger.acme, [(Kind.PHONE, IDENTITY_AGAIN)])
    gone = record(rt, ledger.acme, hidden(ledger, 2))
    ledger.withdraw(ledger.acme, gone["id"])
    before = tier(ledger, 1)

    done = turned(ledger)
    assert epochs(rt.engine)[2].state == "current"
    assert audited(rt, done.audit_dir).elements == done.elements == 6, "each element once; the identity is none"
    assert places(rt.engine, Subject, 1) == places(rt.engine, Subject, 2)
    for epoch in (1, 2):
        assert (tier(ledger, 1, epoch), tier(ledger, 2, epoch)) == (before, ("clear", 0)), "nothing counts that did not"
        assert [one["id"] for one in record_of(ledger, 1, epoch) if one["withdrawal_reason"]] == [made["id"]]
    retired(ledger)
    ledger.clock.moment += SETTLE
    assert destroy_settled(rt.settings, rt.engine, ledger.clock) == [1]
    assert [one["id"] for one in record_of(ledger, 1, 2) if one["withdrawal_reason"]] == [made["id"]]


def test_a_rotation_that_an_earlier_version_began(ledger: LedgerFixture) -> None:
    """The rows under the next epoch are there and canonical: they must not count from the switch on."""
    rt = ledger.rt
    made = record(rt, ledger.acme, hidden(ledger, 1))
    announce(rt.settings, rt.engine, ledger.clock())
    rows = [
        FilledRow(made["entry_index"], slot, one, bytes([slot]) * 32, tag(kind, one))
        for slot, (kind, one) in enumerate(subjects_under(rt.settings, 2, 1))
    ]
    with writing(rt.engine) as connection:
        rotation_store.fill(connection, 1, 2, rows)
    done = turned(ledger)
    assert audited(rt, done.audit_dir).elements == 2
    assert tier(ledger, 1, 2) == tier(ledger, 1, 1) == ("clear", 0)
    assert [one["id"] for one in record_of(ledger, 1, 2)] == [made["id"]]


def test_in_a_grace_that_an_earlier_version_began(ledger: LedgerFixture) -> None:
    """Such a report was found under the current epoch at once, and stood in the way of the old one's retirement."""
    rt = ledger.rt
    turned(ledger)
    made = record(rt, ledger.acme, hidden(ledger, 1, epoch=1), epoch=1)
    assert (tier(ledger, 1, 1), tier(ledger, 1, 2)) == (("clear", 0), ("watch", 1))
    retired(ledger)
    assert epochs(rt.engine)[1].state == "retired"
    assert tier(ledger, 1, 2) == ("clear", 0)
    assert [one["withdrawal_reason"] for one in record_of(ledger, 1, 2)] == ["malformed_subject"]
    assert get_report(rt.context, ledger.acme.member(), made["id"])["status"] == "withdrawn"
    assert audited(rt, rt.settings.keys_dir / "rotation-1-2-late").elements == 2


def test_whatever_was_recorded_a_rotation_ends(ledger: LedgerFixture) -> None:
    """A random mixture of canonical subjects, other spellings and the identity: who was not listed is not listed after
    it, and everybody else is as before."""
    rt, chance = ledger.rt, random.Random(11)
    malformed: set[int] = set()
    clean: set[int] = set()
    for number in range(8):
        subjects = []
        for kind, one in subjects_under(rt.settings, 1, number):
            subjects.append((kind, chance.choice([one, one, with_bit_255(one), IDENTITY_AGAIN])))
        record(rt, ledger.acme, subjects)
        (malformed if any(one[31] & 0x80 for _, one in subjects) else clean).add(number)
    assert malformed
    assert clean
    done = turned(ledger)
    assert audited(rt, done.audit_dir).elements == done.elements
    for number in range(8):
        expected = ("watch", 1) if number in clean else ("clear", 0)
        assert tier(ledger, number, 1) == tier(ledger, number, 2) == expected


# --- when it happens ----------------------------------------------------------------------------------------------


def test_maintenance_takes_back_what_it_has_not_looked_at_yet(ledger: LedgerFixture) -> None:
    rt = ledger.rt
    first = record(rt, ledger.acme, hidden(ledger, 1))
    rt.maintenance.round()
    assert get_report(rt.context, ledger.acme.member(), first["id"])["status"] == "withdrawn"
    second = record(rt, ledger.acme, hidden(ledger, 2))  # by a server of the version before, during an upgrade
    rt.maintenance.round()
    assert get_report(rt.context, ledger.acme.member(), second["id"])["status"] == "withdrawn"
    assert take_back_malformed(rt.context, first["entry_index"]) == (second["entry_index"], [])


@on_one_engine
def test_it_can_be_stopped_and_goes_on(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    rt = ledger.rt
    made = [record(rt, ledger.acme, hidden(ledger, number))["entry_index"] for number in range(3)]
    monkeypatch.setattr("ledger.server.reports.malformed.WINDOW", 1)
    assert take_back_malformed(rt.context, START, lambda: True) == (made[0], [made[0]])
    assert take_back_malformed(rt.context, made[0]) == (made[2], made[1:])


# --- what comes in today ------------------------------------------------------------------------------------------


@on_one_engine
def test_intake_takes_no_other_spelling(ledger: LedgerFixture) -> None:
    """Every spelling of a person's element, with the commitment that belongs to it, under a good signature."""
    rt = ledger.rt
    (kind, canonical), other = subjects_under(rt.settings, 1, 1)
    spellings = [*other_spellings(canonical), *other_spellings(bytes(32)), bytes(32)]
    for spelled in spellings:
        for subjects in ([(kind, spelled)], [other, (kind, spelled)], [(kind, canonical), (kind, spelled)]):
            payload = report_payload(rt, ledger.acme, subjects)
            with pytest.raises(InvalidPoint):
                check_report(rt.reports, ledger.acme.member(), payload, "k")
    with pytest.raises(SubjectsInvalid, match="twice"):
        check_report(
            rt.reports,
            ledger.acme.member(),
            report_payload(rt, ledger.acme, [(kind, canonical), (kind, canonical)]),
            "k",
        )
    assert stored(ledger) == []
