"""Snapshots over HTTP: what is served is what the manifest signs, in lengths that tell nothing, while it holds."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import make_url

from ledger.protocol.encoding import b64url, parse_time, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import prefix, tag
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.snapshots.builder import build_and_publish
from ledger.snapshots.buckets import check_bucket, split_answer
from ledger.snapshots.fuse_filter import FuseFilter
from ledger.snapshots.manifest import Manifest, open_manifest
from tests import pg
from tests.api.conftest import ACME, READER, Api, person, running
from tests.conftest import ONE_OF_ENGINES_BY_FILE
from tests.support import Platform, new_ledger

LISTED = [person() for _ in range(6)]
WRITER = Platform("writer", "writer-group", "writer-1", scopes=("report",))
THE_LONG_WAY = [("X-Twice", "1"), ("X-Twice", "2")]
"""A doubled header: the hot path leaves such a request to the route."""


def snapshot(api: Api) -> Manifest:
    """One more snapshot, served when this returns."""
    created = build_and_publish(
        api.settings, api.rt.engine, load_log_key(api.settings), datetime.now(UTC), random_bytes=secrets.token_bytes
    )
    api.publish()
    api.rt.snapshots.refresh()
    return created.manifest


@pytest.fixture(scope="module", params=ONE_OF_ENGINES_BY_FILE)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with a few listed people and a folder of its own for snapshots; none is published yet."""
    folder: Path = tmp_path_factory.mktemp("snapshots")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'ledger.db'}"
    else:
        template = make_url(request.getfixturevalue("postgresql_schema")())
        url = pg.create_database(template, template).render_as_string(False)
    settings = new_ledger(url, folder, snapshots_dir=folder / "snapshots", snapshots_kept=2)
    for platform in (ACME, READER, WRITER):
        platform.enrol(settings)
    with running(settings) as server:
        missing = server.request("GET", "/v1/snapshots/latest", READER)
        assert (missing.status_code, missing.json()["code"]) == (404, "snapshot_unknown")
        for element in LISTED:
            server.report(ACME, [(Kind.PHONE, element)])
        yield server
    if request.param == "postgresql":
        pg.drop_database(url)


@pytest.fixture
def manifest(api: Api) -> Manifest:
    """The manifest of the newest snapshot, made when a test first needs one."""
    answer = api.request("GET", "/v1/snapshots/latest", READER)
    if answer.status_code == 404:
        snapshot(api)
        answer = api.request("GET", "/v1/snapshots/latest", READER)
    latest = answer.json()
    public_key = raw_public(load_log_key(api.settings))
    return open_manifest(latest["manifest"], unb64url(latest["signature"], 64), public_key, api.settings.service)


def get(api: Api, path: str, *more: tuple[str, str], **headers: str) -> httpx2.Response:
    """What READER gets."""
    pairs = [("Authorization", f"Bearer {api.token(READER)}"), *more]
    pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return api.client.get(path, headers=pairs)


def paths(manifest: Manifest) -> dict[str, str]:
    """Where the parts of a snapshot are."""
    base = f"/v1/snapshots/{b64url(manifest.version)}"
    return {
        "latest": "/v1/snapshots/latest",
        "filter": f"{base}/filter",
        "all buckets": f"{base}/buckets.bin",
        "bucket": f"{base}/buckets/00000000",
    }


PARTS = ["latest", "filter", "all buckets", "bucket"]


def test_what_is_served_is_what_the_manifest_signs(api: Api, manifest: Manifest) -> None:
    where = paths(manifest)
    data = get(api, where["filter"]).content
    assert len(data) == manifest.filter_bytes
    local = FuseFilter.open(data, manifest.filter_sha256)
    assert all(tag(Kind.PHONE, element) in local for element in LISTED)
    whole = get(api, where["all buckets"]).content
    assert len(whole) == manifest.buckets_bytes
    latest = get(api, where["latest"]).json()
    assert hashlib.sha256(latest["policy_toml"].encode()).digest() == manifest.policy_sha256
    for element in LISTED:
        number = prefix(tag(Kind.PHONE, element), manifest.bits)
        answer = get(api, where["bucket"][:-8] + f"{number:08x}")
        bucket, path = split_answer(answer.content, manifest)
        check_bucket(bucket, path, number, manifest.version, manifest.bits, manifest.buckets_root)
        assert bucket == whole[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]


