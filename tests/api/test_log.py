"""The public log over HTTP: what is served is what the checkpoint signs, and nothing beyond it."""

from __future__ import annotations

import pytest

from ledger.protocol.encoding import unb64url
from ledger.protocol.identifiers import Kind
from ledger.server.keys.files import load_log_key, raw_public
from ledger.tlog.checkpoint import open_checkpoint
from ledger.tlog.merkle import decode_bundle, leaf_hash
from tests.api.conftest import ACME, Api, person
from tests.oracles import root_of


def test_tiles_and_entries_are_what_the_checkpoint_signs(api: Api) -> None:
    api.report(ACME, [(Kind.PHONE, person())])
    api.publish()
    checkpoint = api.request("GET", "/log/checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "no-cache"
    opened = open_checkpoint(checkpoint.text, api.settings.origin, raw_public(load_log_key(api.settings)))
    size = opened.size
    bundle = api.request("GET", f"/log/tile/entries/000.p/{size}")
    assert bundle.headers["content-type"] == "application/octet-stream"
    assert "immutable" in bundle.headers["cache-control"]
    leaves = decode_bundle(bundle.content)
    tile = api.request("GET", f"/log/tile/0/000.p/{size}").content
    assert tile == b"".join(leaf_hash(leaf) for leaf in leaves)
    assert root_of([leaf_hash(leaf) for leaf in leaves]) == opened.root


def test_nothing_beyond_the_checkpoint_is_shown(api: Api) -> None:
    api.publish()
    size = int(api.request("GET", "/log/checkpoint").text.splitlines()[1])
    api.report(ACME, [(Kind.PHONE, person())])
    for path in (f"/log/tile/0/000.p/{size + 1}", f"/log/tile/entries/000.p/{size + 1}", "/log/tile/0/000"):
        answer = api.request("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "name",
    [
        "0/0",
        "0/0000",
        "0/x000/000",
        "00/000",
        "-1/000",
        "64/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/",
        "0/%00",
        "0/..%2f..",
        "entries/x",
        "entries/",
        "x/000",
        "9999999999/000",
        "0/x999/x999/x999/x999/x999/x999/999",
    ],
)
def test_only_one_name_for_each_tile(api: Api, name: str) -> None:
    answer = api.request("GET", f"/log/tile/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_suite_needs_no_token_and_names_the_keys(api: Api) -> None:
    suite = api.request("GET", "/v1/suite").json()
    assert suite["service"] == api.settings.service
    assert suite["log"]["origin"] == api.settings.origin
    assert len(unb64url(suite["epochs"][0]["holders"][0]["public_key"], 32)) == 32
