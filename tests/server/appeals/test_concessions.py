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
from ledger.server.appeals import reopenings, subject
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.clock import run_clocks
from ledger.server.appeals.concessions import agree, concede
from ledger.server.appeals.parties import Party, Speaker
from ledger.server.appeals.transaction import case_number, changing, load_case
from ledger.server.db.engine import reading
from ledger.server.platforms.queries import outcome_counts
from ledger.server.records.case_queries import CaseRow
from tests.server.appeals.test_appeals import ANNA, BEN, CLEO, GRAVE, bodies, case_row, contest, session_of
from tests.server.conftest import Founding, Subjects, Town
from tests.server.reports.lines import HEAD, PLACES, Street, decide, points, record, shared_town, somebody, street
from tests.support import Platform

pytestmark = pytest.mark.one_engine


@pytest.fixture(scope="module", params=PLACES)
def city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, founding: Founding
) -> Iterator[Town]:
    yield from shared_town(request, tmp_path_factory.mktemp("city"), founding)


@pytest.fixture
def town(city: Town) -> Street:
    """This test's part of the ledger that all tests here share."""
    return street(city)


PRODUCT = Conduct.WARDROBING


def reporter(platform: Platform) -> Speaker:
    return Speaker(Party.REPORTER, platform.name, platform.control_group)


def conceded(town: Street, case: str, conduct: Conduct, by: Platform | None = None) -> CaseRow:
    with changing(town.rt.context) as batch:
        row = load_case(batch, case_number(town.rt.context, case))
        return concede(batch, row, reporter(by or town.acme), conduct)


def asked(town: Street, case: str, digest: bytes, by: Platform | None = None) -> CaseRow:
    with changing(town.rt.context) as batch:
        row = load_case(batch, case_number(town.rt.context, case))
        return reopenings.ask_reopening(batch, row, reporter(by or town.acme), digest, "The scan came.")


def resolved(town: Street) -> dict[str, int]:
    """What the weight of acme's group is made of."""
    with reading(town.rt.engine) as connection:
        found = outcome_counts(connection, town.clock() - timedelta(days=700)).get("acme-group", {})
    return {name: count for name, count in found.items() if name != "nothing"}


def contested(town: Street, **changes: Any) -> tuple[Subjects, dict[str, Any], str]:
    person = somebody()
    report = town.report(town.acme, person, **changes)
    (case,) = contest(town, person, report)
    return person, report, case


def test_a_concession_binds_the_decision_and_both_sides_see_it(town: Street) -> None:
    person, report, case = contested(town, **GRAVE)
    desk.take(town.rt.context, case, ANNA)
    desk.decide(town.rt.context, case, ANNA, Outcome.UPHELD, "It was looked into.")
    for conduct in (Conduct.SWITCHED_RETURN, Conduct.IMPERSONATED):
        with pytest.raises(AppealInvalid):
            conceded(town, case, conduct)
    with pytest.raises(NotFound):
        conceded(town, case, PRODUCT, town.bolt)
    assert conceded(town, case, Conduct.EMPTY_PARCEL).state == "under_review", "what was proposed did not know this"
    with pytest.raises(ActionRefused):
        conceded(town, case, PRODUCT)
    mine = record(town, person)[report["id"]]["case"]
    assert (mine["concession"]["conduct"], mine["concession"]["agreed_at"]) == ("empty_parcel", None)
    assert (mine["can_agree"], mine["timeline"][-1]["action"]) == (True, "concede")
    for outcome, more in ((Outcome.UPHELD, {}), (Outcome.AMENDED, {"conduct": Conduct.EDITED_IMAGE})):
        with pytest.raises(DecisionInvalid):
            desk.decide(town.rt.context, case, ANNA, outcome, "It was looked into.", **more)  # type: ignore[arg-type]
    session = session_of(town, person)
    subject.agree_to_concession(town.rt.context, session, case)
    with pytest.raises(ActionRefused):
        subject.agree_to_concession(town.rt.context, session, case)
    assert not record(town, person)[report["id"]]["case"]["can_agree"]
    desk.decide(town.rt.context, case, ANNA, Outcome.AMENDED, "As both say.", conduct=Conduct.EMPTY_PARCEL)
    assert record(town, person)[report["id"]]["conduct"] == "empty_parcel"
    assert points(town, person) > 0


def test_a_concession_answers_a_question_and_costs_nothing_that_was_agreed_to(town: Street) -> None:
    """They neither cost, nor dilute what was overturned."""
    before = resolved(town)
    for _ in range(2):
        person, _, case = contested(town)
        desk.take(town.rt.context, case, ANNA)
        desk.ask_reporter(town.rt.context, case, ANNA, "What happened?")
        assert conceded(town, case, PRODUCT).state == "under_review"
        town.clock.moment += timedelta(days=8)
        run_clocks(town.rt.context)
        subject.agree_to_concession(town.rt.context, session_of(town, person), case)
        desk.decide(town.rt.context, case, ANNA, Outcome.AMENDED, "As both say.", conduct=PRODUCT)
    assert resolved(town) == before


