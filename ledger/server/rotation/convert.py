"""What the stages of a rotation share: the two epochs with their keys, one run at a time, progress."""

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
    """What a rotation does, in this order; the last two come when its grace is over."""

    ANNOUNCE = "announce"
    FILL = "fill"
    PROVE = "prove"
    SWITCH = "switch"
    RETIRE = "retire"
    DESTROY = "destroy"


Progress = Callable[[RotationStage, int, int], None]
"""Called with a stage, how much of it is done and how much there is. What it raises ends the run."""


def silent(_stage: RotationStage, _done: int, _total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class Turn:
    """From one epoch to the next. `factor` is the quotient of their keys, as secret as the keys themselves."""

    old: EpochRow
    new: EpochRow
    factor: bytes = field(repr=False)

    @property
    def keys(self) -> RotationKeys:
        """What an auditor checks proofs against."""
        return RotationKeys(self.old.epoch, self.new.epoch, self.old.public_key, self.new.public_key)


def load_turn(settings: Settings, old: EpochRow, new: EpochRow) -> Turn:
    """Both keys from their files. Raises ConfigurationError when one is missing or not the logged one."""
    found = []
    for row in (old, new):
        _, holder, secret = load_oprf(settings, row.epoch)
        if (holder, public_key(secret)) != (row.holder, row.public_key):
            raise ConfigurationError(
                f"{oprf_path(settings, row.epoch).name} is not the key that the log names for epoch {row.epoch}. "
                "Rotate on the machine that announced it, or copy its key file here."
            )
        found.append(secret)
    return Turn(old, new, rotation_factor(*found))


def in_force(connection: Connection, rows: Sequence[EpochRow], current: EpochRow) -> dict[str, Any]:
    """The members that every `key_rotation` body has, as arguments of `key_rotation_body`."""
    logged = logged_keys(connection)["log"]
    return {
        "epoch": current.epoch,
        "holders": [(current.holder, current.public_key)],
        "log_origin": logged["origin"],
        "log_key": logged["key"],
        "retired_epochs": [row.epoch for row in rows if row.state == "retired"],
    }


def tell(settings: Settings, connection: Connection, now: datetime, stage: str, epoch: int, entry_index: int) -> None:
    """Platforms that subscribe to it hear, with this transaction, what became of `epoch`: announced, switched to or
    retired."""
    data: dict[str, str | int] = {"epoch": epoch, "state": stage, "entry_index": entry_index}
    source = MessageSource(settings.service, settings.environment)
    emit_all(connection, now, source, WebhookType.KEY_ROTATED, data)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """One run at a time on a machine (machines are kept apart by the epochs' states, which every transaction reads
    under the head). Raises RotationRefused, and ConfigurationError without a key folder."""
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
