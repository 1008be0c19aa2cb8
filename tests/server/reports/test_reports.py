"""Reports against the database: who may do what to which report, once, and what each leaves behind."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.errors import (
    AlreadyRestituted,
    AlreadyReversed,
    CommitmentMismatch,
    IdempotencyMismatch,
    IdentityPoint,
    InvalidInput,
    InvalidPoint,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    NotFound,
    OrderAlreadyReported,
    ReplacementInvalid,
    RestitutionInvalid,
    StaleEpoch,
    SubjectsInvalid,
)
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import reading
from ledger.server.db.tables.ledger import Listing, LogEntry, Report
from ledger.server.platforms.members import revoke_key
from ledger.server.records.idempotency import StoredResponse
from ledger.server.reports.reports import get_report, list_reports, submit_report, submit_reports, withdraw_report
from tests.server.conftest import Town
from tests.support import evidence, report_payload


def count(town: Town, table: Any) -> int:
    with reading(town.rt.engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def refusal(outcome: Future[StoredResponse] | LedgerError) -> type[BaseException] | None:
    if isinstance(outcome, LedgerError):
        return type(outcome)
    error = outcome.exception(10)
    return None if error is None else type(error)


# --- what a report must be by itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"service": "elsewhere.example"}, InvalidRequest),
        ({"platform": "bolt"}, InvalidRequest),
        ({"epoch": 2}, StaleEpoch),
        ({"kid": "bolt-1"}, InvalidSignature),
        ({"kid": "nobody-1"}, InvalidSignature),
    ],
)
def test_a_report_must_be_addressed_right(town: Town, change: dict[str, Any], error: type[LedgerError]) -> None:
    payload = report_payload(town.rt, town.acme, town.person(), **change)
    with pytest.raises(error):
        submit_report(town.rt.reports, town.acme.member(), payload, "k")
    assert count(town, Report) == 0


def test_a_changed_body_breaks_the_signature(town: Town) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    payload["body"]["amount_minor"] += 1
    with pytest.raises(InvalidSignature):
        submit_report(town.rt.reports, town.acme.member(), payload, "k")


def test_a_revoked_key_signs_nothing(town: Town) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    revoke_key(town.rt.engine, kid=town.acme.kid, now=town.clock())
    town.rt.members.refresh()
    with pytest.raises(InvalidSignature):
        submit_report(town.rt.reports, town.acme.member(), payload, "k")


def other_element(subject: dict[str, Any], town: Town) -> None:
    subject["element"] = b64url(town.person(7)[0][1])


def other_salt(subject: dict[str, Any], _town: Town) -> None:
    subject["salt"] = b64url(b"s" * 32)


def other_kind(subject: dict[str, Any], _town: Town) -> None:
    subject["kind"] = "email"


def identity(subject: dict[str, Any], _town: Town) -> None:
    subject["element"] = b64url(bytes(32))


def not_a_point(subject: dict[str, Any], _town: Town) -> None:
    subject["element"] = b64url(b"\xff" * 32)


def truncated(subject: dict[str, Any], _town: Town) -> None:
    subject["element"] = subject["element"][:-2]


@pytest.mark.parametrize(
    ("tamper", "error"),
    [
        (other_element, CommitmentMismatch),
        (other_salt, CommitmentMismatch),
        (other_kind, SubjectsInvalid),
        (identity, IdentityPoint),
        (not_a_point, InvalidPoint),
        (truncated, InvalidInput),
    ],
)
def test_subjects_must_open_what_was_signed(town: Town, tamper: Any, error: type[LedgerError]) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    tamper(payload["subjects"][0], town)
    with pytest.raises(error):
        submit_report(town.rt.reports, town.acme.member(), payload, "k")


def test_subjects_must_be_as_many_and_all_different(town: Town) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    payload["subjects"].pop()
    with pytest.raises(SubjectsInvalid):
        submit_report(town.rt.reports, town.acme.member(), payload, "k")
    phone = town.person()[0]
    with pytest.raises(SubjectsInvalid):  # under two salts the same phone looks like two commitments
        submit_report(town.rt.reports, town.acme.member(), report_payload(town.rt, town.acme, [phone, phone]), "k")


# --- orders ---------------------------------------------------------------------------------------------------


def test_one_live_report_an_order_and_control_group(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    for platform in (town.acme, town.acme2):
        with pytest.raises(OrderAlreadyReported) as caught:
            town.report(platform, town.person(1), order="A-1")
        assert caught.value.details["report"] == first["id"]
    town.report(town.bolt, town.person(), order="A-1")
    town.withdraw(town.acme, first["id"])
    town.report(town.acme2, town.person(), order="A-1", **town.told_now())


def test_of_many_reports_of_one_order_at_once_one_wins(town: Town) -> None:
    items = [
        {"idempotency_key": f"k{n}", **report_payload(town.rt, town.acme, town.person(), order="A-1")} for n in range(8)
    ]
    outcomes = [refusal(one) for one in submit_reports(town.rt.reports, town.acme.member(), items)]
    assert sorted(str(one) for one in outcomes) == sorted(str(one) for one in [None, *[OrderAlreadyReported] * 7])
    assert count(town, Report) == 1


def test_a_bad_report_of_a_batch_does_not_touch_the_others(town: Town) -> None:
    payloads = [report_payload(town.rt, town.acme, town.person(n)) for n in range(4)]
    payloads[1]["signature"] = payloads[2]["signature"]
    payloads[3]["body"]["evidence"] = []
    items = [{"idempotency_key": f"k{n}", **payload} for n, payload in enumerate(payloads)]
    outcomes = submit_reports(town.rt.reports, town.acme.member(), items)
    assert refusal(outcomes[0]) is None
    assert refusal(outcomes[1]) is InvalidSignature
    assert refusal(outcomes[2]) is None
    assert refusal(outcomes[3]) is not None
    assert count(town, Report) == 2


# --- idempotency ----------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_answer_once(town: Town) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    first = submit_report(town.rt.reports, town.acme.member(), payload, "k").result(10)
    again = submit_report(town.rt.reports, town.acme.member(), payload, "k").result(10)
    assert (again.status, again.body, again.replayed) == (first.status, first.body, True)
    assert not first.replayed
    assert count(town, Report) == 1


def test_the_same_request_at_once_is_recorded_once(town: Town) -> None:
    payload = report_payload(town.rt, town.acme, town.person())
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: submit_report(town.rt.reports, town.acme.member(), payload, "k").result(10), range(16))
        )
    assert len({answer.body for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert count(town, Report) == 1


def test_a_key_belongs_to_one_request_of_one_platform(town: Town) -> None:
    report = town.report(town.acme, town.person(), key="k")
    with pytest.raises(IdempotencyMismatch):
        town.report(town.acme, town.person(1), key="k")
    with pytest.raises(IdempotencyMismatch):
        withdraw_report(town.rt.reports, town.acme.member(), report["id"], "other", "k").result(10)
    town.report(town.bolt, town.person(1), key="k")


def test_a_key_is_free_again_after_a_day(town: Town) -> None:
    town.report(town.acme, town.person(), key="k")
    town.clock.moment += timedelta(hours=23)
    with pytest.raises(IdempotencyMismatch):
        town.report(town.acme, town.person(1), key="k")
    town.clock.moment += timedelta(hours=2)
    town.report(town.acme, town.person(1), key="k")


def test_a_refusal_is_not_remembered(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    payload = report_payload(town.rt, town.acme, town.person(), order="A-1", **town.told_now())
    assert refusal(submit_report(town.rt.reports, town.acme.member(), payload, "k")) is OrderAlreadyReported
    town.withdraw(town.acme, first["id"])
    assert submit_report(town.rt.reports, town.acme.member(), payload, "k").result(10).status == 201


# --- withdrawal -----------------------------------------------------------------------------------------------


def test_a_withdrawn_report_is_gone_from_lookups_and_stays_in_the_log(town: Town) -> None:
    report = town.report(town.acme, town.person())
    assert town.lookup(town.person())["tier"] == "watch"
    entries = count(town, LogEntry)
    view = town.withdraw(town.acme, report["id"], reason="wrong_person")
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "wrong_person")
    assert view["withdrawal"]["entry_index"] == entries
    assert count(town, LogEntry) == entries + 1
    assert town.lookup(town.person())["tier"] == "clear"
    assert get_report(town.rt.context, town.acme.member(), report["id"]) == view


def test_only_the_reporter_withdraws_and_only_once(town: Town) -> None:
    report = town.report(town.acme, town.person())
    for platform in (town.bolt, town.acme2):
        with pytest.raises(NotFound):
            town.withdraw(platform, report["id"])
    town.withdraw(town.acme, report["id"], key="one")
    with pytest.raises(AlreadyReversed):
        town.withdraw(town.acme, report["id"], key="two")


def test_of_many_withdrawals_at_once_one_wins(town: Town) -> None:
    report = town.report(town.acme, town.person())
    futures = [withdraw_report(town.rt.reports, town.acme.member(), report["id"], "other", f"k{n}") for n in range(10)]
    assert sorted(str(refusal(one)) for one in futures) == sorted(["None"] + [str(AlreadyReversed)] * 9)


@pytest.mark.parametrize("reason", ["", "linked_report_void", "not_released", "because"])
def test_reasons_are_a_closed_list(town: Town, reason: str) -> None:
    report = town.report(town.acme, town.person())
    with pytest.raises(InvalidRequest):
        town.withdraw(town.acme, report["id"], reason=reason)


def test_report_withdraw_report_of_one_order_in_one_batch(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    told = town.told_now()
    payloads = [report_payload(town.rt, town.acme, town.person(), order="A-1", **told) for _ in range(2)]
    futures = [
        withdraw_report(town.rt.reports, town.acme.member(), first["id"], "other", "w"),
        submit_report(town.rt.reports, town.acme.member(), payloads[0], "k0"),
        submit_report(town.rt.reports, town.acme.member(), payloads[1], "k1"),
    ]
    assert [refusal(one) for one in futures] == [None, None, OrderAlreadyReported]


# --- replacement ----------------------------------------------------------------------------------------------


def test_a_replacement_takes_the_place_of_the_report(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    second = town.report(town.acme, town.person(), order="A-1", conduct="wardrobing",
                         evidence=evidence("intake_photo", "policy_clause"), replaces=first["id"],
                         **town.told_now())  # fmt: skip
    old = get_report(town.rt.context, town.acme.member(), first["id"])
    new = get_report(town.rt.context, town.acme.member(), second["id"])
    assert (old["status"], old["replaced_by"], new["replaces"]) == ("withdrawn", second["id"], first["id"])
    assert town.lookup(town.person())["events"] == 0, "it cools from its own notice"
    town.clock.moment += timedelta(days=4)
    assert town.lookup(town.person())["events"] == 1
    with pytest.raises(ReplacementInvalid):
        town.report(town.acme, town.person(), order="A-1", replaces=first["id"], **town.told_now())


def test_a_replacement_needs_a_report_of_its_own(town: Town) -> None:
    theirs = town.report(town.bolt, town.person())
    for replaced in (theirs["id"], town.report(town.acme2, town.person())["id"]):
        with pytest.raises(ReplacementInvalid):
            town.report(town.acme, town.person(), replaces=replaced)


def test_a_withdrawn_report_may_be_replaced_later(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    town.withdraw(town.acme, first["id"])
    second = town.report(town.acme, town.person(), order="A-1", replaces=first["id"], **town.told_now())
    assert get_report(town.rt.context, town.acme.member(), second["id"])["replaces"] == first["id"]


# --- restitution ----------------------------------------------------------------------------------------------


def test_restitution_halves_the_points_once(town: Town) -> None:
    report = town.report(town.acme, town.person(), conduct="wardrobing",
                         evidence=evidence("intake_photo", "policy_clause"))  # fmt: skip
    before = town.lookup(town.person())["points"]
    view = town.restitute(town.acme, report, format_time(town.clock()))
    assert view["restitution"]["received_at"] == format_time(town.clock())
    assert town.lookup(town.person())["points"] == pytest.approx(before / 2, abs=0.01)
    with pytest.raises(AlreadyRestituted):
        town.restitute(town.acme, report, format_time(town.clock()), key="again")


@pytest.mark.parametrize(
    "changes", [{"amount_minor": 12_899}, {"amount_minor": 12_901}, {"currency": "USD"}, {"days": 1}, {"days": -30}]
)
def test_restitution_is_of_the_full_amount_in_time(town: Town, changes: dict[str, Any]) -> None:
    changes = dict(changes)
    report = town.report(town.acme, town.person())
    moment = town.clock() + timedelta(days=changes.pop("days", 0))
    with pytest.raises(RestitutionInvalid):
        town.restitute(town.acme, report, format_time(moment), **changes)


def test_no_restitution_of_what_was_taken_back_or_is_not_yours(town: Town) -> None:
    report = town.report(town.acme, town.person())
    with pytest.raises(NotFound):
        town.restitute(town.bolt, report, format_time(town.clock()))
    town.withdraw(town.acme, report["id"])
    with pytest.raises(AlreadyReversed):
        town.restitute(town.acme, report, format_time(town.clock()))


# --- reading --------------------------------------------------------------------------------------------------


def test_a_cooling_report_is_the_reporters_alone_until_it_is_effective(town: Town) -> None:
    report = town.report(town.acme, town.person(), notice_sent_at=format_time(town.clock()))
    assert report["status"] == "cooling"
    assert town.lookup(town.person())["tier"] == "clear"
    town.clock.moment += timedelta(days=4)
    assert get_report(town.rt.context, town.acme.member(), report["id"])["status"] == "counting"
    assert town.lookup(town.person())["tier"] == "watch"
    town.clock.moment += timedelta(days=400)
    assert get_report(town.rt.context, town.acme.member(), report["id"])["status"] == "expired"
    assert town.lookup(town.person())["tier"] == "clear"


def test_pages_go_back_in_time_and_show_only_ones_own(town: Town) -> None:
    made = [town.report(town.acme, town.person(), order=f"A-{n}") for n in range(5)]
    town.report(town.bolt, town.person())
    seen: list[str] = []
    after = None
    while True:
        page = list_reports(town.rt.context, town.acme.member(), 2, after, None)
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = seen[-1]
    assert seen == [one["id"] for one in reversed(made)]
    order = get_report(town.rt.context, town.acme.member(), made[2]["id"])["order_ref"]
    assert [one["id"] for one in list_reports(town.rt.context, town.acme.member(), 9, None, order)["data"]] == [
        made[2]["id"]
    ]


def test_others_reports_and_nonsense_are_not_found(town: Town) -> None:
    report = town.report(town.acme, town.person())
    for report_id in (report["id"], "rp_nonsense", "lk_" + report["id"][3:], ""):
        with pytest.raises(NotFound):
            get_report(town.rt.context, town.bolt.member(), report_id)


def test_tags_in_the_listing_are_what_lookups_send(town: Town) -> None:
    town.report(town.acme, town.person())
    assert count(town, Listing) == 2
    mislabelled = [(Kind.DEVICE, town.person()[0][1])]
    assert town.lookup(mislabelled)["tier"] == "clear", "the kind is inside the tag"
