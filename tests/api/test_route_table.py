"""The limits of each route: the table names every route and refuses bodies before authentication, and queries by their
names and forms."""

from __future__ import annotations

import re
import socket

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.route_table import (
    BODIES,
    ENTRANCES,
    QUERIES,
    SMALL_BYTES,
    Accepted,
    BodyLimits,
    RouteTable,
    Size,
    named_routes,
    read_query,
)
from api.web.pages import area_of
from ledger.errors import InvalidRequest
from ledger.server.settings import Settings
from tests.api.conftest import ACME, Api
from tests.support import ROOT

APP = create_app(Settings())
ROUTES = [(method, route) for method, route in named_routes(APP.routes)]
TABLE = RouteTable(APP.routes)
ANONYMOUS = ["/v1/me/session", "/me/open", "/me/end", "/console/login", "/console/logout", "/console/enrol",
             "/console/enrol/open"]  # fmt: skip
"""Routes that accept a POST without a token or session."""


@pytest.fixture(scope="module")
def anybody(api: Api) -> Api:
    """The server, for requests without a token."""
    return api


def concrete(path: str) -> str:
    """A path of this template."""
    return re.sub(r"\{[^}]+\}", "x", path)


def test_the_table_names_every_route() -> None:
    names = {f"{method} {route.path}" for method, route in ROUTES}
    assert len(names) > 110
    with_body = {name for name in names if not name.startswith("GET ")}
    assert set(BODIES) == with_body, "a new route needs a row in BODIES"
    assert set(QUERIES) <= names
    assert names >= ENTRANCES
    assert all(BODIES[f"POST {path}"] is Size.SMALL for path in ANONYMOUS)


def test_every_name_that_a_page_reads_is_in_the_table() -> None:
    known = {name for names in QUERIES.values() for name in names}
    read: set[str] = set()
    for path in (ROOT / "api").rglob("*.py"):
        read.update(re.findall(r"query(?:_params)?\.get\(\"(\w+)\"", path.read_text()))
    assert len(read) > 10
    assert read <= known
    linked: set[str] = set()
    for path in (ROOT / "api").rglob("*.html"):
        linked.update(re.findall(r"\?(\w+)=", path.read_text()))
    assert linked <= known


def test_the_first_route_that_fits_is_the_one_that_answers() -> None:
    assert TABLE.find("GET", "/v1/snapshots/abc/buckets.bin").path == "/v1/snapshots/{version}/buckets.bin"
    assert TABLE.find("GET", "/log/tile/entries/x001/067").path == "/log/tile/entries/{path:path}"
    assert TABLE.find("GET", "/console/cases/ap_x/letter").path == "/console/cases/{case}/letter"
    assert TABLE.find("GET", "/console/cases/ap_x/decide").path == "/console/cases/{case}/{step}"
    assert TABLE.find("GET", "/nowhere").path is None
    for method, route in ROUTES:
        assert TABLE.find(method, concrete(route.path)).path is not None, route.path


