"""Faults between the SDK and the ledger, and how each is named: TLS, proxies, names, answers of something else."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ledger.cli.platform.verify import log_fetch
from ledger.client import Query, RefundLedger
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.connections import CA_VARIABLE, HttpOptions
from ledger.client.transport.http import Transport
from ledger.errors import ConfigurationError, InvalidProof, NotFound, ScopeMissing, Unavailable
from ledger.protocol.encoding import b64url
from tests.client.small_ledger import Answer, SmallLedger, small_ledger
from tests.faulty import PROMPT_SECONDS, answering, free_port
from tests.kit import giving_up, report_arguments

WHO = {"phone": "+86 138 0013 8000"}
_PROXY_VARIABLES = (
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates of this machine's own."""
    for name in (*_PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", CA_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Authority:
    """A private CA's certificate, and a server that it vouches for as localhost."""

    pem: Path
    server: ssl.SSLContext


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "private")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pem, private = folder / "ca.pem", folder / "server.pem"
    pem.write_bytes(certificate.public_bytes(encoding))
    private.write_bytes(
        certificate.public_bytes(encoding) + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(private)
    return Authority(pem, server)


@contextmanager
def over_tls(ledger: SmallLedger, authority: Authority, **options: Any) -> Iterator[RefundLedger]:
    with answering(ledger.respond, tls=authority.server) as url:
        options = {"lookup_budget_seconds": PROMPT_SECONDS, "connect_budget_seconds": PROMPT_SECONDS, **options}
        with ledger.connect(suite=ledger.suite_file(url=url), **options) as acme:
            yield acme


def test_a_certificate_that_is_not_trusted_is_named(ledger: SmallLedger, authority: Authority) -> None:
    with over_tls(ledger, authority) as acme:
        assert acme.lookup(WHO, order="A-1").unavailable_because == "tls_failed"
        with pytest.raises(Unavailable) as caught:
            acme.connect()
        assert caught.value.details["reason"] == "tls_failed"
        for words in ("localhost", "self-signed", "ca_file", CA_VARIABLE):
            assert words in str(caught.value)


@pytest.mark.parametrize("how", ["argument", CA_VARIABLE, "SSL_CERT_FILE", "http_client"])
def test_a_private_authority_can_be_trusted(
    ledger: SmallLedger, authority: Authority, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    options: dict[str, Any] = {}
    if how == "argument":
        options["ca_file"] = authority.pem
    elif how == "http_client":
        options["http_client"] = lambda: httpx2.Client(verify=ssl.create_default_context(cafile=str(authority.pem)))
    else:
        monkeypatch.setenv(how, str(authority.pem))
    with over_tls(ledger, authority, **options) as acme:
        acme.connect()
        assert acme.lookup(WHO, order="A-1").tier == "clear"


def test_requests_to_holders_trust_the_same_authorities(authority: Authority) -> None:
    with answering(lambda method, path, body: (200, {}, body), tls=authority.server) as url:
        trusting = Transport(url, direct=True, options=HttpOptions(ca_file=authority.pem))
        for number in (b"1", b"2"):
            assert trusting.send("POST", "/v1/x", Deadline(PROMPT_SECONDS), content=number).body == number
        stranger = Transport(url, direct=True)
        with pytest.raises(Unavailable) as caught:
            stranger.send("POST", "/v1/x", Deadline(PROMPT_SECONDS), content=b"1")
        assert caught.value.details["reason"] == "tls_failed"
        trusting.close()
        stranger.close()


@pytest.mark.parametrize("variable", [CA_VARIABLE, "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_variable_that_names_no_certificates_is_named(
    ledger: SmallLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, content: bytes | None
) -> None:
    path = tmp_path / "missing.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(variable, str(path))
    with pytest.raises(ConfigurationError) as caught:
        ledger.connect(suite=ledger.suite_file(url="https://ledger.test"))
    assert variable in str(caught.value)
    assert "missing.pem" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_server_without_tls_is_named(ledger: SmallLedger) -> None:
    url = f"https://localhost:{urlsplit(ledger.url).port}"
    with ledger.connect(suite=ledger.suite_file(url=url), lookup_budget_seconds=PROMPT_SECONDS) as acme:
        assert acme.lookup(WHO, order="A-1").unavailable_because == "tls_failed"


# --- proxies and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "socks"])
def test_socks_variables_are_named(
    ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match=f"{variable} names a SOCKS proxy"):
        ledger.connect(suite=ledger.suite_file(url="https://ledger.test"))
    with ledger.connect(suite=ledger.suite_file(url="https://ledger.test"), proxy=""):
        pass  # none, whatever the environment says
    with ledger.connect() as acme:
        acme.connect()  # this machine needs no proxy


@pytest.mark.parametrize("value", ["gopher://127.0.0.1:70", "http://127.0.0.1:port"])
def test_other_proxies_that_cannot_be_used_are_named(
    ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        ledger.connect(suite=ledger.suite_file(url="https://ledger.test"))


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_proxy_that_is_down_or_refuses_is_named(
    ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Nothing resolves ledger.test: only the proxy would."""
    with answering(lambda *_: (403, {}, b"no")) as refusing:
        for address in (f"http://127.0.0.1:{free_port()}", refusing):
            monkeypatch.setenv("HTTPS_PROXY", address if by == "environment" else "")
            options: dict[str, Any] = {"proxy": address} if by == "argument" else {}
            suite = ledger.suite_file(url="https://ledger.test")
            with ledger.connect(suite=suite, lookup_budget_seconds=PROMPT_SECONDS, **options) as acme:
                assert acme.lookup(WHO, order="A-1").unavailable_because == "proxy_failed"


def test_a_proxy_is_used(ledger: SmallLedger) -> None:
    seen: list[str] = []

    def respond(method: str, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append(urlsplit(url).netloc)
        return ledger.respond(method, url.removeprefix("http://ledger.test"), body)

    with answering(respond) as proxy:
        suite = ledger.suite_file(url="http://ledger.test")
        options: dict[str, Any] = {"insecure_http": True, "lookup_budget_seconds": PROMPT_SECONDS}
        with ledger.connect(suite=suite, proxy=proxy, **options) as acme:
            assert acme.lookup(WHO, order="A-1").tier == "clear"
    assert set(seen) == {"ledger.test"}
    with (
        answering(lambda *_: (407, {}, b"login")) as locked,
        ledger.connect("b", suite, proxy=locked, **options) as acme,
    ):
        assert acme.lookup(WHO, order="A-1").unavailable_because == "proxy_failed"


def test_a_name_that_does_not_resolve_is_named(ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    suite = ledger.suite_file(url="https://ledger.test")
    with ledger.connect(suite=suite, lookup_budget_seconds=PROMPT_SECONDS) as acme:
        assert acme.lookup(WHO, order="A-1").unavailable_because == "dns_failed"
        with giving_up(acme), pytest.raises(Unavailable, match=r"ledger\.test could not be resolved"):
            acme.connect()


# --- answers that are not the ledger's -------------------------------------------------------------------------------

HTML = {"Content-Type": "text/html"}
PROBLEM = {"Content-Type": "application/problem+json"}
FOREIGN = json.dumps({"type": "about:blank", "code": "not_found", "detail": "No route.", "request_id": "x"}).encode()
ODD: list[tuple[int, dict[str, str], bytes]] = [
    *[(status, HTML, b"<html>no</html>") for status in
      (400, 401, 403, 404, 405, 407, 408, 409, 410, 411, 413, 414, 415, 421, 422, 429, 431, 451, 499, 500, 502, 503,
       504, 520, 525)],
    *[(status, {"Content-Type": "application/json"}, b'{"message": "Forbidden"}') for status in (401, 403, 404, 429)],
    (404, {"Content-Type": "text/plain"}, b"404 page not found"),
    (404, PROBLEM, FOREIGN),
    (403, PROBLEM, b'{"title": "Forbidden", "status": 403}'),
    (401, PROBLEM, b""),
    (302, {"Location": "https://sso.test/"}, b""),
    (200, HTML, b"<html>log in</html>"),
    (204, {}, b""),
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SmallLedger, RefundLedger]]:
    with (
        small_ledger(tmp_path_factory.mktemp("odd")) as ledger,
        ledger.connect(lookup_budget_seconds=PROMPT_SECONDS, budget_seconds=0.02) as acme,
    ):
        acme.connect()
        yield ledger, acme


@pytest.mark.parametrize("answer", ODD, ids=lambda case: f"{case[0]}-{case[2][:12]!r}")
def test_what_is_not_the_ledgers_word_is_an_outage(
    odd: tuple[SmallLedger, RefundLedger], answer: tuple[int, dict[str, str], bytes]
) -> None:
    ledger, acme = odd
    buyer = ledger.buyer(WHO)
    paths = ("/v1/lookups", "/v1/lookups/batch", "/v1/reports", "/v1/oprf/evaluate", "/v1/reports/rp_1/withdraw")
    ledger.replace = dict.fromkeys(paths, lambda _: answer)
    lookup = acme.lookup(buyer, order="A-1")
    status = answer[0]
    if status >= 300:
        because = "proxy_failed" if status == 407 else "proxy_answer"
        assert (lookup.unavailable_because, lookup.unavailable_status) == (because, status)
    else:
        assert lookup.unavailable_because == "unexpected_answer"
    sent = acme.reports.create(buyer, **report_arguments(order=secrets.token_hex(8)))
    change = acme.reports.withdraw("rp_1", "duplicate")
    assert [sent.state, change.state] == ["pending", "pending"], "nothing is refused for good"
    assert {item.state for item in acme.outbox.list()} == {"pending"}
    if status >= 300 and ODD.index(answer) % 8 == 0:  # each takes its whole budget
        for call in (lambda: acme.tag(phone="+86 138 0013 8001"), lambda: acme.lookup_many([Query(buyer, "1")])):
            acme._session.subject_budget_seconds = 0.05
            with pytest.raises(Unavailable):
                call()
    for item in acme.outbox.list():
        acme.outbox.discard(item.idempotency_key)


def test_the_ledgers_own_word_counts_as_before(odd: tuple[SmallLedger, RefundLedger]) -> None:
    ledger, acme = odd
    said = b'{"code": "scope_missing", "detail": "This needs the scope lookup."}'
    ledger.replace = {"/v1/lookups": lambda _: (403, {}, said)}
    with pytest.raises(ScopeMissing):
        acme.lookup(ledger.buyer(WHO), order="A-1")


# --- what is logged --------------------------------------------------------------------------------------------------


def test_events_are_logged_and_hold_nothing_personal(ledger: SmallLedger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="refund_ledger")
    buyer = ledger.buyer(WHO)
    with ledger.connect(lookup_budget_seconds=PROMPT_SECONDS, connect_budget_seconds=0.1) as acme:
        first = acme.lookup(buyer, order="secret-order-17")
        assert (first.tier, (first.request_id or "").startswith("rcl-")) == ("clear", True)
        ledger.replace["/v1/lookups"] = lambda _: (429, HTML, b"<html>slow down</html>")
        second = acme.lookup(WHO, order="secret-order-17")
        assert (second.request_id or "").startswith("rcl-")
        ledger.forge("/v1/oprf/evaluate", lambda body: body.replace(b'"proof": "', b'"proof": "A'))
        with pytest.raises(InvalidProof):
            acme.lookup({"phone": "+86 138 0013 8002"}, order="secret-order-17")
        with pytest.raises(InvalidProof):
            acme.tag(phone="+86 138 0013 8002")
        ledger.replace = {}
        ledger.announce(2)
        ledger.switch(2, retire=True)
        assert acme.lookup(WHO, order="secret-order-17").tier == "clear"
    with ledger.connect("other", connect_budget_seconds=0.1) as down:
        ledger.broken = True
        down.connect(required=False)
    events = [record.__dict__["event"] for record in caplog.records if record.name == "refund_ledger"]
    assert events == ["lookup_unavailable", "proof_error", "proof_error", "stale_epoch", "connect_failed"]
    unavailable = caplog.records[0].__dict__["fields"]
    assert (unavailable["reason"], unavailable["status"]) == ("proxy_answer", 429)
    assert unavailable["request_id"] == second.request_id
    assert "reason=proxy_answer status=429" in caplog.text
    element = buyer.subjects[0].element
    assert element is not None
    for personal in ("138", "8000", "secret-order", b64url(buyer.subjects[0].tag), b64url(element), element.hex()):
        assert personal not in caplog.text.replace(second.request_id or "-", ""), personal


def test_nothing_is_printed_without_logging(
    ledger: SmallLedger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # what servers of other tests have left there
    logger = logging.getLogger("refund_ledger")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    ledger.broken = True
    with ledger.connect() as acme:
        acme.lookup(WHO, order="A-1")
    assert capsys.readouterr().err == ""


def test_a_mirror_of_plain_files_that_lacks_a_tile_is_no_outage() -> None:
    """`verify` reads any copy of the log; a file server's 404 says that there is no such tile."""
    asked: list[str] = []

    def respond(method: str, path: str, body: bytes) -> Answer:
        asked.append(path)
        return 404, {"Content-Type": "text/html"}, b"<html>404</html>"

    with answering(respond) as url:
        transport = Transport(url)
        with pytest.raises(NotFound):
            log_fetch(transport, url, timeout_seconds=PROMPT_SECONDS)("tile/0/000.p/7")
        transport.close()
    assert asked == ["/log/tile/0/000.p/7"], "and it is not asked again"
