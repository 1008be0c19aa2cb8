"""The log's Merkle tree: RFC 6962 hashing and proofs over the tiles of C2SP tlog-tiles. Pure.

A tree of `size` leaves is kept as *tiles*: tile (level, index) holds up to 256 concatenated 32-byte hashes, and
hash i of it is the root of the complete subtree over leaves [(256 index + i) 256^level, (256 index + i + 1)
256^level). Only complete subtrees are ever stored, so a tile grows and no hash in it changes; the root and every
proof, for this size and all earlier ones, follow from the tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from typing import Literal

from ledger.errors import Inconsistent, InvalidEncoding, InvalidInclusion, InvalidTile

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 256
FULL_TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_LEVEL = 63
MAX_TREE_SIZE = 2**63 - 1
MAX_ENTRY_BYTES = 65535
"""The longest entry: the largest value of the 16-bit length prefix in an entry bundle."""

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves (RFC 6962 section 2.1)."""

ReadTile = Callable[[int, int], bytes]
"""(level, index) -> the tile's hashes as stored. A stored tile may have more hashes than a smaller tree: only the first
ones are used."""

TileLevel = int | Literal["entries"]

_LEVEL = re.compile(r"(?:0|[1-9][0-9]?)\Z")
_INDEX = re.compile(r"((?:x[0-9]{3}/){0,6})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")


# --- hashes -------------------------------------------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of a leaf with the content `data` (RFC 6962 section 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node (RFC 6962 section 2.1). Raises InvalidEncoding unless both have 32
    bytes."""
    if len(left) != HASH_BYTES or len(right) != HASH_BYTES:
        raise InvalidEncoding("A Merkle hash must have 32 bytes.")
    return sha256(b"\x01" + left + right).digest()


def _perfect_root(hashes: bytes) -> bytes:
    """The root over 2^k concatenated hashes."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join([sha256(b"\x01" + hashes[i : i + 64]).digest() for i in range(0, len(hashes), 64)])
    return hashes


# Between two appends most runs of the right edge stay equal. The cache is keyed by their bytes, so it can never be
# stale; it has at most 512 runs of at most 4 KiB.
_run_root = lru_cache(maxsize=512)(_perfect_root)


