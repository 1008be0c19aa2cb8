"""The published vector of a signed report, and random bodies: every one is read, or refused with a named error."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    AlreadyExpired,
    InvalidCanonicalForm,
    InvalidReport,
    InvalidSignature,
    LedgerError,
    NoticeInvalid,
)
from ledger.protocol.encoding import b64url, canonical_json, day_floor, from_hour, parse_time, unb64url
from ledger.protocol.tags import subject_commitment
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Profile
from ledger.rules.reports import (
    Status,
    check_intake,
    normal_order_id,
    order_ref,
    parse_body,
    sign,
    signed_bytes,
    verify_signature,
)
from tests.rules.worked_examples import DOCS, table_rows

POLICY = shipped_policy()[1]
VECTOR: dict[str, Any] = json.loads((DOCS / "vectors" / "report.json").read_text(encoding="utf-8"))
BODY: dict[str, Any] = VECTOR["body"]
SIGNATURE = unb64url(VECTOR["signature"], 64)
KEY = Ed25519PrivateKey.from_private_bytes(unb64url(VECTOR["key"]["seed"], 32))
PUBLIC_KEY = Ed25519PublicKey.from_public_bytes(unb64url(VECTOR["key"]["public_key"], 32))


# --- the vector ---------------------------------------------------------------------------------------------


def test_the_canonical_bytes_of_the_vector() -> None:
    data = canonical_json(BODY)
    assert data.decode("utf-8") == VECTOR["canonical"]
    assert hashlib.sha256(data).hexdigest() == VECTOR["canonical_sha256"]
    # By hand, without the module: sorted keys, no blanks, nothing escaped that need not be.
    assert data == json.dumps(BODY, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def test_the_signature_of_the_vector() -> None:
    assert KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) == unb64url(VECTOR["key"]["public_key"], 32)
    assert sign(BODY, KEY) == SIGNATURE  # Ed25519 is deterministic (RFC 8032)
    PUBLIC_KEY.verify(SIGNATURE, b"refund-ledger report v1\n" + VECTOR["canonical"].encode("utf-8"))
    verify_signature(BODY, SIGNATURE, PUBLIC_KEY)


def test_the_order_reference_of_the_vector() -> None:
    order = VECTOR["order"]
    expected = hmac.new(unb64url(order["key"]), b"refund-ledger order v1:" + order["id"].encode(), hashlib.sha256)
    assert unb64url(BODY["order_ref"]) == expected.digest() == order_ref(unb64url(order["key"]), order["id"])


def test_the_subjects_of_the_vector_open_its_commitments() -> None:
    assert len(BODY["subjects"]) == len(VECTOR["subjects"]) == 2
    for signed, sent in zip(BODY["subjects"], VECTOR["subjects"], strict=True):
        salt, element = unb64url(sent["salt"], 32), unb64url(sent["element"], 32)
        kind = sent["kind"].encode()
        message = BODY["epoch"].to_bytes(4, "big") + bytes([len(kind)]) + kind + element
        assert unb64url(signed["c"]) == hmac.new(salt, message, hashlib.sha256).digest()
        assert unb64url(signed["c"]) == subject_commitment(salt, BODY["epoch"], sent["kind"], element)
        assert signed["kind"] == sent["kind"]


def test_the_order_numbers_of_the_vector() -> None:
    key = unb64url(VECTOR["order"]["key"])
    for order_id in VECTOR["order_ids"]:
        assert normal_order_id(order_id["given"]) == order_id["normal"] == normal_order_id(order_id["normal"])
        expected = hmac.new(key, b"refund-ledger order v1:" + order_id["normal"].encode(), hashlib.sha256).digest()
        assert unb64url(order_id["order_ref"]) == expected == order_ref(key, order_id["given"])
    for refused in VECTOR["order_ids_refused"]:
        with pytest.raises(InvalidReport):
            order_ref(key, refused)


def test_the_page_says_what_the_order_numbers_are_hashed_as() -> None:
    rows = table_rows(PAGE, "Order numbers")
    assert [row[1] for row in rows][:4] == ["D-3a1b"] * 4
    given = ["D-3a1b", "\t D-3a1b\r\n\u3000", "\ufeffD-3\u200ba1\u00adb", rows[3][0].split(" ")[0]]
    assert {normal_order_id(mac.strip("`")) for mac in given} == {"D-3a1b"}
    assert normal_order_id("d-3a1b") == "d-3a1b"
    assert normal_order_id("D\u00a03a1b") == "D 3a1b"
    assert normal_order_id("D\u20103a1b") == "D\u20103a1b"


def test_the_vector_is_a_report_and_its_times_are_right() -> None:
    intake = check_intake(parse_body(BODY), Profile.CN, POLICY, parse_time(VECTOR["recorded_at"]))
    expected = VECTOR["intake"]
    assert [intake.act_day, intake.effective_hour, intake.expires_day, intake.severity] == [
        *(expected["act_day"], expected["effective_hour"], expected["expires_day"], expected["severity"])
    ]


def changed_copies() -> list[tuple[str, dict[str, Any]]]:
    """The vector's body with each value changed and each key left out, one at a time."""
    copies = []
    for key, value in BODY.items():
        without = {name: item for name, item in BODY.items() if name != key}
        copies.append((f"without {key}", without))
        if isinstance(value, int):
            changed: Any = value + 1
        elif isinstance(value, str):
            changed = value[:-1] + ("A" if value[-1] != "A" else "B")
        else:
            changed = value[:-1]
        copies.append((f"other {key}", {**BODY, key: changed}))
    return [*copies, ("one more key", {**BODY, "x": 0})]


