"""Sealed lookup buckets: the entries of listed identifiers, each of which only its element opens.

A bucket holds the entries of all tags with one prefix, padded with pseudorandom dummies to the common size of the
snapshot's buckets, and sorted. An entry is check (16) || ChaCha20-Poly1305 of 96 bytes; the check value and the key are
derived from the element, so a party without it can neither find nor read the entry, nor distinguish it from a dummy,
nor link it to another snapshot. Every byte is determined by the snapshot's secret and version and the listed events, so
any process rebuilds the same bytes. `ledger.snapshots.buckets` has their number and size and the tree over them.
"""

from __future__ import annotations

import hmac
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from ledger.errors import InvalidBucket, InvalidInput, NewerFormat
from ledger.protocol.identifiers import Kind, parse_kind
from ledger.protocol.tags import extract
from ledger.rules.conduct import CONDUCT_BYTES as CONDUCT_BYTES
from ledger.rules.standing import FULL_WEIGHT
from ledger.snapshots.buckets import (
    check_version,
)
from ledger.snapshots.layout import ENTRY_BYTES

CHECK_BYTES = 16
SECRET_BYTES = 32
EVENTS_PER_ENTRY = 4
EVENT_BYTES = 22
ACT_BYTES = 8
GROUP_BYTES = 4
MAX_SLOTS = 64
"""Entries of one element that a client opens at most, and a snapshot seals: 256 events. Without a bound, a platform
that reports one person again and again would enlarge every bucket."""

_CONDUCTS = {number: str(conduct) for conduct, number in CONDUCT_BYTES.items()}

FORMAT_1, FORMAT_2 = 1, 2
"""The formats of an entry's payload, named by its first byte. Both have the same length. In format 1 the weight is in
twentieths and the byte after it is zero. In format 2 the weight is in eighths and that byte is the severity, so that a
reader can count an event of unknown conduct. A reader of this version refuses any other format."""

_FORTIETHS = {FORMAT_1: 2, FORMAT_2: 5}
"""The value of one unit of the weight byte, in fortieths, by format."""

UNKNOWN_CONDUCT = "unknown:"
"""The prefix of the conduct of an event whose byte this version does not know; the byte as a decimal follows."""

_FLAGS = 15
_EVENT = Struct(">8s4sBBBBHI")
_PAYLOAD_HEADER_BYTES = 8
_NONCE = bytes(12)

# info = a constant || kind || version (16 bytes) || slot (4 bytes). Only the kind has a variable length, so the total
# length determines where it ends: two different (kind, version, slot) never have the same info. No tag's info has this
# prefix. The last byte is HKDF-Expand's block counter (RFC 5869 section 2.3): 48 bytes need one block.
_ENTRY_INFO = {kind: b"refund-ledger entry v1:" + kind.value.encode() for kind in Kind}
_FIRST_SLOT = bytes(4) + b"\x01"
_SNAPSHOT_INFO = b"refund-ledger snapshot v1:"


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """One report in a sealed entry: it has no ids, and no value that can be linked outside this entry's snapshot.

    `act` (8 bytes) is equal in all entries of one act; `group` (4 bytes) represents the control group under this tag
    only. `act_day` and `effective_hour` count from the Unix epoch; `weight` is the group's, in fortieths. `severity` is
    None in an entry of format 1, where it follows from the conduct. A conduct that this version does not know, which
    only format 2 allows, is UNKNOWN_CONDUCT and its byte. `expires_next_day` is set if the recorded expiry is the day
    after `as_of`'s UTC day and the policy alone would keep the event longer: a snapshot is valid for at most 24 hours,
    so no later expiry is needed.
    """

    act: bytes
    group: bytes
    conduct: str
    act_day: int
    effective_hour: int
    weight: int
    disputed: bool = False
    restituted: bool = False
    has_statement: bool = False
    expires_next_day: bool = False
    severity: int | None = None


# --- keys and pseudonyms ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SnapshotKeys:
    """The keys expanded from one snapshot's secret, 32 bytes each; they must be kept as secret as it."""

    act: bytes = field(repr=False)
    group: bytes = field(repr=False)
    dummies: bytes = field(repr=False)
    filter_seed: bytes = field(repr=False)
    act_mac: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)
    """HMAC-SHA256 of a message under `act`; `group_mac` is that under `group`."""
    group_mac: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "act_mac", _hmac_sha256(self.act))
        object.__setattr__(self, "group_mac", _hmac_sha256(self.group))


