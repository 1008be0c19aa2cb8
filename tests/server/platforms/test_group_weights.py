"""Weights of control groups: computed once a UTC day from the decisions before its midnight, or at once under the first
policy, in ledgers that began with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event

from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.deadlines import window_start
from ledger.rules.policy.shipped import shipped_version
from ledger.rules.policy.values import Policy
from ledger.rules.standing import group_weight
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.tables.appeals import CaseOutcome
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.group_weights import COUNTED_FOR, WeightTable, read_weight_table, weights_at
from ledger.server.platforms.members import add_platform, set_status
from ledger.server.records import case_queries as store
from tests.counts import trials
from tests.server.conftest import LedgerSeed

pytestmark = pytest.mark.one_engine

FIRST, SECOND = (shipped_version(version)[1] for version in (1, 2))
NOON = datetime(2030, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GROUPS = ("acme-group", "bolt-group")


@pytest.fixture
def engine(database_url: str, seed: LedgerSeed, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(seed.copy_to(database_url, tmp_path).database_url, pool_size=2)
    yield engine
    engine.dispose()


def weights(engine: Engine, policy: Policy, now: datetime) -> dict[str, int]:
    with reading(engine) as connection:
        return weights_at(connection, policy, now)


def decide(engine: Engine, report: int, group: str, counts_as: str, at: datetime) -> None:
    with writing(engine) as connection:
        store.put_outcome(connection, report, "p", group, counts_as, at)


histories = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 11, 13, 24, 26, 24 * 400, 24 * 731]),  # hours since the decision before
        st.integers(0, 3),
        st.sampled_from(["upheld", "amended", "overturned", "nothing"]),
    ),
    max_size=12,
)


@settings(
    max_examples=trials(15, 500), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(histories)
def test_a_weight_rests_on_what_stood_at_midnight(engine: Engine, history: list[tuple[int, int, str]]) -> None:
    """A new decision about the same report changes nothing before the end of the day; from the next day on only the new
    one counts."""
    with writing(engine) as connection:
        connection.execute(delete(CaseOutcome))
    decisions: list[tuple[datetime, int, str]] = []
    now = NOON
    for hours, report, counts_as in history:
        now += timedelta(hours=hours)
        decisions.append((now, report, counts_as))
        decide(engine, report, GROUPS[report % 2], counts_as, now)
        for moment in (now, from_day(day_floor(now) + 1)):
            midnight = from_day(day_floor(moment))
            last = {report: (at, how) for at, report, how in decisions if at < midnight}
            expected = {}
            for number, group in enumerate(GROUPS):
                counted = [
                    how
                    for report, (at, how) in last.items()
                    if report % 2 == number and at > window_start(midnight, 24) and how != "nothing"
                ]
                expected[group] = group_weight(len(counted), counted.count("overturned"), SECOND)
            assert weights(engine, SECOND, moment) == expected


def test_a_weight_moves_once_a_day_and_by_whole_eighths(engine: Engine) -> None:
    seen = []
    for hour in range(0, 72, 3):
        now = from_day(day_floor(NOON)) + timedelta(hours=hour)
        decide(engine, hour, "acme-group", "overturned", now)
        seen.append(weights(engine, SECOND, now)["acme-group"])
    assert [len(set(seen[day * 8 : day * 8 + 8])) for day in range(3)] == [1, 1, 1]
    assert seen[::8] == [40, 20, 15]
    assert all(weight % 5 == 0 for weight in seen)


def test_under_the_first_policy_weights_are_the_stored_twentieths(engine: Engine) -> None:
    with writing(engine) as connection:
        store.set_weight(connection, "acme-group", 18)
    decide(engine, 1, "acme-group", "overturned", NOON)
    assert weights(engine, FIRST, NOON) == {"acme-group": 36, "bolt-group": 40}
    assert weights(engine, SECOND, NOON) == {"acme-group": 40, "bolt-group": 40}
    assert weights(engine, SECOND, NOON + DAY) == {"acme-group": 35, "bolt-group": 40}


def test_a_platform_that_was_suspended_and_resumed_within_a_day_never_stopped(engine: Engine) -> None:
    for status in ("suspended", "active", "suspended"):
        set_status(engine, platform="bolt", status=status, now=NOON)
        assert weights(engine, SECOND, NOON)["bolt-group"] == 40
        assert weights(engine, FIRST, NOON)["bolt-group"] == (40 if status == "active" else 0)
    assert weights(engine, SECOND, NOON + DAY)["bolt-group"] == 0
    set_status(engine, platform="bolt", status="active", now=NOON + DAY)
    assert weights(engine, SECOND, NOON + DAY)["bolt-group"] == 0
    assert weights(engine, SECOND, NOON + 2 * DAY)["bolt-group"] == 40


def test_a_group_that_is_new_today_has_its_weight_at_once(engine: Engine) -> None:
    add_platform(
        engine, name="carol", control_group="carol-group", profile="EU", scopes=["report"], kid="carol-1",
        public_key=bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"), now=NOON,
    )  # fmt: skip
    assert weights(engine, SECOND, NOON)["carol-group"] == 40


def test_a_process_has_the_weights_of_the_next_day_before_it_begins(engine: Engine) -> None:
    """And it counts decisions again near midnight, and at other times once in a while."""
    counted: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        counted.extend(["counted"] if "FROM case_outcome" in statement else [])

    def read(before: WeightTable | None, now: datetime) -> WeightTable:
        with reading(engine) as connection:
            rows = member_store.read_platforms(connection)
            return read_weight_table(connection, lambda _now: SECOND, now, rows, before)

    table = read(None, NOON)
    event.listen(engine, "before_cursor_execute", note)
    decide(engine, 1, "acme-group", "overturned", NOON)
    counted.clear()
    soon = read(table, NOON + COUNTED_FOR / 2)
    assert (counted, soon.at(NOON + DAY)["acme-group"]) == ([], 40)
    later = read(soon, NOON + COUNTED_FOR)
    assert counted != []
    midnight = from_day(day_floor(NOON) + 1)
    assert later.at(midnight - timedelta(microseconds=1))["acme-group"] == 40
    assert later.at(midnight)["acme-group"] == 35
    assert later.at(midnight + DAY)["acme-group"] == 35
    counted.clear()
    near = read(later, midnight - timedelta(seconds=1))
    read(near, midnight + timedelta(seconds=1))
    assert len(counted) > 4, "each time anew"


def test_a_policy_of_the_next_day_gives_its_weights_from_midnight_on(engine: Engine) -> None:
    """The moment at which a ledger changes from the first policy to the second."""
    midnight = from_day(day_floor(NOON) + 1)
    with writing(engine) as connection:
        store.set_weight(connection, "acme-group", 19)
    decide(engine, 1, "acme-group", "overturned", NOON)
    with reading(engine) as connection:
        rows = member_store.read_platforms(connection)
        table = read_weight_table(connection, lambda now: SECOND if now >= midnight else FIRST, NOON, rows)
    assert table.at(midnight - timedelta(microseconds=1))["acme-group"] == 38
    assert table.at(midnight)["acme-group"] == 35
