"""Checkpoints: the log's signed size and root, as C2SP tlog-checkpoint in a C2SP signed-note. Pure.

    refund-ledger.local/log
    70
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    - refund-ledger.local/log Az3grlgtzPICa5OS...        (the first character really is an em dash)

The key's name is the origin. Signature lines of other signers, such as witnesses, are allowed and not verified here.
Extension lines, which the format allows, are refused: no monitor can audit their content, this project's publisher
never writes them, and without them a checkpoint has exactly one text.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature as SignatureRefused
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import InvalidCheckpoint, InvalidEncoding
from ledger.protocol.signing_keys import check_public_key
from ledger.tlog.merkle import EMPTY_ROOT, HASH_BYTES, MAX_TREE_SIZE

ED25519 = b"\x01"
"""The signature type byte of plain Ed25519 in signed-note."""

KEY_ID_BYTES = 4
MAX_NOTE_BYTES = 2**17
MAX_SIGNATURES = 32
"""Signature lines of a note, at most. Signed-note requires that readers accept 16; a post-quantum signature has up to 7
kB of text."""

_DASH = "\u2014"
_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f\ud800-\udfff]{1,255}\Z")
_VERIFIER_KEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: `size` leaves under the 32-byte Merkle `root`, in the log named `origin`."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line of a note, not verified: the signer that it names (`name`, 4-byte `key_id`) and its bytes."""

    name: str
    key_id: bytes
    signature: bytes


def b64(data: bytes) -> str:
    """Return `data` in standard base64 with padding (RFC 4648 section 4), as the C2SP formats use it."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str, length: int | None = None) -> bytes:
    """Decode a text of `b64` strictly: exactly one text is accepted for each value. `length` is the exact number of
    bytes expected.

    Raises InvalidEncoding.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidEncoding("A value in a note must be standard base64.") from error
    if b64(data) != text or (length is not None and len(data) != length):
        raise InvalidEncoding("A value in a note has the wrong length or stray bits.")
    return data


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4-byte id of an Ed25519 key (32 bytes) under `name`, as signed-note defines it."""
    return sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:KEY_ID_BYTES]


def verifier_key(origin: str, public_key: bytes) -> str:
    """Return the verifier key text that integrators pin: `origin+key id in hex+base64`. Raises InvalidEncoding for an
    unfit origin or key."""
    if not _KEY_NAME.match(origin) or len(public_key) != 32:
        raise InvalidEncoding("A verifier key needs a name without spaces or plus signs and a key of 32 bytes.")
    return f"{origin}+{key_id(origin, public_key).hex()}+{b64(ED25519 + public_key)}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Return (origin, 32-byte Ed25519 public key) of a `verifier_key` text. Raises InvalidEncoding, and
    InvalidPublicKey for a key under which other parties could sign (`protocol.signing_keys`)."""
    match = _VERIFIER_KEY.match(text)
    if match:
        origin, _, encoded = match.groups()
        data = unb64(encoded)
        # Encoding the result again checks the key id, the signature type and the length.
        if verifier_key(origin, data[1:]) == text:
            check_public_key(data[1:])
            return origin, data[1:]
    raise InvalidEncoding("This is not the verifier key of an Ed25519 log key.")


def checkpoint_body(checkpoint: Checkpoint) -> str:
    """Return the signed text of `checkpoint`: three lines, each with its line end. Raises InvalidCheckpoint for
    impossible values."""
    if not _KEY_NAME.match(checkpoint.origin):
        raise InvalidCheckpoint("A log's origin must be a name without spaces or plus signs.")
    if not 0 <= checkpoint.size <= MAX_TREE_SIZE or len(checkpoint.root) != HASH_BYTES:
        raise InvalidCheckpoint("A checkpoint needs a size from 0 to 2^63 - 1 and a root of 32 bytes.")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise InvalidCheckpoint("An empty log has only one root.")
    return f"{checkpoint.origin}\n{checkpoint.size}\n{b64(checkpoint.root)}\n"


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """Return the signed note of `checkpoint`. Deterministic. Raises InvalidCheckpoint for impossible values.

    It signs every well-formed checkpoint: the publisher's guard makes sure that no two signed checkpoints contradict
    each other.
    """
    body = checkpoint_body(checkpoint)
    identity = key_id(checkpoint.origin, key.public_key().public_bytes_raw())
    return f"{body}\n{_DASH} {checkpoint.origin} {b64(identity + key.sign(body.encode()))}\n"


def parse(note: str) -> tuple[Checkpoint, tuple[NoteSignature, ...]]:
    """Parse a note into its checkpoint and signature lines, **unverified**; `open_checkpoint` verifies.

    Raises InvalidCheckpoint for every text but the one well-formed text.
    """
    bad = InvalidCheckpoint("This is not a signed checkpoint.")
    if len(note) > MAX_NOTE_BYTES or not note.endswith("\n"):
        raise bad
    body, blank, tail = note.partition("\n\n")
    lines, signature_lines = body.split("\n"), tail[:-1].split("\n")
    if not blank or len(lines) != 3 or len(signature_lines) > MAX_SIGNATURES or not _SIZE.match(lines[1]):
        raise bad
    try:
        checkpoint = Checkpoint(lines[0], int(lines[1]), unb64(lines[2], HASH_BYTES))
        checkpoint_body(checkpoint)
        return checkpoint, tuple(_parse_signature(line) for line in signature_lines)
    except InvalidEncoding as error:
        raise bad from error


def open_checkpoint(note: str, origin: str, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in `note` after verifying the signature by `origin`'s Ed25519 `public_key` (32 bytes).

    Signatures of other keys are ignored. Raises InvalidCheckpoint: not well formed, another log, no signature by this
    key, or an invalid one.
    """
    checkpoint, signatures = parse(note)
    if checkpoint.origin != origin:
        raise InvalidCheckpoint("This checkpoint belongs to another log.")
    identity = key_id(origin, public_key)
    ours = [item.signature for item in signatures if item.name == origin and item.key_id == identity]
    if not ours:
        raise InvalidCheckpoint("The log's key did not sign this checkpoint.")
    signed = checkpoint_body(checkpoint).encode()
    try:
        verifier = Ed25519PublicKey.from_public_bytes(public_key)
        for signature in ours:
            verifier.verify(signature, signed)
    except (SignatureRefused, ValueError) as error:
        raise InvalidCheckpoint("The log's signature on this checkpoint is false.") from error
    return checkpoint


def _parse_signature(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not _KEY_NAME.match(parts[1]):
        raise InvalidEncoding("This is not a signature line.")
    data = unb64(parts[2])
    if len(data) <= KEY_ID_BYTES:
        raise InvalidEncoding("A signature line is too short.")
    return NoteSignature(parts[1], data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
