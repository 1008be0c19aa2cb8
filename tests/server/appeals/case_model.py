"""Lines of orders and ways of appealing together: a reporter, its sister platform, platforms of other groups that file
for the person, the person, reviewers and time, around several reports and `account_farm` reports that rest on them.

`Everyone` extends the stories of `line_model` by platforms that file for the person and by linked accounts, and keeps
its own account of what the person has used up, as `rights_kit` does for a single report.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from ledger.errors import ConflictOfInterest, LedgerError, NotFound, OrderDecided, ReportDisputed
from ledger.protocol import sodium
from ledger.protocol.encoding import day_floor, parse_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import OPEN_STATES, REOPENED, Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, participants, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case, run_clocks
from ledger.server.appeals.consumer import own_letter
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.participants import Participant, Party, concede
from ledger.server.db.engine import reading
from ledger.server.records import case_queries as store
from ledger.server.records import order_line_queries as line_store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.queries import reports_by_id
from ledger.server.reports import held
from ledger.server.reports.erasure import erase_due
from tests.server import log_oracle as oracle
from tests.server.appeals.rights_kit import FOREIGN, NO_NEW_ID, by_platform, file_for, refusal
from tests.server.conftest import LedgerFixture, Subjects
from tests.server.reports.line_model import KINDS, ORDERS, Lie, Story
from tests.server.reports.lines import farm

MAX_LIES = 8
"""Reports of one story: each makes every check slower."""


class Nothing(Exception):
    """What a story wanted to do has no object (yet)."""


def _number(digits: Sequence[tuple[int, int]]) -> int:
    """The number from which `Story.report` reads these (base, digit) pairs, the lowest first."""
    number = 0
    for base, digit in reversed(digits):
        number = number * base + digit % base
    return number


@dataclass
class Own:
    """What the person has used up of their own way about one report, and until when they may reopen."""

    state: str = "unused"
    """unused, open, decided, reopened, used (decided twice), taken back, reopened and taken back."""


@dataclass
class Everyone(Story):
    """The model: reports and cases of one person, and the checks after each step."""

    own: dict[str, Own] = field(default_factory=dict)
    staff: int = NO_NEW_ID
    closed: set[tuple[str, tuple[bytes, str]]] = field(default_factory=set)
    """Lines whose contested reports are erased."""
    done: list[str] = field(default_factory=list)

    def case(self, pick: int, *, want: Callable[[CaseRow], bool] = lambda row: True) -> tuple[Lie, str]:
        """One of the cases that are as wanted."""
        known = [(lie, self.public(row)) for lie in self.lies for row in self.all_cases(lie) if want(row)]
        if not known:
            raise Nothing("there is no such case")
        return known[pick % len(known)]

    def lie(self, pick: int) -> Lie:
        if not self.lies:
            raise Nothing("all reports are erased")
        return super().lie(pick)

    # --- others who act -------------------------------------------------------------------------------------------

    def report(self, pick: int) -> None:
        """A refusal because of an appeal names what the story knows of the line."""
        if len(self.lies) >= MAX_LIES:
            return
        states = {group: self._matters(group) for group in ("acme-group", "bolt-group")}
        try:
            super().report(pick)
        except OrderDecided:
            assert any("closed" in matters.values() for matters in states.values())
            raise
        except ReportDisputed:
            assert any("open" in matters.values() for matters in states.values())
            raise

    def report_again(self, pick: int) -> None:
        """The reporter of an earlier report reports the same order again, with a notice of its own: as a replacement,
        or beside it."""
        earlier = [lie for lie in self.lies if lie.conduct != "account_farm"]
        if not earlier:
            raise Nothing("there is no order to report again")
        lie = earlier[pick % len(earlier)]
        pick //= 10
        which = ORDERS.index(lie.order[1])
        place = [self.ledger.acme.name, self.ledger.acme2.name, self.ledger.bolt.name].index(lie.by.name)
        replaces, amount, currency, days, some, items, conduct = (pick // 7**n for n in range(7))
        digits = (
            (3, place), (5, which), (4, 3 * self.keys.index(lie.order[0])), (5, amount), (2, currency), (5, days),
            (7, some), (5, items), (2, conduct), (3, 0), (3, replaces % 2),
        )  # fmt: skip
        self.report(_number(digits))

    def link(self, pick: int) -> None:
        """acme reports linked accounts, resting on two of its reports."""
        mine = [lie for lie in self.lies if lie.by.name == "acme" and lie.conduct != "account_farm"]
        pairs = [(lie, other) for lie in mine for other in mine if lie.number < other.number]
        if not pairs or len(self.lies) >= MAX_LIES + 2:
            return
        pair = pairs[pick % len(pairs)]
        places = pair[0].places | pair[1].places
        subjects = [self.person[place] for place in sorted(places)]
        logged = oracle.read_log(self.ledger.rt.engine, self.ledger.rt.policy)
        order = secrets.token_hex(8)
        answer = farm(self.ledger, [lie.id for lie in pair], subjects, order=order, amount_minor=10**6 + pick)
        for lie in pair:
            below = logged[lie.id]
            assert not any((below.gone, below.held, below.contested, below.unconfirmed))
        now = self.ledger.clock()
        lie = Lie(
            id=str(answer["id"]), number=int(answer["entry_index"]), by=self.ledger.acme, group="acme-group",
            order=(b"farm", order), places=places, act_day=day_floor(now - timedelta(days=6)),
            money=("CNY", 10**6 + pick), evidence=frozenset(), conduct="account_farm",
            notice=now - timedelta(days=4), recorded=now, expires=parse_time(answer["expires_at"]),
            held=answer["status"] == "held",
        )  # fmt: skip
        self.lies.append(lie)

    def foreign_files(self, pick: int) -> None:
        which, pick = pick % len(FOREIGN), pick // len(FOREIGN)
        file_for(self.ledger, FOREIGN[which], self.person, self.lie(pick).id)

    def foreign_speaks(self, action: str) -> Callable[[int], None]:
        def act(pick: int) -> None:
            case = self.case(pick // 5, want=lambda row: pick % 5 == 0 or row.filing_group is not None)[1]
            group = self.row_of(case).filing_group
            platform = next(
                (candidate for candidate in FOREIGN if candidate.control_group == group), FOREIGN[pick % len(FOREIGN)]
            )
            by_platform(self.ledger, platform, action, case)

        return act

    def reporter_tries(self, pick: int) -> None:
        """The reporter's own group does nothing in the person's name."""
        platform, lie = (self.ledger.acme, self.ledger.acme2)[pick % 2], self.lie(pick)
        if lie.group != platform.control_group:
            return
        before = self.all_cases(lie)
        attempts: list[Callable[[], object]] = [partial(file_for, self.ledger, platform, self.person, lie.id)]
        for case in lie.cases:
            attempts += [
                partial(by_platform, self.ledger, platform, act, case) for act in ("withdraw", "reopen", "say")
            ]
        for attempt in attempts:
            assert refusal(attempt) in {ConflictOfInterest.code, NotFound.code}
        assert self.all_cases(lie) == before

    # --- the person, with what they use up -----------------------------------------------------------------------

    def own_of(self, lie: Lie) -> Own:
        return self.own.setdefault(lie.id, Own())

    def alive(self, lie: Lie) -> bool:
        """True if the report is live, is no protective note yet, and its record has not expired."""
        with reading(self.ledger.rt.engine) as connection:
            row = reports_by_id(connection, [lie.number]).get(lie.number)
        return row is not None and row.live and row.expires_day > day_floor(self.ledger.clock())

    def may_contest(self, lie: Lie) -> bool:
        return self.own_of(lie).state in ("unused", "taken back") and self.alive(lie)

    def contest(self, pick: int) -> None:
        lie = self.lie(pick)
        may = self.may_contest(lie)
        code = refusal(
            lambda: consumer.open_cases(self.ledger.rt.context, self.session, [lie.id], "other", "No.", "en")
        )
        assert (code is None) == may, f"the person's own round ({self.own_of(lie)}): {code}"
        if may:
            self.own_of(lie).state = "open"

    def take_back(self, pick: int) -> None:
        lie, case = self.case(pick, want=lambda row: row.is_open)
        row = self.row_of(case)
        consumer.withdraw(self.ledger.rt.context, self.session, case)
        if row.filed_by_subject:
            reopened = row.round - (row.reporter_round is not None) > 1
            self.own_of(lie).state = "reopened and taken back" if reopened else "taken back"

    def contest_again(self, pick: int) -> None:
        lie, case = self.case(pick, want=lambda row: row.filed_by_subject and not row.is_open)
        row = self.row_of(case)
        fresh = row.state == "withdrawn" and self.own_of(lie).state == "taken back"
        consumer.reopen(self.ledger.rt.context, self.session, case, "Again.")
        self.own_of(lie).state = "open" if fresh else "reopened"

    def row_of(self, case: str) -> CaseRow:
        return next(row for lie in self.lies for row in self.all_cases(lie) if self.public(row) == case)

    # --- staff ----------------------------------------------------------------------------------------------------

    def settle(self, pick: int) -> None:
        """Decide as a reviewer who has not worked on the case, with a second signature where it is needed."""
        lie, case = self.case(pick, want=lambda row: row.is_open)
        self.staff += 2
        first, second = Staff(self.staff, "reviewer"), Staff(self.staff + 1, "reviewer")
        outcome = (*Outcome, Outcome.UNCONFIRMED, Outcome.UNCONFIRMED, Outcome.UPHELD)[pick // 2 % 9]
        more: dict[str, object] = {}
        if outcome is Outcome.AMENDED:
            more["conduct"] = (Conduct.WARDROBING, Conduct.EMPTY_PARCEL)[pick // 12 % 2]
        if outcome is Outcome.UNLINKED:
            more["slots"] = (0,)
        context, before = self.ledger.rt.context, self.row_of(case)
        if before.state != "submitted":
            with suppress(LedgerError, Nothing):
                staff_actions.hand_back(context, case, Staff(before.reviewer_id or 0, "reviewer"))
        staff_actions.take(context, case, first)
        done = staff_actions.decide(context, case, first, outcome, "It was looked into.", **more)  # type: ignore[arg-type]
        if done.state == "awaiting_signoff":
            done = staff_actions.sign(context, case, second)
        if done.filed_by_subject and done.state == "decided":
            self.decided(lie, done)

    def decided(self, lie: Lie, row: CaseRow) -> None:
        own = self.own_of(lie)
        if row.round == row.reporter_round:
            return  # no round of the person's
        again = own.state == "reopened"
        own.state = "used" if again or Outcome(str(row.outcome)) not in REOPENED else "decided"

    def ask(self, pick: int) -> None:
        _, case = self.case(pick, want=lambda row: row.state == "under_review")
        row = self.row_of(case)
        who = Staff(row.reviewer_id or 0, "reviewer")
        (staff_actions.ask_reporter, staff_actions.ask_subject)[pick % 2](
            self.ledger.rt.context, case, who, "What happened?"
        )

    def take(self, pick: int) -> None:
        self.staff += 1
        case = self.case(pick, want=lambda row: row.state == "submitted")[1]
        staff_actions.take(self.ledger.rt.context, case, Staff(self.staff, "reviewer"))

    def ask_reopening(self, pick: int) -> None:
        lie, case = self.case(pick, want=lambda row: row.outcome == "unconfirmed")
        participant = Participant(Party.REPORTER, lie.by.name, lie.group)
        with changing(self.ledger.rt.context) as batch:
            row = load_case(batch, case_number(self.ledger.rt.context, case))
            participants.ask_reopening(batch, row, participant, secrets.token_bytes(32), "New evidence.")

    def concede(self, pick: int) -> None:
        lie, case = self.case(pick, want=lambda row: row.is_open)
        participant = Participant(Party.REPORTER, lie.by.name, lie.group)
        with changing(self.ledger.rt.context) as batch:
            row = load_case(batch, case_number(self.ledger.rt.context, case))
            concede(batch, row, participant, (Conduct.WARDROBING, Conduct.EMPTY_PARCEL)[pick % 2])

    def agree(self, pick: int) -> None:
        case = self.case(pick, want=lambda row: row.is_open)[1]
        consumer.agree(self.ledger.rt.context, self.session, case)

    def explain(self, pick: int) -> None:
        super().explain(self._held(pick))

    def release(self, pick: int) -> None:
        super().release(self._held(pick))

    def _held(self, pick: int) -> int:
        places = [place for place, lie in enumerate(self.lies) if lie.held and not lie.released]
        if not places:
            raise Nothing("nothing is held")
        return places[pick % len(places)]

    def answer_request(self, pick: int) -> None:
        self.staff += 1
        answer = (staff_actions.grant_reopening, staff_actions.grant_reopening, staff_actions.refuse_reopening)[
            pick % 3
        ]
        with reading(self.ledger.rt.engine) as connection:
            waiting = {request.case_id for request in line_store.open_requests(connection, 100, None)}
        case = self.case(pick, want=lambda row: row.id in waiting)[1]
        answer(self.ledger.rt.context, case, Staff(self.staff, "reviewer"), "As it is.")

    def add(self, pick: int) -> None:
        consumer.add_message(self.ledger.rt.context, self.session, self.case(pick)[1], "More.")

    def wait(self, pick: int) -> None:
        before = {self.public(row): row for lie in self.lies for row in self.all_cases(lie)}
        self.ledger.clock.moment += timedelta(days=(1, 1, 3, 4, 4, 8, 8, 21, 70, 300)[pick % 10])
        for _ in range(2):
            run_clocks(self.ledger.rt.context)
        held.void_due(self.ledger.rt.context)
        for lie in self.lies:
            for row in self.all_cases(lie):
                old = before[self.public(row)]
                if row.filed_by_subject and row.outcome is not None and old.is_open:
                    self.decided(lie, row)
        self._erase()

    def _erase(self) -> None:
        """What is past its retention is erased; an order that was ever contested stays closed."""
        erase_due(self.ledger.rt.context, self.ledger.rt.settings)
        with reading(self.ledger.rt.engine) as connection:
            left = reports_by_id(connection, [lie.number for lie in self.lies])
        for lie in self.lies:
            if lie.number not in left and lie.cases:
                self.closed.add((lie.group, lie.order))
        self.lies = [lie for lie in self.lies if lie.number in left]

    def actions(self) -> list[Callable[[int], None]]:
        return [
            *super().actions()[1:],
            self.contest, self.settle, self.wait, self.answer_request, self.report_again, self.report_again,
            self.foreign_files, self.foreign_files, self.foreign_speaks("withdraw"), self.foreign_speaks("reopen"),
            self.foreign_speaks("say"), self.reporter_tries, self.link, self.link, self.ask, self.take, self.add,
            self.ask_reopening, self.answer_request, self.settle, self.settle,
        ]  # fmt: skip

    # --- what must hold -------------------------------------------------------------------------------------------

    def public(self, row: CaseRow) -> str:
        return encode_id("ap", row.id, self.ledger.rt.settings.service)

    def all_cases(self, lie: Lie) -> list[CaseRow]:
        with reading(self.ledger.rt.engine) as connection:
            return store.all_cases_of_reports(connection, [lie.number]).get(lie.number, [])

    def _rows(self, lie: Lie) -> list[CaseRow]:
        return self.all_cases(lie)

    def meet(self) -> None:
        """Record every case, from each filer."""
        for lie in self.lies:
            lie.cases = [self.public(row) for row in self.all_cases(lie)]

    def _matters(self, group: str) -> dict[tuple[bytes, str], str]:
        logged = oracle.read_log(self.ledger.rt.engine, self.ledger.rt.policy)
        now = self.ledger.clock()
        matters: dict[tuple[bytes, str], str] = {}
        matters |= {order: "closed" for of, order in self.closed if of == group}
        for lie in self.lies:
            if lie.group != group or not lie.cases:
                continue
            of_order = [earlier for earlier in self.lies if (earlier.group, earlier.order) == (group, lie.order)]
            live = [earlier for earlier in of_order if not logged[earlier.id].gone and earlier.expires > now]
            live = [earlier for earlier in live if not earlier.held or earlier.released]
            rows = [row for earlier in of_order for row in self.all_cases(earlier)]
            lost = logged[lie.id].gone and logged[lie.id].lost is not None and (not lie.held or lie.released)
            if any(row.state in OPEN_STATES for row in rows):
                matters[lie.order] = "open"
            elif (
                lost
                or matters.get(lie.order) == "closed"
                or any(logged[earlier.id].in_force not in (None, "upheld") for earlier in of_order)
            ):
                matters[lie.order] = "closed"
            else:
                matters[lie.order] = "stands" if live else "gone"
        return matters

    def _check_recorded(self, lie: Lie, answer: dict[str, Any], matters: dict[tuple[bytes, str], str]) -> None:
        super()._check_recorded(lie, answer, matters)
        for earlier in self.lies:
            if earlier.group != lie.group or not earlier.places & lie.places or earlier.order == lie.order:
                continue
            line = [other for other in self.lies if (other.group, other.order) == (earlier.group, earlier.order)]
            contested = any(other.cases for other in line if other.number >= earlier.number)
            if contested and matters[earlier.order] != "stands" and self._alike(earlier, lie):
                assert lie.held, "the same matter, by an earlier report of the contested order"

    def check(self) -> None:
        rt, now = self.ledger.rt, self.ledger.clock()
        self.meet()
        logged = oracle.read_log(rt.engine, rt.policy)
        mine = {public: entry for public, entry in logged.items() if public in {lie.id for lie in self.lies}}
        # An expired report is not shown, and its cases end without an entry.
        numbers = {entry.number for entry in mine.values() if entry.expires_day > day_floor(now)}
        listed = {number: rows for number, rows in oracle.listings(rt.engine).items() if number in numbers}
        expected = oracle.expected_listings(mine, day_floor(now))
        expected = {number: rows for number, rows in expected.items() if number in numbers}
        assert listed == expected, (listed, expected)
        for lie in self.lies:
            report = logged[lie.id]
            counts = not (report.gone or report.held or report.disputed or report.unconfirmed)
            counts = counts and report.conduct != "impersonated" and lie.expires > now
            cases = self.all_cases(lie)
            open_ = {self.public(row) for row in cases if row.is_open}
            assert open_ == set(report.open_cases) or lie.expires <= now or report.expires_day <= day_floor(now)
            for row in cases:
                assert not (counts and row.is_open and row.filed_by_subject and row.round != row.reporter_round)
            assert not (counts and report.in_force in ("overturned", "unconfirmed", "victim"))
            assert not (counts and lie.held and not lie.released)
            if lie.id in self.repaid and not report.gone and report.conduct != "impersonated":
                assert report.restituted
            assert sum(row.is_open and row.suspends and row.filing_group is not None for row in cases) <= 1 or any(
                row.round == row.reporter_round for row in cases
            )
        rt.members.refresh()
        weights = oracle.weights_of(rt.engine, rt.policy, self.ledger.clock())
        assert {group: weight for group, weight in rt.members.weights().items() if group in weights} == weights
        self._check_lookup(logged, weights)
        self._check_record()

    def _check_lookup(self, logged: dict[str, oracle.Told], weights: dict[str, int]) -> None:
        places = {lie.id: {slot for slot, _ in enumerate(sorted(lie.places))} for lie in self.lies}
        expected = oracle.standing(logged, places, weights, self.ledger.rt.policy, self.ledger.clock())
        answer = self.ledger.lookup(self.person)
        # Reports of one act are one event, which the log's reading does not know: no points are compared.
        for name in ("disputed", "protected", "has_statement"):
            assert answer[name] == getattr(expected, name), (name, answer[name], getattr(expected, name))

    def _check_record(self) -> None:
        """The person's record shows what they may still do, and every letter that it names can be read."""
        record = own_record(self.ledger.rt.context, self.ledger.rt.members.weights(), self.session)
        shown = {report["id"]: report for report in record["reports"]}
        for lie in self.lies:
            if lie.id not in shown:
                continue
            assert shown[lie.id]["appealable"] == self.may_contest(lie), (lie.id, self.own_of(lie))
            for case in shown[lie.id]["cases"]:
                for number, kind in [
                    *((letter["round"], letter["kind"]) for letter in case["earlier_letters"]),
                    *((None, kind) for kind in case["letters"]),
                ]:
                    for locale in ("en", "zh-CN"):
                        letter = own_letter(self.ledger.rt.context, self.session, case["id"], kind, locale, number)
                        assert letter.to_text()
            if self.own_of(lie).state == "decided" and self.alive(lie):
                rows = [row for row in self.all_cases(lie) if row.filed_by_subject and row.state == "decided"]
                asked = [row for row in rows if row.decided_at and self.ledger.clock() < row.decided_at + timedelta(60)]
                for row in asked:
                    view = next(case for case in shown[lie.id]["cases"] if case["id"] == self.public(row))
                    assert view["can_reopen"], row


def play(ledger: LedgerFixture, steps: list[tuple[int, int]]) -> Everyone:
    """One person is reported by acme, and contests it or not; then the steps, with a check after each."""
    person: Subjects = [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in KINDS]
    story = Everyone(ledger, person)
    first = steps[0][1] if steps else 0
    story.report(first // 2 * 2)
    for other in (first // 3, first // 7):
        with suppress(LedgerError, Nothing):
            story.report(other)
    for action, pick in steps:
        actions = story.actions()
        story.meet()
        try:
            try:
                actions[action % len(actions)](pick)
            except Nothing:
                (story.contest, story.foreign_files)[pick % 2](pick)
        except (LedgerError, Nothing) as refused:
            code = refused.code if isinstance(refused, LedgerError) else "nothing"
            story.done.append(f"{actions[action % len(actions)].__qualname__}({pick}): {code}")
            continue
        story.done.append(f"{actions[action % len(actions)].__qualname__}({pick})")
        story.check()
    return story
