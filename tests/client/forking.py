"""A process that makes a client of the SDK and then forks: counts of the answers to parent and children.

`python -m tests.client.forking PLAN` runs by itself, because forking is not for a process that runs pytest: PLAN is a
JSON object (`Plan`). It prints what happened as counts, such as {"child right": 90, "parent right": 12}. It imports
the SDK only, so that it starts fast and forks nothing else.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger.client import RefundLedger, evidence
from ledger.errors import LedgerError
from tests.counts import trials

ROOT = Path(__file__).resolve().parents[2]

BUDGET_SECONDS = 30.0
"""For a lookup here: on a busy machine, what does not come within 300 ms must not look like what never comes."""
PATIENCE_SECONDS = 90.0
"""A child that has not ended after this never will."""
THREADS = 8
"""Of a busy parent."""
PAUSE_SECONDS = 0.004
"""Of each of them after a question, so that a good part of the forks finds it on its way."""

Status = Callable[[], int | None]


@dataclass(frozen=True)
class Plan:
    """`people` are (identifiers, the tier that a lookup answers). First `idle` forks of a parent that does nothing
    else, then `busy` ones while threads of the parent look up and report."""

    suite: str
    key: str
    state_dir: str
    people: list[tuple[dict[str, str], str]]
    idle: int = trials(6, 15)
    busy: int = trials(9, 15)
    at_once: int = 5

    def open(self) -> RefundLedger:
        """A client, connected."""
        ledger = RefundLedger(self.suite, self.key, state_dir=self.state_dir, lookup_budget_seconds=BUDGET_SECONDS)
        ledger.connect()
        return ledger

    def json(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))

    def run(self, seconds: float = 600.0) -> Counter[str]:
        """Run it in a process of its own, and count what happened."""
        # Newer Pythons warn that a process with threads forks: that is what is tried here.
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.client.forking", self.json()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return Counter(json.loads(done.stdout))


def plan_from(text: str) -> Plan:
    """The plan that `Plan.json` wrote."""
    value = json.loads(text)
    return Plan(people=[(who, tier) for who, tier in value.pop("people")], **value)


def ask(ledger: RefundLedger, plan: Plan, number: int) -> Counter[str]:
    """Look up one of the people, by identifiers and by tags; count what was answered."""
    counts: Counter[str] = Counter()
    who, tier = plan.people[number % len(plan.people)]
    try:
        for asked in (who, ledger.tag(**who)):
            lookup = ledger.lookup(asked, order=f"F-{number}", consent_ref="separate-consent-2026-11-03-8842")
            right = "right" if lookup.tier == tier else "wrong"
            counts[right if lookup.available else f"unavailable: {lookup.unavailable_because}"] += 1
    except LedgerError as error:
        counts[error.code] += 1
    return counts


def report(ledger: RefundLedger, number: int) -> Counter[str]:
    """Report a new person for an amount of its own; count whether the answer is about that report."""
    amount, now = 1_000 + number, datetime.now(UTC)
    try:
        sent = ledger.reports.create(
            ledger.tag(payment=f"wallet/{secrets.token_hex(8)}"),
            conduct="fake_return_tracking",
            evidence=[evidence("carrier_record", sha256=secrets.token_bytes(32))],
            order=secrets.token_hex(8),
            amount_minor=amount,
            currency="CNY",
            outcome="refund_refused",
            act_ended_at=now - timedelta(days=6),
            notice_sent_at=now - timedelta(days=4),
            notice_ref="notice-1",
            decided_by="agent-7",
            consent_ref="separate-consent-2026-11-03-8842",
        )
        if sent.report is None:
            return Counter({f"report {sent.state}": 1})
        own = ledger.reports.get(sent.report.id).amount_minor == amount
        return Counter({"reported" if own else "wrong report": 1})
    except LedgerError as error:
        return Counter({f"report {error.code}": 1})


def named(who: str, counts: Counter[str]) -> Counter[str]:
    """The counts under names that begin with `who`."""
    return Counter({f"{who} {name}": count for name, count in counts.items()})


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ledger = plan.open()
        self.results = Path(plan.state_dir) / "results"
        self.results.parent.mkdir(parents=True, exist_ok=True)
        self.results.touch()
        self.counts: Counter[str] = Counter()

    def child(self, number: int) -> None:
        """What a child does."""
        if number % 5 == 1:
            gc.collect()  # what it inherited and does not need may go, and must take nothing of the parent's with it
        counts = ask(self.ledger, self.plan, number)
        if number % 5 == 2:
            counts += report(self.ledger, number)
        if number % 2:
            self.ledger.close()
        descriptor = os.open(self.results, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, json.dumps(counts).encode() + b"\n")
        os.close(descriptor)

    def fork(self, number: int, process: bool) -> Status:
        """Make one child, if `process` through `multiprocessing`. Return a function for its exit status, None
        while it runs."""
        if process:
            child = multiprocessing.get_context("fork").Process(target=self.child, args=(number,))
            child.start()
            return lambda: child.exitcode
        pid = os.fork()
        if pid:

            def status() -> int | None:
                ended, code = os.waitpid(pid, os.WNOHANG)
                return code if ended else None

            return status
        self.child(number)
        if number % 5 == 1:
            sys.exit(0)  # through everything that a process does when it ends
        os._exit(0)

    def wait(self, children: list[Status]) -> None:
        """Wait for children; those that do not end are left and counted."""
        end = time.monotonic() + PATIENCE_SECONDS
        for child in children:
            status = child()
            while status is None and time.monotonic() < end:
                time.sleep(0.005)
                status = child()
            if status is None:
                self.counts["child dead"] += 1
            elif status:
                self.counts["child failed"] += 1

    def forks(self, first: int, count: int, processes: int = 0) -> None:
        """`count` forks, the last ones through `multiprocessing`, with the parent's own questions between them."""
        for start in range(0, count, self.plan.at_once):
            numbers = range(start, min(start + self.plan.at_once, count))
            children = [self.fork(first + number, number >= count - processes) for number in numbers]
            self.counts += named("parent", ask(self.ledger, self.plan, start))
            self.wait(children)

    def run(self) -> Counter[str]:
        """All forks, and the parent's own questions before and after them."""
        self.counts += named("parent", ask(self.ledger, self.plan, 0))
        self.forks(0, self.plan.idle)
        self.counts += named("parent", report(self.ledger, 999))
        with self.busy():
            # A child that ends through SystemExit would find the processes of `multiprocessing` and try to join them.
            self.forks(self.plan.idle, self.plan.busy, processes=self.plan.busy // 3)
        self.counts += named("parent", report(self.ledger, 999))
        for line in self.results.read_text().splitlines():
            self.counts += named("child", Counter(json.loads(line)))
        self.counts["left in the outbox"] += len(self.ledger.outbox.list())
        self.ledger.close()
        return self.counts

    @contextmanager
    def busy(self) -> Iterator[None]:
        """With threads at work, one of them reporting."""
        stop, lock = threading.Event(), threading.Lock()

        def work(number: int) -> None:
            while not stop.is_set():
                counts = ask(self.ledger, self.plan, number) if number else report(self.ledger, 998)
                with lock:
                    self.counts += named("parent", counts)
                time.sleep(PAUSE_SECONDS)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            # A child comes here too when it ends through SystemExit, and has none of these threads.
            stop.set()
            for thread in threads:
                with suppress(RuntimeError):
                    thread.join()


def main() -> None:
    """Run the plan given as argument."""
    counts: dict[str, Any] = _Run(plan_from(sys.argv[1])).run()
    sys.stdout.write(json.dumps(counts))
    sys.stdout.flush()
    if counts.get("child dead"):
        os._exit(0)  # `multiprocessing` would wait for it


if __name__ == "__main__":
    main()
