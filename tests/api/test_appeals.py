"""Appeals over HTTP: filing, who sees what, answering, taking back, letters, and what a stranger gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer, staff_actions
from tests.api.cases import (
    ANNA,
    STATEMENT,
    about,
    appeal_body,
    case,
    decide,
    enrolled,
    filed,
    get,
    in_session,
    key,
    narrowed,
    reported,
    say,
    somebody,
    view,
)
from tests.api.conftest import ACME, BETA, READER, Api

# --- filing -------------------------------------------------------------------------------------------------------


def test_an_appeal_stops_the_report_at_once(api: Api) -> None:
    subjects = somebody()
    first, second = reported(api, subjects), reported(api, subjects)
    body = appeal_body([first, second], **about(api, subjects))
    answer = api.request("POST", "/v1/appeals", BETA, key=key(), json=body)
    assert answer.status_code == 201
    created = answer.json()
    assert [appeal["report"] for appeal in created["appeals"]] == [first, second]
    assert created["group"] == created["appeals"][0]["id"] != created["appeals"][1]["id"]
    assert {item["state"] for item in created["appeals"]} == {"submitted"}
    lookup = api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*subjects)).json()
    assert (lookup["tier"], lookup["disputed"]) == ("clear", True)
    report = get(api, f"/v1/reports/{first}", ACME).json()
    assert (report["status"], report["appeal"]["id"]) == ("disputed", created["group"])


def test_a_platform_contests_no_report_of_its_own_control_group(api: Api) -> None:
    subjects = somebody()
    report = reported(api, subjects)
    sister = enrolled(api, "sister", "acme-group")
    attempts = [(ACME, {}), (ACME, about(api, subjects)), (sister, about(api, subjects))]
    for platform, tags in attempts:
        answer = api.request("POST", "/v1/appeals", platform, key=key(), json=appeal_body([report], **tags))
        assert (answer.status_code, answer.json()["code"]) == (403, "conflict_of_interest")
    unknown = api.request("POST", "/v1/appeals", sister, key=key(), json=appeal_body([report]))
    assert unknown.status_code == 404, "without the person's tags a sister learns nothing"


def test_a_replay_gets_the_same_answer_and_another_request_a_conflict(api: Api) -> None:
    subjects, once = somebody(), key()
    body = appeal_body([reported(api, subjects)], **about(api, subjects))
    first = api.request("POST", "/v1/appeals", BETA, key=once, json=body)
    again = api.request("POST", "/v1/appeals", BETA, key=once, json=body)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = api.request("POST", "/v1/appeals", BETA, key=once, json={**body, "statement": "Something else."})
    assert other.json()["code"] == "idempotency_mismatch"
    twice = api.request("POST", "/v1/appeals", BETA, key=key(), json=body)
    assert (twice.status_code, twice.json()["code"]) == (409, "case_exists")
    assert twice.json()["case"] == first.json()["group"]


def test_a_report_about_somebody_else_is_as_unknown_as_none(api: Api) -> None:
    report = reported(api, somebody())
    stranger = about(api, somebody())
    nothing = encode_id("rp", 2**40, api.settings.service)
    answers = [
        api.request("POST", "/v1/appeals", BETA, key=key(), json=appeal_body([report], **stranger)),
        api.request("POST", "/v1/appeals", BETA, key=key(), json=appeal_body([nothing], **stranger)),
        api.request("POST", "/v1/appeals", BETA, key=key(), json=appeal_body([report])),
    ]
    assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {(404, answers[0].json()["detail"])}
    mine = somebody()
    both = appeal_body([reported(api, mine), report], **about(api, mine))
    assert api.request("POST", "/v1/appeals", BETA, key=key(), json=both).status_code == 404
    lookup = api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*mine)).json()
    assert not lookup["disputed"], "all or none"


def test_no_byte_of_an_answer_tells_one_unknown_report_from_another(api: Api) -> None:
    """What exists, has a case, cools, was decided or never was, alone and beside a case of one's own."""
    subjects = somebody()
    stone = reported(api, subjects)
    filed(api, subjects, stone)
    cooling = reported(api, somebody(), notice_sent_at=format_time(api.rt.now()))
    disputed, decided = case(api), case(api)
    decide(api, decided[0], Outcome.UNCONFIRMED)
    ids = [cooling, disputed[1], decided[1], "rp_abcdefgh", encode_id("rp", 2**40, api.settings.service)]
    answers: dict[int, set[tuple[int, str, str]]] = {1: set(), 2: set()}
    for report in ids:
        for named in ([report], [report, stone]):
            body = appeal_body(named, **about(api, subjects))
            answer = api.request("POST", "/v1/appeals", BETA, key=key(), json=body)
            text = answer.text.replace(answer.json()["request_id"], "")
            headers = sorted(name for name in answer.headers if name != "date")
            answers[len(named)].add((answer.status_code, text, str(headers)))
    assert [{status for status, *_ in item} for item in answers.values()] == [{404}, {409}]
    assert all(len(each) == 1 for each in answers.values())


