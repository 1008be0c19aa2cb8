"""What holds for every request: ids, limits, media types, JSON, and problems for whatever goes wrong."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from ledger.protocol.identifiers import Kind
from tests.api.conftest import ACME, READER, Api, person, running
from tests.processes import until
from tests.support import new_ledger, report_payload

LIMIT = 2 * 1024 * 1024


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """The problem document of a failed answer, checked for what all of them have."""
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:refund-ledger:problem:{document['code']}"
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def test_request_ids_are_kept_or_made(api: Api) -> None:
    assert api.request("GET", "/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for unfit in ("", "with space", "x" * 65, "a;b"):
        created = api.request("GET", "/healthz", headers={"X-Request-Id": unfit}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{24}", created)
    assert problem(api.request("GET", "/nowhere", headers={"X-Request-Id": "mine-2"}))["request_id"] == "mine-2"


def test_no_answer_is_sniffed(api: Api) -> None:
    assert api.request("GET", "/healthz").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/reports/", "/v1/lookups/x", "/docs", "/redoc", "/v1/reports/a/b"])
def test_unknown_paths(api: Api, path: str) -> None:
    answer = api.request("GET", path)
    assert answer.status_code == 404
    assert problem(answer)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/reports", "GET, HEAD, POST"),
        ("PUT", "/v1/reports/rp_abcdefgh", "GET, HEAD"),
        ("GET", "/v1/lookups", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/lookups", "POST"),
        ("PATCH", "/log/tile/0/000", "GET, HEAD"),
    ],
)
def test_unknown_methods_name_the_known_ones(api: Api, method: str, path: str, allow: str) -> None:
    answer = api.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert problem(answer)["code"] == "method_not_allowed"


def test_a_declared_body_beyond_the_limit_is_refused_unread(api: Api) -> None:
    answer = api.request("POST", "/v1/reports/batch", ACME, content=b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert problem(answer)["limit_bytes"] == LIMIT


def test_a_body_in_chunks_is_held_to_the_same_limit(api: Api) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(LIMIT // 65536 + 2):
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    answer = api.request("POST", "/v1/lookups/batch", ACME, content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert problem(answer)["code"] == "body_too_large"


def test_a_body_of_exactly_the_limit_is_read(api: Api) -> None:
    body = json.dumps({"epoch": "x"}).encode()
    content = body + b" " * (64 * 1024 - len(body))
    answer = api.request("POST", "/v1/lookups", ACME, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/jsonx", ""],
)
def test_other_media_types_are_refused(api: Api, media_type: str) -> None:
    answer = api.request("POST", "/v1/lookups", ACME, content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 415
    assert problem(answer)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'])
def test_json_may_be_declared_in_full(api: Api, media_type: str) -> None:
    answer = api.request("POST", "/v1/lookups", ACME, content=b"{}", headers={"Content-Type": media_type})
    assert answer.status_code == 422


WRITES = ["/v1/lookups", "/v1/lookups/batch", "/v1/reports", "/v1/reports/batch", "/v1/oprf/evaluate"]

NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"epoch": 1',
    "not UTF-8": b'{"epoch": "\xff"}',
    "lone surrogate": b'{"epoch": "\\ud800"}',
    "NaN": b'{"epoch": NaN}',
    "infinity": b'{"epoch": Infinity}',
    "control character": b'{"epoch": "\x00"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "deep": b"[" * 20_000 + b"]" * 20_000,
    "trailing": b"{} {}",
}


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_not_json_is_400(api: Api, path: str, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.request("POST", path, ACME, key="k", content=NO_JSON[name], headers=headers)
    assert answer.status_code == 400
    assert problem(answer)["code"] == "invalid_json"


STRANGE: list[Any] = [
    None,
    True,
    1,
    "text",
    [],
    {},
    [[]],
    {"epoch": 10**30},
    {"epoch": 1.0},
    {"epoch": -1},
    {"\u0000": "\u0000"},
    {"body": {"v": 10**40, "deep": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}, "signature": None, "subjects": []},
    {"body": {}, "signature": "", "subjects": [None]},
    {"body": {"v": 1}, "signature": 5, "subjects": {}},
    {"reports": [None, 1, {}, [], {"idempotency_key": 5, "body": {}, "signature": "", "subjects": []}]},
    {"lookups": [None, {}, {"epoch": 1e308}]},
    {"epoch": 1, "blinded": ["\u0000" * 43, "A" * 43]},
    {"epoch": 1, "blinded": ["A" * 42 + "B"]},
    {"reason": "linked_report_void"},
    {"received_at": "2026-02-30T00:00:00Z", "amount_minor": 1, "currency": "CNY"},
    {"received_at": "0001-01-01T00:00:00Z", "amount_minor": 1, "currency": "CNY"},
]


@pytest.mark.parametrize("path", [*WRITES, "/v1/reports/rp_abcdefgh/withdraw", "/v1/reports/rp_abcdefgh/restitution"])
def test_strange_bodies_are_refused_and_never_a_fault(api: Api, path: str) -> None:
    for body in STRANGE:
        content = json.dumps(body).encode()
        answer = api.request(
            "POST", path, ACME, key="strange", content=content, headers={"Content-Type": "application/json"}
        )
        if answer.status_code == 200:  # a batch answers each item by itself
            assert all(400 <= result["status"] < 500 for result in answer.json()["results"]), body
        else:
            assert answer.status_code in (404, 422), body
            problem(answer)


def test_doubled_members_count_once_and_the_last_one_is_what_was_signed(api: Api) -> None:
    """The signature is checked over what was parsed, so a second spelling of a member cannot smuggle anything in."""
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    text = json.dumps(payload)
    assert text.count('"currency": "CNY"') == 1
    headers = {"Content-Type": "application/json"}
    smuggled = text.replace('"currency": "CNY"', '"currency": "CNY", "currency": "USD"')
    answer = api.request("POST", "/v1/reports", ACME, key="doubled-1", content=smuggled, headers=headers)
    assert problem(answer)["code"] == "invalid_signature"
    harmless = text.replace('"currency": "CNY"', '"currency": "USD", "currency": "CNY"')
    answer = api.request("POST", "/v1/reports", ACME, key="doubled-2", content=harmless, headers=headers)
    assert answer.status_code == 201
    view = api.request("GET", f"/v1/reports/{answer.json()['id']}", ACME).json()
    assert view["currency"] == "CNY"


def test_values_and_made_up_names_are_not_repeated(api: Api) -> None:
    secret = "13800138000"
    body = api.lookup_body((Kind.PHONE, person()), purpose=secret, **{secret: 1})
    body["subjects"][0]["tag"] = secret
    body["refund"] = {"claim": secret, "amount_minor": secret, "currency": secret}
    answer = api.request("POST", "/v1/lookups", ACME, json=body)
    document = problem(answer)
    assert document["code"] == "invalid_request"
    assert {tuple(error["loc"]) for error in document["errors"]} == {
        ("subjects", 0, "tag"),
        ("purpose",),
        ("refund", "claim"),
        ("refund", "amount_minor"),
        ("refund", "currency"),
        ("?",),
    }
    assert secret not in answer.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid_request"),
        ("limit=101", "invalid_request"),
        ("limit=x", "invalid_request"),
        ("order_ref=x", "invalid_request"),
        ("starting_after=" + "x" * 65, "invalid_request"),
        ("starting_after=rp_%00", "invalid_request"),
        ("starting_after=lk_abcdefgh", "invalid_request"),
    ],
)
def test_bad_queries(api: Api, query: str, code: str) -> None:
    answer = api.request("GET", f"/v1/reports?{query}", ACME)
    assert answer.status_code == 422
    assert problem(answer)["code"] == code


@pytest.mark.parametrize("keys", [[], [""], ["with space"], ["x" * 256], ["é"], ["a", "b"]])
def test_idempotency_keys_are_required_and_visible_ascii(api: Api, keys: list[str]) -> None:
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    headers = [("Authorization", f"Bearer {api.token(ACME)}"), ("Content-Type", "application/json")]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    raw += [(b"Idempotency-Key", key.encode("latin-1")) for key in keys]
    answer = api.client.post("/v1/reports", headers=raw, content=json.dumps(payload))
    assert answer.status_code == 422
    assert problem(answer)["code"] == "invalid_request"


def test_a_fault_of_the_server_says_nothing_and_is_logged_without_content(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with running(settings) as api:
        app = api.app

        async def fail(request: Request) -> Response:
            body = await request.body()
            raise ZeroDivisionError(f"secret {body!r}")

        app.router.add_route("/boom", fail, methods=["POST"])
        answer = api.request("POST", "/boom", content=b"13800138000", headers={"X-Request-Id": "boom-1"})
        assert answer.status_code == 500
        assert problem(answer)["code"] == "internal"
        assert "secret" not in answer.text
        assert api.request("GET", "/healthz").status_code == 200
    logged = api.logs.getvalue().decode()
    assert "secret" not in logged
    assert "13800138000" not in logged
    [failure] = [json.loads(line) for line in logged.splitlines() if '"request_failed"' in line]
    assert failure["exception"] == ["builtins.ZeroDivisionError"]
    assert failure["request_id"] == "boom-1"
    assert any("test_http.py" in frame for frame in failure["frames"])


def test_a_cut_request_is_no_fault(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/lookups HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: cut-1\r\n"
            + f"Authorization: Bearer {api.token(ACME)}\r\n".encode()
            + b"Content-Length: 100\r\n\r\n{"
        )
    line = _logged(api, "cut-1")
    assert line["status"] == 499
    assert line["code"] is None


def _logged(api: Api, request_id: str) -> dict[str, Any]:
    """The access line of a request, waited for."""
    for _ in range(200):
        for text in api.logs.getvalue().splitlines():
            line: dict[str, Any] = json.loads(text)
            if line.get("request_id") == request_id and line["event"] == "request":
                return line
        threading.Event().wait(0.02)
    raise AssertionError("no access line")


def test_access_lines_have_the_template_and_no_query(api: Api) -> None:
    headers = {"X-Request-Id": "line-1"}
    api.request("GET", "/v1/reports/rp_abcdefgh?secret=13800138000", ACME, headers=headers)
    line = _logged(api, "line-1")
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/v1/reports/{report_id}",
        "status": 422,
        "request_id": "line-1",
        "platform": None,
        "code": "invalid_request",
    }
    api.request("GET", "/v1/reports/rp_13800138", ACME, headers={"X-Request-Id": "line-3"})
    known = _logged(api, "line-3")
    assert (known["route"], known["status"], known["platform"]) == ("/v1/reports/{report_id}", 404, "acme")
    api.request("GET", "/unknown/13800138000", headers={"X-Request-Id": "line-2"})
    assert _logged(api, "line-2")["route"] is None


def test_health_and_readiness(api: Api) -> None:
    assert api.request("GET", "/healthz").json() == {"status": "ok"}
    answering = ("appender", "lookups", "filter", "presence", "members", "policy", "snapshots")
    checks = (*answering, "webhooks", "clocks", "upkeep")
    until(lambda: api.request("GET", "/readyz").status_code == 200, "not ready")
    for path in ("/readyz", "/readyz/write"):
        ready = api.request("GET", path)
        assert (ready.status_code, ready.json()) == (
            200,
            {
                "status": "ready",
                "database": "ok",
                "log": "ok",
                "publisher": "absent",
                "clock": "ok",
                "checks": dict.fromkeys(checks, "ok"),
                "failing_jobs": [],
                "keys": {"epoch": 1, "generation": 1, "threshold": 1, "holders": 1},
            },
        ), "without a publisher reports are taken all the same"


def test_a_scope_that_is_missing_is_named(api: Api) -> None:
    assert "report" in problem(api.request("GET", "/v1/reports", READER))["detail"]
