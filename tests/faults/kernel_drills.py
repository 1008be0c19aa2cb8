"""Drills for which the kernel is asked: packets that are dropped, and a disk of PostgreSQL's that is full.

Both take root. They run in a network and mount namespace of their own (unshare(1)), so nothing else on the machine
loses a packet or sees the small disk: `run_apart` starts this module there, and reads what it measured.

`dropped_packets`: the loopback device of the namespace gets a queue without room (tc-pfifo(8), `limit 0`), so every
packet in both directions is dropped, with no reset and no end of a connection, as where a cable is cut or a firewall
drops. `full_disk`: the server's data folder, WAL included, lies on a file system of its own that is filled up. With
no room for WAL PostgreSQL ends itself; it is then started again as soon as there is room, as a service manager does.
`full_data_disk`: only the ledger's tables lie there (a tablespace), so the server goes on and refuses to write.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ledger.protocol import sodium
from ledger.protocol.identifiers import Kind
from ledger.server.settings import Settings
from tests.faults.drills import SHORT, Found, Load, NoFileSystem, found_by
from tests.faults.harness import audit
from tests.faults.nodes import Node, primary
from tests.support import ROOT, Platform, lookup_request, new_ledger, opened

DISK_MEGABYTES = 160
PATIENCE_SECONDS = 60
DROP = ("tc", "qdisc", "add", "dev", "lo", "root", "pfifo", "limit", "0")
PASS = ("tc", "qdisc", "del", "dev", "lo", "root")


def reason_to_skip() -> str | None:
    """Why these drills cannot be done here; None where they can."""
    if os.geteuid() != 0:
        return "not root"
    if any(shutil.which(name) is None for name in ("unshare", "tc", "ip", "mount")):
        return "unshare, tc, ip or mount is not installed"
    trying = " && ".join(["ip link set lo up", " ".join(DROP), "mount -t tmpfs -o size=1m tmpfs /mnt"])
    done = subprocess.run(["unshare", "-n", "-m", "sh", "-c", trying], capture_output=True, check=False)
    return None if done.returncode == 0 else "the kernel makes no namespaces, queues or file systems here"


def run_apart(name: str, folder: Path, seconds: float, **overrides: int) -> Found:
    """Do the drill `name` in namespaces of its own. Raises AssertionError as `drills.run` does."""
    folder.mkdir()
    arguments = [name, str(folder), str(seconds), json.dumps(overrides)]
    command = ["unshare", "-n", "-m", sys.executable, "-m", "tests.faults.kernel_drills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Found(**json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def loaded(node: Node, folder: Path, overrides: dict[str, int], *, tablespace: str = "pg_default") -> Iterator[Load]:
    """A fresh ledger on `node`, without a proxy between, under load; audited at the end."""
    node.ask(f"CREATE DATABASE ledger TABLESPACE {tablespace}")
    settings = new_ledger(f"postgresql+psycopg://postgres@127.0.0.1:{node.port}/ledger", folder, **overrides)
    platform = Platform("acme", "east", "acme-1").enrol(settings)
    with opened(settings) as rt:
        load = Load(rt, platform)
        load.start()
        try:
            load.wait_until_answered(time.monotonic())
            yield load
        finally:
            load.stop()
    patient = settings.model_copy(update={name: Settings.model_fields[name].default for name in overrides})
    audit(patient, load.acknowledged, load.people)


def measured(name: str, load: Load, outage: Callable[[], float]) -> Found:
    """What the load saw of an outage; `outage` returns the moment (monotonic) at which the database was back."""
    time.sleep(0.3)
    load.reports.seen.clear()
    load.lookups.seen.clear()
    return found_by(name, load.rt, load, *load.wait_until_answered(outage()))


def dropped_packets(folder: Path, seconds: float, overrides: dict[str, int]) -> Found:
    """All packets between the ledger and its database are dropped for some seconds."""

    def outage() -> float:
        subprocess.run(DROP, check=True)
        time.sleep(seconds)
        subprocess.run(PASS, check=True)
        return time.monotonic()

    with primary() as node, loaded(node, folder, overrides) as load:
        return measured("dropped_packets", load, outage)


def full_disk(folder: Path, seconds: float, overrides: dict[str, int]) -> Found:
    """The disk of the database is full for some seconds. While its server runs, clean lookups are answered."""
    with primary(partial(_small, megabytes=DISK_MEGABYTES)) as node, loaded(node, folder, overrides) as load:
        return measured("postgresql_disk_full", load, lambda: _fill(node.folder, node, load, seconds))


def full_data_disk(folder: Path, seconds: float, overrides: dict[str, int]) -> Found:
    """As `full_disk`, for the tables alone: the server must go on."""
    with primary() as node:
        place = node.folder.parent / "tables"
        _small(place, megabytes=DISK_MEGABYTES // 4)
        node.ask(f"CREATE TABLESPACE small LOCATION '{place}'")
        with loaded(node, folder, overrides, tablespace="small") as load:
            result = measured("postgresql_data_disk_full", load, lambda: _fill(place, node, load, seconds))
            assert node.starts == 1, "the server ended by itself"
            return result


def _small(folder: Path, megabytes: int) -> None:
    """Mount a file system of `megabytes` for the server's data. Raises NoFileSystem."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False).returncode:
        raise NoFileSystem
    account = pwd.getpwnam("nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)


def _fill(disk: Path, node: Node, load: Load, seconds: float) -> float:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    full = time.monotonic()
    while not any(done > full and not good for _, done, good in list(load.reports.seen)):
        # The space that the server has reserved lasts for some time, and the server also frees space: WAL that it
        # does not need any longer.
        assert time.monotonic() < full + PATIENCE_SECONDS, "the disk does not get full"
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        with suppress(Exception):
            node.ask("SELECT pg_switch_wal()")
        time.sleep(0.02)
    clean = answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if node.running():
            clean, answered = clean + 1, answered + _clean_lookup(load)
        time.sleep(0.05)
    sys.stderr.write(f"clean lookups while the disk was full: {answered} of {clean} answered\n")
    assert clean == 0 or answered > 0, "lookups do not go on while the server runs"
    filler.unlink()
    if not node.running():
        node.start()
    return time.monotonic()


def _clean_lookup(load: Load) -> bool:
    """Whether a lookup of a person whom no report is about is answered."""
    stranger = sodium.scalarmult_base(sodium.scalar_reduce(secrets.token_bytes(64)))
    request = lookup_request(load.rt, [(Kind.PHONE, stranger)])
    try:
        return asyncio.run(load.rt.lookups.lookup(load.platform.member(), request))[:1] == b"{"
    except Exception:
        return False


DRILLS = {"dropped_packets": dropped_packets, "full_disk": full_disk, "full_data_disk": full_data_disk}


def main() -> None:
    """One drill, in namespaces of its own; the last line of standard output is what was measured."""
    name, folder, seconds, overrides = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    result = DRILLS[name](Path(folder), float(seconds), json.loads(overrides) or SHORT)
    sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