def _hmac_sha256(key: bytes) -> Callable[[bytes], bytes]:
    """Return a function that computes HMAC-SHA256 (RFC 2104) under one key of 32 bytes; the key's blocks are hashed
    only once."""
    first = sha256(bytes(byte ^ 0x36 for byte in key) + b"\x36" * 32)
    second = sha256(bytes(byte ^ 0x5C for byte in key) + b"\x5c" * 32)

    def mac(message: bytes) -> bytes:
        inner, outer = first.copy(), second.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    return mac


def snapshot_keys(secret: bytes, version: bytes) -> SnapshotKeys:
    """Return the keys of the snapshot `version` (16 bytes): HKDF-SHA512(secret, no salt, info = "refund-ledger snapshot
    v1:" || name || ":" || version), 32 bytes for each name. Raises InvalidInput unless `secret` has 32 bytes."""
    check_version(version)
    if len(secret) != SECRET_BYTES:
        raise InvalidInput(f"A snapshot's secret must have {SECRET_BYTES} bytes.")
    key = extract(secret)
    names = (b"act", b"group", b"dummies", b"filter")
    blocks = [hmac.digest(key, _SNAPSHOT_INFO + name + b":" + version + b"\x01", "sha512") for name in names]
    return SnapshotKeys(*(block[:32] for block in blocks))


def act_pseudonym(keys: SnapshotKeys, act_id: int) -> bytes:
    """Return the 8 bytes that represent an act in one snapshot, in the entries of every tag under which it was
    reported."""
    return keys.act_mac(act_id.to_bytes(8, "big"))[:ACT_BYTES]


def group_pseudonyms(keys: SnapshotKeys, tag: bytes, groups: Iterable[str]) -> dict[str, bytes]:
    """Return four bytes for each control group, different from one another within `tag` (32 bytes).

    HMAC-SHA256(group key, tag || group || u32 counter), where the counter starts at 0 and rises while another group,
    earlier in sorted order, has the same bytes: a collision must not make independent reports look dependent.
    """
    given: dict[str, bytes] = {}
    taken: set[bytes] = set()
    for group in sorted(set(groups)):
        message = tag + group.encode()
        counter = 0
        while (pseudonym := keys.group_mac(message + _u32(counter))[:GROUP_BYTES]) in taken:
            counter += 1
        taken.add(pseudonym)
        given[group] = pseudonym
    return given


# --- sealing ------------------------------------------------------------------------------------------------


def pack_event(event: SealedEvent) -> bytes:
    """Return the 22 bytes of an event, in format 2 if it has a severity, else in format 1. Raises ValueError for values
    that the format cannot hold."""
    flags = event.disputed | event.restituted << 1 | event.has_statement << 2 | event.expires_next_day << 3
    conduct = CONDUCT_BYTES.get(event.conduct, 0)
    return pack_fields(
        event.act, event.group, conduct, flags, event.weight, event.severity, event.act_day, event.effective_hour
    )


def pack_fields(
    act: bytes,
    group: bytes,
    conduct: int,
    flags: int,
    weight: int,
    severity: int | None,
    act_day: int,
    effective_hour: int,
) -> bytes:
    """Return the bytes of `pack_event` from single values, for a build that seals millions: `conduct` is its byte,
    `flags` are disputed 1, restituted 2, has_statement 4, expires_next_day 8, `weight` is in fortieths and a whole
    number of the format's unit. Raises ValueError for values that the format cannot hold."""
    units, rest = divmod(weight, _FORTIETHS[FORMAT_1 if severity is None else FORMAT_2])
    # `struct` would silently cut or fill byte strings of a wrong length.
    if len(act) != ACT_BYTES or len(group) != GROUP_BYTES or rest or not 0 <= weight <= FULL_WEIGHT:
        raise ValueError("an event needs pseudonyms of 8 and 4 bytes, and a weight in whole units from 0 to 1")
    if conduct not in _CONDUCTS or not 0 <= flags <= _FLAGS or not 0 <= (severity or 0) < 2**8:
        raise ValueError("an event needs a known conduct, known flags and a severity that fits in 8 bits")
    if not 0 <= act_day < 2**16 or not 0 <= effective_hour < 2**32:
        raise ValueError("an event needs a day that fits in 16 bits and an hour that fits in 32")
    return _EVENT.pack(act, group, conduct, flags, units, severity or 0, act_day, effective_hour)


