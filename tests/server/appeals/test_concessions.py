"""What the reporter may do in a case beside answering: concede, and ask for another round with new evidence."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ledger.errors import (
    ActionRefused,
    AppealInvalid,
    ConflictOfInterest,
    DecisionInvalid,
    LedgerError,
    NotFound,
    OrderDecided,
    ReportDisputed,
    RoleMissing,
)
from ledger.protocol.encoding import unb64url
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, participants, staff_actions
from ledger.server.appeals.case_changes import case_number, changing, load_case, run_clocks
from ledger.server.appeals.participants import Participant, Party, agree, concede
from ledger.server.db.engine import reading
from ledger.server.platforms.queries import outcome_counts
from ledger.server.records.case_queries import CaseRow
from tests.server.appeals.test_appeals import ANNA, BEN, CLEO, GRAVE, bodies, case_row, contest, session_of
from tests.server.conftest import LedgerFixture, LedgerSeed, Subjects
from tests.server.reports.lines import (
    HEAD,
    PLACES,
    LedgerPart,
    decide,
    ledger_part,
    points,
    record,
    shared_ledger,
    somebody,
)
from tests.support import Platform

pytestmark = pytest.mark.one_engine


@pytest.fixture(scope="module", params=PLACES)
def base_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: LedgerSeed
) -> Iterator[LedgerFixture]:
    yield from shared_ledger(request, tmp_path_factory.mktemp("ledger"), seed)


@pytest.fixture
def ledger(base_ledger: LedgerFixture) -> LedgerPart:
    """This test's part of the ledger that all tests here share."""
    return ledger_part(base_ledger)


PRODUCT = Conduct.WARDROBING


def reporter(platform: Platform) -> Participant:
    return Participant(Party.REPORTER, platform.name, platform.control_group)


def conceded(ledger: LedgerPart, case: str, conduct: Conduct, by: Platform | None = None) -> CaseRow:
    with changing(ledger.rt.context) as batch:
        row = load_case(batch, case_number(ledger.rt.context, case))
        return concede(batch, row, reporter(by or ledger.acme), conduct)


def asked(ledger: LedgerPart, case: str, digest: bytes, by: Platform | None = None) -> CaseRow:
    with changing(ledger.rt.context) as batch:
        row = load_case(batch, case_number(ledger.rt.context, case))
        return participants.ask_reopening(batch, row, reporter(by or ledger.acme), digest, "The scan came.")


def resolved(ledger: LedgerPart) -> dict[str, int]:
    """What the weight of acme's group is made of."""
    with reading(ledger.rt.engine) as connection:
        counts = outcome_counts(connection, ledger.clock() - timedelta(days=700)).get("acme-group", {})
    return {name: count for name, count in counts.items() if name != "nothing"}


def contested(ledger: LedgerPart, **changes: Any) -> tuple[Subjects, dict[str, Any], str]:
    person = somebody()
    report = ledger.report(ledger.acme, person, **changes)
    (case,) = contest(ledger, person, report)
    return person, report, case


def test_a_concession_binds_the_decision_and_both_sides_see_it(ledger: LedgerPart) -> None:
    person, report, case = contested(ledger, **GRAVE)
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.UPHELD, "It was looked into.")
    for conduct in (Conduct.SWITCHED_RETURN, Conduct.IMPERSONATED):
        with pytest.raises(AppealInvalid):
            conceded(ledger, case, conduct)
    with pytest.raises(NotFound):
        conceded(ledger, case, PRODUCT, ledger.bolt)
    assert conceded(ledger, case, Conduct.EMPTY_PARCEL).state == "under_review", "what was proposed did not know this"
    with pytest.raises(ActionRefused):
        conceded(ledger, case, PRODUCT)
    mine = record(ledger, person)[report["id"]]["case"]
    assert (mine["concession"]["conduct"], mine["concession"]["agreed_at"]) == ("empty_parcel", None)
    assert (mine["can_agree"], mine["timeline"][-1]["action"]) == (True, "concede")
    for outcome, more in ((Outcome.UPHELD, {}), (Outcome.AMENDED, {"conduct": Conduct.EDITED_IMAGE})):
        with pytest.raises(DecisionInvalid):
            staff_actions.decide(ledger.rt.context, case, ANNA, outcome, "It was looked into.", **more)  # type: ignore[arg-type]
    session = session_of(ledger, person)
    consumer.agree(ledger.rt.context, session, case)
    with pytest.raises(ActionRefused):
        consumer.agree(ledger.rt.context, session, case)
    assert not record(ledger, person)[report["id"]]["case"]["can_agree"]
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.AMENDED, "As both say.", conduct=Conduct.EMPTY_PARCEL)
    assert record(ledger, person)[report["id"]]["conduct"] == "empty_parcel"
    assert points(ledger, person) > 0


def test_a_concession_answers_a_question_and_costs_nothing_that_was_agreed_to(ledger: LedgerPart) -> None:
    """They neither cost, nor dilute what was overturned."""
    before = resolved(ledger)
    for _ in range(2):
        person, _, case = contested(ledger)
        staff_actions.take(ledger.rt.context, case, ANNA)
        staff_actions.ask_reporter(ledger.rt.context, case, ANNA, "What happened?")
        assert conceded(ledger, case, PRODUCT).state == "under_review"
        ledger.clock.moment += timedelta(days=8)
        run_clocks(ledger.rt.context)
        consumer.agree(ledger.rt.context, session_of(ledger, person), case)
        staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.AMENDED, "As both say.", conduct=PRODUCT)
    assert resolved(ledger) == before


