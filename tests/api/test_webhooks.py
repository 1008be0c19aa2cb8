"""Webhooks over HTTP: seen and touched by their own platform only, secrets shown once, addresses of others only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.rules.webhooks import MessageSource, Recipient, WebhookType
from ledger.server.db.engine import writing
from ledger.server.webhooks.emit import emit
from tests.api.conftest import ACME, BETA, READER, Api, running
from tests.processes import until
from tests.receiver import Receiver, receiving
from tests.support import Platform, new_ledger

EVENTS = ["appeal.opened", "key.rotated"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as first:
        yield first


@pytest.fixture
def endpoint(api: Api, receiver: Receiver) -> Iterator[dict[str, Any]]:
    """An endpoint of ACME, deleted afterwards."""
    response = api.request("POST", "/v1/webhooks", ACME, json={"url": receiver.url, "events": EVENTS})
    assert response.status_code == 201
    yield dict(response.json())
    api.request("DELETE", f"/v1/webhooks/{response.json()['id']}", ACME)


def routes(endpoint: str, message: str) -> list[tuple[str, str]]:
    """Every route about one endpoint."""
    base = f"/v1/webhooks/{endpoint}"
    posts = [f"{base}/{name}" for name in ("rotate", "enable", "test", f"deliveries/{message}/replay")]
    return [("GET", base), ("GET", f"{base}/deliveries"), ("DELETE", base), *(("POST", path) for path in posts)]


def test_an_endpoint_is_told_and_what_became_of_it_can_be_read(
    api: Api, receiver: Receiver, endpoint: dict[str, Any]
) -> None:
    base = f"/v1/webhooks/{endpoint['id']}"
    assert endpoint["url"] == receiver.url
    assert (endpoint["events"], endpoint["status"], endpoint["disabled_reason"]) == (EVENTS, "active", None)
    asked = api.request("POST", f"{base}/test", ACME)
    assert (asked.status_code, asked.json()["type"]) == (200, "webhook.test")
    assert receiver.arrived.acquire(timeout=60)
    arrival = receiver.arrivals[0]
    assert arrival.id == asked.json()["message"]
    assert arrival.verified(endpoint["secret"])["data"] == {"webhook": endpoint["id"]}

    def deliveries() -> list[dict[str, Any]]:
        return list(api.request("GET", f"{base}/deliveries", ACME).json()["data"])

    until(lambda: deliveries()[0]["state"] == "delivered", "not delivered")
    listed = deliveries()
    assert (listed[0]["attempts"], listed[0]["last_status"], listed[0]["next_attempt_at"]) == (1, 204, None)
    replayed = api.request("POST", f"{base}/deliveries/{arrival.id}/replay", ACME)
    assert replayed.status_code == 200
    assert receiver.arrived.acquire(timeout=60)
    assert receiver.ids() == [arrival.id, arrival.id]


def test_deliveries_are_paged_newest_first(api: Api, endpoint: dict[str, Any]) -> None:
    path = f"/v1/webhooks/{endpoint['id']}/deliveries"
    with writing(api.rt.engine) as connection:
        for _ in range(5):
            emit(
                connection,
                api.rt.now(),
                MessageSource(api.rt.settings.service, api.rt.settings.environment),
                "acme",
                WebhookType.APPEAL_OPENED,
                Recipient.FILER,
                {"appeal": "ap_abcdefgh", "state": "submitted"},
            )
    whole = api.request("GET", path, ACME).json()
    seen: list[str] = []
    after: dict[str, str] = {}
    for count, more in ((2, True), (2, True), (1, False)):
        page = api.request("GET", path, ACME, params={"limit": 2, **after}).json()
        assert (len(page["data"]), page["has_more"]) == (count, more)
        seen += [item["message"] for item in page["data"]]
        after = {"starting_after": seen[-1]}
    assert seen == [each["message"] for each in whole["data"]]
    assert len(set(seen)) == 5
    for params in ({"limit": 0}, {"limit": 101}, {"starting_after": "rp_abcdefgh"}, {"starting_after": "x"}):
        refused = api.request("GET", path, ACME, params=params)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_another_platforms_endpoints_do_not_exist(api: Api, receiver: Receiver, endpoint: dict[str, Any]) -> None:
    message = api.request("POST", f"/v1/webhooks/{endpoint['id']}/test", ACME).json()["message"]
    theirs = api.request("POST", "/v1/webhooks", BETA, json={"url": receiver.url, "events": EVENTS}).json()
    for method, path in routes(endpoint["id"], message):
        answer = api.request(method, path, BETA)
        unknown = api.request(method, path.replace(endpoint["id"], "we_abcdefgh"), BETA)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert unknown.json()["detail"] in (answer.json()["detail"], "There is nothing of this id."), path
    replay = f"/v1/webhooks/{theirs['id']}/deliveries/{message}/replay"
    assert api.request("POST", replay, BETA).status_code == 404, "a message of another platform by one's own endpoint"
    assert api.request("GET", f"/v1/webhooks/{theirs['id']}/deliveries", BETA).json()["data"] == []
    assert [item["id"] for item in api.request("GET", "/v1/webhooks", BETA).json()["data"]] == [theirs["id"]]
    still = api.request("GET", f"/v1/webhooks/{endpoint['id']}", ACME).json()
    assert still["previous_secret_until"] is None
    assert api.request("DELETE", f"/v1/webhooks/{theirs['id']}", BETA).status_code == 204
    assert api.request("DELETE", f"/v1/webhooks/{theirs['id']}", BETA).status_code == 404


def test_the_scope_report_or_appeal_is_needed(api: Api, endpoint: dict[str, Any]) -> None:
    for method, path in [("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), *routes(endpoint["id"], "wm_abcdefgh")]:
        assert api.request(method, path).status_code == 401
        assert api.request(method, path, READER).json()["code"] == "scope_missing"
        narrowed = {"Authorization": f"Bearer {api.token(ACME, scope='lookup')}"}
        assert api.request(method, path, headers=narrowed).status_code == 403
    appeals = Platform("appeals", "appeals-group", "appeals-1", scopes=("appeal",)).enrol(api.settings)
    api.rt.members.refresh()
    assert api.request("GET", "/v1/webhooks", appeals).json() == {"data": []}


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Api, endpoint: dict[str, Any]) -> None:
    base = f"/v1/webhooks/{endpoint['id']}"
    rotated = api.request("POST", f"{base}/rotate", ACME).json()
    assert rotated["secret"] != endpoint["secret"]
    assert rotated["previous_secret_until"] is not None
    for method, path in (("GET", "/v1/webhooks"), ("GET", base), ("POST", f"{base}/enable"), ("POST", f"{base}/test")):
        text = api.request(method, path, ACME).text
        assert "whsec_" not in text
        assert 'secret"' not in text
    logged = api.logs.getvalue().decode()
    for secret in (endpoint["secret"], rotated["secret"], "/hook", endpoint["id"]):
        assert secret.removeprefix("whsec_") not in logged
    assert "/v1/webhooks/{webhook_id}/rotate" in logged


def test_five_endpoints_at_most(api: Api, receiver: Receiver) -> None:
    body = {"url": receiver.url, "events": EVENTS}
    created = [api.request("POST", "/v1/webhooks", BETA, json=body) for _ in range(6)]
    assert [each.status_code for each in created] == [201] * 5 + [422]
    assert created[5].json()["code"] == "webhook_invalid"
    listed = api.request("GET", "/v1/webhooks", BETA).json()["data"]
    assert [entry["id"] for entry in listed] == [entry.json()["id"] for entry in created[:5]]
    for item in listed:
        assert api.request("DELETE", f"/v1/webhooks/{item['id']}", BETA).content == b""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": "https://a.example/", "events": []}, "invalid_request"),
        ({"url": "https://a.example/", "events": ["appeal.opened", "appeal.opened"]}, "webhook_invalid"),
        ({"url": "https://a.example/", "events": ["webhook.test"]}, "webhook_invalid"),
        ({"url": "https://a.example/", "events": ["all"]}, "webhook_invalid"),
        ({"url": "https://u:p@a.example/", "events": EVENTS}, "webhook_invalid"),
        ({"url": "ftp://a.example/", "events": EVENTS}, "invalid_request"),
        ({"url": "https://a.example/" + "x" * 500, "events": EVENTS}, "invalid_request"),
        ({"url": "https://a.example/", "events": EVENTS, "secret": "whsec_x"}, "invalid_request"),
        ({"url": "https://a.example/"}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_what_is_no_endpoint(api: Api, body: object, code: str) -> None:
    answer = api.request("POST", "/v1/webhooks", ACME, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert "a.example" not in answer.text


def test_an_endpoint_inside_the_operators_network_is_refused(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    ACME.enrol(settings)
    hosts = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[fd00::1]"]
    urls = [f"https://{host}/" for host in hosts] + ["http://93.184.216.34/", "https://93.184.216.34:22/"]
    with running(settings) as api:
        for url in urls:
            answer = api.request("POST", "/v1/webhooks", ACME, json={"url": url, "events": EVENTS})
            assert (answer.status_code, answer.json()["code"]) == (422, "webhook_invalid"), url
        good = api.request("POST", "/v1/webhooks", ACME, json={"url": "https://93.184.216.34/", "events": EVENTS})
        assert good.status_code == 201
        assert json.loads(api.request("GET", "/v1/webhooks", ACME).text)["data"][0]["id"] == good.json()["id"]
