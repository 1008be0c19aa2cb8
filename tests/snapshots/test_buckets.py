"""How many buckets and how large, against other ways to compute it; and the tree over them, every hash of it."""

from __future__ import annotations

from hashlib import sha256
from math import exp, fsum, lgamma, log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidBucket, InvalidInput
from ledger.snapshots.buckets import (
    actual_capacity,
    bits_for,
    bucket_leaf,
    bucket_path,
    bucket_root,
    build_tree,
    capacity_for,
    check_bucket,
    split_answer,
)
from ledger.snapshots.layout import CAPACITY_STEP, ENTRY_BYTES, MAX_BITS, MAX_CAPACITY
from tests.counts import trials
from tests.oracles import root_of
from tests.snapshots.test_manifest import MANIFEST
from tests.support import ROOT

VERSION = bytes(range(16))
counts = st.integers(0, 10**10)


def overflow(entries: int, bits: int, capacity: int) -> float:
    """2^bits P(Poisson(entries / 2^bits) > capacity) by logarithms of the gamma function."""
    mean = entries / 2**bits
    if not mean:
        return 0.0
    beyond = range(capacity + 1, capacity + 2001)
    return float(2**bits) * fsum(exp(count * log(mean) - mean - lgamma(count + 1)) for count in beyond)


# --- sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "bits"),
    [(0, 1), (1, 1), (5, 1), (6, 2), (1000, 6), (10**4, 8), (10**6, 12), (10**7, 14), (10**8, 16), (2**33, 20)],
)
def test_bits_by_listed_count(listed: int, bits: int) -> None:
    assert bits_for(listed) == bits


@given(counts, counts)
def test_bits_follow_the_formula_and_never_fall(first: int, two: int) -> None:
    assert bits_for(min(first, two)) <= bits_for(max(first, two))
    exact = 0.6 * log2(max(first, 1))
    assert abs(min(max(exact, 1), MAX_BITS) - bits_for(first)) <= 0.5 + 1e-9


@given(counts)
def test_bits_are_exact_at_the_step(listed: int) -> None:
    bits = bits_for(listed)
    assert bits == 1 or 2 ** (10 * bits - 5) <= listed**6
    assert bits == MAX_BITS or listed**6 < 2 ** (10 * (bits + 1) - 5)


@given(st.integers(0, 5 * 10**8))
@settings(max_examples=trials(24, 40))
def test_capacity_is_the_smallest_that_hardly_ever_overflows(entries: int) -> None:
    bits = bits_for(entries)
    capacity = capacity_for(entries, bits)
    assert capacity > 0
    assert capacity % CAPACITY_STEP == 0
    assert overflow(entries, bits, capacity) < 1e-6 * (1 + 1e-9)
    assert capacity == CAPACITY_STEP or overflow(entries, bits, capacity - CAPACITY_STEP) >= 1e-6 * (1 - 1e-9)


@pytest.mark.parametrize(("entries", "bits", "capacity"), [(0, 1, 64), (10**6, 12, 384), (10**7, 14, 832)])
def test_pinned_capacities(entries: int, bits: int, capacity: int) -> None:
    assert capacity_for(entries, bits) == capacity


def test_too_many_entries_for_so_few_buckets() -> None:
    assert capacity_for(2 * 60_000, 1) <= MAX_CAPACITY
    for entries in (2 * MAX_CAPACITY - 100, 2 * MAX_CAPACITY, 10**9):
        with pytest.raises(InvalidInput):
            capacity_for(entries, 1)


def test_buckets_fill_as_the_formula_assumes() -> None:
    """Balls thrown at random: at a limit where the bound is worth a throw, buckets overflow as often as it says."""
    bits, entries, throws = 4, 4096, 20_000
    fullest = np.random.default_rng(20260101).multinomial(entries, [2.0**-bits] * 2**bits, size=throws).max(axis=1)
    for limit in (296, 304, 312):
        bound = overflow(entries, bits, limit)
        seen = float((fullest > limit).mean())
        assert 0.5 * bound < seen <= bound
    assert fullest.max() <= capacity_for(entries, bits)


@given(st.integers(0, 1000), st.integers(0, MAX_CAPACITY))
def test_an_overflow_enlarges_the_buckets(steps: int, observed: int) -> None:
    formula = steps * CAPACITY_STEP
    capacity = actual_capacity(formula, observed)
    assert capacity >= observed
    assert capacity % CAPACITY_STEP == 0
    assert capacity == formula if observed <= formula else capacity - observed < CAPACITY_STEP


# --- the tree -----------------------------------------------------------------------------------------------


def buckets(bits: int) -> list[bytes]:
    return [sha256(b"bucket %d" % prefix).digest() * 4 for prefix in range(2**bits)]


def tree_over(items: list[bytes]) -> bytes:
    return build_tree([bucket_leaf(VERSION, prefix, bucket) for prefix, bucket in enumerate(items)])