# --- verification -------------------------------------------------------------------------------------------


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf_hash` is leaf `index` (from 0) of the tree of `size` leaves with `root`.

    `proof` lists the sibling hashes from the leaf upwards (RFC 9162 section 2.1.3.2). Raises InvalidInclusion.
    """
    if not 0 <= index < size:
        raise InvalidInclusion("The leaf's index lies outside the tree.")
    if any(len(item) != HASH_BYTES for item in (leaf_hash, root, *proof)):
        raise InvalidInclusion("A Merkle hash must have 32 bytes.")
    node, last, result = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise InvalidInclusion("The inclusion proof is too long.")
        if node & 1 or node == last:
            result = sha256(b"\x01" + sibling + result).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = sha256(b"\x01" + result + sibling).digest()
        node >>= 1
        last >>= 1
    if last:
        raise InvalidInclusion("The inclusion proof is too short.")
    if result != root:
        raise InvalidInclusion("The inclusion proof does not lead to the root.")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (`old_size`, `old_root`) is a prefix of (`new_size`, `new_root`).

    `proof` is as in RFC 6962 section 2.1.2, checked as in RFC 9162 section 2.1.4.2; it is empty for equal sizes
    and from the empty tree, which is a prefix of every tree. Raises Inconsistent.
    """
    if not 0 <= old_size <= new_size:
        raise Inconsistent("A log never shrinks.")
    if any(len(item) != HASH_BYTES for item in (old_root, new_root, *proof)):
        raise Inconsistent("A Merkle hash must have 32 bytes.")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise Inconsistent("An empty tree has only one root.")
    if old_size in (0, new_size):
        if proof:
            raise Inconsistent("There is nothing to prove here, yet a proof is given.")
        if old_size == new_size and old_root != new_root:
            raise Inconsistent("Two trees of one size have different roots.")
        return
    # A complete old tree is itself the first node of the path, and the proof leaves it out.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise Inconsistent("The consistency proof is too short.")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Inconsistent("The consistency proof is too long.")
        if node & 1 or node == last:
            old = sha256(b"\x01" + sibling + old).digest()
            new = sha256(b"\x01" + sibling + new).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = sha256(b"\x01" + new + sibling).digest()
        node >>= 1
        last >>= 1
    if last:
        raise Inconsistent("The consistency proof is too short.")
    if old != old_root or new != new_root:
        raise Inconsistent("The consistency proof does not lead to both roots.")


# --- growing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Growth:
    """A tree after an append: its `size`, its `root`, and the full content of every new or changed tile."""

    size: int
    root: bytes
    tiles: dict[tuple[int, int], bytes]


def tile_width(size: int, level: int, index: int) -> int:
    """Return the number of hashes of tile (`level`, `index`) in a tree of `size` leaves: 0 to 256."""
    return max(0, min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - TILE_WIDTH * index))


def edge_tiles(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the partial tiles on the right edge, which an append needs; lowest level first."""
    edge = []
    level, hashes = 0, size
    while hashes:
        index, width = divmod(hashes, TILE_WIDTH)
        if width:
            edge.append((level, index))
        level, hashes = level + 1, index
    return edge


def grow(size: int, edge: Mapping[tuple[int, int], bytes], leaf_hashes: Sequence[bytes]) -> Growth:
    """Append `leaf_hashes` (32 bytes each) to the tree of `size` leaves whose `edge_tiles` are `edge`.

    Raises InvalidTile when an edge tile is missing or too short, InvalidEncoding for a hash of another length.
    """
    if any(len(item) != HASH_BYTES for item in leaf_hashes):
        raise InvalidEncoding("A Merkle hash must have 32 bytes.")
    tiles: dict[tuple[int, int], bytes] = {}
    level, incoming = 0, b"".join(leaf_hashes)
    while incoming:
        index, width = divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)
        data = _hashes(edge.get((level, index), b""), 0, width) + incoming
        complete = []
        for offset in range(0, len(data), FULL_TILE_BYTES):
            tile = data[offset : offset + FULL_TILE_BYTES]
            tiles[level, index] = tile
            if len(tile) == FULL_TILE_BYTES:
                complete.append(_perfect_root(tile))
            index += 1
        level, incoming = level + 1, b"".join(complete)
    new_size = size + len(leaf_hashes)
    root = tree_root(new_size, lambda level, index: tiles.get((level, index)) or edge.get((level, index), b""))
    return Growth(new_size, root, tiles)


class CompactTree:
    """A growing tree of which only the roots of the complete subtrees on the right edge are kept: at most 63 hashes,
    largest subtree first. Their sizes are the binary digits of `size`.

    Raises InvalidTile unless `edge` has the length that belongs to `size`.
    """

    def __init__(self, size: int = 0, edge: bytes = b"") -> None:
        if not 0 <= size <= MAX_TREE_SIZE or len(edge) != size.bit_count() * HASH_BYTES:
            raise InvalidTile("The edge of a tree does not belong to its size.")
        self.size = size
        self._edge = [edge[place : place + HASH_BYTES] for place in range(0, len(edge), HASH_BYTES)]

    @property
    def edge(self) -> bytes:
        """The hashes of the right edge, concatenated."""
        return b"".join(self._edge)

    def append(self, leaf: bytes) -> None:
        """Append a leaf with the content `leaf`."""
        node, complete = leaf_hash(leaf), self.size
        while complete & 1:
            node = node_hash(self._edge.pop(), node)
            complete >>= 1
        self._edge.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root (32 bytes) over the leaves appended so far."""
        if not self._edge:
            return EMPTY_ROOT
        *left, node = self._edge
        for subtree in reversed(left):
            node = node_hash(subtree, node)
        return node


# --- roots and proofs from tiles ----------------------------------------------------------------------------


def tree_root(size: int, read_tile: ReadTile) -> bytes:
    """Return the root of the tree of `size` leaves; only the tiles of `edge_tiles` are read. Raises InvalidTile."""
    if size < 0:
        raise ValueError("a tree has no negative size")
    return _range_root(0, size, cache(read_tile)) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the sibling hashes of leaf `index` in the tree of `size` leaves, from the leaf upwards (RFC 6962 section
    2.1.1). Raises InvalidInclusion when there is no such leaf, InvalidTile for a tile too short."""
    if not 0 <= index < size:
        raise InvalidInclusion("The leaf's index lies outside the tree.")
    read = cache(read_tile)
    siblings = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            siblings.append(_range_root(split, end, read))
            end = split
        else:
            siblings.append(_range_root(start, split, read))
            start = split
    return siblings[::-1]


def consistency_proof(old_size: int, new_size: int, read_tile: ReadTile) -> list[bytes]:
    """Return the proof that the tree of `old_size` leaves is a prefix of that of `new_size` (RFC 6962 section 2.1.2);
    empty for equal sizes and from the empty tree. Raises Inconsistent when the tree would shrink, InvalidTile."""
    if not 0 <= old_size <= new_size:
        raise Inconsistent("A log never shrinks.")
    if old_size in (0, new_size):
        return []
    read = cache(read_tile)
    proof = []
    start, end = 0, new_size
    while old_size != end:
        split = start + _split(end - start)
        if old_size <= split:
            proof.append(_range_root(split, end, read))
            end = split
        else:
            proof.append(_range_root(start, split, read))
            start = split
    if start:
        # The verifier knows the root of the old tree, so the proof has the old tree's last subtree only if it is a
        # proper part of the old tree.
        proof.append(_range_root(start, end, read))
    return proof[::-1]


def _split(count: int) -> int:
    """Return the largest power of two below `count` > 1, at which RFC 6962 section 2.1 splits a tree."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(start: int, end: int, read_tile: ReadTile) -> bytes:
    """Return the root over leaves [start, end), a range of RFC 6962's splits: it consists of complete subtrees of
    falling size, which are hashed together from the right."""
    root = b""
    while end > start:
        count = (end - start) & -(end - start)
        end -= count
        level, height = divmod(count.bit_length() - 1, TILE_HEIGHT)
        index, first = divmod(end >> TILE_HEIGHT * level, TILE_WIDTH)
        run = _run_root(_hashes(read_tile(level, index), first, 1 << height))
        root = sha256(b"\x01" + run + root).digest() if root else run
    return root


def _hashes(tile: bytes, first: int, count: int) -> bytes:
    """Return `count` hashes of a stored tile from number `first` on, concatenated. Raises InvalidTile if the tile is
    too short."""
    part = tile[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(part) != count * HASH_BYTES:
        raise InvalidTile("A tile is missing or has too few hashes.")
    return part


# --- names and bundles (C2SP tlog-tiles) --------------------------------------------------------------------


def tile_path(level: TileLevel, index: int, width: int | None = None) -> str:
    """Return the path of a tile, or with level "entries" of an entry bundle, below the log's prefix: `tile/0/x001/067`,
    and for a partial one of `width` < 256, `tile/0/x001/067.p/5`. Raises InvalidTile."""
    if level != "entries" and not 0 <= level <= MAX_LEVEL:
        raise InvalidTile("A tile's level must be from 0 to 63.")
    if not 0 <= index <= MAX_TREE_SIZE or (width is not None and not 1 <= width <= TILE_WIDTH):
        raise InvalidTile("There is no such tile.")
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    suffix = "" if width in (None, TILE_WIDTH) else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"


def parse_tile_path(level: str, path: str) -> tuple[TileLevel, int, int | None]:
    """Return (level, index, width or None for a full tile) of the URL parts `level` ("0" to "63", or "entries")
    and `path` ("x001/067.p/5"). Every tile has exactly one accepted name. Raises InvalidTile."""
    match = _INDEX.match(path)
    if not match or not (level == "entries" or _LEVEL.match(level)):
        raise InvalidTile("This is not the name of a tile.")
    upper, last, partial = match.groups()
    index = int(upper.replace("x", "").replace("/", "") + last)
    width = int(partial) if partial else None
    number: TileLevel = "entries" if level == "entries" else int(level)
    # Formatting the result again refuses values out of range, a padded index (x000/001) and an explicit full width.
    if tile_path(number, index, width) != f"tile/{level}/{path}":
        raise InvalidTile("This is not the name of a tile.")
    return number, index, width


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return 1 to 256 entries as an entry bundle: each after its length, 16 bits big-endian. Raises
    InvalidTile."""
    if not 1 <= len(entries) <= TILE_WIDTH or any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise InvalidTile("A bundle holds 1 to 256 entries of at most 65,535 bytes.")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def decode_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle. Raises InvalidTile if it is cut, is empty or has more than 256 entries."""
    entries = []
    offset = 0
    while offset < len(data):
        start = offset + 2
        offset = start + int.from_bytes(data[offset:start], "big")
        entries.append(data[start:offset])
    if offset != len(data) or not 1 <= len(entries) <= TILE_WIDTH:
        raise InvalidTile("This is not an entry bundle.")
    return entries
