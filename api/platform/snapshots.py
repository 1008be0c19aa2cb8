"""Routes of snapshots. All files of a version are immutable and may be cached until its end.

`api.fast_path` answers most requests for buckets; the route here answers the others, with the same headers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from api.deps import Inquirer, runtime
from api.errors import RangeNotSatisfiable
from api.middleware import HEAD
from api.openapi import Success, operation
from api.platform.snapshot_schemas import LatestSnapshot
from ledger import errors as e
from ledger.server.runtime import Runtime
from ledger.server.snapshots.served import ServedSnapshot

router = APIRouter()

BINARY = "application/octet-stream"
_CACHED = {"Cache-Control": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}
_UNCHANGED = Success("Not modified: `If-None-Match` names what there is.", media_type="", headers=_CACHED)
_PART = Success("The asked `Range` of it.", media_type=BINARY, binary=True, headers=_CACHED)

Version = Annotated[str, Path(description="The version, as `latest` gives it.", examples=["A" * 22])]
Prefix = Annotated[str, Path(description="The bucket's number, 8 hexadecimal digits.", examples=["00000abc"])]


@router.get(
    "/v1/snapshots/latest",
    **operation(
        "getLatestSnapshot",
        "The newest snapshot's manifest, with proofs",
        "snapshots",
        {200: Success("Manifest, signature, log entry and policy.", LatestSnapshot, headers=_CACHED), 304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)
async def get_latest(request: Request, member: Inquirer) -> Response:
    """404 before the first snapshot, and after the end of the newest."""
    served = runtime(request).snapshots.latest()
    headers = {"Cache-Control": "no-cache", "ETag": served.latest_etag}
    if is_known(request, served.latest_etag):
        return Response(status_code=304, headers=headers)
    return Response(served.latest, media_type="application/json", headers=headers)


@router.get(
    "/v1/snapshots/{version}/filter",
    **operation(
        "getSnapshotFilter",
        "The local filter",
        "snapshots",
        {200: Success("A binary fuse filter.", media_type=BINARY, binary=True, headers=_CACHED), 206: _PART,
         304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown, RangeNotSatisfiable),
    ),
)  # fmt: skip
def get_filter(request: Request, member: Inquirer, version: Version) -> Response:
    """All listed tags as a filter. Check it against the manifest before you open it. `Range` is supported."""
    rt = runtime(request)
    served = rt.snapshots.find(version)
    return _file(request, rt, served, served.filter_path, f'"{served.name}-filter"')


@router.get(
    "/v1/snapshots/{version}/buckets.bin",
    **operation(
        "getSnapshotBuckets",
        "All buckets",
        "snapshots",
        {200: Success("The buckets in the order of their prefixes.", media_type=BINARY, binary=True, headers=_CACHED),
         206: _PART, 304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown, RangeNotSatisfiable),
    ),
)  # fmt: skip
def get_buckets(request: Request, member: Inquirer, version: Version) -> Response:
    """All buckets in one file. A download reveals no tag to the service. `Range` is supported."""
    rt = runtime(request)
    served = rt.snapshots.find(version)
    return _file(request, rt, served, served.buckets_path, f'"{served.name}-buckets"')


@router.get(
    "/v1/snapshots/{version}/buckets/{prefix}",
    **operation(
        "getSnapshotBucket",
        "One bucket",
        "snapshots",
        {200: Success("The bucket, then its path in the tree of buckets; of one length for all buckets of a version.",
                      media_type=BINARY, binary=True, headers=_CACHED),
         304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)  # fmt: skip
async def get_bucket(request: Request, member: Inquirer, version: Version, prefix: Prefix) -> Response:
    """The request reveals the prefix: some bits of a tag."""
    rt = runtime(request)
    served, body = rt.snapshots.fetch_bucket(member, version, prefix)
    headers = bucket_headers(rt, served, prefix)
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=BINARY, headers=headers)


def bucket_headers(rt: Runtime, served: ServedSnapshot, prefix: str) -> dict[str, str]:
    """Return the headers of the answer with bucket `prefix`."""
    return _immutable(rt, served, f'"{served.name}-{prefix}"')


def _immutable(rt: Runtime, served: ServedSnapshot, etag: str) -> dict[str, str]:
    """Return the headers of a file that never changes and is valid until the snapshot's end."""
    return {"Cache-Control": f"private, max-age={rt.snapshots.seconds_left(served)}, immutable", "ETag": etag}


def _file(request: Request, rt: Runtime, served: ServedSnapshot, path: FilePath, etag: str) -> Response:
    headers = _immutable(rt, served, etag)
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise e.SnapshotUnknown("This snapshot is not served any more. Fetch the latest.") from error
    if request.scope["state"].get(HEAD):
        sizes = {"Content-Length": str(status.st_size), "Accept-Ranges": "bytes", "Content-Type": BINARY}
        return Response(status_code=200, headers={**headers, **sizes})
    return _RangedFile(path, asked_ranges(request, status.st_size), headers, status)


class _RangedFile(FileResponse):
    """An answer with `ranges` of a file: the value of a checked `Range` header, None for the whole file."""

    def __init__(self, path: FilePath, ranges: str | None, headers: dict[str, str], status: os.stat_result) -> None:
        super().__init__(path, media_type=BINARY, headers=headers, stat_result=status)
        self._ranges = ranges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        kept = [(name, value) for name, value in scope["headers"] if name != b"range"]
        if self._ranges is not None:
            kept.append((b"range", self._ranges.encode("ascii")))
        await super().__call__({**scope, "headers": kept}, receive, send)


def asked_ranges(request: Request, size_bytes: int) -> str | None:
    """Return the part of a file that the request's `Range` names, as a header's value; None for all of it.

    A unit that is not bytes, a value that is not well-formed, more than `MAX_RANGES` ranges and a repeated header are
    ignored (RFC 9110 section 14.2). Raises RangeNotSatisfiable if no range begins within the file.
    """
    values = request.headers.getlist("range")
    match = _RANGES.match(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    kept = []
    for part in match[1].split(","):
        first, _, last = part.strip().partition("-")
        if first and last and int(first) > int(last):
            return None
        if (first and int(first) < size_bytes) or (not first and int(last) > 0 and size_bytes > 0):
            kept.append(f"{first}-{last}")
    if not kept:
        raise RangeNotSatisfiable("No asked range begins within the file.", size_bytes=size_bytes)
    return f"bytes={','.join(kept)}"


MAX_RANGES = 8
_RANGE = r"[ \t]*(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})[ \t]*"
_RANGES = re.compile(rf"[ \t]*bytes=({_RANGE}(?:,{_RANGE}){{0,{MAX_RANGES - 1}}})\Z", re.ASCII | re.IGNORECASE)


def is_known(request: Request, etag: str) -> bool:
    """True if `If-None-Match` names `etag` (RFC 9110 section 13.1.2)."""
    named = [
        etag_value.strip().removeprefix("W/") for etag_value in request.headers.get("if-none-match", "").split(",")
    ]
    return etag in named or "*" in named
