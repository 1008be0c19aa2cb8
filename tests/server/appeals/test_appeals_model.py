"""Whatever legal sequence of actions a case goes through, the log's entries, the projections and the standing agree."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerError
from ledger.protocol import sodium
from ledger.protocol.encoding import day_floor, format_time
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff, due_actions
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, participants, staff_actions
from ledger.server.appeals.case_changes import case_number, run_clocks, with_handlers
from ledger.server.db.engine import reading
from ledger.server.records import case_queries as store
from tests.counts import trials
from tests.server import log_oracle as oracle
from tests.server.appeals.contested import add_message as add_message_to
from tests.server.appeals.test_appeals import GRAVE, case_row, public, session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import evidence

pytestmark = pytest.mark.one_engine

STAFF = (Staff(1, "reviewer"), Staff(2, "reviewer"), Staff(3, "supervisor"), Staff(4, "reviewer", "acme-group"))
MINOR: dict[str, Any] = {"conduct": "wardrobing", "evidence": evidence("intake_photo", "policy_clause")}
VARIANTS: tuple[dict[str, Any], ...] = ({}, GRAVE, MINOR)
_numbers = count()


@dataclass
class Story:
    """One person, their reports and cases."""

    ledger: LedgerFixture
    person: Subjects
    reports: list[dict[str, Any]] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)

    def report(self, pick: int) -> None:
        platform = (self.ledger.acme, self.ledger.bolt)[pick % 2]
        amount = 1000 + next(_numbers)  # each an act of its own
        more: dict[str, Any] = {**VARIANTS[pick % 3], "order": secrets.token_hex(8), "amount_minor": amount}
        self.reports.append(self.ledger.report(platform, self.person, **more))
        self.amounts.append(amount)

    def appeal(self, pick: int) -> None:
        report = self.reports[pick % len(self.reports)]
        rows = consumer.open_cases(self.ledger.rt.context, self.session, [report["id"]], "other", "No.", "en")
        self.cases += [public(self.ledger, row) for row in rows]

    @property
    def session(self) -> Any:
        return session_of(self.ledger, self.person)

    def take_report_back(self, pick: int) -> None:
        report = self.reports[pick % len(self.reports)]
        for platform in (self.ledger.acme, self.ledger.bolt):
            with suppress(LedgerError):
                self.ledger.withdraw(platform, report["id"], secrets.token_hex(4))

    def restitute(self, pick: int) -> None:
        place = pick % len(self.reports)
        for platform in (self.ledger.acme, self.ledger.bolt):
            with suppress(LedgerError):
                at = format_time(self.ledger.clock())
                self.ledger.restitute(platform, self.reports[place], at, amount_minor=self.amounts[place])

    def state(self, pick: int) -> None:
        report = self.reports[pick % len(self.reports)]
        consumer.add_statement(self.ledger.rt.context, self.session, report["id"], f"Statement {pick}.", "en")

    def case(self, pick: int) -> str:
        return self.cases[pick % len(self.cases)]

    def staffed(self, action: Callable[..., Any], *arguments: Any, **more: Any) -> Callable[[int], None]:
        def act(pick: int) -> None:
            staff = STAFF[pick // 3 % len(STAFF)] if pick % 4 == 3 else self.holder(pick)
            action(self.ledger.rt.context, self.case(pick), staff, *arguments, **more)

        return act

    def decide(self, pick: int) -> None:
        outcome = tuple(Outcome)[pick % 6]
        more: dict[str, Any] = {}
        if outcome is Outcome.AMENDED:
            more["conduct"] = (Conduct.WARDROBING, Conduct.FAKE_RETURN_TRACKING, Conduct.EDITED_IMAGE)[pick // 6 % 3]
        if outcome is Outcome.UNLINKED:
            more["slots"] = [(0,), (1,), (0, 1)][pick // 6 % 3]
        staff_actions.decide(
            self.ledger.rt.context, self.case(pick), self.holder(pick), outcome, f"Reasons {pick}.", **more
        )

    def holder(self, pick: int) -> Staff:
        """Who has the case in hand, or anybody."""
        number = case_row(self.ledger, self.case(pick)).reviewer_id
        return next((member for member in STAFF if member.id == number), STAFF[pick // 3 % 3])

    def settle(self, pick: int) -> None:
        """From wherever it is to a decision, if it goes."""
        for action in (self.staffed(staff_actions.take), self.decide, self.sign):
            with suppress(LedgerError):
                action(pick)

    def sign(self, pick: int) -> None:
        staff_actions.sign(self.ledger.rt.context, self.case(pick), STAFF[pick // 2 % 3])

    def answer(self, pick: int) -> None:
        platform = (self.ledger.acme, self.ledger.bolt)[pick // 2 % 2]
        participant = participants.Participant(participants.Party.REPORTER, platform.name, platform.control_group)
        number = case_number(self.ledger.rt.context, self.case(pick))
        add_message_to(self.ledger.rt.context, number, participant, "Here is the record.")

    def wait(self, pick: int) -> None:
        self.ledger.clock.moment += timedelta(days=(1, 8, 21)[pick % 3])
        run_clocks(self.ledger.rt.context)

    def actions(self) -> list[Callable[[int], None]]:
        context = self.ledger.rt.context
        return [
            self.report,
            self.appeal,
            self.appeal,
            self.staffed(staff_actions.take),
            self.staffed(staff_actions.take),
            self.settle,
            self.settle,
            self.decide,
            self.sign,
            self.settle,
            self.staffed(staff_actions.decline, "Not sure."),
            self.staffed(staff_actions.hand_back),
            self.staffed(staff_actions.ask_reporter, "What happened?"),
            self.staffed(staff_actions.ask_subject, "What happened?"),
            self.answer,
            lambda pick: _discard(consumer.add_message(context, self.session, self.case(pick), "More.")),
            lambda pick: _discard(consumer.withdraw(context, self.session, self.case(pick))),
            lambda pick: _discard(consumer.reopen(context, self.session, self.case(pick), "Again.")),
            self.state,
            self.take_report_back,
            self.restitute,
            self.wait,
        ]

    def check(self) -> None:
        """The log says what the projection says, and the lookup says what follows from the log."""
        rt = self.ledger.rt
        logged = oracle.read_log(rt.engine, rt.policy)
        assert oracle.listings(rt.engine) == oracle.expected_listings(logged, day_floor(self.ledger.clock()))
        rt.members.refresh()
        weights = oracle.weights_of(rt.engine, rt.policy, self.ledger.clock())
        assert {group: weight for group, weight in rt.members.weights().items() if group in weights} == weights
        mine = {report["id"]: {0, 1} for report in self.reports}
        expected = oracle.standing(logged, mine, weights, rt.policy, self.ledger.clock())
        answer = self.ledger.lookup(self.person)
        assert (answer["tier"], answer["points"], answer["credit"]) == (expected.tier, expected.points, expected.credit)
        assert (answer["disputed"], answer["protected"]) == (expected.disputed, expected.protected)
        assert (answer["events"], answer["has_statement"]) == (expected.events, expected.has_statement)
        assert answer["reasons"] == [reason.value for reason in expected.reasons]
        for case in self.cases:
            row = case_row(self.ledger, case)
            with reading(rt.engine) as connection:
                core = with_handlers(connection, row)
                assert store.events(connection, row.id)[-1].state == row.state
            open_dispute = case in logged[self.report_of(row.report_id)].open_cases
            assert core.is_open == open_dispute or core.state == "closed"
            assert not due_actions(core, self.ledger.clock()) or core.state in ("decided", "withdrawn")

    def report_of(self, number: int) -> str:
        return next(str(report["id"]) for report in self.reports if report["entry_index"] == number)


def _discard(_: object) -> None:
    return None


@settings(
    max_examples=trials(4, 150), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.tuples(st.integers(0, 21), st.integers(0, 35)), min_size=6, max_size=30))
def test_log_projections_and_standing_agree_after_every_action(
    ledger: LedgerFixture, steps: list[tuple[int, int]]
) -> None:
    person: Subjects = [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in (Kind.PHONE, Kind.PAYMENT)]
    story = Story(ledger, person)
    story.report(0)
    story.report(1)
    story.appeal(0)
    for action, pick in steps:
        with suppress(LedgerError):
            story.actions()[action](pick)
        story.check()


def test_the_oracle_can_disagree(ledger: LedgerFixture) -> None:
    story = Story(ledger, ledger.person())
    story.report(0)
    logged = oracle.read_log(ledger.rt.engine, ledger.rt.policy)
    next(iter(logged.values())).disputed = True
    with pytest.raises(AssertionError):
        assert oracle.listings(ledger.rt.engine) == oracle.expected_listings(logged, day_floor(ledger.clock()))
