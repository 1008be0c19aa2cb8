"""Whether this process can do its work, from memory: no function here asks the database or waits for anything.

Two questions, for two load balancers or two pools of one: can it answer lookups (`GET /readyz`), and can it take
reports and other writes (`GET /readyz/write`). A frozen log takes no entries and answers every lookup, so only the
second says no to it.

A lookup that meets a listed person is committed before it is answered, so a database that does not commit makes the
first answer no as well. Going on with clean answers only would tell by its silence who is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.server.jobs.heartbeat import CLOCK_TOLERANCE_SECONDS, Heartbeat
from ledger.server.jobs.maintenance import Maintenance
from ledger.server.log.policies import PolicyFollower
from ledger.server.lookups.clear_cache import ClearLookupCache
from ledger.server.lookups.service import LookupService
from ledger.server.platforms.members import Members
from ledger.server.process.supervision import Worker
from ledger.server.records.commands import Sequencer
from ledger.server.settings import Settings

LOOKUP_CHECKS = ("lookups", "filter", "presence", "members", "policy", "snapshots")
"""What answering lookups needs beside the database."""

WRITE_CHECKS = ("appender", "members", "policy")
"""What taking reports needs beside the database and a log that is not frozen."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The parts of an API process whose state its readiness and metrics report. `workers` are its background threads
    but those of the sequencer and the lookups."""

    settings: Settings
    now: Callable[[], datetime]
    heartbeat: Heartbeat
    members: Members
    policies: PolicyFollower
    sequencer: Sequencer
    lookups: LookupService
    clear_cache: ClearLookupCache
    maintenance: Maintenance
    workers: Sequence[Worker]


def readiness(process: ProcessState) -> dict[str, Any]:
    """The answer of `GET /readyz`. `status` is `ready` when lookups are answered: the database reads and commits, the
    filter of listed tags is built, and the threads that answer make progress."""
    state = _state(process)
    ready = state["database"] == "ok" and all(state["checks"][name] == "ok" for name in LOOKUP_CHECKS)
    return {"status": "ready" if ready else "not_ready", **state}


def write_readiness(process: ProcessState) -> dict[str, Any]:
    """The answer of `GET /readyz/write`. `status` is `ready` when reports are taken: the database commits, the log is
    not frozen, and the appender makes progress. A publisher that is absent shows, but stops no report."""
    state = _state(process)
    ready = state["database"] == state["log"] == "ok" and all(state["checks"][name] == "ok" for name in WRITE_CHECKS)
    return {"status": "ready" if ready else "not_ready", **state}


def _state(process: ProcessState) -> dict[str, Any]:
    heart = process.heartbeat
    reads, seen, publisher = heart.reads(), heart.seen(), heart.publisher()
    database = "unavailable" if not reads else "ok" if heart.writes() else "not_writable"
    if seen is None or not reads:
        log, clock = "unknown", "unknown"
    else:
        log = "ok" if seen.frozen is None else "frozen"
        clock = "ok" if abs(seen.clock_differs_seconds) <= CLOCK_TOLERANCE_SECONDS else "differs"
    return {
        "database": database,
        "log": log,
        "publisher": "unknown" if publisher is None else "ok" if publisher else "absent",
        "clock": clock,
        "checks": _checks(process),
        "failing_jobs": process.maintenance.failing(process.maintenance.jobs),
    }


def _checks(process: ProcessState) -> dict[str, str]:
    workers: dict[str, str] = {worker.name: worker.progress().state for worker in process.workers}
    # A job that fails does not fail its thread, which goes on with the other jobs.
    upkeep = process.maintenance
    for name, jobs in (("clocks", upkeep.clock_jobs), ("upkeep", upkeep.upkeep_jobs)):
        if workers[name] == "ok" and upkeep.failing(jobs):
            workers[name] = "failing"
    return {
        "appender": process.sequencer.progress().state,
        "lookups": process.lookups.batcher.progress().state,
        "filter": "ok" if process.clear_cache.built() else "building",
        "presence": workers["presence"],
        "members": "ok" if process.members.fresh() else "stale",
        "policy": "ok" if process.policies.timeline.entry_at(process.now()).policy is not None else "unreadable",
        "snapshots": workers["shelf"],
        "webhooks": workers["webhooks"],
        "clocks": workers["clocks"],
        "upkeep": workers["upkeep"],
    }
