"""What one API process holds open: database, keys, policy, members, the appender, the lookup desk,
what is served from memory, and the sender of webhooks."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from ledger.core.entries import SALT_BYTES
from ledger.core.policy import Policy
from ledger.service import intake, migrate
from ledger.service.batcher import Batcher
from ledger.service.commands import Command, Stored
from ledger.service.database import open_database
from ledger.service.entry_batch import Context
from ledger.service.keys import ServerKeys, load_server_keys
from ledger.service.logged_policy import logged_policy
from ledger.service.lookups import LookupDesk
from ledger.service.maintenance import Maintenance
from ledger.service.members import Members
from ledger.service.pictures import Pictures
from ledger.service.presence import Presence
from ledger.service.shelf import Shelf
from ledger.service.watch import Watch
from ledger.service.webhooks.sender import Sender
from ledger.settings import Settings
from ledger.store.engine import reading, within


def utc_now() -> datetime:
    """The clock of the real world."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Runtime:
    """See the module. `close` finishes what waits and lets everything go."""

    settings: Settings
    engine: Engine
    keys: ServerKeys
    policy: Policy
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

    def close(self) -> None:
        self.sender.close()
        self.maintenance.close()
        self.watch.close()
        self.appender.close()
        self.desk.close()
        self.presence.close()
        self.shelf.close()
        self.members.close()
        self.engine.dispose()


def open_runtime(settings: Settings, now: Callable[[], datetime] = utc_now, *, upkeep: bool = True) -> Runtime:
    """Open everything. Without `upkeep`, rounds of maintenance happen only when `maintenance.round()` is called.
    Raises ConfigurationError when keys, log, policy or schema do not agree."""
    engine = open_database(settings, pool_size=settings.pool_size)
    soon = within(engine, settings.read_deadline_ms)
    try:
        migrate.check_current(engine)
        with reading(engine) as connection:
            keys = load_server_keys(settings, connection)
            _, policy = logged_policy(connection)
        members = Members(soon, settings.auth_refresh_seconds, on_epochs=keys.update)
    except BaseException:
        engine.dispose()
        raise
    shelf = Shelf(settings, engine, now).start()
    presence = Presence(engine, read_deadline_ms=settings.read_deadline_ms).start(settings.lookup_refresh_ms)
    context = Context(engine, policy, settings.service, now, lambda: secrets.token_bytes(SALT_BYTES))
    apply = partial(
        intake.apply,
        engine=within(engine, settings.write_deadline_ms),
        keys=keys,
        policy=policy,
        service=settings.service,
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
    desk = LookupDesk(settings, engine, keys, policy, members, watch, now)
    pictures = Pictures(engine)
    maintenance = Maintenance(settings, context, pictures)
    if upkeep:
        maintenance.start()
    sender = Sender(settings, engine, keys.sealing_key, now).start()
    return Runtime(
        settings,
        engine,
        keys,
        policy,
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
    )
