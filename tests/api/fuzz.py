"""Requests with every kind of value that no client should send, to every route, signed out and in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_from_bytes

import httpx2
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.route_table import Accepted, RouteTable, named_routes
from api.web.pages import area_of
from ledger.server.settings import Settings
from tests.api.conftest import ACME, Api
from tests.api.console_fixture import ConsoleFixture
from tests.personas import Persona
from tests.staffing import ROLES

APP = create_app(Settings())
ROUTES = [(method, route.path) for method, route in named_routes(APP.routes) if route.path != "/console/logout"]
TABLE = RouteTable(APP.routes)
BODIES: dict[tuple[str, str], Any] = {
    (method.upper(), path): operation["requestBody"]["content"]["application/json"]["example"]
    for path, methods in APP.openapi()["paths"].items()
    for method, operation in methods.items()
    if "example" in operation.get("requestBody", {}).get("content", {}).get("application/json", {})
}
"""Good bodies, by route: one value of each is spoilt."""

FIELDS = (
    "name", "password", "code", "next", "lang", "text", "report", "grounds", "reason", "reasons", "quota", "seen",
    "revision", "confirm", "confirmed", "outcome", "conduct", "locale", "assignee", "language", "back", "old", "new",
    "again", "role", "control_group", "file", "note", "one_time_code", "severity",
)  # fmt: skip
NASTY = (
    "", "\x00", "a\x00b", "\n", "\x7f", "\x85", "€", "é", "漢字", "\U0001f600", "\u202e", "\u200b", "\ufffd", "\ufeff",
    "../..", "..%2f", "<b>", "'", '"', "\\", "-1", "0", "1_0", " 5", "5.0", "99999999999999999", str(2**63),
    "9" * 400, "x" * 3000, "[", "{", "%s", "{0}", "null", "2026-01-31", "9999-99-99", "rp_abcdefgh", "ap_abcdefgh",
    "A" * 43, "yes", "upheld", "filed",
)  # fmt: skip
HEADERS = (
    "X-Request-Id", "Idempotency-Key", "Accept-Language", "If-None-Match", "Range", "Authorization", "Cookie", "Origin",
    "Sec-Fetch-Site", "Content-Type",
)  # fmt: skip
BYTES = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"%", b"%zz", b"\xf4\x90\x80\x80")
JSON_VALUES: tuple[Any, ...] = (*NASTY, None, True, 0, -1, 2**31, 2**53, 2**63, 2**64, 10**30, 1e308, 0.5, [], {}, [[]],
                                ["\x00"], {"\x00": "\x00"})  # fmt: skip

texts = st.sampled_from(NASTY) | st.text(max_size=12)
raw = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.sampled_from(BYTES) | st.binary(max_size=8)


@dataclass
class Visitors:
    """A server and its callers: anonymous, a member, a person in their session, and staff of each role."""

    api: Api
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        console = ConsoleFixture(self.api)
        person = Persona(self.api)
        report = person.reported()
        person.open()
        case = person.contest(report)
        self.ids = {"report_id": report, "report": report, "case_id": case}
        self.ids["case"] = self.ids["appeal_id"] = self.ids["case_id"]
        self.headers = {
            "nobody": {},
            "member": {"Authorization": f"Bearer {self.api.token(ACME)}"},
            "person": {"Cookie": f"me={person.token}", "Authorization": f"Bearer {person.token}"},
            **{role: {"Cookie": _cookies(console.signed_in(role))} for role in ROLES},
        }
        console.close_clients()


def _cookies(client: httpx2.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def fuzz(visitors: Visitors, examples: int, *, derandomize: bool = True) -> Counter[int]:
    """Send `examples` requests and count the statuses. Raises AssertionError for an answer that is none: a 500, an
    empty one, or a failure that is neither a problem document nor a page."""
    counts: Counter[int] = Counter()

    @settings(
        max_examples=examples, derandomize=derandomize, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        method, template = data.draw(st.sampled_from(ROUTES), "route")
        who = data.draw(st.sampled_from(sorted(visitors.headers)), "who")
        path = _path(data, template, visitors.ids)
        query = _query(data, TABLE.find(method, re.sub(r"\{[^}]+\}", "x", template)))
        headers = {
            "Origin": visitors.api.url,
            "Idempotency-Key": "fuzz",
            **visitors.headers[who],
            **_spoilt_headers(data, visitors.headers[who]),
        }
        sent: dict[str, Any] = {} if method == "GET" else _body(data, method, template, visitors.ids)
        encoded = {**{name: value.encode("utf-8", "surrogatepass") for name, value in headers.items()},
                   **sent.pop("headers", {})}  # fmt: skip
        answer = visitors.api.client.request(method, path + query, headers=list(encoded.items()), **sent)
        counts[answer.status_code] += 1
        _check(answer, path, f"{who}: {method} {path}{query} {sent}")

    run()
    return counts


def _check(answer: httpx2.Response, path: str, shown: str) -> None:
    status = answer.status_code
    if status == 503:
        assert answer.json()["code"] == "index_not_reached", shown
        return
    assert status < 500, shown
    if status == 303:
        assert answer.headers["location"].isascii(), shown
    if status >= 400:
        media_type = answer.headers["content-type"].partition(";")[0]
        page = area_of(path.partition("?")[0]) is not None
        expected = ("text/html",) if page else ("application/problem+json",)
        assert media_type in expected or status in (400, 431), shown  # the server itself knows no pages
        assert answer.content, shown
        if media_type == "application/problem+json":
            assert answer.json()["status"] == status, shown


def _path(data: st.DataObject, template: str, ids: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        known = ids.get(match[1].partition(":")[0])
        if known is not None and data.draw(st.booleans()):
            return known
        if match[1] == "step" and data.draw(st.booleans()):
            return str(data.draw(st.sampled_from(("reset", "disable", "suspend", "release", "take"))))
        return quote_from_bytes(data.draw(raw, "part")[:600], safe="").replace("%2F", "/")

    return re.sub(r"\{([^}]+)\}", value, template)


def _query(data: st.DataObject, accepted: Accepted) -> str:
    names = sorted(accepted.query or ()) or ["x"]
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(names), raw), max_size=2, unique_by=lambda pair: pair[0]))
    if not pairs:
        return ""
    return "?" + "&".join(f"{name}={quote_from_bytes(value[:600], safe='')}" for name, value in pairs)


def _spoilt_headers(data: st.DataObject, own: Mapping[str, str]) -> dict[str, str]:
    if data.draw(st.integers(0, 3)):
        return {}
    name = data.draw(st.sampled_from(HEADERS))
    value = re.sub(r"[\x00-\x1f\x7f]", "", data.draw(texts)).strip(" ")  # a client's library sends no others
    if name == "Cookie":
        value = f"{own.get('Cookie', 'console=x')}; me_language={value}; {value}"
    return {name: value[:1000].strip(" ")}


def _body(data: st.DataObject, method: str, template: str, ids: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for a request: a form for pages, a good JSON body with one value spoilt, or bytes."""
    kind = data.draw(st.sampled_from(("fit", "fit", "fit", "bytes")))
    if kind == "bytes":
        return {"content": data.draw(st.binary(max_size=40))}
    if area_of(template) is not None:
        fields = data.draw(st.dictionaries(st.sampled_from(FIELDS), raw, max_size=5))
        pairs = [f"{name}={quote_from_bytes(value[:600], safe='')}" for name, value in fields.items()]
        media_type = {"Content-Type": b"application/x-www-form-urlencoded"}
        return {"content": "&".join(pairs).encode(), "headers": media_type}
    good = BODIES.get((method, template))
    if good is None:
        return {"content": data.draw(st.binary(max_size=40))}
    value = json.loads(json.dumps(good).replace("rp_Xk3mPq9a", ids["report"]))
    places = list(_leaves(value))
    at = data.draw(st.sampled_from(places), "place")
    _spoil(value, at, data.draw(st.sampled_from(JSON_VALUES), "value"))
    return {"content": json.dumps(value).encode(), "headers": {"Content-Type": b"application/json"}}


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> Any:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield (*at, name)
        yield from _leaves(item, (*at, name))


def _spoil(value: Any, at: tuple[Any, ...], bad: Any) -> None:
    for part in at[:-1]:
        value = value[part]
    value[at[-1]] = bad
