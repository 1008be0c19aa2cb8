"""A proxy that answers everything with a page of its own and status 200: an outage whatever is asked, and no attack.

A captive portal or a single sign-on in front of the ledger does so. Its page has no signature, so no call may take it
for an answer, and none for an attack: a local snapshot goes on being used, and a service starts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ledger.client import RefundLedger
from ledger.client.transport.connections import MAX_CONNECTIONS
from ledger.errors import ProofError, Unavailable, UnexpectedAnswer
from tests.client.small_ledger import SmallLedger
from tests.faulty import PROMPT_SECONDS

WHO = {"phone": "+86 138 0013 8000"}
PAGES: list[tuple[dict[str, str], bytes]] = [
    ({"Content-Type": "text/html"}, b"<html>log in</html>"),
    ({"Content-Type": "application/json"}, b'{"login": "https://sso.test/"}'),
    ({}, b""),
    ({"Content-Type": "application/octet-stream"}, bytes(64)),
]
BUDGETS: dict[str, Any] = dict.fromkeys(
    ("lookup_budget_seconds", "subject_budget_seconds", "check_budget_seconds", "connect_budget_seconds"), 0.3
)


@pytest.fixture(params=PAGES, ids=lambda page: page[1][:8].decode() or "empty")
def page(
    request: pytest.FixtureRequest, ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch
) -> Callable[[bool], None]:
    """A switch: while it is called with True, everything is answered by the page."""
    headers, body = request.param
    respond = ledger.respond
    is_on = [False]

    def answer(method: str, path: str, sent: bytes) -> Any:
        return (200, headers, body) if is_on[0] else respond(method, path, sent)

    monkeypatch.setattr(ledger, "respond", answer)
    return lambda value: is_on.__setitem__(0, value)


def be_patient(refund_ledger: RefundLedger) -> None:
    """From now on calls have time: they are answered, however busy the machine is."""
    for name in (*BUDGETS, "budget_seconds"):
        setattr(refund_ledger._session, name, 5 * PROMPT_SECONDS)
    refund_ledger._session.snapshots._budget_seconds = 5 * PROMPT_SECONDS


def outage(call: Callable[[], object]) -> None:
    with pytest.raises((Unavailable, UnexpectedAnswer)) as caught:
        call()
    assert not isinstance(caught.value, ProofError)


def test_nothing_is_known_yet(
    ledger: SmallLedger, page: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    ledger.publish()
    page(True)
    with ledger.connect(budget_seconds=0.3, **BUDGETS) as acme:
        started = time.monotonic()
        acme.connect(required=False)
        (record,) = [record for record in caplog.records if getattr(record, "event", "") == "connect_failed"]
        assert record.levelno == logging.WARNING
        outage(acme.connect)
        for policy in ("private", "download"):
            outage(lambda policy=policy: acme.check(WHO, policy=policy))  # type: ignore[misc]
        outage(lambda: acme.tag(**WHO))
        assert acme.lookup(WHO, order="A-1").tier == "unavailable"
        assert time.monotonic() - started < 8 * PROMPT_SECONDS
        page(False)
        be_patient(acme)
        acme.connect()
        assert acme.check(WHO, policy="private").tier == "clear", "nothing of the page was kept"
        assert acme.lookup(WHO, order="A-1").tier == "clear"


def test_a_snapshot_that_is_there_goes_on_being_used(ledger: SmallLedger, page: Callable[[bool], None]) -> None:
    ledger.publish()
    buyer = ledger.buyer(WHO)
    with ledger.connect(check_budget_seconds=5 * PROMPT_SECONDS) as acme:
        assert acme.check(buyer, policy="download").tier == "clear"
    page(True)
    ledger.now += timedelta(hours=2)  # a newer one is asked for
    with ledger.connect(budget_seconds=0.3, **BUDGETS) as later:
        later.connect(required=False)
        be_patient(later)
        assert later.check(buyer, policy="download").tier == "clear"


def test_a_subject_waits_for_no_thread_and_no_place(ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What proves the holders of a key runs in a thread apart. Where all places for such threads are taken, or none can
    be started, `subject` says so within its budget, and does its work when there is room again."""
    with ledger.connect(state="apart", **BUDGETS) as acme:
        room = acme._session.transport._opened().own_threads
        for _ in range(MAX_CONNECTIONS):
            assert room.acquire(timeout=1)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="Too many calls"):
            acme.tag(**WHO)
        assert time.monotonic() - started < PROMPT_SECONDS
        for _ in range(MAX_CONNECTIONS):
            room.release()
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", _no_thread)
            with pytest.raises(Unavailable, match="No thread can be started"):
                acme.tag(**WHO)
        be_patient(acme)
        assert len(acme.tag(**WHO).subjects) == 1


def _no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")
