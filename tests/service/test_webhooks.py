"""Webhooks end to end: written with what they tell, sent to a real receiver, again after failures, once in the good
case, whoever dies."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.client import verify_webhook
from ledger.core.webhooks import LADDER, WebhookType
from ledger.errors import NotFound, WebhookInvalid
from ledger.service.runtime import Runtime
from ledger.service.webhooks import endpoints
from ledger.service.webhooks.emit import KEPT_DAYS, emit, emit_all, forget
from ledger.service.webhooks.sender import CLAIM_SECONDS, Sender
from ledger.store.engine import reading, writing
from ledger.store.webhook_tables import WebhookDelivery, WebhookMessage
from tests.receiver import Arrival, Receiver, Reply, receiving
from tests.service.conftest import Clock
from tests.support import ROOT, Platform, new_ledger, opened, server_environment

DATA = {"appeal": "ap_abcdefgh", "report": "rp_abcdefgh", "state": "submitted"}
EVENTS = ["appeal.opened", "report.voided", "snapshot.published", "key.rotated"]


@dataclass
class Post:
    """A ledger whose own sender rests, with the platforms acme and bolt, and a sender that tests move."""

    rt: Runtime
    clock: Clock
    acme: Platform
    bolt: Platform
    sender: Sender

    def endpoint(self, receiver: Receiver, path: str = "", platform: Platform | None = None) -> dict[str, Any]:
        """Register `receiver`."""
        return endpoints.create(self.rt, (platform or self.acme).member(), receiver.url + path, EVENTS)

    def emit(self, count: int = 1, platform: str = "acme") -> None:
        """Messages about an appeal."""
        with writing(self.rt.engine) as connection:
            for _ in range(count):
                emit(connection, self.clock(), platform, WebhookType.APPEAL_OPENED, DATA)

    def deliveries(self, endpoint: dict[str, Any], platform: Platform | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        member = (platform or self.acme).member()
        found: list[dict[str, Any]] = endpoints.deliveries(self.rt, member, endpoint["id"], 100, None)["data"]
        return found

    def last(self, endpoint: dict[str, Any]) -> tuple[Any, ...]:
        """State, attempts, last status and error of the newest delivery."""
        one = self.deliveries(endpoint)[0]
        return one["state"], one["attempts"], one["last_status"], one["last_error"]

    def another(self, **arguments: Any) -> Sender:
        """One more sender, as another process has one."""
        rt = self.rt
        values: dict[str, Any] = {"jitter": lambda: 0.0, "look_seconds": 0.02, **arguments}
        return Sender(rt.settings, rt.engine, rt.keys.sealing_key, self.clock, **values)


@pytest.fixture
def post(database_url: str, tmp_path: Path) -> Iterator[Post]:
    settings = new_ledger(database_url, tmp_path, webhook_allow_private=True)
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    bolt = Platform("bolt", "bolt-group", "bolt-1").enrol(settings)
    clock = Clock()
    with opened(settings, clock) as rt:
        rt.sender.close()
        made = Post(rt, clock, acme, bolt, None)  # type: ignore[arg-type]
        made.sender = made.another()
        yield made
        made.sender.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def count(rt: Runtime, model: type[WebhookMessage] | type[WebhookDelivery]) -> int:
    with reading(rt.engine) as connection:
        return len(connection.execute(model.__table__.select()).all())


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_message_arrives_signed_as_the_specification_says(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    post.emit()
    assert post.sender.round() == 1
    (arrival,) = receiver.arrivals
    assert arrival.verified(endpoint["secret"])["data"] == DATA
    assert (arrival.path, arrival.headers["host"]) == ("/hook?from=ledger", f"127.0.0.1:{receiver.port}")
    assert arrival.headers["content-type"] == "application/json"
    event = verify_webhook(endpoint["secret"], arrival.headers, arrival.body, post.clock())
    assert (event.id, event.type, event.occurred_at) == (arrival.id, "appeal.opened", post.clock())
    assert arrival.id == post.deliveries(endpoint)[0]["message"]
    assert post.last(endpoint) == ("delivered", 1, 204, None)
    assert post.sender.round() == 0


def test_nothing_is_written_for_nobody(post: Post, receiver: Receiver) -> None:
    post.emit()
    endpoints.create(post.rt, post.acme.member(), receiver.url, ["key.rotated"])
    post.emit()
    post.emit(platform="nobody")
    assert (count(post.rt, WebhookMessage), count(post.rt, WebhookDelivery)) == (0, 0)


def test_what_is_rolled_back_is_not_told(post: Post, receiver: Receiver) -> None:
    post.endpoint(receiver)
    with pytest.raises(RuntimeError), writing(post.rt.engine) as connection:
        emit(connection, post.clock(), "acme", WebhookType.APPEAL_OPENED, DATA)
        raise RuntimeError
    assert count(post.rt, WebhookMessage) == 0


def test_all_platforms_are_told_but_suspended_ones(post: Post, receiver: Receiver) -> None:
    acme, bolt = post.endpoint(receiver), post.endpoint(receiver, platform=post.bolt)
    second = post.endpoint(receiver, "&second")
    with writing(post.rt.engine) as connection:
        emit_all(connection, post.clock(), WebhookType.KEY_ROTATED, {"epoch": 2, "state": "announced"})
    post.sender.round()
    assert sorted(one.path for one in receiver.arrivals) == ["/hook?from=ledger"] * 2 + ["/hook?from=ledger&second"]
    assert len(set(receiver.ids())) == 2, "one message a platform"
    assert [len(post.deliveries(one)) for one in (acme, second)] == [1, 1]
    assert post.deliveries(bolt, post.bolt)[0]["state"] == "delivered"
    from ledger.service.members import set_status

    set_status(post.rt.engine, platform="bolt", status="suspended", now=post.clock())
    with writing(post.rt.engine) as connection:
        emit_all(connection, post.clock(), WebhookType.KEY_ROTATED, {"epoch": 2, "state": "switched"})
    assert len(post.deliveries(bolt, post.bolt)) == 1
    assert len(post.deliveries(acme)) == 2


def test_messages_are_forgotten_after_thirty_days(post: Post, receiver: Receiver) -> None:
    post.endpoint(receiver)
    post.emit(3)
    post.sender.round()
    post.clock.moment += timedelta(days=KEPT_DAYS)
    assert forget(post.rt.engine, post.clock()) == 0
    post.emit()
    post.clock.moment += timedelta(seconds=1)
    assert forget(post.rt.engine, post.clock()) == 3
    assert (count(post.rt, WebhookMessage), count(post.rt, WebhookDelivery)) == (1, 1)
    assert forget(post.rt.engine, post.clock()) == 0
    post.emit()
    post.sender.round()
    assert len(set(receiver.ids())) == 5, "an id is never used again"


# --- trying again -------------------------------------------------------------------------------------------------


def test_the_ladder_is_climbed_under_one_id_and_then_it_has_failed(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(500)
    endpoint = post.endpoint(receiver)
    post.emit()
    for attempt, wait in enumerate(LADDER, 1):
        if wait:
            post.clock.moment += wait - timedelta(milliseconds=1)
            assert post.sender.round() == 0
            post.clock.moment += timedelta(milliseconds=1)
        assert post.sender.round() == 1
        assert post.last(endpoint) == ("pending" if attempt < 10 else "failed", attempt, 500, "status")
        arrival = receiver.arrivals[-1]
        event = verify_webhook(endpoint["secret"], arrival.headers, arrival.body, post.clock())
        assert event.sent_at == post.clock().replace(microsecond=0), "each attempt is signed with its own time"
    post.clock.moment += timedelta(days=20)
    assert post.sender.round() == 0
    assert len(set(receiver.ids())) == 1
    assert len({one.body for one in receiver.arrivals}) == 1


def test_what_failed_first_arrives_later(post: Post, receiver: Receiver) -> None:
    replies = iter([Reply(503), Reply(200, body=b"ok")])
    receiver.reply = lambda _arrival: next(replies)
    endpoint = post.endpoint(receiver)
    post.emit()
    post.sender.round()
    post.clock.moment += timedelta(seconds=5)
    post.sender.round()
    assert post.last(endpoint) == ("delivered", 2, 200, None)


def test_a_receiver_may_ask_to_wait_up_to_the_next_rung(post: Post, receiver: Receiver) -> None:
    asked = {"429": "60", "503": "99999", "500": "60"}
    receiver.reply = lambda arrival: Reply(int(arrival.path[-3:]), {"Retry-After": asked[arrival.path[-3:]]})
    made = {status: post.endpoint(receiver, f"&{status}") for status in asked}
    post.emit()
    post.sender.round()
    waits = {}
    for status, endpoint in made.items():
        due = post.deliveries(endpoint)[0]["next_attempt_at"]
        seconds = {5: 5, 60: 60, 300: 300}
        waits[status] = next(s for s in seconds if due == format_after(post, s))
    assert waits == {"429": 60, "503": 300, "500": 5}


def format_after(post: Post, seconds: int) -> str:
    return (post.clock() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_redirect_is_a_failure_and_is_not_followed(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(302, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"})
    endpoint = post.endpoint(receiver)
    post.emit()
    post.sender.round()
    assert post.last(endpoint) == ("pending", 1, 302, "redirect")
    assert [one.path for one in receiver.arrivals] == ["/hook?from=ledger"]


def test_gone_disables_the_endpoint_until_it_is_enabled(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(410)
    endpoint, member = post.endpoint(receiver), post.acme.member()
    post.emit(3)
    assert post.sender.round() == 1
    view = endpoints.get(post.rt, member, endpoint["id"])
    assert (view["status"], view["disabled_reason"]) == ("disabled", "gone")
    assert {one["state"] for one in post.deliveries(endpoint)} == {"cancelled"}
    post.emit()
    assert len(post.deliveries(endpoint)) == 3
    message = post.deliveries(endpoint)[0]["message"]
    for ask in (lambda: endpoints.send_test(post.rt, member, endpoint["id"]),
                lambda: endpoints.replay(post.rt, member, endpoint["id"], message)):  # fmt: skip
        with pytest.raises(WebhookInvalid, match="disabled"):
            ask()
    receiver.reply = lambda _arrival: Reply()
    assert endpoints.enable(post.rt, member, endpoint["id"])["status"] == "active"
    assert post.sender.round() == 0
    endpoints.replay(post.rt, member, endpoint["id"], message)
    assert post.sender.round() == 1
    assert receiver.ids()[-1] == message


def test_nobody_there_and_a_receiver_that_hangs_up(post: Post) -> None:
    with receiving() as gone:
        endpoint = post.endpoint(gone)
    post.emit()
    post.sender.round()
    assert post.last(endpoint) == ("pending", 1, None, "connect_failed")


def test_an_answer_of_any_length_is_cut_short(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(200, body=b"x" * 50_000_000)
    endpoint = post.endpoint(receiver)
    post.emit()
    started = time.monotonic()
    post.sender.round()
    assert time.monotonic() - started < 5
    assert post.last(endpoint) == ("delivered", 1, 200, None)


@pytest.mark.parametrize("reply", ["silent", "dripping"])
def test_a_slow_receiver_is_given_up_and_holds_up_nobody(post: Post, receiver: Receiver, reply: str) -> None:
    """One that says nothing, and one that sends a byte now and then, which no timeout of a single read would end."""
    hang = threading.Event()
    slow_reply = Reply(wait=hang) if reply == "silent" else Reply(drip=True)
    receiver.reply = lambda arrival: slow_reply if arrival.path.endswith("slow") else Reply()
    slow, quick = post.endpoint(receiver, "&slow"), post.endpoint(receiver)
    sender = post.another(timeout_seconds=0.3)
    post.emit(5)
    runs = threading.Thread(target=sender.round)
    runs.start()
    for _ in range(6):
        assert receiver.arrived.acquire(timeout=10)
    assert sum(one.path.endswith("slow") for one in receiver.arrivals) <= 2, "the quick one had all five meanwhile"
    for _ in range(4):
        assert receiver.arrived.acquire(timeout=10)
    runs.join(10)
    hang.set()
    assert {one["state"] for one in post.deliveries(quick)} == {"delivered"}
    assert {(one["state"], one["last_error"]) for one in post.deliveries(slow)} == {("pending", "timeout")}
    sender.close()


# --- secrets --------------------------------------------------------------------------------------------------------


def test_both_secrets_sign_for_a_day_after_a_rotation(post: Post, receiver: Receiver) -> None:
    first = post.endpoint(receiver)
    second = endpoints.rotate(post.rt, post.acme.member(), first["id"])
    assert second["secret"] != first["secret"]
    post.emit()
    post.sender.round()
    for one in (first, second):
        assert receiver.arrivals[-1].verified(one["secret"])["data"] == DATA
    assert receiver.arrivals[-1].headers["webhook-signature"].count("v1,") == 2
    third = endpoints.rotate(post.rt, post.acme.member(), first["id"])
    post.clock.moment += timedelta(hours=24) - timedelta(seconds=1)
    post.emit()
    post.sender.round()
    arrival = receiver.arrivals[-1]
    for one in (second, third):
        verify_webhook(one["secret"], arrival.headers, arrival.body, post.clock())
    post.clock.moment += timedelta(seconds=1)
    post.emit()
    post.sender.round()
    arrival = receiver.arrivals[-1]
    assert arrival.headers["webhook-signature"].count("v1,") == 1
    verify_webhook(third["secret"], arrival.headers, arrival.body, post.clock())


def test_secrets_lie_sealed_and_are_shown_once(post: Post, receiver: Receiver) -> None:
    made = post.endpoint(receiver)
    endpoints.rotate(post.rt, post.acme.member(), made["id"])
    shown = json.dumps([endpoints.list_all(post.rt, post.acme.member()), post.deliveries(made)])
    assert "whsec_" not in shown
    assert 'secret"' not in shown
    with reading(post.rt.engine) as connection:
        (row,) = connection.exec_driver_sql("SELECT secret, previous_secret FROM webhook_endpoint").all()
    import base64

    raw = base64.b64decode(made["secret"].removeprefix("whsec_"))
    assert all(raw not in bytes(sealed) for sealed in row)


# --- several senders ------------------------------------------------------------------------------------------------


def test_several_senders_deliver_each_message_once(post: Post, receiver: Receiver) -> None:
    made = [post.endpoint(receiver, f"&{number}") for number in range(3)]
    post.emit(12)
    senders = [post.another() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        attempts = sum(pool.map(Sender.round, senders))
    assert attempts == len(receiver.arrivals) == 36
    assert len({(one.id, one.path) for one in receiver.arrivals}) == 36
    assert all(one["attempts"] == 1 for endpoint in made for one in post.deliveries(endpoint))
    for sender in senders:
        sender.close()


def process(post: Post) -> subprocess.Popen[str]:
    """A sender in a process of its own, ready to send."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.service.webhook_process", post.clock().isoformat()],
        cwd=ROOT,
        env={**os.environ, **server_environment(post.rt.settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def go(started: subprocess.Popen[str]) -> None:
    assert started.stdin is not None
    started.stdin.write("go\n")
    started.stdin.flush()


def test_several_processes_deliver_each_message_once(post: Post, receiver: Receiver) -> None:
    made = [post.endpoint(receiver, f"&{number}") for number in range(3)]
    post.emit(10)
    processes = [process(post) for _ in range(2)]
    for one in processes:
        go(one)
    outputs = [one.communicate(timeout=60)[0] for one in processes]
    assert sum(json.loads(output)["attempts"] for output in outputs) == 30
    assert len(receiver.arrivals) == len({(one.id, one.path) for one in receiver.arrivals}) == 30
    assert all(one["state"] == "delivered" for endpoint in made for one in post.deliveries(endpoint))


def test_what_a_killed_sender_had_in_hand_another_one_delivers(post: Post, receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.reply = lambda _arrival: Reply(wait=hold)
    endpoint = post.endpoint(receiver)
    post.emit()
    killed = process(post)
    go(killed)
    assert receiver.arrived.acquire(timeout=20), "the receiver has it and holds the answer"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=20)
    hold.set()
    receiver.reply = lambda _arrival: Reply()
    assert post.sender.round() == 0, "the claim lasts"
    post.clock.moment += timedelta(seconds=CLAIM_SECONDS)
    assert post.sender.round() == 1
    assert post.last(endpoint)[:3] == ("delivered", 1, 204)
    first, second = receiver.ids()
    assert first == second, "so that the receiver can drop it"


def test_a_sender_that_stops_gives_back_what_is_in_the_air(post: Post, receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.reply = lambda _arrival: Reply(wait=hold)
    endpoint = post.endpoint(receiver)
    post.emit()
    sender = post.another().start()
    assert receiver.arrived.acquire(timeout=10)
    sender.close()
    hold.set()
    assert post.last(endpoint) == ("pending", 0, None, None)
    receiver.reply = lambda _arrival: Reply()
    assert post.sender.round() == 1, "at once, without waiting for the claim"


def test_a_verdict_that_comes_too_late_changes_nothing_unless_it_is_good(post: Post, receiver: Receiver) -> None:
    """A sender stops for longer than its claim lasts, and another one has the delivery in hand."""
    verdicts = {"bad": Reply(500), "good": Reply(200)}
    for name, late in verdicts.items():
        hold = threading.Event()
        waits = Reply(late.status, wait=hold)
        receiver.reply = lambda _arrival, reply=waits: reply
        endpoint = post.endpoint(receiver, f"&{name}")
        post.emit()
        first, second = post.another(), post.another()
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(first.round)
            while not any(one.path.endswith(name) for one in receiver.arrivals):
                time.sleep(0.005)
            post.clock.moment += timedelta(seconds=CLAIM_SECONDS)
            again = threading.Event()
            receiver.reply = lambda _arrival, again=again: Reply(201, wait=again)
            other = pool.submit(second.round)
            while sum(one.path.endswith(name) for one in receiver.arrivals) < 2:
                time.sleep(0.005)
            hold.set()
            slow.result(20)
            expected = ("pending", 0, None, None) if name == "bad" else ("delivered", 1, 200, None)
            assert post.last(endpoint) == expected
            again.set()
            other.result(20)
        assert post.last(endpoint)[0] == "delivered"
        endpoints.delete(post.rt, post.acme.member(), endpoint["id"])


def test_the_runtime_has_a_sender(database_url: str, tmp_path: Path, receiver: Receiver) -> None:
    settings = new_ledger(database_url, tmp_path, webhook_allow_private=True)
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    with opened(settings) as rt:
        made = endpoints.create(rt, acme.member(), receiver.url, EVENTS)
        endpoints.send_test(rt, acme.member(), made["id"])
        assert receiver.arrived.acquire(timeout=10)
        assert receiver.arrivals[0].verified(made["secret"])["data"] == {"webhook": made["id"]}


# --- looking after them ---------------------------------------------------------------------------------------------


def test_a_platform_has_at_most_five_endpoints(post: Post, receiver: Receiver) -> None:
    made = [post.endpoint(receiver, f"&{number}") for number in range(5)]
    with pytest.raises(WebhookInvalid, match="at most 5"):
        post.endpoint(receiver)
    post.endpoint(receiver, platform=post.bolt)
    endpoints.delete(post.rt, post.acme.member(), made[2]["id"])
    again = post.endpoint(receiver)
    assert again["id"] not in {one["id"] for one in made}


def test_deleting_takes_the_deliveries_along(post: Post, receiver: Receiver) -> None:
    made = post.endpoint(receiver)
    post.emit(2)
    endpoints.delete(post.rt, post.acme.member(), made["id"])
    assert count(post.rt, WebhookDelivery) == 0
    assert post.sender.round() == 0
    with pytest.raises(NotFound):
        endpoints.get(post.rt, post.acme.member(), made["id"])


def test_tests_do_not_pile_up(post: Post, receiver: Receiver) -> None:
    made, member = post.endpoint(receiver), post.acme.member()
    first = endpoints.send_test(post.rt, member, made["id"])
    assert endpoints.send_test(post.rt, member, made["id"]) == first
    assert post.sender.round() == 1
    assert endpoints.send_test(post.rt, member, made["id"])["message"] != first["message"]


def test_a_replay_starts_the_ladder_again_under_the_same_id(post: Post, receiver: Receiver) -> None:
    made, member = post.endpoint(receiver), post.acme.member()
    post.emit()
    post.sender.round()
    message = receiver.ids()[0]
    receiver.reply = lambda _arrival: Reply(500)
    assert endpoints.replay(post.rt, member, made["id"], message)["state"] == "pending"
    assert post.sender.round() == 1
    assert post.last(made) == ("pending", 1, 500, "status")
    endpoints.replay(post.rt, member, made["id"], message)
    assert post.sender.round() == 1, "while it waits for its rung, a replay does not"
    assert post.last(made) == ("pending", 2, 500, "status")
    assert set(receiver.ids()) == {message}
    with pytest.raises(NotFound):
        endpoints.replay(post.rt, member, made["id"], "wm_abcdefgh")


# --- where it may go ------------------------------------------------------------------------------------------------


def test_only_public_addresses_are_registered_and_connected_to(post: Post, receiver: Receiver) -> None:
    """The name is public when it is registered and leads inside when it is used: it is not connected to."""
    closed = post.rt.settings.model_copy(update={"webhook_allow_private": False})
    object.__setattr__(post.rt, "settings", closed)
    member = post.acme.member()
    url = f"https://hooks.acme.example:8443/{receiver.port}"
    for answers in ([], ["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:169.254.169.254"]):
        with pytest.raises(WebhookInvalid, match="public"):
            endpoints.create(post.rt, member, url, EVENTS, resolve=lambda _h, _p, answers=answers: answers)
    made = endpoints.create(post.rt, member, url, EVENTS, resolve=lambda _h, _p: ["93.184.216.34"])
    asked: list[str] = []

    def rebound(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34", "127.0.0.1"]

    post.emit()
    post.another(resolve=rebound).round()
    assert asked == ["hooks.acme.example"], "resolved once"
    assert post.last(made) == ("pending", 1, None, "host_refused")
    assert receiver.arrivals == []
    with pytest.raises(WebhookInvalid):
        endpoints.create(post.rt, member, receiver.url, EVENTS)


def test_an_endpoint_from_before_the_rule_is_refused_when_it_is_sent_to(post: Post, receiver: Receiver) -> None:
    made = post.endpoint(receiver)
    object.__setattr__(post.rt, "settings", post.rt.settings.model_copy(update={"webhook_allow_private": False}))
    post.emit()
    post.another().round()
    assert post.last(made) == ("pending", 1, None, "url_refused")
    assert receiver.arrivals == []


def test_nothing_secret_is_logged(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies: list[Callable[[Arrival], Reply]] = [lambda _a: Reply(500), lambda _a: Reply(410)]
    for reply in replies:
        with receiving(reply) as receiver:
            made = post.endpoint(receiver, "&token=sesame")
            post.emit()
            post.sender.round()
            written = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("ledger"))
            for secret in (made["secret"], "sesame", str(receiver.port), DATA["appeal"]):
                assert secret not in written
            endpoints.delete(post.rt, post.acme.member(), made["id"])
    assert "webhook_endpoint_disabled" in caplog.text
