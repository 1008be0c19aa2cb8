"""Drills of databases that fail: how long the ledger is away after its database is back, and whether anything is lost.

A load reports and looks up without a pause while the database fails in one way, and goes on until both are answered
again. Measured are the seconds from the database's return to the first report that is acknowledged and to the first
lookup that is answered, and the longest that either waited for an answer of any kind. What was acknowledged is compared
with the database at the end (`tests.faults.harness.audit`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import select

from ledger.errors import Unavailable
from ledger.protocol import sodium
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.server.db.engine import open_engine, reading
from ledger.server.db.tables.reports import Report
from ledger.server.reports.reports import submit_report
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests.faults.harness import Acknowledged, audit
from tests.faults.nodes import Node, primary
from tests.faults.wire import Wire, wire
from tests.support import Platform, lookup_request, new_ledger, opened, report_payload

PAUSE_SECONDS = 0.03
PATIENCE_SECONDS = 40
SHORT = {"read_deadline_ms": 500, "write_deadline_ms": 1500, "connect_deadline_ms": 1000, "lock_timeout_ms": 1000}
"""Shorter deadlines than a server's, so that drills are short."""


@dataclass
class Answers:
    """When asked, when answered (monotonic), and whether as wished."""

    seen: list[tuple[float, float, bool]] = field(default_factory=list)

    def first_after(self, moment: float) -> float | None:
        """When the first was answered as wished that came after `moment`."""
        return next((done for _, done, good in self.seen if good and done > moment), None)

    def longest(self) -> float:
        """Seconds that the slowest took."""
        return max((done - asked for asked, done, _ in self.seen), default=0.0)


class Load:
    """Two threads that ask a ledger without a pause: one reports and repeats until it is acknowledged, as an outbox
    would, the other looks up a person who is listed."""

    def __init__(self, rt: Runtime, platform: Platform) -> None:
        self.rt, self.platform = rt, platform
        self.people = [sodium.scalarmult_base(sodium.scalar_reduce(secrets.token_bytes(64))) for _ in range(4)]
        self.acknowledged = Acknowledged()
        self.reports, self.lookups = Answers(), Answers()
        self.failures: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(work,), daemon=True) for work in (self._report, self._look)
        ]

    def start(self) -> None:
        """Start, and wait until both are answered."""
        for thread in self._threads:
            thread.start()
        self.wait_until_answered(time.monotonic())

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        assert self.failures == []

    def wait_until_answered(self, moment: float) -> tuple[float, float]:
        """Seconds from `moment` to the first acknowledged report, and to the first lookup answered, after it."""
        while True:
            report, look = self.reports.first_after(moment), self.lookups.first_after(moment)
            if report is not None and look is not None:
                return report - moment, look - moment
            assert self.failures == []
            assert time.monotonic() < moment + PATIENCE_SECONDS, (report, look, len(self.reports.seen))
            time.sleep(0.01)

    def _run(self, work: Callable[[], object]) -> None:
        async def again_and_again() -> None:
            while not self._stop.is_set():
                await work()  # type: ignore[misc]
                await asyncio.sleep(PAUSE_SECONDS)

        try:
            asyncio.run(again_and_again())
        except BaseException as error:
            self.failures.append(error)

    async def _report(self) -> None:
        payload = report_payload(self.rt, self.platform, [(Kind.PHONE, self.people[0])])
        key = secrets.token_hex(12)
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                done = submit_report(self.rt.reports, self.platform.member(), payload, key)
                stored = await self.rt.sequencer.response(done)
            except Unavailable:
                self.reports.seen.append((asked, time.monotonic(), False))
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self.reports.seen.append((asked, time.monotonic(), True))
            public = _id_of(stored.body)
            assert self.acknowledged.reports.setdefault(key, public) == public
            return

    async def _look(self) -> None:
        asked = time.monotonic()
        try:
            request = lookup_request(self.rt, [(Kind.PHONE, self.people[0])])
            answer = await self.rt.lookups.lookup(self.platform.member(), request)
        except Unavailable:
            self.lookups.seen.append((asked, time.monotonic(), False))
            return
        self.lookups.seen.append((asked, time.monotonic(), answer[:1] == b"{"))


def _id_of(body: str) -> str:
    result: str = json.loads(body)["id"]
    return result


@dataclass(frozen=True)
class Found:
    """What a drill measured, in seconds; `acknowledged` reports, of which `lost` are not in the database."""

    name: str
    report_seconds: float
    lookup_seconds: float
    longest_report_seconds: float
    longest_lookup_seconds: float
    acknowledged: int
    lost: int


