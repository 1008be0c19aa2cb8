"""A liar against the ledger: whatever a reporter does about an order after the person contested it, and whatever the
person, another group, reviewers and a supervisor do between, the promises of order lines hold.

The bookkeeping here is of its own: it knows what was asked and answered, and what the log's entries say, and nothing of
`rules.order_lines`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ledger.errors import LedgerError
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url, day_floor, format_time, parse_time
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import OPEN_STATES, Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.rules.reports import order_ref
from ledger.server.appeals import consumer, participants, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case, run_clocks
from ledger.server.appeals.participants import Participant, Party, concede
from ledger.server.db.engine import reading
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.records.order_line_queries import held_reports
from ledger.server.reports import held
from tests.server import log_oracle as oracle
from tests.server.appeals.test_appeals import public, session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import Platform

STAFF = (Staff(1, "reviewer"), Staff(2, "reviewer"), Staff(3, "supervisor"), Staff(7, "supervisor"))
KINDS = (Kind.PHONE, Kind.PAYMENT, Kind.EMAIL)
ORDERS = ("A-1", "A-1 ", "\ufeffA-1", "A-1", "A-2")
AMOUNTS = (0, 10_000, 11_000, 12_500, 20_000)
DAYS = (1, 6, 30, 45, 80)
NORMAL = {name: name.strip(" \ufeff") for name in ORDERS}


@dataclass
class Lie:
    """A report as it was sent and answered."""

    id: str
    number: int
    by: Platform
    group: str
    order: tuple[bytes, str]
    places: frozenset[int]
    act_day: int
    money: tuple[str, int]
    evidence: frozenset[bytes]
    conduct: str
    notice: datetime
    recorded: datetime
    expires: datetime
    held: bool
    released: bool = False
    cases: list[str] = field(default_factory=list)


@dataclass
class Story:
    """One person with three identifiers, and everybody who has to do with their record."""

    ledger: LedgerFixture
    person: Subjects
    keys: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(32) for _ in range(2)])
    pool: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(32) for _ in range(4)])
    lies: list[Lie] = field(default_factory=list)
    repaid: set[str] = field(default_factory=set)

    # --- the liar, and another group that tells the truth ---------------------------------------------------------

    def report(self, pick: int) -> None:
        ledger, now = self.ledger, self.ledger.clock()
        pick, place = divmod(pick, 3)
        platform = (ledger.acme, ledger.acme2, ledger.bolt)[place] if self.lies else ledger.acme
        pick, which = divmod(pick, len(ORDERS))
        pick, key = divmod(pick, 4)
        pick, amount = divmod(pick, len(AMOUNTS))
        pick, currency = divmod(pick, 2)
        pick, days = divmod(pick, len(DAYS))
        pick, some = divmod(pick, 7)
        pick, items = divmod(pick, 5)
        pick, conduct = divmod(pick, 2)
        pick, fresh = divmod(pick, 3)
        places = frozenset(place for place in range(3) if (some + 1) >> place & 1)
        digest = secrets.token_bytes(32) if items == 4 else self.pool[items]
        types = ("carrier_record",) if conduct == 0 else ("serial_mismatch", "intake_photo")
        digests = [digest, *(secrets.token_bytes(32) for _ in types[1:])]
        notice = now - timedelta(days=(0, 0, 4)[fresh])
        changes: dict[str, Any] = {
            "order_ref": b64url(order_ref(self.keys[key // 3], ORDERS[which])),
            "amount_minor": AMOUNTS[amount],
            "currency": ("CNY", "EUR")[currency],
            "act_ended_at": format_time(min(now - timedelta(days=DAYS[days]), notice)),
            "notice_sent_at": format_time(notice),
            "conduct": ("fake_return_tracking", "switched_return")[conduct],
            "evidence": [{"type": type_, "sha256": b64url(one)} for type_, one in zip(types, digests, strict=True)],
        }
        order = (self.keys[key // 3], NORMAL[ORDERS[which]])
        same = [one for one in self.lies if one.order == order and one.group == platform.control_group]
        if self.lies and pick % 3 == 0:
            changes["replaces"] = (same or self.lies)[-1].id
        subjects = [self.person[place] for place in sorted(places)]
        before = self._matters(platform.control_group)
        answer = ledger.report(platform, subjects, key=secrets.token_hex(8), **changes)
        lie = Lie(
            id=str(answer["id"]),
            number=int(answer["entry_index"]),
            by=platform,
            group=platform.control_group,
            order=order,
            places=places,
            act_day=day_floor(parse_time(changes["act_ended_at"])),
            money=(changes["currency"], changes["amount_minor"]),
            evidence=frozenset(digests),
            conduct=changes["conduct"],
            notice=parse_time(changes["notice_sent_at"]),
            recorded=now,
            expires=parse_time(answer["expires_at"]),
            held=answer["status"] == "held",
        )
        self._check_recorded(lie, answer, before)
        self.lies.append(lie)
        if any(one.order == lie.order and one.group == lie.group and one.id in self.repaid for one in self.lies):
            self.repaid.add(lie.id)

    def withdraw(self, pick: int) -> None:
        lie = self.lie(pick)
        reason = ("other", "duplicate", "wrong_person")[pick % 3]
        self.ledger.withdraw(lie.by, lie.id, secrets.token_hex(4), reason)

    def restitute(self, pick: int) -> None:
        lie = self.lie(pick)
        report = {"id": lie.id}
        at = format_time(self.ledger.clock())
        money = {"amount_minor": lie.money[1], "currency": lie.money[0], "key": secrets.token_hex(8)}
        self.ledger.restitute(lie.by, report, at, **money)
        self.repaid.add(lie.id)

    def concede(self, pick: int) -> None:
        lie, case = self.case(pick)
        participant = Participant(Party.REPORTER, lie.by.name, lie.group)
        with changing(self.ledger.rt.context) as batch:
            row = load_case(batch, case_number(self.ledger.rt.context, case))
            concede(batch, row, participant, (Conduct.WARDROBING, Conduct.EMPTY_PARCEL)[pick % 2])

    def ask_reopening(self, pick: int) -> None:
        lie, case = self.case(pick)
        participant = Participant(Party.REPORTER, lie.by.name, lie.group)
        with changing(self.ledger.rt.context) as batch:
            row = load_case(batch, case_number(self.ledger.rt.context, case))
            participants.ask_reopening(batch, row, participant, secrets.token_bytes(32), "New evidence.")

    def explain(self, pick: int) -> None:
        lie = self.lie(pick)
        held.explain(self.ledger.rt.reports, lie.by.member(), lie.id, "Another order.", secrets.token_hex(8))

    # --- the person -----------------------------------------------------------------------------------------------

    @property
    def session(self) -> Any:
        return session_of(self.ledger, self.person)

    def contest(self, pick: int) -> None:
        lie = self.lie(pick)
        rows = consumer.open_cases(self.ledger.rt.context, self.session, [lie.id], "other", "No.", "en")
        lie.cases += [public(self.ledger, row) for row in rows]

    def take_back(self, pick: int) -> None:
        consumer.withdraw(self.ledger.rt.context, self.session, self.case(pick)[1])

    def contest_again(self, pick: int) -> None:
        consumer.reopen(self.ledger.rt.context, self.session, self.case(pick)[1], "Again.")

    def agree(self, pick: int) -> None:
        consumer.agree(self.ledger.rt.context, self.session, self.case(pick)[1])

    def state(self, pick: int) -> None:
        consumer.add_statement(self.ledger.rt.context, self.session, self.lie(pick).id, f"Statement {pick}.", "en")

    # --- staff and time -------------------------------------------------------------------------------------------

    def settle(self, pick: int) -> None:
        """From wherever it is to a decision, if it goes."""
        context, (_, case) = self.ledger.rt.context, self.case(pick)
        first, second = STAFF[pick % 2], STAFF[1 - pick % 2]
        outcome = tuple(Outcome)[pick // 2 % 6]
        more: dict[str, Any] = {}
        if outcome is Outcome.AMENDED:
            more["conduct"] = (Conduct.WARDROBING, Conduct.EMPTY_PARCEL)[pick // 12 % 2]
        if outcome is Outcome.UNLINKED:
            more["slots"] = (0,)
        for staff, other in ((first, second), STAFF[2:]):
            with suppress(LedgerError):
                staff_actions.take(context, case, staff)
            with suppress(LedgerError):
                staff_actions.decide(context, case, staff, outcome, "It was looked into.", **more)
                staff_actions.sign(context, case, other)

    def release(self, pick: int) -> None:
        lie = self.lie(pick)
        context = self.ledger.rt.context
        with reading(context.engine) as connection:
            found = held_reports(connection, [lie.number]).get(lie.number)
        seen = 0 if found is None else found.revision
        row = held.release(context, lie.id, STAFF[3], "It is another order.", seen=seen)
        if row.released_at is None:
            row = held.sign_release(context, lie.id, STAFF[2], seen=seen)
        lie.released = row.released_at is not None

    def answer_request(self, pick: int) -> None:
        answer = (staff_actions.grant_reopening, staff_actions.grant_reopening, staff_actions.refuse_reopening)[
            pick % 3
        ]
        answer(self.ledger.rt.context, self.case(pick)[1], STAFF[pick % 4], "As it is.")

    def wait(self, pick: int) -> None:
        self.ledger.clock.moment += timedelta(days=(1, 4, 8, 21)[pick % 4])
        run_clocks(self.ledger.rt.context)
        held.void_due(self.ledger.rt.context)

    def actions(self) -> list[Callable[[int], None]]:
        return [
            self.report, self.report, self.report, self.report, self.contest, self.contest, self.withdraw,
            self.settle, self.settle, self.wait, self.restitute, self.concede, self.agree, self.explain, self.release,
            self.take_back, self.contest_again, self.ask_reopening, self.answer_request, self.state,
        ]  # fmt: skip

    def lie(self, pick: int) -> Lie:
        return self.lies[pick % len(self.lies)]

    def case(self, pick: int) -> tuple[Lie, str]:
        known = [(lie, case) for lie in self.lies for case in lie.cases]
        if not known:
            raise LedgerError("there is no case yet")
        return known[pick % len(known)]

    # --- what must hold -------------------------------------------------------------------------------------------

    def _rows(self, lie: Lie) -> list[CaseRow]:
        with reading(self.ledger.rt.engine) as connection:
            rows = [store.case(connection, case_number(self.ledger.rt.context, case)) for case in lie.cases]
        return [row for row in rows if row is not None]

    def _matters(self, group: str) -> dict[tuple[bytes, str], str]:
        """Orders of this group that were contested: `open`, `closed`, `gone` (nothing of it stands) or `stands`."""
        told = oracle.read_log(self.ledger.rt.engine, self.ledger.rt.policy)
        found: dict[tuple[bytes, str], str] = {}
        now = self.ledger.clock()
        for lie in self.lies:
            rows = self._rows(lie)
            if lie.group != group or not rows:
                continue
            of_order = [one for one in self.lies if (one.group, one.order) == (group, lie.order)]
            live = [one for one in of_order if not told[one.id].gone and one.expires > now]
            live = [one for one in live if not one.held or one.released]
            decisions = [
                row.outcome or row.previous_outcome for one in of_order for row in self._rows(one) if row is not None
            ]
            under_dispute = told[lie.id].gone and told[lie.id].lost is not None
            not_released = lie.held and not lie.released
            if any(row.state in OPEN_STATES for one in of_order for row in self._rows(one)):
                found[lie.order] = "open"
            elif (under_dispute and not not_released) or any(one not in (None, "upheld") for one in decisions):
                found[lie.order] = "closed"
            else:
                found[lie.order] = "stands" if live else "gone"
        return found

    def _check_recorded(self, lie: Lie, answer: dict[str, Any], matters: dict[tuple[bytes, str], str]) -> None:
        """A report that was taken did not replace what is contested, nor what was decided, and is bound by what the
        order had before; what may be a contested matter under another order is held."""
        earlier = [one for one in self.lies if (one.group, one.order) == (lie.group, lie.order)]
        assert matters.get(lie.order) not in ("open", "closed")
        if earlier:
            assert lie.notice >= max(one.recorded for one in earlier), "a notice of its own"
            assert lie.expires <= min(one.expires for one in earlier), "it lives no longer"
        assert parse_time(answer["effective_from"]) >= lie.notice + timedelta(hours=72), "it cools"
        for one in self.lies:
            if one.group != lie.group or not one.places & lie.places or one.order == lie.order:
                continue
            if one.cases and matters[one.order] != "stands" and self._alike(one, lie):
                assert lie.held, "the same matter under another order"

    @staticmethod
    def _alike(one: Lie, other: Lie) -> bool:
        small, large = sorted((one.money[1], other.money[1]))
        near = one.money[0] == other.money[0] and large - small <= large * 0.2
        return bool(one.evidence & other.evidence) or abs(one.act_day - other.act_day) <= 30 or near

    def check(self) -> None:
        """The projections are what the log says; what is contested, decided against or held does not count; what came
        back stays halved."""
        rt, now = self.ledger.rt, self.ledger.clock()
        told = oracle.read_log(rt.engine, rt.policy)
        mine = {public: one for public, one in told.items() if public in {lie.id for lie in self.lies}}
        numbers = {one.number for one in mine.values()}
        listed = {number: rows for number, rows in oracle.listings(rt.engine).items() if number in numbers}
        assert listed == oracle.expected_listings(mine, day_floor(now))
        for lie in self.lies:
            report = told[lie.id]
            counts = not (report.gone or report.held or report.disputed or report.unconfirmed)
            counts = counts and report.conduct != "impersonated" and lie.expires > now
            for row in self._rows(lie):
                assert not (counts and row.state in OPEN_STATES)
                assert not (counts and row.outcome in ("overturned", "unconfirmed", "victim"))
            assert not (counts and lie.held and not lie.released)
            if lie.id in self.repaid and not report.gone and report.conduct != "impersonated":
                assert report.restituted
        rt.members.refresh()
        weights = oracle.weights_of(rt.engine, rt.policy, self.ledger.clock())
        assert {group: weight for group, weight in rt.members.weights().items() if group in weights} == weights


def play(ledger: LedgerFixture, steps: list[tuple[int, int]]) -> Story:
    """One person is reported, and contests or not; then the steps (which action, which choices) are carried out. What
    was done is checked after each."""
    person: Subjects = [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in KINDS]
    story = Story(ledger, person)
    story.report(steps[0][1] // 2 * 2 if steps else 0)
    for action, pick in [(4, 0), *steps]:
        actions = story.actions()
        try:
            actions[action % len(actions)](pick)
        except LedgerError:
            continue  # what is refused leaves nothing
        story.check()
    return story
