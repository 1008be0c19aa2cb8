"""What one API process holds open: database, keys, policies, members, the appender, the lookup desk,
what is served from memory, and the sender of webhooks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from ledger.rules.policy.values import Policy
from ledger.server.db.engine import reading, within
from ledger.server.db.opening import engine_of, open_database
from ledger.server.jobs.gauges import gauges
from ledger.server.jobs.heartbeat import Heartbeat
from ledger.server.jobs.maintenance import Maintenance
from ledger.server.jobs.watch import Watch
from ledger.server.keys.files import ServerKeys, load_server_keys
from ledger.server.log.policies import Policies
from ledger.server.lookups.clear_cache import Presence
from ledger.server.lookups.lookups import LookupDesk
from ledger.server.pictures.search import Pictures
from ledger.server.platforms.members import Members
from ledger.server.process.batcher import Batcher
from ledger.server.process.supervision import Worker
from ledger.server.records.commands import Command, Stored
from ledger.server.records.transaction import Context
from ledger.server.reports import intake
from ledger.server.settings import Settings
from ledger.server.snapshots.served import Shelf
from ledger.server.webhooks.sender import Sender
from ledger.tlog.entries import SALT_BYTES

CLOSE_SECONDS = 60.0
"""How long closing may take where nothing else is said."""

SENDER_SECONDS = 2.0
"""How long webhooks in the air may go on."""


def utc_now() -> datetime:
    """The clock of the real world."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Runtime:
    """See the module. `close` finishes what waits and lets everything go."""

    settings: Settings
    engine: Engine
    keys: ServerKeys
    policies: Policies
    members: Members
    appender: Batcher[Command, Stored]
    desk: LookupDesk
    presence: Presence
    shelf: Shelf
    pictures: Pictures
    maintenance: Maintenance
    watch: Watch
    sender: Sender
    now: Callable[[], datetime]
    context: Context

    heartbeat: Heartbeat

    @property
    def policy(self) -> Policy:
        """The policy in effect now. Raises PolicyUnreadable."""
        return self.policies.at(self.now())

    def workers(self) -> list[Worker]:
        """All background threads but those of the appender and the lookup desk."""
        return [
            *self.heartbeat.workers,
            self.members.worker,
            self.policies.worker,
            *self.presence.workers,
            *self.desk.workers,
            self.shelf.worker,
            self.watch.worker,
            self.sender.worker,
            *self.maintenance.workers,
        ]

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Finish what waits and let everything go; whether that was done within the time. Threads that hang are left
        behind: they end with the process."""
        end = time.monotonic() + seconds

        def left() -> float:
            return max(0.05, end - time.monotonic())

        self.maintenance.stop()
        for worker in (self.watch.worker, self.shelf.worker, self.sender.worker):
            worker.stop()  # all at once, so that they end together
        self.presence.stop_building()
        self.sender.close(min(SENDER_SECONDS, left()), left())
        self.maintenance.close(left())
        self.watch.close(left())
        self.appender.close(left())
        self.desk.close(left())
        self.presence.close(left())
        self.shelf.close(left())
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
    soon = within(engine, settings.read_deadline_ms)
    try:
        with reading(engine) as connection:
            keys = load_server_keys(settings, connection)
        policies = Policies(soon)
        policies.at(now())
        heartbeat = Heartbeat(within(engine_of(settings, pool_size=2), settings.read_deadline_ms))
        heartbeat.first()
        members = Members(soon, settings.auth_refresh_seconds, on_epochs=keys.update, policy_at=policies.at, now=now)
    except BaseException:
        engine.dispose()
        raise
    heartbeat.start()
    policies.start()
    shelf = Shelf(settings, engine, now).start()
    presence = Presence(engine, read_deadline_ms=settings.read_deadline_ms, now=now).start(settings.lookup_refresh_ms)
    context = Context(
        engine, policies, settings.service, now, lambda: secrets.token_bytes(SALT_BYTES), settings.environment
    )
    apply = partial(
        intake.apply,
        engine=within(engine, settings.write_deadline_ms),
        keys=keys,
        policies=policies,
        service=settings.service,
        environment=settings.environment,
        clock=now,
        new_salt=context.new_salt,
        listed=presence.note,
    )
    appender: Batcher[Command, Stored] = Batcher(
        "appender",
        apply,
        max_batch=settings.appender_max_batch,
        linger_ms=settings.appender_linger_ms,
        queue_limit=settings.appender_queue_limit,
    )
    watch = Watch(settings, engine, now)
    desk = LookupDesk(settings, engine, keys, policies, members, watch, now)
    pictures = Pictures(engine)
    maintenance = Maintenance(settings, context, pictures)
    if upkeep:
        maintenance.start()
    sender = Sender(settings, engine, keys.sealing_key, now).start()
    runtime = Runtime(
        settings,
        engine,
        keys,
        policies,
        members,
        appender,
        desk,
        presence,
        shelf,
        pictures,
        maintenance,
        watch,
        sender,
        now,
        context,
        heartbeat,
    )
    watch.gauges = partial(gauges, runtime)
    return runtime
