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
from ledger.protocol.voprf import public_key
from ledger.rules.webhooks import MessageSource, WebhookType
from ledger.server.keys.epochs import EpochRow
from ledger.server.keys.files import load_oprf, oprf_path
from ledger.server.log.logged_keys import logged_keys
from ledger.server.settings import Settings
from ledger.server.webhooks.emit import emit_all
from ledger.tlog.key_rotation import RotationKeys, rotation_factor

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
    """The conversion from one epoch to the next. `factor` is the quotient of their keys, as secret as the keys
    themselves."""

    old: EpochRow
    new: EpochRow
    factor: bytes = field(repr=False)

    @property
    def keys(self) -> RotationKeys:
        """Return the public keys with which an auditor checks the proofs."""
        return RotationKeys(self.old.epoch, self.new.epoch, self.old.public_key, self.new.public_key)


def load_conversion(settings: Settings, old: EpochRow, new: EpochRow) -> Conversion:
    """Return the conversion with both keys read from their files. Raises ConfigurationError if a key is missing or is
    not the key in the log."""
    secrets = []
    for row in (old, new):
        _, holder, secret = load_oprf(settings, row.epoch)
        if (holder, public_key(secret)) != (row.holder, row.public_key):
            raise ConfigurationError(
                f"{oprf_path(settings, row.epoch).name} is not the key that the log names for epoch {row.epoch}. "
                "Rotate on the machine that announced it, or copy its key file here."
            )
        secrets.append(secret)
    return Conversion(old, new, rotation_factor(*secrets))


def in_force(connection: Connection, rows: Sequence[EpochRow], current: EpochRow) -> dict[str, Any]:
    """Return the members that every `key_rotation` body has, as arguments of `key_rotation_body`. Raises
    ConfigurationError if the log names no key."""
    logged = logged_keys(connection)["log"]
    return {
        "epoch": current.epoch,
        "holders": [(current.holder, current.public_key)],
        "log_origin": logged["origin"],
        "log_key": logged["key"],
        "retired_epochs": [row.epoch for row in rows if row.state == "retired"],
    }


def emit_key_rotated(
    settings: Settings, connection: Connection, now: datetime, stage: str, epoch: int, entry_index: int
) -> None:
    """Emit the webhook about `epoch` to the platforms that subscribe to it, in this transaction. `stage` is announced,
    switched or retired."""
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
            raise RotationRefused("Another run of a rotation is at work on this machine.") from error
        yield
    finally:
        os.close(descriptor)
