"""Database URLs in libpq's and in SQLAlchemy's spelling."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

from ledger.errors import ConfigurationError
from ledger.server.db.database_url import PostgresqlPlace, SqlitePlace, describe_url, parse_database_url

TWO_HOSTS = (("a", 5432), ("b", 5433))


def postgresql(url: str) -> PostgresqlPlace:
    place = parse_database_url(url)
    assert isinstance(place, PostgresqlPlace)
    return place


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ledger:pw@a:5432,b:5433/book?target_session_attrs=any",
        "postgresql://ledger:pw@a,b:5433/book?target_session_attrs=any",
        "postgres://ledger:pw@a:,b:5433/book?target_session_attrs=any",
        "postgresql+psycopg2://ledger:pw@/book?host=a:5432&host=b:5433&target_session_attrs=any",
        "postgresql+psycopg://ledger:pw@/book?host=a,b&port=5432,5433&target_session_attrs=any",
        "postgresql://ledger:pw@ignored/book?host=a&host=b:5433&target_session_attrs=any",
        "postgresql:///book?user=ledger&password=pw&host=a&port=5432&host=b&port=5433&target_session_attrs=any",
    ],
)
def test_several_hosts_in_all_spellings(url: str) -> None:
    expected = {"user": "ledger", "password": "pw", "dbname": "book", "target_session_attrs": "any"}
    assert postgresql(url) == PostgresqlPlace(TWO_HOSTS, expected)


def test_ipv6_sockets_and_defaults() -> None:
    assert postgresql("postgresql://u@[::1]:5433,[fe80::1%25eth0]/d").hosts == (("::1", 5433), ("fe80::1%eth0", 5432))
    assert postgresql("postgresql://u@/d?host=[::1]:5433").hosts == (("::1", 5433),)
    assert postgresql("postgresql+psycopg://u@/d?host=/run/postgresql").hosts == (("/run/postgresql", 5432),)
    assert postgresql("postgresql://u@%2Frun%2Fpg:5433/d").hosts == (("/run/pg", 5433),)
    assert postgresql("postgresql:///d").hosts == ()
    assert parse_database_url("sqlite:///var/ledger.db") == SqlitePlace(Path("var/ledger.db"))
    assert parse_database_url("sqlite+pysqlite:////srv/ledger.db") == SqlitePlace(Path("/srv/ledger.db"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_comes_back(password: str) -> None:
    written = URL.create("postgresql+psycopg", "me", password, "a", 5432, "d").render_as_string(hide_password=False)
    assert postgresql(written).parameters["password"] == password
    assert password == "d" or password == "a" or len(password) < 3 or password not in describe_url(written)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
hosts = st.sampled_from(["a", "db.example", "10.0.0.1", "::1", "/run/postgresql"])


@given(names, names, names, st.lists(st.tuples(hosts, st.integers(1, 65535)), min_size=1, max_size=3))
def test_a_url_means_what_libpq_reads_in_it(
    user: str, password: str, database: str, where: list[tuple[str, int]]
) -> None:
    written = [f"{quote(f'[{host}]' if ':' in host else host, safe='[]:')}:{port}" for host, port in where]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    url = f"postgresql://{login}@{','.join(written)}/{quote(database, safe='')}?sslmode=require"
    place = postgresql(url)
    assert place.hosts == tuple(where)
    assert conninfo_to_dict(url) == {
        **place.parameters,
        "host": ",".join(host for host, _ in where),
        "port": ",".join(str(port) for _, port in where),
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.db",
        "mysql://u@a/d",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "postgresql://u@a:port/d",
        "postgresql://u@a:0/d",
        "postgresql://u@a:65536/d",
        "postgresql://u@::1/d",
        "postgresql://u@[::1/d",
        "postgresql://u@a,b/d?port=1,2,3",
        "postgresql://u:se/cr@t@a/d",
        "postgresql://u:secret@a/d?sslmod=require",
        "postgresql://u:secret@a/d/e",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_database_url(url)
    assert "secret" not in str(caught.value)
    assert "se/cr" not in str(caught.value)
    assert describe_url(url) == "a URL that is not one of a database"


def test_a_place_is_described_without_its_password() -> None:
    url = "postgresql+psycopg://ledger:S3cretPw@a:5432,b:5433/book"
    assert describe_url(url) == "PostgreSQL, database book at a:5432, b:5433"
    assert describe_url("sqlite:///var/ledger.db") == "SQLite, var/ledger.db"
