"""Entries, commitments and leaves."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidCanonicalForm, InvalidEncoding, InvalidRequest
from ledger.protocol.encoding import b64url, canonical_json
from ledger.tlog.entries import (
    MAX_LEAF_BYTES,
    EventType,
    GovernanceType,
    PlatformState,
    RotationRecord,
    WithdrawalReason,
    commitment,
    event_entry,
    event_leaf,
    governance_leaf,
    key_rotation_body,
    parse_canonical,
    parse_leaf,
    platform_status_body,
    policy_body,
    report_entry,
    restitution_entry,
    withdrawal_entry,
)
from tests.rules.worked_examples import DOCS

AT = datetime(2026, 11, 23, 13, 45, 59, 123456, tzinfo=UTC)
C = bytes(range(32))


def test_commitment_is_hmac_sha256_under_the_salt() -> None:
    assert commitment(b"s" * 32, b"body") == hmac.new(b"s" * 32, b"body", hashlib.sha256).digest()
    for length in (0, 31, 33):
        with pytest.raises(InvalidEncoding):
            commitment(bytes(length), b"body")


def test_an_event_leaf_shows_nothing_but_place_hour_and_commitment() -> None:
    leaf = event_leaf(5, AT, C)
    assert json.loads(leaf) == {"index": 5, "sort": "event", "hour": "2026-11-23T13:00:00Z", "commitment": b64url(C)}
    assert b" " not in leaf


def test_the_hour_is_utc_wherever_the_clock_stands() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    assert event_leaf(5, AT.astimezone(india), C) == event_leaf(5, AT, C)


@given(
    st.integers(0, 2**53 - 1),
    st.integers(0, 7_258_118_400),
    st.binary(min_size=32, max_size=32),
)
def test_event_leaves_are_read_back(index: int, seconds: int, value: bytes) -> None:
    hour = datetime.fromtimestamp(seconds, UTC)
    leaf = parse_leaf(event_leaf(index, hour, value))
    assert (leaf.index, leaf.type, leaf.commitment, leaf.body) == (index, "event", value, None)
    assert leaf.hour == hour.replace(minute=0, second=0, microsecond=0)


def test_each_event_leaf_has_one_text() -> None:
    """Whatever byte of a leaf is changed: it is refused, or is the text of another event's leaf."""
    good = canonical_json(GOOD)
    refused = 0
    for place in range(len(good)):
        for byte in b'019-_AEgZz:.T"\\ {},\n\x00\xff':
            data = good[:place] + bytes([byte]) + good[place + 1 :]
            try:
                leaf = parse_leaf(data)
            except InvalidCanonicalForm:
                refused += 1
            else:
                assert leaf.commitment is not None
                assert event_leaf(leaf.index, leaf.hour, leaf.commitment) == data
    assert refused > 2000


@pytest.mark.parametrize("sort", GovernanceType)
def test_governance_leaves_are_read_back(sort: GovernanceType) -> None:
    body = {"version": 1, "text": "密钥"}
    leaf = parse_leaf(governance_leaf(3, sort, AT, body))
    assert (leaf.index, leaf.type, leaf.body, leaf.commitment) == (3, sort, body, None)


GOOD = {"index": 5, "sort": "event", "hour": "2026-11-23T13:00:00Z", "commitment": b64url(C)}


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"index": "5"},
        {"index": True},
        {"index": 2**53},
        {"sort": "report"},
        {"sort": "policy"},
        {"sort": ["event"]},
        {"sort": None},
        {"hour": "2026-11-23T13:01:00Z"},
        {"hour": "2026-11-23T13:00:01Z"},
        {"hour": 5},
        {"commitment": b64url(C[:31])},
        {"commitment": None},
        {"extra": 1},
    ],
)
def test_other_leaves_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(json.dumps({**GOOD, **change}, sort_keys=True, separators=(",", ":")).encode())
    assert parse_leaf(canonical_json(GOOD)).index == 5


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(GOOD, sort_keys=True).encode(),
        json.dumps(GOOD, separators=(",", ":")).encode(),
        canonical_json(GOOD).replace(b'"index":5', b'"index":4,"index":5'),
        canonical_json(GOOD).replace(b"event", b"\\u0065vent"),
        canonical_json(GOOD) + b"\n",
        b"\xff",
        b"",
        b"[]",
        b"5",
        b"[" * 5000,
    ],
)
def test_only_the_canonical_bytes_are_a_leaf(data: bytes) -> None:
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(data)