def test_the_reporters_own_group_does_not_agree_for_the_person(ledger: LedgerPart) -> None:
    _, _, case = contested(ledger)
    conceded(ledger, case, PRODUCT)
    for platform, error in ((ledger.acme2, NotFound), (ledger.acme, NotFound)):
        participant = Participant(Party.SUBJECT, platform.name, platform.control_group)
        with pytest.raises((error, ConflictOfInterest)), changing(ledger.rt.context) as batch:
            agree(batch, load_case(batch, case_number(ledger.rt.context, case)), participant)
    decide(ledger, case, Outcome.OVERTURNED)
    with pytest.raises(ActionRefused):
        conceded(ledger, case, PRODUCT)


def test_a_reporter_with_new_evidence_gets_another_round_once(ledger: LedgerPart) -> None:
    context = ledger.rt.context
    person, report, case = contested(ledger, order="A-1")
    with pytest.raises(ActionRefused):
        asked(ledger, case, secrets.token_bytes(32))
    decide(ledger, case, Outcome.UNCONFIRMED)
    with pytest.raises(NotFound):
        asked(ledger, case, secrets.token_bytes(32), ledger.bolt)
    known = bodies(ledger, "report")[-1]["body"]["evidence"][0]["sha256"]
    with pytest.raises(ActionRefused):
        asked(ledger, case, unb64url(known, 32))
    asked(ledger, case, secrets.token_bytes(32))
    with pytest.raises(ActionRefused):
        asked(ledger, case, secrets.token_bytes(32))
    waiting = next(request for request in staff_actions.open_requests(context, CLEO) if request.case == case)
    assert (waiting.case, waiting.request.text) == (case, "The scan came.")
    own = Staff(9, "supervisor", "acme-group")
    assert staff_actions.open_requests(context, own) == []
    refused: tuple[tuple[Staff, type[LedgerError]], ...] = (
        (own, ConflictOfInterest),
        (ANNA, ConflictOfInterest),
        (Staff(5, "auditor"), ActionRefused),
    )
    for staff, error in refused:
        with pytest.raises(error):
            staff_actions.grant_reopening(context, case, staff, "It is new.")
    with pytest.raises(RoleMissing):
        staff_actions.open_requests(context, Staff(6, "admin"))
    row = staff_actions.grant_reopening(context, case, HEAD, "It is new.")
    assert (row.state, row.round, row.reporter_round) == ("submitted", 2, 2)
    answer = ledger.lookup(person)
    assert (answer["points"], answer["disputed"]) == (0.0, False), "not confirmed, and not shown, until it is decided"
    mine = record(ledger, person)[report["id"]]
    assert (mine["status"], mine["case"]["can_withdraw"]) == ("unconfirmed", False)
    assert mine["case"]["reopening_request"]["granted"] is True
    with pytest.raises(ActionRefused):
        consumer.withdraw(context, session_of(ledger, person), case)
    with pytest.raises(ReportDisputed):
        ledger.report(ledger.acme, person, order="A-1", replaces=report["id"], **ledger.told_now())
    staff_actions.take(context, case, BEN)
    with pytest.raises(ConflictOfInterest):
        staff_actions.assign(context, case, HEAD, ANNA)
    staff_actions.decide(context, case, BEN, Outcome.UPHELD, "The scan shows it.")
    assert points(ledger, person) > 0
    assert bodies(ledger, "reopening")[-1]["round"] == 2
    # The line is open again, and the person has their own reopening still.
    row = consumer.reopen(context, session_of(ledger, person), case, "It does not.")
    assert (row.round, ledger.lookup(person)["disputed"]) == (3, True)
    staff_actions.take(context, case, CLEO)
    staff_actions.decide(context, case, CLEO, Outcome.OVERTURNED, "It does not.")
    assert points(ledger, person) == 0.0


def test_a_refused_or_late_request_leaves_the_order_closed(ledger: LedgerPart) -> None:
    context = ledger.rt.context
    person, _, case = contested(ledger, order="A-1")
    decide(ledger, case, Outcome.UNCONFIRMED)
    asked(ledger, case, secrets.token_bytes(32))
    staff_actions.refuse_reopening(context, case, HEAD, "It shows nothing new.")
    for answer in (staff_actions.grant_reopening, staff_actions.refuse_reopening):
        with pytest.raises(ActionRefused):
            answer(context, case, HEAD, "Again.")
    assert case_row(ledger, case).round == 1
    with pytest.raises(OrderDecided):
        ledger.report(ledger.acme, person, order="A-1", **ledger.told_now())
    _, _, late = contested(ledger)
    decide(ledger, late, Outcome.UNCONFIRMED)
    ledger.clock.moment += timedelta(days=60, minutes=1)
    run_clocks(context)
    assert case_row(ledger, late).state == "closed"
    with pytest.raises(ActionRefused):
        asked(ledger, late, secrets.token_bytes(32))
