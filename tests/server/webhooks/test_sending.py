"""Sending webhooks to a real receiver: again after failures, signed by both secrets, once if all goes well, also when a
process dies."""

from __future__ import annotations

import base64
import json
import os
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledger.client import verify_webhook
from ledger.errors import WebhookInvalid
from ledger.rules.webhooks import RETRY_SCHEDULE
from ledger.server.db.engine import reading
from ledger.server.webhooks import endpoints
from ledger.server.webhooks.sender import CLAIM_SECONDS, Sender
from tests.forked import ForkedProcess
from tests.receiver import Receiver, Reply, always, receiving
from tests.support import ROOT, server_environment
from tests.webhook_kit import DATA, EVENTS, Post

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

# --- trying again ------------------------------------------------------------------------------------------


def test_attempts_follow_the_schedule_under_one_id_and_then_it_has_failed(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(500)
    endpoint = post.endpoint(receiver)
    post.emit()
    for attempt, wait in enumerate(RETRY_SCHEDULE, 1):
        if wait:
            post.moment += wait - timedelta(milliseconds=1)
            assert post.sender.round() == 0
            post.moment += timedelta(milliseconds=1)
        assert post.sender.round() == 1
        assert post.last(endpoint) == ("pending" if attempt < 10 else "failed", attempt, 500, "status")
        arrival = receiver.arrivals[-1]
        event = verify_webhook(endpoint["secret"], arrival.headers, arrival.body, post.now())
        assert event.sent_at == post.now().replace(microsecond=0), "each attempt is signed with its own time"
    post.moment += timedelta(days=20)
    assert post.sender.round() == 0
    assert len(set(receiver.ids())) == 1
    assert len({arrival.body for arrival in receiver.arrivals}) == 1


def test_what_failed_first_arrives_later(post: Post, receiver: Receiver) -> None:
    replies = iter([Reply(503), Reply(200, body=b"ok")])
    receiver.reply = lambda _arrival: next(replies)
    endpoint = post.endpoint(receiver)
    post.emit()
    post.sender.round()
    post.moment += timedelta(seconds=5)
    post.sender.round()
    assert post.last(endpoint) == ("delivered", 2, 200, None)


def test_a_receiver_may_ask_to_wait_up_to_the_next_scheduled_wait(post: Post, receiver: Receiver) -> None:
    asked = {"429": "60", "503": "99999", "500": "60"}
    receiver.reply = lambda arrival: Reply(int(arrival.path[-3:]), {"Retry-After": asked[arrival.path[-3:]]})
    endpoints_of = {status: post.endpoint(receiver, f"&{status}") for status in asked}
    post.emit()
    post.sender.round()
    waits = {}
    for status, endpoint in endpoints_of.items():
        due = post.deliveries(endpoint)[0]["next_attempt_at"]
        seconds = {5: 5, 60: 60, 300: 300}
        waits[status] = next(s for s in seconds if due == format_after(post, s))
    assert waits == {"429": 60, "503": 300, "500": 5}


def format_after(post: Post, seconds: int) -> str:
    return (post.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_redirect_is_a_failure_and_is_not_followed(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(302, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"})
    endpoint = post.endpoint(receiver)
    post.emit()
    post.sender.round()
    assert post.last(endpoint) == ("pending", 1, 302, "redirect")
    assert [arrival.path for arrival in receiver.arrivals] == ["/hook?from=ledger"]


def test_gone_disables_the_endpoint_until_it_is_enabled(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(410)
    endpoint, member = post.endpoint(receiver), post.acme.member()
    post.emit(3)
    assert post.sender.round() == 1
    view = endpoints.get(post.rt.webhooks, member, endpoint["id"])
    assert (view["status"], view["disabled_reason"]) == ("disabled", "gone")
    assert {delivery["state"] for delivery in post.deliveries(endpoint)} == {"cancelled"}
    post.emit()
    assert len(post.deliveries(endpoint)) == 3
    message = post.deliveries(endpoint)[0]["message"]
    with pytest.raises(WebhookInvalid, match="disabled"):
        endpoints.send_test(post.rt.webhooks, member, endpoint["id"])
    with pytest.raises(WebhookInvalid, match="disabled"):
        endpoints.replay(post.rt.webhooks, member, endpoint["id"], message)
    receiver.reply = lambda _arrival: Reply()
    assert endpoints.enable(post.rt.webhooks, member, endpoint["id"])["status"] == "active"
    assert post.sender.round() == 0
    endpoints.replay(post.rt.webhooks, member, endpoint["id"], message)
    assert post.sender.round() == 1
    assert receiver.ids()[-1] == message


def test_no_receiver_and_a_receiver_that_hangs_up(post: Post, receiver: Receiver) -> None:
    receiver.reply = always(Reply(0))
    rude = post.endpoint(receiver)
    with receiving() as gone:
        endpoint = post.endpoint(gone)
    post.emit()
    post.sender.round()
    assert post.last(endpoint) == ("pending", 1, None, "connect_failed")
    assert post.last(rude) == ("pending", 1, None, "connection_lost")


def test_an_answer_of_any_length_is_cut_short(post: Post, receiver: Receiver) -> None:
    receiver.reply = lambda _arrival: Reply(200, body=b"x" * 50_000_000)
    endpoint = post.endpoint(receiver)
    post.emit()
    started = time.monotonic()
    post.sender.round()
    assert time.monotonic() - started < 5
    assert post.last(endpoint) == ("delivered", 1, 200, None)


@pytest.mark.parametrize("reply", ["silent", "dripping"])
def test_a_slow_receiver_is_given_up_and_delays_no_other(post: Post, receiver: Receiver, reply: str) -> None:
    """One receiver sends nothing, and one sends single bytes slowly, which no timeout of a single read would end."""
    hang = threading.Event()
    slow_reply = Reply(wait=hang) if reply == "silent" else Reply(drip=True)
    receiver.reply = lambda arrival: slow_reply if arrival.path.endswith("slow") else Reply()
    slow, quick = post.endpoint(receiver, "&slow"), post.endpoint(receiver)
    sender = post.another(timeout_seconds=1.0)
    post.emit(3)
    runs = threading.Thread(target=sender.round)
    runs.start()
    while sum(not arrival.path.endswith("slow") for arrival in receiver.arrivals) < 3:
        assert receiver.arrived.acquire(timeout=60)
    assert sum(arrival.path.endswith("slow") for arrival in receiver.arrivals) <= 2, (
        "the quick one had all three meanwhile"
    )
    runs.join(60)
    assert not runs.is_alive()
    hang.set()
    assert {delivery["state"] for delivery in post.deliveries(quick)} == {"delivered"}
    assert {(delivery["state"], delivery["last_error"]) for delivery in post.deliveries(slow)} == {
        ("pending", "timeout")
    }
    sender.close()


# --- secrets ------------------------------------------------------------------------------------------


def test_both_secrets_sign_for_a_day_after_a_rotation(post: Post, receiver: Receiver) -> None:
    first = post.endpoint(receiver)
    second = endpoints.rotate(post.rt.webhooks, post.acme.member(), first["id"])
    assert second["secret"] != first["secret"]
    post.emit()
    post.sender.round()
    for endpoint in (first, second):
        assert receiver.arrivals[-1].verified(endpoint["secret"])["data"] == DATA
    assert receiver.arrivals[-1].headers["webhook-signature"].count("v1,") == 2
    third = endpoints.rotate(post.rt.webhooks, post.acme.member(), first["id"])
    post.moment += timedelta(hours=24) - timedelta(seconds=1)
    post.emit()
    post.sender.round()
    arrival = receiver.arrivals[-1]
    for endpoint in (second, third):
        verify_webhook(endpoint["secret"], arrival.headers, arrival.body, post.now())
    post.moment += timedelta(seconds=1)
    post.emit()
    post.sender.round()
    arrival = receiver.arrivals[-1]
    assert arrival.headers["webhook-signature"].count("v1,") == 1
    verify_webhook(third["secret"], arrival.headers, arrival.body, post.now())


def test_secrets_lie_sealed_and_are_shown_once(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    endpoints.rotate(post.rt.webhooks, post.acme.member(), endpoint["id"])
    shown = json.dumps([endpoints.list_all(post.rt.webhooks, post.acme.member()), post.deliveries(endpoint)])
    assert "whsec_" not in shown
    assert 'secret"' not in shown
    with reading(post.rt.engine) as connection:
        (row,) = connection.exec_driver_sql("SELECT secret, previous_secret FROM webhook_endpoint").all()
    raw = base64.b64decode(endpoint["secret"].removeprefix("whsec_"))
    assert all(raw not in bytes(sealed) for sealed in row)


# --- several senders ------------------------------------------------------------------------------------------


@pytest.mark.both_engines
def test_several_senders_deliver_each_message_once(post: Post, receiver: Receiver) -> None:
    registered = [post.endpoint(receiver, f"&{number}") for number in range(3)]
    post.emit(12)
    senders = [post.another() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        attempts = sum(pool.map(Sender.round, senders))
    assert attempts == len(receiver.arrivals) == 36
    assert len({(arrival.id, arrival.path) for arrival in receiver.arrivals}) == 36
    assert all(delivery["attempts"] == 1 for endpoint in registered for delivery in post.deliveries(endpoint))
    for sender in senders:
        sender.close()


def process(post: Post) -> ForkedProcess:
    """Start a sender in its own process, ready to send."""
    started = ForkedProcess(
        "tests.server.webhooks.webhook_process",
        [post.now().isoformat()],
        environment={**os.environ, **server_environment(post.rt.settings)},
        folder=ROOT,
        stderr=2,
        talk=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def go(started: ForkedProcess) -> None:
    assert started.stdin is not None
    started.stdin.write("go\n")
    started.stdin.flush()


def said(started: ForkedProcess) -> str:
    """Return the output of the process until its end."""
    assert started.stdout is not None
    text = started.stdout.read()
    started.wait(60)
    started.close()
    return text


@pytest.mark.both_engines
def test_several_processes_deliver_each_message_once(post: Post, receiver: Receiver) -> None:
    registered = [post.endpoint(receiver, f"&{number}") for number in range(3)]
    post.emit(10)
    processes = [process(post) for _ in range(2)]
    for started in processes:
        go(started)
    outputs = [said(started) for started in processes]
    assert sum(json.loads(output)["attempts"] for output in outputs) == 30
    assert len(receiver.arrivals) == len({(arrival.id, arrival.path) for arrival in receiver.arrivals}) == 30
    assert all(delivery["state"] == "delivered" for endpoint in registered for delivery in post.deliveries(endpoint))


@pytest.mark.both_engines
def test_what_a_killed_sender_had_in_hand_another_one_delivers(post: Post, receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.reply = lambda _arrival: Reply(wait=hold)
    endpoint = post.endpoint(receiver)
    post.emit()
    killed = process(post)
    go(killed)
    assert receiver.arrived.acquire(timeout=60), "the receiver has it and holds the answer"
    killed.kill()
    said(killed)
    hold.set()
    receiver.reply = lambda _arrival: Reply()
    assert post.sender.round() == 0, "the claim lasts"
    post.moment += timedelta(seconds=CLAIM_SECONDS)
    assert post.sender.round() == 1
    assert post.last(endpoint)[:3] == ("delivered", 1, 204)
    first, second = receiver.ids()
    assert first == second, "so that the receiver can drop it"


@pytest.mark.both_engines
def test_a_sender_that_stops_gives_back_what_is_in_the_air(post: Post, receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.reply = lambda _arrival: Reply(wait=hold)
    endpoint = post.endpoint(receiver)
    post.emit()
    sender = post.another().start()
    assert receiver.arrived.acquire(timeout=60)
    sender.close(0.1)
    hold.set()
    assert post.last(endpoint) == ("pending", 0, None, None)
    receiver.reply = lambda _arrival: Reply()
    assert post.sender.round() == 1, "at once, without waiting for the claim"


def test_a_verdict_that_comes_too_late_changes_nothing_unless_it_is_good(post: Post, receiver: Receiver) -> None:
    """A sender is suspended for longer than its claim is valid, and another one claims the delivery."""
    verdicts = {"bad": Reply(500), "good": Reply(200)}
    for name, late in verdicts.items():
        hold = threading.Event()
        waits = Reply(late.status, wait=hold)
        receiver.reply = always(waits)
        endpoint = post.endpoint(receiver, f"&{name}")
        post.emit()
        first, second = post.another(), post.another()
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(first.round)
            while not any(arrival.path.endswith(name) for arrival in receiver.arrivals):
                time.sleep(0.005)
            post.moment += timedelta(seconds=CLAIM_SECONDS)
            again = threading.Event()
            receiver.reply = always(Reply(201, wait=again))
            other = pool.submit(second.round)
            while sum(arrival.path.endswith(name) for arrival in receiver.arrivals) < 2:
                time.sleep(0.005)
            hold.set()
            slow.result(20)
            expected = ("pending", 0, None, None) if name == "bad" else ("delivered", 1, 200, None)
            assert post.last(endpoint) == expected
            again.set()
            other.result(20)
        assert post.last(endpoint)[0] == "delivered"
        endpoints.delete(post.rt.webhooks, post.acme.member(), endpoint["id"])


# --- TLS ------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS context of a server with a certificate for `name`, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    file = folder / f"{name}.pem"
    file.write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


def test_the_certificate_must_be_the_names_though_an_address_is_connected_to(post: Post, tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "hooks.acme.example")
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiving(tls=server) as receiver:
        for host in ("hooks.acme.example", "other.acme.example"):
            url = f"https://{host}:{receiver.port}/x"
            endpoint = endpoints.create(post.rt.webhooks, post.acme.member(), url, EVENTS)
            post.emit()
            post.another(tls=client, resolve=lambda _host, _port: ["127.0.0.1"]).round()
            good = host.startswith("hooks")
            assert post.last(endpoint) == (("delivered", 1, 204, None) if good else ("pending", 1, None, "tls_failed"))
            assert receiver.arrivals[-1].headers["host"] == f"hooks.acme.example:{receiver.port}"
            endpoints.delete(post.rt.webhooks, post.acme.member(), endpoint["id"])
        assert names == ["hooks.acme.example", "other.acme.example"]
        assert len(receiver.arrivals) == 1


def test_one_of_several_addresses_that_answers_is_enough(post: Post, receiver: Receiver) -> None:
    endpoint = post.endpoint(receiver)
    post.emit()
    post.another(resolve=lambda _host, _port: ["::1", "127.0.0.1"]).round()
    assert post.last(endpoint)[0] == "delivered"


def test_a_thread_that_cannot_be_started_leaves_its_endpoint_free(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.endpoint(receiver)
    post.emit()

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        assert post.sender._take() == 1
    assert post.sender._flying == {}
    assert post.sender.round() == 0, "the delivery is claimed"
    post.moment += timedelta(seconds=CLAIM_SECONDS + 1)
    assert post.sender.round() == 1
    assert len(receiver.ids()) == 1