def test_a_governance_leaf_needs_an_object_as_body() -> None:
    leaf = {"index": 1, "sort": "policy", "hour": "2026-11-23T13:00:00Z", "body": [1]}
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(canonical_json(leaf))


@pytest.mark.parametrize("sort", ["witness_policy", "policy", "x9"])
def test_governance_leaves_of_later_versions_are_read(sort: str) -> None:
    """Another sort, further members of the leaf and of its body: known as a leaf, and nothing of it is lost."""
    hour = "2026-11-23T13:00:00Z"
    leaf = parse_leaf(canonical_json({"index": 1, "sort": sort, "hour": hour, "body": {"new": [1]}, "cosigned": 3}))
    assert (leaf.index, leaf.type, leaf.body, leaf.commitment) == (1, sort, {"new": [1]}, None)


@pytest.mark.parametrize(
    "change",
    [
        *[{"sort": sort} for sort in ("", "Policy", "a-b", "x" * 65, "9a", 5, None, ["policy"], "policy\n")],
        *[{"sort": str(sort)} for sort in EventType],
        {"commitment": b64url(C)},
        {"index": None},
        {"hour": "2026-11-23T13:01:00Z"},
        {"body": "text"},
    ],
    ids=str,
)
def test_what_no_version_writes_is_no_governance_leaf(change: dict[str, object]) -> None:
    """An event in clear is none either: what is said of people stands behind a commitment."""
    leaf = {"index": 1, "sort": "policy", "hour": "2026-11-23T13:00:00Z", "body": {}, **change}
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(canonical_json(leaf))


def test_leaves_have_a_size_limit() -> None:
    empty = len(governance_leaf(1, GovernanceType.POLICY, AT, {"text": ""}))
    largest = governance_leaf(1, GovernanceType.POLICY, AT, {"text": "x" * (MAX_LEAF_BYTES - empty)})
    assert len(largest) == MAX_LEAF_BYTES
    assert parse_leaf(largest).index == 1
    with pytest.raises(InvalidRequest):
        governance_leaf(1, GovernanceType.POLICY, AT, {"text": "x" * MAX_LEAF_BYTES})
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(b" " * (MAX_LEAF_BYTES + 1))


@pytest.mark.parametrize("index", [-1, 2**53, True, "1"])
def test_impossible_indexes_are_refused(index: int) -> None:
    with pytest.raises(InvalidRequest):
        event_leaf(index, AT, C)


def test_event_leaves_take_whole_commitments_only() -> None:
    with pytest.raises(InvalidEncoding):
        event_leaf(1, AT, C[:31])


def test_report_entry_holds_the_signed_body_and_no_act() -> None:
    body = {"v": 1, "platform": "acme"}
    data = report_entry(
        report_id="rp_1",
        platform="acme",
        control_group="g",
        recorded_at=AT,
        effective_from=AT,
        expires_at=AT,
        policy_version=1,
        body=canonical_json(body),
        signature=bytes(64),
    )
    entry = parse_canonical(data)
    assert entry["body"] == body
    assert entry["signature"] == b64url(bytes(64))
    assert entry.keys() == {
        *("type", "id", "platform", "control_group", "recorded_at", "effective_from", "expires_at", "policy", "body"),
        "signature",
    }
    with pytest.raises(InvalidEncoding):
        report_entry(
            report_id="rp_1",
            platform="acme",
            control_group="g",
            recorded_at=AT,
            effective_from=AT,
            expires_at=AT,
            policy_version=1,
            body=canonical_json(body),
            signature=bytes(63),
        )


def test_withdrawal_and_restitution_entries() -> None:
    withdrawal = withdrawal_entry(
        report_id="rp_1", platform="acme", reason=WithdrawalReason.LINKED_REPORT_VOID, recorded_at=AT
    )
    assert parse_canonical(withdrawal) == {
        "type": "withdrawal",
        "report": "rp_1",
        "platform": "acme",
        "reason": "linked_report_void",
        "recorded_at": "2026-11-23T13:45:59Z",
    }
    restitution = restitution_entry(report_id="rp_1", platform="acme", received_at=AT, recorded_at=AT)
    assert parse_canonical(restitution) == {
        "type": "restitution",
        "report": "rp_1",
        "platform": "acme",
        "received_at": "2026-11-23T13:45:59Z",
        "recorded_at": "2026-11-23T13:45:59Z",
    }