def test_a_case_against_an_unknown_person_does_not_tell_of_an_existing_case(api: Api) -> None:
    _, report, _ = case(api)
    answer = api.request("POST", "/v1/appeals", BETA, key=key(), json=appeal_body([report], **about(api, somebody())))
    assert answer.status_code == 404


def test_a_stale_epoch_is_refused_with_the_current_one(api: Api) -> None:
    subjects = somebody()
    body = appeal_body([reported(api, subjects)], **about(api, subjects, epoch=77))
    answer = api.request("POST", "/v1/appeals", BETA, key=key(), json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_epoch")
    assert answer.json()["epoch"] == api.rt.keys.epoch


REPORT = encode_id("rp", 2**40, "refund-ledger.local")
BAD: list[tuple[dict[str, Any], str]] = [
    ({"reports": []}, "appeal_invalid"),
    ({"reports": [REPORT] * 21}, "appeal_invalid"),
    ({"reports": ["rp_abcdefgh"]}, "not_found"),
    ({"grounds": "because"}, "invalid_request"),
    ({"locale": "fr"}, "invalid_request"),
    ({"statement": ""}, "invalid_request"),
    ({"statement": "x" * 2001}, "invalid_request"),
    ({"statement": " \n\t "}, "appeal_invalid"),
    ({"statement": "\u2028\u200b"}, "appeal_invalid"),
    ({"statement": "\u202e\x00"}, "appeal_invalid"),
    ({"subjects": None}, "invalid_request"),
    ({"epoch": None}, "invalid_request"),
    ({"subjects": []}, "invalid_request"),
    ({"contact": "+86"}, "invalid_request"),
]


@pytest.mark.parametrize(("changes", "code"), BAD, ids=[f"{n}-{code}" for n, (_, code) in enumerate(BAD)])
def test_what_breaks_the_rules_is_refused(api: Api, changes: dict[str, Any], code: str) -> None:
    subjects = somebody()
    body = {**appeal_body([reported(api, subjects)], **about(api, subjects)), **changes}
    answer = api.request("POST", "/v1/appeals", BETA, key=key(), json=body)
    assert answer.json()["code"] == code
    assert answer.status_code in (404, 422)
    assert "+86" not in answer.text


def test_the_same_report_twice_is_refused(api: Api) -> None:
    subjects = somebody()
    report = reported(api, subjects)
    body = appeal_body([report, report], **about(api, subjects))
    assert api.request("POST", "/v1/appeals", BETA, key=key(), json=body).json()["code"] == "appeal_invalid"


def test_text_is_kept_in_one_form(api: Api) -> None:
    subjects, once = somebody(), key()
    body = appeal_body([reported(api, subjects)], **about(api, subjects), statement="Cafe\u0301\r\nyes")
    answer = api.request("POST", "/v1/appeals", BETA, key=once, json=body)
    assert view(api, answer.json()["group"], BETA)["timeline"][0]["text"] == "Caf\u00e9\nyes"
    again = api.request("POST", "/v1/appeals", BETA, key=once, json={**body, "statement": "Caf\u00e9\nyes"})
    assert again.headers["idempotency-replayed"] == "true", "what was understood is the same"


# --- who sees what ------------------------------------------------------------------------------------------------


def test_neither_party_learns_who_the_other_is_nor_who_decides(api: Api) -> None:
    appeal, report, _ = case(api)
    staff_actions.take(api.rt.context, appeal, ANNA)
    staff_actions.note(api.rt.context, appeal, ANNA, "Between ourselves.")
    staff_actions.ask_reporter(api.rt.context, appeal, ANNA, "For the reporter only?")
    filer, reporter = view(api, appeal, BETA), view(api, appeal, ACME)
    assert (filer["party"], reporter["party"]) == ("subject", "reporter")
    for text, others in ((json.dumps(filer), ("acme",)), (json.dumps(reporter), ("beta",))):
        for word in (*others, "group-", "staff", "Between ourselves", f'"{ANNA.id}"', f" {ANNA.id},"):
            assert word not in text
    assert reporter["question"]["text"] == "For the reporter only?"
    assert filer["question"] is None
    assert "For the reporter only?" not in json.dumps(filer)
    assert filer["timeline"][0]["text"] == reporter["timeline"][0]["text"] == STATEMENT
    assert {event["action"] for event in filer["timeline"]} == {"open", "ask_reporter"}
    assert filer["report"] == reporter["report"] == report


def test_cases_filed_together_show_a_reporter_only_its_own(api: Api) -> None:
    subjects = somebody()
    mine, other = reported(api, subjects), reported(api, subjects, enrolled(api, "gamma"), amount_minor=4_000)
    appeal = filed(api, subjects, mine, other)
    assert len(view(api, appeal, BETA)["group"]) == 2
    assert view(api, appeal, ACME)["group"] == [appeal]


def test_who_is_no_party_finds_no_case(api: Api) -> None:
    appeal, _, _ = case(api)
    gamma = enrolled(api, "gamma")
    unknown = encode_id("ap", 2**40, api.settings.service)
    expected = get(api, f"/v1/appeals/{unknown}", gamma)
    assert expected.status_code == 404
    for query in ({}, {"party": "subject"}, {"party": "reporter"}):
        answer = get(api, f"/v1/appeals/{appeal}", gamma, **query)
        assert (answer.status_code, answer.json()["detail"]) == (404, expected.json()["detail"])
    assert get(api, f"/v1/appeals/{appeal}", BETA, party="reporter").status_code == 404
    assert get(api, f"/v1/appeals/{appeal}", ACME, party="subject").status_code == 404
    for path, body in ACTIONS.items():
        answer = api.request("POST", f"/v1/appeals/{appeal}/{path}", gamma, key=key(), json=body)
        assert (answer.status_code, answer.json()["detail"]) == (404, expected.json()["detail"]), path
    for path in ("letters", "letters/received"):
        assert get(api, f"/v1/appeals/{appeal}/{path}", gamma).status_code == 404
        assert get(api, f"/v1/appeals/{appeal}/{path}", ACME).status_code == 404, "the reporter reads no letters"


ACTIONS: dict[str, dict[str, str]] = {
    "messages": {"party": "subject", "text": "x"},
    "withdraw": {},
    "reopen": {"text": "x"},
}


@pytest.mark.parametrize("path", ["", "/letters/decided", "/attachments/at_abcdefgh"])
def test_odd_ids_are_not_found(api: Api, path: str) -> None:
    for appeal in ("ap_abcdefgh", "rp_Xk3mPq9a", "x", "ap_", "ap_" + "9" * 40, "%00", "%F0%9F%A6%8A", ".."):
        assert get(api, f"/v1/appeals/{appeal}{path}", ACME).status_code == 404, appeal
        head = api.request("HEAD", f"/v1/appeals/{appeal}{path}", ACME)
        assert (head.status_code in (404, 405), head.content) == (True, b""), appeal


def test_scopes_are_asked_for(api: Api) -> None:
    appeal, _, _ = case(api)
    for method, path in (
        ("GET", "/v1/appeals"),
        ("GET", f"/v1/appeals/{appeal}"),
        ("POST", "/v1/appeals"),
        ("POST", f"/v1/appeals/{appeal}/withdraw"),
        ("GET", f"/v1/appeals/{appeal}/letters"),
        ("POST", "/v1/subject-sessions"),
    ):
        answer = api.request(method, path, READER, key=key(), json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
        assert "scope=" in answer.headers["www-authenticate"]


def test_report_alone_answers_for_ones_own_reports_and_speaks_for_nobody(api: Api) -> None:
    subjects = somebody()
    appeal = filed(api, subjects, reported(api, subjects))
    only = narrowed(api, ACME, "report")
    path = f"/v1/appeals/{appeal}"
    assert api.request("GET", path, headers=only).json()["party"] == "reporter"
    assert api.request("GET", path, headers=only, params={"party": "subject"}).status_code == 403
    listed = api.request("GET", "/v1/appeals", headers=only, params={"limit": 1}).json()["data"]
    assert [(item["id"], item["party"]) for item in listed] == [(appeal, "reporter")]
    assert api.request("GET", "/v1/appeals", headers=only, params={"role": "filed"}).status_code == 403
    body = {"party": "subject", "text": "In their name."}
    answer = api.request("POST", f"{path}/messages", headers=only, key=key(), json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    answer = api.request("POST", f"{path}/messages", headers=only, key=key(), json={**body, "party": "reporter"})
    assert answer.json()["party"] == "reporter"
    assert api.request("GET", f"{path}/letters", headers=only).status_code == 403
    assert api.request("POST", f"{path}/withdraw", headers=only, key=key()).status_code == 403


def test_who_only_opened_the_session_reads_the_state_and_no_more(api: Api) -> None:
    subjects = somebody()
    report = reported(api, subjects)
    (row,) = consumer.open_cases(api.rt.context, in_session(api, subjects), [report], "not_me", "It was not me.", "en")
    appeal = encode_id("ap", row.id, api.settings.service)
    result = view(api, appeal, BETA)
    assert result.keys() == {"id", "state", "opened_at", "due_at", "overdue"}
    assert get(api, f"/v1/appeals/{appeal}", BETA, party="subject").status_code == 404
    assert say(api, appeal, BETA, "subject", "x").status_code == 404
    assert get(api, f"/v1/appeals/{appeal}/letters", BETA).status_code == 404
    for path in ("withdraw", "reopen"):
        answer = api.request("POST", f"/v1/appeals/{appeal}/{path}", BETA, key=key(), json={"text": "x"})
        assert answer.status_code == 404
    listed = get(api, "/v1/appeals", BETA, role="filed", limit=1).json()["data"][0]
    assert (listed["id"], listed["party"], listed["report"], listed["outcome"]) == (appeal, None, None, None)
    assert view(api, appeal, ACME)["party"] == "reporter"


def test_lists_are_paged_and_filtered(api: Api) -> None:
    created = [case(api)[0] for _ in range(3)]
    results: list[str] = []
    after: dict[str, str] = {}
    for _ in range(3):
        page = get(api, "/v1/appeals", BETA, role="filed", limit=1, **after).json()
        assert page["has_more"] in (True, len(results) < 2)
        results += [item["id"] for item in page["data"]]
        after = {"starting_after": results[-1]}
    assert results == created[::-1]
    decide(api, created[1])
    decided = get(api, "/v1/appeals", ACME, role="reported", state="decided").json()["data"]
    assert decided[0]["id"] == created[1]
    assert (decided[0]["party"], decided[0]["outcome"]) == ("reporter", "upheld")
    assert {each["state"] for each in decided} == {"decided"}
    staff_actions.take(api.rt.context, created[0], ANNA)
    staff_actions.ask_reporter(api.rt.context, created[0], ANNA, "Why?")
    waiting = {
        platform.name: get(api, "/v1/appeals", platform, state="awaiting_reporter").json()["data"][0]
        for platform in (ACME, BETA)
    }
    assert waiting["acme"]["answer_due_at"]
    assert waiting["beta"]["answer_due_at"] is None
    for query in ({"role": "both"}, {"state": "lost"}, {"limit": 0}, {"limit": 101}, {"starting_after": "rp_abc"}):
        answer = get(api, "/v1/appeals", ACME, **query)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), query
