"""Conflict of interest in every view of the console: staff of the reporting group see nothing of the cases about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from ledger.server.db.engine import writing
from ledger.server.db.tables.staff import StaffEvent
from ledger.server.staff import audit
from ledger.server.staff.audit import EventFilter
from tests.api.appealed import GRAVE, Browsers, case_row, contested, staffed, with_file
from tests.api.conftest import ACME, BETA, Api

VIEWS = (
    "/console/audit?action=case_read",
    "/console/audit?action=decision_preview",
    "/console/audit/export.csv",
    "/console/audit/export.jsonl",
    "/console/queue",
    "/console/queue?state=settled",
    "/console/dashboard",
    "/console/dashboard/appeals.svg",
    "/console/dashboard/open.svg",
    "/console/dashboard/time-cn.svg",
    "/console/platforms",
    "/console/platforms/acme",
    "/console/staff",
)
"""Every page of the console that shows cases, or what was done in them, or numbers of them."""

OWN = re.compile(r"^.*(audit_exported|case_refused|login|staff_added).*\r?\n", re.M)
"""What the reader did themselves between two looks."""


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        for role in ("supervisor", "auditor", "admin"):
            browsers.console.add(f"acme-{role}", role, control_group=ACME.control_group)
        yield browsers


def seen(at: Browsers, name: str) -> dict[str, str]:
    """Every view as this member of staff gets it, without the times at which the pages were made."""
    by_name = {}
    for path in VIEWS:
        answer = at.client(name).get(path)
        if answer.status_code == 403:
            continue
        text = OWN.sub("", answer.text)
        by_name[path] = re.sub(r"\d{1,2}:\d\d(:\d\d)?(\.\d+)?|\d{4}-\d\d-\d\dT[^\"<]*", "", text)
    return by_name


def events(at: Browsers, group: str | None) -> list[str]:
    """The audit log's actions about cases, as a reader of this group is shown them."""
    rows = audit.page(at.api.rt.engine, EventFilter(object_type="appeal"), group).events
    return [f"{row.action} {row.object_id} {row.detail}" for row in rows]


def work(at: Browsers, case: str) -> None:
    """Everything that staff do in a case before it is decided, and the decision."""
    at.taken(case)
    file = with_file(at.api, case, b"hello", "a.txt", "text/plain")
    reviewer = at.client("reviewer")
    for path in ("", "/letter", f"/files/{file}"):
        assert reviewer.get(f"/console/cases/{case}{path}").status_code == 200
    decision = {"outcome": "upheld", "reasons": "The two photos show two things.", "confirmed": "yes"}
    assert at.act("reviewer", case, "note", note="Look at the second photo.").is_redirect
    assert at.act("reviewer", case, "preview", **decision).status_code == 200
    assert at.act("reviewer", case, "decide", **decision).is_redirect
    assert case_row(at.api, case).state == "awaiting_signoff"
    assert at.client("signer").get(f"/console/cases/{case}/letter").status_code == 200
    assert at.act("signer", case, "sign", confirmed="yes").is_redirect


def test_staff_of_the_reporting_group_see_no_difference_while_a_case_about_it_is_worked_on(
    api: Api, at: Browsers
) -> None:
    case = contested(api, by=ACME, **GRAVE)
    readers = ("acme-supervisor", "acme-auditor", "acme-admin")
    for name in (*readers, "reviewer", "signer"):
        at.client(name)  # the list of accounts shows who signed in when
    before = {name: seen(at, name) for name in readers}
    assert set(before["acme-supervisor"]) == set(VIEWS) - {"/console/staff"}
    assert {"/console/audit/export.csv", "/console/dashboard", "/console/platforms/acme"} < set(before["acme-admin"])
    work(at, case)
    for name in readers:
        after = seen(at, name)
        assert {path for path in after if after[path] != before[name][path]} == set(), name
        assert not any(case in text for text in after.values())
    assert not any(case in line for line in events(at, ACME.control_group))
    other = " ".join(line for line in events(at, BETA.control_group) if case in line)
    assert other == " ".join(line for line in events(at, None) if case in line), "an auditor of another group audits it"
    assert {"case_take", "case_read", "decision_preview", "case_propose", "case_sign"} <= set(other.split())


def test_a_case_about_another_group_is_seen_as_ever(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api, by=BETA))
    for path in ("/console/audit?object=appeal+" + case, "/console/audit/export.csv", "/console/audit/export.jsonl"):
        assert case in at.client("acme-auditor").get(path).text, path
    assert case in at.client("acme-supervisor").get("/console/queue").text


def test_what_is_drafted_or_proposed_is_in_the_audit_log_only_once_it_is_decided(api: Api, at: Browsers) -> None:
    case = contested(api, by=BETA, **GRAVE)
    work(at, case)
    shown = {line.split(" ")[0]: line.split(" ")[2] for line in events(at, None) if case in line}
    assert (shown["decision_preview"], shown["case_propose"], shown["case_sign"]) == ("None", "None", "upheld")


def test_exports_for_staff_of_a_group_have_no_numbers_that_show_gaps(api: Api, at: Browsers) -> None:
    at.taken(contested(api, by=ACME))
    at.taken(contested(api, by=BETA))
    lines = at.client("acme-auditor").get("/console/audit/export.jsonl").text.splitlines()
    assert {json.loads(line)["id"] for line in lines} == {None}
    lines = at.client("auditor").get("/console/audit/export.jsonl").text.splitlines()
    assert None not in {json.loads(line)["id"] for line in lines}


def test_pages_for_staff_of_a_group_hold_every_row_once(api: Api, at: Browsers) -> None:
    rt = api.rt
    with writing(rt.engine) as connection:
        for number in range(12):
            group = ACME.control_group if number % 3 == 0 else BETA.control_group
            audit.record(connection, rt.now(), None, "tried", "appeal", f"ap_{number:08}", about_group=group)
    expected, met, before = EventFilter(action="tried"), [], None
    while True:
        page = audit.page(rt.engine, expected, ACME.control_group, before, limit=3)
        met += [event.object_id for event in page.events]
        before = page.older
        if before is None:
            break
    assert met == [f"ap_{number:08}" for number in range(11, -1, -1) if number % 3]


def test_rows_of_an_earlier_version_are_shown_to_staff_of_no_group_only(api: Api, at: Browsers) -> None:
    own, other = contested(api, by=ACME), contested(api, by=BETA)
    at.taken(own)
    at.taken(other)
    with writing(api.rt.engine) as connection:
        connection.execute(update(StaffEvent).values(about_group=None))
    shown = events(at, None)
    assert len([line for line in shown if own in line or other in line]) == 2
    assert events(at, ACME.control_group) == events(at, BETA.control_group) == []


def test_a_row_about_a_case_names_the_group() -> None:
    with pytest.raises(ValueError, match="control group"):
        audit.record(None, None, None, "case_read", "appeal", "ap_1")  # type: ignore[arg-type]
