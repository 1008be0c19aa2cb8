"""Opening a key holder's database, which is made and migrated by the commands that need it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from ledger.errors import ConfigurationError
from ledger.holder.settings import DATABASE_SETTING, HolderSettings
from ledger.holder.tables import HolderBase
from ledger.server.db import migrate
from ledger.server.db.opening import open_database

HOLDER_HISTORY = migrate.MigrationHistory(
    versions=migrate.SCRIPTS / "holder",
    metadata=HolderBase.metadata,
    first_step="Run `refund-ledger holder admit` first.",
    upgrade_step="Stop the holder's services; `refund-ledger holder serve` migrates it when it starts.",
)
"""The migrations of a key holder's database."""


def open_holder_database(settings: HolderSettings, *, upgrade: bool = False, **options: Any) -> Engine:
    """Return an engine for the holder's database, after connecting once. An empty database gets its tables; an older
    one is migrated only with `upgrade`. `options` are those of `open_engine`.

    Raises ConfigurationError for a URL, path, folder, file or schema that cannot work, DatabaseUnavailable.
    """
    if settings.database_url is None and not settings.dir.is_dir():
        raise ConfigurationError(f"{settings.dir} is no holder's folder. Run `refund-ledger holder init` first.")
    common: dict[str, Any] = {"setting": DATABASE_SETTING, "history": HOLDER_HISTORY}
    engine = open_database(settings.shared, current=False, create=True, **common, **options)
    try:
        revision = migrate.found_revision(engine)
        migrate.check_known(revision, HOLDER_HISTORY)
        if revision is None or upgrade:
            migrate.upgrade(settings.database, history=HOLDER_HISTORY)
        migrate.check_current(engine, HOLDER_HISTORY)
    except BaseException:
        engine.dispose()
        raise
    return engine
