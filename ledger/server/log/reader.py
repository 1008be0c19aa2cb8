"""The public log as served: checkpoint, tiles, entry bundles. Nothing beyond the newest checkpoint is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ledger.errors import NotFound
from ledger.server.db.engine import reading
from ledger.server.log import queries as log_store
from ledger.tlog.merkle import TILE_WIDTH, encode_bundle

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime


def checkpoint(rt: Runtime) -> str:
    """The newest signed checkpoint. Raises NotFound before the first one."""
    with reading(rt.engine) as connection:
        published = log_store.latest_checkpoint(connection)
    if published is None:
        raise NotFound("No checkpoint has been published yet.")
    return published.note


def tile(rt: Runtime, level: int, index: int, width: int | None) -> bytes:
    """The first `width` hashes (None: all 256) of a tile. Raises NotFound beyond the newest checkpoint."""
    wanted = width or TILE_WIDTH
    with reading(rt.engine) as connection:
        _check_covered(_published_size(connection) >> (8 * level), index, wanted)
        data = log_store.read_tile(connection, level, index)
    if data is None or len(data) < wanted * 32:
        raise NotFound("There is no such tile.")
    return data[: wanted * 32]


def entries(rt: Runtime, index: int, width: int | None) -> bytes:
    """An entry bundle of `width` leaves (None: all 256). Raises NotFound beyond the newest checkpoint."""
    wanted = width or TILE_WIDTH
    with reading(rt.engine) as connection:
        _check_covered(_published_size(connection), index, wanted)
        leaves = log_store.read_leaves(connection, index * TILE_WIDTH, index * TILE_WIDTH + wanted)
    return encode_bundle(leaves)


def _published_size(connection: Connection) -> int:
    published = log_store.latest_checkpoint(connection)
    return 0 if published is None else published.size


def _check_covered(nodes: int, index: int, width: int) -> None:
    """`nodes` is the number of nodes at the tile's level that the checkpoint covers."""
    if index * TILE_WIDTH + width > nodes:
        raise NotFound("There is no such tile in the published log.")
