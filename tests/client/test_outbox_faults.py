"""The outbox against a running ledger: the answer to one item stops no other, unfit items are never stored, parked ones
are tried again, and nothing of a person stays longer than needed."""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ledger.client import Buyer, RefundLedger, buyers, evidence
from ledger.client.outbox.sender import PARKED_EVERY, OutboxSender, encode
from ledger.client.outbox.store import New, Outbox
from ledger.client.session import REFUSED_RETENTION_DAYS
from ledger.client.state import OUTBOX_FILE
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import HttpAnswer, Transport
from ledger.errors import (
    AlreadyReversed,
    ConfigurationError,
    IdempotencyMismatch,
    InvalidInput,
    InvalidReport,
    InvalidRequest,
    LedgerError,
    LinkedReportInvalid,
    NotFound,
    OrderAlreadyReported,
    PlatformSuspended,
    ScopeMissing,
    Unavailable,
)
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.context import Context
from tests.client.report_server import START, report_of
from tests.client.test_outbox import first_file
from tests.faulty import PROMPT_SECONDS, answering, free_port, proxy
from tests.kit import Connect, Running, giving_up, person, report_arguments, reports_of
from tests.support import CONSENT

ANNA = Staff(1, "reviewer")


def away(connect: Connect, tmp_path: Path, **settings: Any) -> RefundLedger:
    """An SDK with acme's state folder whose ledger cannot be reached."""
    settings = {"budget_seconds": 0.2, "state_dir": tmp_path / "state-acme", **settings}
    return connect(url=f"http://127.0.0.1:{free_port()}", **settings)


def aged(state: Path, hours: int) -> None:
    then = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with sqlite3.connect(state / OUTBOX_FILE) as database:
        database.execute("UPDATE item SET first_attempt_at = ?", (then,))
    database.close()


# --- nothing stops the others -----------------------------------------------------------------------------------------


def test_an_old_withdrawal_of_an_unknown_report_stops_nothing(connect: Connect, tmp_path: Path) -> None:
    acme = connect()
    who = [acme.tag(**person()) for _ in range(3)]
    orders = [secrets.token_hex(8) for _ in who]
    down = away(connect, tmp_path)
    down._session.epochs = acme._session.epochs
    assert down.reports.withdraw("rp_Xk3mPq9aZZ", "other").state == "pending"
    for buyer, order in zip(who, orders, strict=True):
        assert down.reports.create(buyer, **report_arguments(order=order)).state == "pending"
    aged(tmp_path / "state-acme", 30)
    first, *others = acme.outbox.flush()
    assert (first.state, first.error and first.error.code) == ("refused", "not_found")
    assert [delivery.state for delivery in others] == ["accepted"] * 3
    assert [len(reports_of(acme, order)) for order in orders] == [1, 1, 1]
    assert [item.operation for item in acme.outbox.list()] == ["withdraw"]


def test_a_report_waits_for_the_withdrawal_before_it(connect: Connect, tmp_path: Path) -> None:
    """Withdrawn and reported anew in one outage: the order is free once the withdrawal is delivered."""
    acme, order = connect(), secrets.token_hex(8)
    buyer = acme.tag(**person())
    first = acme.reports.create(buyer, **report_arguments(order=order)).report
    assert first is not None
    down = away(connect, tmp_path)
    down._session.epochs = acme._session.epochs
    assert down.reports.withdraw(first.id, "wrong_facts").state == "pending"
    again = report_arguments(order=order, notice_sent_at=datetime.now(UTC) + timedelta(seconds=2))
    assert down.reports.create(buyer, **again).state == "pending"
    assert [delivery.state for delivery in acme.outbox.flush()] == ["accepted", "accepted"]
    assert len(reports_of(acme, order)) == 2
    with sqlite3.connect(tmp_path / "state-acme" / OUTBOX_FILE) as database:  # the report has its turn first
        assert database.execute("SELECT count(*) FROM item").fetchone() == (0,)
    database.close()