def test_all_buckets_answer_alike(api: Api, manifest: Manifest) -> None:
    base = paths(manifest)["bucket"][:-8]
    answers = [get(api, base + f"{number:08x}", X_Request_Id="same") for number in range(2**manifest.bits)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({len(answer.content) for answer in answers}) == 1
    shapes = [{name: len(value) for name, value in item.headers.items() if name != "cache-control"} for item in answers]
    assert all(shape == shapes[0] for shape in shapes)
    assert len({answer.headers["etag"] for answer in answers}) == len(answers)


def test_both_ways_to_a_bucket_are_the_same(api: Api, manifest: Manifest) -> None:
    path = paths(manifest)["bucket"]
    short, long = get(api, path), get(api, path, *THE_LONG_WAY)
    assert short.content == long.content
    assert [name for name, _ in short.headers.raw] == [name for name, _ in long.headers.raw]
    for name in ("etag", "content-type", "content-length", "x-content-type-options"):
        assert short.headers[name] == long.headers[name]
    logged = [json.loads(line) for line in api.logs.getvalue().splitlines()]
    for answer in (short, long):
        end = time.monotonic() + 20
        while not (mine := [line for line in logged if line.get("request_id") == answer.headers["x-request-id"]]):
            assert time.monotonic() < end
            time.sleep(0.01)
            logged = [json.loads(line) for line in api.logs.getvalue().splitlines()]
        shown = mine[0]["route"], mine[0]["platform"], mine[0]["status"]
        assert shown == ("/v1/snapshots/{version}/buckets/{prefix}", "reader", 200)
    assert b64url(manifest.version) not in json.dumps(logged)


@pytest.mark.parametrize("part", PARTS)
def test_who_has_it_already_is_told_so(api: Api, manifest: Manifest, part: str) -> None:
    path = paths(manifest)[part]
    first = get(api, path)
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[A-Za-z0-9_-]+"', etag)
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = get(api, path, If_None_Match=value)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"]
    assert get(api, path, If_None_Match='"other"').content == first.content


@pytest.mark.parametrize("part", PARTS)
def test_how_long_it_may_be_kept(api: Api, manifest: Manifest, part: str) -> None:
    said = get(api, paths(manifest)[part]).headers["cache-control"]
    if part == "latest":
        assert said == "no-cache"
        return
    match = re.fullmatch(r"private, max-age=(\d+), immutable", said)
    assert match
    left = (manifest.not_after - datetime.now(UTC)).total_seconds()
    assert left - 1 <= int(match[1]) <= left + 60


@pytest.mark.parametrize("part", ["filter", "all buckets"])
def test_a_download_can_be_resumed(api: Api, manifest: Manifest, part: str) -> None:
    path = paths(manifest)[part]
    whole = get(api, path)
    rest = get(api, path, Range="bytes=100-", If_Range=whole.headers["etag"])
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert rest.headers["content-range"] == f"bytes 100-{len(whole.content) - 1}/{len(whole.content)}"
    assert get(api, path, Range="bytes=100-", If_Range='"other"').status_code == 200


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("who", "status", "code"),
    [(None, 401, "unauthenticated"), (WRITER, 403, "scope_missing")],
    ids=["nobody", "writer"],
)
def test_it_takes_the_scope(
    api: Api, manifest: Manifest, part: str, who: Platform | None, status: int, code: str
) -> None:
    answer = api.request("GET", paths(manifest)[part], who)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "path",
    [
        "{other}/filter", "{other}/buckets.bin", "{other}/buckets/00000000", "x/filter", "latest/filter",
        "{version}/buckets/{beyond}", "{version}/buckets/ffffffff", "{version}/buckets/0", "{version}/buckets/0000000A",
        "{version}/buckets/+0000001", "{version}/buckets/0x000001", "{version}/buckets/%30%30%30%30%30%30%30%30%30",
        "..%2f/filter", "{version}=/filter",
    ],
)  # fmt: skip
def test_what_is_not_there_is_unknown(api: Api, manifest: Manifest, path: str) -> None:
    names = {
        "other": b64url(secrets.token_bytes(16)),
        "version": b64url(manifest.version),
        "beyond": f"{2**manifest.bits:08x}",
    }
    for more in ((), THE_LONG_WAY):
        answer = get(api, f"/v1/snapshots/{path.format(**names)}", *more)
        assert (answer.status_code, answer.json()["code"]) in [(404, "snapshot_unknown"), (404, "not_found")]
        assert ("%2f" in path) == (answer.json()["code"] == "not_found")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_snapshots_are_only_read(api: Api, manifest: Manifest, method: str) -> None:
    for path in paths(manifest).values():
        answer = api.request(method, path, READER)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


