"""A holder's folder, which only its own people and its service can read (mode 0700, secret files 0600).

    holder.json            id, organisation, address, and public keys
    ledger.json            the ledger's card, as the operator gave it
    signing.key            Ed25519 seed: signs ceremony files, key statements and cards
    static.key             ristretto255 scalar: opens what other holders encrypt to this one in a ceremony
    share-E-G.json         the share of generation G of epoch E, with its key statement
    ceremony.json          private state of the ceremony that runs, or of the last one
    lock                   held by the command that changes the folder

Key files and shares are never overwritten. `holder.json` is written last: without it the folder is not complete, and
`holder init` completes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import ConfigurationError, InvalidCanonicalForm, LedgerError
from ledger.holder.files import read_secret, replace_secret, sweep, write_once
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url, unb64url
from ledger.tlog.ceremony_files import NONCE_BYTES, ParticipantFile, make_participant
from ledger.tlog.key_statement import check_url
from ledger.tlog.ledger_card import LEDGER_CARD_NAME, LedgerCard, ledger_card_text, parse_ledger_card

DIRECTORY_VARIABLE = "REFUND_LEDGER_HOLDER_DIR"
DEFAULT_DIRECTORY = Path("var/holder")
PROFILE_FORMAT = 1

PROFILE_NAME, SIGNING_NAME, STATIC_NAME, LOCK_NAME = "holder.json", "signing.key", "static.key", "lock"


@dataclass(frozen=True, slots=True)
class HolderFolder:
    """An open folder: its path, the ledger, and who the holder is. Secrets are read from their files when they are
    needed."""

    path: Path
    card: LedgerCard
    holder: str
    organisation: str
    url: str
    nonce: bytes

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the Ed25519 key of this holder. Raises ConfigurationError."""
        return Ed25519PrivateKey.from_private_bytes(_secret_bytes(self.path / SIGNING_NAME))

    def static_secret(self) -> bytes:
        """Return the secret scalar (32 bytes) of the holder's static key. Raises ConfigurationError."""
        return _secret_bytes(self.path / STATIC_NAME)

    def participant(self) -> ParticipantFile:
        """Return this holder as a participant of ceremonies: always the same bytes. Raises ConfigurationError."""
        static_key = sodium.scalarmult_base(self.static_secret())
        return make_participant(self.card, self.holder, self.organisation, static_key, self.nonce, self.signing_key())


def holder_directory(environment: Mapping[str, str]) -> Path:
    """Return the folder of the holder: $REFUND_LEDGER_HOLDER_DIR, or var/holder."""
    return Path(environment.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


def init_folder(path: Path, card: LedgerCard, holder: str, organisation: str, url: str) -> HolderFolder:
    """Create a holder's folder with new keys, or complete one that a crash left incomplete, and return it.

    A folder of the same holder, ledger and address is returned as it is. Raises ConfigurationError for a folder of
    another one or with permissions for others, InvalidInput for an unfit address, InvalidCanonicalForm for an unfit id
    or organisation, OSError.
    """
    url = check_url(url)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path):
        if (path / PROFILE_NAME).exists():
            folder = _read_folder(path)
            if (folder.card, folder.holder, folder.organisation, folder.url) != (card, holder, organisation, url):
                raise ConfigurationError(
                    f"This folder belongs to the holder {folder.holder} ({folder.organisation}, {folder.url}) of the "
                    f"ledger {folder.card.service}. Another holder needs a folder of its own."
                )
            return folder
        if not (path / SIGNING_NAME).exists():
            write_once(path / SIGNING_NAME, b64url(secrets.token_bytes(32)) + "\n")
        if not (path / STATIC_NAME).exists():
            scalar = sodium.scalar_reduce(secrets.token_bytes(sodium.UNIFORM_BYTES))
            write_once(path / STATIC_NAME, b64url(scalar) + "\n")
        folder = HolderFolder(path, card, holder, organisation, url, secrets.token_bytes(NONCE_BYTES))
        try:
            folder.participant()  # refuses an unfit id or organisation before it is written
        except InvalidCanonicalForm as error:
            raise InvalidCanonicalForm(
                "The id of a holder has 1 to 32 characters of a-z, 0-9 and -, and its organisation a name of 1 to 128 "
                "characters."
            ) from error
        replace_secret(path / LEDGER_CARD_NAME, ledger_card_text(card))
        write_once(path / PROFILE_NAME, _profile_text(folder))
        return folder


def change_url(folder: HolderFolder, url: str) -> HolderFolder:
    """Write the holder's new address, for its next card, and return the folder. Call it in `open_folder`. Raises
    InvalidInput, OSError."""
    changed = HolderFolder(folder.path, folder.card, folder.holder, folder.organisation, check_url(url), folder.nonce)
    if changed != folder:
        replace_secret(folder.path / PROFILE_NAME, _profile_text(changed))
    return changed


@contextmanager
def open_folder(path: Path) -> Iterator[HolderFolder]:
    """Lock a holder's folder, destroy what a killed process left, and yield the folder.

    Raises ConfigurationError if it is not complete, damaged, readable by others, or in use by another command.
    """
    _check_folder(path)
    with _locked(path):
        yield _read_folder(path)


def read_folder(path: Path) -> HolderFolder:
    """Return a holder's folder without locking it, for reading only. Raises ConfigurationError."""
    _check_folder(path)
    return _read_folder(path)


@contextmanager
def locked_for_restore(path: Path) -> Iterator[None]:
    """Create a folder where there is none, and lock it. Raises ConfigurationError, OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path):
        yield


def _check_folder(path: Path) -> None:
    if not (path / PROFILE_NAME).exists():
        raise ConfigurationError(f"{path} is no holder's folder. Run `refund-ledger holder init` first.")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"The holder's folder {path} must not be accessible to others (mode 0700).")
    descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError("Another command changes the holder's folder. Try again when it ends.") from error
        sweep(path)
        yield
    finally:
        os.close(descriptor)


def _read_folder(path: Path) -> HolderFolder:
    try:
        card = parse_ledger_card(read_secret(path / LEDGER_CARD_NAME).encode())
        members = json.loads(read_secret(path / PROFILE_NAME))
        folder = HolderFolder(
            path,
            card,
            members["id"],
            members["organisation"],
            check_url(members["url"]),
            unb64url(members["nonce"], NONCE_BYTES),
        )
        participant = folder.participant()
        fits = (
            members["format"] == PROFILE_FORMAT
            and members["static_key"] == b64url(participant.static_key)
            and members["signing_key"] == b64url(participant.signing_key)
        )
    except ConfigurationError:
        raise
    except (LedgerError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{PROFILE_NAME} or {LEDGER_CARD_NAME} in {path} is damaged.") from error
    if not fits:
        raise ConfigurationError(f"The key files in {path} are not those of {PROFILE_NAME}. Restore the backup.")
    return folder


def _profile_text(folder: HolderFolder) -> str:
    participant = folder.participant()
    members = {
        "format": PROFILE_FORMAT,
        "id": folder.holder,
        "organisation": folder.organisation,
        "url": folder.url,
        "static_key": b64url(participant.static_key),
        "signing_key": b64url(participant.signing_key),
        "nonce": b64url(folder.nonce),
    }
    return json.dumps(members, ensure_ascii=False, indent=2) + "\n"


def _secret_bytes(path: Path) -> bytes:
    try:
        return unb64url(read_secret(path).strip(), 32)
    except ConfigurationError:
        raise
    except LedgerError as error:
        raise ConfigurationError(f"The key file {path.name} is damaged. Restore it from the backup.") from error
