"""Typical mistakes of an integrator: each raises a LedgerError that names the argument and the remedy, before anything
is sent, and never an AttributeError or TypeError."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.client import (
    Buyer,
    Query,
    Refund,
    RefundLedger,
    claim_upload,
    evidence,
    issuer_answer,
    verify_webhook,
)
from ledger.client.identity.suite import parse_suite
from ledger.errors import (
    AlreadyExpired,
    ConfigurationError,
    ConsentMissing,
    EvidenceInsufficient,
    EvidenceInvalid,
    InvalidEmail,
    InvalidIdentifier,
    InvalidPhone,
    InvalidReport,
    InvalidRequest,
    InvalidSignature,
    InvalidTime,
    LedgerError,
    NoticeInvalid,
    StaleEpoch,
    SubjectsInvalid,
    UnknownConduct,
)
from ledger.protocol.encoding import b64url
from ledger.rules.webhooks import format_secret, signature_header
from tests.client.small_ledger import SmallLedger, small_ledger
from tests.counts import trials
from tests.kit import report_arguments
from tests.support import CONSENT

WHO = {"phone": "+86 138 0013 8000"}
NOW = datetime.now(UTC)
DIGEST = hashlib.sha256(b"x").digest()
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  the mistake that is tested


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallLedger]:
    with small_ledger(tmp_path_factory.mktemp("mistakes")) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def acme(ledger: SmallLedger) -> Iterator[RefundLedger]:
    with ledger.connect(suite=ledger.suite_file(profile="CN")) as client:
        client.connect()
        yield client


Mistake = tuple[str, Callable[[RefundLedger, Buyer], object], type[LedgerError], str]


def lookup(name: str, kind: type[LedgerError], words: str, who: Any = None, **changes: Any) -> Mistake:
    call = {"order": "A-1", "consent_ref": CONSENT, **changes}
    return f"lookup: {name}", lambda acme, buyer: acme.lookup(buyer if who is None else who, **call), kind, words


def report(name: str, kind: type[LedgerError], words: str, who: Any = None, **changes: Any) -> Mistake:
    call = report_arguments(**changes)
    return (
        f"report: {name}",
        lambda acme, buyer: acme.reports.create(buyer if who is None else who, **call),
        kind,
        words,
    )


def refund(*values: Any) -> Any:
    return Refund(*values)


MISTAKES: list[Mistake] = [
    lookup("order None", InvalidRequest, "order must be text, not None", order=None),
    lookup("order a number", InvalidRequest, "of type int. Write it as text: str(order)", order=1001),
    lookup("order bytes", InvalidRequest, "order must be text", order=b"A-1"),
    lookup("order empty", InvalidReport, "order", order=""),
    lookup("order of half a character", InvalidRequest, "order is not valid Unicode", order="\ud800"),
    lookup("purpose typo", InvalidRequest, "purpose must be one of: refund_review, appeal.", purpose="refund-review"),
    lookup("purpose None", InvalidRequest, "purpose must be one of", purpose=None),
    lookup("refund a dict", InvalidRequest, "refund must be a Refund", refund={"amount_minor": 1}),
    lookup("claim typo", InvalidRequest, "refund.claim must be one of: damaged", refund=refund(1, "CNY", "damage")),
    lookup("claim None", InvalidRequest, "refund.claim must be one of", refund=refund(1, "CNY", None)),
    lookup("currency small", InvalidRequest, "refund.currency must be an ISO 4217", refund=refund(1, "cny", "other")),
    lookup("amount float", InvalidRequest, "129.00 CNY is 12900", refund=refund(129.0, "CNY", "other")),
    lookup("amount text", InvalidRequest, "refund.amount_minor must be", refund=refund("129", "CNY", "other")),
    lookup("amount negative", InvalidRequest, "refund.amount_minor", refund=refund(-1, "CNY", "other")),
    lookup("amount bool", InvalidRequest, "refund.amount_minor", refund=refund(True, "CNY", "other")),
    lookup("consent_ref a number", InvalidRequest, "consent_ref must be text", consent_ref=7),
    lookup("consent_ref with a line break", InvalidRequest, "consent_ref must be 1 to 128", consent_ref="a\nb"),
    lookup("consent_ref not in NFC", InvalidRequest, "consent_ref must be in Unicode NFC", consent_ref="e\u0301"),
    lookup("no consent under CN", ConsentMissing, "a lookup needs consent_ref", consent_ref=None),
    lookup("a blank consent under CN", ConsentMissing, "a lookup needs consent_ref", consent_ref="\u3164"),
    lookup("no consent for an appeal", ConsentMissing, "consent_ref", consent_ref=None, purpose="appeal"),
    lookup("min_index text", InvalidRequest, "min_index must be", min_index="7"),
    lookup("min_index negative", InvalidRequest, "min_index must be", min_index=-1),
    lookup("pictures of paths", InvalidRequest, "pictures must be a list of what picture_hash() gives",
           pictures=["a.jpg"]),
    lookup("pictures one path", InvalidRequest, "pictures must be", pictures="a.jpg"),
    lookup("buyer text", InvalidIdentifier, "A buyer is a Buyer made by subject()", who="+8613800138000"),
    lookup("buyer empty", InvalidIdentifier, "at least one identifier", who={}),
    lookup("buyer of unknown kind", InvalidIdentifier, "Kinds are: phone", who={"telephone": "+8613800138000"}),
    lookup("phone a number", InvalidIdentifier, "The identifier phone must be text", who={"phone": 13800138000}),
    lookup("phone None", InvalidIdentifier, "The identifier phone must be text, not None", who={"phone": None}),
    lookup("phone without region", InvalidPhone, "region", who={"phone": "138 0013 8000"}),
    lookup("region a name", InvalidRequest, "region must be an ISO 3166", who=WHO, region="China"),
    lookup("email", InvalidEmail, "mail", who={"email": "not an address"}),
    lookup("retired epoch", StaleEpoch, "Blind again", who=Buyer.from_tags(9, [("phone", b64url(DIGEST))])),
    ("subject: no identifier", lambda acme, _: acme.tag(), InvalidIdentifier, "at least one"),
    ("subject: unknown kind", lambda acme, _: acme.tag(name="Li"), InvalidIdentifier, "Kinds are"),
    ("subject: phone without region", lambda acme, _: acme.tag(phone="138 0013 8000"), InvalidPhone, "region"),
    ("subject: None", lambda acme, _: acme.tag(phone=None), InvalidIdentifier, "phone must be text"),  # type: ignore[arg-type]
    ("check: policy typo", lambda acme, buyer: acme.check(buyer, policy="local"),  # type: ignore[arg-type]
     InvalidRequest, "policy is one of"),
    ("check: buyer None", lambda acme, _: acme.check(None, consent_ref=CONSENT),  # type: ignore[arg-type]
     InvalidIdentifier, "A buyer is a Buyer"),
    ("check: refund a dict", lambda acme, buyer: acme.check(buyer, refund={}),  # type: ignore[arg-type]
     InvalidRequest, "refund must be"),
    ("check: of stored tags", lambda acme, _: acme.check(Buyer.from_tags(1, [("phone", b64url(DIGEST))]),
     policy="private", consent_ref=CONSENT), InvalidRequest, "identifiers"),
    ("check: no consent under CN", lambda acme, buyer: acme.check(buyer), ConsentMissing, "a check needs consent_ref"),
    ("check: private and no consent", lambda acme, buyer: acme.check(buyer, policy="private", consent_ref="\u2800"),
     ConsentMissing, "a check needs consent_ref"),
    ("check: consent_ref too long", lambda acme, buyer: acme.check(buyer, consent_ref="a" * 129), InvalidRequest,
     "consent_ref must be 1 to 128"),
    report("buyer a dict", InvalidReport, "Blind the identifiers first", who=WHO),
    report("buyer of tags", SubjectsInvalid, "tags alone", who=Buyer.from_tags(1, [("phone", b64url(DIGEST))])),
    report("conduct typo", UnknownConduct, "conduct must be one of: ", conduct="emtpy_parcel"),
    report("conduct None", UnknownConduct, "conduct must be one of: ", conduct=None),
    report("outcome typo", InvalidReport, "outcome must be one of: ", outcome="refused"),
    report("evidence None", EvidenceInvalid, "evidence must be a list", evidence=None),
    report("evidence one item", EvidenceInvalid, "evidence must be a list",
           evidence=evidence("carrier_record", sha256=DIGEST)),
    report("evidence of dicts", EvidenceInvalid, "made by evidence()", evidence=[{"type": "carrier_record"}]),
    report("no evidence", EvidenceInvalid, "", evidence=[]),
    report("too little evidence", EvidenceInsufficient, "falls short",
           evidence=[evidence("intake_photo", sha256=DIGEST)]),
    report("order a number", InvalidReport, "order must be text", order=1001),
    report("amount float", InvalidReport, "129.00 CNY is 12900", amount_minor=129.0),
    report("amount text", InvalidReport, "amount_minor must be", amount_minor="12900"),
    report("currency small", InvalidReport, "currency must be an ISO 4217", currency="cny"),
    report("act None", InvalidTime, "act_ended_at must be a datetime with its zone", act_ended_at=None),
    report("notice None", InvalidTime, "notice_sent_at must be a datetime", notice_sent_at=None),
    report("ISO text as time", InvalidTime, "act_ended_at must be a datetime", act_ended_at="2026-01-01T00:00:00Z"),
    report("naive time", InvalidTime, "notice_sent_at must carry its zone", notice_sent_at=NAIVE),
    report("date as time", InvalidTime, "act_ended_at must be a datetime", act_ended_at=NAIVE.date()),
    report("notice before the act", NoticeInvalid, "after the act", notice_sent_at=NOW - timedelta(days=9)),
    report("notice in the future", NoticeInvalid, "future", notice_sent_at=NOW + timedelta(days=1)),
    report("expired act", AlreadyExpired, "is kept until 20", act_ended_at=NOW - timedelta(days=4000)),
    report("no consent under CN", ConsentMissing, "consent_ref", consent_ref=None),
    report("consent a number", InvalidReport, "consent_ref must be text", consent_ref=1),
    report("notice_ref None", InvalidReport, "notice_ref must be text", notice_ref=None),
    report("decided_by a number", InvalidReport, "decided_by must be text", decided_by=7),
    report("replaces a number", InvalidReport, "replaces must be text", replaces=7),
    report("idempotency key with a blank", InvalidRequest, "idempotency key", idempotency_key="a b"),
    ("evidence: unknown type", lambda *_: evidence("photo", sha256=DIGEST), EvidenceInvalid, "type must be one of: "),
    ("evidence: hex text", lambda *_: evidence("intake_photo", sha256=DIGEST.hex()),  # type: ignore[arg-type]
     EvidenceInvalid, "bytes.fromhex(sha256)"),
    ("evidence: short digest", lambda *_: evidence("intake_photo", sha256=b"x"), EvidenceInvalid, "32 bytes"),
    ("evidence: nothing", lambda *_: evidence("intake_photo"), EvidenceInvalid, "either its file or"),
    ("evidence: bytes as file", lambda *_: evidence("intake_photo", file=b"x"),  # type: ignore[arg-type]
     EvidenceInvalid, "file must be the path"),
    ("claim_upload: naive", lambda *_: claim_upload(NAIVE), InvalidTime, "received_at must carry its zone"),
    ("issuer_answer: verdict", lambda *_: issuer_answer("P", NOW, "yes", DIGEST),  # type: ignore[arg-type]
     EvidenceInvalid, "verdict must be"),
    ("issuer_answer: hex", lambda *_: issuer_answer("P", NOW, "generated", DIGEST.hex()),  # type: ignore[arg-type]
     EvidenceInvalid, "file_sha256 must be"),
    ("withdraw: id None", lambda acme, _: acme.reports.withdraw(None, "duplicate"), InvalidRequest, "rp_"),  # type: ignore[arg-type]
    ("withdraw: reason typo", lambda acme, _: acme.reports.withdraw("rp_aaaaaaaa", "wrong-person"),  # type: ignore[arg-type]
     InvalidRequest, "reason must be one of: duplicate"),
    ("withdraw: reason None", lambda acme, _: acme.reports.withdraw("rp_aaaaaaaa", None),  # type: ignore[arg-type]
     InvalidRequest, "reason must be one of: duplicate"),
    ("restitution: ISO text", lambda acme, _: acme.reports.restitute("rp_aaaaaaaa", "2026-01-01T00:00:00Z", 1, "CNY"),  # type: ignore[arg-type]
     InvalidTime, "received_at must be a datetime"),
    ("restitution: naive", lambda acme, _: acme.reports.restitute("rp_aaaaaaaa", NAIVE, 1, "CNY"), InvalidTime,
     "received_at must carry its zone"),
    ("restitution: amount float", lambda acme, _: acme.reports.restitute("rp_aaaaaaaa", NOW, 1.0, "CNY"),  # type: ignore[arg-type]
     InvalidRequest, "129.00 CNY is 12900"),
    ("restitution: currency small", lambda acme, _: acme.reports.restitute("rp_aaaaaaaa", NOW, 1, "cny"),
     InvalidRequest, "currency must be an ISO 4217"),
    ("appeal: id of a report", lambda acme, _: acme.appeals.get("rp_aaaaaaaa"), InvalidRequest, "ap_"),
    ("answer: None", lambda acme, _: acme.appeals.answer("ap_aaaaaaaa", "reporter", None),  # type: ignore[arg-type]
     InvalidRequest, "text must be text"),
    ("answer: half a character", lambda acme, _: acme.appeals.answer("ap_aaaaaaaa", "reporter", "\ud800"),
     InvalidRequest, "text is not valid Unicode"),
    ("reopening: hex digest", lambda acme, _: acme.appeals.request_reopening("ap_aaaaaaaa", DIGEST.hex(), "new"),  # type: ignore[arg-type]
     InvalidRequest, "bytes.fromhex(evidence_sha256)"),
    ("explain: a number", lambda acme, _: acme.reports.explain("rp_aaaaaaaa", 7),  # type: ignore[arg-type]
     InvalidRequest, "Write it as text: str(text)"),
    ("webhook: endpoint None", lambda acme, _: acme.webhooks.get(None), InvalidRequest, "we_"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "words"), [mistake[1:] for mistake in MISTAKES], ids=[mistake[0] for mistake in MISTAKES]
)
def test_each_mistake_is_named_before_anything_is_sent(
    ledger: SmallLedger, acme: RefundLedger, call: Callable[..., object], kind: type[LedgerError], words: str
) -> None:
    buyer = ledger.buyer(WHO)
    ledger.asked()
    with pytest.raises(LedgerError) as caught:
        call(acme, buyer)
    assert type(caught.value) is kind or isinstance(caught.value, kind)
    assert words in str(caught.value)
    assert set(ledger.asked()) <= {"/v1/suite"}
    assert acme.outbox.list() == []


def test_many_of_them_do_not_stop_the_others(ledger: SmallLedger, acme: RefundLedger) -> None:
    buyer = ledger.buyer(WHO)
    wrong: list[Any] = [
        Query(buyer, 1001, consent_ref=CONSENT),  # type: ignore[arg-type]
        Query(buyer, "A", purpose="curiosity", consent_ref=CONSENT),  # type: ignore[arg-type]
        Query(WHO, "A", consent_ref=CONSENT),  # type: ignore[arg-type]
        Query(buyer, "A", Refund(1.5, "CNY", "other"), consent_ref=CONSENT),  # type: ignore[arg-type]
        (buyer, "A"),
        Query(Buyer.from_tags(9, [("phone", b64url(DIGEST))]), "A", consent_ref=CONSENT),
        Query(buyer, "A"),
    ]
    kinds = [type(outcome).__name__ for outcome in acme.lookup_many([*wrong, Query(buyer, "A", consent_ref=CONSENT)])]
    assert kinds == ["InvalidRequest"] * 5 + ["StaleEpoch", "ConsentMissing", "Lookup"]
    ledger.asked()
    assert [type(outcome) for outcome in acme.lookup_many([Query(buyer, "A"), Query(buyer, "B")])] == [
        ConsentMissing
    ] * 2
    assert ledger.asked() == [], "nothing is sent where nothing is fit"


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lookup_budget_seconds": 0}, "lookup_budget_seconds must be"),
        ({"subject_budget_seconds": "2"}, "subject_budget_seconds must be"),
        ({"check_budget_seconds": True}, "check_budget_seconds must be"),
        ({"connect_budget_seconds": float("nan")}, "connect_budget_seconds must be"),
        ({"budget_seconds": None}, "budget_seconds must be"),
        ({"proxy": "socks5://127.0.0.1:1080"}, "SOCKS"),
        ({"proxy": 3128}, "proxy must be"),
        ({"ca_file": "missing.pem"}, "The argument ca_file names missing.pem"),
        ({"ca_file": b"pem"}, "ca_file must be"),
        ({"http_client": object()}, "http_client must be a function"),
        ({"http_client": dict}, "http_client must make an httpx2.Client"),
        ({"http_client": dict, "proxy": ""}, "either http_client"),
    ],
)
def test_wrong_settings_are_named(ledger: SmallLedger, options: dict[str, Any], words: str) -> None:
    suite = ledger.suite_file(url="https://ledger.test")
    with pytest.raises(ConfigurationError) as caught:
        ledger.connect(suite=suite, **options)
    assert words in str(caught.value)


def test_a_key_of_another_platform_is_found_at_construction(ledger: SmallLedger) -> None:
    own, former, other = (Ed25519PrivateKey.generate() for _ in range(3))
    public = {kid: b64url(key.public_key().public_bytes_raw()) for kid, key in (("acme-1", former), ("acme-2", own))}
    keys = [{"kid": kid, "public_key": public_key} for kid, public_key in public.items()]
    suite = parse_suite(ledger.suite_file(kid="acme-2", keys=keys))

    def opened(key: Ed25519PrivateKey, suite: Any = suite) -> RefundLedger:
        return RefundLedger(suite, key, state_dir=ledger.folder / "keys", order_key=b"o" * 32)

    with pytest.raises(ConfigurationError, match="none of the keys that the suite file names for acme: acme-1, acme-2"):
        opened(other)
    with opened(own) as acme:
        assert acme.suite.kid == "acme-2"
    with opened(former) as acme:
        assert acme.suite.kid == "acme-1", "a new suite file with the key of before names that key"
    with opened(other, replace(suite, keys=())):
        pass  # a file of an earlier version names no keys


# --- webhooks --------------------------------------------------------------------------------------------------------

SECRET = format_secret(b"s" * 32)
BODY = b'{"type":"webhook.test","timestamp":"2026-01-31T12:00:00Z","data":{}}'
SENT = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
HEADERS: dict[str, Any] = {
    "Webhook-Id": "wm_1",
    "webhook-timestamp": str(SENT),
    "webhook-signature": signature_header([b"s" * 32], "wm_1", SENT, BODY),
}
AT = datetime.fromtimestamp(SENT, UTC)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"now": AT.replace(tzinfo=None)}, InvalidTime, "now must carry its zone"),
        ({"now": None}, InvalidTime, "now must be a datetime"),
        ({"now": SENT}, InvalidTime, "now must be a datetime"),
        ({"headers": None}, InvalidRequest, "headers must be a mapping"),
        ({"headers": [(b"webhook-id", b"wm_1")]}, InvalidRequest, "ASGI"),
        ({"headers": {b"webhook-id": b"wm_1"}}, InvalidRequest, "name.decode()"),
        ({"headers": {}}, InvalidSignature, "missing"),
        ({"headers": {**HEADERS, "Webhook-Id": None}}, InvalidSignature, "webhook-id is missing or is not one text"),
        ({"headers": {**HEADERS, "webhook-timestamp": [str(SENT)]}}, InvalidSignature, "webhook-timestamp"),
        ({"headers": {**HEADERS, "webhook-timestamp": SENT}}, InvalidSignature, "webhook-timestamp"),
        ({"headers": {**HEADERS, "webhook-signature": b"v1,x"}}, InvalidSignature, "webhook-signature"),
        ({"headers": {**HEADERS, "Webhook-Id": "\ud800"}}, InvalidSignature, "webhook-id"),
        ({"body": BODY.decode()}, InvalidRequest, "body must be the bytes that arrived"),
        ({"body": None}, InvalidRequest, "body must be the bytes that arrived"),
        ({"body": {}}, InvalidRequest, "body must be the bytes that arrived"),
        ({"secrets": SECRET.encode()}, ConfigurationError, "whsec_"),
        ({"secrets": None}, ConfigurationError, "whsec_"),
        ({"secrets": []}, ConfigurationError, "whsec_"),
        ({"secrets": [SECRET, None]}, ConfigurationError, "whsec_"),
        ({"tolerance_seconds": "300"}, InvalidRequest, "tolerance_seconds"),
        ({"tolerance_seconds": -1}, InvalidRequest, "tolerance_seconds"),
    ],
)
def test_mistakes_with_a_webhook(changes: dict[str, Any], kind: type[LedgerError], words: str) -> None:
    good: dict[str, Any] = {"secrets": SECRET, "headers": HEADERS, "body": BODY, "now": AT}
    assert verify_webhook(**good).type == "webhook.test"
    with pytest.raises(LedgerError) as caught:
        verify_webhook(**{**good, **changes})
    assert type(caught.value) is kind
    assert words in str(caught.value)


_ANYTHING: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just([]) | st.just({})
)


@settings(max_examples=25)
@given(_ANYTHING, _ANYTHING, _ANYTHING, _ANYTHING)
def test_a_webhook_never_raises_anything_else(secrets: Any, header: Any, body: Any, now: Any) -> None:
    for arguments in (
        (secrets, HEADERS, BODY, AT),
        (SECRET, {**HEADERS, "webhook-signature": header}, BODY, AT),
        (SECRET, {**HEADERS, "webhook-timestamp": header, "webhook-id": header}, BODY, AT),
        (SECRET, header, body, now),
    ):
        with suppress(LedgerError):
            verify_webhook(*arguments)


@settings(max_examples=trials(24, 40))
@given(name=st.sampled_from(sorted(report_arguments())), value=_ANYTHING)
def test_a_report_never_raises_anything_else(ledger: SmallLedger, acme: RefundLedger, name: str, value: Any) -> None:
    with suppress(LedgerError):
        acme.reports._payload(buyer=ledger.buyer(WHO), **report_arguments(**{name: value}))


@settings(max_examples=trials(24, 40))
@given(name=st.sampled_from(["order", "purpose", "refund", "consent_ref", "min_index", "region"]), value=_ANYTHING)
def test_a_lookup_never_raises_anything_else(ledger: SmallLedger, acme: RefundLedger, name: str, value: Any) -> None:
    with suppress(LedgerError):
        acme.lookup_many([Query(value, "A")])  # a wrong buyer
        who = WHO if name == "region" else ledger.buyer(WHO)
        acme.lookup(who, **{"order": "A", "consent_ref": CONSENT, name: value})
