"""What a rotation logs and hands to an auditor: leaves and root, batch files, and the check of a whole rotation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import BatchSizeInvalid, InvalidRotation
from ledger.protocol import sodium, voprf
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import subject_commitment
from ledger.tlog import key_rotation as rotation
from ledger.tlog.key_rotation import (
    MAX_BATCH,
    Batch,
    Rotated,
    RotationKeys,
    RotationTree,
    RotationVerifier,
    commitments,
    format_batch,
    parse_batch,
    prove,
    rotation_factor,
    rotation_leaf,
)
from ledger.tlog.merkle import EMPTY_ROOT, MAX_TREE_SIZE
from tests.counts import trials

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "docs" / "vectors" / "rotation.json").read_text("utf-8"))

OLD, NEW, OTHER = (voprf.derive_secret(bytes(32), info) for info in (b"old", b"new", b"other"))
A, B, C = (voprf.public_key(secret) for secret in (OLD, NEW, OTHER))
KEYS = RotationKeys(1, 2, A, B)
NONCE = bytes(64)
BYTES_32 = st.binary(min_size=32, max_size=32)
FILES = [bytes.fromhex(file) for file in VECTORS["batch_files"]]
HEADER, RECORD, PROOF, DIGEST = 88, 138, 64, 32


# --- leaves and root ----------------------------------------------------------------------------------------


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + merkle_root(leaves[:k]) + merkle_root(leaves[k:])).digest()


@given(st.sets(st.tuples(st.integers(0, MAX_TREE_SIZE), st.integers(0, 255)), max_size=70), BYTES_32)
@settings(deadline=None, max_examples=trials(24, 40))
def test_the_root_is_that_of_rfc_6962_at_every_size(places: set[tuple[int, int]], seed: bytes) -> None:
    tree, leaves = RotationTree(), []
    assert tree.root() == EMPTY_ROOT == merkle_root([])
    for index, slot in sorted(places):
        c, c_new = (sha256(seed + b"%d %d %d" % (index, slot, i)).digest() for i in range(2))
        tree.add(index, slot, c, c_new)
        leaves.append(index.to_bytes(8, "big") + bytes([slot]) + c + c_new)
        assert leaves[-1] == rotation_leaf(index, slot, c, c_new)
        assert (tree.size, tree.last) == (len(leaves), (index, slot))
        assert tree.root() == merkle_root(leaves)
        assert len(tree._tree._edge) == tree.size.bit_count()


@pytest.mark.parametrize("second", [(7, 3), (7, 2), (6, 200), (0, 0)])
def test_places_ascend(second: tuple[int, int]) -> None:
    tree = RotationTree()
    tree.add(7, 3, bytes(32), bytes(32))
    root = tree.root()
    with pytest.raises(InvalidRotation):
        tree.add(*second, bytes(32), bytes(32))
    assert (tree.size, tree.root()) == (1, root)
    tree.add(7, 4, bytes(32), bytes(32))
    tree.add(8, 0, bytes(32), bytes(32))


def test_leaves_have_one_form() -> None:
    c, c_new = bytes(32), b"\x01" * 32
    leaves = [rotation_leaf(1, 0, c, c_new), rotation_leaf(0, 1, c, c_new), rotation_leaf(1, 0, c_new, c)]
    assert len(set(leaves)) == 3
    for wrong in ((-1, 0, c, c), (2**63, 0, c, c), (0, -1, c, c), (0, 256, c, c), (0, 0, c[:31], c), (0, 0, c, c + c)):
        with pytest.raises(InvalidRotation):
            rotation_leaf(*wrong)


# --- one subject --------------------------------------------------------------------------------------------


def salt(name: str, place: tuple[int, int]) -> bytes:
    return sha256(f"{name} {place}".encode()).digest()


@cache
def subject(index: int, slot: int = 0, new_secret: bytes = NEW) -> Rotated:
    """Made from the keys, not by a rotation."""
    hashed = voprf.hash_to_group(b"%d %d" % (index, slot))
    old, new = sodium.scalarmult(OLD, hashed), sodium.scalarmult(new_secret, hashed)
    place = index, slot
    return Rotated(*place, list(Kind)[index % 5], old, new, salt("old", place), salt("new", place))


def test_commitments_are_those_of_the_report_and_of_the_new_epoch() -> None:
    item = subject(9)
    c, c_new = commitments(item, KEYS)
    assert c == subject_commitment(item.old_salt, 1, item.kind, item.old_element)
    assert c_new == subject_commitment(item.new_salt, 2, item.kind, item.new_element)


@pytest.mark.parametrize(
    "change",
    [
        {"entry_index": -1},
        {"entry_index": 2**63},
        {"slot": 256},
        {"slot": -1},
        {"kind": "account"},
        {"old_element": bytes(31)},
        {"new_element": bytes(33)},
        {"old_salt": b""},
        {"new_salt": bytes(64)},
    ],
)
def test_subjects_of_another_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRotation):
        replace(subject(9), **change)


# --- batch files --------------------------------------------------------------------------------------------


def made(items: Sequence[Rotated], keys: RotationKeys = KEYS, number: int = 0, new_secret: bytes = NEW) -> Batch:
    """A batch with a true proof."""
    old, new = [i.old_element for i in items], [i.new_element for i in items]
    proof = prove(rotation_factor(OLD, new_secret), keys, old, new, NONCE)
    return Batch(keys, number, tuple(items), proof)


def written(batch: Batch) -> bytes:
    return format_batch(batch.items, batch.proof, batch.keys, batch.number)


def sealed(body: bytes) -> bytes:
    """Return an altered file with a matching digest, as a forger would write it."""
    return body + sha256(body).digest()


items_strategy = st.builds(
    Rotated,
    st.integers(0, MAX_TREE_SIZE),
    st.integers(0, 255),
    st.sampled_from([kind.value for kind in Kind]),
    *[BYTES_32] * 4,
)


@given(
    st.lists(items_strategy, min_size=1, max_size=8, unique_by=lambda item: item.place),
    st.binary(min_size=64, max_size=64),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 1),
    st.data(),
)
@settings(deadline=None, max_examples=trials(24, 40))
def test_a_file_says_what_was_written(
    items: list[Rotated], proof: bytes, old_epoch: int, number: int, data: st.DataObject
) -> None:
    keys = RotationKeys(old_epoch, data.draw(st.integers(old_epoch + 1, 2**32 - 1)), A, B)
    items.sort(key=lambda item: item.place)
    file = format_batch(items, proof, keys, number)
    assert len(file) == HEADER + RECORD * len(items) + PROOF + DIGEST
    assert parse_batch(file) == Batch(keys, number, tuple(items), proof)
    assert file[-DIGEST:] == sha256(file[:-DIGEST]).digest()


def test_the_longest_file_is_as_long_as_stated() -> None:
    assert rotation.MAX_BATCH_FILE_BYTES == HEADER + RECORD * MAX_BATCH + PROOF + DIGEST


@pytest.mark.parametrize("file", FILES, ids=len)
@given(st.data())
@settings(deadline=None, max_examples=trials(24, 40))
def test_cut_longer_and_altered_files_are_refused(file: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(file) - 1).filter(lambda place: place != len(file) - DIGEST))
    bit = data.draw(st.integers(0, len(file) * 8 - 1))
    flipped = (int.from_bytes(file, "big") ^ 1 << bit).to_bytes(len(file), "big")
    more = data.draw(st.binary(min_size=1, max_size=2 * RECORD))
    for false in (file[:cut], sealed(file[:cut]), flipped, file + more, more + file, sealed(file[:-DIGEST] + more)):
        with pytest.raises(InvalidRotation):
            parse_batch(false)


def regions(count: int) -> Iterator[int]:
    """A byte of every field of a file with `count` records, and the first and last of the longer ones."""
    yield from (0, 7, 8, 9, 10, 11, 12, 15, 16, 19, 20, 23, 24, 55, 56, 87)
    for record in (0, count - 1):
        start = HEADER + record * RECORD
        yield from (start + byte for byte in (0, 7, 8, 9, 10, 41, 42, 73, 74, 105, 106, 137))
    yield from (HEADER + count * RECORD + byte for byte in (0, 31, 32, 63))


@pytest.mark.parametrize("position", sorted(set(regions(4))))
def test_an_altered_file_with_a_fitting_digest_is_refused(position: int) -> None:
    """The digest finds damage; against intent there are the proof, the order and the logged root."""
    first, second = FILES
    for flip in (0x01, 0x80):
        body = bytearray(second[:-DIGEST])
        body[position] ^= flip
        verifier = RotationVerifier(vector_keys())
        verifier.add(parse_batch(first))
        with pytest.raises(InvalidRotation):
            verifier.add(parse_batch(sealed(bytes(body))))
            verifier.finish(bytes.fromhex(VECTORS["root"]), len(VECTORS["subjects"]))


def test_what_cannot_be_a_file_is_not_written() -> None:
    batch = made([subject(1), subject(2)])
    proof, keys = batch.proof, batch.keys
    for items in ([], [subject(1)] * (MAX_BATCH + 1)):
        with pytest.raises(BatchSizeInvalid):
            format_batch(items, proof, keys, 0)
    for items in ([subject(2), subject(1)], [subject(1), subject(1)]):
        with pytest.raises(InvalidRotation):
            format_batch(items, proof, keys, 0)
    for wrong_proof, number in ((proof[:63], 0), (proof + b"\x00", 0), (proof, -1), (proof, 2**32)):
        with pytest.raises(InvalidRotation):
            format_batch(batch.items, wrong_proof, keys, number)


def test_records_out_of_order_are_refused_when_read() -> None:
    file = written(made([subject(1), subject(2)]))
    first, two = (file[HEADER + i * RECORD :][:RECORD] for i in range(2))
    rest = file[HEADER + 2 * RECORD : -DIGEST]
    parse_batch(sealed(file[:HEADER] + first + two + rest))
    for records in (two + first, first + first):
        with pytest.raises(InvalidRotation, match="ascend"):
            parse_batch(sealed(file[:HEADER] + records + rest))


def test_an_empty_batch_is_refused_when_read() -> None:
    file = written(made([subject(1)]))
    with pytest.raises(InvalidRotation):
        parse_batch(sealed(file[:10] + bytes(2) + file[12:HEADER] + file[-PROOF - DIGEST : -DIGEST]))


# --- a whole rotation ---------------------------------------------------------------------------------------


def vector_keys() -> RotationKeys:
    public = bytes.fromhex(VECTORS["old_public"]), bytes.fromhex(VECTORS["new_public"])
    return RotationKeys(VECTORS["old_epoch"], VECTORS["new_epoch"], *public)


def test_published_subjects_files_and_root() -> None:
    keys = vector_keys()
    verifier = RotationVerifier(keys, workers=2)
    items: list[Rotated] = []
    for number, file in enumerate(FILES):
        batch = parse_batch(file)
        assert (batch.keys, batch.number, written(batch)) == (keys, number, file)
        items += batch.items
        verifier.add(batch)
    for item, value in zip(items, VECTORS["subjects"], strict=True):
        c, c_new = commitments(item, keys)
        derived = {"c": c, "c_new": c_new, "leaf": rotation_leaf(item.entry_index, item.slot, c, c_new)}
        values = {**asdict(item), **derived}
        assert {k: v.hex() if isinstance(v, bytes) else v for k, v in values.items()} == value
    verifier.finish(bytes.fromhex(VECTORS["root"]), len(items))


PLACES = [(5, 0), (5, 1), (6, 0), (9, 3), (20, 0), (21, 0), (21, 7)]


@cache
def rotation_of(sizes: tuple[int, ...], keys: RotationKeys = KEYS, new_secret: bytes = NEW) -> tuple[Batch, ...]:
    """The subjects at PLACES in batches of these sizes."""
    ends = [0, *[sum(sizes[: i + 1]) for i in range(len(sizes))]]
    parts = [PLACES[start:stop] for start, stop in pairwise(ends)]
    return tuple(
        made([subject(*place, new_secret) for place in part], keys, number, new_secret)
        for number, part in enumerate(parts)
    )


def root_of(batches: Sequence[Batch]) -> bytes:
    return merkle_root([rotation_leaf(*i.place, *commitments(i, b.keys)) for b in batches for i in b.items])


def check(batches: Sequence[Batch], root: bytes, count: int = len(PLACES), keys: RotationKeys = KEYS) -> None:
    verifier = RotationVerifier(keys)
    for batch in batches:
        verifier.add(batch)
    verifier.finish(root, count)


@pytest.mark.parametrize("sizes", [(7,), (3, 3, 1), (1, 6), (1,) * 7])
def test_the_root_does_not_depend_on_the_batches(sizes: tuple[int, ...]) -> None:
    check(rotation_of(sizes), root_of(rotation_of((7,))))


def test_a_rotation_of_nothing() -> None:
    check([], EMPTY_ROOT, 0)
    with pytest.raises(InvalidRotation):
        check([], EMPTY_ROOT, 1)


GOOD = rotation_of((3, 3, 1))
ONE, TWO, THREE = GOOD
LATER_KEYS = RotationKeys(2, 3, A, B)
OTHER_NEW = RotationKeys(1, 2, A, C)


def renumbered(*batches: Batch) -> list[Batch]:
    return [replace(batch, number=number) for number, batch in enumerate(batches)]


def resalted(batch: Batch) -> Batch:
    return replace(batch, items=(replace(batch.items[0], new_salt=bytes(32)), *batch.items[1:]))


FALSE: dict[str, Callable[[], Sequence[Batch]]] = {
    "none": lambda: [],
    "first missing": lambda: [TWO, THREE],
    "first missing, renumbered": lambda: renumbered(TWO, THREE),
    "middle missing": lambda: [ONE, THREE],
    "middle missing, renumbered": lambda: renumbered(ONE, THREE),
    "last missing": lambda: [ONE, TWO],
    "doubled": lambda: [ONE, TWO, TWO, THREE],
    "doubled, renumbered": lambda: renumbered(ONE, TWO, TWO, THREE),
    "swapped": lambda: [TWO, ONE, THREE],
    "swapped, renumbered": lambda: renumbered(TWO, ONE, THREE),
    "one more": lambda: [*GOOD, made([subject(30)], number=3)],
    "overlapping": lambda: [ONE, made([subject(6), subject(9, 3), subject(20)], number=1), THREE],
    "of later epochs": lambda: [ONE, rotation_of((3, 3, 1), LATER_KEYS)[1], THREE],
    "of another new key": lambda: [ONE, rotation_of((3, 3, 1), OTHER_NEW, OTHER)[1], THREE],
    "all of another new key": lambda: rotation_of((3, 3, 1), OTHER_NEW, OTHER),
    "relabelled from another new key": lambda: [
        ONE,
        replace(rotation_of((3, 3, 1), OTHER_NEW, OTHER)[1], keys=KEYS),
        THREE,
    ],
    "proofs exchanged": lambda: [replace(ONE, proof=TWO.proof), replace(TWO, proof=ONE.proof), THREE],
    "another salt": lambda: [ONE, resalted(TWO), THREE],
    "another kind": lambda: [
        ONE,
        TWO,
        replace(THREE, items=(replace(THREE.items[0], kind="device"),)),
    ],
    "another place": lambda: [ONE, TWO, replace(THREE, items=(replace(THREE.items[0], slot=6),))],
    "a subject left out": lambda: [ONE, made(TWO.items[1:], number=1), THREE],
}


@pytest.mark.parametrize("batches", FALSE.values(), ids=FALSE.keys())
def test_false_rotations_are_refused(batches: Callable[[], Sequence[Batch]]) -> None:
    check(GOOD, root_of(GOOD))
    with pytest.raises(InvalidRotation):
        check(batches(), root_of(GOOD))


def test_root_and_count_must_both_be_the_logged_ones() -> None:
    root = root_of(GOOD)
    for wrong in ((bytes(32), 7), (root[:31], 7), (root, 6), (root, 8)):
        with pytest.raises(InvalidRotation):
            check(GOOD, *wrong)


def test_a_refused_batch_changes_nothing() -> None:
    verifier = RotationVerifier(KEYS)
    verifier.add(ONE)
    for false in (ONE, THREE, replace(TWO, proof=bytes(64)), replace(TWO, items=TWO.items[::-1])):
        with pytest.raises(InvalidRotation):
            verifier.add(false)
        assert (verifier.count, verifier.batches) == (3, 1)
    verifier.add(TWO)
    verifier.add(THREE)
    verifier.finish(root_of(GOOD), 7)
