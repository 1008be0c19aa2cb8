"""Shared parts of the stages of a rotation: the two epochs with their keys, the lock for one run at a time, progress,
and the webhook."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from ledger.errors import ConfigurationError, RotationRefused
from ledger.protocol.threshold import HolderKey, KeySet
from ledger.rules.webhooks import MessageSource, WebhookType
from ledger.server.keys.epochs import EpochRow
from ledger.server.keys.factors import load_factor
from ledger.server.log.logged_keys import logged_keys
from ledger.server.settings import Settings
from ledger.server.webhooks.emit import emit_all
from ledger.tlog.entries import Holders, SharedKey
from ledger.tlog.key_rotation import RotationKeys

LOCK_FILE = "rotation.lock"


class RotationStage(StrEnum):
    """The stages of a rotation, in this order; the last two run after its grace period."""

    ANNOUNCE = "announce"
    FILL = "fill"
    PROVE = "prove"
    SWITCH = "switch"
    RETIRE = "retire"
    DESTROY = "destroy"


Progress = Callable[[RotationStage, int, int], None]
"""Called with a stage, the amount of work done in it and the total amount. An exception that it raises ends the run."""


def silent(_stage: RotationStage, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The conversion from one epoch to the next. `factor` is the quotient of their keys; where one holder has the whole
    key, it is as secret as the key."""

    old: EpochRow
    new: EpochRow
    factor: bytes = field(repr=False)

    @property
    def keys(self) -> RotationKeys:
        """Return the public keys with which an auditor checks the proofs."""
        return RotationKeys(self.old.epoch, self.new.epoch, self.old.public_key, self.new.public_key)


def load_conversion(settings: Settings, old: EpochRow, new: EpochRow) -> Conversion:
    """Return the conversion, from both keys or from the factor that the holders made. Raises ConfigurationError if a
    file is missing or is not of the keys in the log."""
    return Conversion(old, new, load_factor(settings, old, new))


def epoch_key(row: EpochRow) -> Holders | SharedKey:
    """Return the key of an epoch that is not retired, as an entry of the log names it. Raises HolderMismatch for stored
    holders that contradict each other."""
    if row.holder is not None:
        return [(row.holder, row.public_key)]
    assert row.statement_index is not None
    holders = tuple([HolderKey(holder.index, holder.holder, holder.public_key) for holder in row.holders])
    return SharedKey(KeySet(row.generation, row.threshold, row.public_key, holders), row.statement_index)


def in_force(connection: Connection, rows: Sequence[EpochRow], current: EpochRow) -> dict[str, Any]:
    """Return the members that every `key_rotation` body has, as arguments of `key_rotation_body`. Raises
    ConfigurationError if the log names no key."""
    logged = logged_keys(connection)["log"]
    return {
        "epoch": current.epoch,
        "holders": epoch_key(current),
        "log_origin": logged["origin"],
        "log_key": logged["key"],
        "retired_epochs": [row.epoch for row in rows if row.state == "retired"],
    }


def emit_key_rotated(
    settings: Settings, connection: Connection, now: datetime, stage: str, epoch: int, entry_index: int
) -> None:
    """Emit the webhook about `epoch` to the platforms that subscribe to it, in this transaction. `stage` is announced,
    switched, retired, refreshed or reshared."""
    data: dict[str, str | int] = {"epoch": epoch, "state": stage, "entry_index": entry_index}
    source = MessageSource(settings.service, settings.environment)
    emit_all(connection, now, source, WebhookType.KEY_ROTATED, data)


@contextmanager
def exclusive_run(settings: Settings) -> Iterator[None]:
    """Hold the lock for one run at a time on this machine. (Runs on several machines exclude each other by the states
    of the epochs, which every transaction reads under the head.) Raises RotationRefused if another run holds the lock,
    ConfigurationError if the key folder cannot be written."""
    try:
        descriptor = os.open(settings.keys_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError("The key folder cannot be written. Run `refund-ledger keys init` first.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RotationRefused("Another rotation is at work on this machine.") from error
        yield
    finally:
        os.close(descriptor)