@pytest.mark.parametrize("path", ANONYMOUS)
def test_anybody_may_send_four_kibibytes(anybody: Api, path: str) -> None:
    answer = anybody.request("POST", path, content=b"x" * (SMALL_BYTES + 1))
    assert answer.status_code == 413
    chunked = anybody.request("POST", path, content=iter([b"x" * 3000, b"x" * 3000]), headers={"Origin": anybody.url,
                              "Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    cut = 413 if path not in ("/me/end", "/console/logout") else 303  # these do not read what is sent
    assert chunked.status_code == (415 if path == "/v1/me/session" else cut)


def test_every_route_has_its_limit_before_anybody_asks_who_it_is(anybody: Api) -> None:
    """The declared length is enough: no byte of the body is sent."""
    limits = BodyLimits(anybody.settings.body_limit_bytes, anybody.settings.attachment_limit_bytes)
    host, port = anybody.url.removeprefix("http://").split(":")
    for method, route in ROUTES:
        length = limits.of(BODIES.get(f"{method} {route.path}", Size.NONE)) + 1
        head = f"{method} {concrete(route.path)} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0], route.path


def test_each_limit_is_read_in_full(anybody: Api) -> None:
    headers = {"Content-Type": "application/json"}
    for path, size in (("/v1/lookups", 64), ("/v1/oprf/evaluate", 128), ("/v1/reports", 256), ("/v1/me/session", 4)):
        at = b"{}" + b" " * (size * 1024 - 2)
        assert anybody.request("POST", path, ACME, key="k", content=at, headers=headers).status_code == 422, path
        assert anybody.request("POST", path, ACME, key="k", content=at + b" ", headers=headers).status_code == 413, path


# --- queries ------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_wherever_links_from_outside_do_not_lead(anybody: Api) -> None:
    for method, route in ROUTES:
        name = f"{method} {route.path}"
        answer = anybody.request(method, f"{concrete(route.path)}?utm_source=x", headers={"Origin": anybody.url})
        if name in ENTRANCES:
            assert answer.status_code in (200, 303), name
            continue
        assert answer.status_code == 422, name
        if area_of(route.path) is not None:
            assert answer.headers["content-type"].startswith("text/html")
        else:
            document = answer.json()
            assert document["code"] == "invalid_request"
            assert document["errors"] == [{"loc": ["query", "?"], "message": "There is no such parameter."}]
        assert "utm_source" not in answer.text


def test_every_parameter_is_taken_once_and_in_one_form(anybody: Api) -> None:
    seen = 0
    for method, route in ROUTES:
        accepted = TABLE.find(method, concrete(route.path))
        for name, kind in (accepted.query or {}).items():
            seen += 1
            path = concrete(route.path)
            doubled = anybody.request(method, f"{path}?{name}=1&{name}=1", headers={"Origin": anybody.url})
            assert doubled.status_code == 422, (path, name)
            for bad in (
                "%00",
                "%ff",
                "%ed%a0%80",
                *(BAD_INTEGERS if kind is int else BAD_BOOLS if kind is bool else ()),
            ):
                answer = anybody.request(method, f"{path}?{name}={bad}", headers={"Origin": anybody.url})
                assert answer.status_code == 422, (path, name, bad)
    assert seen > 50


BAD_INTEGERS = ["", "1_0", "%205", "5%20", "+5", "5.0", "05", "1e1", "%EF%BC%95", "0x5", "9" * 40]
BAD_BOOLS = ["", "1", "True", "yes", "on"]


@given(st.integers(-(10**30), 10**30) | st.text(max_size=8))
def test_an_integer_has_one_spelling(value: int | str) -> None:
    accepted = Accepted(query={"n": int})
    raw = b"n=" + b"".join(b"%%%02X" % byte for byte in str(value).encode("utf-8", "surrogatepass"))
    try:
        result = read_query(accepted, raw)["n"]
    except InvalidRequest:
        assert not isinstance(value, int) or abs(value) >= 10**18
    else:
        assert str(int(result)) == result


def test_a_name_that_is_misspelt_does_not_widen_what_is_listed(api: Api) -> None:
    for query in ("Limit=1", "order=A-1", "limit=1&limit=2", "foo=1", "former_label=1"):
        assert api.request("GET", f"/v1/reports?{query}", ACME).status_code == 422, query
    assert api.request("GET", "/v1/reports?limit=1&&", ACME).status_code == 200


def test_the_shortest_way_knows_no_query_either(api: Api) -> None:
    assert api.request("POST", "/v1/lookups?a=1", ACME, json={}).status_code == 422
    assert api.request("GET", "/v1/snapshots/x/buckets/00?a=1", ACME).status_code == 422


def test_a_query_has_an_end(anybody: Api) -> None:
    answer = anybody.request("GET", "/me?" + "a" * 5000)
    assert answer.status_code == 414
    assert anybody.request("GET", "/v1/reports?" + "a" * 5000).json()["code"] == "uri_too_long"
    many = anybody.request("GET", "/me?" + "&".join(f"a{number}=1" for number in range(40)))
    assert many.status_code == 422


def test_a_page_repeats_of_its_query_only_what_it_knows(anybody: Api) -> None:
    plain = anybody.request("GET", "/me")
    long = anybody.request("GET", "/me?fbclid=" + "y" * 3000)
    assert long.status_code == 200
    assert len(long.content) < len(plain.content) + 100
    assert "fbclid" not in long.text


# --- HEAD ---------------------------------------------------------------------------------------------------------


def test_head_is_answered_wherever_get_is(anybody: Api) -> None:
    own = {"x-request-id", "date", "transfer-encoding"}

    def kept(answer: httpx2.Response) -> dict[str, str]:
        """Without what is of one answer only: its id and its moment, also where a cookie is dropped."""
        return {name: re.sub(r"expires=[^;]*", "", value) for name, value in answer.headers.items() if name not in own}

    for method, route in ROUTES:
        if method != "GET":
            continue
        path = concrete(route.path)
        got, head = anybody.request("GET", path), anybody.request("HEAD", path)
        assert head.status_code == got.status_code, path
        assert head.content == b"", path
        assert kept(head) == kept(got), path


def test_head_leaves_the_connection_in_step(anybody: Api) -> None:
    with httpx2.Client(base_url=anybody.url) as client:
        for _ in range(3):
            assert client.head("/v1/suite").headers["content-length"] == str(len(client.get("/v1/suite").content))


# --- paths --------------------------------------------------------------------------------------------------------

UNFIT_PATHS = [
    "/healthz%0a", "/v1/suite%0A", "/log/tile/entries/000.p/2%0a", "/healthz%00", "/console%0a", "/me%7f",
    "/metrics%0d", "/v1/reports/%00", "/console/platforms/%00", "/v1/reports/%ff", "/static/%c2%85",
]  # fmt: skip


@pytest.mark.parametrize("path", UNFIT_PATHS)
def test_a_path_with_controls_is_no_path(anybody: Api, path: str) -> None:
    answer = anybody.request("GET", path, ACME)
    assert answer.status_code == 404
    assert answer.content


@pytest.mark.parametrize("path", ["/console/cases/%E2%82%AC", "/console/%F0%9F%98%80", "/console/a b", "/console/%22"])
def test_signing_in_first_is_offered_at_any_address(anybody: Api, path: str) -> None:
    answer = anybody.request("GET", path.replace(" ", "%20"))
    assert answer.status_code in (303, 404)
    assert answer.headers.get("location", "/console/login") == "/console/login"
