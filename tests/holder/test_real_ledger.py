"""A holder follows the log that the ledger's own code writes and serves: genesis, refresh, rotation, and what it takes
away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from ledger.client.verify.log import Fetch
from ledger.errors import AlreadyExists, TokenUsed
from ledger.holder import admission, queries
from ledger.holder.database import open_holder_database
from ledger.holder.log_follower import LogFollower
from ledger.holder.settings import HolderSettings
from ledger.holder.state import HolderSnapshot, read_snapshot
from ledger.server.db.engine import open_engine
from ledger.server.log import reader
from ledger.server.platforms.members import revoke_key, set_status
from ledger.server.rotation.sharings import append_sharing, publish_sharing
from ledger.tlog.merkle import parse_tile_path
from tests.sharing import copied_shared_ledger
from tests.support import Platform, publish


@pytest.fixture
def holder(database_url: str) -> Iterator[Engine]:
    """The database of a holder, on each engine; that of the ledger is SQLite here."""
    engine = open_holder_database(HolderSettings(database_url=database_url))
    yield engine
    engine.dispose()


def fetch_from(engine: Engine) -> Fetch:
    """What the ledger's API answers below /log/."""

    def fetch(path: str) -> bytes:
        if path == "checkpoint":
            return reader.checkpoint(engine).encode()
        _, index, width = parse_tile_path("entries", path.removeprefix("tile/entries/"))
        return reader.entries(engine, index, width)

    return fetch


def test_a_holder_follows_the_ledgers_own_log(tmp_path: Path, holder: Engine) -> None:
    settings, holders, first = copied_shared_ledger(f"sqlite:///{tmp_path / 'the-ledger.db'}", tmp_path)
    ledger = open_engine(settings.database_url)
    acme, now = Platform("acme", "acme-group", "acme-1").join(ledger), datetime.now(UTC)
    follower = LogFollower(holder, holders.card, fetch_from(ledger), lambda: now)

    def followed() -> HolderSnapshot:
        publish(settings)
        follower.follow()
        return read_snapshot(holder)

    assert [seen.statement.canonical for seen in followed().statements] == [first.statement.canonical]
    publish_sharing(settings, ledger, holders.refresh().sharing, now)
    with ledger.begin() as connection:
        append_sharing(connection, settings, holders.rotate().sharing, now)
    snapshot = followed()
    assert [(seen.statement.epoch, seen.generation) for seen in snapshot.statements] == [(1, 1), (1, 2), (2, 1)]
    assert snapshot.refused_statements == {}
    assert snapshot.head is not None
    assert (snapshot.head.fault, snapshot.head.current_epoch, snapshot.head.next_epoch) == (None, 1, 2)
    set_status(ledger, platform="acme", status="suspended", now=now)
    revoke_key(ledger, acme.kid, now)
    followed()
    assert taken_away(holder) == ({"acme"}, {("acme", "acme-1")})
    set_status(ledger, platform="acme", status="active", now=now)
    followed()
    assert taken_away(holder) == (set(), {("acme", "acme-1")})
    ledger.dispose()


def test_the_holders_people_admit_and_take_away_on_both_engines(holder: Engine) -> None:
    now = datetime.now(UTC)
    keys = [Ed25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(3)]
    first = {"platform": "acme", "control_group": "east", "kid": "k1", "now": now}
    assert admission.admit_platform(holder, public_key=keys[0], daily_elements=5, **first).new_platform  # type: ignore[arg-type]
    new: dict[str, Any] = {"platform": "acme", "kid": "k2", "public_key": keys[1], "endorsed_by": "k1", "now": now}
    assert admission.endorse_key(holder, token=(bytes(32), 1), **new)
    with pytest.raises(TokenUsed):
        admission.endorse_key(holder, token=(bytes(32), 1), **new)
    assert not admission.endorse_key(holder, token=(bytes(31) + b"x", 1), **new)
    with pytest.raises(AlreadyExists):
        admission.endorse_key(holder, token=(bytes(31) + b"y", 1), **{**new, "kid": "k3", "public_key": keys[0]})
    admission.endorse_key(holder, token=(bytes(31) + b"y", 1), **{**new, "kid": "k3", "public_key": keys[2]})
    admission.revoke_key(holder, platform="acme", kid="k2", now=now)
    admission.set_suspension(holder, platform="acme", suspended=True, now=now)
    admission.set_daily_budget(holder, control_group="east", daily_elements=None)
    snapshot = read_snapshot(holder)
    assert snapshot.members["acme"].suspended
    assert [key.revoked for key in snapshot.keys.values()] == [False, True, False]
    assert snapshot.daily_elements == {"east": None}


def taken_away(engine: Engine) -> tuple[set[str], set[tuple[str, str]]]:
    """The platforms that the log suspends, and the keys that it revokes."""
    with engine.begin() as connection:
        revoked = {(row.platform, row.kid) for row in queries.read_log_revocations(connection)}
        return set(queries.read_log_suspensions(connection)), revoked
