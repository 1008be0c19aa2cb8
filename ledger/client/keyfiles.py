"""The platform's own secrets: its signing key (PEM) and its order key. Both live in files of mode 0600.
Beside them, the public keys of any platform."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ledger.core.encoding import b64url, unb64url
from ledger.core.signing_keys import check_public_key
from ledger.errors import ConfigurationError, InvalidEncoding, InvalidPublicKey

ORDER_KEY_BYTES = 32
MAX_PUBLIC_KEYS = 100
_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def load_signing_key(path: str | Path) -> Ed25519PrivateKey:
    """The platform's Ed25519 key from a PKCS#8 PEM file. Raises ConfigurationError, also if others may read it."""
    try:
        key = load_pem_private_key(_read_secret(Path(path)), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"The key file {Path(path).name} is not an unencrypted PEM key.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"The key file {Path(path).name} does not hold an Ed25519 key.")
    return key


def load_public_keys(path: str | Path) -> tuple[Ed25519PublicKey, ...]:
    """A platform's Ed25519 public keys from a PEM file, at least one and at most `MAX_PUBLIC_KEYS`.

    Raises ConfigurationError.
    """
    path = Path(path)
    try:
        blocks = _PUBLIC_BLOCK.findall(path.read_bytes())[: MAX_PUBLIC_KEYS + 1]
        keys = [load_pem_public_key(block) for block in blocks]
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"The key file {path.name} cannot be read as public keys in PEM.") from error
    if not 1 <= len(keys) <= MAX_PUBLIC_KEYS:
        raise ConfigurationError(f"The key file {path.name} must hold 1 to {MAX_PUBLIC_KEYS} public keys in PEM.")
    found = tuple([key for key in keys if isinstance(key, Ed25519PublicKey)])
    if len(found) != len(keys):
        raise ConfigurationError(f"The key file {path.name} holds a key that is not Ed25519.")
    for key in found:
        try:
            check_public_key(key.public_bytes_raw())
        except InvalidPublicKey as error:
            raise ConfigurationError(f"The key file {path.name} holds an unfit public key. {error}") from error
    return found


def load_or_create_signing_key(path: str | Path) -> Ed25519PrivateKey:
    """As `load_signing_key`; a fresh key is made and stored first if there is no such file."""
    path = Path(path)
    if not path.exists():
        fresh = Ed25519PrivateKey.generate()
        create_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return load_signing_key(path)


def public_key_path(path: str | Path) -> Path:
    """Where the public key of the signing key `acme.pem` lies: `acme.public.pem` beside it."""
    return Path(path).with_suffix(".public.pem")


def load_or_create_public_key(path: str | Path) -> Ed25519PublicKey:
    """The public key that stands in a PEM file, or that belongs to the signing key in it.

    A signing key is made first if there is no such file. Raises ConfigurationError.
    """
    path = Path(path)
    with suppress(OSError):
        if _PUBLIC_BLOCK.search(path.read_bytes()):
            keys = load_public_keys(path)
            if len(keys) > 1:
                raise ConfigurationError(f"The key file {path.name} holds several public keys.")
            return keys[0]
    return load_or_create_signing_key(path).public_key()


def order_key_path(key_path: str | Path, platform: str) -> Path:
    """Where the order key lies: `acme.order.key` beside the signing key of the platform acme. It is not called like the
    signing key, so that a new signing key in the same folder finds it."""
    return Path(key_path).parent / f"{platform}.order.key"


def load_or_create_order_key(path: str | Path) -> bytes:
    """The 32 bytes that make `order_ref` (HMAC) of an order number. Made and stored if there is no such file.

    All services of a platform must use the same one, or one order could be reported twice: copy the file.
    Raises ConfigurationError.
    """
    path = Path(path)
    if not path.exists():
        create_secret(path, (b64url(secrets.token_bytes(ORDER_KEY_BYTES)) + "\n").encode())
    try:
        return unb64url(_read_secret(path).decode("ascii").strip(), ORDER_KEY_BYTES)
    except (InvalidEncoding, UnicodeError) as error:
        raise ConfigurationError(f"The order key file {path.name} is damaged.") from error


def order_key_source(order_key: bytes | str | Path | None, key: object, platform: str) -> Callable[[], bytes]:
    """Gives the order key when it is first needed: as given, from its file, or from beside the signing key's file.

    Raises ConfigurationError when neither it nor a key file is named.
    """
    if isinstance(order_key, bytes):
        return lambda: order_key
    if order_key is not None:
        path = Path(order_key)
    elif isinstance(key, str | Path):
        path = order_key_path(key, platform)
    else:
        raise ConfigurationError("Give `order_key` when the signing key does not come from a file.")
    return cache(partial(load_or_create_order_key, path))


def create_secret(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600: whole and on disk, or not at all. One that appeared meanwhile is kept.

    Raises ConfigurationError when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces what is there.
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"The file {path.name} cannot be written.") from error


def replace_file(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step, mode 0600, on disk when this returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_secret(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"The key file {path.name} cannot be read.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"The key file {path.name} must not be readable by others: chmod 600 it.")
    return data