@pytest.mark.parametrize("changed", [pytest.param(body, id=name) for name, body in changed_copies()])
def test_the_signature_covers_every_field(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        verify_signature(changed, SIGNATURE, PUBLIC_KEY)


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_a_flipped_bit_breaks_the_signature(bit: int) -> None:
    flipped = bytearray(SIGNATURE)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignature):
        verify_signature(BODY, bytes(flipped), PUBLIC_KEY)


def test_a_signature_for_another_purpose_is_none_of_a_report() -> None:
    data = canonical_json(BODY)
    for message in (
        data,
        b"refund-ledger report v2\n" + data,
        b"refund-ledger report v1" + data,
        signed_bytes(BODY) + b"\n",
    ):
        with pytest.raises(InvalidSignature):
            verify_signature(BODY, KEY.sign(message), PUBLIC_KEY)


# --- random bodies ------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
# Values that get past the first check of some field.
LIKELY = st.sampled_from(
    [
        *("", "x" * 129, "e\u0301", "a\u2028b", "a\u0000", "\ud800", "\u202e", "rp_Xk3mPq9a", "CNY", "impersonated"),
        *(0, -1, 2**53, 10**400, True, 1.0, float("nan"), [], {}, None, BODY["subjects"], BODY["evidence"]),
        *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-11-01T24:00:00Z", [{}], [None], {"kind": "phone"}),
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, item in below for place in places(item, (*path, key))]]


def put(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> Any:
    """`body` with `value` at `path`."""
    if not path:
        return value
    new: Any = copy.deepcopy(body)
    inner = new
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return new


@given(
    st.lists(st.tuples(st.sampled_from(places(BODY)), JSON | LIKELY), min_size=1, max_size=2), st.sampled_from(Profile)
)
def test_random_bodies_are_read_or_refused_with_our_own_errors(
    changes: list[tuple[tuple[Any, ...], Any]], profile: Profile
) -> None:
    body: Any = BODY
    for path, value in changes:
        try:
            body = put(body, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # the first change took away where the second one was to go
    with suppress(LedgerError):
        parsed = parse_body(body)
        verify_signature(body, sign(body, KEY), PUBLIC_KEY)
        check_intake(parsed, profile, POLICY, parse_time(VECTOR["recorded_at"]))


@given(JSON)
def test_random_json_is_no_body(value: Any) -> None:
    with pytest.raises(LedgerError):
        parse_body(value)


@given(st.text(max_size=130))
def test_what_is_taken_as_a_reference_can_be_printed_and_signed(text: str) -> None:
    try:
        parsed = parse_body({**BODY, "decided_by": text})
    except LedgerError:
        return
    assert parsed.decided_by == text
    assert text.isprintable()
    assert text.splitlines() == [text]
    sign({**BODY, "decided_by": text}, KEY)


@pytest.mark.parametrize(
    "char", "\x00\x07\t\n\r\x1b\x7f\x85\xa0\xad\u200b\u200e\u2028\u2029\u202e\u2060\u3000\ufeff\ufffe"
)
def test_invisible_characters_are_refused_in_references(char: str) -> None:
    for name in ("notice_ref", "decided_by", "consent_ref"):
        for text in (char, f"a{char}", f"{char}a", f"a{char}a"):
            with pytest.raises(LedgerError):
                parse_body({**BODY, name: text})


def test_what_parses_can_be_signed_or_says_why() -> None:
    with pytest.raises(InvalidCanonicalForm):
        sign({**BODY, "amount_minor": 1.5}, KEY)


@pytest.mark.parametrize(
    ("act", "notice", "error"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", AlreadyExpired),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", NoticeInvalid),
        ("2026-11-01T09:30:00Z", "9999-12-31T23:59:59Z", NoticeInvalid),
    ],
)
def test_the_ends_of_the_calendar_are_refused(act: str, notice: str, error: type[LedgerError]) -> None:
    body = parse_body({**BODY, "act_ended_at": act, "notice_sent_at": notice})
    with pytest.raises(error):
        check_intake(body, Profile.CN, POLICY, parse_time(VECTOR["recorded_at"]))


def test_the_vector_names_its_encodings() -> None:
    assert b64url(SIGNATURE) == VECTOR["signature"]
    assert set(VECTOR) == {
        *(
            "about",
            "key",
            "order",
            "order_ids",
            "order_ids_refused",
            "subjects",
            "body",
            "canonical",
            "canonical_sha256",
            "signature",
        ),
        *("recorded_at", "intake"),
    }


# --- the page -----------------------------------------------------------------------------------------------

PAGE = (DOCS / "reports.md").read_text(encoding="utf-8")


def test_the_page_names_every_field_of_the_body() -> None:
    named = [name for row in table_rows(PAGE, "The signed body") for name in row[0].split(", ")]
    assert sorted(named) == sorted([*BODY, "replaces"])


def test_the_page_explains_every_status() -> None:
    assert [row[0] for row in table_rows(PAGE, "From when, until when")] == [status.value for status in Status]


def test_the_example_of_the_page_has_the_times_it_says() -> None:
    body = parse_body({**BODY, "act_ended_at": "2026-11-01T09:30:00Z", "notice_sent_at": "2026-11-05T08:00:00Z"})
    soon = check_intake(body, Profile.CN, POLICY, parse_time("2026-11-06T15:00:00Z"))
    late = check_intake(body, Profile.CN, POLICY, parse_time("2026-11-20T15:30:00Z"))
    assert from_hour(soon.effective_hour) == parse_time("2026-11-09T00:00:00Z")
    assert from_hour(late.effective_hour) == parse_time("2026-11-20T15:00:00Z")
    assert soon.expires_day == late.expires_day == day_floor(parse_time("2026-11-01T00:00:00Z")) + 1095
