"""Names of database hosts: a resolver that hangs costs a connection its deadline, and never more than one thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import OperationalError
from sqlalchemy import make_url

from ledger.errors import DatabaseUnavailable
from ledger.server.db import pg_connection
from ledger.server.db.database_url import PostgresqlPlace
from ledger.server.db.host_names import MAX_ADDRESSES, HostNames, is_name
from ledger.server.db.opening import open_database
from ledger.server.db.pg_connection import Dialler, SessionSettings
from ledger.server.settings import Settings
from tests.counts import trials

SLACK_SECONDS = 4.0
"""For a machine that has much to do; a resolver that hangs does so for a minute."""


class Resolver:
    """Replaces the system's resolver: it has some names, and hangs for the others until `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.known: dict[str, list[str]] = {}
        self.asked = 0

    def __call__(self, host: str, port: int, **_options: int) -> list[tuple[Any, ...]]:
        self.asked += 1
        if host not in self.known:
            self.gate.wait(60)
        if host not in self.known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.known[host]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.gate.set()


def threads() -> int:
    return sum(each.name == "host-name" for each in threading.enumerate())


def dialler(*hosts: tuple[str, int], seconds: float = 0.4, **parameters: str) -> Dialler:
    place = PostgresqlPlace(hosts, {"user": "postgres", "dbname": "postgres", **parameters})
    timeouts = {"connect_seconds": seconds, "answer_seconds": 1.0, "commit_seconds": 1.0, "suspicious_seconds": 1.0}
    return Dialler(place, SessionSettings(1000, 1000, 1000), pooled=False, **timeouts)


def test_a_resolver_that_hangs_costs_no_more_than_the_deadline_and_one_thread(resolver: Resolver) -> None:
    connections = dialler(("db.example", 5432))

    def connect(_: int) -> float:
        started = time.monotonic()
        with pytest.raises(OperationalError, match="name servers do not answer"):
            connections.connect()
        return time.monotonic() - started

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(connect, range(24))) < 0.4 + SLACK_SECONDS
    assert (threads(), resolver.asked) == (1, 1)
    resolver.known["db.example"] = ["127.0.0.1"]
    resolver.gate.set()
    assert HostNames().addresses("db.example", 5432, 1.0) == ("127.0.0.1",)
    with pytest.raises(OperationalError, match="refused"):
        dialler(("db.example", 1), seconds=5).connect()


def test_silent_name_servers_are_no_dead_database(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that wait for an answer are cut when the database does not answer, not when its name does not."""
    connections = dialler(("db.example", 5432), seconds=0.1)
    monkeypatch.setattr(
        connections, "suspect", lambda: pytest.fail("a name that is not resolved tells nothing of a server")
    )
    with pytest.raises(OperationalError):
        connections.connect()


def test_an_unknown_name_and_a_thread_that_cannot_start_are_outages(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.gate.set()
    names = HostNames()
    with pytest.raises(OperationalError, match="failed to resolve host"):
        names.addresses("db.example", 5432, 1.0)

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    for _ in range(2):
        with pytest.raises(OperationalError, match="start new thread"):
            names.addresses("db.example", 5432, 1.0)


def test_a_command_says_that_the_name_servers_are_silent(resolver: Resolver) -> None:
    url = "postgresql://postgres@db.example/ledger"
    with pytest.raises(DatabaseUnavailable, match="the name servers do not answer for its host name"):
        open_database(Settings(database_url=url, connect_deadline_ms=500))


@settings(max_examples=trials(18, 500), deadline=None)
@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=20))
def test_every_address_of_a_name_is_given_to_libpq_once(addresses: list[str]) -> None:
    connections = dialler(("db.example", 6543), seconds=5)
    connections._names.addresses = lambda *_: tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES]  # type: ignore[method-assign]
    with pg_connection.ending(time.monotonic() + 5):
        where = connections._where("db.example", 6543)
    given = where["hostaddr"].split(",")
    assert len(given) == len(set(given)) <= MAX_ADDRESSES
    assert where["host"].split(",") == ["db.example"] * len(given), "certificates are checked against the name"
    assert where["port"].split(",") == ["6543"] * len(given)


def test_what_is_no_name_is_not_asked_for(resolver: Resolver) -> None:
    for host in ("/run/postgresql", "@ledger", "127.0.0.1", "::1", "fe80::1%eth0", ""):
        assert not is_name(host)
        assert HostNames().addresses(host, 5432, 0.0) == ()
    assert is_name("localhost")
    assert resolver.asked == 0


def test_hosts_of_the_environment_have_the_same_deadline(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example,db2.example")
    monkeypatch.setenv("PGPORT", "6000")
    assert pg_connection._default_hosts() == [("db.example", 6000), ("db2.example", 6000)]
    started = time.monotonic()
    with pytest.raises(OperationalError, match="name servers do not answer"):
        dialler().connect()
    assert time.monotonic() - started < 0.4 + SLACK_SECONDS


@pytest.mark.postgresql
def test_a_name_that_hangs_leaves_time_for_the_next_host(
    pg_admin_url: str, postgresql_schema: Callable[[], str], resolver: Resolver
) -> None:
    folder = make_url(postgresql_schema()).query["host"]
    assert isinstance(folder, str)
    connections = dialler(("db.example", 5432), (folder, 5432), seconds=3)
    started = time.monotonic()
    connections.connect().close()
    assert 1 <= time.monotonic() - started < 3
    started = time.monotonic()
    connections.connect().close()
    assert time.monotonic() - started < 1, "the host that answered is asked first"
