"""When the network or the ledger fails: lookups answer in time, reports are neither lost nor doubled."""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.client import Query, RefundLedger
from ledger.client.outbox.store import Outbox
from ledger.client.state import OUTBOX_FILE
from ledger.errors import ConfigurationError, HolderMismatch, IdempotencyMismatch, InvalidProof, Unavailable
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url, unb64url
from tests.faulty import PROMPT_SECONDS, SLOW_SECONDS, answering, free_port, proxy
from tests.kit import Connect, Running, giving_up, person, report_arguments, reports_of
from tests.support import CONSENT, ROOT


def timed_lookup(ledger: RefundLedger, buyer: Any) -> tuple[Any, float]:
    started = time.monotonic()
    lookup = ledger.lookup(buyer, order="A-1", consent_ref=CONSENT)
    return lookup, time.monotonic() - started


def answered(ledger: RefundLedger, buyer: Any) -> Any:
    """A lookup that was answered: on a busy machine not every one is within its 300 ms."""
    for _ in range(20):
        lookup = ledger.lookup(buyer, order="A-1", consent_ref=CONSENT)
        if lookup.tier != "unavailable":
            break
    return lookup


def test_a_lookup_has_300_ms_and_never_raises_for_an_outage(running: Running, connect: Connect) -> None:
    buyer = connect().tag(**person())
    with proxy(running.server.url) as between:
        slow = connect(url=between.url)
        assert answered(slow, buyer).tier == "clear"
        between.delay_seconds = SLOW_SECONDS
        lookup, seconds = timed_lookup(slow, buyer)
        assert (lookup.tier, lookup.credit, lookup.guidance) == ("unavailable", None, ())
        assert lookup.unavailable_because == "timeout"
        assert seconds < PROMPT_SECONDS
        between.delay_seconds, before = 0.0, between.connections
        between.refuse = True
        lookup, seconds = timed_lookup(slow, buyer)
        assert (lookup.tier, seconds < PROMPT_SECONDS) == ("unavailable", True)
        assert between.connections <= before + 1, "no retry"
        between.refuse = False
        assert answered(slow, buyer).tier == "clear", "it recovers by itself"
    down = connect(url=f"http://127.0.0.1:{free_port()}", lookup_budget_seconds=PROMPT_SECONDS / 2)
    for who in (buyer, person()):  # tagged already, or to be blinded within the same time
        lookup, seconds = timed_lookup(down, who)
        assert (lookup.tier, lookup.unavailable_because) == ("unavailable", "connect")
        assert seconds < PROMPT_SECONDS


def test_servers_that_are_broken_count_as_unavailable(running: Running, connect: Connect) -> None:
    buyer = connect().tag(**person())
    suite = running.suite("acme").read_text()
    problems = {
        "overloaded": (503, b'{"code": "overloaded", "detail": "Busy."}'),
        "unavailable": (500, b'{"code": "internal", "detail": "The server failed."}'),
        "proxy_answer": (500, b"<html>oops</html>"),
        "unexpected_answer": (200, b"<html>log in to the hotel's network</html>"),
    }
    for code, (status, body) in problems.items():

        def respond(
            method: str, path: str, sent: bytes, status: int = status, body: bytes = body
        ) -> tuple[int, dict[str, str], bytes]:
            return (200, {}, suite.encode()) if path == "/v1/suite" else (status, {}, body)

        with answering(respond) as url:
            # On a busy machine an answer may take longer than the 0.3 s that a lookup has by default.
            ledger = connect(url=url, lookup_budget_seconds=PROMPT_SECONDS / 2)
            lookup, seconds = timed_lookup(ledger, buyer)
            assert (lookup.tier, lookup.unavailable_because) == ("unavailable", code)
            assert seconds < PROMPT_SECONDS


def test_a_trickling_server_is_given_up_in_time(running: Running, connect: Connect) -> None:
    buyer = connect().tag(**person())
    suite = running.suite("acme").read_text()
    with answering(lambda *_: (200, {}, suite.encode()), pause=lambda: time.sleep(0.3)) as url:
        lookup, seconds = timed_lookup(connect(url=url), buyer)
        assert (lookup.tier, lookup.unavailable_because) == ("unavailable", "timeout")
        assert seconds < PROMPT_SECONDS