def test_a_report_whose_order_is_being_withdrawn_is_not_refused(connect: Connect, tmp_path: Path) -> None:
    acme, order = connect(), secrets.token_hex(8)
    buyer = acme.tag(**person())
    first = acme.reports.create(buyer, **report_arguments(order=order)).report
    assert first is not None
    down = away(connect, tmp_path)
    assert down.reports.withdraw(first.id, "wrong_facts").state == "pending"
    early = acme.reports.create(buyer, **report_arguments(order=order))
    assert (early.state, early.error and early.error.code) == ("pending", "order_already_reported")
    states = [delivery.state for delivery in acme.outbox.flush()]
    assert states[0] == "accepted", states
    assert states[1] in ("accepted", "refused"), "the notice may be too old for a further report by now"


# --- parked -----------------------------------------------------------------------------------------------------------


def test_a_parked_correction_is_tried_again_on_its_schedule(connect: Connect, reviewers: Context) -> None:
    clock = [datetime.now(UTC)]
    acme, bazaar = connect("acme", now=lambda: clock[0]), connect("bazaar")
    who, order = person(), secrets.token_hex(8)
    first = acme.reports.create(acme.tag(**who), **report_arguments(order=order)).report
    assert first is not None
    (case,) = bazaar.appeals.open([first.id], "wrong_facts", "I sent it back.", "en", bazaar.tag(**who))
    correction = report_arguments(order=order, replaces=first.id, notice_sent_at=datetime.now(UTC))
    parked = acme.reports.create(acme.tag(**who), **correction)
    assert (parked.state, parked.retry_at) == ("parked", clock[0] + PARKED_EVERY)
    other = acme.reports.create(acme.tag(**person()), **report_arguments())
    assert other.state == "accepted", "it is in nobody's way"
    waiting = acme.outbox.waiting()
    assert (waiting["pending"].count, waiting["parked"].count) == (0, 1)
    attempts = acme.outbox.list("parked")[0].attempts
    assert acme.outbox.flush() == []
    staff_actions.take(reviewers, case.id, ANNA)
    staff_actions.decide(reviewers, case.id, ANNA, Outcome.UPHELD, "It was looked into.")
    assert acme.outbox.list("parked")[0].attempts == attempts, "not due, not asked"
    with sqlite3.connect(Path(str(acme._session.state_dir)) / OUTBOX_FILE) as database:
        database.execute("UPDATE item SET retry_at = '2026-01-01T00:00:00Z'")
    database.close()
    assert [delivery.state for delivery in acme.outbox.flush()] == ["accepted"]
    assert acme.outbox.list() == []


def test_what_is_parked_can_be_dropped_or_tried_at_once(connect: Connect) -> None:
    acme, bazaar = connect("acme"), connect("bazaar")
    who, order = person(), secrets.token_hex(8)
    first = acme.reports.create(acme.tag(**who), **report_arguments(order=order)).report
    assert first is not None
    bazaar.appeals.open([first.id], "wrong_facts", "I sent it back.", "en", bazaar.tag(**who))
    correction = report_arguments(order=order, replaces=first.id, notice_sent_at=datetime.now(UTC))
    key = acme.reports.create(acme.tag(**who), **correction).idempotency_key
    acme.outbox.retry(key)
    assert [delivery.state for delivery in acme.outbox.flush()] == ["parked"]
    acme.outbox.discard(key)
    assert acme.outbox.list() == []


def test_a_report_that_rests_on_a_contested_one_is_parked(connect: Connect) -> None:
    acme, bazaar = connect("acme"), connect("bazaar")
    people = [person(), person()]
    linked = [acme.reports.create(acme.tag(**who), **report_arguments()).report for who in people]
    ids = [report.id for report in linked if report is not None]
    items = [evidence("linked_instrument", sha256=secrets.token_bytes(32), report_id=number) for number in ids]
    farm = report_arguments(conduct="account_farm", evidence=items)
    (case,) = bazaar.appeals.open([ids[0]], "wrong_facts", "I sent it back.", "en", bazaar.tag(**people[0]))
    parked = acme.reports.create(acme.tag(**person()), **farm)
    assert (parked.state, parked.error and parked.error.code) == ("parked", "linked_report_invalid")
    bazaar.appeals.withdraw(case.id)
    assert [delivery.state for delivery in acme.outbox.flush(parked=True)] == ["accepted"]
    acme.reports.withdraw(ids[1], "wrong_facts")
    with pytest.raises(LinkedReportInvalid):
        acme.reports.create(acme.tag(**person()), **{**farm, "order": secrets.token_hex(8)})
    assert [item.state for item in acme.outbox.list()] == ["refused"], "this one will never carry it"


