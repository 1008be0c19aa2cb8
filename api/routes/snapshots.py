"""Snapshots: everything of a version is immutable and may be kept until its end.

Buckets are mostly answered by `api.hotpath`; the route here answers what that one leaves, with the same headers.
"""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.deps import Inquirer, runtime
from api.openapi import Answer, operation
from api.schemas.snapshots import LatestSnapshot
from ledger import errors as e
from ledger.service.runtime import Runtime
from ledger.service.shelf import Shelved, fetch_bucket

router = APIRouter()

BINARY = "application/octet-stream"
_CACHED = {"Cache-Control": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}
_UNCHANGED = Answer("Not modified: `If-None-Match` names what there is.", media_type="", headers=_CACHED)
_PART = Answer("The asked `Range` of it.", media_type=BINARY, binary=True, headers=_CACHED)

Version = Annotated[str, Path(description="The version, as `latest` gives it.", examples=["A" * 22])]
Prefix = Annotated[str, Path(description="The bucket's number, 8 hexadecimal digits.", examples=["00000abc"])]


@router.get(
    "/v1/snapshots/latest",
    **operation(
        "getLatestSnapshot",
        "The newest snapshot's manifest, with proofs",
        "snapshots",
        {200: Answer("Manifest, signature, log entry and policy.", LatestSnapshot, headers=_CACHED), 304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)
async def get_latest(request: Request, member: Inquirer) -> Response:
    """404 before the first one, and while the newest is past its end."""
    one = runtime(request).shelf.latest()
    headers = {"Cache-Control": "no-cache", "ETag": one.latest_etag}
    if is_known(request, one.latest_etag):
        return Response(status_code=304, headers=headers)
    return Response(one.latest, media_type="application/json", headers=headers)


@router.get(
    "/v1/snapshots/{version}/filter",
    **operation(
        "getSnapshotFilter",
        "The local filter",
        "snapshots",
        {200: Answer("A binary fuse filter.", media_type=BINARY, binary=True, headers=_CACHED), 206: _PART,
         304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)  # fmt: skip
def get_filter(request: Request, member: Inquirer, version: Version) -> Response:
    """All listed tags as a filter, to be checked against the manifest before it is opened. `Range` is answered."""
    rt = runtime(request)
    one = rt.shelf.find(version)
    return _file(request, rt, one, one.filter_path, f'"{one.name}-filter"')


@router.get(
    "/v1/snapshots/{version}/buckets.bin",
    **operation(
        "getSnapshotBuckets",
        "All buckets",
        "snapshots",
        {200: Answer("The buckets in the order of their prefixes.", media_type=BINARY, binary=True, headers=_CACHED),
         206: _PART, 304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)  # fmt: skip
def get_buckets(request: Request, member: Inquirer, version: Version) -> Response:
    """For whoever asks about nobody in particular. `Range` is answered."""
    rt = runtime(request)
    one = rt.shelf.find(version)
    return _file(request, rt, one, one.buckets_path, f'"{one.name}-buckets"')


@router.get(
    "/v1/snapshots/{version}/buckets/{prefix}",
    **operation(
        "getSnapshotBucket",
        "One bucket",
        "snapshots",
        {200: Answer("The bucket, then its path in the tree of buckets; of one length for all buckets of a version.",
                     media_type=BINARY, binary=True, headers=_CACHED),
         304: _UNCHANGED},
        scopes=("lookup",),
        raises=(e.SnapshotUnknown,),
    ),
)  # fmt: skip
async def get_bucket(request: Request, member: Inquirer, version: Version, prefix: Prefix) -> Response:
    """The service learns the prefix: some bits of a tag."""
    rt = runtime(request)
    one, body = fetch_bucket(rt, member, version, prefix)
    headers = bucket_headers(rt, one, prefix)
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=BINARY, headers=headers)


def bucket_headers(rt: Runtime, one: Shelved, prefix: str) -> dict[str, str]:
    """Headers of the answer with bucket `prefix`."""
    return _immutable(rt, one, f'"{one.name}-{prefix}"')


def _immutable(rt: Runtime, one: Shelved, etag: str) -> dict[str, str]:
    """Headers of what never changes and is good until the snapshot's end."""
    return {"Cache-Control": f"private, max-age={rt.shelf.seconds_left(one)}, immutable", "ETag": etag}


def _file(request: Request, rt: Runtime, one: Shelved, path: FilePath, etag: str) -> Response:
    headers = _immutable(rt, one, etag)
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise e.SnapshotUnknown("This snapshot is not served any more. Fetch the latest.") from error
    return FileResponse(path, media_type=BINARY, headers=headers, stat_result=found)


def is_known(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names `etag` (RFC 9110 section 13.1.2)."""
    named = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return etag in named or "*" in named
