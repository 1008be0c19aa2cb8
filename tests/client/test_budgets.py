"""Each call of the SDK has a time budget that it keeps, whatever hangs: name resolution, connecting, the answer."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client.transport import http as transport_module
from ledger.client.transport.budgets import (
    CHECK_BUDGET_SECONDS,
    CONNECT_BUDGET_SECONDS,
    LOOKUP_BUDGET_SECONDS,
    SUBJECT_BUDGET_SECONDS,
    Deadline,
)
from ledger.client.transport.connections import MAX_CONNECTIONS
from ledger.client.transport.http import Transport
from ledger.errors import Unavailable
from tests.client.small_ledger import SmallLedger
from tests.counts import trials
from tests.faulty import PROMPT_SECONDS, SLOW_SECONDS, free_port

WHO = {"phone": "+86 138 0013 8000"}
BUDGETS: dict[str, Any] = {
    "lookup_budget_seconds": 0.1,
    "subject_budget_seconds": 0.15,
    "check_budget_seconds": 0.2,
    "connect_budget_seconds": 0.2,
}
TOLERANCE_SECONDS = PROMPT_SECONDS - 1
"""For a machine that is busy with other tests. A call that waits for what hangs takes `SLOW_SECONDS` or more."""


@contextmanager
def server(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """The URL of a TCP server that treats each connection by `behave`, which must end when the event is set."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=run, args=(client,), daemon=True))
            threads[-1].start()

    def run(client: socket.socket) -> None:
        with client, suppress(OSError):
            behave(client, ended)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads.append(threading.Thread(target=serve, args=(listening,), daemon=True))
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


def hang(_client: socket.socket, ended: threading.Event) -> None:
    ended.wait()


def drip_head(client: socket.socket, ended: threading.Event) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 1000:
        client.sendall(bytes([byte]))
        if ended.wait(0.05):
            return


def drip_body(client: socket.socket, ended: threading.Event) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.05):
        client.sendall(b" ")


