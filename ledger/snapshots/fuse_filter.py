"""The local filter: an 8-bit, 3-wise binary fuse filter over 32-byte tags. Pure.

Thomas Mueller Graf and Daniel Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", ACM Journal of
Experimental Algorithmics 27 (2022). A tag of the set always matches; another tag matches with probability 1/256.

File, all numbers little-endian:

    offset  bytes
         0      8  magic, b"rcl-fuse"
         8      4  format, 1
        12      4  bits of a fingerprint, 8
        16      8  keys: the number of different keys
        24      4  slots in a segment, a power of two
        28      4  start segments; a key has one slot in each of three neighbouring segments, so segments = this + 2
        32      8  slots = segments x slots in a segment
        40      4  attempt: how many seeds failed before the one that is used
        44      4  zero
        48     32  seed
        80     32  SHA-256 of everything else: bytes 0 to 79, then the fingerprints
       112  slots  the fingerprints, one byte each; those of unused slots are zero

Sizes follow from the number of keys alone (`_shape`, in integers, so that all machines agree), and everything follows
from the set of tags and the seed: the order in which tags are given does not matter.

**Key.** A tag is 32 uniform bytes of HKDF; its first 8, as a little-endian number, are the key. Two tags that agree in
them are one key, so a tag can match because another one is in the set: a false positive with probability n/2^64, which
is negligible beside 1/256. The hash is a bijection of the key for each seed (MurmurHash3's 64-bit finaliser, public
domain, after XOR with 8 bytes of SHA-256(seed, attempt)), so equal hashes are equal keys and are counted once.

**Failure.** An attempt fails when some keys are left of which none is alone in a slot. Measured, that happens to at
most one attempt in nine (20 to 25 keys) and to less than one in fifty from 10^4 keys on, each on its own, so
MAX_ATTEMPTS failures have a chance below 2^-128. Only a party that chooses the first 8 bytes of many tags *and* knows
the seed could cause them; tags are outputs of a keyed function, and the seed is published only with the finished
filter.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ledger.errors import InvalidFilter, InvalidInput, NewerFormat
from ledger.protocol.tags import TAG_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

Words = NDArray[np.uint64]
Slots = NDArray[np.int64]
Integer = TypeVar("Integer", np.uint64, np.int64)

MAGIC = b"rcl-fuse"
FORMAT = 1
FINGERPRINT_BITS = 8
SEED_BYTES = 32
DIGEST_BYTES = 32
MAX_ATTEMPTS = 64
MAX_KEYS = 2**31

_HEADER = struct.Struct("<8sIIQIIQII32s")
HEADER_BYTES = _HEADER.size + DIGEST_BYTES

_SEED_LABEL = b"refund-ledger fuse v1:"
_M64 = 2**64 - 1
_MIX_1, _MIX_2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
_MAX_SEGMENT_BITS = 18
_LOG2_OF_MILLION = 1_306_235
"""log2(10^6) in units of 2^-16."""

_CHUNK = 8192
"""Keys in one step of vectorised work: its arrays of 64 KiB each stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """`length` slots in each of `starts` + 2 segments."""

    length: int
    starts: int

    @property
    def slots(self) -> int:
        return (self.starts + 2) * self.length


@dataclass(frozen=True, slots=True)
class _Header:
    keys: int
    shape: _Shape
    attempt: int
    seed: bytes


def _no_look() -> None:
    """Do nothing (the default of `look`)."""


def build(tags: Buffer | NDArray[np.uint8], seed: bytes, look: Callable[[], None] = _no_look) -> bytes:
    """Return the file of a filter of `tags`: n x 32 bytes, packed or of shape (n, 32); n may be 0.

    `seed` is 32 unpredictable bytes. The build needs about 70 bytes of memory for each tag besides the input. Every tag
    is looked up in the result before it is returned. `look` is called after every few thousand tags; an exception of it
    ends the work. Raises InvalidInput (form of the arguments, or MAX_ATTEMPTS seeds failed).
    """
    if len(seed) != SEED_BYTES:
        raise InvalidInput(f"The seed of a filter must have {SEED_BYTES} bytes.")
    column = _words(tags)
    keys = _distinct(column)
    if len(keys) > MAX_KEYS:
        raise InvalidInput(f"A filter holds at most {MAX_KEYS} tags.")
    shape = _shape(len(keys))
    for attempt in range(MAX_ATTEMPTS):
        look()
        hashes = _hash(keys, _hash_key(seed, attempt))
        hashes.sort()  # The first slot grows with the hash, so neighbours in memory are visited together.
        peeled = _peel(hashes, shape, look)
        if peeled is not None:
            break
    else:
        raise InvalidInput("No filter could be built for these tags with this seed: take another seed.")
    body = _assign(*peeled, shape, look).tobytes()
    sizes = (len(keys), shape.length, shape.starts, shape.slots)
    head = _HEADER.pack(MAGIC, FORMAT, FINGERPRINT_BITS, *sizes, attempt, 0, seed)
    file = head + hashlib.sha256(head + body).digest() + body
    if not FuseFilter.trusted(file)._contains_all(column, look):
        raise AssertionError("the filter misses a tag that it was built from")
    return file


