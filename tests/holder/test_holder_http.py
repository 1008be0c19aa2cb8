"""The HTTP of a holder's service: its routes, refusals, card, metrics and log lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from api.route_table import ELEMENTS_BYTES, SMALL_BYTES
from ledger.protocol.encoding import b64url
from ledger.tlog.key_statement import parse_card
from tests.holder.kit import Caller, Consortium, HolderService, evaluation_body, points
from tests.support import ROOT


def metrics(service: HolderService) -> str:
    """The metrics of the process."""
    answer = service.request("GET", "/metrics", authorization="Bearer " + "m" * 16)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.body.decode()


def test_the_page_has_every_route_and_no_other(service: HolderService) -> None:
    page = (ROOT / "docs" / "holders.md").read_text("utf-8")
    rows = re.findall(r"^\| `(GET|POST)` \| `(/[^`]*)` \|", page, re.MULTILINE)
    assert rows == [(route.method, route.path) for route in service.app.routes]


def test_the_card_is_that_of_the_newest_served_share(service: HolderService, consortium: Consortium) -> None:
    card = parse_card(service.request("GET", "/v1/card").body)
    assert (card.index, card.url, card.holder.key.holder) == (1, "https://north.example", "north")
    assert card.statement == consortium.sharings[0].statement
    consortium.refresh()
    service.rt.follower.follow()
    service.rt.shares.refresh(service.rt.state.current(), service.clock())
    assert parse_card(service.request("GET", "/v1/card").body).statement.keys.generation == 2


def test_refusals_of_the_frame(service: HolderService) -> None:
    for method, path, status, code in (
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/card/", 404, "not_found"),
        ("GET", "/v1/oprf/evaluate", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/healthz?x=1", 422, "invalid_request"),
        ("GET", "/healthz?" + "x" * 5000, 414, "uri_too_long"),
        ("GET", "/console\x01", 404, "not_found"),
    ):
        answer = service.request(method, path, x_request_id="mine-1")
        assert (answer.status, answer.code, answer.json["request_id"]) == (status, code, "mine-1"), (method, path)
        assert answer.headers["x-request-id"] == "mine-1", (method, path)


def test_bodies_are_limited_and_json(service: HolderService, acme: Caller) -> None:
    big = b"x" * (ELEMENTS_BYTES + 1)
    assert service.request("POST", "/v1/oprf/evaluate", b"", content_length=str(len(big))).code == "body_too_large"
    assert service.request("POST", "/v1/oprf/evaluate", big).code == "body_too_large"
    assert service.request("POST", "/v1/keys", b"x" * (SMALL_BYTES + 1)).code == "body_too_large"
    body = evaluation_body(points(1))
    bearer = f"Bearer {acme.token('north', body, service.clock())}"
    answer = service.request("POST", "/v1/oprf/evaluate", body, authorization=bearer, content_type="text/plain")
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    broken = b'{"epoch": 1,'
    assert (
        service.post("/v1/oprf/evaluate", acme.token("north", broken, service.clock()), broken).code == "invalid_json"
    )


def test_heads_and_health(service: HolderService) -> None:
    assert service.request("GET", "/healthz").json == {"status": "ok"}
    head = service.request("HEAD", "/healthz")
    assert (head.status, head.body) == (200, b"")
    ready = service.request("GET", "/readyz")
    assert (ready.status, ready.json["status"], ready.json["shares"]) == (200, "ready", "ok")


def test_a_stale_snapshot_answers_nothing(service: HolderService, acme: Caller) -> None:
    service.rt.state._monotonic = lambda: service.rt.state.latest.started + 5.1
    answer = service.evaluate(acme, points(1))
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "database_unavailable", "1")
    assert service.request("GET", "/readyz").json["database"] == "unavailable"


def test_metrics_name_groups_and_need_their_token(service: HolderService, acme: Caller) -> None:
    service.evaluate(acme, points(3))
    service.evaluate(acme, points(98))
    text = metrics(service)
    for line in (
        'refund_ledger_holder_elements_total{control_group="acme-group"} 3.0',
        'refund_ledger_holder_elements_refused_total{control_group="acme-group",limit="burst"} 98.0',
        'refund_ledger_holder_share{epoch="1",generation="1",state="served"} 1.0',
        "refund_ledger_holder_log_age_seconds 0.0",
        "refund_ledger_holder_log_consistent 1.0",
        "refund_ledger_holder_log_entries 1.0",
        "refund_ledger_holder_platforms_admitted 1.0",
        "refund_ledger_holder_ready 1.0",
    ):
        assert line in text, line
    assert service.request("GET", "/metrics").code == "unauthenticated"
    assert service.request("GET", "/metrics", authorization="Bearer x").code == "unauthenticated"


def test_the_page_lists_every_metric(service: HolderService, acme: Caller) -> None:
    page = (ROOT / "docs" / "holders.md").read_text("utf-8")
    families = set(re.findall(r"^# TYPE (\S+)", metrics(service), re.MULTILINE))
    assert set(re.findall(r"`(refund_ledger_holder_[a-z_]+)`", page)) == families


def test_without_a_token_there_are_no_metrics(open_service: Callable[..., HolderService]) -> None:
    assert open_service("south", metrics_token=None).request("GET", "/metrics").code == "not_found"


def test_log_lines_name_the_platform_and_nothing_of_the_request(service: HolderService, acme: Caller) -> None:
    element = points(1)[0]
    token = acme.token("north", evaluation_body([element]), service.clock())
    answer = service.post("/v1/oprf/evaluate", token, evaluation_body([element]))
    service.post("/v1/oprf/evaluate", token, evaluation_body([element]))
    lines = [json.loads(line) for line in service.logged.getvalue().splitlines()]
    accessed = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"], line["platform"], line["code"]) for line in accessed] == [
        ("/v1/oprf/evaluate", 200, "acme", None),
        ("/v1/oprf/evaluate", 401, "acme", "token_used"),
    ]
    logged = service.logged.getvalue().decode()
    for secret in (b64url(element), answer.json["evaluated"][0], answer.json["proof"], token):
        assert secret not in logged


def test_an_internal_error_says_nothing(service: HolderService, acme: Caller) -> None:
    service.rt.engine.dispose()
    with service.rt.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE used_token")
    answer = service.evaluate(acme, points(1))
    assert (answer.status, answer.code) == (500, "internal")
    assert "used_token" not in answer.body.decode()
    assert b"request_failed" in service.logged.getvalue()


def test_too_many_requests_at_once_are_refused(open_service: Callable[..., HolderService]) -> None:
    service = open_service("south", requests_max=1)
    service.app._waiting = 1
    caller = Caller("acme", "acme-group").admitted(service.rt.engine)
    assert service.evaluate(caller, points(1)).code == "overloaded"
    service.app._waiting = 0
    service.rt.state.refresh()
    assert service.evaluate(caller, points(1)).status == 200
