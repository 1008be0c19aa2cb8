"""Number and size of a snapshot's buckets, and the Merkle tree over them.

`ledger.snapshots.sealed` has the entries inside. The tree's root is in the signed manifest; the answer to a bucket
query is the bucket and its path in the tree, of one length for all buckets of a snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from ledger.errors import InvalidBucket, InvalidInclusion, InvalidInput
from ledger.snapshots.layout import CAPACITY_STEP, MAX_BITS, MAX_CAPACITY, VERSION_BYTES
from ledger.snapshots.manifest import Manifest
from ledger.tlog.merkle import HASH_BYTES, leaf_hash, node_hash, verify_inclusion

# --- sizes --------------------------------------------------------------------------------------------------


def bits_for(tags_count: int) -> int:
    """Return the number of bits of a tag that select its bucket: 0.6 log2(n) rounded to the nearest integer, from 1 to
    20.

    Exact in integers: the largest b with 2^(10 b - 5) <= n^6.
    """
    return min(MAX_BITS, max(1, ((tags_count**6).bit_length() + 4) // 10))


def capacity_for(entries_count: int, bits: int) -> int:
    """Return the capacity in entries of each of 2^bits buckets: the smallest positive multiple of 64 that fewer than
    one in a million snapshots exceed in any bucket, if entries are distributed at random.

    2^bits P(Poisson(entries_count / 2^bits) > capacity) < 10^-6, the union bound over buckets. Decimal arithmetic with
    a fixed context gives the same result on every machine. Raises InvalidInput above 2^16.
    """
    exact = Context(prec=60, rounding=ROUND_HALF_EVEN)
    buckets = Decimal(2**bits)
    mean = exact.divide(Decimal(entries_count), buckets)
    allowed = exact.divide(Decimal("1e-6"), buckets)
    if mean > MAX_CAPACITY:
        raise InvalidInput("There are too many entries for so few buckets.")
    term = exact.exp(-mean)
    remaining = exact.subtract(Decimal(1), term)
    for count in range(1, MAX_CAPACITY + 1):
        term = exact.divide(exact.multiply(term, mean), Decimal(count))
        remaining = exact.subtract(remaining, term)
        if count % CAPACITY_STEP == 0 and remaining < allowed:
            return count
    raise InvalidInput("There are too many entries for so few buckets.")


def actual_capacity(formula: int, observed: int) -> int:
    """Return the capacity to build with: `formula`, or if a bucket has more entries (`observed` is the largest count),
    that count rounded up to a multiple of 64, so that no entry is dropped. The caller raises the alarm."""
    return max(formula, -(-observed // CAPACITY_STEP) * CAPACITY_STEP)


# --- the tree over the buckets ------------------------------------------------------------------------------


def bucket_leaf(version: bytes, prefix: int, bucket: bytes | memoryview) -> bytes:
    """Return the tree's leaf hash of a bucket: RFC 6962 section 2.1 over version || u32 prefix || bucket.

    Raises InvalidInput unless `version` has 16 bytes.
    """
    check_version(version)
    return leaf_hash(b"".join((version, prefix.to_bytes(4, "big"), bucket)))


def build_tree(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return all levels of the tree over 2^b leaf hashes in order of prefix, concatenated from the leaves to the root:

    (2^(b+1) - 1) x 32 bytes. Raises ValueError unless their number is a power of two above 1.
    """
    count = len(leaf_hashes)
    if count < 2 or count & (count - 1):
        raise ValueError("there is one leaf for each prefix, so a power of two")
    levels = [row := list(leaf_hashes)]
    while len(row) > 1:
        levels.append(row := [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)])
    return b"".join([b"".join(level) for level in levels])


def bucket_root(tree: bytes | memoryview, bits: int) -> bytes:
    """Return the root of a tree of `build_tree`. Raises InvalidBucket if the tree has another length."""
    _check_tree(tree, bits)
    return bytes(tree[-HASH_BYTES:])


def bucket_path(tree: bytes | memoryview, bits: int, prefix: int) -> bytes:
    """Return the sibling hashes on the path from bucket `prefix` to the root, the leaf's sibling first: `bits` x 32
    bytes.

    Raises InvalidBucket when the tree has another length, InvalidInput when it has no such bucket.
    """
    _check_tree(tree, bits)
    if not 0 <= prefix < 2**bits:
        raise InvalidInput(f"A bucket is named by {bits} bits.")
    path = []
    level, width, node = 0, 1 << bits, prefix
    while width > 1:
        start = (level + (node ^ 1)) * HASH_BYTES
        path.append(tree[start : start + HASH_BYTES])
        level, width, node = level + width, width >> 1, node >> 1
    return b"".join(path)


def check_bucket(
    bucket: bytes | memoryview, path: bytes | memoryview, prefix: int, version: bytes, bits: int, root: bytes
) -> None:
    """Check that this is bucket `prefix` of the snapshot `version` whose tree of 2^`bits` leaves has `root`.

    Raises InvalidBucket, and InvalidInput unless `version` has 16 bytes.
    """
    if not 0 <= prefix < 2**bits:
        raise InvalidBucket("The snapshot has no such bucket.")
    siblings = [bytes(path[start : start + HASH_BYTES]) for start in range(0, len(path), HASH_BYTES)]
    try:
        verify_inclusion(prefix, 2**bits, bucket_leaf(version, prefix, bucket), siblings, root)
    except InvalidInclusion as error:
        raise InvalidBucket("This is not the bucket that the snapshot's root commits to.") from error


def split_answer(data: bytes, manifest: Manifest) -> tuple[bytes, bytes]:
    """Return (bucket, path) of the answer to a bucket query, which is their concatenation. Raises InvalidBucket for a
    length other than that of this snapshot's answers."""
    size = manifest.bucket_bytes
    if len(data) != size + manifest.bits * HASH_BYTES:
        raise InvalidBucket("The answer does not have the length of a bucket of this snapshot.")
    return data[:size], data[size:]


def _check_tree(tree: bytes | memoryview, bits: int) -> None:
    if len(tree) != (2 ** (bits + 1) - 1) * HASH_BYTES:
        raise InvalidBucket("The tree over the buckets has another length.")


def check_version(version: bytes) -> None:
    """Check the version that names a snapshot. Raises InvalidInput unless it has 16 bytes."""
    if len(version) != VERSION_BYTES:
        raise InvalidInput(f"The version of a snapshot must have {VERSION_BYTES} bytes.")