# --- what is unfit is not stored --------------------------------------------------------------------------------------


def test_unfit_arguments_are_refused_by_name_before_anything_is_stored(connect: Connect) -> None:
    acme = connect()
    buyer = acme.tag(**person())
    report, naive = "rp_Xk3mPq9aZZ", datetime(2026, 1, 31)  # noqa: DTZ001 without a zone
    moment: Any = datetime.now(UTC)
    strange: Any
    wrong: list[Callable[[], object]] = []
    for strange in ("订单-1", "a\nb", "a b", "", "x" * 256, "\ud800", 5, b"key"):
        wrong += [
            partial(acme.reports.create, buyer, **report_arguments(), idempotency_key=strange),
            partial(acme.appeals.withdraw, "ap_Xk3mPq9a", idempotency_key=strange),
            partial(acme.appeals.open, [report], "other", "x", idempotency_key=strange),
            partial(acme.reports.explain, report, "x", idempotency_key=strange),
            partial(acme.appeals.attach, "ap_Xk3mPq9a", "reporter", __file__, idempotency_key=strange),
        ]
    for strange in ("\ud800", "wrong_persn", "linked_report_void", "", None, 5):
        wrong.append(partial(acme.reports.withdraw, report, strange))
    for strange in (None, naive, "2026-01-31T00:00:00Z", 5):
        wrong.append(partial(acme.reports.restitute, report, strange, 100, "CNY"))
    for strange in (1.5, None, -1, True, "100", 2**53):
        wrong.append(partial(acme.reports.restitute, report, moment, strange, "CNY"))
    for strange in ("cny", None, "XXZ", "\ud800"):
        wrong.append(partial(acme.reports.restitute, report, moment, 100, strange))
    for strange in (None, "", "rp_a/../x", "\ud800", 5):
        wrong.append(partial(acme.reports.withdraw, strange, "other"))
        wrong.append(partial(acme.reports.restitute, strange, moment, 100, "CNY"))
    for strange in ("\ud800", None, 5):
        wrong += [
            partial(acme.appeals.answer, "ap_Xk3mPq9a", "reporter", strange),
            partial(acme.appeals.answer, "ap_Xk3mPq9a", strange, "x"),
            partial(acme.appeals.open, [report], "other", strange),
            partial(acme.appeals.reopen, "ap_Xk3mPq9a", strange),
            partial(acme.appeals.concede, "ap_Xk3mPq9a", strange),
            partial(acme.reports.explain, report, strange),
        ]
    for strange in ("ab" * 32, None, b"short"):
        wrong.append(partial(acme.appeals.request_reopening, "ap_Xk3mPq9a", strange, "x"))
    for strange in ("\ud800", "a\x00"):
        wrong.append(partial(acme.appeals.attach, "ap_Xk3mPq9a", "reporter", strange))
    for place, call in enumerate(wrong):
        with pytest.raises((InvalidInput, ConfigurationError)) as caught:
            call()
        assert str(caught.value), place
    assert acme.outbox.list() == []


def test_texts_with_lone_surrogates_are_refused_by_name(connect: Connect) -> None:
    acme = connect()
    buyer = acme.tag(**person())
    for name in ("notice_ref", "decided_by", "consent_ref", "order", "replaces", "currency", "outcome", "conduct"):
        with pytest.raises(LedgerError):
            acme.reports.create(buyer, **report_arguments(**{name: "\ud800"}))
    assert acme.outbox.list() == []