@dataclass
class Scene:
    """A ledger on a primary behind a path, with a load that runs."""

    settings: Settings
    rt: Runtime
    node: Node
    path: Wire
    load: Load


Drill = Callable[[Scene, float], float]
"""Let the database fail for some seconds; the moment (monotonic) when it was back."""


def killed(scene: Scene, seconds: float) -> float:
    """Every process of the server is killed; it starts again."""
    scene.node.kill()
    time.sleep(seconds)
    scene.node.start()
    return time.monotonic()


def stopped(scene: Scene, seconds: float) -> float:
    """The server is stopped (SIGSTOP) and goes on."""
    scene.node.freeze()
    time.sleep(seconds)
    scene.node.thaw()
    return time.monotonic()


def silent_host(scene: Scene, seconds: float) -> float:
    """The host answers nothing any more; another one is there under its address later. Old connections stay silent."""
    scene.path.go_dark()
    time.sleep(seconds)
    scene.path.answer()
    return time.monotonic()


def reset(scene: Scene, seconds: float) -> float:
    """All connections are cut with RST, new ones too for a while."""
    port, scene.path.target = scene.path.target, 1
    scene.path.reset()
    time.sleep(seconds)
    scene.path.target = port
    return time.monotonic()


def terminated(scene: Scene, seconds: float) -> float:
    """The administrator ends all connections."""
    scene.node.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refund-ledger'")
    return time.monotonic()


def lost_sync_standby(scene: Scene, seconds: float) -> float:
    """COMMIT waits for a synchronous standby that is not there, and for none later."""
    scene.node.reconfigure(synchronous_standby_names="gone")
    time.sleep(seconds)
    scene.node.reconfigure(synchronous_standby_names="")
    return time.monotonic()


def demoted(scene: Scene, seconds: float) -> float:
    """The server takes no writes, and takes them again."""
    scene.node.reconfigure(default_transaction_read_only="on")
    time.sleep(seconds)
    scene.node.reconfigure(default_transaction_read_only="off")
    return time.monotonic()


def on_the_standby(scene: Scene, seconds: float) -> float:
    """The path leads to a hot standby, as a stale name does after a switchover, and to the primary again. Connections
    that were made meanwhile are not cut."""
    standby = scene.node.clone()
    port, scene.path.target = scene.path.target, standby.port
    scene.path.reset()
    time.sleep(seconds)
    scene.path.target = port
    back = time.monotonic()
    scene.load.wait_until_answered(back)
    standby.close()
    return back


def failover(scene: Scene, seconds: float) -> float:
    """The primary is stopped and never comes back; its synchronous standby is promoted, and the path leads there."""
    standby = scene.node.clone()
    scene.node.reconfigure(synchronous_standby_names="*")
    scene.node.wait_for_standby()
    scene.load.wait_until_answered(time.monotonic())
    scene.node.freeze()
    time.sleep(seconds)
    standby.promote()
    standby.reconfigure(synchronous_standby_names="")
    scene.path.target = standby.port
    back = time.monotonic()
    scene.load.wait_until_answered(back)
    scene.node.close()
    scene.node = standby
    return back


DRILLS: tuple[Drill, ...] = (
    killed,
    stopped,
    silent_host,
    reset,
    terminated,
    lost_sync_standby,
    demoted,
    on_the_standby,
    failover,
)


def run(scene: Scene, drill: Drill, seconds: float) -> Found:
    """Do the drill under the load. Raises AssertionError where an acknowledged report is lost, or doubled."""
    load = scene.load
    load.wait_until_answered(time.monotonic())
    time.sleep(0.3)
    load.reports.seen.clear()
    load.lookups.seen.clear()
    back = drill(scene, seconds)
    report_seconds, lookup_seconds = load.wait_until_answered(back)
    return found_by(drill.__name__, scene.rt, load, report_seconds, lookup_seconds)


def found_by(name: str, rt: Runtime, load: Load, report_seconds: float, lookup_seconds: float) -> Found:
    """The measurements of a drill, after a look into the database for what was acknowledged."""
    kept = list(load.acknowledged.reports.values())
    numbers = [decode_id("rp", public, rt.settings.service) for public in kept]
    engine = open_engine(rt.settings.database_url, pool_size=1, read_deadline_ms=PATIENCE_SECONDS * 1000)
    try:
        with reading(engine) as connection:
            stored = set(connection.scalars(select(Report.id).where(Report.id.in_(numbers))))
    finally:
        engine.dispose()
    return Found(
        name,
        report_seconds,
        lookup_seconds,
        load.reports.longest(),
        load.lookups.longest(),
        len(kept),
        len(set(numbers) - stored),
    )


