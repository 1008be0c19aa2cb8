"""Dataclasses as rows of a table: every column is loaded and saved, enums as their values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from ledger.rules.appeals import CaseState, Outcome
from ledger.rules.policy.values import Profile
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.row_mapping import RowMapping
from ledger.server.db.tables.appeals import AppealCase, CaseSkip
from ledger.server.records.case_queries import CASES, CaseRow

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
CASE = CaseRow(
    state=CaseState.DECIDED, round=2, profile=Profile.EU, severity=3, control_group="acme-group", due_at=NOW,
    proposed=Outcome.AMENDED, outcome=Outcome.UPHELD, previous_outcome=None, decided_at=NOW + timedelta(days=1),
    handlers=frozenset({(1, 7)}), id=5, group_id=5, report_id=9, grounds="other", locale="en", filed_via="bolt",
    filing_group="bolt-group", filed_by_subject=False, platform="acme", conduct="switched_return", opened_at=NOW,
)  # fmt: skip


def test_a_case_is_the_same_after_it_was_stored(migrated_url: str) -> None:
    engine = open_engine(migrated_url, pool_size=5)
    with writing(engine) as connection:
        connection.execute(insert(AppealCase).values(**CASES.values(CASE)))
    with reading(engine) as connection:
        row = connection.execute(select(*CASES.columns)).one()
        state = connection.execute(select(AppealCase.state, AppealCase.outcome)).one()
    engine.dispose()
    loaded = CASES.load(row)
    assert loaded == replace(CASE, handlers=frozenset()), "handlers are rows of their own"
    assert (type(loaded.state), type(loaded.outcome), type(loaded.profile)) == (CaseState, Outcome, Profile)
    assert tuple(state) == ("decided", "upheld")


def test_values_are_plain_and_columns_can_be_left_out() -> None:
    values = CASES.values(CASE, without=["id"])
    assert "id" not in values
    assert "handlers" not in values
    assert {type(values[name]) for name in ("state", "profile", "proposed", "outcome")} == {str}
    assert values["previous_outcome"] is None


def test_a_value_that_an_enum_does_not_have_is_refused() -> None:
    row = list(CASES.values(CASE).values())
    row[list(CASES.values(CASE)).index("state")] = "forgotten"
    with pytest.raises(ValueError, match="forgotten"):
        CASES.load(row)


def test_a_column_without_a_field_is_refused() -> None:
    @dataclass(frozen=True)
    class Incomplete:
        case_id: int
        staff_id: int

    with pytest.raises(TypeError, match="no field for \\['at'\\]"):
        RowMapping(Incomplete, CaseSkip)