def test_a_leaf_is_bound_to_version_and_prefix() -> None:
    bucket = bytes(ENTRY_BYTES)
    assert bucket_leaf(VERSION, 5, bucket) == sha256(b"\0" + VERSION + b"\0\0\0\5" + bucket).digest()
    assert bucket_leaf(VERSION, 5, memoryview(bucket)) == bucket_leaf(VERSION, 5, bucket)


@pytest.mark.parametrize("bits", range(1, 8))
def test_every_bucket_leads_to_the_root(bits: int) -> None:
    created = buckets(bits)
    tree = tree_over(created)
    root = bucket_root(tree, bits)
    assert root == root_of([bucket_leaf(VERSION, prefix, bucket) for prefix, bucket in enumerate(created)])
    for prefix, bucket in enumerate(created):
        path = bucket_path(memoryview(tree), bits, prefix)
        assert len(path) == 32 * bits
        check_bucket(bucket, path, prefix, VERSION, bits, root)
        check_bucket(memoryview(bucket), memoryview(path), prefix, VERSION, bits, root)


def test_nothing_else_leads_to_the_root() -> None:
    bits, prefix = 4, 11
    created = buckets(bits)
    tree = tree_over(created)
    root, path, bucket = bucket_root(tree, bits), bucket_path(tree, bits, prefix), created[prefix]
    for position in range(len(path)):
        altered = path[:position] + bytes([path[position] ^ 1]) + path[position + 1 :]
        with pytest.raises(InvalidBucket):
            check_bucket(bucket, altered, prefix, VERSION, bits, root)
    for position in range(len(bucket)):
        altered = bucket[:position] + bytes([bucket[position] ^ 128]) + bucket[position + 1 :]
        with pytest.raises(InvalidBucket):
            check_bucket(altered, path, prefix, VERSION, bits, root)
    for other in {*range(-1, 2**bits + 1), 2**32 - 1} - {prefix}:
        with pytest.raises(InvalidBucket):
            check_bucket(bucket, path, other, VERSION, bits, root)
        if 0 <= other < 2**bits:
            with pytest.raises(InvalidBucket):
                check_bucket(created[other], path, prefix, VERSION, bits, root)
            with pytest.raises(InvalidBucket):
                check_bucket(bucket, bucket_path(tree, bits, other), prefix, VERSION, bits, root)
    for wrong_path in (path[:-1], path[:-32], path[32:], path + bytes(32), path + b"\0", b""):
        with pytest.raises(InvalidBucket):
            check_bucket(bucket, wrong_path, prefix, VERSION, bits, root)
    for wrong in ((bytes(16), bits, root), (VERSION, bits + 1, root), (VERSION, bits, bytes(32))):
        with pytest.raises(InvalidBucket):
            check_bucket(bucket, path, prefix, *wrong)


@pytest.mark.parametrize("count", [0, 1, 3, 6, 1023])
def test_a_tree_has_a_leaf_for_each_prefix(count: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        build_tree([bytes(32)] * count)


def test_a_tree_of_another_length_or_a_bucket_outside_is_refused() -> None:
    tree = tree_over(buckets(3))
    for wrong in (tree[:-32], tree + bytes(32), tree[:-1], b""):
        with pytest.raises(InvalidBucket):
            bucket_root(wrong, 3)
        with pytest.raises(InvalidBucket):
            bucket_path(wrong, 3, 0)
    for wrong_version in (bytes(15), bytes(17)):
        with pytest.raises(InvalidInput):
            bucket_leaf(wrong_version, 0, b"")
    for prefix in (-1, 8):
        with pytest.raises(InvalidInput):
            bucket_path(tree, 3, prefix)


def test_an_answer_is_a_bucket_and_its_path_and_nothing_else() -> None:
    size, path = MANIFEST.capacity * ENTRY_BYTES, MANIFEST.bits * 32
    answer = sha256(b"answer").digest() * ((size + path) // 32)
    assert split_answer(answer, MANIFEST) == (answer[:size], answer[size:])
    for wrong in (answer[:-1], answer + b"\0", answer[:-32], answer[:size], b""):
        with pytest.raises(InvalidBucket):
            split_answer(wrong, MANIFEST)


# --- what the documentation tabulates -----------------------------------------------------------------------


def privacy_table(people: int = 10**9, users: int = 10**7) -> list[str]:
    """What a private lookup costs and hides, as rows of Markdown by listed count, for this many people in all and
    this many users of one platform."""
    rows = []
    for listed in (10**power for power in range(3, 9)):
        bits = bits_for(listed)
        capacity = capacity_for(listed, bits)
        query = capacity * ENTRY_BYTES + 32 * bits
        total = (capacity * ENTRY_BYTES << bits) / 10**6
        rows.append(
            f"| {listed:,} | {bits} | {capacity:,} | {query:,} | {total:,.1f} MB | {people >> bits:,} |"
            f" {users >> bits:,} |"
        )
    return rows


def test_the_table_of_costs_is_the_one_in_the_documentation() -> None:
    rows = privacy_table()
    assert rows[3] == "| 1,000,000 | 12 | 384 | 49,536 | 201.3 MB | 244,140 | 2,441 |"
    page = (ROOT / "docs" / "lookups.md").read_text("utf-8")
    assert "\n".join(rows) in page
