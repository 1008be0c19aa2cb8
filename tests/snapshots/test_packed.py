"""The short way from reports to packed events, which builders of snapshots take, gives what the long one gives."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger.protocol.encoding import from_day
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import shipped_version
from ledger.rules.standing import Event
from ledger.snapshots.private_standing import sealed_format, to_packed
from ledger.snapshots.sealed import pack_event, seal, seal_packed, snapshot_keys
from tests.snapshots.entries import to_sealed

TODAY = 20_780
AS_OF = from_day(TODAY) + timedelta(hours=10)
KEYS = snapshot_keys(bytes(32), bytes(16))

events = st.builds(
    Event,
    report_id=st.integers(0, 2**53),
    act_id=st.integers(0, 2**53),
    control_group=st.sampled_from(["east", "west", "north"]),
    conduct=st.sampled_from(list(Conduct)),
    act_day=st.integers(TODAY - 1100, TODAY),
    effective_hour=st.integers(TODAY * 24 - 9000, TODAY * 24 + 34),
    expires_day=st.integers(TODAY, TODAY + 3),
    matched=st.just(frozenset()),
    disputed=st.booleans(),
    unconfirmed=st.booleans(),
    restituted=st.booleans(),
    has_statement=st.booleans(),
)
weights = st.dictionaries(st.sampled_from(["east", "west", "south"]), st.integers(0, 4))


@given(st.sampled_from([1, 2]), st.lists(events, min_size=1, max_size=9), weights, st.binary(min_size=32, max_size=32))
def test_both_ways_give_the_same_entries(
    version: int, shown: list[Event], quarters: dict[str, int], tag: bytes
) -> None:
    policy = shipped_version(version)[1]
    weighing = {group: 10 * weight for group, weight in quarters.items()}
    told_long = to_sealed(shown, weighing, policy, KEYS, tag, AS_OF)
    packed = to_packed(shown, weighing, policy, KEYS, tag, AS_OF)
    assert sealed_format(policy) == version
    assert packed == [pack_event(event) for event in told_long]
    form = sealed_format(policy)
    assert seal_packed(tag, "phone", bytes(16), 3, packed, form) == seal(tag, "phone", bytes(16), 3, told_long)
