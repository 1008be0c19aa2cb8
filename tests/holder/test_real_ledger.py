"""A holder follows the log that the ledger's own code writes and serves: genesis, refresh, and what it takes away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ledger.client.verify.log import Fetch
from ledger.holder import queries
from ledger.holder.database import open_holder_database
from ledger.holder.log_follower import LogFollower
from ledger.holder.settings import HolderSettings
from ledger.holder.state import HolderSnapshot, read_snapshot
from ledger.server.db.engine import open_engine
from ledger.server.log import reader
from ledger.server.log.genesis import init_keys
from ledger.server.platforms.members import revoke_key, set_status
from ledger.server.settings import Settings
from ledger.tlog.merkle import parse_tile_path
from tests.sharing import Holders, prepared
from tests.support import Platform, ledger_settings, publish, sqlite_schema


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return ledger_settings(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)


@pytest.fixture
def engines(settings: Settings, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """The engines of the ledger and of a holder."""
    holder = open_holder_database(HolderSettings(database_url=f"sqlite:///{tmp_path / 'holder.db'}"))
    ledger = open_engine(settings.database_url)
    yield ledger, holder
    ledger.dispose()
    holder.dispose()


def fetch_from(engine: Engine) -> Fetch:
    """What the ledger's API answers below /log/."""

    def fetch(path: str) -> bytes:
        if path == "checkpoint":
            return reader.checkpoint(engine).encode()
        _, index, width = parse_tile_path("entries", path.removeprefix("tile/entries/"))
        return reader.entries(engine, index, width)

    return fetch


def test_a_holder_follows_the_ledgers_own_log(settings: Settings, engines: tuple[Engine, Engine]) -> None:
    ledger, holder = engines
    card = prepared(settings)
    made = Holders(card).generate(2)
    (settings.keys_dir.parent / "ledger.db").write_bytes(sqlite_schema())
    init_keys(settings, datetime.now(UTC), made.sharing)
    acme = Platform("acme", "acme-group", "acme-1").join(ledger)
    follower = LogFollower(holder, card, fetch_from(ledger), lambda: datetime.now(UTC))

    def followed() -> HolderSnapshot:
        publish(settings)
        follower.follow()
        return read_snapshot(holder)

    snapshot = followed()
    assert [seen.statement.canonical for seen in snapshot.statements] == [made.statement.canonical]
    assert snapshot.refused_statements == {}
    assert snapshot.head is not None
    assert (snapshot.head.fault, snapshot.head.current_epoch, snapshot.head.next_epoch) == (None, 1, None)
    set_status(ledger, platform="acme", status="suspended", now=datetime.now(UTC))
    revoke_key(ledger, acme.kid, datetime.now(UTC))
    followed()
    assert taken_away(holder) == ({"acme"}, {("acme", "acme-1")})
    set_status(ledger, platform="acme", status="active", now=datetime.now(UTC))
    followed()
    assert taken_away(holder) == (set(), {("acme", "acme-1")})


def taken_away(engine: Engine) -> tuple[set[str], set[tuple[str, str]]]:
    """The platforms that the log suspends, and the keys that it revokes."""
    with engine.begin() as connection:
        revoked = {(row.platform, row.kid) for row in queries.read_log_revocations(connection)}
        return set(queries.read_log_suspensions(connection)), revoked
