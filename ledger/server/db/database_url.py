"""Database URLs: the address of a ledger's database, in the syntax of libpq or of SQLAlchemy.

PostgreSQL may be given with several hosts; the host that accepts writes is used:

- as libpq writes it (PostgreSQL manual, 34.1.1.2): `postgresql://user@a:5432,b:5433/ledger?sslmode=require`
- as SQLAlchemy writes it: `postgresql+psycopg://user@/ledger?host=a:5432&host=b:5433`

The query may contain parameters of libpq. A password with special characters is percent-encoded; an IPv6 address is
written in brackets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ledger.errors import ConfigurationError

DEFAULT_PORT = 5432

_SCHEME = re.compile(r"(?P<backend>postgres(?:ql)?|sqlite)(?:\+[a-z0-9_]+)?://", re.IGNORECASE)
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]*))?\Z")


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """A database that is a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresqlPlace:
    """A database on one of several servers.

    `hosts` holds names, addresses, or folders of Unix sockets, each with a port; it is empty where libpq uses its
    default. `parameters` holds the other parameters of libpq, among them `user`, `password` and `dbname`.
    """

    hosts: tuple[tuple[str, int], ...]
    parameters: dict[str, str]


Place = SqlitePlace | PostgresqlPlace


def parse_database_url(url: str) -> Place:
    """Return the place that `url` names. Raises ConfigurationError, whose message never contains a password."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ConfigurationError(
            "The database must be SQLite or PostgreSQL: write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
        )
    if scheme["backend"].lower() == "sqlite":
        return _sqlite(url)
    return _postgresql(url[scheme.end() :])


def describe_url(url: str) -> str:
    """Return a description of `url` for messages and logs, without the password. Never raises."""
    try:
        place = parse_database_url(url)
    except ConfigurationError:
        return "a URL that is not one of a database"
    if isinstance(place, SqlitePlace):
        return f"SQLite, {place.path}"
    hosts = ", ".join(f"{host}:{port}" for host, port in place.hosts) or "the default host"
    return f"PostgreSQL, database {place.parameters.get('dbname', '')} at {hosts}"


def _sqlite(url: str) -> SqlitePlace:
    try:
        database = make_url(url).database
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError("The database's URL is not one: write sqlite:///FILE.") from error
    if not database or database == ":memory:" or database.startswith("file:"):
        raise ConfigurationError("The database must be a file: SQLite in memory would lose acknowledged reports.")
    return SqlitePlace(Path(database))


def _postgresql(rest: str) -> PostgresqlPlace:
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    user_part, _, host_part = authority.rpartition("@")
    if "/" in database or "@" in database:
        raise ConfigurationError(
            "The database's URL has a `/` or an `@` too many: in a user, password or name write %2F and %40."
        )
    user, colon, password = user_part.partition(":")
    parameters: dict[str, str] = {}
    hosts = [_host(host) for host in host_part.split(",")] if host_part else []
    given_hosts: list[str] = []
    given_ports: list[str] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "host":
            given_hosts += value.split(",")
        elif name == "port":
            given_ports += value.split(",")
        else:
            parameters[name] = value
    if given_hosts:  # as in libpq, hosts in the query replace those of the authority part
        hosts = [_host(host) for host in given_hosts]
    if given_ports:
        if len(given_ports) not in (1, len(hosts)):
            raise ConfigurationError("The database's URL must have one port, or as many ports as hosts.")
        ports = given_ports if len(given_ports) == len(hosts) else given_ports * len(hosts)
        hosts = [(host, _port(port)) for (host, _), port in zip(hosts, ports, strict=True)]
    for name, value in (("user", unquote(user)), ("dbname", unquote(database))):
        if value:
            parameters[name] = value
    if colon:
        parameters["password"] = unquote(password)
    _check(parameters)
    return PostgresqlPlace(tuple(hosts), parameters)


def _host(text: str) -> tuple[str, int]:
    text = unquote(text)
    if text.startswith("/"):  # the folder of a Unix socket
        folder, colon, port = text.rpartition(":")
        return (folder, int(port)) if colon and port.isdecimal() else (text, DEFAULT_PORT)
    match = _HOST.match(text)
    if match is None:
        raise ConfigurationError(
            "A host of the database's URL is not HOST or HOST:PORT; an IPv6 address stands in brackets, as [::1]:5432."
        )
    return match["address"] or match["name"], _port(match["port"]) if match["port"] else DEFAULT_PORT


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ConfigurationError("A port of the database's URL is not a number from 1 to 65535.")
    return int(text)


def _check(parameters: dict[str, str]) -> None:
    """Raise ConfigurationError for a parameter that libpq does not have."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import make_conninfo

    for name, value in parameters.items():
        try:
            make_conninfo("", **{name: value})
        except ProgrammingError as error:
            raise ConfigurationError(f"The database's URL has a parameter that libpq does not know: {name}.") from error
