"""Random histories in which reporters, platforms that file for the person, the person, reviewers and time act on
several reports at once (`case_model`): orders stay as decided, no other party uses up a right of the person, and the
projections are what the log says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.appeals.case_model import Everyone, Own, play
from tests.server.conftest import LedgerFixture
from tests.server.reports.test_order_lines_model import PLAYED

STEPS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 10**7)), min_size=6, max_size=12)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
@settings(
    max_examples=2, phases=PLAYED, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_whoever_acts_no_order_counts_again_and_no_right_is_used_up(
    ledger: LedgerFixture, steps: list[tuple[int, int]]
) -> None:
    play(ledger, steps)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_the_model_can_find_a_lost_right(ledger: LedgerFixture) -> None:
    story: Everyone = play(ledger, [])
    last = len(story.lies) - 1  # the others were replaced
    story.own[story.lies[last].id] = Own("decided")
    with pytest.raises(AssertionError):
        story.check()
    with pytest.raises(AssertionError):
        story.contest(last)