@contextmanager
def scene(folder: Path, **overrides: int) -> Iterator[Scene]:
    """A fresh ledger on a primary of its own, under load; audited at the end: nothing acknowledged is lost or
    doubled."""
    with primary() as node, wire(node.port) as path:
        node.ask("CREATE DATABASE ledger")
        settings = new_ledger(f"postgresql+psycopg://postgres@127.0.0.1:{path.port}/ledger", folder, **overrides)
        platform = Platform("acme", "east", "acme-1").enrol(settings)
        with opened(settings) as rt:
            load = Load(rt, platform)
            created = Scene(settings, rt, node, path, load)
            load.start()
            try:
                yield created
            finally:
                load.stop()
        patient = settings.model_copy(update={name: Settings.model_fields[name].default for name in overrides})
        audit(patient, load.acknowledged, load.people)


class NoFileSystem(Exception):
    """This machine lets no file system be mounted."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount an own file system of `megabytes` in memory. Raises NoFileSystem."""
    place = folder / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    try:
        if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
            raise NoFileSystem
    except FileNotFoundError as error:
        raise NoFileSystem from error
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def disk_full(folder: Path, seconds: float, **overrides: int) -> Found:
    """The disk of a SQLite ledger is full for some seconds. Raises NoFileSystem, and AssertionError as `run` does."""
    folder = folder / "small"
    folder.mkdir()
    with small_disk(folder, 12) as disk:
        settings = new_ledger(f"sqlite:///{disk / 'ledger.db'}", folder, **overrides)
        platform = Platform("acme", "east", "acme-1").enrol(settings)
        with opened(settings) as rt:
            load = Load(rt, platform)
            load.start()
            try:
                filler = disk / "filler"
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(4096))
                full = time.monotonic()
                while not any(done > full and not good for _, done, good in list(load.reports.seen)):
                    assert time.monotonic() < full + PATIENCE_SECONDS, "the disk does not get full"
                    time.sleep(0.01)
                time.sleep(seconds)
                filler.unlink()
                back = time.monotonic()
                result = found_by("disk_full", rt, load, *load.wait_until_answered(back))
            finally:
                load.stop()
        audit(settings, load.acknowledged, load.people)
        return result


def server_deadlines() -> dict[str, int]:
    """The deadlines of a server by default, for what `SHORT` shortens."""
    return {name: int(Settings.model_fields[name].default) for name in SHORT}


def main(rounds: int, folder: Path, say: Callable[[str], object]) -> None:
    """Every drill `rounds` times with a server's own deadlines; prints a table of the worst of each."""
    from tests.faults import kernel_drills  # which imports this module

    worst: dict[str, Found] = {}

    def note(result: Found) -> None:
        assert result.lost == 0, result
        before = worst.get(result.name, Found(result.name, 0.0, 0.0, 0.0, 0.0, 0, 0))
        worst[result.name] = Found(
            result.name,
            max(before.report_seconds, result.report_seconds),
            max(before.lookup_seconds, result.lookup_seconds),
            max(before.longest_report_seconds, result.longest_report_seconds),
            max(before.longest_lookup_seconds, result.longest_lookup_seconds),
            before.acknowledged + result.acknowledged,
            before.lost + result.lost,
        )

    chance = random.Random(1)
    for number in range(rounds):
        home = folder / f"drills-{number}"
        home.mkdir()
        with scene(home) as stage:
            for drill in DRILLS:
                before = len(stage.load.acknowledged.reports)
                matches = run(stage, drill, chance.uniform(0.5, 12.0))
                note(replace(matches, acknowledged=matches.acknowledged - before))
        try:
            note(disk_full(home, 1.0))
        except NoFileSystem:
            say("disk_full left out: no file system can be mounted here")
        reason = kernel_drills.reason_to_skip()
        for name in kernel_drills.DRILLS if reason is None else ():
            note(kernel_drills.run_apart(name, home / name, chance.uniform(2.0, 12.0), **server_deadlines()))
        if reason is not None:
            say(f"{', '.join(kernel_drills.DRILLS)} left out: {reason}")
        say(f"drills, round {number}: nothing lost, nothing doubled")
    say("drill              reports back  lookups back  longest report  longest lookup  acknowledged  lost")
    for item in worst.values():
        times = (item.report_seconds, item.lookup_seconds, item.longest_report_seconds, item.longest_lookup_seconds)
        columns = [f"{seconds:.2f} s".rjust(width) for seconds, width in zip(times, (12, 14, 16, 16), strict=True)]
        say(f"{item.name:<18} {''.join(columns)} {item.acknowledged:>13} {item.lost:>5}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="rcl-drills-") as name:
        main(int(sys.argv[1]) if sys.argv[1:] else 1, Path(name), print)
