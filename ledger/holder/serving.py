"""Which of a holder's shares it evaluates with: those of epochs and generations that the log has."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ledger.errors import ConfigurationError, StaleEpoch, StaleGeneration
from ledger.holder.ceremony import STATE_NAME, destroy_old
from ledger.holder.shares import OVERLAP, HeldShare, active_shares, replaced_shares
from ledger.holder.state import HolderSnapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShareState:
    """A held share and its state: `served`, `waiting` (the log does not have its sharing yet), `replaced`, `misfit`
    (the log has another sharing under its number)."""

    share: HeldShare
    state: str


def evaluated_epochs(snapshot: HolderSnapshot) -> frozenset[int]:
    """Return the epochs that are evaluated: the current one, and the next one while it is announced."""
    head = snapshot.head
    return frozenset() if head is None else frozenset({head.current_epoch, head.next_epoch} - {None})  # type: ignore[arg-type]


def served_generations(snapshot: HolderSnapshot, epoch: int, now: datetime) -> list[int]:
    """Return the generations of an epoch that are evaluated at `now`, oldest first. A generation is evaluated from the
    time when the log has it until 24 hours after the holder saw the next one there."""
    seen = snapshot.of_epoch(epoch)
    following: Sequence[datetime | None] = [*[statement.seen_at for statement in seen[1:]], None]
    return [
        statement.generation
        for statement, replaced_at in zip(seen, following, strict=True)
        if replaced_at is None or now < replaced_at + OVERLAP
    ]


def share_states(snapshot: HolderSnapshot, shares: Sequence[HeldShare], now: datetime) -> list[ShareState]:
    """Return the state of each share, in order."""
    return [ShareState(share, _state(snapshot, share, now)) for share in shares]


def _state(snapshot: HolderSnapshot, share: HeldShare, now: datetime) -> str:
    of_epoch = {seen.generation: seen.statement for seen in snapshot.of_epoch(share.epoch)}
    logged = of_epoch.get(share.generation)
    if logged is None:
        fits = all(other.keys.public_key == share.statement.keys.public_key for other in of_epoch.values())
        return "waiting" if fits else "misfit"
    if logged.canonical != share.statement.canonical:
        return "misfit"
    served = share.epoch in evaluated_epochs(snapshot) and share.generation in served_generations(
        snapshot, share.epoch, now
    )
    return "served" if served else "replaced"


def destroy_replaced(folder: Path, snapshot: HolderSnapshot, now: datetime) -> list[str]:
    """Destroy the shares, and the state of their ceremony, that are no longer needed, and return the names of their
    files (`ceremony.destroy_old`). Raises ConfigurationError while a command changes the folder, OSError."""
    logged = {(seen.statement.epoch, seen.generation): seen.seen_at for seen in snapshot.statements}
    evaluated = evaluated_epochs(snapshot)
    settled = [seen for seen in logged.values() if now - seen >= OVERLAP]
    # The folder is locked only when there may be something to destroy: commands refuse to work meanwhile.
    if not replaced_shares(folder, logged, evaluated, now) and not (settled and (folder / STATE_NAME).exists()):
        return []
    names = destroy_old(folder, logged, evaluated, now)
    for name in names:
        log.warning("share_destroyed", extra={"file": name})
    return names


class HeldShares:
    """The shares in a holder's folder, read at the start and again in the background."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shares = active_shares(folder)
        self._reported: frozenset[tuple[int, int]] = frozenset()

    @property
    def shares(self) -> tuple[HeldShare, ...]:
        """The shares as last read."""
        return self._shares

    def check(self, snapshot: HolderSnapshot, now: datetime) -> None:
        """Check that no share contradicts the log. Raises ConfigurationError."""
        for each in share_states(snapshot, self._shares, now):
            if each.state == "misfit":
                raise ConfigurationError(
                    f"The share of epoch {each.share.epoch}, generation {each.share.generation} does not fit the key "
                    "in the log. Elements evaluated with it would match no listed person."
                )

    def refresh(self, snapshot: HolderSnapshot, now: datetime) -> None:
        """Read the folder again, and destroy what is no longer needed there. Raises ConfigurationError (also while a
        command changes the folder), and OSError for a file that cannot be destroyed; the shares as last read stay in
        use."""
        destroy_replaced(self._folder, snapshot, now)
        self._shares = active_shares(self._folder)
        states = share_states(snapshot, self._shares, now)
        misfits = frozenset([(each.share.epoch, each.share.generation) for each in states if each.state == "misfit"])
        for epoch, generation in sorted(misfits - self._reported):
            log.error("share_does_not_fit", extra={"epoch": epoch, "generation": generation})
        self._reported = misfits

    def serving(self, snapshot: HolderSnapshot, epoch: int, generation: int | None, now: datetime) -> HeldShare:
        """Return the share that evaluates under an epoch and generation; None: the newest generation.

        Raises StaleEpoch, StaleGeneration.
        """
        epochs = evaluated_epochs(snapshot)
        if epoch not in epochs:
            current = None if snapshot.head is None else snapshot.head.current_epoch
            raise StaleEpoch("This key epoch is not evaluated any longer, or not yet.", epoch=current)
        usable = self._usable(snapshot, epoch, now)
        chosen = usable.get(max(usable, default=0) if generation is None else generation)
        if chosen is None:
            raise StaleGeneration(
                "This generation of the key is not evaluated any longer, or not yet.",
                epoch=epoch,
                generation=max(usable, default=None),
            )
        return chosen

    def _usable(self, snapshot: HolderSnapshot, epoch: int, now: datetime) -> Mapping[int, HeldShare]:
        return {
            each.share.generation: each.share
            for each in share_states(snapshot, [share for share in self._shares if share.epoch == epoch], now)
            if each.state == "served"
        }
