"""Receipts: C2SP tlog-proof files that prove, offline, that the log holds an entry. Pure.

A tlog-proof carries an index, an inclusion proof and a checkpoint. The log shows an event only as a commitment, so a
receipt also carries the opening of the commitment, as the format's `extra` data: canonical JSON {"entry", "hour",
"salt"}. The extra data proves nothing alone; `open_receipt` computes the leaf from it and verifies the leaf. Further
members, which a later version may add, are ignored.

A receipt contains the entry in clear. Only the platform that reported may have it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger.errors import InvalidInput, InvalidLeaf, InvalidReceipt, InvalidTime
from ledger.protocol.encoding import b64url, canonical_json, format_time, parse_time, unb64url
from ledger.tlog.checkpoint import MAX_NOTE_BYTES, Checkpoint, b64, open_checkpoint, unb64
from ledger.tlog.entries import EVENT_TYPE, SALT_BYTES, Leaf, commitment, event_leaf, parse_canonical, parse_leaf
from ledger.tlog.merkle import HASH_BYTES, MAX_TREE_SIZE, leaf_hash, verify_inclusion

FIRST_LINE = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
"""The height of the largest tree."""

MAX_EXTRA_BYTES = 2**18
_MAX_TEXT_CHARS = MAX_NOTE_BYTES + MAX_EXTRA_BYTES // 3 * 4 + 2**12
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed, **unverified** tlog-proof. `hashes` (32 bytes each) go from the leaf's sibling upwards; `extra` is None
    or not empty."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_note: str
    extra: bytes | None = None


@dataclass(frozen=True, slots=True)
class EntryReceipt:
    """A verified receipt: the log had `entry` (its body) at `index` when it signed `checkpoint`; `hour` is the UTC hour
    in the public leaf."""

    index: int
    entry: dict[str, Any]
    hour: str
    checkpoint: Checkpoint


def format_proof(proof: TlogProof) -> str:
    """Return the tlog-proof text. Raises InvalidReceipt if `parse_proof` would refuse it."""
    lines = [FIRST_LINE]
    if proof.extra is not None:
        lines.append(f"extra {b64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines += [b64(item) for item in proof.hashes]
    text = "\n".join(lines) + "\n\n" + proof.checkpoint_note
    parse_proof(text)  # `parse_proof` has the rules for both directions.
    return text


def parse_proof(text: str) -> TlogProof:
    """Parse a text of `format_proof` strictly; the checkpoint stays text. Raises InvalidReceipt."""
    bad = InvalidReceipt("This is not a log proof.")
    if len(text) > _MAX_TEXT_CHARS:
        raise InvalidReceipt("This log proof is too long.")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or not note or lines.pop(0) != FIRST_LINE:
        raise bad
    try:
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = unb64(lines.pop(0).removeprefix("extra "))
            if not 1 <= len(extra) <= MAX_EXTRA_BYTES:
                raise bad
        if not lines or len(lines) > 1 + MAX_HASHES or not lines[0].startswith("index "):
            raise bad
        number = lines.pop(0).removeprefix("index ")
        if not _INDEX.match(number) or int(number) > MAX_TREE_SIZE:
            raise bad
        return TlogProof(int(number), tuple(unb64(line, HASH_BYTES) for line in lines), note, extra)
    except InvalidInput as error:
        raise bad from error


def format_receipt(
    *, index: int, hashes: Sequence[bytes], checkpoint_note: str, body: bytes, hour: datetime, salt: bytes
) -> str:
    """Return the receipt of the event at `index` with canonical `body` and 32-byte `salt`, recorded in `hour` (any
    moment of it). Raises InvalidReceipt for values that no receipt can have."""
    try:
        opening = {
            "entry": parse_canonical(body),
            "hour": format_time(hour)[:14] + "00:00Z",
            "salt": b64url(salt),
        }
        extra = canonical_json(opening)
    except InvalidInput as error:
        raise InvalidReceipt("These values make no receipt.") from error
    return format_proof(TlogProof(index, tuple(hashes), checkpoint_note, extra))


def open_receipt(text: str, origin: str, log_public_key: bytes) -> EntryReceipt:
    """Verify a receipt offline against the pinned log `origin` and its 32-byte Ed25519 key.

    Raises InvalidReceipt (not well formed), InvalidCheckpoint (not signed by that log) or InvalidInclusion (the signed
    tree does not have this entry at this index).
    """
    proof = parse_proof(text)
    checkpoint = open_checkpoint(proof.checkpoint_note, origin, log_public_key)
    entry, hour, salt = _parse_extra(proof.extra)
    try:
        leaf = event_leaf(proof.index, parse_time(hour), commitment(salt, canonical_json(entry)))
    except InvalidInput as error:
        raise InvalidReceipt("This receipt opens no entry.") from error
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    return EntryReceipt(proof.index, entry, hour, checkpoint)


def open_leaf_proof(text: str, leaf: bytes, origin: str, log_public_key: bytes) -> tuple[Leaf, Checkpoint]:
    """Verify that the log `origin` has the public `leaf` (its canonical bytes) at the index of the tlog-proof `text`.

    For governance entries, whose leaves have their bodies in clear. Raises InvalidReceipt (not well formed),
    InvalidCheckpoint (not signed by that log), InvalidLeaf (not a leaf, or a leaf of another index) or
    InvalidInclusion.
    """
    proof = parse_proof(text)
    checkpoint = open_checkpoint(proof.checkpoint_note, origin, log_public_key)
    try:
        parsed = parse_leaf(leaf)
    except InvalidInput as error:
        raise InvalidLeaf("This is not a leaf of this ledger.") from error
    if parsed.index != proof.index:
        raise InvalidLeaf("The proof is about another place in the log than the leaf names.")
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    return parsed, checkpoint


def sealed_receipt(text: str) -> str:
    """Return the receipt `text` without the opening of its commitment: its `extra` data becomes the public leaf (index,
    hour and commitment).

    It proves that the log has that leaf and does not contain the entry. Raises InvalidReceipt.
    """
    proof = parse_proof(text)
    entry, hour, salt = _parse_extra(proof.extra)
    leaf = event_leaf(proof.index, parse_time(hour), commitment(salt, canonical_json(entry)))
    return format_proof(replace(proof, extra=leaf))


def open_sealed_receipt(text: str, origin: str, log_public_key: bytes) -> tuple[Leaf, Checkpoint]:
    """Verify a text of `sealed_receipt`. Raises InvalidReceipt, InvalidCheckpoint, InvalidLeaf or InvalidInclusion."""
    extra = parse_proof(text).extra
    if extra is None:
        raise InvalidReceipt("This receipt carries neither its entry nor its leaf.")
    leaf, checkpoint = open_leaf_proof(text, extra, origin, log_public_key)
    if leaf.type != EVENT_TYPE:
        raise InvalidReceipt("This receipt is not of an event.")
    return leaf, checkpoint


def is_sealed(text: str) -> bool:
    """True if a receipt carries its leaf instead of its entry. Nothing is verified. Raises InvalidReceipt."""
    try:
        value = parse_canonical(parse_proof(text).extra or b"")
    except InvalidInput as error:
        raise InvalidReceipt("This receipt carries neither its entry nor its leaf.") from error
    return isinstance(value, dict) and "commitment" in value and "entry" not in value


def _parse_extra(extra: bytes | None) -> tuple[dict[str, Any], str, bytes]:
    bad = InvalidReceipt("This receipt does not carry its entry.")
    try:
        value = parse_canonical(extra or b"")
        if not isinstance(value, dict) or not value.keys() >= {"entry", "hour", "salt"}:
            raise bad
        entry, hour, salt = value["entry"], value["hour"], unb64url(value["salt"], SALT_BYTES)
        moment = parse_time(hour)
        if moment.minute or moment.second:
            raise InvalidTime("A leaf shows a full hour.")
    except InvalidInput as error:
        raise bad from error
    if not isinstance(entry, dict):
        raise bad
    return entry, hour, salt
