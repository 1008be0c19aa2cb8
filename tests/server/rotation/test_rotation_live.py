"""Lookups during a key rotation: every process answers correctly under every epoch that it accepts."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from ledger.errors import IndexNotReached, StaleEpoch
from ledger.protocol.encoding import day_floor, format_time, hour_floor, parse_time
from ledger.rules.standing import Event, fold
from ledger.server.reports.reports import restitute_report, submit_report, withdraw_report
from ledger.server.rotation.convert import RotationStage
from ledger.server.rotation.retire import SETTLE, destroy_settled, retire
from ledger.server.rotation.run import rotate
from ledger.server.runtime import Runtime
from tests.rotations import Subjects, audited, epochs, subjects_under
from tests.server.conftest import LedgerFixture
from tests.support import lookup_request, opened, report_payload, submit_lookup

pytestmark = pytest.mark.one_engine

PEOPLE = 8
WAIT_SECONDS = 20


@dataclass
class Person:
    """A person, and the events about them that the test expects."""

    number: int
    under: dict[int, Subjects] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    reached: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Traffic:
    """Two threads that run until they are stopped: one reports, withdraws and restitutes, the other looks people up at
    two processes.

    A person is locked while a thread acts on them, so that there is one right answer at a time.
    """

    def __init__(self, ledger: LedgerFixture, runtimes: list[Runtime]) -> None:
        self.ledger, self.runtimes = ledger, runtimes
        self.people = [Person(number) for number in range(PEOPLE)]
        self.answers: Counter[tuple[int, int]] = Counter()
        self.written: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work, seed), daemon=True)
            for seed, work in enumerate((self._write, self._look_up))
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, *_: object) -> None:
        """Wait for a few more writes and lookups."""
        goal = self.written.total() + 2, self.answers.total() + 4
        end = time.monotonic() + WAIT_SECONDS
        while not self.failures and (self.written.total() < goal[0] or self.answers.total() < goal[1]):
            assert time.monotonic() < end, "traffic has stopped"
            time.sleep(0.002)
        assert self.failures == []

    def _guarded(self, work: Any, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not self._stop.is_set():
                work(rng)
        except Exception as error:
            self.failures.append(repr(error))
            raise

    def subjects(self, person: Person, epoch: int) -> Subjects:
        """Return the person's subjects under `epoch`. They are computed once, because the key of an old epoch is
        destroyed at the end."""
        if epoch not in person.under:
            person.under[epoch] = subjects_under(self.ledger.rt.settings, epoch, person.number)
        return person.under[epoch]

    # --- writing ---------------------------------------------------------------------------------------------

    def _write(self, rng: random.Random) -> None:
        rt, person = rng.choice(self.runtimes), rng.choice(self.people)
        with person.lock:
            done = rng.choice([self._report, self._report, self._withdraw, self._restitute])(rt, person, rng)
        self.written[done] += 1
        time.sleep(0.01)  # SQLite's lock has no queue: the writer that tries at the right moment gets it

    def _report(self, rt: Runtime, person: Person, rng: random.Random) -> str:
        platform = rng.choice([self.ledger.acme, self.ledger.bolt])
        answering = [key.row.epoch for key in rt.keys.in_state("previous", "current")]
        epoch = rng.choice(answering)
        payload = report_payload(
            rt, platform, self.subjects(person, epoch), epoch=epoch, amount_minor=1000 + rng.randrange(10**6)
        )
        try:
            stored = submit_report(rt.reports, platform.member(), payload, payload["signature"]).result(60)
        except StaleEpoch:
            return "stale"
        accepted, body = json.loads(stored.body), payload["body"]
        person.reached = accepted["entry_index"] + 1
        person.events[accepted["id"]] = Event(
            report_id=accepted["entry_index"],
            act_id=accepted["entry_index"],
            control_group=platform.control_group,
            conduct=body["conduct"],
            act_day=day_floor(parse_time(body["act_ended_at"])),
            effective_hour=hour_floor(parse_time(accepted["effective_from"])),
            expires_day=day_floor(parse_time(accepted["expires_at"])),
            disputed=False,
            unconfirmed=False,
            restituted=False,
            has_statement=False,
            matched=frozenset(kind for kind, _ in self.subjects(person, epoch)),
        )
        return f"report {answering.index(epoch) - len(answering)}"

    def _withdraw(self, rt: Runtime, person: Person, rng: random.Random) -> str:
        if not person.events:
            return "nothing"
        report_id = rng.choice(list(person.events))
        platform = self._platform(person.events.pop(report_id))
        withdraw_report(rt.reports, platform.member(), report_id, "other", f"w{report_id}").result(60)
        return "withdrawal"

    def _restitute(self, rt: Runtime, person: Person, rng: random.Random) -> str:
        open_ids = [report_id for report_id, event in person.events.items() if not event.restituted]
        if not open_ids:
            return "nothing"
        report_id = rng.choice(open_ids)
        event = person.events[report_id]
        person.events[report_id] = replace(event, restituted=True)
        platform = self._platform(event)
        amount = self._amount(rt, platform, report_id)
        now = format_time(self.ledger.clock())
        restitute_report(rt.reports, platform.member(), report_id, now, amount, "CNY", f"r{report_id}").result(60)
        return "restitution"

    def _platform(self, event: Event) -> Any:
        return self.ledger.acme if event.control_group == self.ledger.acme.control_group else self.ledger.bolt

    @staticmethod
    def _amount(rt: Runtime, platform: Any, report_id: str) -> int:
        from ledger.server.reports.reports import get_report

        return int(get_report(rt.context, platform.member(), report_id)["amount_minor"])

    # --- looking up ------------------------------------------------------------------------------------------

    def _look_up(self, rng: random.Random) -> None:
        person, number = rng.choice(self.people), rng.randrange(len(self.runtimes))
        rt = self.runtimes[number]
        epoch = rng.choice([1, 2]) if len(epochs(rt.engine)) > 1 else 1
        with person.lock:
            expected = fold(list(person.events.values()), rt.members.weights(), rt.policy, self.ledger.clock())
            request = lookup_request(rt, self.subjects(person, epoch), epoch=epoch, min_index=person.reached)
            answer = self._ask(rt, request)
        if answer is None:
            return
        shown = tuple(answer[name] for name in ("tier", "points", "events", "reporters"))
        if shown != (expected.tier, expected.points, expected.events, expected.reporters):
            self.failures.append(f"person {person.number}, epoch {epoch}, process {number}: {shown} is not {expected}")
        self.answers[number, epoch] += 1

    def _ask(self, rt: Runtime, request: Any) -> dict[str, Any] | None:
        """Return the answer; None if this process does not answer the epoch yet, or not any longer."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                future: Future[bytes] = submit_lookup(rt, self.ledger.bolt.member(), request)
                return dict(json.loads(future.result(60)))
            except IndexNotReached:
                assert time.monotonic() < end
                time.sleep(0.002)
            except StaleEpoch:
                return None


