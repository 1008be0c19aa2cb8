"""Merkle hashing, growth and proofs: against published values and a naive reference."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Inconsistent, InvalidEncoding, InvalidInclusion, InvalidTile
from ledger.tlog import merkle
from tests.counts import trials
from tests.oracles import root_of

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "merkle_proofs.json"

# The eight leaves that Certificate Transparency implementations test with, and the roots of their prefixes.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (leaf index, tree size): siblings upwards
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # (old size, new size): proof
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


# --- a naive reference, the definitions of RFC 6962 section 2.1 as they are written ---------------------------


def mth(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def path(m: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if m < k:
        return [*path(m, hashes[:k]), mth(hashes[k:])]
    return [*path(m - k, hashes[k:]), mth(hashes[:k])]


def subproof(m: int, hashes: Sequence[bytes], known: bool) -> list[bytes]:
    if m == len(hashes):
        return [] if known else [mth(hashes)]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if m <= k:
        return [*subproof(m, hashes[:k], known), mth(hashes[k:])]
    return [*subproof(m - k, hashes[k:], False), mth(hashes[:k])]


def some_hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


class Tiles(dict[tuple[int, int], bytes]):
    """A tree grown with `grow`, as a store would keep it."""

    def __init__(self, hashes: Sequence[bytes] = ()) -> None:
        super().__init__()
        self.size = 0
        self.root = merkle.EMPTY_ROOT
        self.append(hashes)

    def append(self, hashes: Sequence[bytes]) -> None:
        edge = {place: self[place] for place in merkle.edge_tiles(self.size)}
        growth = merkle.grow(self.size, edge, hashes)
        self.update(growth.tiles)
        self.size, self.root = growth.size, growth.root

    def cut(self, size: int) -> Tiles:
        """The tree as it was when it had so many leaves: no hash in a tile ever changes."""
        smaller = Tiles()
        for (level, index), data in self.items():
            if width := merkle.tile_width(size, level, index):
                smaller[level, index] = data[: 32 * width]
        smaller.size, smaller.root = size, root(size)
        return smaller

    def read(self, level: int, index: int) -> bytes:
        return self[level, index]


HASHES = some_hashes(70_000)
TREE = Tiles(HASHES)


@cache
def root(size: int) -> bytes:
    return root_of(HASHES[:size])


# --- published values ---------------------------------------------------------------------------------------


def test_roots_of_the_reference_tree() -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    for size, root in enumerate(ROOTS):
        assert root_of(hashes[:size]).hex() == root
        assert Tiles(hashes[:size]).root.hex() == root
    assert merkle.EMPTY_ROOT.hex() == ROOTS[0]
    assert merkle.node_hash(hashes[0], hashes[1]).hex() == ROOTS[2]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_of_the_reference_tree(index: int, size: int) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    proof = merkle.inclusion_proof(index, size, Tiles(hashes).read)
    assert [item.hex() for item in proof] == INCLUSION[index, size]
    merkle.verify_inclusion(index, size, hashes[index], proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_of_the_reference_tree(old: int, new: int) -> None:
    tree = Tiles([merkle.leaf_hash(leaf) for leaf in LEAVES])
    proof = merkle.consistency_proof(old, new, tree.read)
    assert [item.hex() for item in proof] == CONSISTENCY[old, new]
    merkle.verify_consistency(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


def vectors(sort: str) -> list[dict[str, Any]]:
    if not VECTORS.exists():
        return []
    cases: list[dict[str, Any]] = json.loads(VECTORS.read_text())[sort]
    return cases


@pytest.mark.skipif(not VECTORS.exists(), reason="no shared/vectors/merkle_proofs.json beside the checkout")
def test_every_published_inclusion_case() -> None:
    cases = vectors("inclusion")
    assert len(cases) == 98
    for case in cases:
        leaf, root, *proof = map(base64.b64decode, [case["leafHash"], case["root"], *(case["proof"] or [])])
        try:
            merkle.verify_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)
            refused = False
        except InvalidInclusion:
            refused = True
        assert refused == case["wantErr"], case["name"]


@pytest.mark.skipif(not VECTORS.exists(), reason="no shared/vectors/merkle_proofs.json beside the checkout")
def test_every_published_consistency_case() -> None:
    cases = vectors("consistency")
    assert len(cases) == 98
    for case in cases:
        old, new, *proof = map(base64.b64decode, [case["root1"], case["root2"], *(case["proof"] or [])])
        try:
            merkle.verify_consistency(case["size1"], old, case["size2"], new, proof)
            refused = False
        except Inconsistent:
            refused = True
        # One case accepts roots of 12 bytes; we refuse every hash that is not a SHA-256.
        assert refused == (case["wantErr"] or len(old) != 32), case["name"]


# --- properties ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=trials(20, 60))
@given(st.lists(st.integers(0, 700), max_size=6))
def test_growing_in_any_steps_makes_the_tree_of_all_leaves(steps: list[int]) -> None:
    tree = Tiles()
    for step in steps:
        tree.append(HASHES[tree.size : tree.size + step])
    hashes = HASHES[: tree.size]
    assert tree.root == mth(hashes) == root_of(hashes)
    assert tree == Tiles(hashes)
    assert merkle.tree_root(tree.size, tree.read) == tree.root


@given(st.lists(st.integers(0, 300), max_size=4))
def test_a_tree_of_which_only_the_edge_is_kept_has_the_same_root(steps: list[int]) -> None:
    kept, leaves = merkle.CompactTree(), [number.to_bytes(4, "big") for number in range(sum(steps))]
    for step in steps:
        for leaf in leaves[kept.size : kept.size + step]:
            kept.append(leaf)
        assert len(kept.edge) == 32 * kept.size.bit_count()
        assert kept.root() == mth([merkle.leaf_hash(leaf) for leaf in leaves[: kept.size]])
        kept = merkle.CompactTree(kept.size, kept.edge)


@pytest.mark.parametrize(("size", "edge"), [(1, b""), (0, bytes(32)), (3, bytes(32)), (2, bytes(33)), (-1, b"")])
def test_an_edge_belongs_to_its_size(size: int, edge: bytes) -> None:
    with pytest.raises(InvalidTile):
        merkle.CompactTree(size, edge)


@pytest.mark.parametrize("size", [255, 256, 257, 65_279, 65_280, 65_535, 65_536, 65_537, 66_000, 70_000])
def test_the_edges_of_tiles(size: int) -> None:
    assert merkle.tree_root(size, TREE.read) == root(size)
    tree = TREE.cut(size - 1)
    tree.append(HASHES[size - 1 : size])
    assert tree.root == root(size)
    for (level, index), data in tree.items():
        assert len(data) == 32 * merkle.tile_width(size, level, index)


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    widths = [(level, len(data) // 32) for (level, _), data in TREE.items()]
    assert widths.count((0, 256)) == 273
    assert sorted(set(widths)) == [(0, 112), (0, 256), (1, 17), (1, 256), (2, 1)]
    assert merkle.edge_tiles(70_000) == [(0, 273), (1, 1), (2, 0)]
    assert merkle.edge_tiles(0) == []
    assert merkle.edge_tiles(256) == [(1, 0)]
    assert TREE.cut(65_279) == Tiles(HASHES[:65_279])


@settings(deadline=None, max_examples=trials(20, 60))
@given(st.data())
def test_inclusion_proofs_are_the_definition_and_verify(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 1200))
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, TREE.read)
    expected = mth(HASHES[:size])
    assert proof == path(index, HASHES[:size])
    merkle.verify_inclusion(index, size, HASHES[index], proof, expected)
    wrong = data.draw(st.sampled_from(["index", "leaf", "root", "longer", "shorter", "bit", "bytes"]))
    other = sha256(b"other").digest()
    leaf, at = HASHES[index], index
    if wrong == "index":
        at = data.draw(st.integers(-1, size + 1).filter(lambda value: value != index))
    elif wrong == "leaf":
        leaf = other
    elif wrong == "root":
        expected = other
    elif wrong == "longer":
        proof = [*proof, other]
    elif not proof:
        return
    elif wrong == "shorter":
        proof = proof[:-1]
    else:
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = flip(proof[place], data.draw(st.integers(0, 255))) if wrong == "bit" else proof[place][:31]
    with pytest.raises(InvalidInclusion):
        merkle.verify_inclusion(at, size, leaf, proof, expected)


@settings(deadline=None, max_examples=trials(20, 60))
@given(st.data())
def test_consistency_proofs_are_the_definition_and_verify(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 1200))
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(old, new, TREE.read)
    assert proof == subproof(old, HASHES[:new], True)
    old_root, new_root = mth(HASHES[:old]), mth(HASHES[:new])
    merkle.verify_consistency(old, old_root, new, new_root, proof)
    wrong = data.draw(st.sampled_from(["old root", "new root", "longer", "shorter", "bit", "swapped"]))
    other = sha256(b"other").digest()
    if wrong == "old root":
        old_root = other
    elif wrong == "new root":
        new_root = other
    elif wrong == "longer":
        proof = [*proof, other]
    elif not proof:
        return
    elif wrong == "shorter":
        proof = proof[:-1]
    elif wrong == "bit":
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = flip(proof[place], data.draw(st.integers(0, 255)))
    else:
        old_root, new_root = new_root, old_root
    with pytest.raises(Inconsistent):
        merkle.verify_consistency(old, old_root, new, new_root, proof)


def flip(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big")


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 70_000])
@pytest.mark.parametrize("index", [0, 255, 256, 65_279, 65_534])
def test_proofs_across_three_levels(index: int, size: int) -> None:
    merkle.verify_inclusion(index, size, HASHES[index], merkle.inclusion_proof(index, size, TREE.read), root(size))
    merkle.verify_consistency(index, root(index), size, root(size), merkle.consistency_proof(index, size, TREE.read))


# --- what is refused ----------------------------------------------------------------------------------------


def test_the_empty_tree_is_a_prefix_of_every_tree_and_only_with_its_root() -> None:
    assert merkle.consistency_proof(0, 9, TREE.read) == []
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 9, HASHES[0], [])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    with pytest.raises(Inconsistent):
        merkle.verify_consistency(0, HASHES[0], 9, HASHES[0], [])
    with pytest.raises(Inconsistent):
        merkle.verify_consistency(0, HASHES[0], 0, HASHES[0], [])


@pytest.mark.parametrize(("old", "new"), [(-1, 4), (5, 4), (1, 0)])
def test_a_log_never_shrinks(old: int, new: int) -> None:
    with pytest.raises(Inconsistent):
        merkle.consistency_proof(old, new, TREE.read)
    with pytest.raises(Inconsistent):
        merkle.verify_consistency(old, HASHES[0], new, HASHES[0], [])


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0)])
def test_no_proof_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(InvalidInclusion):
        merkle.inclusion_proof(index, size, TREE.read)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_hashes_have_32_bytes(length: int) -> None:
    odd = bytes(length)
    for left, right in ((odd, HASHES[0]), (HASHES[0], odd)):
        with pytest.raises(InvalidEncoding):
            merkle.node_hash(left, right)
    with pytest.raises(InvalidEncoding):
        root_of([HASHES[0], odd])
    with pytest.raises(InvalidEncoding):
        merkle.grow(0, {}, [HASHES[0], odd])


def test_growing_needs_the_whole_edge() -> None:
    edge = {place: TREE[place] for place in merkle.edge_tiles(70_000)}
    for place, data in edge.items():
        with pytest.raises(InvalidTile):
            merkle.grow(70_000, {**edge, place: data[:-32]}, HASHES[:200])
        with pytest.raises(InvalidTile):
            merkle.grow(70_000, {key: value for key, value in edge.items() if key != place}, HASHES[:200])
    assert merkle.grow(70_000, {**edge, (0, 273): edge[0, 273] + HASHES[0]}, HASHES[:200]).root == root_of(
        HASHES + HASHES[:200]
    )


def test_no_tree_has_a_negative_size() -> None:
    with pytest.raises(ValueError, match="negative"):
        merkle.tree_root(-1, TREE.read)
