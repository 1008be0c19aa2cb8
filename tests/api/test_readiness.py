"""What /readyz says when something is wrong, and that reads go on while the log is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import writing
from ledger.server.log import queries as log_store
from tests.api.conftest import ACME, Api, person, running
from tests.processes import until
from tests.support import new_ledger


@pytest.fixture
def own(migrated_url: str, tmp_path: Path) -> Iterator[Api]:
    """A server that a test may break."""
    settings = new_ledger(migrated_url, tmp_path)
    ACME.enrol(settings)
    with running(settings) as api:
        yield api


def until_ready(own: Api) -> dict[str, Any]:
    """The answer of `/readyz` once the filter is built."""
    return dict(
        until(lambda: (response := own.request("GET", "/readyz")).status_code == 200 and response.json(), "not ready")
    )


def test_a_frozen_log_refuses_writes_and_keeps_reading(own: Api) -> None:
    kept = own.report(ACME, [(Kind.PHONE, person())]).json()
    own.publish()
    with writing(own.rt.engine) as connection:
        log_store.set_frozen(connection, "test")
    own.rt.heartbeat.read()
    ready = until_ready(own)
    assert (ready["status"], ready["log"]) == ("ready", "frozen"), "lookups go on"
    writes = own.request("GET", "/readyz/write")
    assert (writes.status_code, writes.json()["status"], writes.json()["log"]) == (503, "not_ready", "frozen")
    refused = own.report(ACME, [(Kind.PHONE, person())])
    assert (refused.status_code, refused.json()["code"]) == (503, "log_frozen")
    assert int(refused.headers["retry-after"]) > 0
    assert own.request("GET", "/healthz").status_code == 200
    assert own.request("GET", f"/v1/reports/{kept['id']}", ACME).status_code == 200
    assert own.request("GET", kept["receipt_url"], ACME).status_code == 200
    assert own.request("GET", "/log/checkpoint").status_code == 200
    lookup = own.request("POST", "/v1/lookups", ACME, json=own.lookup_body((Kind.PHONE, person())))
    assert lookup.status_code == 200


def test_a_stopped_appender_is_not_ready(own: Api) -> None:
    own.rt.sequencer.close()
    ready = own.request("GET", "/readyz/write")
    assert (ready.status_code, ready.json()["checks"]["appender"]) == (503, "stopped")
    assert until_ready(own)["checks"]["appender"] == "stopped", "lookups do not need it"
    refused = own.report(ACME, [(Kind.PHONE, person())])
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


def test_a_stopped_lookup_desk_is_not_ready(own: Api) -> None:
    own.rt.lookups.close()
    ready = own.request("GET", "/readyz")
    assert (ready.status_code, ready.json()["checks"]["lookups"]) == (503, "stopped")
    assert own.request("GET", "/readyz/write").status_code == 200, "reports are still taken"
    lookup = own.request("POST", "/v1/lookups", ACME, json=own.lookup_body((Kind.PHONE, person())))
    assert (lookup.status_code, lookup.json()["code"]) == (503, "unavailable")
