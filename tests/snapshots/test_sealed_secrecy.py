"""Sealed buckets for those without the element: one size, dummies like entries, nothing to link two snapshots by."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import prefix as prefix_of
from ledger.protocol.tags import tag as tag_of
from ledger.snapshots.layout import ENTRY_BYTES
from ledger.snapshots.sealed import (
    SealedEvent,
    SnapshotKeys,
    act_pseudonym,
    open_bucket,
    pad_bucket,
    seal,
    snapshot_keys,
)

VERSION = sha256(b"one version").digest()[:16]
NEXT_VERSION = sha256(b"the next version").digest()[:16]
KEYS = snapshot_keys(sha256(b"one secret").digest(), VERSION)
NEXT_KEYS = snapshot_keys(sha256(b"the next secret").digest(), NEXT_VERSION)
BITS = 3
CAPACITY = 64
PEOPLE = [sha256(b"person %d" % number).digest() for number in range(160)]
STATISTICAL_LIMIT = 255 + 6 * np.sqrt(2 * 255)
"""Six standard deviations above the mean of chi-square with 255 degrees of freedom. The bytes are fixed."""


def event(keys: SnapshotKeys, act: int, conduct: str = "wardrobing") -> SealedEvent:
    return SealedEvent(act_pseudonym(keys, act), b"same", conduct, 20_000, 480_100, 20)


def entries_in(data: bytes) -> list[bytes]:
    return [data[start : start + ENTRY_BYTES] for start in range(0, len(data), ENTRY_BYTES)]


def snapshot(keys: SnapshotKeys, version: bytes, conducts: dict[int, str] | None = None) -> list[bytes]:
    """Return all buckets of a ledger in which every person has one event, alike for all but the people in
    `conducts`."""
    buckets: list[list[bytes]] = [[] for _ in range(2**BITS)]
    for number, element in enumerate(PEOPLE):
        prefix = prefix_of(tag_of(Kind.EMAIL, element), BITS)
        listed = [event(keys, 1, (conducts or {}).get(number, "wardrobing"))]
        buckets[prefix] += seal(element, Kind.EMAIL, version, prefix, listed)
    return [pad_bucket(entries, CAPACITY, prefix, keys) for prefix, entries in enumerate(buckets)]


ENTRIES = [
    entry
    for number in range(2000)
    for entry in seal(sha256(b"element %d" % number).digest(), Kind.EMAIL, VERSION, 5, [event(KEYS, 1)])
]
DUMMIES = [entry for prefix in range(20) for entry in entries_in(pad_bucket([], 100, prefix, KEYS))]


@given(st.integers(0, CAPACITY))
@settings(max_examples=20)
def test_a_bucket_has_one_size_and_form_however_many_it_holds(count: int) -> None:
    bucket = pad_bucket(ENTRIES[:count], CAPACITY, 5, KEYS)
    checks = [entry[:16] for entry in entries_in(bucket)]
    assert len(bucket) == CAPACITY * ENTRY_BYTES
    assert checks == sorted(checks)
    assert len(set(checks)) == CAPACITY
    assert set(ENTRIES[:count]) <= set(entries_in(bucket))
    assert bucket == pad_bucket(ENTRIES[:count][::-1], CAPACITY, 5, KEYS)


def test_more_entries_than_the_capacity_are_never_dropped() -> None:
    with pytest.raises(ValueError, match="more entries"):
        pad_bucket(ENTRIES[: CAPACITY + 1], CAPACITY, 5, KEYS)
    with pytest.raises(ValueError, match="another length"):
        pad_bucket([ENTRIES[0][:-1]], CAPACITY, 5, KEYS)


def test_dummies_differ_between_buckets_and_snapshots() -> None:
    other = snapshot_keys(sha256(b"one secret").digest(), NEXT_VERSION)
    dummies = DUMMIES + [entry for prefix in range(20) for entry in entries_in(pad_bucket([], 100, prefix, other))]
    assert len({dummy[at : at + 16] for dummy in dummies for at in range(0, ENTRY_BYTES, 16)}) == 8 * len(dummies)


@pytest.mark.parametrize("items", [ENTRIES, DUMMIES], ids=["entries", "dummies"])
def test_neither_entries_nor_dummies_show_a_pattern(items: list[bytes]) -> None:
    # The entries all hold the same event, so whatever showed through would show here.
    rows = np.frombuffer(b"".join(items), np.uint8).reshape(-1, ENTRY_BYTES)
    assert len(rows) == 2000
    assert _chi_square(rows) < STATISTICAL_LIMIT
    assert max(_chi_square(column) for column in rows.T) < STATISTICAL_LIMIT
    bits = np.unpackbits(rows, axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 6 * 0.5 / np.sqrt(len(rows))


def test_the_statistics_see_what_is_not_random() -> None:
    stamped = np.frombuffer(b"".join(ENTRIES), np.uint8).reshape(-1, ENTRY_BYTES).copy()
    stamped[:, 40] &= 0x7F
    assert _chi_square(stamped[:, 40]) > STATISTICAL_LIMIT


def _chi_square(data: np.ndarray) -> float:
    counts = np.bincount(data.ravel(), minlength=256)
    expected = data.size / 256
    return float(((counts - expected) ** 2 / expected).sum())


def test_one_snapshot_twice_is_the_same_bytes() -> None:
    assert snapshot(KEYS, VERSION) == snapshot(KEYS, VERSION)


def test_another_event_of_one_person_changes_one_entry_of_one_bucket() -> None:
    before, after = snapshot(KEYS, VERSION), snapshot(KEYS, VERSION, {17: "account_farm"})
    changed = [prefix for prefix in range(2**BITS) if before[prefix] != after[prefix]]
    assert changed == [prefix_of(tag_of(Kind.EMAIL, PEOPLE[17]), BITS)]
    old, new = (set(entries_in(built[changed[0]])) for built in (before, after))
    assert (len(old - new), len(new - old)) == (1, 1)


def test_two_snapshots_of_the_same_people_have_nothing_in_common() -> None:
    """Whose event changed between two published snapshots cannot be seen: every byte of both is new."""
    before, after = snapshot(KEYS, VERSION), snapshot(NEXT_KEYS, NEXT_VERSION, {17: "account_farm"})
    windows = [
        {bucket[at : at + 16] for bucket in built for at in range(len(bucket) - 15)} for built in (before, after)
    ]
    assert not windows[0] & windows[1]
    assert [len(bucket) for bucket in before] == [len(bucket) for bucket in after]
    prefix = prefix_of(tag_of(Kind.EMAIL, PEOPLE[17]), BITS)
    opened = [
        open_bucket(built[prefix], PEOPLE[17], Kind.EMAIL, version, prefix)
        for built, version in ((before, VERSION), (after, NEXT_VERSION))
    ]
    assert [[event.conduct for event in item] for item in opened] == [["wardrobing"], ["account_farm"]]
    assert opened[0][0].act != opened[1][0].act


def test_an_act_is_known_again_among_the_identifiers_of_one_snapshot_only() -> None:
    results = [
        open_bucket(snapshot(keys, version)[prefix], element, Kind.EMAIL, version, prefix)[0].act
        for keys, version in ((KEYS, VERSION), (NEXT_KEYS, NEXT_VERSION))
        for element in PEOPLE[:2]
        for prefix in [prefix_of(tag_of(Kind.EMAIL, element), BITS)]
    ]
    assert results[0] == results[1] != results[2] == results[3]
