"""The files for an auditor of a rotation: batch files with one proof each, and a file that names the log entry with
their root.

The batch files contain old and new elements with their salts. They are as confidential as the database: with them one
can link old pseudonyms to new ones and open commitments, but not identify a person without a key. Erasure cannot delete
a copy that the operator gave to an auditor. The folder has mode 0700 and is beside the keys unless the operator chooses
another one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.errors import ConfigurationError
from ledger.protocol.encoding import b64url
from ledger.server.keys.files import fsync_folder
from ledger.server.rotation.queries import PairRow, Place
from ledger.server.settings import Settings
from ledger.tlog.key_rotation import (
    NONCE_BYTES,
    Rotated,
    RotationKeys,
    RotationTree,
    commitments,
    format_batch,
    prove,
)

FACTS_FILE = "rotation.json"
_OURS = re.compile(r"(?:batch-[0-9]{6}\.rot|rotation\.json)(?:\.tmp)?\Z")


def audit_dir(settings: Settings, old: int, new: int) -> Path:
    """Return the audit folder of a rotation: beside the keys, or the folder that the file `rotation-1-2.path` beside
    the keys names. Raises ConfigurationError if that file cannot be read."""
    pointer = _pointer(settings, old, new)
    try:
        return Path(pointer.read_text(encoding="utf-8").rstrip("\n"))
    except FileNotFoundError:
        return settings.keys_dir / f"rotation-{old}-{new}"
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{pointer.name} cannot be read.") from error


def late_dir(settings: Settings, old: int, new: int) -> Path:
    """Return the folder for the reports that were recorded under the old epoch after the switch. Raises
    ConfigurationError as `audit_dir`."""
    folder = audit_dir(settings, old, new)
    return folder.with_name(folder.name + "-late")


def choose_audit_dir(settings: Settings, old: int, new: int, folder: Path | None) -> Path:
    """Store the operator's choice of a folder, if there is one, so that retirement finds the files that it has to
    delete; then return `audit_dir`. Raises ConfigurationError."""
    if folder is not None and folder.absolute() != audit_dir(settings, old, new):
        _write(_pointer(settings, old, new), f"{folder.absolute()}\n".encode())
    return audit_dir(settings, old, new)


def forget_audit_dir(settings: Settings, old: int, new: int) -> None:
    """Delete the file that names an audit folder which does not exist any longer."""
    _pointer(settings, old, new).unlink(missing_ok=True)


def _pointer(settings: Settings, old: int, new: int) -> Path:
    return settings.keys_dir / f"rotation-{old}-{new}.path"


class AuditFolder:
    """A folder of batch files. Each file is written under a temporary name, synced to disk, and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self) -> None:
        """Create the folder, or delete the files of an earlier run from it. Raises ConfigurationError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._empty()
        except OSError as error:
            raise ConfigurationError(f"The audit folder {self.path.name} cannot be written.") from error

    def write_batch(self, number: int, data: bytes) -> None:
        """Write batch `number`; it is synced to disk when this returns. Raises ConfigurationError."""
        _write(self.path / f"batch-{number:06d}.rot", data)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write the file that names the log entries of the rotation. It is only a hint, because the auditor's tool
        verifies the entries. Raises ConfigurationError."""
        _write(self.path / FACTS_FILE, (json.dumps(facts, indent=1) + "\n").encode())

    def destroy(self) -> bool:
        """Delete the files of this module, and the folder if it is empty then; return True if the folder existed.

        Deleting does not overwrite the data on a disk that remaps its blocks. Only an encrypted disk protects there.
        """
        if not self.path.is_dir():
            return False
        self._empty()
        if not any(self.path.iterdir()):
            self.path.rmdir()
            fsync_folder(self.path.parent)
        return True

    def _empty(self) -> None:
        for path in sorted(self.path.iterdir()):
            if _OURS.match(path.name):
                path.unlink()
        fsync_folder(self.path)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be written.") from error


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch whose proof is being computed."""

    items: list[Rotated]
    number: int
    proof: Future[bytes]


class Prover:
    """Proves pairs of elements batch by batch, in order, and keeps the root over all of them.

    Do not use a prover any longer after an error, because its files and its root may differ. A new run starts from the
    data.
    """

    def __init__(
        self, folder: AuditFolder, keys: RotationKeys, factor: bytes, after: Place, executor: Executor, workers: int
    ) -> None:
        self.last = after
        self._folder = folder
        self._keys = keys
        self._factor = factor
        self._executor = executor
        self._workers = workers
        self._tree = RotationTree()
        self._batches = 0

    @property
    def elements(self) -> int:
        """Number of elements proved so far."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """Return the Merkle root over the elements proved so far, 32 bytes."""
        return self._tree.root()

    def write_facts(self, *, switch_entry: int, root_entry: int) -> None:
        """Write the file that names the log entries with the keys and the root. Call it before these entries are
        committed, so that no crash leaves batches without the file. After an error, the next run starts with an empty
        folder. Raises ConfigurationError."""
        self._folder.write_facts(
            {
                "from": self._keys.old_epoch,
                "to": self._keys.new_epoch,
                "switch_entry": switch_entry,
                "root_entry": root_entry,
                "elements": self.elements,
                "root": b64url(self.root),
            }
        )

    def begin(self, rows: Sequence[PairRow]) -> Begun:
        """Start the proof of `rows` (at least one), which follow all earlier rows in order. Raises ConfigurationError
        if the folder cannot be written."""
        if not self._batches:
            self._folder.start()
        items = [Rotated(*row) for row in rows]
        old, new = [item.old_element for item in items], [item.new_element for item in items]
        nonce = secrets.token_bytes(NONCE_BYTES)
        proof = self._executor.submit(prove, self._factor, self._keys, old, new, nonce, workers=self._workers)
        for item in items:
            self._tree.add(*item.place, *commitments(item, self._keys))
        self._batches += 1
        self.last = items[-1].place
        return Begun(items, self._batches - 1, proof)

    def finish(self, begun: Begun) -> None:
        """Wait for the proof and write the batch file. Raises ConfigurationError if it cannot be written."""
        data = format_batch(begun.items, begun.proof.result(), self._keys, begun.number)
        self._folder.write_batch(begun.number, data)
