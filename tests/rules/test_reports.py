"""Report bodies, signatures, the checks at intake and the states of a report."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    AlreadyExpired,
    ConsentMissing,
    EvidenceInsufficient,
    EvidenceInvalid,
    EvidenceRefused,
    InvalidCanonicalForm,
    InvalidEncoding,
    InvalidReport,
    InvalidSignature,
    InvalidTime,
    LedgerError,
    NoticeInvalid,
    SubjectsInvalid,
    UnknownConduct,
)
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.encoding import b64url, canonical_json, day_floor, format_time, from_day, from_hour, hour_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Profile
from ledger.rules.reports import (
    SIGNATURE_DOMAIN,
    RefundOutcome,
    Status,
    check_intake,
    effective_from_hour,
    former_order_ref,
    normal_order_id,
    order_ref,
    parse_body,
    sign,
    signed_bytes,
    status,
    verify_signature,
)
from tests.rules.worked_examples import DOCS

POLICY = shipped_policy()[1]
NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def c(number: int) -> str:
    return b64url(bytes([number]) * 32)


def body(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "v": 1,
        "service": "ledger.example",
        "platform": "acme",
        "kid": "acme-1",
        "epoch": 1,
        "subjects": [{"kind": "phone", "c": c(1)}, {"kind": "payment", "c": c(2)}],
        "order_ref": c(3),
        "conduct": "wardrobing",
        "evidence": [{"type": "intake_photo", "sha256": c(4)}, {"type": "policy_clause", "sha256": c(5)}],
        "amount_minor": 12900,
        "currency": "CNY",
        "outcome": "refund_suffered",
        "act_ended_at": format_time(NOW - timedelta(days=10)),
        "notice_sent_at": format_time(NOW - timedelta(days=4)),
        "notice_ref": "notice-1",
        "decided_by": "agent-42",
        "consent_ref": "consent-1",
    }
    data.update(changes)
    return {key: value for key, value in data.items() if value is not ...}


def test_a_body_is_read() -> None:
    read = parse_body(body(replaces="rp_abcdefgh"))
    assert [subject.kind for subject in read.subjects] == [Kind.PHONE, Kind.PAYMENT]
    assert read.subjects[0].commitment == bytes([1]) * 32
    assert read.order_ref == bytes([3]) * 32
    assert (read.conduct, read.outcome) == (Conduct.WARDROBING, RefundOutcome.REFUND_SUFFERED)
    assert (read.amount_minor, read.currency, read.replaces) == (12900, "CNY", "rp_abcdefgh")
    assert read.act_ended_at == (NOW - timedelta(days=10)).replace(microsecond=0)
    assert parse_body(body(consent_ref=...)).consent_ref is None


def test_the_example_in_the_docs_is_a_report() -> None:
    text = (DOCS / "reports.md").read_text(encoding="utf-8")
    example = re.search(r"## The signed body\n.*?```json\n(.*?)```", text, re.DOTALL)
    assert example
    read = parse_body(json.loads(example[1]))
    check_intake(read, Profile.CN, POLICY, datetime(2026, 11, 9, tzinfo=UTC))


REQUIRED = sorted(body(consent_ref=...))


@pytest.mark.parametrize("key", REQUIRED)
def test_every_field_is_required(key: str) -> None:
    with pytest.raises(InvalidReport) as raised:
        parse_body(body(**{key: ...}))
    assert raised.value.details["missing"] == [key]


@pytest.mark.parametrize("key", sorted({*REQUIRED, "consent_ref", "replaces"}))
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, "", -1, "x" * 200, "a\nb"])
def test_no_field_takes_just_anything(key: str, value: object) -> None:
    with pytest.raises((InvalidReport, InvalidTime)):
        parse_body(body(**{key: value}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"unknown": 1}, InvalidReport),
        ({"v": 2}, InvalidReport),
        ({"epoch": 0}, InvalidReport),
        ({"amount_minor": 2**53}, InvalidReport),
        ({"currency": "cny"}, InvalidReport),
        ({"currency": "XXX"}, InvalidReport),
        ({"currency": "XAU"}, InvalidReport),
        ({"outcome": "refund_lost"}, InvalidReport),
        ({"conduct": "rudeness"}, UnknownConduct),
        ({"conduct": ["wardrobing"]}, UnknownConduct),
        ({"platform": "acme corp"}, InvalidReport),
        ({"platform": "a" * 65}, InvalidReport),
        ({"platform": "acme\n"}, InvalidReport),
        ({"kid": "-x"}, InvalidReport),
        ({"order_ref": b64url(bytes(31))}, InvalidReport),
        ({"order_ref": c(3) + "="}, InvalidReport),
        ({"act_ended_at": "2026-11-01"}, InvalidTime),
        ({"act_ended_at": "2026-11-01T00:00:00+00:00"}, InvalidTime),
        ({"notice_sent_at": "2026-02-30T00:00:00Z"}, InvalidTime),
        ({"notice_ref": "n" * 129}, InvalidReport),
        ({"notice_ref": "e\u0301"}, InvalidReport),
        ({"notice_ref": "\u202eabc"}, InvalidReport),
        ({"notice_ref": "\ud800"}, InvalidReport),
        ({"replaces": "ap_abcdefgh"}, InvalidReport),
        ({"subjects": [{"kind": "phone", "c": c(n)} for n in range(9)]}, SubjectsInvalid),
        ({"subjects": [{"kind": "phone", "c": c(1)}, {"kind": "email", "c": c(1)}]}, SubjectsInvalid),
        ({"subjects": [{"kind": "account", "c": c(1)}]}, SubjectsInvalid),
        ({"subjects": [{"kind": ["phone"], "c": c(1)}]}, SubjectsInvalid),
        ({"subjects": [{"kind": "phone", "c": c(1), "element": c(2)}]}, SubjectsInvalid),
        ({"subjects": [{"kind": "phone", "c": c(1)[:-1]}]}, SubjectsInvalid),
        ({"subjects": [{"kind": "phone", "c": 5}]}, SubjectsInvalid),
        ({"subjects": ["phone"]}, SubjectsInvalid),
        ({"evidence": [{"type": "police_penalty_record", "sha256": c(4)}]}, EvidenceRefused),
        ({"evidence": [{"type": "intake_photo", "sha256": "x"}]}, EvidenceInvalid),
    ],
)
def test_unfit_bodies_are_refused(changes: dict[str, Any], error: type[LedgerError]) -> None:
    with pytest.raises(error):
        parse_body(body(**changes))


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_a_body_is_an_object(data: Any) -> None:
    with pytest.raises(InvalidReport):
        parse_body(data)


def test_the_limits_themselves_are_allowed() -> None:
    read = parse_body(
        body(
            subjects=[{"kind": "phone", "c": c(n)} for n in range(8)],
            notice_ref="通" * 128,
            platform="a" * 64,
            amount_minor=0,
        )
    )
    assert len(read.subjects) == 8
    assert parse_body(body(amount_minor=2**53 - 1)).amount_minor == 2**53 - 1


def test_currencies() -> None:
    assert (MINOR_DIGITS["CNY"], MINOR_DIGITS["JPY"], MINOR_DIGITS["KWD"]) == (2, 0, 3)
    assert all(re.fullmatch("[A-Z]{3}", code) for code in MINOR_DIGITS)
    assert {"EUR", "USD", "GBP", "HKD", "TWD", "SGD", "KRW", "INR", "BRL"} <= MINOR_DIGITS.keys()
    assert MINOR_DIGITS.keys().isdisjoint({"XXX", "XTS", "XAU", "XDR", "CLF", "UYI", "CHE"})


def test_a_signature_covers_every_byte_of_the_body() -> None:
    signature = sign(body(), KEY)
    assert signed_bytes(body()) == SIGNATURE_DOMAIN + canonical_json(body())
    verify_signature(dict(reversed(body().items())), signature, KEY.public_key())
    for other in (body(amount_minor=12901), body(consent_ref=...), body(platform="rival")):
        with pytest.raises(InvalidSignature):
            verify_signature(other, signature, KEY.public_key())
    for wrong in (bytes(64), signature[:-1], b""):
        with pytest.raises(InvalidSignature):
            verify_signature(body(), wrong, KEY.public_key())
    with pytest.raises(InvalidSignature):
        verify_signature(body(), signature, Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())
    with pytest.raises(InvalidSignature):
        verify_signature(body(), KEY.sign(canonical_json(body())), KEY.public_key())


def test_only_canonical_values_are_signed() -> None:
    with pytest.raises(InvalidCanonicalForm):
        sign(body(amount_minor=1.0), KEY)


@given(text=st.text(max_size=12), ends=st.text(alphabet=" \t\n\r\u00a0\u3000\ufeff\u200b\u2800", max_size=4))
def test_an_order_number_has_one_normal_form(text: str, ends: str) -> None:
    try:
        normal = normal_order_id(text)
    except InvalidReport:
        with pytest.raises(InvalidReport):
            order_ref(bytes(32), text)
        return
    assert normal_order_id(normal) == normal == normal.strip()
    assert normal == unicodedata.normalize("NFKC", normal)
    assert normal_order_id(ends + normal + ends) == normal
    assert order_ref(bytes(32), text) == order_ref(bytes(32), normal)
    former = former_order_ref(bytes(32), text)
    assert (former is None) == (unicodedata.normalize("NFC", text) == normal)
    assert former is None or former != order_ref(bytes(32), text)


def test_order_references() -> None:
    key = bytes(range(32))
    expected = hmac.new(key, b"refund-ledger order v1:A-1001", hashlib.sha256).digest()
    assert order_ref(key, "A-1001") == expected
    assert order_ref(key, "caf\u00e9") == order_ref(key, "cafe\u0301")
    assert order_ref(key, "A-1002") != expected != order_ref(bytes(32), "A-1001")
    with pytest.raises(InvalidEncoding):
        order_ref(key[1:], "A-1001")
    with pytest.raises(InvalidReport):
        order_ref(key, "")
    with pytest.raises(InvalidReport):
        order_ref(key, "\ud800")


# --- intake -------------------------------------------------------------------------------------------------


def intake(profile: Profile = Profile.CN, now: datetime = NOW, **changes: Any) -> Any:
    return check_intake(parse_body(body(**changes)), profile, POLICY, now)


def test_intake_derives_hours_and_days() -> None:
    result = intake()
    assert from_day(result.act_day) == datetime(2026, 11, 13, tzinfo=UTC)
    assert from_day(result.expires_day) == datetime(2027, 2, 11, tzinfo=UTC)
    # Informed 4 days ago: 72 hours later, rounded up, is midnight today, so recording comes last.
    assert from_hour(result.effective_hour) == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert result.severity == 1


def test_a_fresh_notice_cools() -> None:
    result = intake(notice_sent_at=format_time(NOW))
    assert from_hour(result.effective_hour) == datetime(2026, 11, 27, tzinfo=UTC)


@given(st.integers(0, 86400 * 40), st.integers(0, 86400 * 40))
def test_nobody_is_shown_before_72_hours_or_made_to_wait_a_day_more(notice_seconds: int, recorded_seconds: int) -> None:
    notice, recorded = NOW + timedelta(seconds=notice_seconds), NOW + timedelta(seconds=recorded_seconds)
    effective = from_hour(effective_from_hour(notice, recorded, 72))
    assert effective >= notice + timedelta(hours=72)
    assert effective > recorded - timedelta(hours=1)
    assert effective < max(notice + timedelta(hours=96), recorded + timedelta(seconds=1))


def test_the_person_is_told_after_the_act_and_before_the_report() -> None:
    at = format_time
    intake(notice_sent_at=at(NOW - timedelta(days=10)))
    intake(notice_sent_at=at(NOW + timedelta(minutes=4)))
    with pytest.raises(NoticeInvalid):
        intake(notice_sent_at=at(NOW - timedelta(days=10, seconds=1)))
    with pytest.raises(NoticeInvalid):
        intake(notice_sent_at=at(NOW + timedelta(minutes=5, seconds=5)))


@pytest.mark.parametrize("profile", Profile)
def test_consent_is_needed_where_the_law_asks_for_it(profile: Profile) -> None:
    assert profile.spec.consent_for_reports is (profile is Profile.CN)
    if profile.spec.consent_for_reports:
        with pytest.raises(ConsentMissing) as refused:
            intake(profile, consent_ref=...)
        assert refused.value.details["profile"] == profile.value
    else:
        intake(profile, consent_ref=...)


@pytest.mark.parametrize("blank", [" ", "  ", "\u3164", "\u2800", "\u115f \u1160"])
def test_a_reference_that_shows_nothing_names_nothing(blank: str) -> None:
    """Blanks of every kind that are printable by Python's rules: no consent is recorded there, and no notice."""
    with pytest.raises(ConsentMissing):
        intake(Profile.CN, consent_ref=blank)
    with pytest.raises(InvalidReport):
        intake(notice_ref=blank)
    with pytest.raises(InvalidReport):
        intake(decided_by=blank)
    intake(Profile.CN, consent_ref=f"{blank}1")


