"""A rotation killed at every stage: it resumes, no person is lost, and the auditor's check passes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.errors import StaleEpoch
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.files import oprf_path
from ledger.server.reports.reports import submit_report
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests.counts import trials
from tests.forked import ForkedProcess
from tests.rotations import audited, epochs, places, subjects_under
from tests.support import (
    ROOT,
    Platform,
    lookup_request,
    new_ledger,
    opened,
    report_payload,
    server_environment,
    submit_lookup,
)

pytestmark = pytest.mark.one_engine
"""Killed on both engines in `make soak`; in `make test` the id of a test chooses one."""

PEOPLE = 8
KILLED = -signal.SIGKILL

Act = Callable[[str, str, int], int]


@contextmanager
def runner(settings: Settings) -> Iterator[Act]:
    """`act(action, stage, count)` does it in a process that dies there; its exit status."""
    process = ForkedProcess(
        "tests.faults.rotation_runner",
        [],
        environment={**os.environ, **server_environment(settings)},
        folder=ROOT,
        talk=True,
        stderr=2,
    )

    def act(action: str, stage: str, count: int) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{action} {stage} {count}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    try:
        yield act
    finally:
        process.close()
        process.wait(20)


class ReportedPeople:
    """People who are reported once each, and what lookups under an epoch say of them."""

    def __init__(self, rt: Runtime, platform: Platform) -> None:
        self.rt, self.platform, self.reported = rt, platform, 0

    def report(self, epoch: int) -> None:
        """One more person."""
        subjects = subjects_under(self.rt.settings, epoch, self.reported)
        payload = report_payload(self.rt, self.platform, subjects, epoch=epoch)
        submit_report(self.rt.reports, self.platform.member(), payload, payload["signature"]).result(60)
        self.reported += 1

    def check(self, epoch: int) -> None:
        """Check that a lookup lists every reported person, and no other."""
        self.rt.members.refresh()
        for number in {0, self.reported // 2, self.reported - 1, self.reported, self.reported + 1}:
            request = lookup_request(self.rt, subjects_under(self.rt.settings, epoch, number), epoch=epoch)
            answer = json.loads(submit_lookup(self.rt, self.platform.member(), request).result(60))
            assert answer["events"] == (number < self.reported), (epoch, number)


def test_killed_at_every_stage(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    platform = Platform("acme", "acme-group", "acme-1").enrol(settings)
    with opened(settings) as rt, runner(settings) as act:
        people = ReportedPeople(rt, platform)
        for _ in range(PEOPLE):
            people.report(1)
        rotate(act, people)
        retire(act, people)
        destroy(act, people)
        assert audited(rt, settings.keys_dir / "rotation-1-2-late").elements == 4


@pytest.mark.parametrize("migrated_url", [pytest.param("sqlite", marks=pytest.mark.sqlite)], indirect=True)
def test_the_process_that_multiplies_ends_with_the_one_that_was_killed(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    platform = Platform("acme", "acme-group", "acme-1").enrol(settings)
    with opened(settings) as rt, runner(settings) as act:
        people = ReportedPeople(rt, platform)
        for _ in range(PEOPLE):
            people.report(1)
        assert act("apart", "prove", 2) == KILLED
        end = time.monotonic() + 15
        while multiplying(database_url):
            assert time.monotonic() < end, "it holds the quotient of the keys, and stays"
            time.sleep(0.05)
        assert act("apart", "prove", 99) == 0
        people.check(2)
        assert audited(rt, settings.keys_dir / "rotation-1-2").elements == 2 * PEOPLE


def multiplying(database_url: str) -> list[int]:
    """Processes that were spawned with this ledger's settings."""
    results = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            spawned = b"spawn_main" in (folder / "cmdline").read_bytes()
            if spawned and database_url.encode() in (folder / "environ").read_bytes():
                results.append(int(folder.name))
        except OSError:  # gone meanwhile
            continue
    return results


def rotate(act: Act, people: ReportedPeople) -> None:
    engine = people.rt.engine
    points = [(stage, count) for stage in ("announce", "fill", "prove") for count in trials((2,), (2, 3))]
    points += [("switch", 1), ("switch", 2)]
    for point in points:
        assert act("rotate", *point) == KILLED, point
        assert epochs(engine)[1].state == "current"
        people.report(1)
        people.check(1)
    assert epochs(engine)[2].state == "next"
    assert act("rotate", "switch", 3) == KILLED, "dead, but it is done"
    assert [row.state for row in epochs(engine).values()] == ["previous", "current"]
    assert act("rotate", "switch", 3) == 1, "refused until the old epoch is retired"
    places_before = places(engine, Subject, 1)
    assert places_before == places(engine, Subject, 2)
    assert places(engine, Listing, 1) == places(engine, Listing, 2)
    checked = audited(people.rt, people.rt.settings.keys_dir / "rotation-1-2")
    assert checked.elements == len(places_before) == 2 * people.reported
    for epoch in (1, 2):
        people.check(epoch)
    people.report(2)


def retire(act: Act, people: ReportedPeople) -> None:
    engine = people.rt.engine
    for count in (1, 2, 3):
        if count < 3:
            people.report(1)
        assert act("retire", "retire", count) == KILLED, count
        assert epochs(engine)[1].state == "previous"
        for epoch in (1, 2):
            people.check(epoch)
    assert act("retire", "retire", 4) == KILLED, "dead, but it is done"
    assert epochs(engine)[1].state == "retired"
    people.check(2)
    try:
        people.check(1)
    except StaleEpoch:
        return
    raise AssertionError("a retired epoch answers")


def destroy(act: Act, people: ReportedPeople) -> None:
    engine, settings = people.rt.engine, people.rt.settings
    count = 1
    while act("destroy", "destroy", count) == KILLED:
        if count % 4 == 0:
            people.check(2)
        count += 1
    assert count > 10
    assert not oprf_path(settings, 1).exists()
    assert not (settings.keys_dir / "rotation-1-2").exists()
    assert places(engine, Subject, 1) == places(engine, Listing, 1) == set()
    assert places(engine, Subject, 2) == places(engine, Listing, 2)
    assert len(places(engine, Subject, 2)) == 2 * people.reported
    people.check(2)