class FuseFilter:
    """A filter that answers membership queries. It reads `data` in place (bytes, memoryview or a map of a file), which
    must not change meanwhile; a map can be closed after the filter is deleted. A filter without keys still matches one
    tag in 256."""

    __slots__ = ("_hash_key", "_header", "_slots", "contains")

    contains: Callable[[bytes], bool]
    """True if a tag (32 bytes) matches: always for the tags of the set, for others with probability 1/256. Raises
    InvalidInput. The same as `tag in filter`, and a little faster."""

    def __init__(self, header: _Header, body: memoryview) -> None:
        """Private: use `open` or `trusted`."""
        self._header = header
        self._hash_key = _hash_key(header.seed, header.attempt)
        self._slots = np.frombuffer(body, np.uint8)
        self.contains = _scalar(body, header.shape, self._hash_key)

    @classmethod
    def open(cls, data: Buffer, sha256: bytes) -> FuseFilter:
        """Return the filter in a file from another party. `sha256` (32 bytes) is the digest of the whole file from a
        signed manifest; it is compared before the file is parsed.

        Raises InvalidFilter; InvalidInput for a digest of another length.
        """
        if len(sha256) != DIGEST_BYTES:
            raise InvalidInput(f"The digest of a filter must have {DIGEST_BYTES} bytes.")
        if not hmac.compare_digest(hashlib.sha256(data).digest(), sha256):
            raise InvalidFilter("This is not the filter that the manifest names.")
        return cls.trusted(data)

    @classmethod
    def trusted(cls, data: Buffer) -> FuseFilter:
        """Return the filter in a file that this process built itself. Header and body are checked as in `open`, but
        against no signed digest. Raises InvalidFilter."""
        view = memoryview(data).cast("B").toreadonly()
        header = _parse(view)
        digest, body = view[_HEADER.size : HEADER_BYTES], view[HEADER_BYTES:]
        own = hashlib.sha256(view[: _HEADER.size])
        own.update(body)
        if not hmac.compare_digest(own.digest(), digest):
            raise InvalidFilter("The contents of this filter do not match the digest in its header.")
        return cls(header, body)

    def __contains__(self, tag: bytes) -> bool:
        return self.contains(tag)

    def contains_many(self, tags: Buffer | NDArray[np.uint8]) -> NDArray[np.bool_]:
        """`contains` for n tags, packed or of shape (n, 32), as n truth values. Raises InvalidInput."""
        column = _words(tags)
        matches = np.empty(len(column), np.bool_)
        for part in _chunks(len(column)):
            matches[part] = self._found(column[part])
        return matches

    @property
    def keys_count(self) -> int:
        """The number of different keys: tags given more than once, or equal in their first 8 bytes, are one key."""
        return self._header.keys

    @property
    def bits_per_key(self) -> float:
        """Return the bits of the whole file for each key; infinite without keys."""
        size = HEADER_BYTES + self._header.shape.slots
        return 8 * size / self.keys_count if self.keys_count else float("inf")

    def _found(self, keys: Words) -> NDArray[np.bool_]:
        hashes = _hash(keys, self._hash_key)
        fingerprints = _fingerprints(hashes)
        for position in _positions(hashes, self._header.shape):
            # Positions are below the number of slots by construction, and "clip" copies nothing, as "raise" would.
            fingerprints ^= np.take(self._slots, position, mode="clip")
        matches: NDArray[np.bool_] = fingerprints == 0
        return matches

    def _contains_all(self, keys: Words, look: Callable[[], None]) -> bool:
        for part in _chunks(len(keys)):
            look()
            if not self._found(keys[part]).all():
                return False
        return True


