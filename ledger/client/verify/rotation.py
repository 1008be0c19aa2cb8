"""An auditor's check of a key rotation: batch files against the log's entries about it.

The files are not trusted. Both public keys, the number of elements and the Merkle root over them come from
`key_rotation` entries of the log, each proven under a checkpoint of the pinned log key. `rotation.json` in the folder
only names the entries. Where several holders share the key, all entries with their statements are read too, from the
first one on: every statement is signed by all its holders and follows the one before, and the new K is a proven
multiple of the old one.

Proven afterwards: every element in the files was converted from the old key to the new one, each once, and these files
are what the operator committed to. Not proven: that the files hold every subject. The commitments c are in private
bodies, so only a platform can compare those of its own reports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ledger.client.identity.suite import EpochMember, LogMember, Service, parse_keys
from ledger.client.models.decoding import Count, Model, decode, decode_json
from ledger.client.verify.log import Fetch, prove_leaf
from ledger.errors import (
    ConfigurationError,
    HolderMismatch,
    InvalidInput,
    InvalidProof,
    InvalidRotation,
    InvalidSignature,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import unb64url
from ledger.protocol.threshold import KeySet
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.entries import GovernanceType
from ledger.tlog.key_history import KeyHistory
from ledger.tlog.key_rotation import MAX_BATCH_FILE_BYTES, Batch, RotationKeys, RotationVerifier, parse_batch
from ledger.tlog.proof import open_leaf_proof

FACTS_FILE = "rotation.json"
_BATCH = re.compile(r"batch-[0-9]{6}\.rot\Z")

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""(elements verified, elements in all as the log says)."""


class Places(Model, frozen=True):
    """The entries of the log about the rotation: that of the switch names the keys, the other one the root. They are
    the same entry, except for reports that arrived late: their root is in the entry of the retirement."""

    switch_entry: Count
    root_entry: Count


@dataclass(frozen=True, slots=True)
class RotationReport:
    """The verified facts. `root` is the logged Merkle root over the elements, 32 bytes; `late`: these are the reports
    that arrived under the old epoch after the switch. Any `threshold` of `holders` have the new key; `sharings` are the
    statements that were checked, none where one holder has the whole key."""

    old_epoch: int
    new_epoch: int
    elements: int
    batches: int
    root: bytes
    places: Places
    late: bool
    threshold: int = 1
    holders: tuple[str, ...] = ()
    sharings: int = 0


@dataclass(frozen=True, slots=True)
class _Logged:
    keys: RotationKeys
    elements: int
    root: bytes
    shared: KeySet
    sharings: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A proven `key_rotation` entry: its index, its whole body, and the members that are read here."""

    index: int
    whole: Mapping[str, Any]
    body: _Body


class _Rotation(Model, frozen=True):
    old_epoch: Count = msgspec.field(name="from")
    new_epoch: Count = msgspec.field(name="to")
    elements: Count
    root: str


class _Body(EpochMember, frozen=True, kw_only=True):
    """The members of a `key_rotation` entry's body that are read here."""

    log: LogMember
    previous: EpochMember | None = None
    retired: tuple[Any, ...] | None = None
    rotation: _Rotation | None = None


def read_places(folder: Path) -> Places:
    """Return the entries that `rotation.json` names. Raises ConfigurationError."""
    try:
        return decode_json((folder / FACTS_FILE).read_bytes(), Places)
    except (OSError, ValueError, UnexpectedAnswer) as error:
        raise ConfigurationError(
            f"{FACTS_FILE} is not in this folder or is damaged. Ask the operator for the numbers of the log entries."
        ) from error


def verify_rotation(
    folder: Path,
    places: Places,
    fetch: Fetch,
    note: str,
    pinned: Service | None,
    origin: str,
    public_key: bytes,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> RotationReport:
    """Check the batch files in `folder` against the log named `origin` under its Ed25519 `public_key`.

    `note` is its signed checkpoint, already compared with what was seen before; `fetch` reads tiles. Where a suite is
    `pinned`, its holders must be those of the log. Raises InvalidRotation (files, proofs, root or number are false),
    HolderMismatch, ReceiptPending (no checkpoint covers the entry yet), ConfigurationError (a file cannot be read), and
    the errors of a false log.
    """
    logged = _logged(places, fetch, note, pinned, origin, public_key)
    late = places.root_entry != places.switch_entry
    verifier = RotationVerifier(logged.keys, workers=workers)
    for path in sorted(path for path in _files(folder) if _BATCH.match(path.name)):
        batch = _read(path)
        if any((item.entry_index > places.switch_entry) is not late for item in batch.items):
            raise InvalidRotation("A batch holds reports from the wrong side of the switch.")
        verifier.add(batch)
        if progress is not None:
            progress(verifier.count, logged.elements)
    verifier.finish(logged.root, logged.elements)
    return RotationReport(
        logged.keys.old_epoch,
        logged.keys.new_epoch,
        verifier.count,
        verifier.batches,
        logged.root,
        places,
        late,
        logged.shared.threshold,
        tuple([holder.holder for holder in logged.shared.holders]),
        logged.sharings,
    )


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"The folder {folder.name} cannot be read.") from error


