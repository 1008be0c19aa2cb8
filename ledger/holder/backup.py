"""Backups of a holder's folder: one encrypted file, opened with a passphrase.

    {"format": 1, "kind": "holder backup", "holder", "kdf": {"name": "argon2id", "memory_kib", "passes", "lanes",
     "salt"}, "cipher": "xchacha20poly1305", "nonce", "ciphertext"}

The key is argon2id (RFC 9106) of the passphrase in UTF-8 NFC, with the parameters of the file; the ciphertext is that
of XChaCha20-Poly1305 with the canonical JSON of all other members as associated data. The plaintext is a JSON object
of file names and texts.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from pathlib import Path
from typing import Any

from argon2.exceptions import Argon2Error
from argon2.low_level import Type, hash_secret_raw

from ledger.errors import ConfigurationError, InvalidCiphertext, InvalidInput, LedgerError
from ledger.holder.files import read_limited, read_secret, write_once, write_public
from ledger.holder.folder import LOCK_NAME, PROFILE_NAME, SIGNING_NAME, STATIC_NAME, HolderFolder, locked_for_restore
from ledger.holder.folder import read_folder as read_restored
from ledger.holder.shares import share_files, share_path
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.tlog.ledger_card import LEDGER_CARD_NAME

BACKUP_FORMAT = 1
BACKUP_KIND = "holder backup"
MIN_PASSPHRASE_CHARS = 12
SALT_BYTES = 16
MEMORY_KIB, PASSES, LANES = 256 * 1024, 4, 4
"""Parameters of argon2id for new backups."""
MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES = 4 * 1024 * 1024, 64, 64

_CIPHER = "xchacha20poly1305"


def write_backup(folder: HolderFolder, path: Path, passphrase: str) -> None:
    """Write the keys and the newest share of a folder, encrypted, to a new file of mode 0600.

    A backup with this content and passphrase that exists already stays: the command that wrote it may be repeated.
    Raises ConfigurationError for another file of this name, InvalidInput for a passphrase that is too short, OSError.
    """
    check_passphrase(passphrase)
    content = _content(folder)
    if path.exists():
        try:
            same = _open(read_limited(path), passphrase) == content
        except (ConfigurationError, InvalidInput, InvalidCiphertext):
            same = False
        if not same:
            raise ConfigurationError(f"{path.name} exists already with other content: name another file.")
        return
    kdf = {
        "name": "argon2id",
        "memory_kib": MEMORY_KIB,
        "passes": PASSES,
        "lanes": LANES,
        "salt": b64url(secrets.token_bytes(SALT_BYTES)),
    }
    nonce = secrets.token_bytes(sodium.AEAD_NONCE_BYTES)
    members: dict[str, Any] = {
        "format": BACKUP_FORMAT,
        "kind": BACKUP_KIND,
        "holder": folder.holder,
        "kdf": kdf,
        "cipher": _CIPHER,
        "nonce": b64url(nonce),
    }
    plaintext = canonical_json(content)
    ciphertext = sodium.aead_encrypt(_key(passphrase, kdf), nonce, plaintext, canonical_json(members))
    write_public(path, canonical_json({**members, "ciphertext": b64url(ciphertext)}).decode() + "\n", 0o600)


def restore_backup(path: Path, backup: Path, passphrase: str) -> HolderFolder:
    """Write the files of a backup into a folder that is empty or does not exist, and return the folder. After a crash
    it may be repeated.

    Raises ConfigurationError for a file that is no backup and for a folder with other files, InvalidCiphertext for
    another passphrase or an altered file, OSError.
    """
    content = _open(read_limited(backup), passphrase)
    with locked_for_restore(path):
        foreign = {file.name for file in path.iterdir()} - content.keys() - {LOCK_NAME}
        if foreign:
            raise ConfigurationError(f"The folder {path} is not empty: it has {min(foreign)}.")
        # The profile last: without it the folder is not complete.
        for name in sorted(content, key=lambda name: (name == PROFILE_NAME, name)):
            write_once(path / name, content[name])
    return read_restored(path)


def check_passphrase(passphrase: str) -> None:
    """Raises InvalidInput for a passphrase that is too short to protect a file that can be copied."""
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise InvalidInput(f"The passphrase of a backup has at least {MIN_PASSPHRASE_CHARS} characters.")


def _content(folder: HolderFolder) -> dict[str, str]:
    names = [PROFILE_NAME, LEDGER_CARD_NAME, SIGNING_NAME, STATIC_NAME]
    shares = [file.share for file in share_files(folder.path)]
    names += [share_path(folder.path, share.epoch, share.generation).name for share in shares[-1:]]
    return {name: read_secret(folder.path / name) for name in names}


def _open(data: bytes, passphrase: str) -> dict[str, str]:
    try:
        members = json.loads(data)
        ciphertext = unb64url(members.pop("ciphertext"))
        kdf, nonce = members["kdf"], unb64url(members["nonce"], sodium.AEAD_NONCE_BYTES)
        if (members["format"], members["kind"], members["cipher"]) != (BACKUP_FORMAT, BACKUP_KIND, _CIPHER):
            raise ValueError("format")
        key, associated = _key(passphrase, kdf), canonical_json(members)
    except (LedgerError, ValueError, TypeError, KeyError, AttributeError, Argon2Error) as error:
        raise ConfigurationError("This file is no backup of a holder that this version reads.") from error
    try:
        content: dict[str, str] = json.loads(sodium.aead_decrypt(key, nonce, ciphertext, associated))
    except InvalidCiphertext as error:
        raise InvalidCiphertext("The backup does not open: another passphrase, or the file was altered.") from error
    if not all(isinstance(text, str) and Path(name).name == name for name, text in content.items()):
        raise ConfigurationError("This file is no backup of a holder that this version reads.")
    return content


def _key(passphrase: str, kdf: dict[str, Any]) -> bytes:
    memory, passes, lanes = kdf["memory_kib"], kdf["passes"], kdf["lanes"]
    limits = ((memory, MAX_MEMORY_KIB), (passes, MAX_PASSES), (lanes, MAX_LANES))
    if kdf["name"] != "argon2id" or not all(type(value) is int and 1 <= value <= most for value, most in limits):
        raise ValueError("parameters of the key derivation")
    return hash_secret_raw(
        unicodedata.normalize("NFC", passphrase).encode(),
        unb64url(kdf["salt"], SALT_BYTES),
        time_cost=passes,
        memory_cost=memory,
        parallelism=lanes,
        hash_len=sodium.AEAD_KEY_BYTES,
        type=Type.ID,
    )
