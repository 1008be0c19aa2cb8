"""What the reviewers' pages show over real HTTP: files, what people wrote, languages, filters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from ledger.core.ids import decode_id, encode_id
from ledger.service.appeals import subject
from ledger.service.appeals.parties import Party, Speaker, in_case
from tests.api.appealed import (
    GRAVE,
    PNG,
    Browsers,
    case_row,
    contested,
    reported,
    session_of,
    somebody,
    staffed,
    with_file,
)  # fmt: skip
from tests.api.conftest import BETA, Api
from tests.api.console_desk import said

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"


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


def test_a_file_is_not_read_through_another_case(api: Api, at: Browsers) -> None:
    mine, other = contested(api), contested(api, by=BETA)
    file = with_file(api, mine, PNG, "a.png", "image/png")
    assert at.client("bound").get(f"/console/cases/{other}").status_code == 200
    for name in ("reviewer", "bound"):
        assert at.client(name).get(f"/console/cases/{other}/files/{file}").status_code == 404
    for path in (f"/console/cases/{mine}/files/at_x", f"/console/cases/ap_x/files/{file}", "/console/cases/ap_x"):
        assert at.client("reviewer").get(path).status_code == 404
    assert at.client("reviewer").get(f"/console/cases/{mine}/letter?kind=decided").status_code == 404
    assert at.client("reviewer").get(f"/console/cases/{mine}/letter?kind=nonsense").status_code == 404


def test_what_people_write_is_never_markup(api: Api, at: Browsers) -> None:
    who = somebody()
    case = at.taken(contested(api, who, statement=MARKUP, **GRAVE))
    with_file(api, case, PNG, f"{MARKUP}.png", "image/png")
    reviewer = at.client("reviewer")
    assert at.act("reviewer", case, "note", note=MARKUP).status_code == 303
    assert at.act("reviewer", case, "ask-reporter", ask_reporter=MARKUP).status_code == 303
    number = decode_id("ap", case, api.settings.service)
    in_case(api.rt.context, number, Speaker(Party.REPORTER, "acme", "acme-group"), MARKUP)
    subject.add(api.rt.context, session_of(api, who), case, MARKUP)
    subject.state(api.rt.context, session_of(api, who), _report_of(api, case), MARKUP, "en")
    fields = {"outcome": "upheld", "reasons": MARKUP}
    pages = [at.act("reviewer", case, "preview", **fields), at.act("reviewer", case, "edit", **fields)]
    at.act("reviewer", case, "decide", **fields, confirmed="yes")
    pages += [reviewer.get(f"/console/cases/{case}"), at.client("signer").get(f"/console/cases/{case}/letter")]
    at.act("signer", case, "sign", confirmed="yes")
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


def test_log_lines_name_no_case(api: Api, at: Browsers) -> None:
    case = contested(api)
    at.client("reviewer").get(f"/console/cases/{case}")
    lines = api.logs.getvalue().decode()
    assert '"route":"/console/cases/{case}"' in lines
    assert case not in lines