def test_evidence_is_checked() -> None:
    with pytest.raises(EvidenceInsufficient):
        intake(evidence=[{"type": "intake_photo", "sha256": c(4)}])


def test_reports_past_their_retention_are_refused() -> None:
    now = datetime(2027, 2, 10, 23, 59, 59, tzinfo=UTC)
    intake(now=now)
    with pytest.raises(AlreadyExpired):
        intake(now=now + timedelta(seconds=1))


def test_reports_that_could_never_count_are_refused() -> None:
    now = datetime(2027, 2, 8, 12, tzinfo=UTC)
    intake(now=now, notice_sent_at="2027-02-07T00:00:00Z")
    with pytest.raises(AlreadyExpired):
        intake(now=now, notice_sent_at="2027-02-08T00:00:00Z")


# --- status -------------------------------------------------------------------------------------------------

HOUR, DAY = hour_floor(NOW), day_floor(NOW)


def test_cooling_counting_expired() -> None:
    def at(hours: float) -> Status:
        return status(NOW + timedelta(hours=hours), effective_hour=HOUR + 1, expires_day=DAY + 2)

    assert [at(0), at(0.4), at(0.5), at(24), at(35), at(36)] == [
        Status.COOLING,
        Status.COOLING,
        Status.COUNTING,
        Status.COUNTING,
        Status.COUNTING,
        Status.EXPIRED,
    ]


