"""Key epochs: which epochs this platform may use, and how it follows a rotation, refresh or resharing.

Where one holder has the whole key, the suite file pins its key in the epochs there were when it was written; where the
key is shared, the cards of holders do. Keys of a later epoch or generation are taken from the log only: the service
names the entry that announced them, and that entry must be a `key_rotation` under a checkpoint of the pinned log key
that continues the history seen before. An entry of a shared key has a statement of all its holders and names the entry
with the statement that it follows; the client reads these entries back to the one that the cards pin, and accepts each
step only as `ledger.tlog.key_statement.check_succession` does. Entries and proofs are kept in the state folder and
verified again at each start. The client never goes back to an earlier epoch or generation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger.client.identity.keyfiles import replace_file
from ledger.client.identity.suite import (
    Epoch,
    EpochMember,
    ListedHolder,
    LogMember,
    Service,
    Suite,
    check_same_key,
    check_served,
    is_loopback,
    parse_keys,
)
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
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.entries import GovernanceType, Leaf
from ledger.tlog.key_history import LoggedSharing, VerifyMultiple, introduced
from ledger.tlog.key_statement import KeyStatement, check_succession
from ledger.tlog.proof import open_leaf_proof

ANSWERING = frozenset({"current", "previous"})
"""States of an epoch in which lookups and reports under it are answered."""
EVALUATED = frozenset({"next", "current"})
"""States of an epoch in which identifiers are evaluated under it."""


MAX_STEPS = 10_000
"""Statements between the pinned one and the newest, at most."""

_Sharing = tuple[int, int]
"""Epoch and generation."""


class Epochs:
    """The epochs of one service. `path` is the file in which proven announcements are kept; without one, or where it
    cannot be written, they are proven anew by each process. `pinned` is the statement of the holders' cards, None
    where one holder has the whole key. Thread-safe."""

    def __init__(
        self,
        suite: Suite,
        path: Path | None,
        seen: SeenCheckpoint,
        pinned: KeyStatement | None = None,
        verify_multiple: VerifyMultiple = verify_multiple,
    ) -> None:
        self._suite = suite
        self._path = path
        self._spare = ForkLock()
        self._seen = seen
        self._verify_multiple = verify_multiple
        self._following = ForkLock()
        self._shared = pinned is not None
        self._statements: dict[_Sharing, KeyStatement] = {}
        self._held: dict[int, tuple[KeySet, ...]] = {}
        self._newest = suite.current.epoch
        if pinned is None:
            self._held = {epoch.epoch: (epoch.keys,) for epoch in suite.pinned.epochs if epoch.keys.is_single}
        else:
            self._add(pinned)
            self._add_earlier(pinned)
        self._listed: dict[int, Epoch] = {}
        self._kept: dict[_Sharing, dict[str, Any]] = {}
        self._load()

    @property
    def current(self) -> int:
        """The epoch that new tags and reports are made under, as far as is known."""
        return next((epoch.epoch for epoch in self._listed.values() if epoch.state == "current"), self._newest)

    @property
    def next(self) -> int | None:
        """The epoch that has been announced to follow, as the service listed it last."""
        return next((epoch.epoch for epoch in self._listed.values() if epoch.state == "next"), None)

    @property
    def of_this_machine(self) -> bool:
        """True if the ledger's address leads to this machine."""
        return is_loopback(self._suite.url)

    def answers(self, epoch: int) -> bool:
        """True if lookups and reports under `epoch` are answered, as far as is known."""
        if self._listed:
            return epoch in self._listed and self._listed[epoch].state in ANSWERING
        return epoch in self._held and epoch <= self._newest

    def evaluates(self, epoch: int) -> bool:
        """True if tags can be made under `epoch`, as far as is known: it is current, or announced to follow."""
        listed = self._listed.get(epoch)
        return epoch == self.current if listed is None else listed.state in EVALUATED

    def holds(self, epoch: int) -> bool:
        """True if the holders of `epoch` are pinned or proven."""
        return epoch in self._held

    def keys(self, epoch: int) -> KeySet:
        """Return the newest known sharing of the key of `epoch`. Raises StaleEpoch unless it is pinned or proven."""
        return self.sharings(epoch)[0]

    def sharings(self, epoch: int) -> tuple[KeySet, ...]:
        """Return the known sharings of the key of `epoch`, newest first. For 24 hours after a refresh holders may use
        either of two. Raises StaleEpoch unless one is pinned or proven."""
        if epoch not in self._held:
            raise StaleEpoch("The holders of this key epoch are not known.", epoch=self.current)
        return self._held[epoch]

    def stated(self, epoch: int, generation: int) -> KeyStatement | None:
        """Return the statement of the holders of a known sharing, None where one holder has the whole key."""
        return self._statements.get((epoch, generation))

    def is_behind(self, epoch: int) -> bool:
        """True if the service lists a newer sharing of `epoch` than is proven."""
        listed = self._listed.get(epoch)
        return listed is not None and (epoch not in self._held or listed.keys.generation > self.keys(epoch).generation)

    def listed(self, epoch: int, holder: str) -> ListedHolder | None:
        """Return what the operator lists about a key holder, None if it lists nothing."""
        for source in (self._listed.get(epoch), *self._suite.pinned.epochs):
            if source is not None and holder in source.listed:
                return source.listed[holder]
        return None

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
        for epoch in served.epochs:
            for keys in held.get(epoch.epoch, ()):
                check_same_key(keys, epoch.keys)
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
        """Make sure that the holders of `epoch` are pinned or proven; if not, prove them from the log. Where they are,
        and the service lists a newer sharing of the key, prove that one; an outage leaves the known one in use.

        `wait_seconds` bounds the wait for another thread that proves it. Raises StaleEpoch (the service does not list
        it), HolderMismatch, InvalidSignature, InvalidProof, InvalidLeaf and the other errors of a false log,
        Equivocation, ReceiptPending, Unavailable.
        """
        if self.holds(epoch) and not self.is_behind(epoch):
            return
        if not self._following.acquire(timeout=wait_seconds):
            if self.holds(epoch):
                return
            raise Unavailable("The new key epoch is still being verified.", reason="timeout")
        try:
            if not self.holds(epoch):
                self._prove(epoch, fetch)
            elif self.is_behind(epoch):
                with suppress(Unavailable):
                    self._prove(epoch, fetch)
        finally:
            self._following.release()

    def _prove(self, epoch: int, fetch: Fetch) -> None:
        listed = self._listed.get(epoch)
        if listed is None:
            raise StaleEpoch("The service does not list this key epoch.", epoch=self.current)
        if listed.entry_index is None:
            raise UnexpectedAnswer("The service does not say where its log announces the key epoch.")
        note = fetch_checkpoint(fetch)
        self._seen.accept(note, fetch)
        if self._shared:
            self._prove_statements(epoch, listed.entry_index, note, fetch)
            proven = listed.keys in self._held[epoch]
        else:
            kept = self._proven_leaf(listed.entry_index, note, fetch) | {"epoch": epoch}
            keys = self._announced(kept)
            proven = keys == listed.keys
            if proven:
                self._kept[epoch, 1] = kept
                self._held = {**self._held, epoch: (keys,)}
        if not proven:
            raise HolderMismatch("The server names other key holders than its log announced.")
        self._store()
        if self._listed[epoch].state == "current":
            self._move(epoch)

    def _prove_statements(self, epoch: int, index: int, note: str, fetch: Fetch) -> None:
        """Read the entries with statements back from entry `index` to a known statement, and take each step."""
        steps: list[tuple[LoggedSharing, dict[str, Any]]] = []
        known: KeyStatement | None = None
        while len(steps) < MAX_STEPS:
            kept = self._proven_leaf(index, note, fetch)
            announced = self._announced_sharing(kept)
            sharing = (announced.statement.epoch, announced.statement.keys.generation)
            known = self._statements.get(sharing)
            if known is not None:
                if known.canonical != announced.statement.canonical:
                    raise HolderMismatch("The log states other key holders than the cards.")
                break
            steps.append((announced, kept | {"epoch": sharing[0], "generation": sharing[1]}))
            if announced.previous_entry is None or not announced.previous_entry < index:
                raise HolderMismatch("The key statements of the log do not lead back to the pinned one.")
            index = announced.previous_entry
        # Holders of an earlier sharing, who may have left since, decide nothing any longer.
        if steps and (known is None or known is not self._statements[max(self._statements)]):
            raise HolderMismatch("The key statements of the log do not lead back to the newest known one.")
        for announced, kept in reversed(steps):
            self._follow(announced, known)
            known = announced.statement
            self._kept[kept["epoch"], kept["generation"]] = kept
        if not self.holds(epoch):
            raise HolderMismatch("The entry that the service names announces another key epoch.")

    def _follow(self, announced: LoggedSharing, known: KeyStatement | None) -> None:
        """Hold an announced sharing. Raises HolderMismatch, InvalidSignature, InvalidProof unless it follows the known
        one."""
        if known is None:
            raise HolderMismatch("The key statements of the log do not lead back to the pinned one.")
        check_succession(known, announced.statement, announced.endorsements, self._verify_multiple)
        self._add(announced.statement)

    def _add(self, statement: KeyStatement) -> None:
        keys = statement.keys
        others = [known for known in self._held.get(statement.epoch, ()) if known.generation != keys.generation]
        held = tuple(sorted([keys, *others], key=lambda known: -known.generation))
        self._statements = {**self._statements, (statement.epoch, keys.generation): statement}
        self._held = {**self._held, statement.epoch: held}

    def _add_earlier(self, pinned: KeyStatement) -> None:
        """Hold what the suite file names of sharings before the cards. Its shares are checked against the public key
        that the cards name, so they give the elements of that key and of no other, whichever holders have them."""
        previous = pinned.previous
        for epoch in self._suite.pinned.epochs:
            earlier_epoch = previous is not None and epoch.epoch == previous.epoch < pinned.epoch
            earlier_generation = epoch.epoch == pinned.epoch and epoch.keys.generation < pinned.keys.generation
            expected = previous.public_key if previous is not None and earlier_epoch else pinned.keys.public_key
            if (earlier_epoch or earlier_generation) and epoch.keys.public_key == expected:
                self._held[epoch.epoch] = (*self._held.get(epoch.epoch, ()), epoch.keys)

    def _proven_leaf(self, index: int, note: str, fetch: Fetch) -> dict[str, Any]:
        """Return an entry and its proof as they are kept."""
        leaf, proof = prove_leaf(fetch, index, note, self._suite.pinned.log_origin, self._suite.log_public)
        return {"leaf": leaf.decode(), "proof": proof}

    def _move(self, current: int) -> None:
        if current != self._newest:
            self._newest = current
            self._store()

    def _announced(self, kept: Mapping[str, Any]) -> KeySet:
        """Return the keys in a kept announcement of an epoch, verified. Raises the errors of a false proof."""
        known = {epoch: held[0] for epoch, held in self._held.items()}
        keys = announced_keys(self._opened(kept), kept["epoch"], self._suite.pinned, known)
        if not keys.is_single:
            raise HolderMismatch("A ledger whose key one holder has cannot share it later.")
        return keys

    def _announced_sharing(self, kept: Mapping[str, Any]) -> LoggedSharing:
        """Return the sharing in a kept entry, whose proof is verified and whose succession is not. Raises the errors of
        a false proof."""
        return announced_sharing(self._opened(kept), self._suite.pinned)

    def _opened(self, kept: Mapping[str, Any]) -> Leaf:
        pinned = self._suite.pinned
        return open_leaf_proof(kept["proof"], kept["leaf"].encode(), pinned.log_origin, self._suite.log_public)[0]

    # --- state folder -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load the stored announcements. Each is a proof; one that no longer verifies is fetched again."""
        for kept in sorted(_entries(_read(self._path)), key=_sharing_of):
            try:
                if self._shared:
                    announced = self._announced_sharing(kept)
                    before = announced.statement.previous
                    known = None if before is None else self._statements.get((before.epoch, before.generation))
                    self._follow(announced, known)
                else:
                    self._held = {**self._held, kept["epoch"]: (self._announced(kept),)}
            except (LedgerError, KeyError, TypeError, AttributeError, UnicodeError):
                continue
            self._kept[_sharing_of(kept)] = kept
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
            others = {_sharing_of(entry): entry for entry in _entries(before) if _sharing_of(entry) not in self._kept}
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


def announced_sharing(leaf: Leaf, pinned: Service) -> LoggedSharing:
    """Return the sharing that the proven entry `leaf` introduces; it must be of the `pinned` log. Raises InvalidLeaf,
    HolderMismatch, NewerFormat."""
    if leaf.type != GovernanceType.KEY_ROTATION or leaf.body is None:
        raise InvalidLeaf("The entry that the service names announces no key epoch.")
    try:
        sharing = introduced(leaf.index, leaf.body)
    except InvalidInput as error:
        raise InvalidLeaf("The statement of key holders in the log is malformed.") from error
    if sharing is None:
        raise InvalidLeaf("The entry that the service names states no key holders.")
    if sharing.statement.log_key != pinned.log_key:
        raise HolderMismatch("The statement of key holders names another log key.")
    return sharing


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
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("epochs"), list) else {}


def _entries(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in value.get("epochs", ()) if isinstance(entry, dict) and type(entry.get("epoch")) is int]


def _sharing_of(kept: Mapping[str, Any]) -> _Sharing:
    """Return epoch and generation of a kept announcement; that of a whole key has no generation."""
    generation = kept.get("generation", 1)
    return kept["epoch"], generation if type(generation) is int else 0