def _read(path: Path) -> Batch:
    try:
        if path.stat().st_size > MAX_BATCH_FILE_BYTES:
            raise InvalidRotation(f"{path.name} is longer than a batch can be.")
        return parse_batch(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be read.") from error


def _logged(places: Places, fetch: Fetch, note: str, pinned: Service | None, origin: str, public_key: bytes) -> _Logged:
    def entry_at(index: int) -> _Entry:
        return _entry(index, fetch, note, pinned, origin, public_key)

    try:
        switch = entry_at(places.switch_entry)
        previous = _present(switch.body.previous)
        if "statement_entry" in switch.whole:
            old, new, sharings = _shared_keys(switch, previous.epoch, entry_at)
        else:
            old, new, sharings = _single(previous), _single(switch.body), 0
        for epoch, keys in ((previous.epoch, old), (switch.body.epoch, new)):
            _check_pinned(pinned, epoch, keys)
        rotated = RotationKeys(previous.epoch, switch.body.epoch, old.public_key, new.public_key)
        entry = switch
        if places.root_entry != places.switch_entry:
            entry = entry_at(places.root_entry)
            if rotated.old_epoch not in _present(entry.body.retired):
                raise InvalidRotation("The entry with the root does not retire the old epoch.")
        rotation = _present(entry.body.rotation)
        if (rotation.old_epoch, rotation.new_epoch) != (rotated.old_epoch, rotated.new_epoch):
            raise InvalidRotation("The log's entries speak of different rotations.")
        return _Logged(rotated, rotation.elements, unb64url(rotation.root, 32), new, sharings)
    except (HolderMismatch, InvalidSignature, InvalidProof):
        raise
    except (UnexpectedAnswer, InvalidInput) as error:
        raise InvalidRotation("The log's entry does not describe a rotation.") from error


def _entry(index: int, fetch: Fetch, note: str, pinned: Service | None, origin: str, public_key: bytes) -> _Entry:
    """Return a `key_rotation` entry, proven."""
    data, proof = prove_leaf(fetch, index, note, origin, public_key)
    leaf, _ = open_leaf_proof(proof, data, origin, public_key)
    if leaf.type != GovernanceType.KEY_ROTATION or leaf.body is None:
        raise InvalidRotation(f"Entry {index} of the log is not about keys.")
    body = decode(leaf.body, _Body)
    if body.log.origin != origin or (pinned is not None and body.log.key != pinned.log_key):
        raise HolderMismatch("The entry names another log key.")
    return _Entry(index, leaf.body, body)


def _present(member: T | None) -> T:
    """Return a member that the entry must have. Raises UnexpectedAnswer."""
    if member is None:
        raise UnexpectedAnswer("The entry lacks a member.")
    return member


def _single(named: EpochMember) -> KeySet:
    """Return the key of an epoch that one holder has."""
    keys = parse_keys(named)
    if not keys.is_single:
        raise InvalidRotation("The entry names several holders without the statement that they signed.")
    return keys


def _shared_keys(switch: _Entry, old_epoch: int, entry_at: Callable[[int], _Entry]) -> tuple[KeySet, KeySet, int]:
    """Return the old and the new key of a rotation by several holders, and the number of statements in the log up to
    it. All of them are checked."""
    chain: list[_Entry] = []
    index = switch.whole["statement_entry"]
    while index is not None:
        if type(index) is not int or not 0 <= index < (chain[-1].index if chain else switch.index):
            raise InvalidRotation("The log's key statements do not follow one another.")
        chain.append(entry_at(index))
        index = chain[-1].whole.get("previous_entry")
    history = KeyHistory(verify_multiple)
    for entry in [*reversed(chain), switch]:
        history.see(entry.index, entry.whole)
    old, new = history.sharing_of(old_epoch), history.sharing_of(switch.body.epoch)
    announced = next((known for known in history.sharings if known.statement.epoch == switch.body.epoch), None)
    before = announced.statement.previous if announced is not None else None
    if old is None or new is None or before is None or before.epoch != old_epoch:
        raise InvalidRotation("The new key does not follow the old one by a rotation.")
    return old.statement.keys, new.statement.keys, len(history.sharings)


def _check_pinned(pinned: Service | None, epoch: int, keys: KeySet) -> None:
    """Raises HolderMismatch if the suite file pins another key for the epoch. Holders may have got new shares since."""
    for known in pinned.epochs if pinned is not None else ():
        if known.epoch == epoch and (
            known.keys.public_key != keys.public_key or (keys.is_single and known.keys != keys)
        ):
            raise HolderMismatch("The log names other key holders than the suite file pins.")
