"""Held reports and requests to reopen on the console's pages, the person's pages and the reporter's API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx2
import pytest

from api.console.case_pages import ENTRIES
from ledger.protocol.encoding import b64url
from ledger.tlog.entries import EventType
from tests.api.appealed import GRAVE, Browsers, case_row, contested, held, send, somebody, staffed
from tests.api.browser_client import NewBrowser, browser_clients
from tests.api.cases import attach
from tests.api.conftest import ACME, Api
from tests.api.console_fixture import assert_shell, post, said
from tests.personas import Persona

REASONS = {"reasons": "The parcel numbers differ.", "confirmed": "yes"}


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        browsers.console.add("second", "supervisor")
        browsers.console.add("acme-chief", "supervisor", control_group=ACME.control_group)
        yield browsers


@pytest.fixture
def new_browser(api: Api) -> Iterator[NewBrowser]:
    with browser_clients(api) as created:
        yield created


def status(api: Api, report: str) -> str:
    return str(api.request("GET", f"/v1/reports/{report}", ACME).json()["status"])


def act(at: Browsers, name: str, report: str, step: str, seen: str = "1", **fields: str) -> httpx2.Response:
    return post(at.client(name), f"/console/held/{report}/{step}", {"seen": seen, **fields})


def test_a_release_takes_a_reason_a_supervisor_and_for_a_grave_report_a_second_person(api: Api, at: Browsers) -> None:
    report = held(api, somebody(), **GRAVE)
    chief = at.client("supervisor")
    page = chief.get(f"/console/held/{report}")
    assert_shell(page)
    assert "None was given yet" in said(page)
    assert ">Propose the release<" not in page.text
    assert act(at, "supervisor", report, "release", "0", **REASONS).status_code == 422
    explained = send(api, f"/v1/reports/{report}/explain", {"text": "Another parcel, <b>another</b> day."})
    assert explained.json()["hold"]["explanation"] == "Another parcel, <b>another</b> day."
    page = chief.get(f"/console/held/{report}")
    assert "&lt;b&gt;another&lt;/b&gt;" in page.text
    assert report in chief.get("/console/held").text
    unticked = act(at, "supervisor", report, "release", reasons="x")
    assert (unticked.status_code, "Tick the box" in said(unticked)) == (422, True)
    assert act(at, "reviewer", report, "release", **REASONS).status_code == 403
    assert act(at, "supervisor", report, "release", **REASONS).is_redirect
    assert status(api, report) == "held"
    assert "Release proposed" in said(chief.get("/console/held"))
    own = act(at, "supervisor", report, "sign", confirmed="yes")
    assert own.status_code == 403
    assert act(at, "second", report, "sign", confirmed="yes").is_redirect
    assert status(api, report) in ("cooling", "counting")
    assert report not in chief.get("/console/held").text


def test_the_case_about_a_released_report_is_shown(api: Api, at: Browsers, new_browser: NewBrowser) -> None:
    who = somebody()
    report = held(api, who)
    assert send(api, f"/v1/reports/{report}/explain", {"text": "Another parcel."}).status_code == 200
    assert act(at, "supervisor", report, "release", **REASONS).is_redirect
    browser = new_browser().open(Persona(api, who).code())
    case = browser.contest(report)
    page = at.client("reviewer").get(f"/console/cases/{case}")
    assert (page.status_code, "Release of the held report" in page.text) == (200, True)
    assert browser.get(f"/me/cases/{case}").status_code == 200


def test_a_case_page_has_a_name_for_every_entry_that_a_case_has() -> None:
    elsewhere = {EventType.WITHDRAWAL, EventType.RESTITUTION, EventType.ERASURE}
    assert set(ENTRIES) == set(EventType) - elsewhere
    assert {item for item in EventType if item.spec.case_title is None} == elsewhere


def test_staff_of_the_reporting_group_see_no_held_report(api: Api, at: Browsers) -> None:
    report = held(api, somebody())
    chief = at.client("acme-chief")
    assert report not in chief.get("/console/held").text
    assert chief.get(f"/console/held/{report}").status_code == 403
    assert act(at, "acme-chief", report, "refuse", "0", **REASONS).status_code == 403
    for path in ("/console/audit", "/console/audit/export.csv"):
        assert report not in chief.get(path).text
    assert at.client("auditor").get(f"/console/held/{report}").status_code == 200
    assert act(at, "auditor", report, "refuse", "0", **REASONS).status_code == 403
    assert at.client("admin").get("/console/held").status_code == 403
    assert status(api, report) == "held"


def test_a_refusal_voids_it_and_tells_the_reporter_why(api: Api, at: Browsers) -> None:
    report = held(api, somebody())
    assert act(at, "supervisor", report, "refuse", "0", **REASONS).is_redirect
    view = api.request("GET", f"/v1/reports/{report}", ACME).json()
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "not_released")
    assert view["hold"]["reasons"] == REASONS["reasons"]
    assert at.client("supervisor").get(f"/console/held/{report}").status_code == 409


def test_the_person_reads_that_it_is_held(api: Api, new_browser: NewBrowser) -> None:
    who = somebody()
    report = held(api, who)
    page = new_browser().open(Persona(api, who).code()).get("/me")
    assert report in page.text
    assert "looks like one that you contested before" in said(page)
    assert "Held back" in said(page)


def test_a_reporter_asks_to_reopen_and_a_reviewer_who_did_not_decide_answers(api: Api, at: Browsers) -> None:
    case = contested(api, somebody())
    at.taken(case)
    decided = at.act(
        "reviewer", case, "decide", outcome="unconfirmed", reasons="Neither can be shown.", confirmed="yes"
    )
    assert decided.is_redirect
    body = {"evidence_sha256": b64url(hashlib.sha256(b"new").digest()), "text": "The carrier's scan."}
    asked = send(api, f"/v1/appeals/{case}/reopen-request", body)
    assert asked.json()["reopening_request"]["granted"] is None
    listed = at.client("signer").get("/console/held")
    assert listed.status_code == 200
    assert "The carrier&#39;s scan." in listed.text
    answer = {"reasons": "This evidence is new."}
    assert post(at.client("reviewer"), f"/console/reopenings/{case}/grant", answer).status_code == 403
    assert post(at.client("signer"), f"/console/reopenings/{case}/grant", {"reasons": ""}).status_code == 422
    assert post(at.client("signer"), f"/console/reopenings/{case}/grant", answer).is_redirect
    assert case_row(api, case).state == "submitted"
    assert "The carrier&#39;s scan." not in at.client("signer").get("/console/held").text
    # The reviewer of the round sees the new evidence; nothing else that the report did not name is taken.
    refused = attach(api, case, ACME, "reporter", b"other", "other.txt")
    assert (refused.status_code, refused.json()["code"]) == (422, "attachment_refused")
    assert "named no item" in refused.json()["detail"]
    handed_in = attach(api, case, ACME, "reporter", b"new", "scan.txt")
    assert (handed_in.status_code, handed_in.json()["evidence_index"]) == (201, None)
    page = at.client("signer").get(f"/console/cases/{case}").text
    assert "New evidence, for which the case was opened again" in page
    assert "scan.txt" in page


def test_the_person_agrees_to_a_concession_on_their_page(api: Api, new_browser: NewBrowser) -> None:
    who = somebody()
    case = contested(api, who, **GRAVE)
    unknown = send(api, f"/v1/appeals/{case}/concede", {"conduct": "fraud"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_conduct")
    conceded = send(api, f"/v1/appeals/{case}/concede", {"conduct": "wardrobing"})
    assert conceded.status_code == 200, conceded.text
    assert conceded.json()["concession"]["conduct"] == "wardrobing"
    browser = new_browser().open(Persona(api, who).code())
    assert "The platform proposes a correction" in said(browser.get(f"/me/cases/{case}"))
    assert browser.post(f"/me/cases/{case}/agree", x="1").status_code == 303
    assert "You agreed on" in said(browser.get(f"/me/cases/{case}"))
    assert api.request("GET", f"/v1/appeals/{case}", ACME).json()["concession"]["agreed_at"] is not None
