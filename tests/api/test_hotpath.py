"""The hot path and the route behind it give equal answers and differ only in their time."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import event

from api import fast_path as hotpath
from api.platform import lookups
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.server.lookups.service import MIN_INDEX_WAIT_MS, LookupRequest
from tests.api.conftest import ACME, READER, Api, person, running
from tests.support import lookup_request, new_ledger

THE_LONG_WAY = [("X-Twice", "1"), ("X-Twice", "2")]
"""A doubled header: the hot path leaves such a request to the route."""

OF_EACH_ANSWER = {"x-request-id", "date"}


def body_of(api: Api, *who: tuple[Kind, bytes], **changes: Any) -> bytes:
    """A lookup with a nonce, as nearly all are."""
    changes = {"nonce": b64url(secrets.token_bytes(16)), **changes}
    return json.dumps(api.lookup_body(*(who or [(Kind.PHONE, person())]), **changes)).encode()


def send(api: Api, body: bytes, *more: tuple[str, str], method: str = "POST", **changes: str) -> httpx2.Response:
    """One lookup, with these headers changed or (empty) left out."""
    headers = {
        "Authorization": f"Bearer {api.token(READER)}",
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    pairs = [(name, value) for name, value in headers.items() if value] + list(more)
    return api.client.request(method, "/v1/lookups", content=body, headers=pairs)


def shown(answer: httpx2.Response) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, without what differs between any two answers."""
    headers = {name: value for name, value in answer.headers.items() if name not in OF_EACH_ANSWER}
    value = answer.json()
    for name in ("id", "as_of", "expires_at", "as_of_index", "padding", "request_id"):
        value.pop(name, None)
    return answer.status_code, headers, value


class Queries:
    """What the threads that answer lookups ask of the database."""

    def __init__(self, api: Api) -> None:
        self.asked: list[str] = []
        self._engine = api.rt.engine
        event.listen(self._engine, "before_cursor_execute", self._count)

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread().name == "lookups":
            self.asked.append(statement)

    def close(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self._count)


@pytest.fixture
def queries(api: Api) -> Iterator[Queries]:
    created = Queries(api)
    yield created
    created.close()


def warm_up(api: Api) -> None:
    """Wait until strangers are answered from memory: ids are reserved, the filter is built."""
    end = time.monotonic() + 20
    while (
        api.rt.clear_cache.clean(1, [secrets.token_bytes(32)], None, api.rt.now()) is None
        or api.rt.lookups.clean(READER.member(), lookup_request(api.rt, []), 1, api.rt.now()) is None
    ):
        assert time.monotonic() < end
        send(api, body_of(api))
        time.sleep(0.01)


def until_from_memory(
    api: Api, queries: Queries, body: bytes, *more: tuple[str, str], **changes: str
) -> httpx2.Response:
    """The answer of a try that asked the database nothing. (On a busy machine a view may just be too old.)"""
    end = time.monotonic() + 20
    while True:
        before = len(queries.asked)
        answer = send(api, body, *more, **changes)
        if len(queries.asked) == before:
            return answer
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_clean_lookup_asks_the_database_nothing(api: Api, queries: Queries) -> None:
    warm_up(api)
    answer = until_from_memory(api, queries, body_of(api, *((kind, person()) for kind in Kind), min_index=1))
    assert (answer.status_code, answer.json()["tier"]) == (200, "clear")
    api.report(ACME, [(Kind.PHONE, who := person())])
    assert send(api, body_of(api, (Kind.PHONE, who))).json()["tier"] == "watch"
    assert queries.asked, "somebody who is listed is looked up"


def without_nonce(body: bytes) -> bytes:
    return json.dumps({name: value for name, value in json.loads(body).items() if name != "nonce"}).encode()


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("nonce", ["given", "null", "none"])
@pytest.mark.parametrize("media_type", ["application/json", 'Application/JSON; charset="UTF-8"'])
def test_both_ways_give_the_same_answer(api: Api, queries: Queries, media_type: str, nonce: str, listed: bool) -> None:
    warm_up(api)
    who = person()
    if listed:
        api.report(ACME, [(Kind.PHONE, who)])
    body = body_of(api, (Kind.PHONE, who), refund={"amount_minor": 1, "currency": "CNY", "claim": "damaged"})
    body = {"given": bytes, "null": changed(nonce=None), "none": without_nonce}[nonce](body)
    short = (
        send(api, body, Content_Type=media_type)
        if listed
        else until_from_memory(api, queries, body, Content_Type=media_type)
    )
    long = send(api, body, *THE_LONG_WAY, Content_Type=media_type)
    assert shown(short) == shown(long)
    assert short.json()["tier"] == ("watch" if listed else "clear")
    assert (short.json()["nonce"] is not None) is (nonce == "given")
    assert len(short.content) == len(long.content)
    assert list(short.json()) == list(long.json())
    names = [name for name, _ in short.headers.raw]
    assert names == [name for name, _ in long.headers.raw]


