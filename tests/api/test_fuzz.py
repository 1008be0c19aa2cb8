"""No request gets a 500, an empty answer, or a failure of another form, whatever is in it; on both engines. `make soak`
sends many more."""

from __future__ import annotations

import pytest

from api.console import login_queue
from ledger.server.staff import passwords
from tests.api.conftest import Api
from tests.api.fuzz import Visitors, fuzz
from tests.counts import trials
from tests.staffing import cheap

EXAMPLES = trials(80, 120)


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)
    monkeypatch.setattr(login_queue, "ANSWER_SECONDS", 0.01)


@pytest.mark.both_engines
def test_every_request_is_answered(api: Api) -> None:
    counts = fuzz(Visitors(api), EXAMPLES)
    assert sum(counts.values()) >= EXAMPLES
    assert {200, 401, 404, 422} <= counts.keys(), counts
