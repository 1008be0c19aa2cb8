"""The platform's own secrets, its signing key (PEM) and its order key, and the public keys of any platform.

Secrets are stored in files of mode 0600, in mounted secrets of a container, or in environment variables. `check_mode`
says which modes of a file are accepted.
"""

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

from ledger.client.transport.event_log import log_advice
from ledger.errors import ConfigurationError, InvalidEncoding, InvalidPublicKey
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.signing_keys import check_public_key

ORDER_KEY_BYTES = 32
ORDER_KEY_SUFFIX = ".order.key"
MAX_PUBLIC_KEYS = 100
MAX_SECRET_BYTES = 64 * 1024
_PUBLIC_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def load_signing_key(path: str | Path) -> Ed25519PrivateKey:
    """Return the platform's Ed25519 key from a PKCS#8 PEM file. Raises ConfigurationError, also if others may read
    it."""
    return parse_signing_key(read_secret_file(Path(path)), f"The key file {Path(path).name}")


def parse_signing_key(pem: bytes, name: str) -> Ed25519PrivateKey:
    """Return the Ed25519 key in an unencrypted PKCS#8 PEM text. `name` says in errors where the text comes from.

    Raises ConfigurationError, which never holds any of the text.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name} is not an unencrypted PEM key.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{name} does not hold an Ed25519 key.")
    return key


def load_public_keys(path: str | Path) -> tuple[Ed25519PublicKey, ...]:
    """Return a platform's Ed25519 public keys from a PEM file, at least one and at most `MAX_PUBLIC_KEYS`.

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
    own_keys = tuple([key for key in keys if isinstance(key, Ed25519PublicKey)])
    if len(own_keys) != len(keys):
        raise ConfigurationError(f"The key file {path.name} holds a key that is not Ed25519.")
    for key in own_keys:
        try:
            check_public_key(key.public_bytes_raw())
        except InvalidPublicKey as error:
            raise ConfigurationError(f"The key file {path.name} holds an unfit public key. {error}") from error
    return own_keys


def load_or_create_signing_key(path: str | Path) -> Ed25519PrivateKey:
    """Return the key as `load_signing_key` does; if there is no such file, make and store a new key first."""
    path = Path(path)
    if not os.path.lexists(path):
        fresh = Ed25519PrivateKey.generate()
        create_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return load_signing_key(path)


def public_key_path(path: str | Path) -> Path:
    """Return the path of the public key of the signing key `acme.pem`: `acme.public.pem` in the same folder."""
    return Path(path).with_suffix(".public.pem")


def load_or_create_public_key(path: str | Path) -> Ed25519PublicKey:
    """Return the public key of a PEM file, or that of the signing key in it.

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
    """Return the path of the order key: `acme.order.key` beside the signing key of the platform acme. Its name does not
    depend on the signing key's, so that a new signing key in the same folder uses the same order key."""
    return Path(key_path).parent / f"{platform}{ORDER_KEY_SUFFIX}"


def load_order_key(path: str | Path) -> bytes:
    """Return the 32 bytes that make `order_ref` (HMAC) of an order number, from their file. Raises
    ConfigurationError."""
    path = Path(path)
    return parse_order_key(read_secret_file(path), f"The order key file {path.name}")


def parse_order_key(text: bytes, name: str) -> bytes:
    """Return the order key in its text form, 43 characters base64url. `name` says in errors where the text comes from.

    Raises ConfigurationError, which never holds any of the text.
    """
    try:
        return unb64url(text.decode("ascii").strip(), ORDER_KEY_BYTES)
    except (InvalidEncoding, UnicodeError):
        raise ConfigurationError(f"{name} is damaged.") from None


def load_or_create_order_key(path: str | Path) -> bytes:
    """Return the key as `load_order_key` does; if there is no such file, make and store a new order key first.

    All services of a platform must use the same one, or one order could be reported twice: copy the file.
    Raises ConfigurationError.
    """
    path = Path(path)
    if not os.path.lexists(path):
        create_secret(path, (b64url(secrets.token_bytes(ORDER_KEY_BYTES)) + "\n").encode())
    return load_order_key(path)


