"""The wire: problem documents become named errors, time limits are hard, retries have an end."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from ledger import errors
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import MAX_ANSWER_BYTES, Transport, WrongLength
from ledger.client.transport.problems import error_from, error_from_problem
from ledger.errors import (
    AnswerMismatch,
    LedgerError,
    NotFound,
    OrderAlreadyReported,
    QuotaExceeded,
    ScopeMissing,
    SnapshotUnknown,
    Unavailable,
    UnexpectedAnswer,
)
from tests.faulty import PROMPT_SECONDS, SLOW_SECONDS, answering, free_port, proxy


def all_errors(base: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    for subclass in base.__subclasses__():
        if subclass.__module__ == errors.__name__:
            yield subclass
        yield from all_errors(subclass)


@pytest.mark.parametrize("kind", [*{kind.code: kind for kind in all_errors()}.values()])
def test_every_code_comes_back_as_its_class(kind: type[LedgerError]) -> None:
    error = error_from_problem(
        409, {"code": kind.code, "detail": "A sentence.", "title": "T", "status": 409, "extra": 1}
    )
    assert type(error) is kind
    assert str(error) == "A sentence."
    assert error.details == {"extra": 1, "status": 409}


def test_unknown_codes_keep_the_code() -> None:
    error = error_from_problem(422, {"code": "of_the_future", "detail": "New."})
    assert type(error) is UnexpectedAnswer
    assert error.details["answered_code"] == "of_the_future"
    assert type(error_from_problem(500, {"code": "internal"})) is Unavailable
    assert type(error_from_problem(502, {})) is Unavailable
    assert type(error_from_problem(404, {"detail": "No code."})) is UnexpectedAnswer, "it refuses nothing for good"
    assert error_from(503, {"retry-after": "7"}, b"", None).details["retry_after_seconds"] == 7
    assert "retry_after_seconds" not in error_from(503, {"retry-after": "Wed, 21 Oct 2026"}, b"", None).details


def test_a_server_cannot_write_to_the_terminal_through_an_error() -> None:
    error = error_from_problem(409, {"code": "conflict", "detail": "a\x1b[2Jb" + "x" * 5000})
    assert str(error).startswith("a[2Jb")
    assert len(str(error)) < 600


ID = "rcl-" + "B" * 22


def own_problem(code: str, /, **changes: Any) -> bytes:
    document = {"type": f"urn:refund-ledger:problem:{code}", "code": code, "detail": "No.", "request_id": ID}
    return json.dumps({**document, **changes}).encode()


PROBLEM_TYPE = {"content-type": "application/problem+json"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[1]", b"null", b"\xff", b"[" * 100_000, b'{"code": ["x"], "detail": 3}',
        own_problem("not_found", type="about:blank"), own_problem("not_found", code="Not Found"),
        own_problem("not_found", request_id=None), own_problem("not_found", request_id="rcl-" + "C" * 22),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 429, 500])
def test_what_is_not_the_ledgers_own_problem_is_an_outage(body: bytes, status: int) -> None:
    error = error_from(status, PROBLEM_TYPE, body, ID)
    assert type(error) is Unavailable
    assert (error.details["reason"], error.details["status"]) == ("proxy_answer", status)


@pytest.mark.parametrize("media", ["text/html", "application/json", "", "text/plain; charset=utf-8"])
def test_a_problem_has_its_media_type(media: str) -> None:
    assert type(error_from(404, {"content-type": media}, own_problem("not_found"), ID)) is Unavailable
    good = {"content-type": "Application/Problem+JSON; charset=utf-8"}
    assert type(error_from(404, good, own_problem("not_found"), ID)) is NotFound
    assert type(error_from(404, good, own_problem("not_found", request_id="of-a-gateway"), ID)) is NotFound
    assert type(error_from(404, good, own_problem("not_found", request_id="rcl-" + "C" * 22), None)) is NotFound


def problem(code: str, **members: Any) -> bytes:
    return json.dumps({"code": code, "detail": "No.", **members}).encode()


def test_retries_end_with_the_first_good_answer() -> None:
    asked: list[str] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        if len(asked) == 1:
            return 503, {}, problem("overloaded")
        if len(asked) == 2:
            return 429, {"Retry-After": "0"}, problem("limit_exceeded")
        return 200, {}, b"{}"

    with answering(respond) as url:
        transport = Transport(url, sleep=lambda _: None)
        assert transport.retrying(5, lambda limit: transport.send("GET", "/x", limit)).json() == {}
        transport.close()
    assert asked == ["/x"] * 3


def test_what_cannot_get_better_is_not_retried() -> None:
    asked: list[str] = []
    answers = iter([(403, "scope_missing"), (409, "order_already_reported"), (429, "quota_exceeded")])

    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        status, code = next(answers)
        return status, {"Retry-After": "3600"}, problem(code, report="rp_x")

    slept: list[float] = []
    with answering(respond) as url:
        transport = Transport(url, sleep=slept.append)
        for kind in (ScopeMissing, OrderAlreadyReported, QuotaExceeded):
            with pytest.raises(kind) as caught:
                transport.retrying(5, lambda limit: transport.send("GET", "/x", limit))
        assert caught.value.details["retry_after_seconds"] == 3600
        transport.close()
    assert len(asked) == 3
    assert slept == [], "an hour's pause does not fit the budget, so none is made"


def test_pauses_grow_and_stay_within_the_budget() -> None:
    slept: list[float] = []
    transport = Transport(f"http://127.0.0.1:{free_port()}", jitter=lambda: 1.0, sleep=slept.append)
    ended = Deadline(0.3)

    def attempt(limit: Deadline) -> None:
        if ended.left() == 0:
            slept.append(-1)
        transport.send("GET", "/x", limit)

    with pytest.raises(Unavailable):
        transport.retrying(0.75, attempt)
    transport.close()
    assert slept[:3] == [0.1, 0.2, 0.4]
    assert max(slept) < 0.75


def test_a_slow_sender_cannot_hold_the_client() -> None:
    with answering(lambda *_: (200, {}, b"x" * 1000), pause=lambda: time.sleep(0.1)) as url:
        transport = Transport(url)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            transport.send("GET", "/x", Deadline(0.2))
        assert time.monotonic() - started < PROMPT_SECONDS
        started = time.monotonic()
        with pytest.raises(Unavailable):
            transport.within(0.1, lambda limit: time.sleep(SLOW_SECONDS))
        assert time.monotonic() - started < PROMPT_SECONDS
        transport.close()


def test_endless_answers_and_redirects_are_refused() -> None:
    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/long":
            return 200, {"Content-Length": str(MAX_ANSWER_BYTES * 2)}, bytes(20)
        return 302, {"Location": "https://elsewhere.test/"}, b""

    with answering(respond) as url:
        transport = Transport(url)
        with pytest.raises(Unavailable) as caught:
            transport.send("GET", "/moved", Deadline(5))
        assert (caught.value.details["reason"], caught.value.details["status"]) == ("proxy_answer", 302)
        with pytest.raises((Unavailable, UnexpectedAnswer)):
            transport.send("GET", "/long", Deadline(1))
        transport.close()


def test_downloads_come_in_parts_and_at_their_length_only() -> None:
    def respond(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        answers: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/good": (200, {}, b"0123456789" * 3),
            "/short": (200, {}, b"012"),
            "/long": (200, {}, bytes(31)),
            "/cut": (200, {"Content-Length": "30"}, bytes(20)),
            "/slow": (200, {}, bytes(1000)),
            "/gone": (404, {}, problem("snapshot_unknown")),
        }
        return answers[path]

    parts: list[bytes] = []
    with answering(respond, pause=lambda: time.sleep(0.01)) as url:
        transport = Transport(url)
        transport.download("/good", 30, parts.append, Deadline(5))
        assert b"".join(parts) == b"0123456789" * 3
        for path, error in {
            "/short": WrongLength,
            "/long": WrongLength,
            "/cut": Unavailable,
            "/gone": SnapshotUnknown,
        }.items():
            with pytest.raises(error):
                transport.download(path, 30, parts.append, Deadline(0.5 if path == "/cut" else 5))
        with pytest.raises(Unavailable):
            transport.download("/slow", 1000, parts.append, Deadline(0.2))
        transport.close()


def test_a_request_that_outlives_its_transport_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call has given up, the transport is closed, and only then the connection is made."""
    connecting, closed = threading.Event(), threading.Event()
    real = socket.create_connection

    def late(*arguments: Any, **options: Any) -> socket.socket:
        connecting.set()
        assert closed.wait(SLOW_SECONDS)
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", late)
    with answering(lambda *_: (200, {}, b"{}")) as url, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport = Transport(url)
        request = transport.background(lambda: transport.send("GET", "/x", Deadline(SLOW_SECONDS)).status)
        assert request is not None
        assert connecting.wait(SLOW_SECONDS)
        transport.close()
        closed.set()
        assert request.result(SLOW_SECONDS) == 200
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_closed_transport_says_so() -> None:
    transport = Transport(f"http://127.0.0.1:{free_port()}")
    transport.close()
    with pytest.raises(Unavailable):
        transport.send("GET", "/x", Deadline(1))
    with pytest.raises(Unavailable):
        transport.within(1, lambda limit: None)
    assert transport.background(lambda: None) is None