def test_unfit_keys_that_an_earlier_version_stored_are_refused_alone(connect: Connect, tmp_path: Path) -> None:
    """It took any key, and wrote the item down before it found out."""
    acme, order = connect(), secrets.token_hex(8)
    down = away(connect, tmp_path)
    down._session.epochs = acme._session.epochs
    down.reports.create(acme.tag(**person()), **report_arguments(order=order))
    content = down.outbox.list()[0].content
    down.close()
    path = tmp_path / "state-acme" / OUTBOX_FILE
    path.unlink()
    rows = [(key, "report", "/v1/reports", content, "pending") for key in ("订单-1", "a\nb", "fit")]
    first_file(path, *rows, ("odd", "report", "/v1/reports", b"{", "pending"))
    deliveries = {delivery.idempotency_key: delivery for delivery in acme.outbox.flush()}
    assert {key: delivery.state for key, delivery in deliveries.items()} == {
        "订单-1": "refused",
        "a\nb": "refused",
        "fit": "accepted",
        "odd": "refused",
    }
    assert len(reports_of(acme, order)) == 1
    acme.outbox.discard("订单-1")
    assert acme.outbox.discard_refused() == 2
    assert acme.outbox.list() == []


# --- what stays -------------------------------------------------------------------------------------------------------


def test_refused_items_are_forgotten_after_their_retention(connect: Connect) -> None:
    clock = [datetime.now(UTC)]
    acme = connect(now=lambda: clock[0])
    buyer, order = acme.tag(**person()), secrets.token_hex(8)
    acme.reports.create(buyer, **report_arguments(order=order))
    for _ in range(3):
        with pytest.raises(OrderAlreadyReported):
            acme.reports.create(buyer, **report_arguments(order=order))
    assert len(acme.outbox.list("refused")) == 3
    clock[0] += timedelta(days=REFUSED_RETENTION_DAYS, seconds=1)
    assert acme.outbox.flush() == []
    assert acme.outbox.list() == []
    with pytest.raises(ConfigurationError):
        connect(refused_retention_days=61)


def test_with_a_withdrawn_report_go_the_refused_items_about_it(connect: Connect, tmp_path: Path) -> None:
    acme = connect()
    buyer, order = acme.tag(**person()), secrets.token_hex(8)
    report = acme.reports.create(buyer, **report_arguments(order=order)).report
    assert report is not None
    with pytest.raises(OrderAlreadyReported):
        acme.reports.create(buyer, **report_arguments(order=order))
    with pytest.raises(LedgerError):
        acme.reports.restitute(report.id, datetime.now(UTC), 1, "CNY")
    unrelated = secrets.token_hex(8)
    acme.reports.create(acme.tag(**person()), **report_arguments(order=unrelated))
    with pytest.raises(OrderAlreadyReported):
        acme.reports.create(acme.tag(**person()), **report_arguments(order=unrelated))
    assert len(acme.outbox.list("refused")) == 3
    acme.reports.withdraw(report.id, "wrong_person")
    (left,) = acme.outbox.list()
    assert json.loads(left.content)["body"]["order_ref"] != acme.reports.get(report.id).order_ref
    elements = [item["element"] for item in json.loads(left.content)["subjects"]]
    file = (tmp_path / "state-acme" / OUTBOX_FILE).read_bytes()
    assert all(element.encode() in file for element in elements)
    acme.outbox.discard_refused()
    file = (tmp_path / "state-acme" / OUTBOX_FILE).read_bytes()
    assert not any(element.encode() in file for element in elements), "overwritten, not only unlinked"
    with pytest.raises(AlreadyReversed):
        acme.reports.withdraw(report.id, "other")


