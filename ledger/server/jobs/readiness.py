"""Whether this process can do its work, from memory: no function here queries the database or waits.

There are two questions, for two load balancers or two pools of one: whether it can answer lookups (`GET /readyz`), and
whether it can accept reports and other writes (`GET /readyz/write`). A frozen log accepts no entries and all lookups
are answered, so only the second is "not ready" then.

A lookup that matches a listed person is committed before it is answered, so a database that does not commit makes the
first "not ready" too. If only clean lookups were answered, a missing answer would disclose who is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.server.jobs.heartbeat import CLOCK_TOLERANCE_SECONDS, Heartbeat
from ledger.server.jobs.maintenance import Maintenance
from ledger.server.keys.epochs import EpochRow
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.log.policies import PolicyFollower
from ledger.server.lookups.clear_cache import ClearLookupCache
from ledger.server.lookups.service import LookupService
from ledger.server.platforms.members import Members
from ledger.server.process.supervision import Worker
from ledger.server.records.commands import Sequencer
from ledger.server.settings import Settings

LOOKUP_CHECKS = ("lookups", "filter", "presence", "members", "policy", "snapshots")
"""The checks for lookups in addition to the database."""

WRITE_CHECKS = ("appender", "members", "policy")
"""The checks for reports in addition to the database and a log that is not frozen."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The parts of an API process whose state its readiness and metrics report. `workers` are its background threads
    except those of the sequencer and the lookups."""

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
    keys: ServerKeys


def readiness(process: ProcessState) -> dict[str, Any]:
    """Return the response of `GET /readyz`. `status` is `ready` when lookups are answered: the database reads and
    commits, the filter of listed tags is built, and the threads that answer make progress."""
    state = _state(process)
    ready = state["database"] == "ok" and all(state["checks"][name] == "ok" for name in LOOKUP_CHECKS)
    return {"status": "ready" if ready else "not_ready", **state}


def write_readiness(process: ProcessState) -> dict[str, Any]:
    """Return the response of `GET /readyz/write`. `status` is `ready` when reports are accepted: the database commits,
    the log is not frozen, and the sequencer makes progress. An absent publisher is shown, but stops no report."""
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
        "keys": _keys(process.keys.current),
    }


def _keys(epoch: EpochRow) -> dict[str, int]:
    """Return who holds the current key, in numbers. With a threshold of 1 the operator alone can evaluate."""
    return {
        "epoch": epoch.epoch,
        "generation": epoch.generation,
        "threshold": epoch.threshold,
        "holders": max(1, len(epoch.holders)),
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
