"""Key rotation: every recorded element T = k * H(x) becomes T' = delta * T = k' * H(x), with a proof that an auditor
can check.

delta = k'/k needs no identifier. One proof for each batch of at most 65,535 elements shows log_A(B) = log_T(T') for all
its pairs, with A = k * G the old and B = k' * G the new public key: so B = delta * A as well, and T' is the result of
an evaluation under the new key. It is `GenerateProof` of RFC 9497 section 2.2.1 with that A and B and

    context = "RefundLedgerRotate-v1-" || u32(old epoch) || u32(new epoch) || A      (integers big-endian)

in place of RFC 9497's contextString, hence (see `dleq`):

    Seed           SHA-512( len(B) || B || len(seedDST) || seedDST ),  seedDST = "Seed-" || context
    HashToScalar   expand_message_xmd (SHA-512), DST = "HashToScalar-" || context, 64 bytes modulo the group order
    weight d_i     HashToScalar( len(Seed) || Seed || u16(i) || len(T_i) || T_i || len(T'_i) || T'_i || "Composite" )
    challenge c    HashToScalar( len || B, M, Z, t2, t3 each || "Challenge" ),  M = sum d_i T_i,  Z = sum d_i T'_i
    proof          c || s,  t2 = r A = s A + c B,  t3 = r M = s M + c Z,  s = r - c delta

**Why the context names epochs and old key.** RFC 9497 hashes B but not A, which is always the generator there. With A
free and unhashed, the prover could choose A after the challenge. And a proof must be valid for one step of one ledger
only: with the epochs inside, it is invalid for another rotation and for an evaluation.

**Why r is hedged.** Two proofs with one r and different challenges give delta = (s1 - s2) / (c2 - c1), and delta links
every old element to its new one. So r is hashed from delta, a fresh nonce and the proved statement: a repeated or
guessable nonce reveals nothing, and only the same statement yields the same r, hence the same proof.

delta, both lists of elements and the salts link old pseudonyms to new ones. At retirement delta, old key, old elements
and old salts are destroyed, and so must be the batch files given to an auditor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256, sha512
from struct import Struct

from ledger.errors import BatchSizeInvalid, InvalidInput, InvalidPoint, InvalidRotation, InvalidScalar, UnsupportedKind
from ledger.protocol import dleq, sodium
from ledger.protocol.identifiers import Kind, parse_kind
from ledger.protocol.tags import ELEMENT_BYTES, MAX_EPOCH, SALT_BYTES, subject_commitment
from ledger.tlog.merkle import HASH_BYTES, MAX_TREE_SIZE, CompactTree

MAX_BATCH = 65_535
"""Elements under one proof, at most: indexes have 16 bits."""
PROOF_BYTES = dleq.PROOF_BYTES
NONCE_BYTES = 64
MAX_SLOT = 255
MAX_BATCH_NUMBER = 2**32 - 1

_CONTEXT_LABEL = b"RefundLedgerRotate-v1-"
_NONCE_LABEL = b"RefundLedgerRotateNonce-v1-"
_ONE = (1).to_bytes(32, "little")


@dataclass(frozen=True, slots=True)
class RotationKeys:
    """The public side of a rotation. Epoch numbers rise; the number of an epoch that was announced and given up may be
    left out.

    Raises InvalidRotation for epochs that do not rise or fit 4 bytes, for equal keys, and for keys that are not
    elements.
    """

    old_epoch: int
    new_epoch: int
    old_public: bytes
    new_public: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old_epoch < self.new_epoch <= MAX_EPOCH:
            raise InvalidRotation("The epochs of a rotation must rise and fit in 4 bytes.")
        try:
            sodium.check_point(self.old_public)
            sodium.check_point(self.new_public)
        except InvalidPoint as error:
            raise InvalidRotation("A public key of the rotation is not a group element.") from error
        if self.old_public == self.new_public:
            raise InvalidRotation("A rotation must change the key.")

    @property
    def context(self) -> bytes:
        """Return the context string (62 bytes) that binds a proof to this rotation."""
        epochs = self.old_epoch.to_bytes(4, "big") + self.new_epoch.to_bytes(4, "big")
        return _CONTEXT_LABEL + epochs + self.old_public


# --- elements and proof -------------------------------------------------------------------------------------


def rotation_factor(old_secret: bytes, new_secret: bytes) -> bytes:
    """Return delta = new / old modulo the group order; it must be kept as secret as the keys.

    Raises InvalidScalar for a key that is not a canonical scalar, InvalidInput for equal keys.
    """
    factor = sodium.scalar_mul(new_secret, sodium.scalar_invert(old_secret))
    if factor == _ONE:
        raise InvalidInput("A rotation must change the key.")
    return factor


def rotate_elements(factor: bytes, elements: Sequence[bytes], *, workers: int = 1) -> list[bytes]:
    """Return delta x each element of a batch, in order, computed on up to `workers` threads.

    Raises BatchSizeInvalid, InvalidScalar, InvalidPoint, IdentityPoint.
    """
    _check_batch(len(elements), len(elements))
    parts = dleq.in_parts(lambda i, j: sodium.scalarmult_many(factor, elements[i:j]), len(elements), workers)
    return [element for part in parts for element in part]


def prove(
    factor: bytes, keys: RotationKeys, old: Sequence[bytes], new: Sequence[bytes], nonce: bytes, *, workers: int = 1
) -> bytes:
    """Return the proof of one batch (64 bytes) that `new` is `old` rotated, in order. `nonce` is 64 fresh random bytes.

    `new` is only hashed here: if it is not the result of `rotate_elements`, the proof is invalid. Raises
    BatchSizeInvalid, InvalidScalar (also when the factor does not lead from the old key to the new one), InvalidPoint,
    IdentityPoint, InvalidInput (nonce length).
    """
    _check_batch(len(old), len(new))
    if len(nonce) != NONCE_BYTES:
        raise InvalidInput(f"A proof nonce must have {NONCE_BYTES} bytes.")
    if sodium.scalarmult(factor, keys.old_public) != keys.new_public:
        raise InvalidScalar("The factor does not lead from the old public key to the new one.")
    context = dleq.ProofContext.of(keys.context)
    seed = dleq.composite_seed(context, keys.new_public)

    def part(i: int, j: int) -> bytes:
        return sodium.sum_of_products(dleq.coefficients(context, seed, old[i:j], new[i:j], i), old[i:j])

    m = dleq.total(dleq.in_parts(part, len(old), workers))
    z = sodium.scalarmult(factor, m)
    statement = keys.old_public + keys.new_public + m + z
    r = sodium.scalar_reduce(sha512(_NONCE_LABEL + keys.context + factor + nonce + statement).digest())
    return dleq.prove(context, factor, keys.old_public, keys.new_public, m, z, r)


def verify(keys: RotationKeys, old: Sequence[bytes], new: Sequence[bytes], proof: bytes, *, workers: int = 1) -> None:
    """Check that `new` is `old` under the new key, element by element. Raises InvalidRotation for every fault."""
    if not 1 <= len(old) <= MAX_BATCH or len(new) != len(old):
        raise InvalidRotation(f"A rotated batch holds 1 to {MAX_BATCH} pairs of elements.")
    if len(proof) != PROOF_BYTES:
        raise InvalidRotation(f"A rotation proof must have {PROOF_BYTES} bytes.")
    context = dleq.ProofContext.of(keys.context)
    seed = dleq.composite_seed(context, keys.new_public)

    def part(i: int, j: int) -> tuple[bytes, bytes]:
        weights = list(dleq.coefficients(context, seed, old[i:j], new[i:j], i))
        return sodium.sum_of_products(weights, old[i:j]), sodium.sum_of_products(weights, new[i:j])

    try:
        parts = dleq.in_parts(part, len(old), workers)
        m, z = dleq.total([m for m, _ in parts]), dleq.total([z for _, z in parts])
        holds = dleq.holds(context, keys.old_public, keys.new_public, m, z, proof)
    except InvalidPoint as error:
        raise InvalidRotation("A rotated batch holds something that is not a group element.") from error
    except InvalidScalar as error:
        raise InvalidRotation("A rotation proof holds a scalar that is not canonical.") from error
    if not holds:
        raise InvalidRotation("A rotation proof does not match the public keys, epochs and elements.")


# --- subjects and the logged root ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rotated:
    """One subject of one report before and after the rotation: `slot` is its place in the report that is entry
    `entry_index`.

    Raises InvalidRotation for numbers out of range, lengths other than 32 bytes and unknown kinds.
    """

    entry_index: int
    slot: int
    kind: str
    old_element: bytes
    new_element: bytes
    old_salt: bytes
    new_salt: bytes

    def __post_init__(self) -> None:
        _check_place(self.entry_index, self.slot)
        if not len(self.old_element) == len(self.new_element) == ELEMENT_BYTES:
            raise InvalidRotation(f"A group element must have {ELEMENT_BYTES} bytes.")
        if not len(self.old_salt) == len(self.new_salt) == SALT_BYTES:
            raise InvalidRotation(f"The salt of a subject must have {SALT_BYTES} bytes.")
        try:
            parse_kind(self.kind)
        except UnsupportedKind as error:
            raise InvalidRotation("A rotated subject is of no known kind.") from error

    @property
    def place(self) -> tuple[int, int]:
        """Return (entry_index, slot), by which the subjects of a rotation are ordered."""
        return self.entry_index, self.slot


def commitments(item: Rotated, keys: RotationKeys) -> tuple[bytes, bytes]:
    """Return (c, c'): the subject's commitment in its signed report, and its commitment under the new epoch; 32 bytes
    each."""
    return (
        subject_commitment(item.old_salt, keys.old_epoch, item.kind, item.old_element),
        subject_commitment(item.new_salt, keys.new_epoch, item.kind, item.new_element),
    )


def rotation_leaf(entry_index: int, slot: int, c: bytes, c_new: bytes) -> bytes:
    """Return the content of a leaf of the rotation's tree, 73 bytes: u64(entry_index) || u8(slot) || c || c',
    big-endian.

    Raises InvalidRotation for numbers out of range and lengths other than 32 bytes.
    """
    _check_place(entry_index, slot)
    if not len(c) == len(c_new) == HASH_BYTES:
        raise InvalidRotation(f"A commitment must have {HASH_BYTES} bytes.")
    return entry_index.to_bytes(8, "big") + bytes([slot]) + c + c_new


class RotationTree:
    """The Merkle root (RFC 6962) over all subjects of a rotation, taken one by one in ascending (entry_index, slot)."""

    def __init__(self) -> None:
        self.last: tuple[int, int] | None = None
        self._tree = CompactTree()

    @property
    def size(self) -> int:
        """Return the number of subjects added so far."""
        return self._tree.size

    def add(self, entry_index: int, slot: int, c: bytes, c_new: bytes) -> None:
        """Append a subject's leaf. Raises InvalidRotation as `rotation_leaf`, and unless it comes after the last."""
        leaf = rotation_leaf(entry_index, slot, c, c_new)
        _check_order(self.last, (entry_index, slot))
        self._tree.append(leaf)
        self.last = (entry_index, slot)

    def root(self) -> bytes:
        """Return the root (32 bytes) over the leaves added so far."""
        return self._tree.root()


# --- batch files and their verification ---------------------------------------------------------------------

MAGIC = b"rcl-rota"
FORMAT = 1
_KIND_BYTES = {Kind.PHONE: 1, Kind.EMAIL: 2, Kind.CN_ID: 3, Kind.PAYMENT: 4, Kind.DEVICE: 5}
_KINDS = {number: kind for kind, number in _KIND_BYTES.items()}
_HEADER = Struct(">8sHHIII32s32s")  # magic, format, count, old epoch, new epoch, number, old and new public key
_RECORD = Struct(">QBB32s32s32s32s")  # entry index, slot, kind, old and new element, old and new salt
_DIGEST_BYTES = 32
_FRAME_BYTES = _HEADER.size + PROOF_BYTES + _DIGEST_BYTES
MAX_BATCH_FILE_BYTES = _FRAME_BYTES + MAX_BATCH * _RECORD.size
"""The longest batch file, about 9 MB."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of a batch file, of which only the form has been checked. `number` counts a rotation's batches from
    0."""

    keys: RotationKeys
    number: int
    items: tuple[Rotated, ...]
    proof: bytes


def format_batch(items: Sequence[Rotated], proof: bytes, keys: RotationKeys, number: int) -> bytes:
    """Return one batch as a file for an auditor: header, records of 138 bytes, proof, SHA-256 of everything before it;
    big-endian.

    The file links old elements to new ones, so only the auditor may get it. The digest detects damage; the proof and
    the root in the log authenticate the content. Raises BatchSizeInvalid, InvalidRotation (order, proof length,
    number).
    """
    _check_batch(len(items), len(items))
    _check_ascending(None, items)
    if len(proof) != PROOF_BYTES or not 0 <= number <= MAX_BATCH_NUMBER:
        raise InvalidRotation(f"A batch needs a number of at most 4 bytes and a proof of {PROOF_BYTES} bytes.")
    epochs = keys.old_epoch, keys.new_epoch
    head = _HEADER.pack(MAGIC, FORMAT, len(items), *epochs, number, keys.old_public, keys.new_public)
    records = [
        _RECORD.pack(*i.place, _KIND_BYTES[parse_kind(i.kind)], i.old_element, i.new_element, i.old_salt, i.new_salt)
        for i in items
    ]
    body = b"".join((head, *records, proof))
    return body + sha256(body).digest()


def parse_batch(data: bytes) -> Batch:
    """Parse a file of `format_batch` strictly. The proof is not checked here (`RotationVerifier` does that). Raises
    InvalidRotation."""
    if len(data) < _FRAME_BYTES or data[: len(MAGIC)] != MAGIC:
        raise InvalidRotation("This is not a batch of a rotation.")
    _, version, count, old_epoch, new_epoch, number, old_public, new_public = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise InvalidRotation("This batch has a format that this version does not know.")
    if count == 0 or len(data) != _FRAME_BYTES + count * _RECORD.size:
        raise InvalidRotation("This batch is empty, or shorter or longer than its header says.")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if sha256(body).digest() != digest:
        raise InvalidRotation("This batch is damaged: its digest is another.")
    keys = RotationKeys(old_epoch, new_epoch, old_public, new_public)
    records = _RECORD.iter_unpack(body[_HEADER.size : -PROOF_BYTES])
    items = tuple([Rotated(index, slot, _KINDS.get(kind, ""), *rest) for index, slot, kind, *rest in records])
    _check_ascending(None, items)
    return Batch(keys, number, items, body[-PROOF_BYTES:])


class RotationVerifier:
    """Checks a whole rotation from its batches, given in order (`refund-ledger verify-rotation`).

    `keys` are the keys in the log. Every subject occurs once, because places ascend from batch to batch; its new
    element is the old one under the new key, because the proof holds; and root and number of subjects equal those in
    the log, so none is missing, added or has another commitment. A refused batch changes nothing.
    """

    def __init__(self, keys: RotationKeys, *, workers: int = 1) -> None:
        self._keys = keys
        self._workers = workers
        self._tree = RotationTree()
        self.batches = 0

    @property
    def count(self) -> int:
        """Return the number of subjects checked so far."""
        return self._tree.size

    def add(self, batch: Batch) -> None:
        """Check the next batch. Raises InvalidRotation."""
        if batch.keys != self._keys:
            raise InvalidRotation("This batch belongs to a rotation between other epochs or keys.")
        if batch.number != self.batches:
            raise InvalidRotation(f"Batch {self.batches} was expected, not {batch.number}.")
        _check_ascending(self._tree.last, batch.items)
        old, new = [item.old_element for item in batch.items], [item.new_element for item in batch.items]
        verify(self._keys, old, new, batch.proof, workers=self._workers)
        for item in batch.items:
            self._tree.add(*item.place, *commitments(item, self._keys))
        self.batches += 1

    def finish(self, expected_root: bytes, expected_count: int) -> None:
        """Compare with the log's record after the last batch. Raises InvalidRotation unless number and root are
        equal."""
        if self.count != expected_count:
            raise InvalidRotation(f"The batches hold {self.count} subjects, the log says {expected_count}.")
        if self._tree.root() != expected_root:
            raise InvalidRotation("The batches do not lead to the root in the log.")


def _check_batch(count: int, other: int) -> None:
    if not 1 <= count <= MAX_BATCH:
        raise BatchSizeInvalid(f"A batch holds 1 to {MAX_BATCH} elements.")
    if count != other:
        raise BatchSizeInvalid("The lists of one batch must have the same length.")


def _check_place(entry_index: int, slot: int) -> None:
    if not 0 <= entry_index <= MAX_TREE_SIZE or not 0 <= slot <= MAX_SLOT:
        raise InvalidRotation("A subject's place is outside any log or report.")


def _check_order(last: tuple[int, int] | None, place: tuple[int, int]) -> None:
    if last is not None and place <= last:
        raise InvalidRotation("Subjects must ascend by entry and slot, each once.")


def _check_ascending(last: tuple[int, int] | None, items: Sequence[Rotated]) -> None:
    for item in items:
        _check_order(last, item.place)
        last = item.place
