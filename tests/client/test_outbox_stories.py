"""Whatever an outbox holds, whenever the ledger is away, whenever the process is killed: all that can be delivered is
delivered once, everything else is refused or parked with its error, and nothing waits behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.client.report_server import KINDS, Stage, Story, stage


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("stories")) as stage_used:
        yield stage_used


STORIES = st.builds(
    Story,
    items=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=9),
    faults=st.dictionaries(st.integers(0, 20), st.sampled_from(["before", "after"]), max_size=4),
    lives=st.lists(st.integers(0, 60), max_size=3),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORIES)
@example(story=Story([("withdraw unknown", True), ("new", True), ("new", False), ("withdraw", False)], {}, []))
@example(story=Story([(kind, old) for kind in KINDS for old in (True, False)], {5: "after"}, [7, 30, 60]))
def test_nothing_blocks_or_loses_anything_else(played: Stage, story: Story) -> None:
    played.play(story)


@pytest.mark.parametrize("life", range(0, 60, 6))
def test_a_process_may_be_killed_at_any_step(played: Stage, life: int) -> None:
    items = [("new", False), ("lost answer", True), ("withdraw unknown", True), ("refused", False), ("new", True)]
    played.play(Story([*items, ("withdraw", True), ("restitution", False), ("disputed", True)], {}, [life, life]))
