"""The public log: checkpoint, tiles and entry bundles (C2SP tlog-checkpoint, tlog-tiles). No token is needed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from api.openapi import Success, operation
from ledger import errors as e
from ledger.server.log import reader as log
from ledger.tlog.merkle import parse_tile_path

router = APIRouter()

BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
_FOREVER = "public, max-age=31536000, immutable"
"""A tile of a given width never changes: a wider one has another name."""

_CACHE_CONTROL = {"Cache-Control": {"schema": {"type": "string"}}}
_ERRORS = (e.NotFound, e.DatabaseUnavailable)

Level = Annotated[str, Path(description="0 is next to the leaves.", examples=["0"])]
TilePath = Annotated[
    str,
    Path(description="Index in groups of three digits, and the width of a partial tile.", examples=["x001/067.p/5"]),
]


@router.get(
    "/log/checkpoint",
    **operation(
        "getCheckpoint",
        "The newest signed checkpoint",
        "log",
        {200: Success("A signed note.", media_type=TEXT, headers=_CACHE_CONTROL)},
        raises=_ERRORS,
    ),
)
def get_checkpoint(request: Request) -> Response:
    """404 before the first checkpoint."""
    return Response(log.checkpoint(runtime(request).engine), media_type=TEXT, headers={"Cache-Control": "no-cache"})


@router.get(
    "/log/tile/entries/{path:path}",
    **operation(
        "getEntries",
        "An entry bundle: up to 256 public leaves",
        "log",
        {200: Success("Each leaf after its 16-bit length.", media_type=BINARY, binary=True, headers=_CACHE_CONTROL)},
        raises=_ERRORS,
    ),
)
def get_entries(request: Request, path: TilePath) -> Response:
    """404 beyond the newest checkpoint."""
    _, index, width = _place("entries", path)
    return _immutable(log.entries(runtime(request).engine, index, width))


@router.get(
    "/log/tile/{level}/{path:path}",
    **operation(
        "getTile",
        "A Merkle tile: up to 256 hashes",
        "log",
        {200: Success("Hashes of 32 bytes.", media_type=BINARY, binary=True, headers=_CACHE_CONTROL)},
        raises=_ERRORS,
    ),
)
def get_tile(request: Request, level: Level, path: TilePath) -> Response:
    """404 beyond the newest checkpoint."""
    number, index, width = _place(level, path)
    return _immutable(log.tile(runtime(request).engine, number, index, width))


def _place(level: str, path: str) -> tuple[int, int, int | None]:
    try:
        number, index, width = parse_tile_path(level, path)
    except e.InvalidTile as error:
        raise e.NotFound("This is not the name of a tile.") from error
    return (0 if number == "entries" else number), index, width


def _immutable(data: bytes) -> Response:
    return Response(data, media_type=BINARY, headers={"Cache-Control": _FOREVER})
