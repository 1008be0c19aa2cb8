"""Lean HTTP connections, as requests to key holders use them: every form of answer, every fault, and all in time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import httpx2
import pytest

from ledger.client.transport.budgets import Deadline
from ledger.client.transport.connections import HttpOptions
from ledger.client.transport.direct import AnswerTooLong, BrokenAnswer, DirectAnswer, DirectConnections
from ledger.client.transport.forks import Sockets
from ledger.client.transport.http import Transport
from ledger.errors import Unavailable
from tests.faulty import PROMPT_SECONDS, answering, free_port
from tests.processes import until

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def scripted(*answers: Sequence[bytes], pause: float = 0.0, keep: bool = True) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that sends these answers, each in parts, one after the other, and what it received. It closes
    each connection after one answer unless `keep`."""
    received: list[bytes] = []
    left = list(answers)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError, ValueError):
                    while left and _request(connection, received):
                        for part in left.pop(0):
                            connection.sendall(part)
                            time.sleep(pause)
                        if not keep:
                            break

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", received
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _request(connection: socket.socket, received: list[bytes]) -> bool:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        if not part:
            return False
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    received.append(head + b"\r\n\r\n" + body)
    return True


def ask(connections: DirectConnections, seconds: float = 20.0, max_bytes: int = 1000) -> DirectAnswer:
    headers = {"X-One": "1", "Content-Type": "application/json"}
    return connections.request("POST", "/v1/x", headers, b"{}", Deadline(seconds).left, max_bytes)


FORMS: dict[str, Sequence[bytes]] = {
    "length": [OK + b"Content-Length: 5\r\n\r\nhello"],
    "byte by byte": [bytes([byte]) for byte in OK + b"Content-Length: 5\r\n\r\nhello"],
    "chunked": [OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n"],
    "interim answers": [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nhello"],
}


@pytest.mark.parametrize("name", FORMS)
def test_an_answer_in_each_form_leaves_a_connection_that_is_used_again(name: str) -> None:
    with scripted(FORMS[name], FORMS["length"]) as (url, received):
        connections = DirectConnections(url, None, Sockets())
        for _ in range(2):
            answer = ask(connections)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.body == b"hello"
        assert len(connections._idle) == 1
        connections.close()
        assert received[0] == received[1]
        assert received[0].startswith(b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
        assert received[0].endswith(b"X-One: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello",
        OK + b"\r\nhello",
        OK.replace(b"1.1", b"1.0") + b"Content-Length: 5\r\n\r\nhello",
    ],
)
def test_a_connection_that_ends_is_not_used_again(answer: bytes) -> None:
    with scripted([answer], [answer], keep=False) as (url, _):
        connections = DirectConnections(url, None, Sockets())
        for _ in range(2):
            assert ask(connections).body == b"hello"
            assert not connections._idle


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    with scripted(FORMS["length"], FORMS["length"], keep=False) as (url, received):
        connections = DirectConnections(url, None, Sockets())
        assert ask(connections).body == b"hello"
        until(lambda: not connections._idle[0].is_fresh(), "the server does not close the connection")
        assert ask(connections).body == b"hello"
        assert len(received) == 2, "nothing is sent twice"
        connections.close()


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "half a body": OK + b"Content-Length: 5\r\n\r\nhe",
    "half a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
    "no number of a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk that goes on": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "an endless header": OK + b"X: " + b"x" * 200_000,
    "interim answers only": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
    "endless headers": OK + b"X: x\r\n" * 200,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_an_outage(name: str) -> None:
    with scripted([BROKEN[name]], keep=False) as (url, _):
        transport = Transport(url, direct=True)
        with pytest.raises(Unavailable) as caught:
            transport.send("POST", "/v1/x", Deadline(20), content=b"{}")
        assert caught.value.details["reason"] == "connection"
        transport.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 2000\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000,
        OK + b"\r\n" + b"x" * 2000,
    ],
)
def test_an_answer_that_is_too_long_is_not_read(answer: bytes) -> None:
    with scripted([answer], keep=False) as (url, _), pytest.raises(AnswerTooLong):
        ask(DirectConnections(url, None, Sockets()))


@pytest.mark.parametrize("answer", [[], [OK[n : n + 1] for n in range(len(OK))]])
def test_each_wait_ends_in_time(answer: Sequence[bytes]) -> None:
    """A server that is silent, and one whose bytes trickle in."""
    with scripted([*answer, *[b"X" for _ in range(100)]], pause=0.05) as (url, _):
        transport = Transport(url, direct=True)
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            transport.send("POST", "/v1/x", Deadline(0.3), content=b"{}")
        assert caught.value.details["reason"] == "timeout"
        assert time.monotonic() - started < PROMPT_SECONDS
        transport.close()


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: 1\r\n"),
    ],
)
def test_an_answer_whose_bytes_never_stop_ends_in_time(first: bytes, repeated: bytes) -> None:
    with scripted([first, *[repeated * 2000] * 100_000]) as (url, _):
        started = time.monotonic()
        with pytest.raises((TimeoutError, BrokenAnswer)):  # later Pythons count lines
            ask(DirectConnections(url, None, Sockets()), seconds=0.2)
        assert time.monotonic() - started < PROMPT_SECONDS


def test_faults_of_the_way_are_named() -> None:
    for url, reason in (
        (f"http://127.0.0.1:{free_port()}", "connect"),
        ("https://no-such-host.invalid", "dns_failed"),
    ):
        transport = Transport(url, direct=True)
        with pytest.raises(Unavailable) as caught:
            transport.send("POST", "/v1/x", Deadline(20), content=b"{}")
        assert caught.value.details["reason"] == reason
        transport.close()
    with answering(lambda method, path, body: (200, {}, b"{}")) as url:
        transport = Transport(url.replace("http", "https"), direct=True)
        with pytest.raises(Unavailable) as caught:
            transport.send("POST", "/v1/x", Deadline(20), content=b"{}")
        assert caught.value.details["reason"] == "tls_failed"
        transport.close()


def test_a_proxy_or_a_client_of_the_integrator_is_used_where_it_is_given() -> None:
    with answering(lambda method, path, body: (200, {}, b'"proxied"')) as proxy:
        asked: list[httpx2.Request] = []
        for options in (
            HttpOptions(proxy=proxy),
            HttpOptions(http_client=lambda: httpx2.Client(event_hooks={"request": [asked.append]})),
        ):
            transport = Transport(proxy, direct=True, options=options)
            assert transport._opened().direct is None
            assert transport.send("POST", "/v1/x", Deadline(5), content=b"{}").json() == "proxied"
            transport.close()
        assert len(asked) == 1
