"""The reviewers' pages over real HTTP: every action by every role, conflicts, stale and foreign forms, files, markup."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import unquote

import httpx2
import pytest

from ledger.core.appeals import Outcome
from ledger.core.ids import decode_id, encode_id
from ledger.service.appeals import staff_actions, subject
from ledger.service.appeals.parties import Party, Speaker, in_case
from ledger.service.appeals.queue import as_staff
from ledger.store import staff_events
from ledger.store.engine import reading
from ledger.store.staff_events import EventFilter
from tests.api.appealed import (
    GRAVE, case_row, contested, newest, reported, session_of, set_due, somebody, with_file,
)  # fmt: skip
from tests.api.conftest import ACME, BETA, Api
from tests.api.console_desk import Desk, post, said

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\x0f\x00\x01\x01\x01\x00\x1b\xb6\xeeV\x00\x00\x00\x00IEND\xaeB`\x82"
)
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"

Client = Callable[[str], httpx2.Client]


@pytest.fixture(scope="module")
def desk(api: Api) -> Iterator[Desk]:
    made = Desk(api)
    made.add("signer", "reviewer")
    made.add("bound", "reviewer", control_group="acme-group")
    made.add("chinese", "reviewer", language="zh-CN")
    yield made


@pytest.fixture(scope="module")
def client(desk: Desk) -> Iterator[Client]:
    """`client(name)` is a browser in which this person is signed in, the same one each time."""
    clients: dict[str, httpx2.Client] = {}

    def get(name: str) -> httpx2.Client:
        if name not in clients:
            clients[name] = desk.signed_in(name)
        return clients[name]

    yield get
    for one in clients.values():
        one.close()


def act(client: httpx2.Client, api: Api, case: str, action: str, **fields: str) -> httpx2.Response:
    """Send the form of an action, as a page that shows everything would."""
    return post(client, f"/console/cases/{case}/{action}", {"seen": newest(api, case), **fields})


def taken(api: Api, desk: Desk, case: str, name: str = "reviewer") -> str:
    """The case, in the hands of this person."""
    staff_actions.take(api.rt.context, case, as_staff(desk.people[name].staff))
    return case


def audited(api: Api, case: str) -> list[str]:
    """Actions in the audit log about this case, oldest first."""
    with reading(api.rt.engine) as connection:
        rows = staff_events.read_events(connection, EventFilter(object_id=case), None, 100)
    return [row.action for row in reversed(rows)]


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
def test_an_admin_sees_no_case_and_an_auditor_all(api: Api, client: Client, path: str) -> None:
    case = contested(api)
    for name, status in (("reviewer", 200), ("supervisor", 200), ("auditor", 200), ("admin", 403)):
        assert client(name).get(path.format(case=case)).status_code == status, name


@pytest.mark.parametrize("name", ["auditor", "admin"])
def test_who_only_reads_can_do_nothing(api: Api, client: Client, name: str) -> None:
    case = contested(api)
    for action, fields in ACTIONS.items():
        assert act(client(name), api, case, action, **fields).status_code == 403, action
    assert post(client(name), "/console/queue/next").status_code == 403
    assert case_row(api, case).state == "submitted"
    if name == "auditor":
        assert '<form method="post" action="/console/cases' not in client(name).get(f"/console/cases/{case}").text


def test_nobody_comes_in_without_a_session(api: Api, desk: Desk) -> None:
    case = contested(api)
    with desk.client() as stranger:
        for path in (*READS, "/console/cases/{case}/files/at_x"):
            answer = stranger.get(path.format(case=case))
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/console/login")
        for action, fields in ACTIONS.items():
            assert act(stranger, api, case, action, **fields).status_code == 401, action


def test_a_form_of_another_site_does_nothing(api: Api, client: Client) -> None:
    case = contested(api)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        for action, fields in ACTIONS.items():
            path, data = f"/console/cases/{case}/{action}", {"seen": newest(api, case), **fields}
            assert post(client("reviewer"), path, data, headers).status_code == 403, action
        assert post(client("reviewer"), "/console/queue/next", {}, headers).status_code == 403
    assert case_row(api, case).state == "submitted"


def test_staff_of_the_reporters_group_are_kept_out_of_everything(api: Api, client: Client) -> None:
    case = contested(api, by=ACME)
    file = with_file(api, case, PNG, "a.png", "image/png")
    bound = client("bound")
    page = bound.get(f"/console/cases/{case}")
    assert page.status_code == 403
    assert "own group" in said(page)
    assert "broken" not in page.text
    for path in (f"/console/cases/{case}/letter", f"/console/cases/{case}/files/{file}"):
        assert bound.get(path).status_code == 403
    for action, fields in ACTIONS.items():
        answer = act(bound, api, case, action, **fields)
        assert answer.status_code == 403, action
        assert "broken" not in answer.text
    assert case not in bound.get("/console/queue").text
    assert case_row(api, case).state == "submitted"
    assert "case_refused" in audited(api, case)
    other = contested(api, by=BETA)
    assert bound.get(f"/console/cases/{other}").status_code == 200


# --- working on a case --------------------------------------------------------------------------------------------


def test_a_case_from_the_queue_to_the_letter(api: Api, client: Client) -> None:
    case = contested(api, statement="I sent it back on the third.")
    set_due(api, case, api.rt.now() - timedelta(days=400))
    reviewer = client("reviewer")
    assert case in reviewer.get(f"/console/queue?case={case}").text
    answer = post(reviewer, "/console/queue/next")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/cases/{case}?done=take")
    page = said(reviewer.get(answer.headers["location"]))
    for words in ("I sent it back on the third.", "in your hands", "Overdue", "On paper, file not handed in"):
        assert words in page
    assert act(reviewer, api, case, "note", note="Ask the carrier.").status_code == 303
    preview = act(reviewer, api, case, "preview", outcome="overturned", reasons="No record of the carrier.")
    assert preview.status_code == 200
    assert "No record of the carrier." in said(preview)
    assert "Nothing is decided yet" in said(preview)
    assert case_row(api, case).state == "under_review"
    edit = act(reviewer, api, case, "edit", outcome="overturned", reasons="No record of the carrier.")
    assert ">\nNo record of the carrier.</textarea>" in edit.text
    done = act(reviewer, api, case, "decide", outcome="overturned", reasons="No record.", confirmed="yes")
    assert (done.status_code, done.headers["location"]) == (303, f"/console/cases/{case}?done=decide")
    assert case_row(api, case).outcome == "overturned"
    for locale, words in (("en", "we decided to remove the record"), ("zh-CN", "决定删除")):
        letter = reviewer.get(f"/console/cases/{case}/letter?locale={locale}")
        assert words in said(letter), said(letter)
        assert f'lang="{locale}"' in letter.text
    assert audited(api, case)[-3:] == ["case_decide", "letter_read", "letter_read"]


OUTCOMES: dict[Outcome, dict[str, str]] = {
    Outcome.UPHELD: {},
    Outcome.AMENDED: {"conduct": "wardrobing"},
    Outcome.OVERTURNED: {"conduct": "wardrobing"},
    Outcome.UNCONFIRMED: {"slot_1": "1"},
    Outcome.VICTIM: {},
    Outcome.UNLINKED: {"slot_1": "1", "conduct": "wardrobing"},
}


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome(api: Api, desk: Desk, client: Client, outcome: Outcome) -> None:
    case = taken(api, desk, contested(api))
    fields = {"outcome": outcome.value, "reasons": "Because of the record.", **OUTCOMES[outcome]}
    for locale in ("en", "zh-CN"):
        assert act(client("reviewer"), api, case, "preview", **fields, locale=locale).status_code == 200
    unconfirmed = act(client("reviewer"), api, case, "decide", **fields)
    assert (unconfirmed.status_code, case_row(api, case).state) == (200, "under_review"), "the letter comes first"
    assert act(client("reviewer"), api, case, "decide", **fields, confirmed="yes").status_code == 303
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
        {"outcome": "upheld", "reasons": "kept words \u202e"},
    ],
)
def test_a_wrong_decision_keeps_what_was_typed(api: Api, desk: Desk, client: Client, fields: dict[str, str]) -> None:
    case = taken(api, desk, contested(api))
    for action in ("preview", "decide"):
        answer = act(client("reviewer"), api, case, action, **fields, confirmed="yes")
        assert answer.status_code == 422
        assert "kept words" in answer.text
        assert 'role="alert"' in answer.text
    assert case_row(api, case).state == "under_review"


def test_four_eyes(api: Api, desk: Desk, client: Client) -> None:
    case = taken(api, desk, contested(api, **GRAVE))
    proposed = act(
        client("reviewer"), api, case, "decide", outcome="upheld", reasons="The numbers differ.", confirmed="yes"
    )
    assert proposed.headers["location"].endswith("done=propose")
    own = client("reviewer").get(f"/console/cases/{case}")
    assert "You cannot sign this one." in said(own)
    assert act(client("reviewer"), api, case, "sign", confirmed="yes").status_code == 403
    letter = client("signer").get(f"/console/cases/{case}/letter?kind=proposed")
    assert "The numbers differ." in said(letter)
    assert "It was not sent" in said(letter)
    assert act(client("signer"), api, case, "sign").status_code == 422, "the box is not ticked"
    assert act(client("signer"), api, case, "decline", decline="Not sure.").status_code == 303
    assert case_row(api, case).state == "under_review"
    act(client("reviewer"), api, case, "decide", outcome="upheld", reasons="The numbers differ.", confirmed="yes")
    assert act(client("supervisor"), api, case, "sign", confirmed="yes").status_code == 303
    assert case_row(api, case).outcome == "upheld"


def test_questions_and_handing_back(api: Api, desk: Desk, client: Client) -> None:
    reviewer = client("reviewer")
    case = taken(api, desk, contested(api))
    empty = act(reviewer, api, case, "ask-reporter", ask_reporter="  ")
    assert (empty.status_code, case_row(api, case).state) == (422, "under_review")
    assert act(reviewer, api, case, "ask-reporter", ask_reporter="Where is the record?").status_code == 303
    assert case_row(api, case).state == "awaiting_reporter"
    refused = act(reviewer, api, case, "ask-subject", ask_subject="And you?")
    assert refused.status_code == 409
    in_case(api.rt.context, case_row(api, case).id, Speaker(Party.REPORTER, "acme", "acme-group"), "Here.")
    assert act(reviewer, api, case, "ask-subject", ask_subject="And you?").status_code == 303
    other = taken(api, desk, contested(api))
    assert act(reviewer, api, other, "hand-back", hand_back="I know them.").status_code == 303
    assert case_row(api, other).state == "submitted"
    assert act(reviewer, api, other, "skip").status_code == 303
    assert act(reviewer, api, other, "extend", extend="More.").status_code == 409


def test_a_supervisor_gives_cases(api: Api, desk: Desk, client: Client) -> None:
    case = contested(api)
    ids = {name: str(person.staff.id) for name, person in desk.people.items()}
    assert act(client("reviewer"), api, case, "assign", assignee=ids["signer"]).status_code == 409
    supervisor = client("supervisor")
    assert f'<option value="{ids["bound"]}"' not in supervisor.get(f"/console/cases/{case}").text
    assert act(supervisor, api, case, "assign", assignee=ids["bound"]).status_code == 403
    for wrong, status in ((ids["auditor"], 409), ("999999", 422), ("x", 422), ("", 422)):
        assert act(supervisor, api, case, "assign", assignee=wrong).status_code == status, wrong
    assert act(supervisor, api, case, "assign", assignee=ids["signer"]).status_code == 303
    assert case_row(api, case).reviewer_id == desk.people["signer"].staff.id


def test_another_reviewers_case_is_read_and_not_touched(api: Api, desk: Desk, client: Client) -> None:
    case = taken(api, desk, contested(api))
    other = client("signer")
    assert "In the hands of reviewer" in said(other.get(f"/console/cases/{case}"))
    for action in ("take", "note", "ask-reporter", "ask-subject", "decide", "hand-back", "skip", "decline"):
        assert act(other, api, case, action, **ACTIONS[action]).status_code == 409, action
    assert case_row(api, case).reviewer_id == desk.people["reviewer"].staff.id


def test_nobody_acts_on_a_stale_page(api: Api, desk: Desk, client: Client) -> None:
    who = somebody()
    case = taken(api, desk, contested(api, who))
    page = client("reviewer").get(f"/console/cases/{case}").text
    seen = re.findall(r'name="seen" value="(\d+)"', page)
    assert len(set(seen)) == 1
    subject.add(api.rt.context, session_of(api, who), case, "Wait, look at this.")
    fields = {"seen": seen[0], "outcome": "upheld", "reasons": "my long text", "confirmed": "yes"}
    answer = post(client("reviewer"), f"/console/cases/{case}/decide", fields)
    assert answer.status_code == 409
    assert "moved on" in said(answer)
    assert "my long text" in answer.text
    assert "Wait, look at this." in answer.text
    assert case_row(api, case).state == "under_review"
    note = post(client("reviewer"), f"/console/cases/{case}/note", {"seen": seen[0], "note": "my long note"})
    assert (note.status_code, "my long note" in note.text) == (409, True)
    for broken in ("", "x", "-1", "9" * 30):
        fields = {"seen": broken, "note": "x"}
        assert post(client("reviewer"), f"/console/cases/{case}/note", fields).status_code == 422


def test_two_reviewers_race_and_one_has_the_case(api: Api, client: Client) -> None:
    for _ in range(3):
        case = contested(api)
        seen = newest(api, case)
        answers: list[httpx2.Response] = []
        barrier = threading.Barrier(2)

        def race(one: httpx2.Client, case: str = case, seen: str = seen) -> None:
            barrier.wait()
            answers.append(post(one, f"/console/cases/{case}/take", {"seen": seen}))

        threads = [threading.Thread(target=race, args=(client(name),)) for name in ("reviewer", "signer")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [303, 409]
        assert audited(api, case).count("case_take") == 1


# --- files, markup, languages -------------------------------------------------------------------------------------


def test_a_picture_is_shown_and_a_pdf_downloaded(api: Api, desk: Desk, client: Client) -> None:
    item = reported(PNG, "carrier_record")
    case = contested(api, evidence=[item])
    picture = with_file(api, case, PNG, "发票 <b>.png", "image/png", place=0, party="reporter")
    pdf = with_file(api, case, b"%PDF-1.7 x", "a.pdf", "application/pdf")
    page = client("reviewer").get(f"/console/cases/{case}")
    assert f'<img src="/console/cases/{case}/files/{picture}"' in page.text
    assert f'<img src="/console/cases/{case}/files/{pdf}"' not in page.text
    assert "Handed in, digest matches" in said(page)
    shown = client("reviewer").get(f"/console/cases/{case}/files/{picture}")
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, PNG, "image/png")
    assert "sandbox" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"
    assert "发票" in unquote(shown.headers["content-disposition"])
    saved = client("reviewer").get(f"/console/cases/{case}/files/{pdf}")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert "file_read" in audited(api, case)


def test_a_file_is_not_read_through_another_case(api: Api, client: Client) -> None:
    mine, other = contested(api), contested(api, by=BETA)
    file = with_file(api, mine, PNG, "a.png", "image/png")
    assert client("bound").get(f"/console/cases/{other}").status_code == 200
    for name in ("reviewer", "bound"):
        assert client(name).get(f"/console/cases/{other}/files/{file}").status_code == 404
    for path in (f"/console/cases/{mine}/files/at_x", f"/console/cases/ap_x/files/{file}", "/console/cases/ap_x"):
        assert client("reviewer").get(path).status_code == 404
    assert client("reviewer").get(f"/console/cases/{mine}/letter?kind=decided").status_code == 404
    assert client("reviewer").get(f"/console/cases/{mine}/letter?kind=nonsense").status_code == 404


def test_what_people_write_is_never_markup(api: Api, desk: Desk, client: Client) -> None:
    who = somebody()
    case = taken(api, desk, contested(api, who, statement=MARKUP, **GRAVE))
    with_file(api, case, PNG, f"{MARKUP}.png", "image/png")
    reviewer = client("reviewer")
    assert act(reviewer, api, case, "note", note=MARKUP).status_code == 303
    assert act(reviewer, api, case, "ask-reporter", ask_reporter=MARKUP).status_code == 303
    number = decode_id("ap", case, api.settings.service)
    in_case(api.rt.context, number, Speaker(Party.REPORTER, "acme", "acme-group"), MARKUP)
    subject.add(api.rt.context, session_of(api, who), case, MARKUP)
    subject.state(api.rt.context, session_of(api, who), _report_of(api, case), MARKUP, "en")
    fields = {"outcome": "upheld", "reasons": MARKUP}
    pages = [act(reviewer, api, case, "preview", **fields), act(reviewer, api, case, "edit", **fields)]
    act(reviewer, api, case, "decide", **fields, confirmed="yes")
    pages += [reviewer.get(f"/console/cases/{case}"), client("signer").get(f"/console/cases/{case}/letter")]
    act(client("signer"), api, case, "sign", confirmed="yes")
    pages += [reviewer.get(f"/console/cases/{case}"), reviewer.get(f"/console/cases/{case}/letter?locale=zh-CN")]
    pages += [reviewer.get("/console/queue", params={"platform": MARKUP, "case": MARKUP, "conduct": MARKUP})]
    for page in pages:
        assert page.status_code in (200, 422)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "{{ 7*7 }}" in page.text
        assert not re.search(r"<script(?! src=\"/static/)", page.text)
        assert not re.search(r"<style|\sstyle=", page.text)
        assert "unsafe" not in page.headers["content-security-policy"]


def _report_of(api: Api, case: str) -> str:
    return encode_id("rp", case_row(api, case).report_id, api.settings.service)


def test_pages_are_in_the_readers_language(api: Api, client: Client) -> None:
    case = contested(api)
    chinese = client("chinese")
    for path, words in (
        ("/console/queue", "领取最紧急的案件"),
        (f"/console/cases/{case}", "当事人的说法"),
        (f"/console/cases/{case}/letter", "打印"),
    ):
        page = chinese.get(path)
        assert words in page.text
        assert '<html lang="zh-CN">' in page.text
    letter = chinese.get(f"/console/cases/{case}/letter")
    assert "We have received your appeal" in letter.text, "the letter is in the person's language"


def test_filters_and_bad_ones(api: Api, client: Client) -> None:
    case = contested(api, by=BETA, **GRAVE)
    reviewer = client("reviewer")
    for query in ("platform=beta", "severity=6", "conduct=switched_return", "state=submitted", f"case={case}"):
        assert case in reviewer.get(f"/console/queue?{query}").text, query
    for query in ("platform=reader", "mine=1", "to_sign=1", "due_days=0"):
        assert case not in reviewer.get(f"/console/queue?{query}").text, query
    for query in ("state=x", "severity=x", "due_days=-1", "after=x", "case=rp_x", "conduct=x", "profile=XX"):
        answer = reviewer.get(f"/console/queue?{query}")
        assert answer.status_code == 422, query
        assert "whole queue" in said(answer)


def test_log_lines_name_no_case(api: Api, client: Client) -> None:
    case = contested(api)
    client("reviewer").get(f"/console/cases/{case}")
    lines = api.logs.getvalue().decode()
    assert '"route":"/console/cases/{case}"' in lines
    assert case not in lines
