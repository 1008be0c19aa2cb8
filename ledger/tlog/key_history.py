"""The key holders of a log, entry by entry: each `key_rotation` entry checked against the ones before. Pure.

A log has one of two kinds from its first entry on, and keeps it:

- 1 of 1: one holder has the whole key of each epoch, and no entry has a statement;
- held by holders: every sharing is introduced by an entry with a statement that all its holders signed. The first
  statement is of kind `generate`; each further one follows the one before (`key_statement.check_succession`), so the
  holders themselves, at least the threshold of them, agreed to each change.

Every entry repeats the keys of the epochs that it names; they must be those of the newest sharing of that epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import HolderMismatch, InvalidCanonicalForm, LedgerError
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import b64url
from ledger.tlog.entries import KeyEvent
from ledger.tlog.key_statement import (
    Endorsement,
    KeyStatement,
    check_endorsed,
    check_succession,
    parse_endorsement,
    parse_statement,
)

VerifyMultiple = Callable[[bytes, bytes, bytes], None]
"""Called with K, K' and a proof; raises InvalidProof unless K' is a multiple of K that the makers of the proof know."""

BEGUN_SINGLE = (
    "A ledger begun 1 of 1 cannot become one that protects those already in it: its one holder knew the whole key and "
    "could have kept it. Begin a new ledger with `keys init --threshold`."
)
"""Why the key of a 1-of-1 ledger is never shared later."""

_EVENTS = {
    CeremonyKind.GENERATE: KeyEvent.GENESIS,
    CeremonyKind.ROTATE: KeyEvent.ANNOUNCE,
    CeremonyKind.REFRESH: KeyEvent.REFRESH,
    CeremonyKind.RESHARE: KeyEvent.RESHARE,
}


@dataclass(frozen=True, slots=True)
class LoggedSharing:
    """A sharing in the log: the index of its entry, its statement and the signatures over it, parsed and not checked
    against other entries."""

    entry_index: int
    statement: KeyStatement
    endorsements: tuple[Endorsement, ...]
    previous_entry: int | None


def event_of(kind: CeremonyKind) -> KeyEvent:
    """Return the event of the entry that introduces a sharing of this kind."""
    return _EVENTS[kind]


def introduced(index: int, body: Mapping[str, Any]) -> LoggedSharing | None:
    """Return the sharing that the `key_rotation` entry `index` introduces, None if it introduces none. Checks that the
    entry is of that sharing's kind and log.

    Raises InvalidCanonicalForm, HolderMismatch, NewerFormat.
    """
    if "statement" not in body:
        return None
    statement = parse_statement(body["statement"])
    endorsements, previous = body.get("endorsements"), body.get("previous_entry")
    if not isinstance(endorsements, list) or not (previous is None or type(previous) is int):
        raise InvalidCanonicalForm("An entry with a key statement lacks its endorsements or the entry before.")
    log = body.get("log")
    if not isinstance(log, Mapping) or (log.get("origin"), log.get("key")) != (statement.log_origin, statement.log_key):
        raise HolderMismatch("The key statement is of another log.")
    if body.get("kind") != event_of(statement.kind).value:
        raise HolderMismatch("The entry is of another kind than its key statement.")
    return LoggedSharing(index, statement, tuple([parse_endorsement(value) for value in endorsements]), previous)


def check_first(sharing: LoggedSharing) -> None:
    """Check the sharing with which a ledger begins. Raises HolderMismatch, InvalidSignature."""
    statement = sharing.statement
    if (
        statement.kind is not CeremonyKind.GENERATE
        or statement.previous is not None
        or sharing.previous_entry is not None
    ):
        raise HolderMismatch("The first key statement of a log has to come from a ceremony that generates the key.")
    check_endorsed(statement, sharing.endorsements)


def check_next(known: LoggedSharing, sharing: LoggedSharing, verify_multiple: VerifyMultiple) -> None:
    """Check a sharing that follows the `known` one. Raises HolderMismatch, InvalidSignature, InvalidProof."""
    if sharing.previous_entry != known.entry_index:
        raise HolderMismatch("The key statement follows another entry than the newest one.")
    check_succession(known.statement, sharing.statement, sharing.endorsements, verify_multiple)


class KeyHistory:
    """The key holders as a log names them. `see` takes all `key_rotation` entries of a log, in their order."""

    def __init__(self, verify_multiple: VerifyMultiple) -> None:
        self.sharings: list[LoggedSharing] = []
        self._verify_multiple = verify_multiple
        self._first = True
        self._single: dict[int, Any] = {}

    @property
    def newest(self) -> LoggedSharing | None:
        """Return the sharing that was introduced last, None in a 1-of-1 ledger."""
        return self.sharings[-1] if self.sharings else None

    def sharing_of(self, epoch: int) -> LoggedSharing | None:
        """Return the newest sharing of an epoch's key, None if there is none."""
        return next((known for known in reversed(self.sharings) if known.statement.epoch == epoch), None)

    def see(self, index: int, body: Mapping[str, Any]) -> None:
        """Check the next `key_rotation` entry. An entry that is refused changes nothing.

        Raises HolderMismatch (keys that contradict the entries before, a ledger that was begun 1 of 1),
        InvalidSignature, InvalidProof, InvalidCanonicalForm, NewerFormat.
        """
        sharing = introduced(index, body)
        if sharing is not None:
            if self.newest is not None:
                check_next(self.newest, sharing, self._verify_multiple)
            elif self._first:
                check_first(sharing)
            else:
                raise HolderMismatch(BEGUN_SINGLE)
            self.sharings.append(sharing)
        try:
            self._check_named(body)
            if sharing is not None:
                _check_introduced(sharing.statement, body)
        except LedgerError:
            if sharing is not None:
                self.sharings.pop()
            raise
        self._first = False

    def _check_named(self, body: Mapping[str, Any]) -> None:
        named = [body, *[body[name] for name in ("next", "previous") if name in body]]
        if not all(isinstance(keys, Mapping) for keys in named):
            raise InvalidCanonicalForm("The entry names the keys of an epoch in another form.")
        if self.newest is not None:
            if self._first and self.newest.statement.epoch != body.get("epoch"):
                raise HolderMismatch("The first key statement is of another epoch than its entry.")
            for keys in named:
                self._check_shared(keys)
            return
        single: dict[int, Any] = {}
        for keys in named:
            epoch, holders = _number(keys, "epoch"), keys.get("holders")
            if not isinstance(holders, list) or len(holders) != 1 or keys.get("threshold", 1) != 1:
                raise HolderMismatch("The entry names several holders without their statement.")
            if self._single.get(epoch, holders) != holders:
                raise HolderMismatch(
                    "The entry names another key than earlier entries for the same epoch.", epoch=epoch
                )
            single[epoch] = holders
        self._single |= single

    def _check_shared(self, keys: Mapping[str, Any]) -> None:
        epoch = _number(keys, "epoch")
        sharing = self.sharing_of(epoch)
        if sharing is None:
            raise HolderMismatch("The entry names an epoch whose keys no statement has introduced.", epoch=epoch)
        expected = sharing.statement.keys
        holders = [
            {"index": holder.index, "id": holder.holder, "public_key": b64url(holder.public_key)}
            for holder in expected.holders
        ]
        named = keys.get("holders")
        if (
            (keys.get("generation"), keys.get("threshold")) != (expected.generation, expected.threshold)
            or keys.get("public_key") != b64url(expected.public_key)
            or keys.get("statement_entry") != sharing.entry_index
            or not isinstance(named, Sequence)
            or [_members(holder, ("index", "id", "public_key")) for holder in named] != holders
        ):
            raise HolderMismatch("The entry names other keys than the newest statement of the epoch.", epoch=epoch)


def _check_introduced(statement: KeyStatement, body: Mapping[str, Any]) -> None:
    """Raises HolderMismatch unless the entry names the epoch of the statement that it introduces, as the announced one
    for a rotation."""
    following = body.get("next", {}).get("epoch")
    named = {following} if statement.kind is CeremonyKind.ROTATE else {body.get("epoch"), following}
    if statement.epoch not in named:
        raise HolderMismatch("The entry does not name the epoch of its key statement.", epoch=statement.epoch)


def _number(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int:
        raise InvalidCanonicalForm(f"The entry has no number {name}.")
    return value


def _members(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: value.get(name) for name in names} if isinstance(value, Mapping) else {}