def _scalar(slots: memoryview, shape: _Shape, hash_key: int) -> Callable[[bytes], bool]:
    """Return the membership test of one tag in plain integers: `_hash`, `_positions` and `_fingerprints` in one.

    It uses local names only, which are several times as fast as attributes.
    """
    read = struct.Struct(f"<Q{TAG_BYTES - 8}x").unpack  # Refuses any other length.
    refused = (struct.error, TypeError)
    second, third, mask = shape.length, 2 * shape.length, shape.length - 1
    span, m64, mix_1, mix_2 = shape.starts * shape.length, _M64, _MIX_1, _MIX_2

    def contains(tag: bytes) -> bool:
        try:
            (h,) = read(tag)
        except refused:
            raise InvalidInput(f"A tag must have {TAG_BYTES} bytes.") from None
        h ^= hash_key
        h = ((h ^ (h >> 33)) * mix_1) & m64
        h = ((h ^ (h >> 33)) * mix_2) & m64
        h ^= h >> 33
        a = (h * span) >> 64
        b = (a + second) ^ ((h >> 18) & mask)
        return slots[a] ^ slots[b] ^ slots[(a + third) ^ (h & mask)] == (h >> 36) & 255  # type: ignore[no-any-return]

    return contains


def _words(tags: Buffer | NDArray[np.uint8]) -> Words:
    """Return the first 8 bytes of each tag as numbers, a view with strides where the input allows it. Raises
    InvalidInput."""
    if isinstance(tags, np.ndarray):
        if tags.dtype != np.uint8 or tags.ndim != 2 or tags.shape[1] != TAG_BYTES:
            raise InvalidInput(f"An array of tags must have the shape (n, {TAG_BYTES}) and be of bytes.")
        flat = np.ascontiguousarray(tags).reshape(-1)
    else:
        view = memoryview(tags).cast("B")
        if len(view) % TAG_BYTES:
            raise InvalidInput(f"Packed tags must have {TAG_BYTES} bytes each.")
        flat = np.frombuffer(view, np.uint8)
    column: Words = flat.view("<u8").reshape(-1, TAG_BYTES // 8)[:, 0]
    return column


def _distinct(values: NDArray[Integer]) -> NDArray[Integer]:
    """Return the different values in ascending order, as `np.unique` does, in a tenth of its time."""
    ordered = np.sort(values)
    new = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _shape(keys: int) -> _Shape:
    """The paper's sizes: segments of 2^floor(log_3.33(n) + 2.25) slots, at most 2^18, and in all n x max(1.125,
    0.875 + 0.25 ln(10^6) / ln(n)) slots or a few more."""
    n = max(keys, 2)
    bits = 2
    while bits < _MAX_SEGMENT_BITS and 333 ** (4 * bits - 5) <= n**4 * 100 ** (4 * bits - 5):  # 3.33^(bits - 1.25) <= n
        bits += 1
    length = 1 << bits
    whole = n.bit_length() - 1
    log2 = (whole << 16) + ((n << 16) >> whole) - (1 << 16)  # Linear between powers of two, never above log2(n).
    capacity = max(9 * n // 8, 7 * n // 8 + n * _LOG2_OF_MILLION // (4 * log2))
    return _Shape(length, max(1, -(-capacity // length) - 2))


def _parse(view: memoryview) -> _Header:
    """Parse and check the header of a file; the digest is not checked. Allocates no array.

    Raises InvalidFilter, NewerFormat.
    """
    if len(view) < HEADER_BYTES:
        raise InvalidFilter("This filter is shorter than its header.")
    fields: tuple[Any, ...] = _HEADER.unpack_from(view)
    magic, version, bits, keys, length, starts, slots, attempt, zero, seed = fields
    if magic != MAGIC:
        raise InvalidFilter("This is not a filter.")
    if version > FORMAT:
        raise NewerFormat(
            "This filter is in a format that this version does not read. Update the program.", format=version
        )
    if (version, bits) != (FORMAT, FINGERPRINT_BITS):
        raise InvalidFilter("This filter has a format that there is not.")
    if zero != 0 or attempt >= MAX_ATTEMPTS or keys > MAX_KEYS:
        raise InvalidFilter("The header of this filter is not well formed.")
    shape = _shape(keys)
    if (length, starts, slots) != (shape.length, shape.starts, shape.slots):
        raise InvalidFilter("The sizes of this filter do not follow from its number of keys.")
    if len(view) != HEADER_BYTES + slots:
        raise InvalidFilter("This filter is shorter or longer than its header says.")
    return _Header(keys, shape, attempt, seed)


def _hash_key(seed: bytes, attempt: int) -> int:
    digest = hashlib.sha256(_SEED_LABEL + seed + attempt.to_bytes(4, "little")).digest()
    return int.from_bytes(digest[:8], "little")


def _hash(keys: Words, hash_key: int) -> Words:
    """Return a new array of the keys' hashes."""
    h: Words = np.bitwise_xor(keys, np.uint64(hash_key), dtype=np.uint64)
    h ^= h >> 33
    h *= _MIX_1
    h ^= h >> 33
    h *= _MIX_2
    h ^= h >> 33
    return h


def _positions(hashes: Words, shape: _Shape) -> tuple[Slots, Slots, Slots]:
    """Return the three slots of each hash, in neighbouring segments.

    The first is the high word of hash x span, computed from two halves because NumPy has no 128-bit numbers; lower bits
    of the hash select the slots in the two following segments.
    """
    low = hashes & 0xFFFFFFFF
    low *= shape.starts * shape.length
    low >>= 32
    first = hashes >> 32
    first *= shape.starts * shape.length
    first += low
    first >>= 32
    second = hashes >> 18
    second &= shape.length - 1
    second ^= first + shape.length
    third = hashes & (shape.length - 1)
    third ^= first + 2 * shape.length
    return first.view(np.int64), second.view(np.int64), third.view(np.int64)


def _fingerprints(hashes: Words) -> NDArray[np.uint8]:
    """Return bits 36 to 43 of each hash."""
    return (hashes >> 36).astype(np.uint8)


def _peel(hashes: Words, shape: _Shape, look: Callable[[], None]) -> tuple[Words, Slots, list[int]] | None:
    """Return the hashes in an order in which each has a slot that no later one has, with that slot; None if there is no
    such order.

    Each round removes every hash that is alone in one of its slots. Such a slot belongs to no other hash of its round,
    so `_assign` handles a round at once. A slot stores the number of its remaining hashes and their sum modulo 2^64: if
    the number is one, the sum is the hash. The third item of the result has the end of each round.
    """
    number = np.zeros(shape.slots, np.uint32)
    total = np.zeros(shape.slots, np.uint64)
    for part in _chunks(len(hashes)):
        look()
        for position in _positions(hashes[part], shape):
            np.add.at(number, position, np.uint32(1))
            np.add.at(total, position, hashes[part])
    order, own, ends = np.empty_like(hashes), np.empty(len(hashes), np.int64), [0]
    alone: Slots = np.flatnonzero(number == 1)
    while len(alone):
        look()
        taken = total[alone]
        places = _positions(taken, shape)
        first, second, _ = (number[place] == 1 for place in places)
        # A hash that is alone in several slots is listed at each; it gets the first of them.
        own_first, own_second, own_third = (alone == place for place in places)
        keep = own_first | (own_second & ~first) | (own_third & ~(first | second))
        taken, alone = taken[keep], alone[keep]
        begin, end = ends[-1], ends[-1] + len(taken)
        order[begin:end], own[begin:end] = taken, alone
        ends.append(end)
        touched = [place[keep] for place in places]
        for place in touched:
            np.subtract.at(number, place, np.uint32(1))
            np.subtract.at(total, place, taken)
        alone = _distinct(np.concatenate([place[number[place] == 1] for place in touched]))
    return (order, own, ends) if ends[-1] == len(hashes) else None


def _assign(order: Words, own: Slots, ends: list[int], shape: _Shape, look: Callable[[], None]) -> NDArray[np.uint8]:
    """Return the fingerprint of every slot. From the last round to the first, each hash sets its own slot so that the
    XOR of its three slots is its fingerprint."""
    slots = np.zeros(shape.slots, np.uint8)
    for begin, end in zip(reversed(ends[:-1]), reversed(ends[1:]), strict=True):
        look()
        hashes = order[begin:end]
        value = _fingerprints(hashes)
        for place in _positions(hashes, shape):
            value ^= slots[place]
        slots[own[begin:end]] = value
    return slots