def test_closing_tells_what_still_waits(connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    acme = connect()
    down = away(connect, tmp_path)
    down._session.epochs = acme._session.epochs
    buyer = acme.tag(**person())
    for _ in range(2):
        down.reports.create(buyer, **report_arguments())
    with caplog.at_level(logging.WARNING, "refund_ledger"):
        down.close()
    (message,) = [record.getMessage() for record in caplog.records if record.name == "refund_ledger"]
    assert "2 items wait" in message
    caplog.clear()
    assert [delivery.state for delivery in acme.outbox.flush()] == ["accepted", "accepted"]
    with caplog.at_level(logging.WARNING, "refund_ledger"):
        acme.close()
    assert not caplog.records


# --- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_report_under_the_same_key_gets_the_same_answer(connect: Connect, tmp_path: Path) -> None:
    acme = connect()
    who, key = person(), secrets.token_hex(8)
    arguments = report_arguments(idempotency_key=key)
    first = acme.reports.create(acme.tag(**who), **arguments)
    again = acme.reports.create(acme.tag(**who), **arguments)
    assert (again.state, again.replayed, again.report) == ("accepted", True, first.report)
    assert acme.outbox.list() == []
    for changed in ({"amount_minor": 1}, {"decided_by": "agent-8"}, {"order": secrets.token_hex(8)}):
        with pytest.raises(IdempotencyMismatch):
            acme.reports.create(acme.tag(**who), **{**arguments, **changed})
    with pytest.raises(IdempotencyMismatch):
        acme.reports.create(acme.tag(**person()), **arguments)
    assert acme.outbox.list() == [], "what is known to be another report is not stored"
    for buyer in (who, person()):
        for element in [subject.element for subject in acme.tag(**buyer).subjects]:
            assert element is not None
            assert element not in (tmp_path / "state-acme" / OUTBOX_FILE).read_bytes()


def test_a_withdrawn_report_is_not_made_anew_by_running_the_job_again(connect: Connect) -> None:
    acme, who = connect(), person()
    arguments = report_arguments(idempotency_key=secrets.token_hex(8))
    first = acme.reports.create(acme.tag(**who), **arguments).report
    assert first is not None
    acme.reports.withdraw(first.id, "wrong_person")
    again = acme.reports.create(acme.tag(**who), **arguments)
    assert (again.state, again.report) == ("accepted", first)
    assert reports_of(acme, arguments["order"]) == [first.id]


def test_a_batch_never_ends_with_one_of_its_items(connect: Connect) -> None:
    acme = connect()
    good, (malformed,) = acme.tag(**person()), acme.tag_many([{"phone": "1"}])
    batch: list[Any] = [
        (good, report_arguments(order="first")),
        (good, report_arguments(amont=5)),
        (malformed, report_arguments(order="nobody")),
        ({"phone": "+86 138 0013 8000"}, report_arguments()),
        (None, report_arguments()),
        (good, None),
        (good, report_arguments(evidence=None)),
        (good, report_arguments(evidence=[None])),
        (good, report_arguments(act_ended_at="2026-01-31")),
        (good, report_arguments(notice_sent_at=None)),
        (good, report_arguments(order=17)),
        (good, report_arguments(amount_minor=1.5)),
        (good, report_arguments(idempotency_key=b"key")),
        good,
        (good, report_arguments(order=f"last-{secrets.token_hex(4)}")),
    ]
    batch[0][1]["order"] = f"first-{secrets.token_hex(4)}"
    results = acme.reports.create_many(batch)
    assert [result.state for result in results] == ["accepted", *["refused"] * (len(batch) - 2), "accepted"]
    assert [result.index for result in results] == list(range(len(batch)))
    assert all(isinstance(result.error, LedgerError) for result in results[1:-1])
    assert (results[0].order or "").startswith("first-")
    assert results[2].order == "nobody"
    assert "did you mean amount_minor?" in str(results[1].error)
    assert isinstance(results[2].error, InvalidInput)
    assert isinstance(results[1].error, InvalidReport)
    assert acme.outbox.list() == []


def test_one_outcome_each_for_people_who_are_none(connect: Connect) -> None:
    acme = connect()
    odd: list[Any] = [person(), {"phone": "1"}, {}, None, {"phone": None}, {"shoe": "44"}, person()]
    outcomes = acme.tag_many(odd)
    assert [isinstance(outcome, Buyer) for outcome in outcomes] == [True, *[False] * 5, True]
    assert [outcome.details["index"] for outcome in outcomes if isinstance(outcome, LedgerError)] == [1, 2, 3, 4, 5]
    assert acme.tag_many([]) == []
    with pytest.raises(InvalidInput):
        buyers(outcomes)


# --- batches as a whole -----------------------------------------------------------------------------------------------


def test_a_proxy_that_refuses_long_requests_gets_shorter_ones(running: Running, connect: Connect) -> None:
    """Many proxies take 1 MiB by default; a batch may have three."""
    real, limit, refused = connect("acme"), 6_000, [0]
    suite = running.suite("acme").read_bytes()

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        from ledger.client.transport.budgets import Deadline

        if path == "/v1/suite":
            return 200, {}, suite
        if len(body) > limit:
            refused[0] += 1
            return 413, {"Content-Type": "text/html"}, b"<html>413 Request Entity Too Large</html>"
        headers = {"Idempotency-Key": json.loads(body)["body"]["order_ref"]} if path == "/v1/reports" else {}
        answer = real._session.transport.send(method, path, Deadline(10), content=body or None, headers=headers)
        return answer.status, {}, answer.body

    people = [real.tag(**person()) for _ in range(9)]
    with answering(respond) as url:
        narrow = connect("acme", url=url)
        results = narrow.reports.create_many([(buyer, report_arguments()) for buyer in people])
    assert [result.state for result in results] == ["accepted"] * 9
    assert 0 < refused[0] < 9
    assert real.outbox.list() == []


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("The argument ca_file names a file that cannot be read."),
        PlatformSuspended("The platform is suspended."),
        ScopeMissing("This needs the scope report."),
    ],
    ids=lambda error: error.code,
)
def test_what_keeps_a_process_out_refuses_nothing_and_ends_a_flush(tmp_path: Path, error: LedgerError) -> None:
    sent: list[str] = []

    class Shut(Transport):
        def send(self, method: str, path: str, deadline: Deadline, **more: Any) -> HttpAnswer:
            sent.append(path)
            raise error

    transport, outbox = Shut("http://127.0.0.1:1"), Outbox(tmp_path / "outbox.db")
    reports = [New(f"k{n}", "report", "/v1/reports", encode(report_of(f"r{n}"))) for n in range(50)]
    outbox.add(reports, START)
    results = OutboxSender(transport, outbox, lambda: START, 5.0, 5.0, bytes).flush()
    assert {(result.state, type(result.error)) for result in results} == {("pending", type(error))}
    assert len(sent) == 1
    assert len(outbox.items("pending")) == 50
    outbox.close()
    transport.close()


