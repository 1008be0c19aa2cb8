"""The shares of a holder's folder: `share-EPOCH-GENERATION.json`, each with the key statement of its sharing."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ledger.errors import ConfigurationError, LedgerError
from ledger.holder.files import destroy, read_secret
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.voprf import public_key
from ledger.tlog.key_statement import Endorsement, KeyStatement, endorsement_json, parse_endorsement, parse_statement

SHARE_FORMAT = 1
OVERLAP = timedelta(hours=24)
"""How long a sharing is still served after the log has the one that follows it."""

_NAME = re.compile(r"share-([1-9][0-9]{0,9})-([1-9][0-9]{0,9})\.json\Z")


@dataclass(frozen=True, slots=True)
class HeldShare:
    """A holder's share k_i (32 bytes, little-endian) of one generation of an epoch's key, with the statement of that
    sharing. `repr` omits the secret."""

    epoch: int
    generation: int
    index: int
    secret: bytes = field(repr=False)
    statement: KeyStatement


@dataclass(frozen=True, slots=True)
class ShareFile:
    """The content of a share file: the share, this holder's endorsement of the statement, and the participant files of
    the sharing's holders as JSON members (later ceremonies need their static keys)."""

    share: HeldShare
    endorsement: Endorsement
    participants: tuple[Mapping[str, Any], ...]


def share_path(folder: Path, epoch: int, generation: int) -> Path:
    """Return the path of a share file."""
    return folder / f"share-{epoch}-{generation}.json"


def active_shares(folder: Path) -> tuple[HeldShare, ...]:
    """Return the shares of a holder's folder, in the order of epochs and generations. Each is checked: k_i G = K_i.

    Raises ConfigurationError for a file that is damaged, readable by others, or of another sharing.
    """
    return tuple([file.share for file in share_files(folder)])


def share_files(folder: Path) -> list[ShareFile]:
    """Return the checked contents of all share files, in the order of epochs and generations. One that another process
    destroys meanwhile is left out. Raises ConfigurationError."""
    contents = []
    for epoch, generation in _listed(folder):
        try:
            contents.append(read_share(folder, epoch, generation))
        except ConfigurationError:
            if share_path(folder, epoch, generation).exists():
                raise
    return contents


def read_share(folder: Path, epoch: int, generation: int) -> ShareFile:
    """Return the checked content of one share file. Raises ConfigurationError."""
    path = share_path(folder, epoch, generation)
    text = read_secret(path)
    try:
        members = json.loads(text)
        statement = parse_statement(members["statement"])
        share = HeldShare(epoch, generation, members["index"], unb64url(members["secret"], 32), statement)
        content = ShareFile(share, parse_endorsement(members["endorsement"]), tuple(members["participants"]))
        key = statement.holder(share.index)
        fits = (
            (statement.epoch, statement.keys.generation) == (epoch, generation)
            and public_key(share.secret) == key.key.public_key
            and content.endorsement.signing_key == key.signing_key
        )
    except (LedgerError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"The share file {path.name} is damaged. Restore it from its backup.") from error
    if not fits:
        raise ConfigurationError(f"The share in {path.name} does not belong to its key statement. Restore its backup.")
    return content


def share_text(content: ShareFile) -> str:
    """Return the text of a share file."""
    members = {
        "format": SHARE_FORMAT,
        "index": content.share.index,
        "secret": b64url(content.share.secret),
        "statement": content.share.statement.json,
        "endorsement": endorsement_json(content.endorsement),
        "participants": list(content.participants),
    }
    return json.dumps(members, ensure_ascii=False, sort_keys=True) + "\n"


def replaced_shares(
    folder: Path, logged: Mapping[tuple[int, int], datetime], evaluated: Collection[int], now: datetime
) -> list[tuple[int, int]]:
    """Return (epoch, generation) of the share files that are no longer needed.

    `logged` has the time at which each (epoch, generation) was seen in the log, `evaluated` the epochs that holders
    still evaluate. A share is no longer needed 24 hours after the log got a later generation of its epoch, and, once
    its epoch is not evaluated, 24 hours after the log got a later epoch.
    """
    settled = [key for key, seen in logged.items() if now - seen >= OVERLAP]
    return [
        (epoch, generation)
        for epoch, generation in _listed(folder)
        if any(later_epoch == epoch and later > generation for later_epoch, later in settled)
        or (epoch not in evaluated and any(later_epoch > epoch for later_epoch, _ in settled))
    ]


def destroy_shares(folder: Path, keys: Collection[tuple[int, int]]) -> list[str]:
    """Overwrite and delete the share files of these (epoch, generation). Return their names. Raises OSError."""
    names = []
    for epoch, generation in keys:
        path = share_path(folder, epoch, generation)
        destroy(path)
        names.append(path.name)
    return names


def _listed(folder: Path) -> list[tuple[int, int]]:
    matches = [_NAME.match(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted([(int(match[1]), int(match[2])) for match in matches if match])
