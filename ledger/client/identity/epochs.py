"""Key epochs: which epochs this platform may use, and how it follows a rotation.

The suite file pins the holders' keys of the epochs there were when it was written. Holders of a later epoch are taken
from the log only: the service names the entry that announced them, and that entry must be a `key_rotation` under a
checkpoint of the pinned log key that continues the history seen before. Entry and proof are kept in the state folder
and verified again at each start. The service never goes back to an earlier epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ledger.client.identity.keyfiles import replace_file
from ledger.client.identity.suite import Epoch, EpochMember, LogMember, Service, Suite, check_served, parse_keys
from ledger.client.models.decoding import decode
from ledger.client.state import SeenCheckpoint, is_unwritable, turn, warn_of_memory
from ledger.client.transport.forks import ForkLock
from ledger.client.verify.log import Fetch, fetch_checkpoint, prove_leaf
from ledger.errors import (
    ConfigurationError,
    HolderMismatch,
    InvalidInput,
    InvalidLeaf,
    LedgerError,
    StaleEpoch,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.protocol.threshold import KeySet
from ledger.tlog.entries import GovernanceType, Leaf
from ledger.tlog.proof import open_leaf_proof

ANSWERING = frozenset({"current", "previous"})
"""States of an epoch in which lookups and reports under it are answered."""


class Epochs:
    """The epochs of one service. `path` is the file in which proven announcements are kept; without one, or where it
    cannot be written, they are proven anew by each process. Thread-safe."""

    def __init__(self, suite: Suite, path: Path | None, seen: SeenCheckpoint) -> None:
        self._suite = suite
        self._path = path
        self._spare = ForkLock()
        self._seen = seen
        self._following = ForkLock()
        self._held: dict[int, KeySet] = {epoch.epoch: epoch.keys for epoch in suite.pinned.epochs}
        self._newest = suite.current.epoch
        self._listed: dict[int, Epoch] = {}
        self._kept: dict[int, dict[str, Any]] = {}
        self._load()

    @property
    def current(self) -> int:
        """The epoch that new tags and reports are made under, as far as is known."""
        return next((epoch.epoch for epoch in self._listed.values() if epoch.state == "current"), self._newest)

    @property
    def next(self) -> int | None:
        """The epoch that has been announced to follow, as the service listed it last."""
        return next((epoch.epoch for epoch in self._listed.values() if epoch.state == "next"), None)

    def answers(self, epoch: int) -> bool:
        """True if lookups and reports under `epoch` are answered, as far as is known."""
        if self._listed:
            return epoch in self._listed and self._listed[epoch].state in ANSWERING
        return epoch in self._held and epoch <= self._newest

    def holds(self, epoch: int) -> bool:
        """True if the holders of `epoch` are pinned or proven."""
        return epoch in self._held

    def keys(self, epoch: int) -> KeySet:
        """Return the sharing of the key of `epoch`. Raises StaleEpoch unless they are pinned or proven."""
        if epoch not in self._held:
            raise StaleEpoch("The holders of this key epoch are not known.", epoch=self.current)
        return self._held[epoch]

    def take(self, served: Service) -> None:
        """Store the epochs as the service lists them now.

        Raises what `check_served` does, HolderMismatch also when the service went back to an earlier epoch or names
        other holders than were proven, UnexpectedAnswer unless one epoch is current, Unavailable from a server that
        has not noticed the switch yet.
        """
        check_served(self._suite.pinned, served)
        listed = {epoch.epoch: epoch for epoch in served.epochs}
        if [epoch.state for epoch in served.epochs].count("current") != 1 or len(listed) != len(served.epochs):
            raise UnexpectedAnswer("The service must list exactly one current key epoch, and each epoch once.")
        held = self._held
        if any(held[epoch.epoch] != epoch.keys for epoch in served.epochs if epoch.epoch in held):
            raise HolderMismatch("The server names other key holders than the log announced.")
        current = next(epoch.epoch for epoch in served.epochs if epoch.state == "current")
        if current < self._newest:
            ahead = listed.get(self._newest)
            if ahead is not None and ahead.state == "next":
                raise Unavailable("This server has not noticed the key rotation yet.", retry_after_seconds=1)
            raise HolderMismatch("The server went back to an earlier key epoch.")
        self._listed = listed
        if current in held:
            self._move(current)

    def hold(self, epoch: int, fetch: Fetch, wait_seconds: float) -> None:
        """Make sure that the holders of `epoch` are pinned or proven; if not, prove them from the log.

        `wait_seconds` bounds the wait for another thread that proves it. Raises StaleEpoch (the service does not list
        it), HolderMismatch, InvalidLeaf and the other errors of a false log, Equivocation, ReceiptPending, Unavailable.
        """
        if self.holds(epoch):
            return
        if not self._following.acquire(timeout=wait_seconds):
            raise Unavailable("The new key epoch is still being verified.", reason="timeout")
        try:
            if not self.holds(epoch):
                self._prove(epoch, fetch)
        finally:
            self._following.release()

    def _prove(self, epoch: int, fetch: Fetch) -> None:
        listed = self._listed.get(epoch)
        if listed is None:
            raise StaleEpoch("The service does not list this key epoch.", epoch=self.current)
        if listed.entry_index is None:
            raise UnexpectedAnswer("The service does not say where its log announces the key epoch.")
        pinned, public_key = self._suite.pinned, self._suite.log_public
        note = fetch_checkpoint(fetch)
        self._seen.accept(note, fetch)
        leaf, proof = prove_leaf(fetch, listed.entry_index, note, pinned.log_origin, public_key)
        kept = {"epoch": epoch, "leaf": leaf.decode(), "proof": proof}
        keys = self._announced(kept)
        if keys != listed.keys:
            raise HolderMismatch("The server names other key holders than its log announced.")
        self._held = {**self._held, epoch: keys}
        self._kept[epoch] = kept
        self._store()
        if self._listed[epoch].state == "current":
            self._move(epoch)

    def _move(self, current: int) -> None:
        if current != self._newest:
            self._newest = current
            self._store()

    def _announced(self, kept: Mapping[str, Any]) -> KeySet:
        """Return the sharing in a kept announcement, verified. Raises the errors of a false proof."""
        pinned = self._suite.pinned
        leaf, _ = open_leaf_proof(kept["proof"], kept["leaf"].encode(), pinned.log_origin, self._suite.log_public)
        return announced_keys(leaf, kept["epoch"], pinned, self._held)

    # --- state folder -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load the stored announcements. Each is a proof; one that no longer verifies is fetched again."""
        for kept in _read(self._path).get("epochs", ()):
            try:
                keys = self._announced(kept)
            except (LedgerError, KeyError, TypeError, AttributeError, UnicodeError):
                continue
            self._held = {**self._held, kept["epoch"]: keys}
            self._kept[kept["epoch"]] = kept
        current = _read(self._path).get("current")
        if type(current) is int and current in self._held:
            self._newest = max(self._newest, current)

    def _store(self) -> None:
        """Keep what is proven on disk; where that is impossible it stays in memory, where it is already."""
        if self._path is None:
            warn_of_memory(None)
            return
        with turn(self._path, self._spare) as problem:
            if problem is not None:
                warn_of_memory(self._path.parent, problem)
                return
            before = _read(self._path)
            others = {entry["epoch"]: entry for entry in _entries(before) if entry["epoch"] not in self._kept}
            current = before.get("current")
            newest = max(self._newest, current) if type(current) is int else self._newest
            value = {"current": newest, "epochs": [*others.values(), *self._kept.values()]}
            try:
                replace_file(self._path, json.dumps(value).encode())
            except OSError as error:
                if not is_unwritable(error):
                    raise ConfigurationError("The state folder cannot be written.") from error
                warn_of_memory(self._path.parent, error)


