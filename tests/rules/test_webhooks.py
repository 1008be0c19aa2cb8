"""Webhooks as pure functions: signatures against the specification's own library, retry schedule, address rule."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from ledger.client import verify_webhook
from ledger.errors import ConfigurationError, InvalidSignature, WebhookInvalid
from ledger.rules.webhook_urls import MAX_URL_CHARS, parse_url, public_address
from ledger.rules.webhooks import (
    RETRY_SCHEDULE,
    MessageSource,
    Recipient,
    WebhookType,
    format_secret,
    message_body,
    next_wait,
    parse_retry_after,
    parse_secret,
    parse_types,
    signature_header,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET, OTHER = b"s" * 32, b"o" * 24


def signed(secrets: list[bytes], body: bytes, now: datetime, message_id: str = "wm_abcdefgh") -> dict[str, str]:
    stamp = int(now.timestamp())
    return {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(stamp),
        "Webhook-Signature": signature_header(secrets, message_id, stamp, body),
    }


SOURCE = MessageSource("ledger.example", "test")
BODY = message_body(
    WebhookType.APPEAL_OPENED, Recipient.FILER, SOURCE, NOW, {"appeal": "ap_abcdefgh", "state": "submitted"}
).encode()


# --- signatures -------------------------------------------------------------------------------------------------


def test_the_example_of_the_specification() -> None:
    """The vector that the reference implementations share."""
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    header = signature_header([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert header == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(max_size=200))
def test_an_independent_receiver_accepts_what_is_signed(secret: bytes, text: str) -> None:
    now = datetime.now(UTC)
    data = {"webhook": "we_abcdefgh"}
    body = message_body(WebhookType.TEST, Recipient.MEMBER, MessageSource(text, "test"), now, data).encode()
    payload = Webhook(format_secret(secret)).verify(body, signed([OTHER, secret], body, now))
    assert (payload["data"], payload["service"]) == (data, text)
    assert payload["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        Webhook(format_secret(secret)).verify(body + b" ", signed([secret], body, now))


def test_the_sdk_verifies_what_the_independent_library_signs() -> None:
    sender = Webhook(format_secret(SECRET))
    headers = {
        "webhook-id": "wm_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": sender.sign("wm_1", NOW, BODY.decode()),
    }
    event = verify_webhook(format_secret(SECRET), headers, BODY, NOW)
    assert (event.id, event.type, event.occurred_at, event.sent_at) == ("wm_1", "appeal.opened", NOW, NOW)
    assert event.data == {"appeal": "ap_abcdefgh", "state": "submitted"}


def test_one_of_several_secrets_and_signatures_is_enough() -> None:
    both = [format_secret(OTHER), format_secret(SECRET)]
    assert verify_webhook(both, signed([SECRET], BODY, NOW), BODY, NOW).id == "wm_abcdefgh"
    assert verify_webhook(both[1], signed([OTHER, SECRET], BODY, NOW), BODY, NOW).id == "wm_abcdefgh"
    headers = signed([SECRET], BODY, NOW)
    headers["Webhook-Signature"] = "v1a,AAAA v1,%% v1 " + headers["Webhook-Signature"]
    assert verify_webhook(both, headers, BODY, NOW).id == "wm_abcdefgh"


@pytest.mark.parametrize(
    "changes",
    [
        {"Webhook-Id": "wm_abcdefgi"},
        {"Webhook-Id": ""},
        {"Webhook-Timestamp": str(int(NOW.timestamp()) + 1)},
        {"Webhook-Timestamp": "now"},
        {"Webhook-Timestamp": "-1"},
        {"Webhook-Timestamp": "1" * 40},
        {"Webhook-Timestamp": "١٢٣"},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1,"},
        {"Webhook-Signature": "v1"},
        {"Webhook-Signature": "v1," + "A" * 43 + "="},
        {"Webhook-Signature": signature_header([OTHER], "wm_abcdefgh", int(NOW.timestamp()), BODY)},
    ],
)
def test_a_changed_header_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        verify_webhook(format_secret(SECRET), {**signed([SECRET], BODY, NOW), **changes}, BODY, NOW)


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    headers = signed([SECRET], BODY, NOW)
    del headers[name]
    with pytest.raises(InvalidSignature):
        verify_webhook(format_secret(SECRET), headers, BODY, NOW)


@given(st.integers(0, len(BODY) * 8 - 1))
def test_every_bit_of_the_body_is_signed(bit: int) -> None:
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignature):
        verify_webhook(format_secret(SECRET), signed([SECRET], BODY, NOW), bytes(changed), NOW)


def test_old_and_future_messages_are_refused() -> None:
    headers = signed([SECRET], BODY, NOW)
    for seconds in (-300, 0, 300):
        verify_webhook(format_secret(SECRET), headers, BODY, NOW + timedelta(seconds=seconds))
    for seconds in (-301, 301):
        with pytest.raises(InvalidSignature, match="time"):
            verify_webhook(format_secret(SECRET), headers, BODY, NOW + timedelta(seconds=seconds))
    assert verify_webhook(format_secret(SECRET), headers, BODY, NOW + timedelta(hours=1), 3600).sent_at == NOW


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"type":"x","data":{}}', b"\xff", b"[" * 100_000])
def test_what_is_signed_but_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidSignature, match="not a message"):
        verify_webhook(format_secret(SECRET), signed([SECRET], body, NOW), body, NOW)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", format_secret(b"x" * 23), format_secret(b"x" * 65), "c2"])
def test_a_malformed_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_secret(text)
    assert text.removeprefix("whsec_") in ("", "c2") or text.removeprefix("whsec_") not in str(caught.value)


def test_a_message_is_compact_and_says_when() -> None:
    assert json.loads(BODY) == {
        "type": "appeal.opened",
        "timestamp": "2026-01-31T12:00:00Z",
        "service": "ledger.example",
        "environment": "test",
        "recipient": "filer",
        "data": {"appeal": "ap_abcdefgh", "state": "submitted"},
    }
    assert b" " not in BODY


def test_subscriptions_are_known_types_each_once() -> None:
    assert parse_types(["key.rotated", "appeal.opened"]) == (WebhookType.APPEAL_OPENED, WebhookType.KEY_ROTATED)
    for names in ([], ["appeal.opened"] * 2, ["appeal"], ["webhook.test"], [""], ["appeal.opened", "x y"]):
        with pytest.raises(WebhookInvalid):
            parse_types(names)


# --- the retry schedule -----------------------------------------------------------------------------------------


def test_the_retry_schedule_ends_after_ten_attempts() -> None:
    waits = [next_wait(attempts, 0.0) for attempts in range(12)]
    assert waits == [*RETRY_SCHEDULE, None, None]
    assert sum(RETRY_SCHEDULE, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)


@given(st.integers(0, 9), st.floats(0, 1, exclude_max=True), st.integers(0, 10**9))
def test_a_wait_is_no_shorter_than_scheduled_nor_much_longer_than_the_next(n: int, jitter: float, asked: int) -> None:
    wait = next_wait(n, jitter, timedelta(seconds=asked))
    assert wait is not None
    assert RETRY_SCHEDULE[n] <= wait <= RETRY_SCHEDULE[min(n + 1, 9)] * 1.1
    if timedelta(seconds=asked) <= RETRY_SCHEDULE[min(n + 1, 9)]:
        assert wait >= timedelta(seconds=asked)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after("120", NOW) == timedelta(seconds=120)
    assert parse_retry_after("Sat, 31 Jan 2026 12:01:00 GMT", NOW) == timedelta(minutes=1)
    for nonsense in (None, "", "soon", "-5", "Sat, 31 Jan 2026 11:59:00 GMT", "Sat, 99 Foo 2026", "1e9", "²"):
        assert parse_retry_after(nonsense, NOW) is None
    assert parse_retry_after("9" * 400, NOW) == timedelta(seconds=999_999_999)


# --- where a webhook may go ---------------------------------------------------------------------------------------

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1",
    "169.253.1.1", "192.167.255.255", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e",
    "240e::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1",
    "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1",
    "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "", "localhost", "1.2.3", "127.1", "0x7f.1",
    "2130706433", "1.1.1.1 ", "1.1.1.1/32", "[::1]", "01.1.1.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert public_address(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_everybodys(address: str) -> None:
    assert not public_address(address)


@given(st.ip_addresses(v=4))
def test_the_rule_for_ipv4_is_no_laxer_than_the_standard_library(address: ipaddress.IPv4Address) -> None:
    allowed = public_address(str(address))
    relays = ipaddress.ip_network("192.88.99.0/24")
    assert allowed == (address.is_global and not address.is_multicast and address not in relays)
    assert public_address(f"::ffff:{address}") == allowed
    assert public_address(str(ipaddress.ip_address(int(ipaddress.ip_address("64:ff9b::")) + int(address)))) == allowed
    for prefix in ("2002:{:x}:{:x}::1", "::{:x}:{:x}", "2001:0:{:x}:{:x}::"):
        assert not public_address(prefix.format(int(address) >> 16, int(address) & 0xFFFF))


@given(st.ip_addresses(v=6))
def test_the_rule_for_ipv6_is_no_laxer_than_the_standard_library(address: ipaddress.IPv6Address) -> None:
    translated = address.ipv4_mapped is not None or address in ipaddress.ip_network("64:ff9b::/96")
    if public_address(str(address)) and not translated:  # the others stand in the test above
        assert address.is_global
        for property_ in ("is_multicast", "is_private", "is_reserved", "is_link_local", "is_loopback"):
            assert not getattr(address, property_), property_
        assert int(address) >> 125 == 1


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://a.example", ("a.example", 443, "/", "a.example")),
        ("https://A.Example:8443/x/y?z=1%20", ("a.example", 8443, "/x/y?z=1%20", "a.example:8443")),
        ("https://a.example:443?q", ("a.example", 443, "/?q", "a.example")),
        ("https://93.184.216.34/", ("93.184.216.34", 443, "/", "93.184.216.34")),
        ("https://[2606:4700::1111]:8443/", ("2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443")),
        ("https://xn--fiqs8s.example/", ("xn--fiqs8s.example", 443, "/", "xn--fiqs8s.example")),
    ],
)
def test_a_url_in_parts(url: str, parts: tuple[Any, ...]) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.port, parsed.target, parsed.authority) == parts


BAD_URLS = [
    "", "a.example", "//a.example/", "ftp://a.example/", "http://a.example/", "HTTPS://a.example/",
    "https://", "https:///x", "https://u@a.example/", "https://u:p@a.example/", "https://a.example\\@b.example/",
    "https://a.example#f", "https://a.example/#f", "https://a.example/ x", " https://a.example/", "https://a.example/\n",
    "https://a.example\t/", "https://a.example:22/", "https://a.example:80/", "https://a.example:/",
    "https://a.example:443443/", "https://a.example:0/", "https://-a.example/", "https://a..example/",
    "https://a.example./", "https://a_b.example/", "https://中国.example/", "https://a.example/中",
    "https://[::1/", "https://[::g]/", "https://[1.2.3.4]/", "https://[fe80::1%25eth0]/", "https://a.example/\x00",
    "https://a.example/" + "x" * MAX_URL_CHARS, "https://a%2eexample/", "https://a.example\r\nHost: b/",
    f"https://{'a' * 64}.example/", "https://a.example/<x>", 'https://a.example/"',
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_not_acceptable(url: str) -> None:
    with pytest.raises(WebhookInvalid) as caught:
        parse_url(url)
    assert not url or url not in str(caught.value)


def test_a_closed_network_may_use_http_and_any_port() -> None:
    assert parse_url("http://127.0.0.1:9/x", allow_private=True).authority == "127.0.0.1:9"
    assert parse_url("http://hooks/x", allow_private=True).authority == "hooks"
    for url in ("http://u@a/", "http://a:0/", "http://a:65536/", "gopher://a/"):
        with pytest.raises(WebhookInvalid):
            parse_url(url, allow_private=True)
