"""A ledger whose key several holders share, over HTTP: it names the holders and evaluates nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from ledger.server.rotation.sharings import publish_sharing
from tests.api.conftest import ACME, Api, running
from tests.sharing import NAMES, Holders, shared_ledger

BLINDED = {"epoch": 1, "blinded": [b64url(voprf.hash_to_group(b"somebody"))]}


@pytest.fixture
def shared(migrated_url: str, tmp_path: Path) -> Iterator[tuple[Api, Holders]]:
    settings, holders, _ = shared_ledger(migrated_url, tmp_path)
    ACME.enrol(settings)
    with running(settings) as api:
        yield api, holders


def test_the_holders_are_named_and_followed_without_a_restart(shared: tuple[Api, Holders]) -> None:
    api, holders = shared
    refused = api.request("POST", "/v1/oprf/evaluate", ACME, json=BLINDED)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["generation"]) == (409, "evaluated_by_holders", 1)
    assert problem["holders"] == [
        {"id": name, "index": index, "url": f"https://{name}.example"} for index, name in enumerate(NAMES, 1)
    ]
    stale = api.request("POST", "/v1/oprf/evaluate", ACME, json={**BLINDED, "epoch": 2}).json()
    assert stale["code"] == "stale_epoch"
    made = holders.refresh()
    index = publish_sharing(api.settings, api.rt.engine, made.sharing, api.rt.now()).entry_index
    api.rt.members.refresh()
    (epoch,) = api.request("GET", "/v1/suite").json()["epochs"]
    assert (epoch["generation"], epoch["threshold"], epoch["entry_index"]) == (2, 2, index)
    assert epoch["public_key"] == b64url(made.statement.keys.public_key)
    assert [holder["public_key"] for holder in epoch["holders"]] == [
        b64url(holder.key.public_key) for holder in made.statement.holders
    ]
    ready = api.request("GET", "/readyz").json()
    assert ready["keys"] == {"epoch": 1, "generation": 2, "threshold": 2, "holders": 3}
    assert api.request("POST", "/v1/oprf/evaluate", ACME, json=BLINDED).json()["generation"] == 2