def test_a_status_changes_on_the_second() -> None:
    def at(moment: datetime) -> Status:
        return status(moment, effective_hour=HOUR, expires_day=DAY + 1)

    second = timedelta(seconds=1)
    assert (at(from_hour(HOUR) - second), at(from_hour(HOUR))) == (Status.COOLING, Status.COUNTING)
    assert (at(from_day(DAY + 1) - second), at(from_day(DAY + 1))) == (Status.COUNTING, Status.EXPIRED)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"disputed": True}, Status.DISPUTED),
        ({"disputed": True, "effective_hour": HOUR + 9}, Status.DISPUTED),
        ({"unconfirmed": True}, Status.UNCONFIRMED),
        ({"unconfirmed": True, "disputed": True}, Status.DISPUTED),
        ({"disputed": True, "expires_day": DAY}, Status.EXPIRED),
        ({"reversal": Status.WITHDRAWN, "expires_day": DAY}, Status.WITHDRAWN),
        ({"reversal": Status.OVERTURNED, "disputed": True}, Status.OVERTURNED),
        ({"reversal": Status.VICTIM}, Status.VICTIM),
        ({"reversal": Status.WITHDRAWN, "erased": True}, Status.ERASED),
        ({"erased": True, "expires_day": DAY}, Status.ERASED),
    ],
)
def test_what_ends_a_report_wins(facts: dict[str, Any], expected: Status) -> None:
    assert status(NOW, **{"effective_hour": HOUR, "expires_day": DAY + 1, **facts}) is expected