def test_the_reporters_own_group_does_not_agree_for_the_person(town: Street) -> None:
    _, _, case = contested(town)
    conceded(town, case, PRODUCT)
    for platform, error in ((town.acme2, NotFound), (town.acme, NotFound)):
        speaker = Speaker(Party.SUBJECT, platform.name, platform.control_group)
        with pytest.raises((error, ConflictOfInterest)), changing(town.rt.context) as batch:
            agree(batch, load_case(batch, case_number(town.rt.context, case)), speaker)
    decide(town, case, Outcome.OVERTURNED)
    with pytest.raises(ActionRefused):
        conceded(town, case, PRODUCT)


def test_a_reporter_with_new_evidence_gets_another_round_once(town: Street) -> None:
    context = town.rt.context
    person, report, case = contested(town, order="A-1")
    with pytest.raises(ActionRefused):
        asked(town, case, secrets.token_bytes(32))
    decide(town, case, Outcome.UNCONFIRMED)
    with pytest.raises(NotFound):
        asked(town, case, secrets.token_bytes(32), town.bolt)
    known = bodies(town, "report")[-1]["body"]["evidence"][0]["sha256"]
    with pytest.raises(ActionRefused):
        asked(town, case, unb64url(known, 32))
    asked(town, case, secrets.token_bytes(32))
    with pytest.raises(ActionRefused):
        asked(town, case, secrets.token_bytes(32))
    waiting = next(one for one in reopenings.open_requests(context, CLEO) if one.case == case)
    assert (waiting.case, waiting.request.text) == (case, "The scan came.")
    own = Staff(9, "supervisor", "acme-group")
    assert reopenings.open_requests(context, own) == []
    refused: tuple[tuple[Staff, type[LedgerError]], ...] = (
        (own, ConflictOfInterest),
        (ANNA, ConflictOfInterest),
        (Staff(5, "auditor"), ActionRefused),
    )
    for staff, error in refused:
        with pytest.raises(error):
            reopenings.grant(context, case, staff, "It is new.")
    with pytest.raises(RoleMissing):
        reopenings.open_requests(context, Staff(6, "admin"))
    row = reopenings.grant(context, case, HEAD, "It is new.")
    assert (row.state, row.round, row.reporter_round) == ("submitted", 2, 2)
    found = town.lookup(person)
    assert (found["points"], found["disputed"]) == (0.0, False), "not confirmed, and not shown, until it is decided"
    mine = record(town, person)[report["id"]]
    assert (mine["status"], mine["case"]["can_withdraw"]) == ("unconfirmed", False)
    assert mine["case"]["reopening_request"]["granted"] is True
    with pytest.raises(ActionRefused):
        subject.take_back(context, session_of(town, person), case)
    with pytest.raises(ReportDisputed):
        town.report(town.acme, person, order="A-1", replaces=report["id"], **town.told_now())
    desk.take(context, case, BEN)
    with pytest.raises(ConflictOfInterest):
        desk.assign(context, case, HEAD, ANNA)
    desk.decide(context, case, BEN, Outcome.UPHELD, "The scan shows it.")
    assert points(town, person) > 0
    assert bodies(town, "reopening")[-1]["round"] == 2
    # The line is open again, and the person has their own reopening still.
    row = subject.contest_again(context, session_of(town, person), case, "It does not.")
    assert (row.round, town.lookup(person)["disputed"]) == (3, True)
    desk.take(context, case, CLEO)
    desk.decide(context, case, CLEO, Outcome.OVERTURNED, "It does not.")
    assert points(town, person) == 0.0


def test_a_refused_or_late_request_leaves_the_order_closed(town: Street) -> None:
    context = town.rt.context
    person, _, case = contested(town, order="A-1")
    decide(town, case, Outcome.UNCONFIRMED)
    asked(town, case, secrets.token_bytes(32))
    reopenings.refuse_reopening(context, case, HEAD, "It shows nothing new.")
    for answer in (reopenings.grant, reopenings.refuse_reopening):
        with pytest.raises(ActionRefused):
            answer(context, case, HEAD, "Again.")
    assert case_row(town, case).round == 1
    with pytest.raises(OrderDecided):
        town.report(town.acme, person, order="A-1", **town.told_now())
    _, _, late = contested(town)
    decide(town, late, Outcome.UNCONFIRMED)
    town.clock.moment += timedelta(days=60, minutes=1)
    run_clocks(context)
    assert case_row(town, late).state == "closed"
    with pytest.raises(ActionRefused):
        asked(town, late, secrets.token_bytes(32))
