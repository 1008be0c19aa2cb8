"""`/metrics` answers requests with the operator's token only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import ACME, running
from tests.support import new_ledger

TOKEN = "operators-metrics-token"


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


def test_only_the_operators_token_opens_it(tmp_path: Path, folder_url: str) -> None:
    settings = new_ledger(folder_url, tmp_path, metrics_token=TOKEN)
    ACME.enrol(settings)
    with running(settings) as api:
        assert api.client.get("/metrics").status_code == 401
        refused = api.request("GET", "/metrics", ACME)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        wrong = {"Authorization": f"Bearer {TOKEN}x"}
        assert api.client.get("/metrics", headers=wrong).status_code == 401
        answer = api.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "refund_ledger_log_entries 3.0" in answer.text.splitlines()
        assert TOKEN not in api.logs.getvalue().decode()


def test_without_a_token_there_is_nothing(tmp_path: Path, folder_url: str) -> None:
    with running(new_ledger(folder_url, tmp_path)) as api:
        answer = api.client.get("/metrics", headers={"Authorization": "Bearer None"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