OWN = "rcl-" + "A" * 22
"""The id of some other request of an SDK."""


@pytest.mark.parametrize("status", [200, 404, 409, 500])
@pytest.mark.parametrize("answered", [OWN, OWN + "-1, " + OWN, f"{OWN}, {OWN[:-1]}B"])
def test_an_answer_with_another_requests_id_is_refused(status: int, answered: str) -> None:
    headers: list[dict[str, str]] = [{}, {"X-Request-Id": answered}, {}]
    with answering(lambda *_: (status, headers.pop(), b"{}")) as url, proxy(url) as between:
        transport = Transport(between.url)
        for outcome in (None, AnswerMismatch, None):
            if outcome is None and status == 200:
                transport.send("POST", "/v1/lookups", Deadline(5), content=b"{}")
                continue
            with pytest.raises(outcome or LedgerError) as caught:
                transport.send("POST", "/v1/lookups", Deadline(5), content=b"{}")
            assert isinstance(caught.value, AnswerMismatch) is (outcome is AnswerMismatch)
        assert between.connections == 2, "the one that the answer came over was dropped"
        transport.close()


@pytest.mark.parametrize("answered", ["", "3f9b2c7d1a", "rcl-short", "a, b", "Root=1-67891233-abcdef01234567891234"])
def test_ids_that_a_gateway_has_set_are_no_concern(answered: str) -> None:
    with answering(lambda *_: (200, {"X-Request-Id": answered}, b"{}")) as url:
        transport = Transport(url)
        assert transport.send("GET", "/v1/reports", Deadline(5)).json() == {}
        transport.close()


@pytest.mark.parametrize(
    "path", ["/log/checkpoint", "/v1/snapshots/latest", "/v1/suite", "/v1/texts/en", "/v1/snapshots/x/buckets/00000001"]
)
def test_what_all_members_read_alike_may_come_from_a_cache(path: str) -> None:
    with answering(lambda *_: (200, {"X-Request-Id": OWN}, b"{}")) as url:
        transport = Transport(url)
        assert transport.send("GET", path, Deadline(5)).body == b"{}"
        transport.close()


def test_threads_see_the_callers_context() -> None:
    """A trace's current span, or a log's correlation id."""
    span = ContextVar("span", default="none")
    transport = Transport(f"http://127.0.0.1:{free_port()}")
    span.set("refund-17")
    assert transport.within(PROMPT_SECONDS, lambda _: span.get()) == "refund-17"
    looking = transport.background(span.get)
    assert looking is not None
    assert looking.result(PROMPT_SECONDS) == "refund-17"

    def change(_: Deadline) -> None:
        span.set("another")

    transport.within(PROMPT_SECONDS, change)
    assert span.get() == "refund-17"
    transport.close()