class _Announcement(EpochMember, frozen=True, kw_only=True):
    """The members of a `key_rotation` entry's body that are read here."""

    log: LogMember
    next: EpochMember | None = None
    previous: EpochMember | None = None


def announced_keys(leaf: Leaf, epoch: int, pinned: Service, known: Mapping[int, KeySet]) -> KeySet:
    """Return the sharing of the key of `epoch` in the proven entry `leaf` that announced it, which must be of the
    `pinned` log and agree with all that is `known`.

    An announcement names the epoch under `next`; that of the first epoch is itself the entry's. Raises InvalidLeaf,
    HolderMismatch.
    """
    if leaf.type != GovernanceType.KEY_ROTATION or leaf.body is None:
        raise InvalidLeaf("The entry that the service names announces no key epoch.")
    try:
        body = decode(leaf.body, _Announcement)
        if (body.log.origin, body.log.key) != (pinned.log_origin, pinned.log_key):
            raise HolderMismatch("The announcement of the key epoch names another log key.")
        named = [epoch for epoch in (body, body.next, body.previous) if epoch is not None]
        keys = {epoch.epoch: parse_keys(epoch) for epoch in named}
        announced = {body.epoch} if body.next is None else {body.epoch, body.next.epoch}
    except (UnexpectedAnswer, InvalidInput) as error:
        raise InvalidLeaf("The announcement of the key epoch is malformed.") from error
    if any(known[number] != named_keys for number, named_keys in keys.items() if number in known):
        raise HolderMismatch("The announcement contradicts the holders that are known.")
    if epoch not in announced:
        raise InvalidLeaf("The entry that the service names announces another key epoch.")
    return keys[epoch]


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("epochs"), list) else {}


def _entries(value: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    return [entry for entry in value.get("epochs", ()) if isinstance(entry, dict) and type(entry.get("epoch")) is int]
