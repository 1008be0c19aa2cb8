"""Verification of a served log: every byte of it, against the log's key and the checkpoints seen before.

`verify_log` trusts the pinned key alone. It recomputes the whole tree from the entries, compares every tile and the
signed root with it, and derives from the same entries the root at each size that an older checkpoint or a receipt
names; proofs offered by the server are never used.

`fetch(path)` returns the bytes at `path` below the log's prefix ("checkpoint", "tile/0/000.p/5") and raises
NotFound when there is nothing; it should bound what it reads (MAX_RESOURCE_BYTES). Whatever else it raises passes
through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ledger.client.verify.keys import KeyAudit
from ledger.client.verify.policies import PolicyAudit
from ledger.errors import (
    Equivocation,
    Inconsistent,
    InvalidCanonicalForm,
    InvalidCheckpoint,
    InvalidLeaf,
    InvalidTile,
    NotFound,
    ReceiptPending,
)
from ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from ledger.tlog.entries import EVENT_TYPE, GovernanceType, parse_leaf
from ledger.tlog.merkle import (
    EMPTY_ROOT,
    FULL_TILE_BYTES,
    HASH_BYTES,
    MAX_ENTRY_BYTES,
    TILE_WIDTH,
    ReadTile,
    TileLevel,
    consistency_proof,
    decode_bundle,
    edge_tiles,
    grow,
    inclusion_proof,
    leaf_hash,
    tile_path,
    tile_width,
    tree_root,
    verify_consistency,
)
from ledger.tlog.proof import EntryReceipt, TlogProof, format_proof, open_leaf_proof, open_receipt

Fetch = Callable[[str], bytes]
Progress = Callable[[int, int], None]
"""(entries verified so far, entries in all)."""

MAX_RESOURCE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""The largest resource a log serves: a full bundle of the longest entries, 16.8 MB."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """The facts that `verify_log` has verified of the log up to `checkpoint`.

    Keep `note`, the signed text, and give it as `last_seen` the next time. `events_count` entries of the
    `entries_count` are commitments, the rest is governance. `last_seen_size` is the size of the earlier
    checkpoint found to be a prefix of this one, if one was given; `receipts` are the verified receipts.
    `unknown_sorts` counts, by sort, the governance entries of sorts that a later version added: they are verified as
    leaves of the tree, and what they say is not read. `sharings_count` sharings of a key were introduced, each signed
    by its holders and following the one before; 0 where one holder has the whole key.
    """

    checkpoint: Checkpoint
    note: str
    entries_count: int
    events_count: int
    bundles_count: int
    tiles_count: int
    last_seen_size: int | None
    receipts: tuple[EntryReceipt, ...]
    unknown_sorts: Mapping[str, int]
    sharings_count: int


def fetch_checkpoint(fetch: Fetch) -> str:
    """Return the served note, unverified. Raises InvalidCheckpoint when it is not text."""
    try:
        return fetch("checkpoint").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidCheckpoint("This is not a signed checkpoint.") from error


def verify_log(
    fetch: Fetch,
    origin: str,
    public_key: bytes,
    last_seen: str | None = None,
    *,
    receipts: Sequence[str] = (),
    progress: Progress | None = None,
) -> LogReport:
    """Download and verify the whole log named `origin` under its 32-byte Ed25519 `public_key`.

    `last_seen` is a signed note kept from an earlier run; `receipts` are tlog-proof texts whose entries must be
    in this log. Holds one bundle and the right edge of the tree in memory, whatever the log's size.

    Raises InvalidCheckpoint, InvalidReceipt or InvalidInclusion (a note or receipt is false by itself),
    InvalidTile (a tile or bundle is not what the entries say), InvalidLeaf (an entry is malformed or at the wrong
    index, publishes a policy or snapshot against the rules of `ledger.client.verify.policies`, or names key holders
    against those of `ledger.tlog.key_history`), Inconsistent (the
    entries do not make the signed root, or the log is shorter than what it signed before), Equivocation (it signed a
    different history before) and NotFound (a part is missing).
    """
    note = fetch_checkpoint(fetch)
    checkpoint = open_checkpoint(note, origin, public_key)
    earlier = open_checkpoint(last_seen, origin, public_key) if last_seen is not None else None
    opened = tuple(open_receipt(text, origin, public_key) for text in receipts)
    known = [receipt.checkpoint for receipt in opened] + ([earlier] if earlier else [])
    if any(item.size > checkpoint.size for item in known):
        raise Inconsistent("The log is shorter than a checkpoint it signed before.")

    roots = {0: EMPTY_ROOT}
    sizes = sorted({item.size for item in known})
    edge: dict[tuple[int, int], bytes] = {}
    size = bundles = tiles = 0
    sorts: Counter[str] = Counter()
    audits = (PolicyAudit(), keys := KeyAudit())
    while size < checkpoint.size:
        width = min(TILE_WIDTH, checkpoint.size - size)
        entries = _fetch_bundle(fetch, bundles, width)
        hashes = [leaf_hash(entry) for entry in entries]
        for at in sizes:
            if size < at < size + width:
                roots[at] = grow(size, edge, hashes[: at - size]).root
        growth = grow(size, edge, hashes)
        roots[growth.size] = growth.root
        for (level, index), data in growth.tiles.items():
            # A tile still growing is served, and compared, at its final width only.
            if len(data) == tile_width(checkpoint.size, level, index) * HASH_BYTES:
                if _fetch_tile(fetch, level, index, len(data) // HASH_BYTES) != data:
                    raise InvalidTile("A served tile does not match the log's entries.", level=level, index=index)
                tiles += 1
        sorts += _check_leaves(entries, size, audits)
        edge = {place: growth.tiles.get(place) or edge[place] for place in edge_tiles(growth.size)}
        roots = {at: root for at, root in roots.items() if at in sizes or at == growth.size}
        size, bundles = growth.size, bundles + 1
        if progress is not None:
            progress(size, checkpoint.size)

    # The signed root first: only then do differences to older checkpoints speak of the log, not of a bad copy.
    if roots[checkpoint.size] != checkpoint.root:
        raise Inconsistent("The log's entries do not make the root it signed.")
    for item in known:
        if roots[item.size] != item.root:
            raise Equivocation("The log signed two checkpoints that contradict each other.")
    return LogReport(
        checkpoint,
        note,
        size,
        sorts[EVENT_TYPE],
        bundles,
        tiles,
        None if earlier is None else earlier.size,
        opened,
        {sort: count for sort, count in sorted(sorts.items()) if sort not in _KNOWN_SORTS},
        len(keys.history.sharings),
    )


@dataclass(frozen=True, slots=True)
class LogComparison:
    """Two consistent views of one log: `older` is a prefix of `newer`, or equal to it."""

    older: Checkpoint
    newer: Checkpoint


def compare_views(note_a: str, note_b: str, fetch: Fetch, origin: str, public_key: bytes) -> LogComparison:
    """Compare two signed notes, seen by two parties or at two places: they must show one history. Order does not
    matter.

    `fetch` reads a log that holds the larger of both trees; a few tiles of it are fetched, and what they say is proven
    against that tree's signed root. Raises Equivocation when the log has shown two histories (the two notes prove
    it, and the public key is enough to check them), InvalidCheckpoint for a note that the log did not sign, InvalidTile
    or NotFound when the fetched tiles cannot decide it.
    """
    views = [open_checkpoint(note, origin, public_key) for note in (note_a, note_b)]
    older, newer = sorted(views, key=lambda view: view.size)
    if older.size == newer.size:
        derived = newer.root
    else:
        read = _tile_reader(fetch, newer.size)
        derived = tree_root(older.size, read)
        proof = consistency_proof(older.size, newer.size, read)
        try:
            verify_consistency(older.size, derived, newer.size, newer.root, proof)
        except Inconsistent as error:
            raise InvalidTile("The tiles fetched do not belong to the larger checkpoint.") from error
    # `derived` is now the one root that the larger tree has at the smaller size.
    if derived != older.root:
        raise Equivocation("The log signed two checkpoints that contradict each other.")
    return LogComparison(older, newer)


def prove_leaf(fetch: Fetch, index: int, note: str, origin: str, public_key: bytes) -> tuple[bytes, str]:
    """Return (leaf, tlog-proof text) of entry `index` in the tree of the signed `note`, made from tiles and verified.

    Keep both: `tlog.proof.open_leaf_proof` verifies them again without a network. Raises ReceiptPending when the
    note does not cover the entry yet, InvalidCheckpoint, InvalidLeaf, InvalidInclusion, InvalidTile, and what `fetch`
    raises.
    """
    size = open_checkpoint(note, origin, public_key).size
    if index >= size:
        raise ReceiptPending("No checkpoint covers this entry yet. Ask again.", retry_after_seconds=1)
    bundle, place = divmod(index, TILE_WIDTH)
    leaf = _fetch_bundle(fetch, bundle, min(TILE_WIDTH, size - bundle * TILE_WIDTH))[place]
    hashes = inclusion_proof(index, size, _tile_reader(fetch, size))
    text = format_proof(TlogProof(index, tuple(hashes), note))
    open_leaf_proof(text, leaf, origin, public_key)
    return leaf, text


def _tile_reader(fetch: Fetch, size: int) -> ReadTile:
    def read(level: int, index: int) -> bytes:
        return _fetch_tile(fetch, level, index, tile_width(size, level, index))

    return read


def _fetch_tile(fetch: Fetch, level: int, index: int, width: int) -> bytes:
    data, whole = _fetch_partial(fetch, level, index, width)
    if len(data) != (FULL_TILE_BYTES if whole else width * HASH_BYTES):
        raise InvalidTile("A served tile has the wrong length.", level=level, index=index)
    return data[: width * HASH_BYTES]


def _fetch_bundle(fetch: Fetch, index: int, width: int) -> list[bytes]:
    data, whole = _fetch_partial(fetch, "entries", index, width)
    entries = decode_bundle(data)
    if len(entries) != (TILE_WIDTH if whole else width):
        raise InvalidTile("A served entry bundle has the wrong number of entries.", level="entries", index=index)
    return entries[:width]


def _fetch_partial(fetch: Fetch, level: TileLevel, index: int, width: int) -> tuple[bytes, bool]:
    """Return the resource of `width`, and whether it is the full one: a log that has grown since may have dropped the
    partial one (C2SP tlog-tiles, Partial Tiles)."""
    if width == TILE_WIDTH:
        return fetch(tile_path(level, index)), True
    try:
        return fetch(tile_path(level, index, width)), False
    except NotFound:
        return fetch(tile_path(level, index)), True


_KNOWN_SORTS = frozenset({EVENT_TYPE, *GovernanceType})


def _check_leaves(entries: Sequence[bytes], first: int, audits: Sequence[PolicyAudit | KeyAudit]) -> Counter[str]:
    """Return how many of the leaves `first`, `first` + 1, ... are of each sort, after checking them. Raises
    InvalidLeaf."""
    sorts: Counter[str] = Counter()
    for index, entry in enumerate(entries, first):
        try:
            leaf = parse_leaf(entry)
        except InvalidCanonicalForm as error:
            raise InvalidLeaf("The log holds an entry that is not a leaf of this ledger.", index=index) from error
        if leaf.index != index:
            raise InvalidLeaf("The log holds a leaf at another place than it says.", index=index)
        if leaf.type != EVENT_TYPE:  # the audits are about what is in clear
            for audit in audits:
                audit.see(leaf)
        sorts[leaf.type] += 1
    return sorts