def test_governance_bodies() -> None:
    assert policy_body(version=2, toml_sha256=C, published_at=AT, in_effect_at=AT)["toml_sha256"] == b64url(C)
    rotation = key_rotation_body(epoch=1, holders=[("main", C)], log_origin="o", log_key="o+1+k", retired_epochs=[0])
    assert rotation == {
        "epoch": 1,
        "holders": [{"id": "main", "public_key": b64url(C)}],
        "log": {"origin": "o", "key": "o+1+k"},
        "retired": [0],
    }
    whole = key_rotation_body(
        epoch=2,
        holders=[("main", C)],
        log_origin="o",
        log_key="o+1+k",
        next_epoch=(3, [("main", C)]),
        previous_epoch=(1, [("main", C)], AT),
        rotation=RotationRecord(1, 2, 7, C),
    )
    assert {name: whole[name] for name in whole.keys() - rotation.keys()} == {
        "next": {"epoch": 3, "holders": rotation["holders"]},
        "previous": {"epoch": 1, "holders": rotation["holders"], "until": "2026-11-23T13:45:59Z"},
        "rotation": {"from": 1, "to": 2, "elements": 7, "root": b64url(C)},
    }
    status = platform_status_body(
        platform="acme",
        control_group="g",
        profile="CN",
        status=PlatformState.SUSPENDED,
        keys=[("a", C, False), ("b", C, True)],
    )
    assert status["status"] == "suspended"
    assert [key["status"] for key in status["keys"]] == ["active", "revoked"]


def test_keys_and_digests_have_32_bytes() -> None:
    with pytest.raises(InvalidEncoding):
        policy_body(version=2, toml_sha256=C[1:], published_at=AT, in_effect_at=AT)
    keys = {"epoch": 1, "holders": [("main", C)], "log_origin": "o", "log_key": "k"}
    for holders in ([], [("main", C[1:])]):
        for change in ({"holders": holders}, {"next_epoch": (2, holders)}, {"previous_epoch": (0, holders, AT)}):
            with pytest.raises(InvalidEncoding):
                key_rotation_body(**{**keys, **change})  # type: ignore[arg-type]
    with pytest.raises(InvalidEncoding):
        key_rotation_body(**keys, rotation=RotationRecord(0, 1, 1, C[1:]))  # type: ignore[arg-type]
    with pytest.raises(InvalidEncoding):
        platform_status_body(
            platform="a", control_group="g", profile="CN", status=PlatformState.ACTIVE, keys=[("a", b"", False)]
        )


@pytest.mark.parametrize("sort", ["witness_policy", "a", "z9_" + "x" * 61])
def test_a_reader_passes_over_governance_of_a_later_version(sort: str) -> None:
    leaf = {"index": 1, "sort": sort, "hour": "2026-11-23T13:00:00Z", "body": {"anything": [1]}}
    read = parse_leaf(canonical_json(leaf))
    assert (read.type, read.body, read.commitment) == (sort, {"anything": [1]}, None)


@pytest.mark.parametrize("sort", ["", "Policy", "9a", "a b", "x" * 65, "event", 5, None])
def test_a_type_of_entry_is_a_code(sort: object) -> None:
    leaf = {"index": 1, "sort": sort, "hour": "2026-11-23T13:00:00Z", "body": {}}
    with pytest.raises(InvalidCanonicalForm):
        parse_leaf(canonical_json(leaf))


@pytest.mark.parametrize("type_", EventType)
def test_a_body_has_the_members_of_its_row(type_: EventType) -> None:
    whole = dict.fromkeys(type_.spec.members | type_.spec.optional, "x")
    assert json.loads(event_entry(type_, whole)) == {"type": type_.value, **whole}
    least = {**whole, **dict.fromkeys(type_.spec.optional)}
    assert json.loads(event_entry(type_, least)).keys() == {"type"} | type_.spec.members
    with pytest.raises(InvalidCanonicalForm):
        event_entry(type_, {**whole, "more": 1})
    for name in type_.spec.members:
        with pytest.raises(InvalidCanonicalForm):
            event_entry(type_, {key: value for key, value in whole.items() if key != name})


def test_the_page_lists_the_members_of_every_body() -> None:
    page = (DOCS / "log.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([`\w, ]+) \| ([`\w, ]*) \|$", page, re.M)
    listed = {
        code: (members.replace("`", "").split(", "), more.replace("`", "").split(", ")) for code, members, more in rows
    }
    for item in EventType:
        assert listed[item.value] == (sorted(item.spec.members), sorted(item.spec.optional) or [""])
    for kind in GovernanceType:
        assert f"| `{kind}` |" in page
