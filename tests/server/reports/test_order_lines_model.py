"""Random histories of a liar, another group, a person and staff: no sequence of the reporter's own acts makes the same
matter count again, lengthens an expiry, skips a cooling or undoes a restitution."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.server.conftest import LedgerFixture
from tests.server.reports.line_model import Story, play

PLAYED = (Phase.explicit, Phase.reuse, Phase.generate)
"""Making a failing history shorter takes minutes: each step is several transactions."""

STEPS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 10**7)), min_size=6, max_size=14)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
@settings(
    max_examples=3, phases=PLAYED, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_whatever_the_reporter_does_what_was_contested_stays_so(
    ledger: LedgerFixture, steps: list[tuple[int, int]]
) -> None:
    play(ledger, steps)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_the_model_can_find_a_lie(ledger: LedgerFixture) -> None:
    story: Story = play(ledger, [(0, 0), (4, 0)])
    (lie,) = story.lies
    lie.cases, lie.held = [*lie.cases], True
    with pytest.raises(AssertionError):
        matters = {lie.order: "open"}
        story._check_recorded(lie, {"effective_from": "2000-01-01T00:00:00Z"}, matters)
