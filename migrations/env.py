"""Run migrations on one connection, one process at a time; give up instead of blocking traffic.

PostgreSQL: a lock timeout of 5 s (statements behind a migration that waits for a lock wait too) and an advisory lock,
so that two deployments never migrate together. SQLite: the write lock of the transaction does the same.

The revisions in `versions` make the ledger's database, those in `holder` the database of a key holder.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, pool, text

from ledger.server.db.database_url import SqlitePlace, parse_database_url
from ledger.server.db.engine import create_private, open_engine
from ledger.server.db.schema import Base

LIMIT_MS = 10 * 60 * 1000
"""The longest time of a migration's statement, or of its COMMIT, on PostgreSQL."""

MIGRATION_LOCK = 7_246_315_028_117
"""The number (arbitrary, fixed) of the advisory lock that every migration run takes."""


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes.get("metadata") or Base.metadata,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
        # SQLite's DDL is transactional too; Alembic would commit after each revision, and let another run in between.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "sqlite":
            # Begin as the writer: two runs that first read the revision and then both write would collide.
            connection.exec_driver_sql("PRAGMA busy_timeout=30000")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


def database_url() -> str:
    given = context.config.attributes.get("database_url")
    if given:
        return str(given)
    from ledger.server.settings import Settings

    return Settings().database_url


def open_database(url: str) -> Engine:
    place = parse_database_url(url)
    if isinstance(place, SqlitePlace):
        create_private(place.path)
        return create_engine(url, poolclass=pool.NullPool)
    return open_engine(
        url, statement_timeout_ms=LIMIT_MS, idle_timeout_ms=LIMIT_MS, write_deadline_ms=LIMIT_MS, pool_size=1
    )


engine = open_database(database_url())
try:
    with engine.connect() as opened:
        run(opened)
finally:
    engine.dispose()