def reset(client: socket.socket, _ended: threading.Event) -> None:
    client.recv(1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def closed_port() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def hanging_resolver(patched: pytest.MonkeyPatch) -> Iterator[str]:
    """Name resolution that does not come back before the test is over."""
    ended = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("ledger.test", b"ledger.test"):
            ended.wait(4 * SLOW_SECONDS)
            raise socket.gaierror(socket.EAI_AGAIN, "timed out")
        return real(host, *rest, **more)

    patched.setattr(socket, "getaddrinfo", resolve)
    try:
        yield "https://ledger.test"
    finally:
        ended.set()


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """What a call gave or raised, and its seconds."""
    started = time.monotonic()
    try:
        outcome = call()
    except Unavailable as error:
        outcome = error
    return outcome, time.monotonic() - started


FAULTS = ["hang", "drip_head", "drip_body", "reset", "closed_port", "resolver"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_keeps_its_budget(ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    behaviours = {"hang": hang, "drip_head": drip_head, "drip_body": drip_body, "reset": reset}
    if fault == "resolver":
        faulty = hanging_resolver(monkeypatch)
    else:
        faulty = closed_port() if fault == "closed_port" else server(behaviours[fault])
    buyer = ledger.buyer(WHO)
    with faulty as url, ledger.connect(suite=ledger.suite_file(url=url), budget_seconds=30, **BUDGETS) as acme:
        calls: dict[str, Callable[[], object]] = {
            "lookup": lambda: acme.lookup(buyer, order="A-1"),
            "subject": lambda: acme.tag(**WHO),
            "check": lambda: acme.check(buyer),
            "connect": acme.connect,
        }
        for name, call in calls.items():
            outcome, seconds = timed(call)
            assert seconds < BUDGETS[f"{name}_budget_seconds"] + TOLERANCE_SECONDS, (name, seconds)
            if name == "lookup":
                assert getattr(outcome, "tier", None) == "unavailable"
            else:
                assert isinstance(outcome, Unavailable), name
        raw, seconds = timed(lambda: acme.lookup(WHO, order="A-1"))
        assert (getattr(raw, "tier", None), seconds < TOLERANCE_SECONDS) == ("unavailable", True)
        private, seconds = timed(lambda: acme.check(buyer, policy="private"))
        assert (type(private), seconds < TOLERANCE_SECONDS) == (Unavailable, True)


def test_the_documented_defaults() -> None:
    """docs/sdk.md, "Time budgets"."""
    documented = (LOOKUP_BUDGET_SECONDS, SUBJECT_BUDGET_SECONDS, CHECK_BUDGET_SECONDS, CONNECT_BUDGET_SECONDS)
    assert documented == (0.3, 2.0, 5.0, 8.0)


def test_a_service_starts_while_the_ledger_is_down(ledger: SmallLedger) -> None:
    ledger.broken = True
    with ledger.connect(connect_budget_seconds=0.2, lookup_budget_seconds=PROMPT_SECONDS) as acme:
        with pytest.raises(Unavailable):
            acme.connect()
        acme.connect(required=False)
        assert acme.lookup(WHO, order="A-1").tier == "unavailable"
        ledger.broken = False
        acme._session.connect_budget_seconds = PROMPT_SECONDS
        assert acme.lookup(WHO, order="A-1").tier == "clear", "it works as soon as the ledger is back"
        acme._session.connect_budget_seconds = PROMPT_SECONDS
        acme.connect()
        ledger.asked()
        acme.connect()
        assert ledger.asked() == [], "once is enough"


def test_a_check_goes_on_with_the_last_snapshot_when_a_newer_one_does_not_come(ledger: SmallLedger) -> None:
    ledger.publish()
    buyer = ledger.buyer(WHO)
    with ledger.connect(check_budget_seconds=PROMPT_SECONDS) as acme:
        assert acme.check(buyer).tier == "clear"
        acme._session.check_budget_seconds = 0.3
        ledger.now += timedelta(hours=2)
        waiting = threading.Event()

        def late(answer: Any) -> Any:
            waiting.wait(SLOW_SECONDS)
            return answer

        ledger.replace["/v1/snapshots/latest"] = late
        check, seconds = timed(lambda: acme.check(buyer))
        waiting.set()
        assert (getattr(check, "tier", None), seconds < TOLERANCE_SECONDS) == ("clear", True)


def test_a_download_that_takes_long_neither_holds_a_check_nor_lookups(ledger: SmallLedger) -> None:
    snapshot = ledger.publish()
    buyer = ledger.buyer(WHO)
    arrived, waiting = threading.Event(), threading.Event()

    def late(answer: Any) -> Any:
        arrived.set()
        waiting.wait(4 * SLOW_SECONDS)
        return answer

    ledger.replace[ledger.path(snapshot, "buckets.bin")] = late
    # The budget of the checks covers their way to the download, and ends while that waits.
    with ledger.connect(check_budget_seconds=1.0, lookup_budget_seconds=PROMPT_SECONDS) as acme:
        acme.connect()
        callers = [
            threading.Thread(target=timed, args=(lambda: acme.check(buyer),)) for _ in range(2 * MAX_CONNECTIONS)
        ]
        for caller in callers:
            caller.start()
        assert arrived.wait(PROMPT_SECONDS)
        assert acme.lookup(buyer, order="A-1").tier == "clear", "checks that wait take no room of lookups"
        for caller in callers:
            caller.join(SLOW_SECONDS)
            assert not caller.is_alive(), "no check waits for the download"
        waiting.set()
        acme._session.check_budget_seconds = SLOW_SECONDS
        assert acme.check(buyer).tier == "clear", "the download went on"


def test_a_thread_apart_ends_with_its_work() -> None:
    transport = Transport(f"http://127.0.0.1:{free_port()}")
    before = set(threading.enumerate())  # one of them may end meanwhile
    assert transport.in_own_thread(PROMPT_SECONDS, lambda limit: limit.left() > 0)
    assert set(threading.enumerate()) <= before, "a process that forks afterwards has no thread of ours"
    with pytest.raises(ZeroDivisionError):
        transport.in_own_thread(PROMPT_SECONDS, lambda _: 1 // 0)
    ended = threading.Event()
    for _ in range(MAX_CONNECTIONS):
        with pytest.raises(Unavailable):
            transport.in_own_thread(0.001, lambda _: ended.wait())
    with pytest.raises(Unavailable, match="Too many"):
        transport.in_own_thread(0.01, lambda _: None)
    ended.set()
    assert transport.in_own_thread(PROMPT_SECONDS, lambda _: 7) == 7
    transport.close()


def test_what_was_waited_for_is_said_when_the_time_is_over() -> None:
    """Not only that it is over: the work's deadline is earlier than the end of the waiting for it."""
    transport = Transport(f"http://127.0.0.1:{free_port()}")

    def late(limit: Deadline) -> None:
        threading.Event().wait(limit.left())
        raise Unavailable("north: timeout.", holders={"north": "timeout"})

    with pytest.raises(Unavailable) as caught:
        transport.in_own_thread(1.0, late)
    assert caught.value.details["holders"] == {"north": "timeout"}
    transport.close()


@settings(max_examples=trials(30, 50))
@given(budget=st.floats(0.05, 5), seed=st.integers(0, 2**32))
def test_retries_end_within_any_budget(budget: float, seed: int) -> None:
    """Whatever the pauses and failures are."""
    chance, clock = random.Random(seed), [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    def attempt(limit: Deadline) -> None:
        wait(min(limit.left(), chance.uniform(0, 0.3)))
        raise Unavailable("Down.", retry_after_seconds=chance.choice([0, 1, 2]))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transport_module, "Deadline", partial(Deadline, monotonic=lambda: clock[0]))
        transport = Transport("http://127.0.0.1:1", sleep=wait, jitter=chance.random)
        with pytest.raises(Unavailable):
            transport.retrying(budget, attempt)
        transport.close()
    assert clock[0] <= budget + 1e-6
