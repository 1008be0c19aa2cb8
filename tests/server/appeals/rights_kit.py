"""A report, the person it is about, platforms that file for them, and a model of what the person may still do.

The model knows only what the person themselves did and what was decided in their own case. Whatever else happens, the
ledger must agree with it: that is what "no other party uses up their rights" means.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ledger.errors import ConflictOfInterest, LedgerError, NotFound
from ledger.protocol import sodium
from ledger.protocol.encoding import day_floor, from_day
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import encode_id
from ledger.protocol.tags import tag
from ledger.rules.appeals import MAX_WITHDRAWALS, REOPENED, Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.rules.rounds import MAX_GROUPS
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals import platform as platform_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.participants import Party
from ledger.server.appeals.platform import Caller
from ledger.server.db.engine import reading
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.queries import reports_by_id
from tests.server import log_oracle as oracle
from tests.server.appeals.test_appeals import public, session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import Platform

FOREIGN = tuple(Platform(f"g{number}", f"g{number}-group", f"g{number}-1") for number in range(4))
"""Platforms of groups of their own that neither reported nor opened the person's session."""

NO_NEW_ID = 10**6
"""The first number of staff: every decision is made by another person."""


def file_for(ledger: LedgerFixture, platform: Platform, person: Subjects, *reports: str, key: str | None = None) -> str:
    """Have a platform contest the reports for the person; the case against the first. Raises what filing raises."""
    tags = [(kind, tag(kind, element)) for kind, element in person]
    done = platform_actions.open_cases(
        ledger.rt.appeals, platform.member(), reports=list(reports), grounds="other", statement=".", locale="en",
        epoch=ledger.rt.keys.epoch, subjects=tags, idempotency_key=key or secrets.token_hex(8),
    )  # fmt: skip
    return str(json.loads(done.body)["appeals"][0]["id"])


def by_platform(ledger: LedgerFixture, platform: Platform, action: str, case: str) -> None:
    """Let a platform speak for the person: withdraw, reopen, say. Raises what the ledger refuses it with."""
    caller, key = Caller(platform.member(), for_person=True), secrets.token_hex(8)
    if action == "withdraw":
        platform_actions.withdraw(ledger.rt.appeals, caller, case, key)
    elif action == "reopen":
        platform_actions.reopen(ledger.rt.appeals, caller, case, "Again.", key)
    else:
        platform_actions.add_message(ledger.rt.appeals, caller, case, Party.SUBJECT, "Yes, I did it.", key)


def cases_of(ledger: LedgerFixture, report: dict[str, Any]) -> list[CaseRow]:
    """All cases about the report, oldest first."""
    with reading(ledger.rt.engine) as connection:
        return store.all_cases_of_reports(connection, [report["entry_index"]]).get(report["entry_index"], [])


def somebody() -> Subjects:
    """Return a person who is not in the ledger."""
    return [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in (Kind.PHONE, Kind.PAYMENT)]


def refusal(attempt: Callable[[], object]) -> str | None:
    """The code with which the ledger refuses an attempt; None if it is done."""
    try:
        attempt()
    except LedgerError as error:
        return error.code
    return None