def test_a_server_with_another_key_is_found_out(running: Running, connect: Connect) -> None:
    """It shows the pinned suite but evaluates with a key of its own: only the proofs can tell."""
    suite = running.suite("acme").read_text()
    evil = voprf.derive_secret(secrets.token_bytes(32), b"evil")

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/v1/suite":
            return 200, {}, suite.encode()
        blinded: Sequence[bytes] = [unb64url(text, 32) for text in json.loads(body)["blinded"]]
        evaluation = voprf.evaluate(evil, blinded, secrets.token_bytes(64))
        share = {
            "holder": "ledger",
            "evaluated": [b64url(e) for e in evaluation.evaluated],
            "proof": b64url(evaluation.proof),
        }
        return 200, {}, json.dumps({"epoch": 1, "shares": [share]}).encode()

    with answering(respond) as url:
        evil_ledger = connect(url=url)
        with pytest.raises(InvalidProof):
            evil_ledger.tag(**person())
        # The usual budget is short for a first evaluation on a loaded machine; here only the outcome matters.
        with pytest.raises(InvalidProof):
            connect(url=url, lookup_budget_seconds=5).lookup(person(), order="A-1", consent_ref=CONSENT)


def test_a_suite_with_a_wrong_holder_key_is_refused(running: Running, connect: Connect) -> None:
    key = b64url(voprf.public_key(voprf.derive_secret(secrets.token_bytes(32), b"other")))
    epochs = [{"epoch": 1, "state": "current", "holders": [{"id": "ledger", "url": None, "public_key": key}]}]
    wrong = RefundLedger(running.suite("acme", epochs=epochs), running.key("acme"))
    with wrong, pytest.raises(HolderMismatch):
        wrong.tag(**person())


def test_subjects_raise_when_the_ledger_is_down(connect: Connect) -> None:
    down = connect(url=f"http://127.0.0.1:{free_port()}", budget_seconds=0.5, subject_budget_seconds=0.2)
    with pytest.raises(Unavailable):
        down.tag(**person())
    with pytest.raises(Unavailable):
        down.lookup_many([Query(connect("bazaar").tag(**person()), "1", consent_ref=CONSENT)])


def test_a_retry_after_a_cut_connection_makes_one_report(running: Running, connect: Connect) -> None:
    with proxy(running.server.url) as between:
        acme = connect(url=between.url)
        buyer, order = acme.tag(**person()), secrets.token_hex(8)
        between.cut_answers = 2
        sent = acme.reports.create(buyer, **report_arguments(order=order))
        assert between.cut_answers == 0
        assert (sent.state, sent.replayed) == ("accepted", True)
        assert sent.report is not None
        assert reports_of(acme, order) == [sent.report.id]
        assert acme.reports.receipt(sent.report).receipt.index == sent.report.entry_index
        between.cut_answers = 1
        assert acme.reports.withdraw(sent.report.id, "duplicate").replayed
        between.cut_answers = 1
        batch = acme.reports.create_many([(buyer, report_arguments()) for _ in range(3)])
        assert [delivery.state for delivery in batch] == ["accepted"] * 3
        assert acme.outbox.list() == []


def test_reports_wait_out_an_outage(running: Running, connect: Connect) -> None:
    with proxy(running.server.url) as between:
        acme = connect(url=between.url)
        buyer = acme.tag(**person())
        orders = [secrets.token_hex(8) for _ in range(3)]
        known = acme.reports.create(buyer, **report_arguments()).report
        assert known is not None
        between.refuse = True
        with giving_up(acme):
            delivery = acme.reports.create(buyer, **report_arguments(order=orders[0]))
            two, three = acme.reports.create_many([(buyer, report_arguments(order=order)) for order in orders[1:]])
            change = acme.reports.withdraw(known.id, "wrong_facts")
            assert [result.state for result in (delivery, two, three, change)] == ["pending"] * 4
            assert isinstance(delivery.error, Unavailable)
            assert [result.state for result in acme.outbox.flush()] == ["pending"] * 4
        between.refuse = False
        acme.close()

        again = connect(url=between.url)  # another process, later, on the same state folder
        results = again.outbox.flush()
        assert [result.state for result in results] == ["accepted"] * 4
        assert [result.idempotency_key for result in results] == [
            delivery.idempotency_key,
            two.idempotency_key,
            three.idempotency_key,
            change.idempotency_key,
        ]
        assert again.outbox.list() == []
        assert again.outbox.flush() == []
        assert all(len(reports_of(again, order)) == 1 for order in orders)
        assert again.reports.get(known.id).status == "withdrawn"