RANGES = {
    "items=0-5": 200,  # RFC 9110 section 14.2: a unit that is not known is ignored
    "bytes=abc": 200,
    "bytes=5-3": 200,
    "bytes=": 200,
    "bytes=0-1,": 200,
    "bytes=" + ",".join(["0-0"] * 9): 200,
    "bytes=0-0": 206,
    "Bytes=1-": 206,
    "bytes=-1": 206,
    "bytes=0-0, 2-2": 206,
    "bytes=99999999-, 0-0": 206,
    "bytes=99999999-": 416,
    "bytes=-0": 416,
}


@pytest.mark.parametrize("asked", RANGES)
def test_ranges_are_answered_or_refused_as_a_problem(api: Api, manifest: Manifest, asked: str) -> None:
    for path in (paths(manifest)["all buckets"], paths(manifest)["filter"]):
        whole = get(api, path)
        answer = get(api, path, Range=asked)
        assert answer.status_code == RANGES[asked]
        if answer.status_code == 200:
            assert answer.content == whole.content
        if answer.status_code == 416:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "range_not_satisfiable"
            assert answer.headers["content-range"] == f"bytes */{len(whole.content)}"
        head = api.request("HEAD", path, READER, headers={"Range": asked})
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))


def test_a_newer_one_becomes_the_latest_and_the_oldest_goes(api: Api, manifest: Manifest) -> None:
    first = manifest
    second, third = snapshot(api), snapshot(api)
    assert get(api, "/v1/snapshots/latest").json()["version"] == b64url(third.version)
    assert get(api, paths(second)["bucket"]).status_code == 200
    for part in ("filter", "all buckets", "bucket"):
        gone = get(api, paths(first)[part])
        assert (gone.status_code, gone.json()["code"]) == (404, "snapshot_unknown")


def test_files_that_vanish_are_unknown_and_buckets_go_on(api: Api) -> None:
    created = snapshot(api)
    shutil.rmtree(api.settings.snapshots_dir / b64url(created.version))
    for part in ("filter", "all buckets"):
        gone = get(api, paths(created)[part])
        assert (gone.status_code, gone.json()["code"]) == (404, "snapshot_unknown")
    assert get(api, paths(created)["bucket"]).status_code == 200
    snapshot(api)  # the other tests of this module want one that is whole


def test_the_manifest_has_the_documented_form(api: Api, manifest: Manifest) -> None:
    value: dict[str, Any] = get(api, "/v1/snapshots/latest").json()
    assert parse_time(value["manifest"]["not_after"]) == manifest.not_after
    assert value["version"] == value["manifest"]["version"]
    schema = api.request("GET", "/openapi.json").json()["components"]["schemas"]
    assert set(schema["LatestSnapshot"]["required"]) == value.keys()
    assert set(schema["Manifest"]["required"]) == value["manifest"].keys()