@dataclass
class Rights:
    """One report about one person, and the model (`own`, `withdrawals`, `until`)."""

    ledger: LedgerFixture
    person: Subjects = field(default_factory=somebody)
    report: dict[str, Any] = field(default_factory=dict)
    own: str = "unused"
    """unused, open, decided, reopened, decided twice, or taken back (after reopening: `reopened, taken back`)."""
    withdrawals: int = 0
    until: datetime | None = None
    gone: bool = False
    staff: int = NO_NEW_ID

    def __post_init__(self) -> None:
        self.report = self.ledger.report(self.ledger.acme, self.person, order=secrets.token_hex(8))

    # --- what may happen -----------------------------------------------------------------------------------------

    def actions(self) -> list[Callable[[int], None]]:
        """Everything that anybody may try; the number chooses who and what."""
        return [
            self.foreign_files,
            self.foreign_files,
            partial(self.foreign_speaks, "withdraw"),
            partial(self.foreign_speaks, "withdraw"),
            partial(self.foreign_speaks, "reopen"),
            partial(self.foreign_speaks, "say"),
            self.reporter_tries,
            self.person_files,
            self.person_withdraws,
            self.person_reopens,
            self.person_adds,
            self.is_decided,
            self.is_decided,
            self.time_passes,
        ]

    def foreign_files(self, pick: int) -> None:
        with suppress(LedgerError):
            file_for(self.ledger, FOREIGN[pick % len(FOREIGN)], self.person, self.report["id"])

    def foreign_speaks(self, action: str, pick: int) -> None:
        """A platform tries itself at any of the cases, also at the person's own."""
        for case in self.some_case(pick):
            with suppress(LedgerError):
                by_platform(self.ledger, FOREIGN[pick % len(FOREIGN)], action, public(self.ledger, case))

    def reporter_tries(self, pick: int) -> None:
        """Whatever the reporter's own group tries in the person's name is refused, and changes nothing."""
        platform = (self.ledger.acme, self.ledger.acme2)[pick % 2]
        before = self.cases
        attempts: list[Callable[[], object]] = [
            partial(file_for, self.ledger, platform, self.person, self.report["id"])
        ]
        for case in self.some_case(pick):
            attempts += [
                partial(by_platform, self.ledger, platform, action, public(self.ledger, case))
                for action in ("withdraw", "reopen", "say")
            ]
        for attempt in attempts:
            assert refusal(attempt) in (ConflictOfInterest.code, NotFound.code)
        assert self.cases == before

    def person_files(self, _: int = 0) -> None:
        """The person contests the report at /me; the model says whether they can."""
        may = self.may_file
        appeal = [self.report["id"]], "not_me", "It was not me.", "en"
        refused = refusal(lambda: consumer.open_cases(self.ledger.rt.context, self.session, *appeal))
        assert (refused is None) == may, f"the person's own round: {refused}"
        if may:
            self.own = "open"

    def person_withdraws(self, _: int) -> None:
        if self.own not in ("open", "reopened"):
            return
        case = self.own_case
        refused = refusal(lambda: consumer.withdraw(self.ledger.rt.context, self.session, case))
        assert (refused is None) == (self.withdrawals < MAX_WITHDRAWALS and self.alive), refused
        if refused is not None:
            return
        self.withdrawals += 1
        self.own = "taken back" if self.own == "open" else "reopened, taken back"
        self.until = self.ledger.clock() + timedelta(days=60)

    def person_reopens(self, _: int) -> None:
        if self.own not in ("decided", "reopened, taken back"):
            return
        may = self.until is not None and self.ledger.clock() < self.until and self.alive
        case = self.own_case
        refused = refusal(lambda: consumer.reopen(self.ledger.rt.context, self.session, case, "Look again."))
        assert (refused is None) == may, f"the person's own reopening: {refused}"
        if may:
            self.own = "reopened"

    def person_adds(self, pick: int) -> None:
        for case in self.some_case(pick):
            with suppress(LedgerError):
                consumer.add_message(self.ledger.rt.context, self.session, public(self.ledger, case), "More.")

    def is_decided(self, pick: int) -> None:
        """Decide one of the open cases as another reviewer."""
        for row in self.some_case(pick):
            self.staff += 1
            reviewer, case = Staff(self.staff, "reviewer"), public(self.ledger, row)
            outcome = (Outcome.UPHELD, Outcome.UNCONFIRMED, Outcome.UPHELD, Outcome.AMENDED, Outcome.OVERTURNED)[
                pick // 4 % 5
            ]
            more: dict[str, Any] = {"conduct": Conduct.WARDROBING} if outcome is Outcome.AMENDED else {}
            with suppress(LedgerError):
                staff_actions.take(self.ledger.rt.context, case, reviewer)
                done = staff_actions.decide(self.ledger.rt.context, case, reviewer, outcome, "Reasons.", **more)
                self.gone = self.gone or outcome is Outcome.OVERTURNED
                if done.filed_by_subject:
                    self.own = "decided" if self.own == "open" else "decided twice"
                    left = self.own == "decided" and outcome in REOPENED
                    self.until = min(self.ledger.clock() + timedelta(days=60), self.expires_at) if left else None

    def time_passes(self, pick: int) -> None:
        self.ledger.clock.moment += timedelta(days=(1, 8, 21, 70)[pick % 4])
        for _ in range(2):
            run_clocks(self.ledger.rt.context)

    # --- what must hold ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The ledger agrees with the model, with the log, and with the limits."""
        rt, cases = self.ledger.rt, self.cases
        with reading(rt.engine) as connection:
            for row in cases:
                events = store.events(connection, row.id) if row.filed_by_subject else []
                begun = next((place for place, event in enumerate(events) if event.action in ("open", "adopt")), 0)
                adopted = next((place for place, event in enumerate(events) if event.action == "adopt"), begun)
                later = [event for event in events[adopted:] if event.actor == "subject"]
                assert all(event.platform is None for event in later), "a platform spoke in the person's own case"
        using = [row for row in cases if row.filing_group and (row.is_open or row.round > 1 or row.outcome)]
        assert len({row.filing_group for row in using}) == len(using) <= MAX_GROUPS
        assert sum(row.is_open and row.suspends for row in using) <= 1
        record = own_record(rt.context, rt.members.weights(), self.session)
        (shown,) = [report for report in record["reports"] if report["id"] == self.report["id"]]
        assert shown["appealable"] == self.may_file
        assert len(shown["cases"]) == len(cases)
        logged = oracle.read_log(rt.engine, rt.policy)
        number, today = self.report["entry_index"], day_floor(self.ledger.clock())
        assert oracle.listings(rt.engine).get(number) == oracle.expected_listings(logged, today).get(number)
        if self.own in ("open", "reopened") and self.alive:
            (mine,) = [row for row in cases if row.filed_by_subject and row.is_open]
            assert mine.suspends
            assert mine.overdue or logged[self.report["id"]].disputed or logged[self.report["id"]].unconfirmed

    @property
    def may_file(self) -> bool:
        """Whether the person's own round is theirs to open, by what they did themselves."""
        return self.own in ("unused", "taken back") and self.alive

    @property
    def alive(self) -> bool:
        """Whether the report lives and its record has not expired."""
        return not self.gone and self.ledger.clock() < self.expires_at

    @property
    def expires_at(self) -> datetime:
        with reading(self.ledger.rt.engine) as connection:
            (row,) = reports_by_id(connection, [self.report["entry_index"]]).values()
            return from_day(row.expires_day)

    @property
    def cases(self) -> list[CaseRow]:
        return cases_of(self.ledger, self.report)

    def some_case(self, pick: int) -> Sequence[CaseRow]:
        cases = self.cases
        return [cases[pick % len(cases)]] if cases else []

    @property
    def own_case(self) -> str:
        row = max((case for case in self.cases if case.filed_by_subject), key=lambda case: case.id)
        return encode_id("ap", row.id, self.ledger.rt.settings.service)

    @property
    def session(self) -> Any:
        return session_of(self.ledger, self.person)


def play(ledger: LedgerFixture, steps: Sequence[tuple[int, int]]) -> Rights:
    """Do the steps with one report, check after each; at the end the person files where the model says that they
    can."""
    story = Rights(ledger)
    actions = story.actions()
    for action, pick in steps:
        actions[action % len(actions)](pick)
        story.check()
    story.person_files()
    story.check()
    return story
