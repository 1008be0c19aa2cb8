"""What one API process holds open: database, keys, policies, members, the services of the features, background jobs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from ledger.rules.policy.values import Policy
from ledger.server.appeals.platform import AppealService
from ledger.server.context import Context
from ledger.server.db.engine import reading, within
from ledger.server.db.opening import engine_of, open_database
from ledger.server.jobs.enumeration_alarms import EnumerationAlarms
from ledger.server.jobs.gauges import gauges
from ledger.server.jobs.heartbeat import Heartbeat
from ledger.server.jobs.maintenance import Maintenance
from ledger.server.jobs.readiness import ProcessState
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.log.logged_keys import load_server_keys
from ledger.server.log.policies import PolicyFollower
from ledger.server.lookups.clear_cache import ClearLookupCache
from ledger.server.lookups.service import LookupService
from ledger.server.oprf.budgets import Oprf
from ledger.server.pictures.search import PictureIndex, PictureSearch
from ledger.server.platforms.members import Members
from ledger.server.process.metrics import Metrics
from ledger.server.records.commands import Sequencer
from ledger.server.reports import intake
from ledger.server.reports.reports import ReportService
from ledger.server.settings import Settings
from ledger.server.snapshots.served import SnapshotServer
from ledger.server.webhooks.endpoints import WebhookContext
from ledger.server.webhooks.sender import Sender
from ledger.tlog.entries import SALT_BYTES

CLOSE_SECONDS = 60.0
"""How long closing may take by default."""

SENDER_SECONDS = 2.0
"""How long deliveries of webhooks that are being sent may go on while the process closes."""


def utc_now() -> datetime:
    """Return the current time (aware, UTC)."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything that one API process holds open. Routes take from it what a use case needs; no use case takes it."""

    settings: Settings
    engine: Engine
    keys: ServerKeys
    policies: PolicyFollower
    members: Members
    now: Callable[[], datetime]
    context: Context
    sequencer: Sequencer
    clear_cache: ClearLookupCache
    lookups: LookupService
    reports: ReportService
    appeals: AppealService
    pictures: PictureSearch
    oprf: Oprf
    webhooks: WebhookContext
    snapshots: SnapshotServer
    sender: Sender
    maintenance: Maintenance
    metrics: Metrics
    alarms: EnumerationAlarms
    heartbeat: Heartbeat
    process: ProcessState

    @property
    def policy(self) -> Policy:
        """The policy in effect now. Raises PolicyUnreadable."""
        return self.context.policy

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Finish what waits and close everything; return True if that was done within `seconds`. Threads that hang are
        left behind: they end with the process."""
        end = time.monotonic() + seconds

        def left() -> float:
            return max(0.05, end - time.monotonic())

        self.maintenance.stop()
        for worker in (self.alarms.worker, self.snapshots.worker, self.sender.worker):
            worker.stop()  # all at once, so that they end together
        self.clear_cache.stop_building()
        self.sender.close(min(SENDER_SECONDS, left()), left())
        self.maintenance.close(left())
        self.alarms.close(left())
        self.sequencer.close(left())
        self.lookups.close(left())
        self.clear_cache.close(left())
        self.snapshots.close(left())
        self.members.close(left())
        self.policies.close(left())
        self.heartbeat.close(left())
        self.engine.dispose()
        return time.monotonic() < end


def open_runtime(settings: Settings, now: Callable[[], datetime] = utc_now, *, upkeep: bool = True) -> Runtime:
    """Open everything. Without `upkeep`, rounds of maintenance happen only when `maintenance.round()` is called.
    Raises ConfigurationError when keys, log or schema do not agree, PolicyUnreadable when this program cannot read the
    policy in effect, DatabaseUnavailable."""
    engine = open_database(settings, pool_size=settings.pool_size)
    reads = within(engine, settings.read_deadline_ms)
    try:
        with reading(engine) as connection:
            keys = load_server_keys(settings, connection)
        policies = PolicyFollower(reads)
        policies.at(now())
        heartbeat = Heartbeat(within(engine_of(settings, pool_size=2), settings.read_deadline_ms))
        heartbeat.first()
        members = Members(reads, settings.auth_refresh_seconds, on_epochs=keys.update, policy_at=policies.at, now=now)
    except BaseException:
        engine.dispose()
        raise
    heartbeat.start()
    policies.start()
    context = Context(engine, policies, settings.service, now, _random_salt, settings.environment)
    metrics = Metrics()
    alarms = EnumerationAlarms(settings, engine, metrics, now)
    snapshots = SnapshotServer(settings, engine, now, alarms.bucket_fetched).start()
    clear_cache = ClearLookupCache(engine, read_deadline_ms=settings.read_deadline_ms, now=now)
    clear_cache.start(settings.lookup_refresh_ms)
    writes = replace(context, engine=within(engine, settings.write_deadline_ms))
    sequencer = Sequencer(settings, engine, partial(intake.apply, writes, keys, listed=clear_cache.note))
    lookups = LookupService(context, settings, keys, members, clear_cache, metrics)
    pictures = PictureSearch(context, settings, members, PictureIndex(engine))
    maintenance = Maintenance(context, settings, pictures.index)
    if upkeep:
        maintenance.start()
    sender = Sender(settings, engine, keys.sealing_key, now).start()
    workers = (
        *heartbeat.workers,
        members.worker,
        policies.worker,
        *clear_cache.workers,
        *lookups.workers,
        snapshots.worker,
        alarms.worker,
        sender.worker,
        *maintenance.workers,
    )
    process = ProcessState(
        settings, now, heartbeat, members, policies, sequencer, lookups, clear_cache, maintenance, workers, keys
    )
    metrics.gauges = partial(gauges, process)
    return Runtime(
        settings=settings,
        engine=engine,
        keys=keys,
        policies=policies,
        members=members,
        now=now,
        context=context,
        sequencer=sequencer,
        clear_cache=clear_cache,
        lookups=lookups,
        reports=ReportService(context, keys, members, sequencer),
        appeals=AppealService(context, settings, keys.idempotency_key),
        pictures=pictures,
        oprf=Oprf(context, settings, keys, metrics),
        webhooks=WebhookContext(context, settings, keys.sealing_key),
        snapshots=snapshots,
        sender=sender,
        maintenance=maintenance,
        metrics=metrics,
        alarms=alarms,
        heartbeat=heartbeat,
        process=process,
    )


def _random_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)
