"""Key files, and what must agree before a server may run.

`keys_dir` holds, each of mode 0600 and never overwritten:

- `oprf.json`     this holder's OPRF key share and its epoch (the API loads it, the publisher does not),
- `session.key`   32 random bytes that server-side MACs are derived from (API),
- `log.key`       the Ed25519 seed that signs checkpoints (publisher and `keys init` only).

The public halves stand in the log (`key_rotation`). A server whose OPRF key differs from the logged one would find
nobody and call everyone clear, so it refuses to start.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection

from ledger.core.checkpoint import parse_verifier_key
from ledger.core.encoding import b64url, unb64url
from ledger.core.entries import GovernanceType, parse_leaf
from ledger.core.voprf import derive_secret, public_key
from ledger.errors import ConfigurationError, InvalidEncoding, LedgerError
from ledger.settings import Settings
from ledger.store import log as log_store

OPRF_FILE, SESSION_FILE, LOG_FILE = "oprf.json", "session.key", "log.key"


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What an API process holds. Secrets are kept out of `repr`."""

    epoch: int
    holder: str
    oprf_secret: bytes
    oprf_public: bytes
    idempotency_key: bytes
    log_verifier_key: str

    def __repr__(self) -> str:
        return f"ServerKeys(epoch={self.epoch}, holder={self.holder!r})"


def write_secret(path: Path, text: str) -> None:
    """Create `path` with mode 0600, on disk before this returns. Raises ConfigurationError if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigurationError(f"{path.name} exists already and is never overwritten.") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_key_files(settings: Settings) -> None:
    """Fresh keys. Raises ConfigurationError if any of the files exists."""
    folder = settings.keys_dir
    secret = derive_secret(secrets.token_bytes(32), b"refund-ledger oprf key")
    oprf = {"epoch": 1, "holder": settings.holder, "secret": b64url(secret)}
    write_secret(folder / OPRF_FILE, json.dumps(oprf) + "\n")
    write_secret(folder / SESSION_FILE, b64url(secrets.token_bytes(32)) + "\n")
    write_secret(folder / LOG_FILE, b64url(secrets.token_bytes(32)) + "\n")


def key_files(settings: Settings) -> list[Path]:
    """The key files that exist."""
    paths = [settings.keys_dir / name for name in (OPRF_FILE, SESSION_FILE, LOG_FILE)]
    return [path for path in paths if path.exists()]


def load_log_key(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs checkpoints. Only the publisher and `keys init` call this."""
    return Ed25519PrivateKey.from_private_bytes(_secret_bytes(settings.keys_dir / LOG_FILE))


def raw_public(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def load_oprf(settings: Settings) -> tuple[int, str, bytes]:
    """(epoch, holder, secret) of this holder's share. Raises ConfigurationError."""
    text = _read(settings.keys_dir / OPRF_FILE)
    try:
        data = json.loads(text)
        epoch, holder, secret = data["epoch"], data["holder"], unb64url(data["secret"], 32)
        if type(epoch) is not int or not isinstance(holder, str):
            raise TypeError("epoch or holder")
    except (LedgerError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"The key file {OPRF_FILE} is damaged.") from error
    return epoch, holder, secret


def load_server_keys(settings: Settings, connection: Connection) -> ServerKeys:
    """An API process's keys, checked against the newest logged ones.

    Raises ConfigurationError when a file is missing or readable by others, or when a key is not the logged one.
    """
    epoch, holder, secret = load_oprf(settings)
    public = public_key(secret)
    logged = logged_keys(connection)
    pinned = {one["id"]: one["public_key"] for one in logged["holders"]}
    if logged["epoch"] != epoch or pinned.get(holder) != b64url(public):
        raise ConfigurationError(
            "The OPRF key in the key folder is not the one in the log. Serving with it would call everyone clear."
        )
    if logged["log"]["origin"] != settings.origin:
        raise ConfigurationError("The log belongs to another service id than the one in the settings.")
    session = _secret_bytes(settings.keys_dir / SESSION_FILE)
    return ServerKeys(
        epoch=epoch,
        holder=holder,
        oprf_secret=secret,
        oprf_public=public,
        idempotency_key=hmac.digest(session, b"refund-ledger idempotency v1", hashlib.sha256),
        log_verifier_key=logged["log"]["key"],
    )


def check_log_key(key: Ed25519PrivateKey, settings: Settings, connection: Connection) -> None:
    """Raises ConfigurationError unless `key` is the log key that the log itself names."""
    logged = logged_keys(connection)["log"]
    origin, public = parse_verifier_key(logged["key"])
    if origin != settings.origin or public != raw_public(key):
        raise ConfigurationError("The log key in the key folder is not the one that the log names.")


def logged_keys(connection: Connection) -> Mapping[str, Any]:
    """The body of the newest `key_rotation` entry. Raises ConfigurationError before genesis."""
    leaf = log_store.newest_governance_leaf(connection, GovernanceType.KEY_ROTATION)
    if leaf is None:
        raise ConfigurationError("The ledger has no keys in its log yet. Run `refund-ledger keys init` first.")
    body = parse_leaf(leaf).body
    assert body is not None
    return body


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