def test_every_answer_is_true_at_every_stage(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    with ExitStack() as stack:
        runtimes = [ledger.rt]
        if engine.dialect.name == "postgresql":  # a ledger on SQLite has one process
            runtimes.append(stack.enter_context(opened(settings, ledger.clock)))
        traffic = stack.enter_context(Traffic(ledger, runtimes))
        traffic.go_on()

        def between(stage: RotationStage, done: int, _total: int) -> None:
            if (stage, done) != (RotationStage.SWITCH, 1):  # there the head is held
                traffic.go_on()

        done = rotate(settings, engine, ledger.clock, progress=between)
        for rt in runtimes:
            rt.members.refresh()
        before = traffic.answers.copy()
        while any(
            traffic.answers[number, epoch] - before[number, epoch] < 5
            for number in range(len(runtimes))
            for epoch in (1, 2)
        ):
            traffic.go_on()
        while traffic.written["report -2"] < 3:
            traffic.go_on()
        retire(settings, engine, ledger.clock, early=True)
        # Earlier than in operation: a process may not have read the retirement yet.
        destroyed = destroy_settled(settings, engine, lambda: ledger.clock() + timedelta(seconds=1) + SETTLE, between)
        assert destroyed == [1]
        for _ in range(3):
            traffic.go_on()
    assert traffic.failures == []
    assert traffic.written["withdrawal"] > 3
    assert traffic.written["restitution"] > 3
    assert audited(ledger.rt, settings.keys_dir / "rotation-1-2-late").elements > 0
    assert done.elements > 0