def order_key_source(order_key: bytes | str | Path | None, key: object, platform: str) -> Callable[[], bytes]:
    """Return a function that returns the order key when it is first needed: the given one, or from its file, or from
    the file beside the signing key.

    Raises ConfigurationError when neither it nor a key file is named.
    """
    if isinstance(order_key, bytes):
        if len(order_key) != ORDER_KEY_BYTES:
            raise ConfigurationError(f"`order_key` has {ORDER_KEY_BYTES} bytes.")
        return lambda: order_key
    beside = isinstance(key, str | Path)
    if order_key is None and not beside:
        raise ConfigurationError("Give `order_key` when the signing key does not come from a file.")
    path = order_key_path(Path(str(key)), platform) if order_key is None else Path(order_key)
    return cache(partial(_order_key, path, platform, Path(str(key)) if beside else None))


def _order_key(path: Path, platform: str, key: Path | None) -> bytes:
    """Return the order key in `path`. If there is none it is made, with a warning, unless the signing key was mounted
    or came without a file (`key` is None).

    A container that got its signing key as a secret would make another order key at every start, and the ledger would
    take one order for several.
    """
    if os.path.lexists(path):
        return load_order_key(path)
    if key is None or is_mounted(key):
        raise ConfigurationError(f"The order key file {path.name} is missing. {_ORDER_KEY_REMEDY}")
    try:
        order_key = load_or_create_order_key(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} {_ORDER_KEY_REMEDY}") from error
    log_advice(
        "order_key_made",
        "Made a new order key, {file}. Copy it to every service of {platform} before it looks up or reports.",
        file=path.name,
        platform=platform,
    )
    return order_key


_ORDER_KEY_REMEDY = (
    "No other is made here, because all services of a platform must share one: copy the file that `refund-ledger "
    "make-key` wrote, or that your first service has, and give it as `order_key`, REFUND_LEDGER_ORDER_KEY (a file) or "
    "REFUND_LEDGER_ORDER_KEY_TEXT."
)


def is_mounted(path: Path) -> bool:
    """True if the file was put there from outside, as containers get their secrets: it is not this user's, is a mount
    of its own, or is on a read-only mount. Files that cannot be looked at count as mounted.

    A file in a container's own layer is not mounted. overlayfs may give it another device than its folder has (Linux,
    Documentation/filesystems/overlayfs.rst, "Inode properties"), so mounts are compared, not devices.
    """
    try:
        resolved = path.resolve(strict=True)
        if resolved.stat().st_uid != os.geteuid() or _is_read_only(resolved):
            return True
        return _mount_of(resolved) != _mount_of(resolved.parent)
    except OSError:
        return True


def _mount_of(path: Path) -> int:
    """Return the mount that the file or folder is on: the kernel's number of it (proc(5), `mnt_id` of
    /proc/PID/fdinfo), or the number of the device where there is none. Raises OSError."""
    if hasattr(os, "O_PATH"):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError), open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name == "mnt_id":
                        return int(value)
        finally:
            os.close(descriptor)
    return path.stat().st_dev


def _is_read_only(path: Path | int) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


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


def check_mode(file: str, owner: int, mode: int, *, user: int, read_only: bool) -> None:
    """Refuse a secret's file that others could read or change. `file` names it in the error, `user` is the process's
    effective user id, `read_only` whether the file is on a read-only mount.

    - Only the owner may write it.
    - A file that only its owner may read is accepted.
    - A file that its group or others may read is accepted where this process could not change that: it belongs to root
    and this user is not root, or it is on a read-only mount. So come the secrets of Kubernetes (0440 root:fsGroup) and
    of Docker (0444 root). libpq, too, takes files of root's with more rights than files of one's own.

    Raises ConfigurationError.
    """
    if mode & 0o022:
        raise ConfigurationError(f"The {file} must not be writable by others: chmod 600 it.")
    if mode & 0o077 and not read_only and (owner != 0 or user == 0):
        raise ConfigurationError(
            f"The {file} must not be readable by others: chmod 600 it, or mount it read-only as a secret."
        )


def read_secret_file(path: Path, sort: str = "key file") -> bytes:
    """Return the bytes of a secret's file, which `sort` names in errors. Raises ConfigurationError when it is missing,
    cannot be read, or is longer than MAX_SECRET_BYTES, and as `check_mode`."""
    file = f"{sort} {path.name}"
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())  # of the open file: the path may name another file by now
            read_only = _is_read_only(opened.fileno())
            check_mode(file, status.st_uid, stat.S_IMODE(status.st_mode), user=os.geteuid(), read_only=read_only)
            data = opened.read(MAX_SECRET_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"The {file} is missing.") from error
    except OSError as error:
        raise ConfigurationError(f"The {file} cannot be read.") from error
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigurationError(f"The {file} is longer than {MAX_SECRET_BYTES:,} bytes: it holds something else.")
    return data
