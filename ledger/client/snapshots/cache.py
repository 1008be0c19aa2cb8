"""The folder of snapshots in the state folder: fetched files, shared by the processes of a host.

Each file is verified again when it is read (`ledger.client.snapshots.reader`). Where the folder cannot be written, new
files are kept in memory; those in the folder are still read.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ledger.client.identity.keyfiles import replace_file, sync_folder
from ledger.client.snapshots.files import Latest
from ledger.client.snapshots.new_file import NewFile
from ledger.client.state import is_unwritable, turn, warn_of_memory
from ledger.client.transport.forks import ForkLock
from ledger.errors import ConfigurationError, LedgerError
from ledger.protocol.encoding import b64url, unb64url
from ledger.snapshots.layout import VERSION_BYTES
from ledger.snapshots.manifest import Manifest, parse_manifest

LATEST_FILE, FILTER_FILE, BUCKETS_FILE = "latest.json", "filter.bin", "buckets.bin"
SINGLE_FOLDER = "buckets"
NEWEST_FILE = "newest-cut"
ABANDONED_SECONDS = 24 * 3600
"""Temporary files of a killed process are removed after this."""
MAX_BUCKETS_IN_MEMORY = 256
"""Single buckets that are kept where the folder cannot be written; the oldest goes first."""


class SnapshotCache:
    """Reads and writes `folder`, or memory without one. Every write is a new file, named when it is whole."""

    def __init__(self, folder: Path | None) -> None:
        self._given = folder
        self._folder = folder or Path()  # never touched unless one is given
        self._spare = ForkLock()
        self._memory: dict[tuple[bytes, str], bytes] = {}
        self._buckets: dict[tuple[bytes, int], bytes] = {}
        self._damaged: set[tuple[bytes, str]] = set()
        self._cut = 0

    # --- answers ----------------------------------------------------------------------------------------------------

    def answers(self) -> list[tuple[bytes, bytes]]:
        """Return (version, answer of `GET /v1/snapshots/latest`) of each stored snapshot."""
        latest = {version: data for (version, name), data in list(self._memory.items()) if name == LATEST_FILE}
        for version in self._versions():
            with suppress(OSError):
                latest.setdefault(version, (self._path(version) / LATEST_FILE).read_bytes())
        return list(latest.items())

    def keep(self, latest: Latest) -> None:
        """Keep a verified answer. Raises ConfigurationError when the folder is damaged."""
        if self._given is None:
            self._memory[latest.manifest.version, LATEST_FILE] = latest.answer
            warn_of_memory(None)
            return
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
            if not is_unwritable(error):
                raise ConfigurationError("The snapshot cannot be stored; is the state folder writable?") from error
            self._memory[latest.manifest.version, LATEST_FILE] = latest.answer
            warn_of_memory(self._folder.parent, error)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def newest_cut(self) -> int:
        """Return the largest cut of any snapshot that was accepted; 0 before the first."""
        if self._given is None:
            return self._cut
        try:
            return max(self._cut, int((self._folder / NEWEST_FILE).read_text("ascii")))
        except (OSError, ValueError):
            return self._cut

    def raise_newest_cut(self, cut: int) -> None:
        """Remember the cut of an accepted snapshot. Raises ConfigurationError."""
        path = self._folder / NEWEST_FILE
        if cut <= self.newest_cut():
            return
        if self._given is None:
            self._cut = cut
            return
        with turn(path, self._spare) as problem:
            if problem is None:
                try:
                    replace_file(path, str(max(cut, self.newest_cut())).encode())
                except OSError as error:
                    if not is_unwritable(error):
                        raise ConfigurationError("The state folder cannot be written.") from error
                    problem = error
            if problem is not None:
                self._cut = max(cut, self._cut)
                warn_of_memory(self._folder.parent, problem)

    # --- files of one snapshot --------------------------------------------------------------------------------------

    def map(self, version: bytes, name: str, size: int) -> memoryview | None:
        """Return the file mapped into memory, if it is there with `size` bytes. It stays readable after it was
        deleted."""
        kept = self._memory.get((version, name))
        if kept is not None and len(kept) == size:
            return memoryview(kept)
        if self._given is None or (version, name) in self._damaged:
            return None
        try:
            with (self._path(version) / name).open("rb") as file:
                if os.fstat(file.fileno()).st_size != size:
                    return None
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            return None

    @contextmanager
    def new_file(self, version: bytes, name: str) -> Iterator[NewFile]:
        """Return a file to write. It gets its name, on disk, when the block ends without an error, and is deleted
        otherwise. Where it cannot be written, or the disk is full, it is kept in memory.

        Raises ConfigurationError for any other fault of the disk.
        """
        target = self._path(version) / name
        temporary = None if self._given is None else target.with_name(f".{name}.{secrets.token_hex(8)}")
        file = NewFile(temporary, target, lambda error: warn_of_memory(self._folder.parent, error))
        try:
            yield file
            kept = file.finish()
            if kept is not None:
                self._memory[version, name] = kept
        finally:
            file.close()

    @contextmanager
    def locked(self, version: bytes, name: str, wait: bool) -> Iterator[None]:
        """Hold the lock of a file, so that only one process fetches it; see `state.turn`."""
        if self._given is None:
            with self._spare:
                yield
            return
        with turn(self._path(version) / name, self._spare, wait):
            yield

    def read_bucket(self, version: bytes, prefix: int) -> bytes | None:
        """Return the answer to an earlier query for one bucket."""
        kept = self._buckets.get((version, prefix))
        if kept is not None or self._given is None:
            return kept
        try:
            return self._bucket(version, prefix).read_bytes()
        except OSError:
            return None

    def keep_bucket(self, version: bytes, prefix: int, answer: bytes) -> None:
        """Store the answer to a query for one bucket. An answer that cannot be stored is requested again when it is
        needed."""
        path = self._bucket(version, prefix)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            if self._given is not None and (version, LATEST_FILE) not in self._memory:
                path.parent.mkdir(exist_ok=True, mode=0o700)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(answer)
                os.replace(temporary, path)
                return
        except OSError as error:
            if not is_unwritable(error):
                return
        self._buckets[version, prefix] = answer
        while len(self._buckets) > MAX_BUCKETS_IN_MEMORY:
            self._buckets.pop(next(iter(self._buckets)), None)

    # --- deleting -----------------------------------------------------------------------------------------------------

    def prune(self, now: datetime) -> None:
        """Delete snapshots that are past their end, that cannot be read, or that a newer one with the same files
        replaces."""
        kept: list[tuple[int, bytes]] = []
        for version in dict.fromkeys([*self._versions(), *[version for version, _ in list(self._memory)]]):
            manifest = self._manifest(version)
            if manifest is None or now >= manifest.not_after:
                self.delete(version)
            else:
                kept.append((manifest.cut, version))
        have: set[str] = set()
        for number, (_, version) in enumerate(sorted(kept, reverse=True)):
            files = {name for name in (FILTER_FILE, BUCKETS_FILE) if self._has(version, name)}
            if number and files <= have:
                self.delete(version)
            have |= files
        self._remove_abandoned()

    def delete(self, version: bytes) -> None:
        """Delete a snapshot."""
        for key in [key for key in list(self._memory) if key[0] == version]:
            self._memory.pop(key, None)
        for single in [single for single in list(self._buckets) if single[0] == version]:
            self._buckets.pop(single, None)
        if self._given is None:
            return
        shutil.rmtree(self._path(version), ignore_errors=True)

    def delete_file(self, version: bytes, name: str) -> None:
        """Delete a damaged file; one that cannot be deleted is not looked at again."""
        self._memory.pop((version, name), None)
        if self._given is None:
            return
        try:
            (self._path(version) / name).unlink(missing_ok=True)
        except OSError:
            self._damaged.add((version, name))

    def _has(self, version: bytes, name: str) -> bool:
        if (version, name) in self._memory:
            return True
        return self._given is not None and os.path.exists(self._path(version) / name)

    def _remove_abandoned(self) -> None:
        files: list[Path] = []
        with suppress(OSError):
            if self._given is not None:
                files = [*self._folder.glob(".*"), *self._folder.glob("*/.*")]
        for path in files:
            with suppress(OSError):
                if time.time() - path.stat().st_mtime < ABANDONED_SECONDS:
                    continue
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _manifest(self, version: bytes) -> Manifest | None:
        try:
            kept = self._memory.get((version, LATEST_FILE))
            if kept is None and self._given is None:
                return None
            value = json.loads((self._path(version) / LATEST_FILE).read_bytes() if kept is None else kept)
            manifest = parse_manifest(value["manifest"])
            return manifest if manifest.version == version else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, LedgerError):
            return None

    def _versions(self) -> list[bytes]:
        parts: list[bytes] = []
        if self._given is None:
            return parts
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(LedgerError):
                    parts.append(unb64url(path.name, VERSION_BYTES))
        return parts

    def _path(self, version: bytes) -> Path:
        return self._folder / b64url(version)

    def _bucket(self, version: bytes, prefix: int) -> Path:
        return self._path(version) / SINGLE_FOLDER / f"{prefix:08x}"