def test_an_own_idempotency_key_sends_what_is_stored(running: Running, connect: Connect) -> None:
    with proxy(running.server.url) as between:
        acme = connect(url=between.url)
        buyer, order, key = acme.tag(**person()), secrets.token_hex(8), secrets.token_hex(8)
        between.refuse = True
        with giving_up(acme):
            first = acme.reports.create(buyer, **report_arguments(order=order), idempotency_key=key)
        between.refuse = False
        second = acme.reports.create(buyer, **report_arguments(order="ignored"), idempotency_key=key)
        assert [(delivery.idempotency_key, delivery.state) for delivery in (first, second)] == [
            (key, "pending"),
            (key, "accepted"),
        ]
        assert len(reports_of(acme, order)) == 1
        with pytest.raises(IdempotencyMismatch):  # delivered and forgotten here; the ledger remembers
            acme.reports.create(buyer, **report_arguments(), idempotency_key=key)


_CRASH = """
import sys, os
from tests.kit import report_arguments
from ledger.client import RefundLedger
suite, key, state, order, phone = sys.argv[1:]
ledger = RefundLedger(suite, key, state_dir=state, subject_budget_seconds=20)
buyer = ledger.tag(phone=phone)
real = ledger._session.transport.send
def send(method, path, *rest, **more):
    answer = real(method, path, *rest, **more)
    if path == "/v1/reports":
        os.kill(os.getpid(), 9)  # the ledger has answered, the SDK has not noticed
    return answer
ledger._session.transport.send = send
ledger.reports.create(buyer, **report_arguments(order=order))
"""


def test_a_client_killed_between_answer_and_note_neither_loses_nor_doubles(
    running: Running, connect: Connect, tmp_path: Path
) -> None:
    order, state = secrets.token_hex(8), tmp_path / "state-acme"
    arguments = [running.suite("acme"), running.key("acme"), state, order, person()["phone"]]
    died = subprocess.run([sys.executable, "-c", _CRASH, *map(str, arguments)], cwd=ROOT, check=False)
    assert died.returncode == -9
    acme = connect()
    assert [item.state for item in acme.outbox.list()] == ["pending"]
    (result,) = acme.outbox.flush()
    assert result.state == "accepted"
    assert result.report is not None
    assert reports_of(acme, order) == [result.report.id]
    assert acme.reports.receipt(result.report).report_id == result.report.id


def _age_outbox(state: Path, hours: int) -> None:
    with sqlite3.connect(state / OUTBOX_FILE) as database:
        then = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        database.execute("UPDATE item SET first_attempt_at = ?", (then,))
    database.close()


def _forget_keys(running: Running) -> None:
    """As the service does after 24 hours."""
    database = sqlite3.connect(running.settings.database_url.removeprefix("sqlite:///"), timeout=10)
    with database:
        database.execute("DELETE FROM idempotency")
    database.close()


@pytest.mark.parametrize("delivered", [True, False])
def test_after_a_day_the_ledger_is_asked_before_sending_again(
    running: Running, connect: Connect, tmp_path: Path, delivered: bool
) -> None:
    with proxy(running.server.url) as between:
        acme = connect(url=between.url)
        buyer, orders = acme.tag(**person()), [secrets.token_hex(8), secrets.token_hex(8)]
        known = acme.reports.create(buyer, **report_arguments(order=orders[1])).report
        assert known is not None
        between.cut_answers = 100 if delivered else 0
        between.refuse = not delivered
        with giving_up(acme):
            assert acme.reports.create(buyer, **report_arguments(order=orders[0])).state == "pending"
            assert acme.reports.withdraw(known.id, "other").state == "pending"
        between.cut_answers, between.refuse = 0, False
        if delivered:  # taken back meanwhile by a colleague: sending it again would report the person anew
            (report_id,) = reports_of(acme, orders[0])
            connect("acme", state_dir=tmp_path / "colleague").reports.withdraw(report_id, "wrong_person")
        _age_outbox(tmp_path / "state-acme", 30)
        _forget_keys(running)
        results = acme.outbox.flush()
        assert [result.state for result in results] == ["accepted", "accepted"]
        (only,) = reports_of(acme, orders[0])
        assert acme.reports.get(only).status == ("withdrawn" if delivered else "counting")
        assert acme.reports.get(known.id).status == "withdrawn"
        assert acme.outbox.list() == []


def test_a_damaged_outbox_never_hides_behind_a_sent_report(tmp_path: Path, connect: Connect) -> None:
    """What cannot be written down first is not sent."""
    acme = connect()
    buyer, order = acme.tag(**person()), secrets.token_hex(8)
    assert acme.outbox.list() == []
    with sqlite3.connect(tmp_path / "state-acme" / OUTBOX_FILE) as database:
        database.execute("DROP TABLE item")
    database.close()
    with pytest.raises(ConfigurationError):
        acme.reports.create(buyer, **report_arguments(order=order))
    assert reports_of(acme, order) == []
    Outbox(tmp_path / "state-acme" / OUTBOX_FILE).close()
