"""The folder of snapshots in the state folder: what was fetched, shared by the processes of a host.

Nothing here is believed when it is read back; see `ledger.client.snapshots`.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from ledger.client.keyfiles import replace_file, sync_folder
from ledger.client.snapshot_files import Latest
from ledger.client.state import locked
from ledger.core.buckets import VERSION_BYTES
from ledger.core.encoding import b64url, unb64url
from ledger.core.manifest import Manifest, parse_manifest
from ledger.errors import ConfigurationError, LedgerError

LATEST_FILE, FILTER_FILE, BUCKETS_FILE = "latest.json", "filter.bin", "buckets.bin"
SINGLE_FOLDER = "buckets"
NEWEST_FILE = "newest-cut"
ABANDONED_SECONDS = 24 * 3600
"""Temporary files of a killed process are removed after this."""


class SnapshotCache:
    """Reads and writes `folder`. Every write is a new file that gets its name when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # --- answers ----------------------------------------------------------------------------------------------------

    def answers(self) -> list[tuple[bytes, bytes]]:
        """(version, answer of `GET /v1/snapshots/latest`) of each snapshot that lies here."""
        found = []
        for version in self._versions():
            with suppress(OSError):
                found.append((version, (self._path(version) / LATEST_FILE).read_bytes()))
        return found

    def keep(self, latest: Latest) -> None:
        """Keep a verified answer. Raises ConfigurationError when the folder cannot be written."""
        target = self._path(latest.manifest.version)
        temporary = self._folder / f".{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.mkdir(mode=0o700)
            replace_file(temporary / LATEST_FILE, latest.answer)
            with suppress(OSError):  # it is there already
                temporary.rename(target)
            if not (target / LATEST_FILE).exists():
                replace_file(target / LATEST_FILE, latest.answer)
            sync_folder(self._folder)
        except OSError as error:
            raise ConfigurationError("The snapshot cannot be stored; is the state folder writable?") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def newest_cut(self) -> int:
        """The largest cut of any snapshot that was accepted; 0 before the first."""
        try:
            return int((self._folder / NEWEST_FILE).read_text("ascii"))
        except (OSError, ValueError):
            return 0

    def raise_newest_cut(self, cut: int) -> None:
        """Remember the cut of an accepted snapshot. Raises ConfigurationError."""
        path = self._folder / NEWEST_FILE
        if cut <= self.newest_cut():
            return
        with locked(path):
            try:
                replace_file(path, str(max(cut, self.newest_cut())).encode())
            except OSError as error:
                raise ConfigurationError("The state folder cannot be written.") from error

    # --- files of one snapshot --------------------------------------------------------------------------------------

    def map(self, version: bytes, name: str, size: int) -> memoryview | None:
        """The file mapped into memory, if it is there with `size` bytes. It stays readable after it was deleted."""
        try:
            with (self._path(version) / name).open("rb") as file:
                if os.fstat(file.fileno()).st_size != size:
                    return None
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            return None

    @contextmanager
    def new_file(self, version: bytes, name: str) -> Iterator[BinaryIO]:
        """A file to write that gets its name, on disk, when the block ends without an error, and goes away otherwise.

        Raises ConfigurationError when it cannot be written.
        """
        folder = self._path(version)
        temporary = folder / f".{name}.{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / name)
            sync_folder(folder)
        except OSError as error:
            raise ConfigurationError("The snapshot cannot be stored; is there room in the state folder?") from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    def locked(self, version: bytes, name: str, wait: bool) -> AbstractContextManager[None]:
        """Hold the lock of a file, so that only one process fetches it; see `state.locked`."""
        return locked(self._path(version) / name, wait)

    def read_bucket(self, version: bytes, prefix: int) -> bytes | None:
        """The answer to an earlier query for one bucket."""
        try:
            return self._bucket(version, prefix).read_bytes()
        except OSError:
            return None

    def keep_bucket(self, version: bytes, prefix: int, answer: bytes) -> None:
        """Keep the answer to a query for one bucket. A cache only: what cannot be kept is asked for again."""
        path = self._bucket(version, prefix)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(answer)
            os.replace(temporary, path)

    # --- deleting -----------------------------------------------------------------------------------------------------

    def prune(self, now: datetime) -> None:
        """Delete what is past its end, what cannot be read, and what a newer snapshot with the same files replaces."""
        kept: list[tuple[int, bytes]] = []
        for version in self._versions():
            manifest = self._manifest(version)
            if manifest is None or now >= manifest.not_after:
                self.delete(version)
            else:
                kept.append((manifest.cut, version))
        have: set[str] = set()
        for number, (_, version) in enumerate(sorted(kept, reverse=True)):
            files = {name for name in (FILTER_FILE, BUCKETS_FILE) if (self._path(version) / name).exists()}
            if number and files <= have:
                self.delete(version)
            have |= files
        self._remove_abandoned()

    def delete(self, version: bytes) -> None:
        """Delete a snapshot."""
        shutil.rmtree(self._path(version), ignore_errors=True)

    def delete_file(self, version: bytes, name: str) -> None:
        """Delete a damaged file."""
        with suppress(OSError):
            (self._path(version) / name).unlink()

    def _remove_abandoned(self) -> None:
        for path in [*self._folder.glob(".*"), *self._folder.glob("*/.*")]:
            with suppress(OSError):
                if time.time() - path.stat().st_mtime < ABANDONED_SECONDS:
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _manifest(self, version: bytes) -> Manifest | None:
        try:
            value = json.loads((self._path(version) / LATEST_FILE).read_bytes())
            manifest = parse_manifest(value["manifest"])
            return manifest if manifest.version == version else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, LedgerError):
            return None

    def _versions(self) -> list[bytes]:
        found = []
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(LedgerError):
                    found.append(unb64url(path.name, VERSION_BYTES))
        return found

    def _path(self, version: bytes) -> Path:
        return self._folder / b64url(version)

    def _bucket(self, version: bytes, prefix: int) -> Path:
        return self._path(version) / SINGLE_FOLDER / f"{prefix:08x}"
