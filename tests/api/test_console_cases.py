"""Working on cases over real HTTP: every action by every role, conflicts, stale forms and those of other sites."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta

import httpx2
import pytest

from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer
from ledger.server.appeals.participants import Participant, Party
from tests.api.appealed import (
    GRAVE,
    PNG,
    Browsers,
    case_row,
    contested,
    newest,
    session_of,
    set_due,
    somebody,
    staffed,
    with_file,
)  # fmt: skip
from tests.api.conftest import ACME, BETA, Api
from tests.api.console_fixture import post, said
from tests.counts import trials
from tests.server.appeals.contested import add_message as add_message_to


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        yield browsers


# --- who may do what ----------------------------------------------------------------------------------------------

READS = ("/console/queue", "/console/cases/{case}", "/console/cases/{case}/letter")
ACTIONS: dict[str, dict[str, str]] = {
    "take": {},
    "assign": {"assignee": "1"},
    "skip": {},
    "hand-back": {},
    "note": {"note": "x"},
    "ask-reporter": {"ask_reporter": "x"},
    "ask-subject": {"ask_subject": "x"},
    "extend": {"extend": "x"},
    "preview": {"outcome": "upheld", "reasons": "x"},
    "edit": {},
    "decide": {"outcome": "upheld", "reasons": "x", "confirmed": "yes"},
    "sign": {"confirmed": "yes"},
    "decline": {"decline": "x"},
}


@pytest.mark.parametrize("path", READS)
def test_who_may_read_a_case(api: Api, at: Browsers, path: str) -> None:
    case = contested(api)
    for name, status in (("reviewer", 200), ("supervisor", 200), ("auditor", 200), ("admin", 403)):
        assert at.client(name).get(path.format(case=case)).status_code == status, name


@pytest.mark.parametrize("name", ["auditor", "admin"])
def test_who_may_read_and_who_may_act(api: Api, at: Browsers, name: str) -> None:
    case = contested(api)
    for action, fields in ACTIONS.items():
        assert at.act(name, case, action, **fields).status_code == 403, action
    assert post(at.client(name), "/console/queue/next").status_code == 403
    assert case_row(api, case).state == "submitted"
    if name == "auditor":
        assert '<form method="post" action="/console/cases' not in at.client(name).get(f"/console/cases/{case}").text


def test_nobody_comes_in_without_a_session(api: Api, at: Browsers) -> None:
    case = contested(api)
    with at.console.client() as stranger:
        for path in (*READS, "/console/cases/{case}/files/at_x"):
            answer = stranger.get(path.format(case=case))
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/console/login")
        for action, fields in ACTIONS.items():
            answer = post(stranger, f"/console/cases/{case}/{action}", {"seen": "1", **fields})
            assert answer.status_code == 401, action


def test_what_was_written_outlives_the_session(api: Api, at: Browsers) -> None:
    case = contested(api)
    fields = {"seen": "1", "outcome": "upheld", "reasons": "A long <b>text</b>.", "password": "not echoed"}
    with at.console.client() as stranger:
        answer = post(stranger, f"/console/cases/{case}/preview", fields)
        assert answer.status_code == 401
        assert "A long &lt;b&gt;text&lt;/b&gt;." in answer.text
        assert "not echoed" not in answer.text
        foreign = post(stranger, f"/console/cases/{case}/preview", fields, {"Sec-Fetch-Site": "cross-site"})
        assert (foreign.status_code, "A long" in foreign.text) == (403, False)


def test_forms_of_other_sites_are_refused(api: Api, at: Browsers) -> None:
    """In the short run each action with two of the six origins, and each origin with four or five actions."""
    case = contested(api)
    foreign: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": api.url},
        {"Sec-Fetch-Site": "none"},
        {},
    )
    for place, headers in enumerate(foreign):
        for action, fields in list(ACTIONS.items())[place % trials(3, 1) :: trials(3, 1)]:
            path, data = f"/console/cases/{case}/{action}", {"seen": newest(api, case), **fields}
            assert post(at.client("reviewer"), path, data, headers).status_code == 403, action
        assert post(at.client("reviewer"), "/console/queue/next", {}, headers).status_code == 403
    assert case_row(api, case).state == "submitted"
    own = {"Sec-Fetch-Site": "same-origin"}
    assert post(at.client("reviewer"), f"/console/cases/{case}/take", {"seen": newest(api, case)}, own).is_redirect


def test_conflict_of_interest_is_refused_by_the_server(api: Api, at: Browsers) -> None:
    case = contested(api, by=ACME)
    file = with_file(api, case, PNG, "a.png", "image/png")
    bound = at.client("bound")
    page = bound.get(f"/console/cases/{case}")
    assert page.status_code == 403
    assert "own group" in said(page)
    assert "broken" not in page.text
    for path in (f"/console/cases/{case}/letter", f"/console/cases/{case}/files/{file}"):
        assert bound.get(path).status_code == 403
    refused = at.audited(case).count("case_refused")
    for action, fields in ACTIONS.items():
        answer = at.act("bound", case, action, **fields)
        assert answer.status_code == 403, action
        assert "broken" not in answer.text
    assert refused == 3
    assert at.audited(case).count("case_refused") == refused + len(ACTIONS)
    for query in ("", f"?case={case}", "?state=settled"):
        assert f"/console/cases/{case}" not in bound.get(f"/console/queue{query}").text
    assert case_row(api, case).state == "submitted"
    other = contested(api, by=BETA)
    assert bound.get(f"/console/cases/{other}").status_code == 200


# --- working on a case --------------------------------------------------------------------------------------------


def test_a_case_from_the_queue_to_the_letter(api: Api, at: Browsers) -> None:
    case = contested(api, statement="I sent it back on the third.")
    set_due(api, case, api.rt.now() - timedelta(days=400))
    reviewer = at.client("reviewer")
    assert case in reviewer.get(f"/console/queue?case={case}").text
    answer = post(reviewer, "/console/queue/next")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/cases/{case}?done=take")
    page = said(reviewer.get(answer.headers["location"]))
    for words in ("I sent it back on the third.", "in your hands", "Overdue", "On paper, file not handed in"):
        assert words in page
    assert at.act("reviewer", case, "note", note="Ask the carrier.").status_code == 303
    preview = at.act("reviewer", case, "preview", outcome="overturned", reasons="No record of the carrier.")
    assert preview.status_code == 200
    assert "No record of the carrier." in said(preview)
    assert "Nothing is decided yet" in said(preview)
    assert case_row(api, case).state == "under_review"
    edit = at.act("reviewer", case, "edit", outcome="overturned", reasons="No record of the carrier.")
    assert ">\nNo record of the carrier.</textarea>" in edit.text
    done = at.act("reviewer", case, "decide", outcome="overturned", reasons="No record.", confirmed="yes")
    assert (done.status_code, done.headers["location"]) == (303, f"/console/cases/{case}?done=decide")
    assert case_row(api, case).outcome == "overturned"
    for locale, words in (("en", "we decided to remove the record"), ("zh-CN", "决定删除")):
        letter = reviewer.get(f"/console/cases/{case}/letter?locale={locale}")
        assert words in said(letter), said(letter)
        assert f'lang="{locale}"' in letter.text
    assert at.audited(case)[-3:] == ["case_decide", "letter_read", "letter_read"]


OUTCOMES: dict[Outcome, dict[str, str]] = {
    Outcome.UPHELD: {},
    Outcome.AMENDED: {"conduct": "wardrobing"},
    Outcome.OVERTURNED: {"conduct": "wardrobing"},
    Outcome.UNCONFIRMED: {"slot_1": "1"},
    Outcome.VICTIM: {},
    Outcome.UNLINKED: {"slot_1": "1", "conduct": "wardrobing"},
}


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome(api: Api, at: Browsers, outcome: Outcome) -> None:
    case = at.taken(contested(api))
    fields = {"outcome": outcome.value, "reasons": "Because of the record.", **OUTCOMES[outcome]}
    for locale in ("en", "zh-CN"):
        assert at.act("reviewer", case, "preview", **fields, locale=locale).status_code == 200
    unconfirmed = at.act("reviewer", case, "decide", **fields)
    assert (unconfirmed.status_code, case_row(api, case).state) == (200, "under_review"), "the letter comes first"
    assert at.act("reviewer", case, "decide", **fields, confirmed="yes").status_code == 303
    row = case_row(api, case)
    assert (row.state, row.outcome) == ("decided", outcome.value)
    assert row.amended_conduct == ("wardrobing" if outcome is Outcome.AMENDED else None)
    assert row.unlinked_slots == ("1" if outcome is Outcome.UNLINKED else None)


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "", "reasons": "kept words"},
        {"outcome": "nonsense", "reasons": "kept words"},
        {"outcome": "amended", "reasons": "kept words"},
        {"outcome": "amended", "conduct": "switched_return", "reasons": "kept words"},
        {"outcome": "unlinked", "reasons": "kept words"},
        {"outcome": "unlinked", "slot_0": "1", "slot_1": "1", "reasons": "kept words"},
        {"outcome": "unlinked", "slot_7": "1", "reasons": "kept words"},
        {"outcome": "upheld", "reasons": "kept words " + "x" * 2001},
    ],
)
def test_a_wrong_decision_keeps_what_was_typed(api: Api, at: Browsers, fields: dict[str, str]) -> None:
    case = at.taken(contested(api))
    for action in ("preview", "decide"):
        answer = at.act("reviewer", case, action, **fields, confirmed="yes")
        assert answer.status_code == 422
        assert "kept words" in answer.text
        assert 'role="alert"' in answer.text
    assert case_row(api, case).state == "under_review"


def test_a_grave_report_takes_a_second_signature(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api, **GRAVE))
    proposed = at.act("reviewer", case, "decide", outcome="upheld", reasons="The numbers differ.", confirmed="yes")
    assert proposed.headers["location"].endswith("done=propose")
    own = at.client("reviewer").get(f"/console/cases/{case}")
    assert "You cannot sign this one." in said(own)
    assert f'action="/console/cases/{case}/sign"' not in own.text
    assert at.act("reviewer", case, "sign", confirmed="yes").status_code == 403
    assert case in at.client("signer").get("/console/queue?to_sign=1").text
    letter = at.client("signer").get(f"/console/cases/{case}/letter?kind=proposed")
    assert "The numbers differ." in said(letter)
    assert "It was not sent" in said(letter)
    assert at.act("signer", case, "sign").status_code == 422, "the box is not ticked"
    assert at.act("signer", case, "decline", decline="Not sure.").status_code == 303
    assert case_row(api, case).state == "under_review"
    at.act("reviewer", case, "decide", outcome="upheld", reasons="The numbers differ.", confirmed="yes")
    assert at.act("supervisor", case, "sign", confirmed="yes").status_code == 303
    assert case_row(api, case).outcome == "upheld"


def test_questions_and_handing_back(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api))
    empty = at.act("reviewer", case, "ask-reporter", ask_reporter="  ")
    assert (empty.status_code, case_row(api, case).state) == (422, "under_review")
    assert at.act("reviewer", case, "ask-reporter", ask_reporter="Where is the record?").status_code == 303
    assert case_row(api, case).state == "awaiting_reporter"
    refused = at.act("reviewer", case, "ask-subject", ask_subject="And you?")
    assert refused.status_code == 409
    add_message_to(api.rt.context, case_row(api, case).id, Participant(Party.REPORTER, "acme", "acme-group"), "Here.")
    assert at.act("reviewer", case, "ask-subject", ask_subject="And you?").status_code == 303
    other = at.taken(contested(api))
    assert at.act("reviewer", other, "hand-back", hand_back="I know them.").status_code == 303
    assert case_row(api, other).state == "submitted"
    assert at.act("reviewer", other, "skip").status_code == 303
    assert at.act("reviewer", other, "extend", extend="More.").status_code == 409


def test_the_next_case_is_one_that_was_not_passed_over(api: Api, at: Browsers) -> None:
    case, other = contested(api), contested(api)
    for number, value in enumerate((case, other)):
        set_due(api, value, api.rt.now() - timedelta(days=500 - number))
    skipped = at.act("signer", case, "skip")
    assert "not offered to you again today" in said(at.client("signer").get(skipped.headers["location"]))
    assert post(at.client("signer"), "/console/queue/next").headers["location"] == f"/console/cases/{other}?done=take"
    assert post(at.client("reviewer"), "/console/queue/next").headers["location"] == f"/console/cases/{case}?done=take"
    for _ in range(100):
        answer = post(at.client("signer"), "/console/queue/next").headers["location"]
        if answer.endswith("?nothing=1"):
            break
    assert "No case waits for you." in said(at.client("signer").get(answer))


def test_a_supervisor_gives_cases(api: Api, at: Browsers) -> None:
    case = contested(api)
    ids = {name: str(person.staff.id) for name, person in at.console.staff.items()}
    assert at.act("reviewer", case, "assign", assignee=ids["signer"]).status_code == 409
    supervisor = at.client("supervisor")
    assert f'<option value="{ids["bound"]}"' not in supervisor.get(f"/console/cases/{case}").text
    assert at.act("supervisor", case, "assign", assignee=ids["bound"]).status_code == 403
    for wrong, status in ((ids["auditor"], 409), ("999999", 422), ("x", 422), ("", 422)):
        assert at.act("supervisor", case, "assign", assignee=wrong).status_code == status, wrong
    assert at.act("supervisor", case, "assign", assignee=ids["signer"]).status_code == 303
    assert case_row(api, case).reviewer_id == at.console.staff["signer"].staff.id


def test_another_reviewers_case_is_read_and_not_touched(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api))
    other = at.client("signer")
    assert "In the hands of reviewer" in said(other.get(f"/console/cases/{case}"))
    for action in ("take", "note", "ask-reporter", "ask-subject", "decide", "hand-back", "skip", "decline"):
        assert at.act("signer", case, action, **ACTIONS[action]).status_code == 409, action
    assert case_row(api, case).reviewer_id == at.console.staff["reviewer"].staff.id


def test_a_form_of_an_old_view_does_nothing(api: Api, at: Browsers) -> None:
    who = somebody()
    case = at.taken(contested(api, who))
    page = at.client("reviewer").get(f"/console/cases/{case}").text
    seen = re.findall(r'name="seen" value="(\d+)"', page)
    assert len(set(seen)) == 1
    consumer.add_message(api.rt.context, session_of(api, who), case, "Wait, look at this.")
    fields = {"seen": seen[0], "outcome": "upheld", "reasons": "my long text", "confirmed": "yes"}
    answer = post(at.client("reviewer"), f"/console/cases/{case}/decide", fields)
    assert answer.status_code == 409
    assert "moved on" in said(answer)
    assert "my long text" in answer.text
    assert "Wait, look at this." in answer.text
    assert case_row(api, case).state == "under_review"
    note = post(at.client("reviewer"), f"/console/cases/{case}/note", {"seen": seen[0], "note": "my long note"})
    assert (note.status_code, "my long note" in note.text) == (409, True)
    for broken in ("", "x", "-1", "9" * 30):
        fields = {"seen": broken, "note": "x"}
        assert post(at.client("reviewer"), f"/console/cases/{case}/note", fields).status_code == 422


def at_once(clients: list[httpx2.Client], path: str, fields: dict[str, str]) -> list[httpx2.Response]:
    """The same form sent by several at the same moment."""
    answers: list[httpx2.Response] = []
    barrier = threading.Barrier(len(clients))

    def send(client: httpx2.Client) -> None:
        barrier.wait()
        answers.append(post(client, path, fields))

    threads = [threading.Thread(target=send, args=(item,)) for item in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_two_reviewers_one_gets_the_case(api: Api, at: Browsers) -> None:
    for _ in range(trials(2, 3)):
        case = contested(api)
        seen = newest(api, case)
        browsers = [at.client(name) for name in ("reviewer", "signer", "chinese", "supervisor")]
        answers = at_once(browsers, f"/console/cases/{case}/take", {"seen": seen})
        assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409]
        assert at.audited(case).count("case_take") == 1
