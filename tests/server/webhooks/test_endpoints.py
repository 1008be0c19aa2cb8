"""Webhooks: written in the transaction of their event, for the platforms they concern, managed by the platform, and
never sent to addresses that only the operator may reach."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.client import verify_webhook
from ledger.errors import NotFound, WebhookInvalid
from ledger.protocol.encoding import b64url
from ledger.rules.webhooks import WebhookType
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.webhooks import WebhookDelivery, WebhookMessage
from ledger.server.keys.files import load_log_key
from ledger.server.platforms.members import set_status
from ledger.server.rotation.retire import retire
from ledger.server.rotation.run import announce, rotate
from ledger.server.runtime import Runtime
from ledger.server.snapshots.builder import build_and_publish
from ledger.server.webhooks import endpoints
from ledger.server.webhooks.attempt import Resolve
from ledger.server.webhooks.emit import KEPT_DAYS, emit_all, forget
from tests.receiver import Arrival, Receiver, Reply, receiving
from tests.support import Platform, new_ledger, opened, with_settings
from tests.webhook_kit import DATA, EVENTS, Post

pytestmark = pytest.mark.one_engine


def count(rt: Runtime, model: type[WebhookMessage] | type[WebhookDelivery]) -> int:
    with reading(rt.engine) as connection:
        return len(connection.execute(model.__table__.select()).all())


# --- writing ------------------------------------------------------------------------------------------


def test_a_message_arrives_signed_as_the_specification_says(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    post.emit()
    assert post.sender.round() == 1
    (arrival,) = receiver.arrivals
    assert arrival.verified(endpoint["secret"])["data"] == DATA
    assert (arrival.path, arrival.headers["host"]) == ("/hook?from=ledger", f"127.0.0.1:{receiver.port}")
    assert arrival.headers["content-type"] == "application/json"
    event = verify_webhook(endpoint["secret"], arrival.headers, arrival.body, post.now())
    assert (event.id, event.type, event.occurred_at) == (arrival.id, "appeal.opened", post.now())
    assert arrival.id == post.deliveries(endpoint)[0]["message"]
    assert post.last(endpoint) == ("delivered", 1, 204, None)
    assert post.sender.round() == 0


def test_nothing_is_written_without_a_subscriber(post: Post, receiver: Receiver) -> None:
    post.emit()
    endpoints.create(post.rt.webhooks, post.acme.member(), receiver.url, ["key.rotated"])
    post.emit()
    post.emit(platform="nobody")
    assert (count(post.rt, WebhookMessage), count(post.rt, WebhookDelivery)) == (0, 0)


def test_what_is_rolled_back_is_not_sent(post: Post, receiver: Receiver) -> None:
    post.endpoint(receiver)
    with pytest.raises(RuntimeError), writing(post.rt.engine) as connection:
        post.write(connection)
        raise RuntimeError
    assert count(post.rt, WebhookMessage) == 0


def test_all_platforms_but_suspended_ones_get_it(post: Post, receiver: Receiver) -> None:
    acme, bolt = post.endpoint(receiver), post.endpoint(receiver, platform=post.bolt)
    second = post.endpoint(receiver, "&second")
    rotated: dict[str, str | int] = {"epoch": 2, "entry_index": 9}
    with writing(post.rt.engine) as connection:
        emit_all(connection, post.now(), post.source, WebhookType.KEY_ROTATED, {**rotated, "state": "announced"})
    post.sender.round()
    assert sorted(arrival.path for arrival in receiver.arrivals) == ["/hook?from=ledger"] * 2 + [
        "/hook?from=ledger&second"
    ]
    assert len(set(receiver.ids())) == 2, "one message a platform"
    assert [len(post.deliveries(endpoint)) for endpoint in (acme, second)] == [1, 1]
    assert post.deliveries(bolt, post.bolt)[0]["state"] == "delivered"
    set_status(post.rt.engine, platform="bolt", status="suspended", now=post.now())
    with writing(post.rt.engine) as connection:
        emit_all(connection, post.now(), post.source, WebhookType.KEY_ROTATED, {**rotated, "state": "switched"})
    assert len(post.deliveries(bolt, post.bolt)) == 1
    assert len(post.deliveries(acme)) == 2


def test_messages_are_forgotten_after_thirty_days(post: Post, receiver: Receiver) -> None:
    post.endpoint(receiver)
    post.emit(3)
    post.sender.round()
    post.moment += timedelta(days=KEPT_DAYS)
    assert forget(post.rt.engine, post.now()) == 0
    post.emit()
    post.moment += timedelta(seconds=1)
    assert forget(post.rt.engine, post.now()) == 3
    assert (count(post.rt, WebhookMessage), count(post.rt, WebhookDelivery)) == (1, 1)
    assert forget(post.rt.engine, post.now()) == 0
    post.emit()
    post.sender.round()
    assert len(set(receiver.ids())) == 5, "an id is never used again"


def test_a_published_snapshot_and_a_rotated_key_are_sent(post: Post, receiver: Receiver) -> None:
    post.endpoint(receiver)
    post.moment += timedelta(seconds=2)  # past the entries of enrolment, which were made by the real clock
    settings, engine = post.rt.settings, post.rt.engine
    key = load_log_key(settings)
    snapshot = build_and_publish(settings, engine, key, post.now(), random_bytes=secrets.token_bytes)
    announce(settings, engine, post.now())
    rotate(settings, engine, post.now)
    retire(settings, engine, post.now, early=True)
    post.sender.round()
    events = [(event["type"], event["data"]) for event in (json.loads(arrival.body) for arrival in receiver.arrivals)]
    assert events[0] == (
        "snapshot.published",
        {
            "version": b64url(snapshot.version),
            "cut": snapshot.manifest.cut,
            "epoch": 1,
            "entry_index": snapshot.entry_index,
        },
    )
    assert [(name, data["epoch"], data["state"]) for name, data in events[1:]] == [
        ("key.rotated", 2, "announced"),
        ("key.rotated", 2, "switched"),
        ("key.rotated", 1, "retired"),
    ]
    indexes = [data["entry_index"] for _, data in events]
    assert indexes == sorted(set(indexes))


# --- looking after them --------------------------------------------------------------------------------------


def test_a_platform_has_at_most_five_endpoints(post: Post, receiver: Receiver) -> None:
    registered = [post.endpoint(receiver, f"&{number}") for number in range(5)]
    with pytest.raises(WebhookInvalid, match="at most 5"):
        post.endpoint(receiver)
    post.endpoint(receiver, platform=post.bolt)
    endpoints.delete(post.rt.webhooks, post.acme.member(), registered[2]["id"])
    again = post.endpoint(receiver)
    assert again["id"] not in {endpoint["id"] for endpoint in registered}


def test_deleting_takes_the_deliveries_along(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    post.emit(2)
    endpoints.delete(post.rt.webhooks, post.acme.member(), endpoint["id"])
    assert count(post.rt, WebhookDelivery) == 0
    assert post.sender.round() == 0
    with pytest.raises(NotFound):
        endpoints.get(post.rt.webhooks, post.acme.member(), endpoint["id"])


def test_tests_do_not_pile_up(post: Post, receiver: Receiver) -> None:
    endpoint, member = post.endpoint(receiver), post.acme.member()
    first = endpoints.send_test(post.rt.webhooks, member, endpoint["id"])
    assert endpoints.send_test(post.rt.webhooks, member, endpoint["id"]) == first
    assert post.sender.round() == 1
    assert endpoints.send_test(post.rt.webhooks, member, endpoint["id"])["message"] != first["message"]


def test_a_replay_starts_the_schedule_again_under_the_same_id(post: Post, receiver: Receiver) -> None:
    endpoint, member = post.endpoint(receiver), post.acme.member()
    post.emit()
    post.sender.round()
    message = receiver.ids()[0]
    receiver.reply = lambda _arrival: Reply(500)
    assert endpoints.replay(post.rt.webhooks, member, endpoint["id"], message)["state"] == "pending"
    assert post.sender.round() == 1
    assert post.last(endpoint) == ("pending", 1, 500, "status")
    endpoints.replay(post.rt.webhooks, member, endpoint["id"], message)
    assert post.sender.round() == 1, "while it waits for its next attempt, a replay does not"
    assert post.last(endpoint) == ("pending", 2, 500, "status")
    assert set(receiver.ids()) == {message}
    with pytest.raises(NotFound):
        endpoints.replay(post.rt.webhooks, member, endpoint["id"], "wm_abcdefgh")


# --- where it may go ------------------------------------------------------------------------------------------


def resolving(addresses: list[str]) -> Resolve:
    """Return a resolver with one fixed answer."""
    return lambda _host, _port: addresses


def test_only_public_addresses_are_registered_and_connected_to(post: Post, receiver: Receiver) -> None:
    """The name has a public address at registration and a private one at the attempt: no connection is made."""
    closed = post.rt.settings.model_copy(update={"webhook_allow_private": False})
    post.rt = with_settings(post.rt, closed)
    member = post.acme.member()
    url = f"https://hooks.acme.example:8443/{receiver.port}"
    for answers in ([], ["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:169.254.169.254"]):
        with pytest.raises(WebhookInvalid, match="public"):
            endpoints.create(post.rt.webhooks, member, url, EVENTS, resolve=resolving(answers))
    endpoint = endpoints.create(post.rt.webhooks, member, url, EVENTS, resolve=resolving(["93.184.216.34"]))
    asked: list[str] = []

    def rebound(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34", "127.0.0.1"]

    post.emit()
    post.another(resolve=rebound).round()
    assert asked == ["hooks.acme.example"], "resolved once"
    assert post.last(endpoint) == ("pending", 1, None, "host_refused")
    assert receiver.arrivals == []
    with pytest.raises(WebhookInvalid):
        endpoints.create(post.rt.webhooks, member, receiver.url, EVENTS)


def test_an_endpoint_from_before_the_rule_is_refused_when_it_is_sent_to(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    object.__setattr__(post.rt, "settings", post.rt.settings.model_copy(update={"webhook_allow_private": False}))
    post.emit()
    post.another().round()
    assert post.last(endpoint) == ("pending", 1, None, "url_refused")
    assert receiver.arrivals == []


def test_nothing_secret_is_logged(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies: list[Callable[[Arrival], Reply]] = [lambda _a: Reply(500), lambda _a: Reply(410)]
    for reply in replies:
        with receiving(reply) as receiver:
            endpoint = post.endpoint(receiver, "&token=sesame")
            post.emit()
            post.sender.round()
            written = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("ledger"))
            for secret in (endpoint["secret"], "sesame", str(receiver.port), DATA["appeal"]):
                assert secret not in written
            endpoints.delete(post.rt.webhooks, post.acme.member(), endpoint["id"])
    assert "webhook_endpoint_disabled" in caplog.text


def test_the_runtime_has_a_sender(database_url: str, tmp_path: Path, receiver: Receiver) -> None:
    settings = new_ledger(database_url, tmp_path, webhook_allow_private=True)
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    with opened(settings) as rt:
        endpoint = endpoints.create(rt.webhooks, acme.member(), receiver.url, EVENTS)
        endpoints.send_test(rt.webhooks, acme.member(), endpoint["id"])
        assert receiver.arrived.acquire(timeout=60)
        assert receiver.arrivals[0].verified(endpoint["secret"])["data"] == {"webhook": endpoint["id"]}
