"""The public log as served: checkpoint, tiles, entry bundles. Only what the newest checkpoint covers is served."""

from __future__ import annotations

from sqlalchemy import Connection, Engine

from ledger.errors import NotFound
from ledger.server.db.engine import reading
from ledger.server.log import queries as log_store
from ledger.tlog.merkle import TILE_WIDTH, encode_bundle


def checkpoint(engine: Engine) -> str:
    """Return the newest signed checkpoint. Raises NotFound before the first one, DatabaseUnavailable."""
    with reading(engine) as connection:
        published = log_store.latest_checkpoint(connection)
    if published is None:
        raise NotFound("No checkpoint has been published yet.")
    return published.note


def tile(engine: Engine, level: int, index: int, width: int | None) -> bytes:
    """Return the first `width` hashes (None: all 256) of a tile. Raises NotFound beyond the newest checkpoint,
    DatabaseUnavailable."""
    count = width or TILE_WIDTH
    with reading(engine) as connection:
        _check_covered(_published_size(connection) >> (8 * level), index, count)
        data = log_store.read_tile(connection, level, index)
    if data is None or len(data) < count * 32:
        raise NotFound("There is no such tile.")
    return data[: count * 32]


def entries(engine: Engine, index: int, width: int | None) -> bytes:
    """Return an entry bundle of `width` leaves (None: all 256). Raises NotFound beyond the newest checkpoint,
    DatabaseUnavailable."""
    count = width or TILE_WIDTH
    with reading(engine) as connection:
        _check_covered(_published_size(connection), index, count)
        leaves = log_store.read_leaves(connection, index * TILE_WIDTH, index * TILE_WIDTH + count)
    return encode_bundle(leaves)


def _published_size(connection: Connection) -> int:
    published = log_store.latest_checkpoint(connection)
    return 0 if published is None else published.size


def _check_covered(nodes: int, index: int, width: int) -> None:
    """`nodes` is the number of nodes at the tile's level that the checkpoint covers."""
    if index * TILE_WIDTH + width > nodes:
        raise NotFound("There is no such tile in the published log.")
