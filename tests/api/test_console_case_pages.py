"""What the reviewers' pages show over real HTTP: files, what people wrote, languages, filters."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from ledger.protocol.public_ids import decode_id, encode_id
from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.participants import Participant, Party
from tests.api.appealed import (
    GRAVE,
    PNG,
    XSS,
    Browsers,
    attach,
    case_row,
    contested,
    reported,
    session_of,
    somebody,
    staffed,
    with_file,
)
from tests.api.cases import ANNA, filed
from tests.api.conftest import BETA, Api
from tests.api.console_fixture import said
from tests.server.appeals.contested import add_message as add_message_to

MARKUP = XSS + "\"'{{ 7*7 }}"


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        yield browsers


def test_a_picture_is_shown_and_a_pdf_downloaded(api: Api, at: Browsers) -> None:
    item = reported(PNG, "carrier_record")
    case = contested(api, evidence=[item])
    picture = with_file(api, case, PNG, "发票 <b>.png", "image/png", place=0, party="reporter")
    pdf = with_file(api, case, b"%PDF-1.7 x", "a.pdf", "application/pdf")
    page = at.client("reviewer").get(f"/console/cases/{case}")
    assert f'<img src="/console/cases/{case}/files/{picture}"' in page.text
    assert f'<img src="/console/cases/{case}/files/{pdf}"' not in page.text
    assert "Handed in, digest matches" in said(page)
    shown = at.client("reviewer").get(f"/console/cases/{case}/files/{picture}")
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, PNG, "image/png")
    assert "sandbox" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"
    assert "发票" in unquote(shown.headers["content-disposition"])
    saved = at.client("reviewer").get(f"/console/cases/{case}/files/{pdf}")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert "file_read" in at.audited(case)


def test_a_file_is_read_through_its_own_case_only(api: Api, at: Browsers) -> None:
    mine, other = contested(api), contested(api, by=BETA)
    file = attach(api, mine)
    answer = at.client("reviewer").get(f"/console/cases/{mine}/files/{file}")
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert at.client("bound").get(f"/console/cases/{other}").status_code == 200
    for name in ("reviewer", "bound"):
        assert at.client(name).get(f"/console/cases/{other}/files/{file}").status_code == 404
    files = f"/console/cases/{mine}/files"
    wrong = (f"{files}/at_x", f"{files}/{file}x", f"{files}/at_zzzzzzzz", f"{files}/../../etc/passwd")
    for path in (*wrong, f"/console/cases/ap_x/files/{file}", "/console/cases/ap_x"):
        assert at.client("reviewer").get(path).status_code == 404
    assert at.client("reviewer").get(f"/console/cases/{mine}/letter?kind=decided").status_code == 404
    assert at.client("reviewer").get(f"/console/cases/{mine}/letter?kind=nonsense").status_code == 404


def test_nothing_that_anybody_wrote_becomes_markup(api: Api, at: Browsers) -> None:
    who = somebody()
    case = at.taken(contested(api, who, statement=MARKUP, **GRAVE))
    with_file(api, case, PNG, f"{MARKUP}.png", "image/png")
    reviewer = at.client("reviewer")
    assert at.act("reviewer", case, "note", note=MARKUP).status_code == 303
    assert at.act("reviewer", case, "ask-reporter", ask_reporter=MARKUP).status_code == 303
    number = decode_id("ap", case, api.settings.service)
    add_message_to(api.rt.context, number, Participant(Party.REPORTER, "acme", "acme-group"), MARKUP)
    consumer.add_message(api.rt.context, session_of(api, who), case, MARKUP)
    consumer.add_statement(api.rt.context, session_of(api, who), _report_of(api, case), MARKUP, "en")
    fields = {"outcome": "upheld", "reasons": MARKUP}
    pages = [at.act("reviewer", case, "preview", **fields), at.act("reviewer", case, "edit", **fields)]
    at.act("reviewer", case, "decide", **fields, confirmed="yes")
    pages += [reviewer.get(f"/console/cases/{case}"), at.client("signer").get(f"/console/cases/{case}/letter")]
    at.act("signer", case, "sign", confirmed="yes")
    pages += [reviewer.get(f"/console/cases/{case}"), reviewer.get(f"/console/cases/{case}/letter?locale=zh-CN")]
    pages += [reviewer.get("/console/queue", params={"platform": MARKUP, "case": MARKUP, "conduct": MARKUP})]
    refused = at.act("reviewer", case, "note", note=MARKUP)
    assert refused.status_code == 409
    for page in (*pages, refused):
        assert page.status_code in (200, 409, 422)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "{{ 7*7 }}" in page.text
        assert not re.search(r"<script(?! src=\"/static/)", page.text)
        assert not re.search(r"<style|\sstyle=", page.text)
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store"


def _report_of(api: Api, case: str) -> str:
    return encode_id("rp", case_row(api, case).report_id, api.settings.service)


def test_pages_are_in_the_readers_language(api: Api, at: Browsers) -> None:
    case = contested(api)
    chinese = at.client("chinese")
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


def test_letters_of_a_round_before_and_cases_beside_are_shown(api: Api, at: Browsers) -> None:
    who = somebody()
    case = contested(api, who)
    staff_actions.take(api.rt.context, case, ANNA)
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    consumer.reopen(api.rt.context, session_of(api, who), case, "I want it gone.")
    page = at.client("reviewer").get(f"/console/cases/{case}")
    assert "round 1" in said(page)
    for query in ("kind=decided&round=1", "kind=decided", "kind=decided&round=x"):
        assert "It cannot be shown." in said(at.client("reviewer").get(f"/console/cases/{case}/letter?{query}"))
    report = encode_id("rp", case_row(api, case).report_id, api.settings.service)
    beside = filed(api, who, report)
    assert "(the platform for them)" in said(at.client("reviewer").get(f"/console/cases/{beside}"))
    assert f"/console/cases/{beside}" in at.client("reviewer").get(f"/console/cases/{case}").text
    assert "another case about this report" in said(at.client("reviewer").get(f"/console/cases/{beside}"))


def test_filters_and_bad_ones(api: Api, at: Browsers) -> None:
    case = contested(api, by=BETA, **GRAVE)
    reviewer = at.client("reviewer")
    for query in ("platform=beta", "severity=6", "conduct=switched_return", "state=submitted", f"case={case}"):
        assert case in reviewer.get(f"/console/queue?{query}").text, query
    for query in ("platform=reader", "mine=1", "to_sign=1", "due_days=0"):
        assert case not in reviewer.get(f"/console/queue?{query}").text, query
    for query in ("state=x", "severity=x", "due_days=-1", "after=x", "case=rp_x", "conduct=x", "profile=XX"):
        answer = reviewer.get(f"/console/queue?{query}")
        assert answer.status_code == 422, query
        assert "whole queue" in said(answer)


def test_settled_cases_are_found(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api))
    at.act("reviewer", case, "decide", outcome="overturned", reasons="No record.", confirmed="yes")
    auditor = at.client("auditor")
    assert case not in auditor.get("/console/queue").text
    for query in ("state=settled", f"case={case}"):
        page = auditor.get(f"/console/queue?{query}")
        assert f'href="/console/cases/{case}"' in page.text, query


def test_odd_queries_of_the_queue_are_harmless(api: Api, at: Browsers) -> None:
    chinese = at.client("chinese")
    for query in ("page=0", "case=ap_", "severity=9999", "platform=%27%20OR%201=1", "state=%3Cb%3E", "due_days=99999",
                  "after=99999999999999999.1", "severity=99999999999999999999", "mine=%00", "after=1.1"):  # fmt: skip
        answer = chinese.get(f"/console/queue?{query}")
        assert answer.status_code in (200, 422), query
        assert "<b>" not in re.sub(r"<b>\d+</b>", "", answer.text), query


def test_the_checklist_is_ticked_off_by_files(api: Api, at: Browsers) -> None:
    data = b"The carrier's record."
    case = contested(api, evidence=[reported(data, "carrier_record")])
    reviewer = at.client("reviewer")
    assert "The minimum is met on paper" in said(reviewer.get(f"/console/cases/{case}"))
    attach(api, case, data, "record.txt", Party.REPORTER)
    page = said(reviewer.get(f"/console/cases/{case}"))
    assert "digest matches" in page
    assert "The minimum is met by files" in page


def test_every_read_of_a_case_is_in_the_audit_log(api: Api, at: Browsers) -> None:
    case = contested(api)
    file = attach(api, case)
    auditor = at.client("auditor")
    for path in ("", "/letter?kind=received", f"/files/{file}"):
        assert auditor.get(f"/console/cases/{case}{path}").status_code == 200
    assert at.audited(case) == ["case_read", "letter_read", "file_read"]


def test_the_address_of_a_form_leads_to_the_case(api: Api, at: Browsers) -> None:
    case = contested(api)
    reviewer = at.client("reviewer")
    for step in ("preview", "edit", "decide", "take", "ask-subject"):
        assert reviewer.get(f"/console/cases/{case}/{step}").headers["location"] == f"/console/cases/{case}"
    assert reviewer.get(f"/console/cases/{case}/nonsense").status_code == 404


def test_what_was_typed_is_kept_where_its_form_is_gone(api: Api, at: Browsers) -> None:
    case = at.taken(contested(api))
    at.act("reviewer", case, "decide", outcome="overturned", reasons="No record.", confirmed="yes")
    late = at.act("reviewer", case, "note", note="A long note that nobody can add any more.")
    assert late.status_code == 409
    assert "What you wrote" in said(late)
    assert "A long note that nobody can add any more." in said(late)


def test_log_lines_name_no_case(api: Api, at: Browsers) -> None:
    case = contested(api)
    at.client("reviewer").get(f"/console/cases/{case}")
    until = time.monotonic() + 10  # the line is written after the answer
    while '"route":"/console/cases/{case}"' not in api.logs.getvalue().decode() and time.monotonic() < until:
        time.sleep(0.02)
    lines = api.logs.getvalue().decode()
    assert '"route":"/console/cases/{case}"' in lines
    assert case not in lines
