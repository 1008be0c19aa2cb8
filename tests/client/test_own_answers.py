"""What is answered to a report, a withdrawal or a question about one's own things is taken only if it is about them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.client import RefundLedger
from ledger.client.transport.budgets import Deadline
from ledger.errors import AnswerMismatch, NotFound, OrderAlreadyReported
from tests.faulty import answering
from tests.kit import Connect, Running, person, report_arguments, reports_of

Answer = tuple[int, dict[str, str], bytes]


class Mixer:
    """A server between the SDK and the real one. What is in `late` gets the answer to the request of that path before
    it; `change` may alter a batch."""

    def __init__(self, running: Running, real: RefundLedger, *, headers: bool) -> None:
        self.suite = running.suite("acme").read_bytes()
        self.real = real
        self.headers = headers
        self.late: set[str] = set()
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda value: value
        self.mixed: RefundLedger | None = None
        self.before: dict[str, Answer] = {}

    def respond(self, method: str, path: str, body: bytes) -> Answer:
        if path == "/v1/suite":
            return 200, {}, self.suite
        assert self.mixed is not None
        sent = {}
        if waiting := [item for item in self.mixed.outbox.list("pending") if item.path == path]:
            sent = {"Idempotency-Key": waiting[-1].idempotency_key}
        real = self.real._session.transport.send(method, path, Deadline(10), content=body or None, headers=sent)
        repeated = {name: real.headers[name] for name in ("idempotency-key",) if name in real.headers}
        answer: Answer = (real.status, repeated if self.headers else {}, real.body)
        if path.endswith("/batch"):
            return real.status, {}, json.dumps(self.change(json.loads(real.body))).encode()
        sort = method + path.split("?")[0].rpartition("/")[2][:3]
        earlier, self.before[sort] = self.before.get(sort, answer), answer
        return earlier if sort in self.late else answer


@contextmanager
def mixer(running: Running, connect: Connect, *, headers: bool = False) -> Iterator[tuple[Mixer, RefundLedger]]:
    mixer = Mixer(running, connect("acme"), headers=headers)
    with answering(mixer.respond) as url:
        mixer.mixed = connect("acme", url=url, budget_seconds=20)
        yield mixer, mixer.mixed


def reported(ledger: RefundLedger, order: str) -> str:
    sent = ledger.reports.create(ledger.tag(**person()), **report_arguments(order=order))
    assert sent.report is not None
    return sent.report.id


@pytest.mark.parametrize("headers", [False, True])
def test_the_answer_about_another_report_is_not_taken(running: Running, connect: Connect, headers: bool) -> None:
    orders = [secrets.token_hex(8) for _ in range(2)]
    with mixer(running, connect, headers=headers) as (between, mixed):
        first = reported(mixed, orders[0])
        between.late = {"POSTrep"}
        with pytest.raises(AnswerMismatch) as caught:
            reported(mixed, orders[1])
        assert caught.value.details["compared"] == ("idempotency_key" if headers else "order_ref")
        (item,) = mixed.outbox.list()
        assert (item.state, item.error and item.error["code"]) == ("pending", "answer_mismatch")
    real = connect("acme")
    (sent,) = real.outbox.flush()
    assert sent.report is not None
    assert [reports_of(real, order) for order in orders] == [[first], [sent.report.id]]
    assert sent.report.id != first
    assert real.reports.receipt(sent.report).report_id == sent.report.id


@pytest.mark.parametrize("headers", [False, True])
def test_the_answer_about_another_change_is_not_taken(running: Running, connect: Connect, headers: bool) -> None:
    with mixer(running, connect, headers=headers) as (between, mixed):
        ids = [reported(mixed, secrets.token_hex(8)) for _ in range(4)]
        mixed.reports.withdraw(ids[0], "wrong_person")
        mixed.reports.restitute(ids[1], datetime.now(UTC), 12_900, "CNY")
        between.late = {"POSTwit", "POSTres"}
        changes: list[Callable[[], object]] = [
            lambda: mixed.reports.withdraw(ids[2], "duplicate"),
            lambda: mixed.reports.restitute(ids[3], datetime.now(UTC), 12_900, "CNY"),
        ]
        for change in changes:
            with pytest.raises(AnswerMismatch) as caught:
                change()
            assert caught.value.details["compared"] == ("idempotency_key" if headers else "id")
    real = connect("acme")
    assert [delivery.state for delivery in real.outbox.flush()] == ["accepted"] * 2
    assert [real.reports.get(report_id).withdrawal_reason for report_id in ids] == [
        "wrong_person",
        None,
        "duplicate",
        None,
    ]
    assert real.reports.get(ids[3]).restituted_at is not None


def test_each_result_of_a_batch_is_about_its_own_report(running: Running, connect: Connect) -> None:
    def swap(value: dict[str, Any]) -> dict[str, Any]:
        return {"results": value["results"][::-1]}

    def swap_reports(value: dict[str, Any]) -> dict[str, Any]:
        first, second = value["results"]
        return {"results": [{**first, "report": second["report"]}, {**second, "report": first["report"]}]}

    def same_order(value: dict[str, Any]) -> dict[str, Any]:
        first, second = value["results"]
        forged = {**second["report"], "order_ref": first["report"]["order_ref"]}
        return {"results": [{**first, "report": forged}, second]}

    with mixer(running, connect) as (between, mixed):
        buyers = mixed.tag_many([person(), person()])
        for change, compared in (
            (swap, ["idempotency_key"] * 2),
            (swap_reports, ["order_ref"] * 2),
            (same_order, ["body_sha256", None]),
        ):
            between.change = change
            results = mixed.reports.create_many([(buyer, report_arguments()) for buyer in buyers])
            assert [result.error and result.error.details["compared"] for result in results] == compared
            assert [result.state for result in results] == [
                "accepted" if difference is None else "pending" for difference in compared
            ]
    waiting = connect("acme").outbox.flush()
    assert [delivery.state for delivery in waiting] == ["accepted"] * 5


def test_what_is_read_is_about_what_was_asked(running: Running, connect: Connect) -> None:
    orders = [secrets.token_hex(8) for _ in range(2)]
    with mixer(running, connect) as (between, mixed):
        ids = [reported(mixed, order) for order in orders]
        mixed.reports.get(ids[0])
        assert reports_of(mixed, orders[0]) == [ids[0]]
        between.late = {"GETrp_", "GETrep"}
        with pytest.raises(AnswerMismatch):
            mixed.reports.get(ids[1])
        with pytest.raises(AnswerMismatch):
            reports_of(mixed, orders[1])


def test_the_service_repeats_the_id_of_each_request(connect: Connect) -> None:
    acme = connect("acme")
    with pytest.raises(NotFound) as missing:
        acme.reports.get("rp_AAAAAAAA")
    order = secrets.token_hex(8)
    reported(acme, order)
    with pytest.raises(OrderAlreadyReported) as refused:
        reported(acme, order)
    ids = [str(caught.value.details["request_id"]) for caught in (missing, refused)]
    assert all(request_id.startswith("rcl-") and len(request_id) == 26 for request_id in ids)
    assert len(set(ids)) == 2
