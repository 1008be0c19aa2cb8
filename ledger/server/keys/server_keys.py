"""The keys of an API process: of all epochs that answer, re-read when an epoch or its sharing changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import ConfigurationError, EvaluatedByHolders, StaleEpoch, Unavailable
from ledger.protocol import sodium
from ledger.protocol.voprf import public_key
from ledger.server.keys.epochs import EpochRow, current_of
from ledger.server.keys.factors import factor_pairs, load_factor
from ledger.server.keys.files import EVALUATE_STATES, LOOKUP_STATES, USED_STATES, load_oprf
from ledger.server.settings import Settings
from ledger.tlog.key_rotation import rotation_factor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EpochKey:
    """A key epoch as this process sees it. `secret` is None where the key file is not on this machine, and where
    several holders have shares of the key; `repr` omits it. `row.state` is next, current, previous or retired."""

    row: EpochRow
    secret: bytes | None

    def __repr__(self) -> str:
        return f"EpochKey(epoch={self.row.epoch}, state={self.row.state!r})"

    def need_secret(self) -> bytes:
        """Return the secret scalar. Raises Unavailable where this machine does not hold it."""
        if self.secret is None:
            raise Unavailable("This server does not hold the key of this epoch. Try again.", retry_after_seconds=5)
        return self.secret


class ServerKeys:
    """The keys of an API process: those of all epochs that answer, re-read when an epoch changes its state.

    Reading takes no lock: `update` replaces one reference.
    """

    def __init__(self, settings: Settings, rows: Sequence[EpochRow], session: bytes, log_verifier_key: str) -> None:
        self.idempotency_key = hmac.digest(session, b"refund-ledger idempotency v1", hashlib.sha256)
        self.sealing_key = hmac.digest(session, b"refund-ledger sealing v1", hashlib.sha256)
        self.log_verifier_key = log_verifier_key
        self._settings = settings
        self._rows: tuple[EpochRow, ...] = ()
        self._epochs: dict[int, EpochKey] = {}
        self._factors: dict[tuple[int, int], bytes] = {}
        self.update(rows)

    def update(self, rows: Sequence[EpochRow]) -> bool:
        """Use the epochs that the database holds. True if anything changed.

        A key file that does not belong to its epoch's public key is not used. Raises ConfigurationError when no epoch
        is current.
        """
        rows = tuple(rows)
        if rows == self._rows and self._complete():
            return False
        epochs = {row.epoch: EpochKey(row, self._secret(row)) for row in rows}
        factors = {(old.epoch, new.epoch): self._factor(old, new) for old, new in factor_pairs(rows)}
        self._current = epochs[current_of(rows).epoch]
        changed = rows != self._rows
        self._rows, self._epochs = rows, epochs
        self._factors = {pair: factor for pair, factor in factors.items() if factor is not None}
        return changed

    def _complete(self) -> bool:
        """True if every secret and factor is here that the epochs need."""
        used = [key for key in self._epochs.values() if key.row.state in USED_STATES]
        pairs = factor_pairs(self._rows)
        return all(key.secret for key in used if not key.row.is_shared) and len(self._factors) == len(pairs)

    @property
    def rows(self) -> tuple[EpochRow, ...]:
        """Return all epochs, oldest first, as last read."""
        return self._rows

    @property
    def epoch(self) -> int:
        """Return the number of the current epoch."""
        return self._current.row.epoch

    @property
    def holder(self) -> str:
        """Return the id of the one holder of the current key (1 of 1), empty where several holders have shares."""
        return self._current.row.holder or ""

    @property
    def current(self) -> EpochRow:
        """Return the current epoch."""
        return self._current.row

    def in_state(self, *states: str) -> list[EpochKey]:
        """Return the epochs in one of `states`, oldest first."""
        return [key for key in self._epochs.values() if key.row.state in states]

    def looks_up(self, epoch: int) -> bool:
        """True if lookups (and, until grace ends, reports) under `epoch` are answered."""
        key = self._epochs.get(epoch)
        return key is not None and key.row.state in LOOKUP_STATES

    def evaluating(self, epoch: int) -> EpochKey:
        """Return the key with which this server evaluates under `epoch`. Raises StaleEpoch, EvaluatedByHolders."""
        key = self._epochs.get(epoch)
        if key is None or key.row.state not in EVALUATE_STATES:
            raise StaleEpoch("This key epoch is not evaluated any more, or not yet.", epoch=self.epoch)
        if key.row.is_shared:
            raise EvaluatedByHolders(
                "This ledger has no share of the key. Send blinded elements to the key holders.",
                epoch=epoch,
                generation=key.row.generation,
                threshold=key.row.threshold,
                holders=[{"id": holder.holder, "index": holder.index, "url": holder.url} for holder in key.row.holders],
            )
        return key

    def factor(self, source: EpochRow, target: EpochRow) -> bytes:
        """Return the factor that turns elements under `source` into those under `target`, 32 bytes. The rows are as the
        caller's transaction reads them, which may be newer than those of the last `update`.

        Raises Unavailable where a key file is not on this machine.
        """
        if not target.is_shared:
            secrets = [EpochKey(row, self._secret(row)).need_secret() for row in (source, target)]
            return rotation_factor(*secrets)
        old, new = (source, target) if source.epoch < target.epoch else (target, source)
        factor = self._factor(old, new)
        if factor is None:
            raise Unavailable(
                "This server does not hold the factor of this rotation. Try again.", retry_after_seconds=5
            )
        return factor if old is source else sodium.scalar_invert(factor)

    def _factor(self, old: EpochRow, new: EpochRow) -> bytes | None:
        known = self._factors.get((old.epoch, new.epoch))
        if known is not None:
            return known
        try:
            return load_factor(self._settings, old, new)
        except ConfigurationError as error:
            log.warning("factor_missing", extra={"epoch": new.epoch, "reason": str(error)})
            return None

    def _secret(self, row: EpochRow) -> bytes | None:
        if row.state not in USED_STATES or row.is_shared:
            return None
        known = self._epochs.get(row.epoch)
        if known is not None and known.secret is not None and known.row.public_key == row.public_key:
            return known.secret
        try:
            _, _, secret = load_oprf(self._settings, row.epoch)
        except ConfigurationError:
            log.warning("oprf_key_missing", extra={"epoch": row.epoch})
            return None
        if public_key(secret) != row.public_key:
            log.error("oprf_key_does_not_match", extra={"epoch": row.epoch})
            return None
        return secret
