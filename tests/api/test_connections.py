"""What the server bounds before there is a request, over real sockets: headers, times, connections. A normal client
goes on while others misbehave."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from api.connections import Limits, default_connections
from ledger.server.settings import Settings
from tests.api.conftest import ACME, Api, running
from tests.faulty import PROMPT_SECONDS
from tests.support import new_ledger

CONNECTIONS = 24
PATIENCE_SECONDS = 10


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with little patience; no database matters here, so one engine is enough."""
    folder: Path = tmp_path_factory.mktemp("connections")
    settings = new_ledger(
        f"sqlite:///{folder / 'ledger.db'}", folder, header_timeout_seconds=0.4, body_timeout_seconds=0.4,
        body_rate_bytes_per_second=1000, connections_max=CONNECTIONS, connections_per_address_max=0,
    )  # fmt: skip
    ACME.enrol(settings)
    with running(settings) as server:
        yield server


@contextmanager
def connected(api: Api, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from the address `source`, one of this machine's own 127.0.0.0/8."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_SECONDS, (source, 0)) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection. Fails if it stays open for PATIENCE_SECONDS."""
    result = bytearray()
    try:
        while piece := connection.recv(65536):
            result += piece
    except ConnectionResetError:
        pass
    return bytes(result)


def refused(answer: bytes) -> tuple[int, str]:
    """Status and code of the problem that ended a connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head, answer
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    document = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % document["status"])
    assert b"x-request-id: " + document["request_id"].encode() in head
    return document["status"], document["code"]


def exchange(api: Api, sent: bytes) -> bytes:
    """What is answered to these bytes, until the server closes."""
    with connected(api) as connection:
        with suppress(OSError):
            connection.sendall(sent)
        return rest(connection)


def goes_on(api: Api) -> None:
    """A normal client is answered, at once."""
    started = time.monotonic()
    assert api.request("GET", "/v1/suite").status_code == 200
    assert time.monotonic() - started < PROMPT_SECONDS


def test_a_header_that_drips_is_ended(api: Api) -> None:
    with connected(api) as connection:
        started = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        for _ in range(100):
            try:
                connection.sendall(b"X-A: b\r\n")
            except OSError:
                break
            if time.monotonic() - started > PATIENCE_SECONDS / 2:
                pytest.fail("the header may take for ever")
            time.sleep(0.1)
            if _ == 2:
                goes_on(api)
        try:
            answer = rest(connection)
        except OSError:
            answer = b""
        assert not answer or refused(answer) == (408, "request_timeout")
    assert refused(exchange(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-")) == (408, "request_timeout")


def test_a_connection_that_asks_nothing_is_closed_without_a_word(api: Api) -> None:
    assert exchange(api, b"") == b""
    answer = exchange(api, b"\r\n\r\n")
    assert not answer or refused(answer)[0] == 408
    with connected(api) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):  # head and body may come one after the other
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        connection.sendall(b"\r\n")
        started = time.monotonic()
        rest(connection)
        assert time.monotonic() - started < PROMPT_SECONDS, "a line end does not keep a connection for ever"


def headers(api: Api, path: str, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.token(ACME)}",
             "Content-Type: application/json", *more]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@pytest.mark.parametrize("how", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(api: Api, how: str) -> None:
    started = time.monotonic()
    part = b"5\r\n12345\r\n" if "chunked" in how else b"12345"
    assert refused(exchange(api, headers(api, "/v1/lookups/batch", how) + part)) == (408, "request_timeout")
    assert time.monotonic() - started < 5
    goes_on(api)


def test_a_body_that_keeps_coming_has_its_time(api: Api) -> None:
    with connected(api) as connection:
        connection.sendall(headers(api, "/v1/lookups/batch", "Content-Length: 6002", "Connection: close"))
        for _ in range(6):
            connection.sendall(b" " * 1000)
            time.sleep(0.2)
        connection.sendall(b"{}")
        assert b" 422 " in rest(connection).partition(b"\r\n")[0]


def test_a_body_behind_a_refusal_has_an_end(api: Api) -> None:
    """The refusal is sent before the body; what still comes is not read for ever."""
    with connected(api) as connection:
        connection.sendall(headers(api, "/v1/me/session", "Content-Length: 100000000"))
        started = time.monotonic()
        assert b" 413 " in connection.recv(65536)
        with pytest.raises(ConnectionError):
            while time.monotonic() - started < PATIENCE_SECONDS:
                connection.sendall(b" " * 2000)
                time.sleep(0.02)


@pytest.mark.parametrize("junk", [b"X-A: " + b"b" * 1_000_000, b"X-A: b\r\n" * 200, b"X" * 100_000])
def test_a_large_header_is_not_read(api: Api, junk: bytes) -> None:
    answer = exchange(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + junk + b"\r\n\r\n")
    assert not answer or refused(answer) in ((431, "headers_too_large"), (400, "malformed_http"))
    goes_on(api)


def test_sixty_megabytes_of_header_end_after_a_few_kilobytes(api: Api) -> None:
    with connected(api) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ")
        sent = 0
        with pytest.raises(ConnectionError):
            for _ in range(960):
                connection.sendall(b"a" * 65536)
                sent += 65536
        assert sent < 16 * 1024 * 1024, "what the sockets hold, and not all of it"
    goes_on(api)


def test_a_header_of_ordinary_size_is_read(api: Api) -> None:
    assert api.request("GET", "/healthz", headers={"X-A": "b" * 30_000}).status_code == 200
    assert api.request("GET", "/healthz", headers={"X-A": "b" * 32_768}).json()["code"] == "headers_too_large"


def test_trailers_and_chunk_extensions_count_as_headers(api: Api) -> None:
    for junk in (b"0\r\nX-A: " + b"b" * 300_000, b"5;" + b"e" * 300_000):
        answer = exchange(api, headers(api, "/v1/lookups/batch", "Transfer-Encoding: chunked") + junk)
        assert not answer or refused(answer)[0] in (400, 431)


def test_a_long_address_is_not_read(api: Api) -> None:
    for path in (b"/healthz?" + b"a" * 9000, b"/" + b"a" * 200_000):
        answer = exchange(api, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not answer or refused(answer)[0] in (414, 431)


HOSTS = {
    b"GET /healthz HTTP/1.1\r\n\r\n": 400,
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET /healthz HTTP/1.1\r\nHost: [\r\n\r\n": 400,
    b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n": 400,
    b"GET /healthz HTTP/1.1\r\nHost: \xff\r\n\r\n": 400,
    b"GET /healthz HTTP/1.1\r\nHost: a:b\r\n\r\n": 400,
    b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"NONSENSE\r\n\r\n": 400,
    b"GET /healthz HTTP/1.0\r\n\r\n": 200,
    b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\nConnection: close\r\n\r\n": 200,
    b"GET /healthz HTTP/1.1\r\nHost: ledger.example\r\nConnection: close\r\n\r\n": 200,
    b"GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n": 200,
}


@pytest.mark.parametrize("sent", HOSTS)
def test_a_request_has_one_host(api: Api, sent: bytes) -> None:
    answer = exchange(api, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % HOSTS[sent])
    if HOSTS[sent] == 400:
        assert refused(answer) == (400, "malformed_http")


def test_what_waits_behind_a_request_has_an_end(api: Api) -> None:
    answer = exchange(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
    assert answer.count(b'{"status":"ok"}') < 50


def test_idle_connections_give_way_to_those_who_ask(api: Api) -> None:
    with ExitStack() as stack:
        oldest = stack.enter_context(connected(api))
        for _ in range(4 * CONNECTIONS):
            idle = stack.enter_context(connected(api))
            idle.sendall(b"GET /heal")
        time.sleep(1.2)
        with suppress(OSError):  # a byte of the oldest, if it is there still, makes none of them younger
            oldest.sendall(b"G")
        for _ in range(3):
            with connected(api) as fresh:
                fresh.sendall(b"GET /v1/suite HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b" 200 " in rest(fresh).partition(b"\r\n")[0]
    goes_on(api)


def test_when_all_places_are_taken_probes_are_answered_and_others_told_why(api: Api) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        while True:
            item = stack.enter_context(connected(api))
            item.sendall(b"GET /v1/suite HTTP/1.1\r\nHost: x\r\n\r\n")
            first = item.recv(65536)
            if b" 200 " not in first.partition(b"\r\n")[0]:
                break
        assert refused(first + rest(item)) == (503, "too_many_connections")
        with connected(api) as probe:
            probe.sendall(ask)
            assert b" 200 " in probe.recv(65536)
    time.sleep(0.1)
    goes_on(api)


def test_one_address_has_a_share(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, connections_per_address_max=3)
    with running(settings) as api, ExitStack() as stack:
        ask = b"GET /v1/suite HTTP/1.1\r\nHost: x\r\n\r\n"
        statuses = []
        for _ in range(5):
            first = stack.enter_context(connected(api))
            first.sendall(ask)
            statuses.append(int(first.recv(65536).split(b" ")[1]))
        assert statuses == [200, 200, 200, 503, 503]


def asked(stack: ExitStack, api: Api, source: str, path: str = "/healthz") -> tuple[socket.socket, int]:
    """A connection that stays open and has asked for `path`, with the status; 0 where it was closed unread."""
    first = stack.enter_context(connected(api, source))
    try:
        first.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return first, int([*first.recv(65536).split(b" "), b"0", b"0"][1])
    except OSError:
        return first, 0


def test_a_crowded_address_keeps_no_probe_of_another_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One address holds its share, and asks for `/healthz` on as many more connections as it is let, which it keeps
    open. While there is room another address is served, and when there is none its probes are answered."""
    settings = new_ledger(
        f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, connections_max=8, connections_per_address_max=3
    )
    with running(settings) as api, ExitStack() as stack:
        crowd = [asked(stack, api, "127.0.0.2") for _ in range(16)]
        assert [status for _, status in crowd[:3]] == [200] * 3
        assert {status for _, status in crowd[3:]} <= {200, 0}
        (text,) = {record.getMessage() for record in caplog.records if "refused" in record.getMessage()}
        assert text == "One address has its 3 connections; new ones from it are refused."
        for number in range(5):
            assert asked(stack, api, f"127.0.0.{3 + number // 3}", "/v1/suite")[1] == 200
        more = [asked(stack, api, f"127.0.0.{2 + number % 2}") for number in range(16)]
        assert {status for _, status in more} <= {200, 0}
        for path in ("/healthz", "/readyz", "/readyz/write"):
            probe, status = asked(stack, api, "127.0.0.9", path)
            assert status in (200, 503)
            rest(probe)  # its end: the place is free again
        assert refused(exchange_from(api, "127.0.0.9")) == (503, "too_many_connections")
        assert any("All 8 connections are taken" in item.getMessage() for item in caplog.records)


def exchange_from(api: Api, source: str) -> bytes:
    """What is answered to a question that is no probe."""
    with connected(api, source) as first:
        first.sendall(b"GET /v1/suite HTTP/1.1\r\nHost: x\r\n\r\n")
        return rest(first)


def test_a_probe_whose_body_does_not_come_leaves_the_reserve(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.connections.RESERVE_SECONDS", 0.3)
    with ExitStack() as stack:
        while asked(stack, api, "127.0.0.1", "/v1/suite")[1] == 200:
            pass
        held = stack.enter_context(connected(api))
        held.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - started < PATIENCE_SECONDS:
                held.sendall(b" " * 100)
                time.sleep(0.05)
    time.sleep(0.1)
    goes_on(api)


def test_the_default_leaves_files_for_the_process_itself() -> None:
    limits = Limits.of(Settings())
    assert 8 <= limits.connections == default_connections() <= 10_000
    assert limits.connections_per_address == limits.connections // 2
    assert Limits.of(Settings(connections_per_address_max=0)).connections_per_address is None
    assert Limits.of(Settings(connections_max=99, connections_per_address_max=7)).connections_per_address == 7
