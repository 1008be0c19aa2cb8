"""Key files, and the checks before a server may use them.

`keys_dir` holds these files, each of mode 0600 and never overwritten:

- `oprf.json`: this holder's OPRF key share of the first epoch; `oprf-2.json` and so on hold those of later ones (the
  API loads them, the publisher does not),
- `session.key`: 32 random bytes from which server-side MACs are derived (API),
- `log.key`: the Ed25519 seed that signs checkpoints (publisher and `keys init` only).

The public keys are in the log (`key_rotation`). A server whose OPRF key differs from the logged one would match no
listed person and answer "clear" for every person, so it refuses to start.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.errors import ConfigurationError, InvalidEncoding, LedgerError, StaleEpoch, Unavailable
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.voprf import derive_secret, public_key
from ledger.server.keys.epochs import EpochRow, current_of
from ledger.server.settings import Settings

OPRF_FILE, SESSION_FILE, LOG_FILE = "oprf.json", "session.key", "log.key"

LOOKUP_STATES = frozenset({"current", "previous"})
EVALUATE_STATES = frozenset({"next", "current"})
USED_STATES = frozenset({"next", "current", "previous"})
"""States of an epoch in which its secret is needed: `previous` too, to list new reports under the old tags."""

NOT_THE_LOGGED_KEY = "Serving with it would call everyone clear."
"""Why a server refuses to start with another OPRF key than the logged one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EpochKey:
    """A key epoch as this process sees it. `secret` is None where the key file is not on this machine; `repr` omits it.
    `row.state` is next, current, previous or retired."""

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
        self.update(rows)

    def update(self, rows: Sequence[EpochRow]) -> bool:
        """Use the epochs that the database holds. True if anything changed.

        A key file that does not belong to its epoch's public key is not used. Raises ConfigurationError when no epoch
        is current.
        """
        rows = tuple(rows)
        if rows == self._rows and all(key.secret for key in self._epochs.values() if key.row.state in USED_STATES):
            return False
        epochs = {row.epoch: EpochKey(row, self._secret(row)) for row in rows}
        self._current = epochs[current_of(rows).epoch]
        changed = rows != self._rows
        self._rows, self._epochs = rows, epochs
        return changed

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
        """Return the id of this deployment's key holder."""
        return self._current.row.holder

    def in_state(self, *states: str) -> list[EpochKey]:
        """Return the epochs in one of `states`, oldest first."""
        return [key for key in self._epochs.values() if key.row.state in states]

    def looks_up(self, epoch: int) -> bool:
        """True if lookups (and, until grace ends, reports) under `epoch` are answered."""
        key = self._epochs.get(epoch)
        return key is not None and key.row.state in LOOKUP_STATES

    def evaluating(self, epoch: int) -> EpochKey:
        """Return the key that evaluates under `epoch`. Raises StaleEpoch."""
        key = self._epochs.get(epoch)
        if key is None or key.row.state not in EVALUATE_STATES:
            raise StaleEpoch("This key epoch is not evaluated any more, or not yet.", epoch=self.epoch)
        return key

    def key_of(self, row: EpochRow) -> EpochKey:
        """Return the key of an epoch as the caller's transaction reads it, which may be newer than the rows of the last
        `update`."""
        return EpochKey(row, self._secret(row))

    def _secret(self, row: EpochRow) -> bytes | None:
        if row.state not in USED_STATES:
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


def oprf_path(settings: Settings, epoch: int) -> Path:
    """Return the path of an epoch's key file: `oprf.json` for the first, `oprf-2.json` and so on after a rotation."""
    return settings.keys_dir / (OPRF_FILE if epoch == 1 else f"oprf-{epoch}.json")


def create_oprf_file(settings: Settings, epoch: int) -> None:
    """Create the key file of `epoch` with a new key. Raises ConfigurationError if the file exists."""
    secret = derive_secret(secrets.token_bytes(32), b"refund-ledger oprf key")
    oprf = {"epoch": epoch, "holder": settings.holder, "secret": b64url(secret)}
    write_secret(oprf_path(settings, epoch), json.dumps(oprf) + "\n")


def write_secret(path: Path, text: str) -> None:
    """Create `path` with mode 0600, complete and on disk before this returns. Raises ConfigurationError if it exists,
    OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename it never replaces what is there
    except FileExistsError as error:
        raise ConfigurationError(f"{path.name} exists already and is never overwritten.") from error
    finally:
        temporary.unlink()
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_key_files(settings: Settings) -> None:
    """Create all key files with new keys. Raises ConfigurationError if any of the files exists."""
    folder = settings.keys_dir
    create_oprf_file(settings, 1)
    write_secret(folder / SESSION_FILE, b64url(secrets.token_bytes(32)) + "\n")
    write_secret(folder / LOG_FILE, b64url(secrets.token_bytes(32)) + "\n")


def key_files(settings: Settings) -> list[Path]:
    """Return the paths of the key files that exist."""
    paths = [settings.keys_dir / name for name in (OPRF_FILE, SESSION_FILE, LOG_FILE)]
    return [path for path in paths if path.exists()]


def load_log_key(settings: Settings) -> Ed25519PrivateKey:
    """Return the key that signs checkpoints. Called only by the publisher and `keys init`. Raises
    ConfigurationError."""
    return Ed25519PrivateKey.from_private_bytes(_secret_bytes(settings.keys_dir / LOG_FILE))


def raw_public(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def load_oprf(settings: Settings, epoch: int = 1) -> tuple[int, str, bytes]:
    """Return (epoch, holder, secret) of this holder's share under `epoch`. Raises ConfigurationError."""
    path = oprf_path(settings, epoch)
    text = _read(path)
    try:
        data = json.loads(text)
        stored, holder, secret = data["epoch"], data["holder"], unb64url(data["secret"], 32)
        if type(stored) is not int or not isinstance(holder, str):
            raise TypeError("epoch or holder")
    except (LedgerError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"The key file {path.name} is damaged.") from error
    if stored != epoch:
        raise ConfigurationError(f"The key file {path.name} holds the key of another epoch. {NOT_THE_LOGGED_KEY}")
    return stored, holder, secret


def load_session_key(settings: Settings) -> bytes:
    """Return the 32 bytes of the session key. Raises ConfigurationError."""
    return _secret_bytes(settings.keys_dir / SESSION_FILE)


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path.name} cannot be read. Run `refund-ledger keys init` first."
        ) from error
    if mode & 0o077:
        raise ConfigurationError(f"The key file {path.name} must not be readable by others (mode 0600).")
    return text


def _secret_bytes(path: Path) -> bytes:
    text = _read(path).strip()
    try:
        return unb64url(text, 32)
    except InvalidEncoding as error:
        raise ConfigurationError(f"The key file {path.name} is damaged.") from error
