"""Sealed entries: the format to the byte, what opens and what never does, and what those without the element see."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidBucket, InvalidInput, InvalidPoint, NewerFormat, UnsupportedKind
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import prefix as prefix_of
from ledger.protocol.tags import tag as tag_of
from ledger.rules.conduct import Conduct
from ledger.snapshots.buckets import bucket_leaf
from ledger.snapshots.layout import ENTRY_BYTES
from ledger.snapshots.sealed import (
    CONDUCT_BYTES,
    FORMAT_1,
    FORMAT_2,
    MAX_SLOTS,
    SealedEvent,
    SnapshotKeys,
    act_pseudonym,
    group_pseudonyms,
    open_bucket,
    pack_fields,
    pad_bucket,
    seal,
    seal_packed,
    snapshot_keys,
)
from tests.counts import trials
from tests.snapshots import sealed_by_hand as by_hand

VERSION = bytes(range(16))
SECRET = bytes(range(32))
KEYS = snapshot_keys(SECRET, VERSION)
ELEMENT = hashlib.sha256(b"an element").digest()
EVENT = SealedEvent(b"act 8888", b"grp4", "edited_image", 20_000, 480_100, 35, severity=6)
FIRST_EVENT = replace(EVENT, weight=38, severity=None)
"""The same in format 1, with a weight of 19 twentieths."""

bytes_32 = st.binary(min_size=32, max_size=32)
versions = st.binary(min_size=16, max_size=16)
kinds = st.sampled_from(list(Kind))
prefixes = st.integers(0, 2**20 - 1)


def events_of(form: int) -> st.SearchStrategy[SealedEvent]:
    """Events as a snapshot in this format holds them."""
    weights, severities = (
        (st.integers(0, 20), st.none()) if form == FORMAT_1 else (st.integers(0, 8), st.integers(0, 255))
    )
    return st.builds(
        SealedEvent,
        act=st.binary(min_size=8, max_size=8),
        group=st.binary(min_size=4, max_size=4),
        conduct=st.sampled_from(by_hand.CONDUCTS),
        act_day=st.integers(0, 2**16 - 1),
        effective_hour=st.integers(0, 2**32 - 1),
        weight=weights.map(lambda weight: weight * (2 if form == FORMAT_1 else 5)),
        disputed=st.booleans(),
        restituted=st.booleans(),
        has_statement=st.booleans(),
        expires_next_day=st.booleans(),
        severity=severities,
    )


def lists_of_events(least: int, most: int) -> st.SearchStrategy[list[SealedEvent]]:
    """Events of one format."""
    return st.sampled_from([FORMAT_1, FORMAT_2]).flatmap(
        lambda form: st.lists(events_of(form), min_size=least, max_size=most)
    )


def some_events(number: int, count: int) -> list[SealedEvent]:
    """Different events, the same ones for the same arguments."""
    draw = random.Random(f"{number}/{count}")
    return [
        replace(EVENT, act=draw.randbytes(8), group=draw.randbytes(4), conduct=draw.choice(by_hand.CONDUCTS))
        for _ in range(count)
    ]


def element(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def bucket_of(entries: Sequence[bytes], keys: SnapshotKeys = KEYS, capacity: int = 64, prefix: int = 7) -> bytes:
    return pad_bucket(entries, capacity, prefix, keys)


def entries_in(data: bytes) -> list[bytes]:
    return [data[start : start + ENTRY_BYTES] for start in range(0, len(data), ENTRY_BYTES)]


# --- the format ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [*by_hand.VECTORS["vectors"], *by_hand.VECTORS["format_2"]],
    ids=lambda vector: f"{vector['kind']}-{'severity' in vector['events'][0]}",
)
def test_published_vectors(vector: dict[str, Any]) -> None:
    secret, version = bytes.fromhex(vector["element"]), bytes.fromhex(vector["version"])
    kind, prefix = vector["kind"], vector["prefix"]
    listed = [by_hand.event_of(event) for event in vector["events"]]
    expected = [bytes.fromhex(text) for text in vector["entries"]]
    assert (
        prefix_of(tag_of(kind, secret), vector["bits"]) == prefix == by_hand.bucket_prefix(secret, kind, vector["bits"])
    )
    assert by_hand.entries(secret, kind, version, prefix, listed) == expected
    if not any(event.conduct.startswith("unknown:") for event in listed):
        assert seal(secret, kind, version, prefix, listed) == expected
    opened = open_bucket(b"".join(sorted(expected)), secret, kind, version, prefix)
    assert opened == sorted(listed, key=by_hand.event_bytes)


def test_the_vectors_cover_kinds_conducts_flags_and_slots() -> None:
    for name in ("vectors", "format_2"):
        vectors = by_hand.VECTORS[name]
        listed = [event for vector in vectors for event in vector["events"]]
        assert {vector["kind"] for vector in vectors} == set(Kind)
        assert {event["conduct"] for event in listed} >= set(by_hand.CONDUCTS)
        for flag in ("disputed", "restituted", "has_statement", "expires_next_day"):
            assert {event[flag] for event in listed} == {True, False}
        assert {len(vector["entries"]) for vector in vectors} == {1, 2, 3}
    assert {event["conduct"] for event in listed} - set(by_hand.CONDUCTS) == {"unknown:12", "unknown:200"}
    assert {event["weight"] for event in listed} == set(range(9))
    assert {event["severity"] for event in listed} == {0, 1, 3, 6}


def test_published_snapshot_vector() -> None:
    vector, first = by_hand.VECTORS["snapshot"], by_hand.VECTORS["vectors"][0]
    secret, version, tag = (bytes.fromhex(vector[name]) for name in ("secret", "version", "tag"))
    keys = snapshot_keys(secret, version)
    names = {"act": keys.act, "group": keys.group, "dummies": keys.dummies, "filter": keys.filter_seed}
    for name, key in names.items():
        info = b"refund-ledger snapshot v1:" + name.encode() + b":" + version
        assert key.hex() == vector[f"{name}_key"] == by_hand.hkdf(secret, info, 32).hex()
    assert act_pseudonym(keys, vector["act_id"]).hex() == vector["act"]
    assert {k: v.hex() for k, v in group_pseudonyms(keys, tag, vector["groups"]).items()} == vector["groups"]
    listed = [by_hand.event_of(event) for event in first["events"]]
    prefix, capacity = vector["prefix"], vector["capacity"]
    sealed = seal(bytes.fromhex(first["element"]), first["kind"], version, prefix, listed)
    bucket = pad_bucket(sealed, capacity, prefix, keys)
    assert bucket.hex() == vector["bucket"]
    assert hashlib.sha256(bucket).hexdigest() == vector["bucket_sha256"]
    assert bucket_leaf(version, prefix, bucket).hex() == vector["bucket_leaf"]
    stream = by_hand.keystream(keys.dummies, 0, prefix.to_bytes(4, "big") + bytes(8), (capacity - 1) * 128)
    assert bucket == b"".join(sorted([*sealed, *entries_in(stream)]))


def test_conduct_bytes_never_change() -> None:
    assert {str(conduct): number for conduct, number in CONDUCT_BYTES.items()} == {
        name: number for number, name in enumerate(by_hand.CONDUCTS, 1)
    }
    assert set(CONDUCT_BYTES) == set(Conduct)


@given(bytes_32, kinds, versions, prefixes, lists_of_events(0, 13))
@settings(max_examples=trials(36, 60))
def test_what_is_sealed_opens_and_is_as_specified(
    secret: bytes, kind: Kind, version: bytes, prefix: int, listed: list[SealedEvent]
) -> None:
    sealed = seal(secret, kind, version, prefix, listed)
    assert sealed == by_hand.entries(secret, kind.value, version, prefix, listed)
    assert sealed == seal(secret, kind.value, version, prefix, listed[::-1])
    assert len(sealed) == -(-len(listed) // 4)
    bucket = bucket_of(sealed, prefix=prefix)
    in_order = sorted(listed, key=by_hand.event_bytes)
    assert open_bucket(bucket, secret, kind, version, prefix) == in_order
    assert open_bucket(memoryview(bucket), secret, kind.value, version, prefix) == in_order


@pytest.mark.parametrize(
    "change",
    [
        {"act": b"1234567"},
        {"act": b"123456789"},
        {"group": b"123"},
        {"group": b"12345"},
        {"weight": 45},
        {"weight": -5},
        {"weight": 36},
        {"weight": 35, "severity": None},
        {"weight": 42, "severity": None},
        {"severity": 256},
        {"severity": -1},
        {"conduct": "unknown:200"},
        {"conduct": "theft"},
        {"act_day": -1},
        {"act_day": 2**16},
        {"effective_hour": -1},
        {"effective_hour": 2**32},
    ],
    ids=str,
)
def test_what_the_format_cannot_hold_is_not_sealed(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="an event"):
        seal(ELEMENT, Kind.PHONE, VERSION, 7, [replace(EVENT, **change)])


@pytest.mark.parametrize("severity", [None, 6])
def test_unknown_flags_are_not_sealed(severity: int | None) -> None:
    with pytest.raises(ValueError, match="known flags"):
        pack_fields(EVENT.act, EVENT.group, 1, 16, 20, severity, 0, 0)


def test_entries_of_one_element_are_of_one_format() -> None:
    with pytest.raises(ValueError, match="one format"):
        seal(ELEMENT, Kind.PHONE, VERSION, 7, [EVENT, FIRST_EVENT])


def test_wrong_arguments_have_names() -> None:
    bucket = bucket_of([])
    for wrong_version in (bytes(15), bytes(17)):
        with pytest.raises(InvalidInput):
            seal(ELEMENT, Kind.PHONE, wrong_version, 7, [EVENT])
        with pytest.raises(InvalidInput):
            open_bucket(bucket, ELEMENT, Kind.PHONE, wrong_version, 7)
        with pytest.raises(InvalidInput):
            snapshot_keys(SECRET, wrong_version)
    with pytest.raises(InvalidInput):
        snapshot_keys(bytes(31), VERSION)
    with pytest.raises(InvalidPoint):
        seal(bytes(31), Kind.PHONE, VERSION, 7, [EVENT])
    with pytest.raises(InvalidPoint):
        open_bucket(bucket, bytes(33), Kind.PHONE, VERSION, 7)
    with pytest.raises(UnsupportedKind):
        seal(ELEMENT, "account", VERSION, 7, [EVENT])
    with pytest.raises(UnsupportedKind):
        open_bucket(bucket, ELEMENT, "account", VERSION, 7)
    with pytest.raises(InvalidBucket):
        open_bucket(bucket[:-1], ELEMENT, Kind.PHONE, VERSION, 7)


# --- what opens, and what never does ------------------------------------------------------------------------


@given(bytes_32, versions, kinds, prefixes, lists_of_events(1, 5))
@settings(max_examples=trials(24, 40))
def test_only_the_very_element_kind_version_and_prefix_open(
    other: bytes, version: bytes, kind: Kind, prefix: int, listed: list[SealedEvent]
) -> None:
    bucket = bucket_of(seal(ELEMENT, Kind.PHONE, VERSION, 7, listed))
    if other != ELEMENT:
        assert open_bucket(bucket, other, Kind.PHONE, VERSION, 7) == []
    if kind is not Kind.PHONE:
        assert open_bucket(bucket, ELEMENT, kind, VERSION, 7) == []
    if version != VERSION:
        assert open_bucket(bucket, ELEMENT, Kind.PHONE, version, 7) == []
    if prefix != 7:
        # The check value is found, and the ciphertext is bound to its own bucket.
        with pytest.raises(InvalidBucket):
            open_bucket(bucket, ELEMENT, Kind.PHONE, VERSION, prefix)


@pytest.mark.parametrize("again_sorted", [True, False])
def test_no_flipped_bit_yields_an_event(again_sorted: bool) -> None:
    (sealed,) = seal(ELEMENT, Kind.PHONE, VERSION, 7, [EVENT])
    others = entries_in(bucket_of([], capacity=3))
    for bit in range(8 * ENTRY_BYTES):
        altered = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(ENTRY_BYTES, "big")
        entries = sorted([*others, sealed])
        entries[entries.index(sealed)] = altered
        bucket = b"".join(sorted(entries) if again_sorted else entries)
        if altered[:16] != sealed[:16]:
            assert open_bucket(bucket, ELEMENT, Kind.PHONE, VERSION, 7) == []
        else:
            with pytest.raises(InvalidBucket):
                open_bucket(bucket, ELEMENT, Kind.PHONE, VERSION, 7)


def test_a_missing_doubled_or_foreign_slot_is_refused() -> None:
    first, second, third = seal(ELEMENT, Kind.PHONE, VERSION, 7, some_events(1, 9))
    fake = first[:16] + second[16:]
    for entries in ([first, second], [first, third], [first], [first, first, second, third], [fake, second, third]):
        with pytest.raises(InvalidBucket):
            open_bucket(bucket_of(entries), ELEMENT, Kind.PHONE, VERSION, 7)
    with pytest.raises(InvalidBucket):
        open_bucket(bucket_of([first, fake, second, third]), ELEMENT, Kind.PHONE, VERSION, 7)
    # Without its first slot the element is not found: the manifest's root reveals such a bucket.
    assert open_bucket(bucket_of([second, third]), ELEMENT, Kind.PHONE, VERSION, 7) == []


FIRST_GOOD, GOOD = by_hand.payloads([FIRST_EVENT])[0], by_hand.payloads([EVENT])[0]
FULL = by_hand.payloads(some_events(2, 4))[0]


def opened(payload: bytes) -> list[SealedEvent]:
    return open_bucket(
        bucket_of([by_hand.entry(ELEMENT, "phone", VERSION, 7, 0, payload)]), ELEMENT, Kind.PHONE, VERSION, 7
    )


@pytest.mark.parametrize(
    ("payload", "position", "value"),
    [
        (GOOD, 0, 0),
        (FIRST_GOOD, 0, 2),
        *[(payload, 1, value) for payload in (GOOD, FIRST_GOOD) for value in (0, 2, 3, 4, 5, 255)],
        *[(GOOD, 2, value) for value in (1, 2)],
        *[(FULL, 2, value) for value in (2, 255)],
        *[(GOOD, position, 1) for position in range(3, 8)],
        (GOOD, 20, 0),
        *[(FIRST_GOOD, 20, value) for value in (0, 12, 255)],
        *[(FIRST_GOOD, 21, value) for value in (16, 128)],
        (GOOD, 22, 9),
        (FIRST_GOOD, 22, 21),
        (FIRST_GOOD, 23, 1),
        *[(GOOD, position, 1) for position in (30, 52, 95)],
    ],
)
def test_a_malformed_payload_under_the_right_key_is_refused(payload: bytes, position: int, value: int) -> None:
    assert opened(payload)
    with pytest.raises(InvalidBucket):
        opened(payload[:position] + bytes([value]) + payload[position + 1 :])


@pytest.mark.parametrize("number", [3, 255])
def test_a_later_format_is_named(number: int) -> None:
    with pytest.raises(NewerFormat) as refused:
        opened(bytes([number]) + GOOD[1:])
    assert refused.value.details["format"] == number


def test_what_format_2_leaves_to_later_versions_is_read() -> None:
    """An unknown conduct keeps its byte and its severity; the upper four flags say nothing that this version reads."""
    (later,) = opened(GOOD[:20] + bytes([200, GOOD[21] | 0xF0]) + GOOD[22:])
    assert later == replace(EVENT, conduct="unknown:200")
    (named,) = opened(GOOD)
    assert named == EVENT


def test_as_many_slots_are_sealed_as_a_client_opens() -> None:
    packed = [by_hand.event_bytes(replace(EVENT, act=number.to_bytes(8, "big"))) for number in range(MAX_SLOTS * 4 + 1)]
    sealed = seal_packed(ELEMENT, Kind.PHONE, VERSION, 7, packed[:-1], FORMAT_2)
    assert len(sealed) == MAX_SLOTS
    assert len(open_bucket(b"".join(sorted(sealed)), ELEMENT, Kind.PHONE, VERSION, 7)) == MAX_SLOTS * 4
    with pytest.raises(ValueError, match="more events"):
        seal_packed(ELEMENT, Kind.PHONE, VERSION, 7, packed, FORMAT_2)
    endless = bytes([2, 4, 1]) + bytes(5) + b"".join(packed[-5:-1])
    sealed[-1] = by_hand.entry(ELEMENT, "phone", VERSION, 7, MAX_SLOTS - 1, endless)
    with pytest.raises(InvalidBucket):
        open_bucket(b"".join(sorted(sealed)), ELEMENT, Kind.PHONE, VERSION, 7)


# --- pseudonyms ---------------------------------------------------------------------------------------------


@given(bytes_32, st.sets(st.text(min_size=1, max_size=8), max_size=6))
@settings(max_examples=trials(24, 40))
def test_groups_are_told_apart_under_one_tag_and_not_known_again_under_another(tag: bytes, groups: set[str]) -> None:
    given_names = group_pseudonyms(KEYS, tag, groups)
    assert given_names.keys() == groups
    assert len(set(given_names.values())) == len(groups)
    assert given_names == group_pseudonyms(KEYS, tag, sorted(groups, reverse=True) * 2)
    other = group_pseudonyms(KEYS, hashlib.sha256(tag).digest(), groups)
    assert not set(given_names.values()) & set(other.values())


def test_groups_that_collide_get_the_next_counter() -> None:
    tag = hashlib.sha256(b"tag").digest()

    def pseudonym(group: str, counter: int) -> bytes:
        return hmac.digest(KEYS.group, tag + group.encode() + counter.to_bytes(4, "big"), "sha256")[:4]

    # A birthday search over names: some 2^16 of them hold two whose four bytes are equal.
    seen: dict[bytes, str] = {}
    name = next(name for number in range(2**19) if seen.setdefault(pseudonym(name := f"g{number}", 0), name) != name)
    first, second = sorted([seen[pseudonym(name, 0)], name])
    assert group_pseudonyms(KEYS, tag, [second, first]) == {first: pseudonym(first, 0), second: pseudonym(second, 1)}


def test_keys_and_acts_differ_by_version_and_secret() -> None:
    created = [KEYS, snapshot_keys(SECRET, bytes(16)), snapshot_keys(bytes(32), VERSION)]
    values = [value for keys in created for value in (keys.act, keys.group, keys.dummies, keys.filter_seed)]
    assert len(set(values)) == 12
    assert {len(value) for value in values} == {32}
    assert len({act_pseudonym(keys, act) for keys in created for act in range(100)}) == 300
    assert SECRET.hex() not in repr(KEYS)
    assert repr(KEYS) == "SnapshotKeys()"
