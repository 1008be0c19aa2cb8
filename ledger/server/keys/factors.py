"""The factor between the keys of two epochs: with T an element of the old epoch, factor x T is the element of the new
one.

1 of 1: the quotient of both epochs' secrets, read from their key files. Where several holders have shares, the ledger
has no secret: the holders of a rotation encrypt the factor to the ledger's receiving key, and `factor-<new epoch>.json`
in the key folder stores it (mode 0600, never overwritten) until the old epoch is destroyed. A factor links old
pseudonyms to new ones; it evaluates nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ledger.errors import ConfigurationError, LedgerError
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.voprf import public_key
from ledger.server.keys.epochs import EpochRow
from ledger.server.keys.files import (
    NOT_THE_LOGGED_KEY,
    USED_STATES,
    load_oprf,
    oprf_path,
    read_secret_text,
    write_secret,
)
from ledger.server.settings import Settings
from ledger.tlog.key_rotation import rotation_factor


def factor_path(settings: Settings, epoch: int) -> Path:
    """Return the path of the file with the factor that leads to `epoch`."""
    return settings.keys_dir / f"factor-{epoch}.json"


def store_factor(settings: Settings, old: EpochRow, epoch: int, new_public: bytes, factor: bytes) -> None:
    """Store the factor from `old` to `epoch`, whose K is `new_public`. Does nothing if the file holds this factor.

    Raises ConfigurationError if it holds another one, or if the factor does not lead from one key to the other.
    """
    if sodium.scalarmult(factor, old.public_key) != new_public:
        raise ConfigurationError("The factor does not lead from the current key to the new one.")
    path = factor_path(settings, epoch)
    if path.exists():
        if _read_factor(path, old.epoch, epoch) != factor:
            raise ConfigurationError(
                f"{path.name} is of another rotation, which was never announced. Move it away, and repeat the command."
            )
        return
    members = {"from": old.epoch, "to": epoch, "factor": b64url(factor)}
    write_secret(path, json.dumps(members) + "\n")


def load_factor(settings: Settings, old: EpochRow, new: EpochRow) -> bytes:
    """Return the factor from `old` to `new`, 32 bytes, which leads from the one K to the other.

    Raises ConfigurationError if a file is missing, damaged, readable by others, or of another key than the logged one.
    """
    if new.is_shared:
        path = factor_path(settings, new.epoch)
        factor = _read_factor(path, old.epoch, new.epoch)
        if sodium.scalarmult(factor, old.public_key) != new.public_key:
            raise ConfigurationError(
                f"{path.name} does not lead from the key that the log names for epoch {old.epoch} to that for epoch "
                f"{new.epoch}. {NOT_THE_LOGGED_KEY}"
            )
        return factor
    secrets = []
    for row in (old, new):
        _, holder, secret = load_oprf(settings, row.epoch)
        if (holder, public_key(secret)) != (row.holder, row.public_key):
            raise ConfigurationError(
                f"{oprf_path(settings, row.epoch).name} is not the key that the log names for epoch {row.epoch}. "
                "Rotate on the machine that announced it, or copy its key file here."
            )
        secrets.append(secret)
    return rotation_factor(*secrets)


def factor_pairs(rows: Sequence[EpochRow]) -> list[tuple[EpochRow, EpochRow]]:
    """Return the pairs (old, new) of epochs held by several holders between which elements are converted now."""
    return [(old, new) for old, new in pairwise([row for row in rows if row.state in USED_STATES]) if new.is_shared]


def converting_path(settings: Settings, old: EpochRow, new: EpochRow) -> Path:
    """Return the file that is destroyed last when `old` has been retired in favour of `new`: the old key, or the
    factor. It shows that work may be left to do on this machine."""
    return factor_path(settings, new.epoch) if new.is_shared else oprf_path(settings, old.epoch)


def _read_factor(path: Path, old: int, new: int) -> bytes:
    text = read_secret_text(path, "Copy it here from the machine that announced the epoch.")
    try:
        data = json.loads(text)
        named, factor = (data["from"], data["to"]), unb64url(data["factor"], sodium.SCALAR_BYTES)
        sodium.check_scalar(factor)
    except (LedgerError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"The key file {path.name} is damaged.") from error
    if named != (old, new):
        raise ConfigurationError(f"The key file {path.name} is of other epochs. {NOT_THE_LOGGED_KEY}")
    return factor
