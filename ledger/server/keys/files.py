"""Key files, and the checks before a server may use them.

`keys_dir` holds these files, each of mode 0600 and never overwritten:

- `oprf.json`: this holder's OPRF key share of the first epoch; `oprf-2.json` and so on hold those of later ones (the
  API loads them, the publisher does not),
- `session.key`: 32 random bytes from which server-side MACs are derived (API),
- `log.key`: the Ed25519 seed that signs checkpoints (publisher and `keys init` only).

Where several holders have shares of the OPRF key there is no `oprf.json`, but

- `receiving.key`: the ristretto255 secret to which the holders of a rotation encrypt its factor (`rotate` only),
- `ledger.json`: the public card of this ledger for its holders,
- `factor-2.json` and so on: the factor that leads from one epoch's key to the next (`factors`).

The public keys are in the log (`key_rotation`). A server whose OPRF key differs from the logged one would match no
listed person and answer "clear" for every person, so it refuses to start.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.errors import ConfigurationError, InvalidEncoding, LedgerError
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.sodium import check_scalar
from ledger.protocol.voprf import derive_secret
from ledger.server.settings import Settings

OPRF_FILE, SESSION_FILE, LOG_FILE = "oprf.json", "session.key", "log.key"
RECEIVING_FILE = "receiving.key"

LOOKUP_STATES = frozenset({"current", "previous"})
EVALUATE_STATES = frozenset({"next", "current"})
USED_STATES = frozenset({"next", "current", "previous"})
"""States of an epoch in which its secret is needed: `previous` too, to list new reports under the old tags."""

NOT_THE_LOGGED_KEY = "Serving with it would call everyone clear."
"""Why a server refuses to start with another OPRF key than the logged one."""


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


def destroy_secret(path: Path) -> None:
    """Delete a secret file, and before it what a killed `write_secret` left of it. Raises OSError.

    Deleting does not overwrite the data on a disk that remaps its blocks. Only an encrypted disk protects there.
    """
    for temporary in path.parent.glob(f".{path.name}.*"):
        temporary.unlink()
    path.unlink()
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_key_files(settings: Settings) -> None:
    """Create all key files of a 1-of-1 ledger with new keys. Raises ConfigurationError if any of the files exists."""
    create_oprf_file(settings, 1)
    for name in (SESSION_FILE, LOG_FILE):
        create_random_file(settings, name)


def create_random_file(settings: Settings, name: str) -> None:
    """Create a file with 32 random bytes. Raises ConfigurationError if it exists."""
    write_secret(settings.keys_dir / name, b64url(secrets.token_bytes(32)) + "\n")


def create_receiving_file(settings: Settings) -> None:
    """Create the receiving key. Raises ConfigurationError if it exists."""
    secret = derive_secret(secrets.token_bytes(32), b"refund-ledger receiving key")
    write_secret(settings.keys_dir / RECEIVING_FILE, b64url(secret) + "\n")


def load_receiving_key(settings: Settings) -> bytes:
    """Return the secret scalar of the receiving key, 32 bytes. Raises ConfigurationError."""
    secret = _secret_bytes(settings.keys_dir / RECEIVING_FILE)
    try:
        check_scalar(secret)
    except LedgerError as error:
        raise ConfigurationError(f"The key file {RECEIVING_FILE} is damaged.") from error
    return secret


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
    text = read_secret_text(path)
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


def read_secret_text(path: Path, advice: str = "Run `refund-ledger keys init` first.") -> str:
    """Return the text of a key file. Raises ConfigurationError if it cannot be read, with `advice`, or is readable by
    others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"The key file {path.name} cannot be read. {advice}") from error
    if mode & 0o077:
        raise ConfigurationError(f"The key file {path.name} must not be readable by others (mode 0600).")
    return text


def _secret_bytes(path: Path) -> bytes:
    text = read_secret_text(path).strip()
    try:
        return unb64url(text, 32)
    except InvalidEncoding as error:
        raise ConfigurationError(f"The key file {path.name} is damaged.") from error