def seal(element: bytes, kind: Kind | str, version: bytes, prefix: int, events: Sequence[SealedEvent]) -> list[bytes]:
    """Return the entries, 128 bytes each, of an element (32 bytes) with these events, four to an entry; none without
    events.

    `prefix` is the bucket of the element's tag. All events have a severity (format 2), or none has (format 1). Raises
    UnsupportedKind, InvalidPoint, InvalidInput (version), and ValueError for events of both formats, for values that
    the format cannot hold and for more than 4 x MAX_SLOTS events.
    """
    forms = {FORMAT_1 if event.severity is None else FORMAT_2 for event in events}
    if len(forms) > 1:
        raise ValueError("the events of one element are of one format")
    packed = [pack_event(event) for event in events]
    return seal_packed(element, kind, version, prefix, packed, forms.pop()) if packed else []


def seal_packed(
    element: bytes, kind: Kind | str, version: bytes, prefix: int, packed: Sequence[bytes], form: int
) -> list[bytes]:
    """Return the entries of `seal` for events packed by `pack_event` or `pack_fields` in the format `form`. Raises
    UnsupportedKind, InvalidPoint, InvalidInput (version), and ValueError for more than 4 x MAX_SLOTS events."""
    check_version(version)
    count = len(packed)
    key = extract(element)
    info = _ENTRY_INFO[parse_kind(kind)] + version
    bound = version + _u32(prefix)
    if count == 1:
        return [_entry(key, info + _FIRST_SLOT, _header(form, 1, False) + packed[0] + _THREE_UNUSED, bound)]
    if count > MAX_SLOTS * EVENTS_PER_ENTRY:
        raise ValueError("one element has more events than a client opens")
    # Sorted by pseudonym, which reveals nothing, not by the order of the reports.
    ordered = sorted(packed)
    entries = []
    for first in range(0, count, EVENTS_PER_ENTRY):
        part = ordered[first : first + EVENTS_PER_ENTRY]
        header = _header(form, len(part), first + EVENTS_PER_ENTRY < count)
        payload = header + b"".join(part) + bytes(EVENT_BYTES * (EVENTS_PER_ENTRY - len(part)))
        entries.append(_entry(key, info + _u32(first // EVENTS_PER_ENTRY) + b"\x01", payload, bound))
    return entries


def _entry(key: bytes, info: bytes, payload: bytes, bound: bytes) -> bytes:
    expanded = hmac.digest(key, info, "sha512")
    return expanded[:16] + ChaCha20Poly1305(expanded[16:48]).encrypt(_NONCE, payload, bound)


def pad_bucket(entries: Sequence[bytes], capacity: int, prefix: int, keys: SnapshotKeys) -> bytes:
    """Return the bucket of `capacity` x 128 bytes: these entries and dummies, sorted by check value.

    Dummies are the ChaCha20 keystream (RFC 8439) under the dummies key with the prefix as its nonce. Raises ValueError
    for more entries than the capacity.
    """
    missing = capacity - len(entries)
    if missing < 0 or any(len(entry) != ENTRY_BYTES for entry in entries):
        raise ValueError("more entries than the bucket's capacity, or one of another length")
    # `cryptography` takes the 32-bit block counter, here 0, in front of the 96-bit nonce.
    nonce = bytes(4) + _u32(prefix) + bytes(8)
    stream = Cipher(ChaCha20(keys.dummies, nonce), mode=None).encryptor().update(bytes(missing * ENTRY_BYTES))
    dummies = [stream[start : start + ENTRY_BYTES] for start in range(0, len(stream), ENTRY_BYTES)]
    return b"".join(sorted([*entries, *dummies]))


# --- opening ------------------------------------------------------------------------------------------------


def open_bucket(
    bucket: bytes | memoryview, element: bytes, kind: Kind | str, version: bytes, prefix: int
) -> list[SealedEvent]:
    """Return the events of an element (32 bytes) in its bucket, in the order of sealing; none if it is not listed.

    The bucket must have been checked against the manifest (`check_bucket`): in an unsorted bucket an entry may be
    missed. Raises InvalidBucket when an entry of this element is altered, malformed, repeated or missing, NewerFormat
    for an entry of a later format, and UnsupportedKind, InvalidPoint, InvalidInput (version).
    """
    check_version(version)
    if len(bucket) % ENTRY_BYTES:
        raise InvalidBucket("A bucket consists of entries of 128 bytes.")
    key = extract(element)
    info = _ENTRY_INFO[parse_kind(kind)] + version
    bound = version + _u32(prefix)
    events: list[SealedEvent] = []
    for slot in range(MAX_SLOTS):
        expanded = hmac.digest(key, info + _u32(slot) + b"\x01", "sha512")
        sealed = _find(bucket, expanded[:CHECK_BYTES])
        if sealed is None:
            if slot:
                raise InvalidBucket("An entry says that another one follows, and there is none.")
            return events
        try:
            payload = ChaCha20Poly1305(expanded[16:48]).decrypt(_NONCE, sealed, bound)
        except InvalidTag as error:
            raise InvalidBucket("A bucket has an entry that its own key does not open.") from error
        more = _unpack(payload, events)
        if not more:
            return events
    raise InvalidBucket(f"One identifier has more than {MAX_SLOTS} entries.")


def _find(bucket: bytes | memoryview, check: bytes) -> bytes | None:
    """Return the bytes after `check` of the entry that begins with it, None if there is none. Raises InvalidBucket if
    two entries do: this does not happen by chance, and the server must not choose which of them counts."""

    def check_at(index: int) -> bytes:
        return bytes(bucket[index * ENTRY_BYTES : index * ENTRY_BYTES + CHECK_BYTES])

    count = len(bucket) // ENTRY_BYTES
    index = bisect_left(range(count), check, key=check_at)
    if index == count or check_at(index) != check:
        return None
    if index + 1 < count and check_at(index + 1) == check:
        raise InvalidBucket("A bucket has two entries under one check value.")
    return bytes(bucket[index * ENTRY_BYTES + CHECK_BYTES : (index + 1) * ENTRY_BYTES])


def _unpack(payload: bytes, events: list[SealedEvent]) -> bool:
    """Add the events of an entry to `events`, and return whether more entries follow. Raises InvalidBucket unless
    `payload` is as `seal` makes it, except for the values that format 2 leaves to later versions: other conducts, and
    the upper four flags, which are ignored. Raises NewerFormat for a higher format number."""
    form, count, more = payload[0], payload[1], payload[2]
    if form > FORMAT_2:
        raise NewerFormat("An entry is in a format that this version does not read. Update the program.", format=form)
    used = _PAYLOAD_HEADER_BYTES + count * EVENT_BYTES
    if form not in _FORTIETHS or not 1 <= count <= EVENTS_PER_ENTRY or more > (count == EVENTS_PER_ENTRY):
        raise InvalidBucket("An entry has an impossible format or number of events.")
    if payload[:_PAYLOAD_HEADER_BYTES] != _header(form, count, bool(more)) or any(payload[used:]):
        raise InvalidBucket("An entry is not in the format that this version reads.")
    for offset in range(_PAYLOAD_HEADER_BYTES, used, EVENT_BYTES):
        act, group, number, flags, units, severity, act_day, effective_hour = _EVENT.unpack_from(payload, offset)
        conduct, weight = _CONDUCTS.get(number), units * _FORTIETHS[form]
        if form == FORMAT_1 and (conduct is None or flags > _FLAGS or severity):
            raise InvalidBucket("An entry holds an event that its format does not know.")
        if not number or weight > FULL_WEIGHT:
            raise InvalidBucket("An entry holds no conduct, or a weight above 1.")
        name = conduct or f"{UNKNOWN_CONDUCT}{number}"
        disputed, restituted, has_statement, expires = (bool(flags & bit) for bit in (1, 2, 4, 8))
        severity_if_any = None if form == FORMAT_1 else severity
        marks = (disputed, restituted, has_statement, expires, severity_if_any)
        events.append(SealedEvent(act, group, name, act_day, effective_hour, weight, *marks))
    return bool(more)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _header(form: int, count: int, more: bool) -> bytes:
    return bytes((form, count, more, 0, 0, 0, 0, 0))


_THREE_UNUSED = bytes(3 * EVENT_BYTES)