@pytest.mark.parametrize("listed", [False, True])
def test_a_lookup_is_authenticated_and_read_once(api: Api, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    warm_up(api)
    who = person()
    if listed:
        api.report(ACME, [(Kind.PHONE, who)])
    body = body_of(api, (Kind.PHONE, who))
    send(api, body)
    calls: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        return call

    gate = api.app.state.authenticator
    monkeypatch.setattr(gate, "member", counted("authenticated", gate.member))
    for module in (hotpath, lookups):
        monkeypatch.setattr(module, "read_lookup", counted("read", module.read_lookup))
    assert send(api, body).json()["tier"] == ("watch" if listed else "clear")
    assert calls == ["authenticated", "read"]


def test_what_a_lookup_failed_with_is_told_and_it_is_not_tried_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[LookupRequest] = []

    def fail(_member: object, request: LookupRequest) -> None:
        tried.append(request)
        raise RuntimeError("a fault of ours")

    api.report(ACME, [(Kind.PHONE, who := person())])
    monkeypatch.setattr(api.rt.lookups, "enqueue", fail)
    answers = [send(api, body_of(api, (Kind.PHONE, who)), *more) for more in ((), THE_LONG_WAY)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(500, "internal")] * 2
    assert shown(answers[0]) == shown(answers[1])
    assert len(tried) == 2, "once a request"
    assert line_of(api, answers[0])["platform"] == "reader"


def test_the_time_of_a_lookup_that_waited_and_failed_is_logged(api: Api) -> None:
    answer = send(api, body_of(api, min_index=10**9))
    assert answer.json()["code"] == "index_not_reached"
    assert line_of(api, answer)["duration_ms"] >= MIN_INDEX_WAIT_MS


def changed(**members: Any) -> Callable[[bytes], bytes]:
    return lambda good: json.dumps({**json.loads(good), **members}).encode()


BROKEN: dict[str, tuple[Callable[[bytes], bytes], dict[str, str]]] = {
    "no token": (bytes, {"Authorization": ""}),
    "another scheme": (bytes, {"Authorization": "Basic YTpi"}),
    "no JWT": (bytes, {"Authorization": "Bearer x"}),
    "media type": (bytes, {"Content_Type": "text/plain"}),
    "no media type": (bytes, {"Content_Type": ""}),
    "charset": (bytes, {"Content_Type": "application/json; charset=latin-1"}),
    "no body": (lambda good: b"", {}),
    "no JSON": (lambda good: good[:-1], {}),
    "no object": (lambda good: b"[]", {}),
    "NaN": (lambda good: good.replace(b'"epoch": 1', b'"epoch": NaN'), {}),
    "unknown member": (changed(more=1), {}),
    "nonce too short": (changed(nonce="A" * 21), {}),
    "nonce too long": (changed(nonce="A" * 23), {}),
    "stray bits in the nonce": (changed(nonce="A" * 21 + "B"), {}),
    "padded nonce": (changed(nonce="A" * 22 + "=="), {}),
    "no text as nonce": (changed(nonce=16), {}),
    "stray bits": (changed(order_ref="A" * 42 + "B"), {}),
    "tag too short": (changed(subjects=[{"kind": "phone", "tag": "A" * 42}]), {}),
    "nine subjects": (changed(subjects=[{"kind": "phone", "tag": "A" * 43}] * 9), {}),
    "another epoch": (changed(epoch=2), {}),
    "the future": (changed(min_index=10**9), {}),
    "too long": (lambda good: b" " * (2 * 1024 * 1024) + good, {}),
    "long and wrong": (lambda good: good + b" " * 20_000 + b"x", {}),
}
"""What is done to a good body, and to the headers."""


@pytest.mark.parametrize("reason", BROKEN)
def test_both_ways_refuse_in_the_same_words(api: Api, reason: str) -> None:
    spoil, headers = BROKEN[reason]
    body = spoil(body_of(api))
    short, long = send(api, body, **headers), send(api, body, *THE_LONG_WAY, **headers)
    assert short.status_code >= 400
    assert shown(short) == shown(long)


@pytest.mark.parametrize("what", ["forged", "narrowed", "of nobody"])
def test_both_ways_refuse_the_same_tokens(api: Api, what: str) -> None:
    token = {
        "forged": api.token(READER)[:-8] + "AAAAAAAA",
        "narrowed": api.token(READER, scope="report"),
        "of nobody": api.token(replace(READER, kid="nobody-1")),
    }[what]
    short, long = (send(api, body_of(api), *more, Authorization=f"Bearer {token}") for more in ((), THE_LONG_WAY))
    assert short.status_code in (401, 403)
    assert shown(short) == shown(long)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_left_to_the_route(api: Api, method: str) -> None:
    answer = send(api, b"", method=method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_body_that_comes_in_pieces_is_put_together(api: Api) -> None:
    body = body_of(api)

    def pieces() -> Iterator[bytes]:
        for place in range(0, len(body), 50):
            yield body[place : place + 50]
            time.sleep(0.002)

    headers = {"Authorization": f"Bearer {api.token(READER)}", "Content-Type": "application/json"}
    answer = api.client.request("POST", "/v1/lookups", content=pieces(), headers=headers)
    assert (answer.status_code, answer.json()["tier"]) == (200, "clear")
    broken_off = api.client.request("POST", "/v1/lookups", content=iter([body[:50], body[60:]]), headers=headers)
    assert broken_off.status_code == 400


def test_a_client_that_goes_away_half_way_is_only_logged(api: Api) -> None:
    warm_up(api)
    parts = urlsplit(api.url)
    before = len(lines(api))
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/lookups HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n"
            b"Authorization: Bearer " + api.token(READER).encode() + b"\r\n\r\n{"
        )
    end = time.monotonic() + 20
    while len(lines(api)) == before:
        assert time.monotonic() < end
        time.sleep(0.01)
    last = lines(api)[-1]
    assert (last["route"], last["status"], last["platform"]) == ("/v1/lookups", 499, "reader")


def lines(api: Api) -> list[dict[str, Any]]:
    """The access lines."""
    results = [json.loads(line) for line in api.logs.getvalue().splitlines()]
    return [line for line in results if line["event"] == "request"]


def line_of(api: Api, answer: httpx2.Response) -> dict[str, Any]:
    """The access line of an answer."""
    end = time.monotonic() + 20
    while True:  # it is written when the loop's turn ends, which may be after the answer has come
        mine = [line for line in lines(api) if line["request_id"] == answer.headers["x-request-id"]]
        if mine:
            assert len(mine) == 1
            return mine[0]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_both_ways_leave_the_same_access_line(api: Api, queries: Queries) -> None:
    warm_up(api)
    who = person()
    short = until_from_memory(api, queries, body_of(api, (Kind.PHONE, who)))
    long = send(api, body_of(api, (Kind.PHONE, who)), *THE_LONG_WAY)
    pair = [line_of(api, short), line_of(api, long)]
    for line in pair:
        assert line.pop("duration_ms") >= 0
        assert line.pop("timestamp").endswith("Z")
        line.pop("request_id")
    assert pair[0] == pair[1]
    assert list(pair[0].items())[:3] == [("method", "POST"), ("route", "/v1/lookups"), ("status", 200)]
    assert (pair[0]["platform"], pair[0]["code"]) == ("reader", None)


def test_the_clients_request_id_is_kept_and_an_unfit_one_is_not(api: Api, queries: Queries) -> None:
    warm_up(api)
    assert until_from_memory(api, queries, body_of(api), X_Request_Id="mine-1").headers["x-request-id"] == "mine-1"
    created = until_from_memory(api, queries, body_of(api), X_Request_Id="a;b").headers["x-request-id"]
    assert len(created) == 24
    assert created != until_from_memory(api, queries, body_of(api)).headers["x-request-id"]


def test_a_batch_is_answered_from_memory_too(api: Api, queries: Queries) -> None:
    warm_up(api)
    api.report(ACME, [(Kind.PHONE, who := person())])
    strangers = [api.lookup_body((Kind.PHONE, person())) for _ in range(50)]
    end = time.monotonic() + 20
    while True:
        queries.asked.clear()
        answer = api.request("POST", "/v1/lookups/batch", READER, json={"lookups": strangers})
        assert {item["lookup"]["tier"] for item in answer.json()["results"]} == {"clear"}
        if not queries.asked:
            break
        assert time.monotonic() < end
    both = {"lookups": [api.lookup_body((Kind.PHONE, who)), strangers[0]]}
    results = api.request("POST", "/v1/lookups/batch", READER, json=both).json()["results"]
    assert [result["lookup"]["tier"] for result in results] == ["watch", "clear"]


def test_without_a_view_the_database_answers(migrated_url: str, tmp_path: Path) -> None:
    settings = new_ledger(migrated_url, tmp_path)
    for platform in (ACME, READER):
        platform.enrol(settings)
    with running(settings) as own:
        own.report(ACME, [(Kind.PHONE, who := person())])
        own.rt.clear_cache.close()
        queries = Queries(own)
        assert send(own, body_of(own)).json()["tier"] == "clear"
        assert queries.asked
        queries.close()
        assert send(own, body_of(own, (Kind.PHONE, who))).json()["tier"] == "watch"
        ready = own.request("GET", "/readyz")
        assert (ready.status_code, ready.json()["checks"]["presence"]) == (503, "stopped")
        assert b64url(who) not in own.logs.getvalue().decode()
