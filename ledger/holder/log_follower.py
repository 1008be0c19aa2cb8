"""Follows the ledger's public log: every new head is shown to continue the last one, and what the log takes away is
recorded.

The holder verifies the log's own signature and recomputes the tree over all entries, of which it keeps the right edge.
A log that does not continue the last head is never followed: the state stays, the log event `log_inconsistent` is
written, and readiness and `holder status` say so. Witnesses are not checked yet.

The log never admits. A `platform_status` entry suspends a platform (or ends that suspension) and revokes keys for
good. A `key_rotation` entry names the epochs that are evaluated, and carries the statement of a new sharing, which is
accepted only as the successor of the newest accepted one (`check_succession`). An entry that is refused changes
nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.client.verify.log import Fetch, fetch_checkpoint
from ledger.errors import (
    HolderMismatch,
    Inconsistent,
    InvalidCanonicalForm,
    InvalidCheckpoint,
    InvalidEncoding,
    InvalidLeaf,
    InvalidTile,
    LedgerError,
    NotFound,
    Unavailable,
)
from ledger.holder import queries as store
from ledger.holder.queries import AcceptedStatementRow, HeadRow, RevocationRow
from ledger.holder.state import stored_statement
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.encoding import unb64url
from ledger.server.db.engine import reading, writing
from ledger.server.process.supervision import Worker
from ledger.tlog.ceremony_files import verify_multiple
from ledger.tlog.checkpoint import Checkpoint, open_checkpoint, parse_verifier_key
from ledger.tlog.entries import GovernanceType, Leaf, PlatformState, parse_leaf
from ledger.tlog.key_statement import (
    KeyStatement,
    check_endorsed,
    check_succession,
    parse_endorsement,
    parse_statement,
)
from ledger.tlog.ledger_card import LedgerCard
from ledger.tlog.merkle import TILE_WIDTH, CompactTree, decode_bundle, tile_path

MAX_ENDORSEMENTS = 200

ROLLED_BACK = "rolled_back"
"""The log's newest checkpoint is smaller than one it signed before."""
FORKED = "forked"
"""The log signed two checkpoints of one size with different roots."""
NOT_CONTINUED = "not_continued"
"""The served entries do not lead from the last head to the signed root."""
MALFORMED = "malformed"
"""The checkpoint is not signed by the log's key, or an entry is not one of this ledger."""

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class _Faulty(Exception):
    """The log cannot be followed to its newest checkpoint; `reason` is one of the words above."""

    def __init__(self, reason: str, fork_note: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.fork_note = reason, fork_note


@dataclass(slots=True)
class _Changes:
    """What the new entries change: known statements by (epoch, generation), and what is to be written."""

    statements: dict[tuple[int, int], KeyStatement]
    current_epoch: int | None
    next_epoch: int | None
    new: list[tuple[KeyStatement, int]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    suspended: dict[str, bool] = field(default_factory=dict)
    revoked: set[RevocationRow] = field(default_factory=set)


class LogFollower:
    """Reads the log of the ledger that `card` names with `fetch`, and keeps its state in the database."""

    def __init__(
        self,
        engine: Engine,
        card: LedgerCard,
        fetch: Fetch,
        now: Callable[[], datetime],
        *,
        seconds: float = 10.0,
    ) -> None:
        self._engine, self._card, self._fetch, self._now = engine, card, fetch, now
        self._origin, self._public_key = parse_verifier_key(card.log_key)
        self.on_change: Callable[[], object] = lambda: None
        """Called after the state of the log was written."""
        self._unreachable = False
        self.worker = Worker("log", self._turn, seconds=seconds, delay_seconds=seconds, patience_seconds=60 + seconds)

    @property
    def unreachable(self) -> bool:
        """True if the last attempt to read the log got no answer."""
        return self._unreachable

    def _turn(self) -> None:
        try:
            self.follow()
        except Unavailable:
            return  # logged; the age of the head shows it

    def follow(self) -> None:
        """Read the log up to its newest checkpoint, once. A log that does not continue changes nothing but the recorded
        fault.

        Raises Unavailable when the log cannot be read, Inconsistent for a faulty log of which there is no state yet,
        DatabaseUnavailable.
        """
        with reading(self._engine) as connection:
            head = store.read_head(connection)
            known = store.read_statements(connection)
        try:
            note, checkpoint, tree, changes = self._read(head, known)
        except _Faulty as fault:
            self._unreachable = False
            self._record_fault(head, fault)
            return
        except (Unavailable, NotFound) as error:
            if not self._unreachable:
                log.warning("log_unreachable", extra={"code": error.code})
            self._unreachable = True
            raise Unavailable(
                "The ledger's log cannot be read. Is the ledger running, and is its address right "
                "(REFUND_LEDGER_HOLDER_LEDGER_URL, else the one in ledger.json)?",
                retry_after_seconds=5,
            ) from error
        if self._unreachable:
            log.info("log_reachable")
        self._unreachable = False
        self._save(head, note, checkpoint, tree, changes)
        self.on_change()

    # --- reading --------------------------------------------------------------------------------------------------

    def _read(
        self, head: HeadRow | None, known: Sequence[AcceptedStatementRow]
    ) -> tuple[str, Checkpoint, CompactTree, _Changes]:
        """Return the newest checkpoint with its note, the tree at its size, and what the new entries change. Raises
        _Faulty, Unavailable, NotFound."""
        tree = CompactTree() if head is None else CompactTree(head.size, bytes(head.edge))
        changes = _Changes(
            {(row.epoch, row.generation): stored_statement(bytes(row.statement)) for row in known},
            None if head is None else head.current_epoch,
            None if head is None else head.next_epoch,
        )
        try:
            note = fetch_checkpoint(self._fetch)
            checkpoint = open_checkpoint(note, self._origin, self._public_key)
        except (InvalidCheckpoint, InvalidEncoding) as error:
            raise _Faulty(MALFORMED) from error
        if checkpoint.size < tree.size:
            raise _Faulty(ROLLED_BACK)
        if checkpoint.size == tree.size and checkpoint.root != tree.root():
            raise _Faulty(FORKED, note)
        try:
            while tree.size < checkpoint.size:
                self._read_bundle(tree, checkpoint.size, changes)
        except (InvalidTile, InvalidLeaf, InvalidCanonicalForm) as error:
            raise _Faulty(MALFORMED) from error
        if tree.root() != checkpoint.root:
            raise _Faulty(NOT_CONTINUED)
        return note, checkpoint, tree, changes

    def _read_bundle(self, tree: CompactTree, size: int, changes: _Changes) -> None:
        """Append the further entries of the bundle at the tree's right edge. Raises InvalidTile, InvalidLeaf,
        InvalidCanonicalForm, Unavailable, NotFound."""
        bundle, place = divmod(tree.size, TILE_WIDTH)
        width = min(TILE_WIDTH, size - bundle * TILE_WIDTH)
        try:
            data = self._fetch(tile_path("entries", bundle, width))
        except NotFound:  # a log that has grown since may have dropped the partial bundle
            if width == TILE_WIDTH:
                raise
            data = self._fetch(tile_path("entries", bundle))
        entries = decode_bundle(data)
        if len(entries) < width:
            raise InvalidTile("A served entry bundle has too few entries.", level="entries", index=bundle)
        for entry in entries[place:width]:
            leaf = parse_leaf(entry)
            if leaf.index != tree.size:
                raise InvalidLeaf("The log holds a leaf at another place than it says.", index=tree.size)
            tree.append(entry)
            self._consider(leaf, changes)

    def _consider(self, leaf: Leaf, changes: _Changes) -> None:
        if leaf.body is None:
            return
        if leaf.type == GovernanceType.PLATFORM_STATUS:
            _take_away(leaf.body, changes)
        elif leaf.type == GovernanceType.KEY_ROTATION:
            try:
                if leaf.body.get("statement") is not None:
                    self._accept(leaf.index, leaf.body, changes)
                _set_epochs(leaf.body, changes)
            except LedgerError as error:
                changes.refused.append((leaf.index, error.code))

    def _accept(self, index: int, body: Mapping[str, Any], changes: _Changes) -> None:
        """Accept the statement of a `key_rotation` entry. Raises HolderMismatch, InvalidSignature, InvalidProof,
        InvalidCanonicalForm, NewerFormat for one that is not the successor of a known one."""
        statement = parse_statement(body["statement"])
        signatures = body.get("endorsements")
        if not isinstance(signatures, list) or len(signatures) > MAX_ENDORSEMENTS:
            raise InvalidCanonicalForm("The endorsements of a key statement are a list.")
        endorsements = [parse_endorsement(value) for value in signatures]
        place = statement.epoch, statement.keys.generation
        named = (statement.service, statement.environment, statement.log_key)
        if named != (self._card.service, self._card.environment, self._card.log_key):
            raise HolderMismatch("The key statement is about another service or log.")
        known = changes.statements.get(place)
        if known is not None:
            if known.canonical != statement.canonical:
                raise HolderMismatch("The log has another key statement of this epoch and generation already.")
            return
        if not changes.statements:
            if statement.kind is not CeremonyKind.GENERATE or statement.previous is not None:
                raise HolderMismatch("The first key statement of a log is that of a new key.")
            check_endorsed(statement, endorsements)
        else:
            # Holders of an earlier sharing, who may have left since, decide nothing any longer.
            check_succession(changes.statements[max(changes.statements)], statement, endorsements, verify_multiple)
        changes.statements[place] = statement
        changes.new.append((statement, index))

    # --- writing --------------------------------------------------------------------------------------------------

    def _save(
        self, head: HeadRow | None, note: str, checkpoint: Checkpoint, tree: CompactTree, changes: _Changes
    ) -> None:
        """Write the new head and its changes, unless another process has written one in the meantime."""
        now = self._now()
        row = HeadRow(
            size=tree.size,
            root=checkpoint.root,
            edge=tree.edge,
            note=note,
            seen_at=now,
            current_epoch=changes.current_epoch,
            next_epoch=changes.next_epoch,
            fault=None,
            fault_at=None if head is None else head.fault_at,
            fork_note=None if head is None else head.fork_note,
        )
        try:
            with writing(self._engine) as connection:
                stored = store.lock_head(connection)
                if (None if stored is None else stored.size) != (None if head is None else head.size):
                    return
                if stored is None:
                    store.insert_head(connection, row)
                else:
                    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
                    store.change_head(connection, **{**values, "fork_note": stored.fork_note})
                _write_changes(connection, changes, now)
        except IntegrityError:
            return  # another process has written the first head
        if head is not None and head.fault is not None:
            log.warning("log_consistent", extra={"size": tree.size})
        for statement, index in changes.new:
            keys = statement.keys
            extra = {"epoch": statement.epoch, "generation": keys.generation, "entry": index}
            log.info("key_statement_accepted", extra=extra)
        for index, reason in changes.refused:
            log.error("key_statement_refused", extra={"entry": index, "reason": reason})

    def _record_fault(self, head: HeadRow | None, fault: _Faulty) -> None:
        """Record what is wrong with the log. Raises Inconsistent when there is no state yet to record it in."""
        if head is None or head.fault != fault.reason:
            log.error("log_inconsistent", extra={"reason": fault.reason})
        if head is None:
            raise Inconsistent(f"The ledger's log cannot be followed: {fault.reason}.", reason=fault.reason)
        with writing(self._engine) as connection:
            stored = store.lock_head(connection)
            if stored is not None and stored.size == head.size:
                store.change_head(
                    connection,
                    fault=fault.reason,
                    fault_at=self._now(),
                    fork_note=stored.fork_note or fault.fork_note,
                )
        self.on_change()


def _write_changes(connection: Connection, changes: _Changes, now: datetime) -> None:
    rows = [
        AcceptedStatementRow(statement.epoch, statement.keys.generation, index, statement.canonical, now)
        for statement, index in changes.new
    ]
    store.insert_statements(connection, rows)
    store.insert_refused_statements(connection, changes.refused)
    for platform, suspended in changes.suspended.items():
        store.set_log_suspension(connection, platform, suspended)
    for revocation in changes.revoked:
        store.insert_log_revocation(connection, revocation)


def _take_away(body: Mapping[str, Any], changes: _Changes) -> None:
    """Record a platform's status. Members of another form are ignored: they are of a later version."""
    platform, keys = body.get("platform"), body.get("keys")
    if not isinstance(platform, str) or not _NAME.match(platform):
        return
    changes.suspended[platform] = body.get("status") != PlatformState.ACTIVE
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, dict) or key.get("status") == "active":
            continue
        kid, public_key = key.get("kid"), key.get("public_key")
        try:
            if isinstance(kid, str) and _KID.match(kid) and isinstance(public_key, str):
                changes.revoked.add(RevocationRow(platform, kid, unb64url(public_key, 32)))
        except InvalidEncoding:
            continue


def _set_epochs(body: Mapping[str, Any], changes: _Changes) -> None:
    """Set the epochs that are evaluated. The current epoch never falls, so that the log cannot bring back the key of an
    epoch that is over. Raises HolderMismatch, and changes nothing, for an epoch that no accepted statement has
    introduced: it could never be evaluated, and the present one would be over."""
    current, following = body.get("epoch"), body.get("next")
    number = following.get("epoch") if isinstance(following, dict) else None
    introduced = {epoch for epoch, _ in changes.statements}
    if any(type(epoch) is int and epoch not in introduced for epoch in (current, number)):
        raise HolderMismatch("The log names a key epoch that no key statement has introduced.")
    if type(current) is int and (changes.current_epoch or 0) <= current:
        changes.current_epoch = current
    announced = type(number) is int and (changes.current_epoch or 0) < number
    changes.next_epoch = number if announced else None
