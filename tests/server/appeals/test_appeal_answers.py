"""What a platform that files an appeal learns about reports that are not about its customer: nothing, by no answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from ledger.errors import CaseExists, LedgerError
from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Outcome
from ledger.server.appeals import staff_actions
from ledger.server.appeals.filing import NOT_APPEALABLE
from tests.rotations import on_one_engine
from tests.server.appeals.rights_kit import FOREIGN, by_platform, file_for, somebody
from tests.server.appeals.test_appeals import ANNA, contest
from tests.server.conftest import LedgerFixture, Subjects

pytestmark = pytest.mark.one_engine

EVIL, ACCOMPLICE, OTHER, FOURTH = FOREIGN

Answer = tuple[str, str, str]
"""Code, message and details: all that a problem+json body is made of beside its request id."""


@contextmanager
def statements(ledger: LedgerFixture) -> Iterator[list[str]]:
    """The SQL that this thread executes meanwhile, in order."""
    executed: list[str] = []
    this = threading.get_ident()

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == this:
            executed.append(statement)

    event.listen(ledger.rt.engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        event.remove(ledger.rt.engine, "before_cursor_execute", note)


def attempted(ledger: LedgerFixture, person: Subjects, *reports: str) -> tuple[Answer, list[str]]:
    """What bolt is answered when it tries to contest the reports for this person, and the queries of it."""
    with statements(ledger) as executed:
        try:
            file_for(ledger, ledger.bolt, person, *reports)
        except LedgerError as error:
            return (error.code, str(error), str(error.details)), executed
    raise AssertionError("this was not to be filed")


def strangers_reports(ledger: LedgerFixture) -> dict[str, str]:
    """Ids of every kind that are not reports about the probed person."""
    now, reports = ledger.clock(), {}
    for kind in ("counting", "cooling", "disputed", "filed by us", "unconfirmed", "overturned", "withdrawn", "gone"):
        person = somebody()
        more = {"notice_sent_at": format_time(now)} if kind == "cooling" else {}
        if kind == "gone":
            more = {"act_ended_at": format_time(now - timedelta(days=364))}
        reports[kind] = str(ledger.report(ledger.acme, person, order=kind, **more)["id"])
        if kind == "filed by us":
            file_for(ledger, ledger.bolt, person, reports[kind])
        if kind in ("disputed", "unconfirmed", "overturned"):
            (case,) = contest(ledger, person, {"id": reports[kind]})
            if kind != "disputed":
                staff_actions.take(ledger.rt.context, case, ANNA)
                staff_actions.decide(ledger.rt.context, case, ANNA, Outcome(kind), "Because.")
        if kind == "withdrawn":
            ledger.withdraw(ledger.acme, reports[kind])
    reports["no entry"] = encode_id("rp", 2**40, ledger.rt.settings.service)
    reports["an entry that is no report"] = encode_id("rp", 0, ledger.rt.settings.service)
    reports["malformed"] = "rp_abcdefgh"
    ledger.clock.moment += timedelta(days=2)
    return reports


def test_every_report_that_is_not_the_persons_has_one_answer(ledger: LedgerFixture) -> None:
    """Alone, beside a case of one's own, beside a report of one's own group, and beside an unknown one: the same text,
    and the same queries, so that response times do not differ either."""
    ids, probed, nobody = strangers_reports(ledger), somebody(), somebody()
    cooling = str(ledger.report(ledger.acme, probed, order="p1", notice_sent_at=format_time(ledger.clock()))["id"])
    stone = str(ledger.report(ledger.acme, probed, order="p2", amount_minor=77)["id"])
    file_for(ledger, ledger.bolt, probed, stone)
    sisters = str(ledger.report(ledger.bolt, probed, order="p3", amount_minor=78)["id"])
    expected: dict[tuple[str, int], tuple[Answer, list[str]]] = {}
    for place, beside in {"alone": [], "stone": [stone], "own": [sisters], "unknown": [ids["no entry"]]}.items():
        kinds = ids if place == "alone" else ("counting", "cooling", "filed by us", "malformed")
        for turn, kind in enumerate(kinds):
            named = [ids[kind], *beside] if turn % 2 else [*beside, ids[kind]]
            answer, queries = attempted(ledger, probed, *named)
            known = expected.setdefault((place, len(named)), (answer, queries))
            assert (answer, queries) == known, (place, kind)
    assert {place: answer[0] for (place, _), (answer, _) in expected.items()} == {
        "alone": "not_found",
        "stone": "case_exists",
        "own": "conflict_of_interest",
        "unknown": "not_found",
    }
    assert expected["alone", 1][0] == ("not_found", NOT_APPEALABLE, "{}")
    # A report that is about the person tells nothing either, as long as nothing is opened for it.
    for beside, place in (([stone], "stone"), ([sisters], "own"), ([ids["counting"]], "unknown")):
        assert attempted(ledger, probed, cooling, *beside)[0] == expected[place, 2][0]
    answers = {attempted(ledger, nobody, report)[0] for report in (cooling, stone, ids["no entry"])}
    assert answers == {expected["alone", 1][0]}


def test_a_case_is_told_only_to_the_side_whose_it_is(ledger: LedgerFixture) -> None:
    person = somebody()
    report = str(ledger.report(ledger.acme, person)["id"])
    (own,) = contest(ledger, person, {"id": report})
    case = file_for(ledger, EVIL, person, report)
    assert case != own, "the person's own case is not told, and does not stand in the way"
    with pytest.raises(CaseExists) as refused:
        file_for(ledger, EVIL, person, report)
    assert refused.value.details == {"case": case}
    with pytest.raises(CaseExists) as mine:
        contest(ledger, person, {"id": report})
    assert mine.value.details == {"case": own}


@on_one_engine
def test_a_report_without_room_for_more_groups_is_as_unknown_as_none(ledger: LedgerFixture) -> None:
    person = somebody()
    report = str(ledger.report(ledger.acme, person)["id"])
    for platform in (ACCOMPLICE, OTHER, FOURTH):
        file_for(ledger, platform, person, report)
    full = attempted(ledger, person, report)
    assert full == attempted(ledger, somebody(), report)
    assert full[0][1] == NOT_APPEALABLE


@on_one_engine
def test_a_failed_attempt_leaves_a_trace_and_nothing_else(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    person = somebody()
    report = str(ledger.report(ledger.acme, person)["id"])
    with caplog.at_level("INFO"), suppress(LedgerError):
        file_for(ledger, EVIL, person, report, "rp_abcdefgh")
    assert not ledger.lookup(person)["disputed"], "all or none"
    (said,) = [record for record in caplog.records if record.getMessage() == "appeal_filing"]
    assert (said.platform, said.outcome) == ("g0", "not_found")  # type: ignore[attr-defined]
    assert report not in str(vars(said))


@on_one_engine
def test_a_platform_withdraws_at_most_three_times(ledger: LedgerFixture) -> None:
    person = somebody()
    report = str(ledger.report(ledger.acme, person)["id"])
    for _ in range(3):
        by_platform(ledger, EVIL, "withdraw", file_for(ledger, EVIL, person, report))
    last = file_for(ledger, EVIL, person, report)
    with pytest.raises(LedgerError) as refused:
        by_platform(ledger, EVIL, "withdraw", last)
    assert refused.value.code == "action_refused"
    assert ledger.lookup(person)["tier"] == "watch", "and suspends the report once"