def test_a_path_that_a_proxy_made_of_ours_refuses_nothing(connect: Connect, running: Running) -> None:
    """The ledger itself says that there is no such path, for it was asked for another one."""
    real = connect("acme")
    buyer = real.tag(**person())

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/v1/suite":
            return 200, {}, running.suite("acme").read_bytes()
        return 404, {}, b'{"code": "not_found", "title": "Not found", "status": 404, "detail": "No such path."}'

    with answering(respond) as url:
        astray = connect("acme", url=url, lookup_budget_seconds=PROMPT_SECONDS, budget_seconds=0.5)
        assert astray.reports.create(buyer, **report_arguments()).state == "pending"
        assert astray.lookup(buyer, order="A-1", consent_ref=CONSENT).unavailable_because == "proxy_answer"
        assert [item.state for item in astray.outbox.list()] == ["pending"]


def test_a_file_that_another_process_holds_keeps_no_lookup_waiting(connect: Connect) -> None:
    acme = connect("acme")
    buyer = acme.tag(**person())
    acme.reports.create(buyer, **report_arguments())
    path = Path(str(acme._session.state_dir)) / OUTBOX_FILE
    other = connect("acme")
    with sqlite3.connect(path, isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        opening = threading.Thread(target=other.outbox.list)
        opening.start()
        started = time.monotonic()
        other.tag(**person())
        assert time.monotonic() - started < PROMPT_SECONDS
        held.execute("ROLLBACK")
    held.close()
    opening.join()


def test_an_outage_ends_a_flush_after_one_request(connect: Connect, tmp_path: Path, running: Running) -> None:
    acme = connect()
    report = acme.reports.create(acme.tag(**person()), **report_arguments()).report
    assert report is not None
    with proxy(running.server.url) as between:
        down = connect(url=between.url, state_dir=tmp_path / "state-acme")
        between.refuse = True
        with giving_up(down):
            for _ in range(5):
                down.reports.withdraw("rp_Xk3mPq9aZZ", "other")
            before = between.connections
            results = down.outbox.flush()
        assert [result.state for result in results] == ["pending"] * 5
        assert all(isinstance(result.error, Unavailable) for result in results)
        assert between.connections == before + 1, "not one for each of the five"
        assert {delivery.error.code for delivery in acme.outbox.flush() if delivery.error} == {NotFound.code}, (
            "the same outbox"
        )
    with pytest.raises(InvalidRequest):
        acme.reports.withdraw(report.id, "nothing")  # type: ignore[arg-type]
