"""The pages of /me over real HTTP: opening and ending a session, the content of pages, the effects of forms."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.protocol.encoding import b64url
from ledger.rules.appeals import Outcome
from ledger.server.appeals import staff_actions
from ledger.server.appeals.sessions import redeem
from tests.api.browser_client import BrowserClient, NewBrowser, browser_clients
from tests.api.cases import filed
from tests.api.conftest import ACME, BETA, READER, Api, running
from tests.api.test_pictures import body as search_body
from tests.api.test_pictures import pictured_evidence, some_hash
from tests.personas import ANNA, PNG, Persona
from tests.support import evidence, new_ledger


@pytest.fixture
def new_browser(api: Api) -> Iterator[NewBrowser]:
    """See `browser_clients`."""
    with browser_clients(api) as make:
        yield make


def test_nobody_without_a_link_sees_anything(api: Api, new_browser: NewBrowser) -> None:
    page = new_browser().get("/me")
    assert page.status_code == 200
    assert "Open your record" in page.text
    assert "<noscript>" in page.text
    for path in ("/me/download", "/me/appeal?report=x", "/me/cases/ap_abcdefgh", "/me/statement?report=x"):
        refused = new_browser().get(path)
        assert refused.status_code == 401
        assert "ask for a new link" in refused.text


def test_a_link_is_opened_by_a_form_and_only_once(api: Api, new_browser: NewBrowser) -> None:
    code = Persona(api).code()
    for path in (f"/me?code={code}", f"/me/open?code={code}", f"/me/{code}"):
        assert "set-cookie" not in new_browser().get(path).headers, "a preview of the link uses nothing up"
    page = new_browser().open(code).get("/me")
    assert "Your record" in page.text
    again = new_browser().post("/me/open", code=code)
    assert again.status_code == 401
    assert "This link no longer works" in again.text


def test_the_whole_link_may_be_pasted(api: Api, new_browser: NewBrowser) -> None:
    new_browser().open(f"  {api.url}/me#{Persona(api).code()} ")


@pytest.mark.parametrize("code", ["", "nonsense", "x" * 5000, "päpp", "a\x00b"])
def test_no_other_code_opens_anything(api: Api, new_browser: NewBrowser, code: str) -> None:
    answer = new_browser().post("/me/open", code=code)
    assert answer.status_code == (413 if len(code) > 4096 else answer.status_code)
    assert answer.status_code in (401, 413, 422)
    assert not answer.headers.get("set-cookie", "").startswith("me=") or "Max-Age=0" in answer.headers["set-cookie"]


def test_an_old_code_opens_nothing(api: Api, new_browser: NewBrowser) -> None:
    then = api.rt.now() - timedelta(minutes=api.settings.subject_link_minutes, seconds=1)
    assert new_browser().post("/me/open", code=Persona(api).code(now=then)).status_code == 401


def test_the_cookie_is_for_us_alone(api: Api, new_browser: NewBrowser) -> None:
    cookie = new_browser().post("/me/open", code=Persona(api).code()).headers["set-cookie"]
    assert re.fullmatch(r"me=[A-Za-z0-9_-]{43}; HttpOnly; Path=/me; SameSite=strict", cookie)


def test_behind_https_the_cookie_is_secure(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, public_url="https://ledger.example")
    BETA.enrol(settings)
    with running(settings) as api:
        browser = BrowserClient(api)
        answer = browser.post("/me/open", code=Persona(api).code())
        browser.client.close()
        assert re.match(r"__Secure-me=[\w-]{43}; .*\bSecure\b", answer.headers["set-cookie"])


def test_a_planted_cookie_is_never_taken_over(api: Api, new_browser: NewBrowser) -> None:
    somebody, planted = Persona(api), secrets.token_urlsafe(32)
    browser = new_browser()
    browser.client.cookies.set("me", planted, path="/me")
    assert "Your session has ended" in browser.get("/me").text
    answer = browser.post("/me/open", code=somebody.code())
    token = re.match(r"me=([\w-]+)", answer.headers["set-cookie"])
    assert token is not None
    assert token[1] != planted
    other = new_browser()
    other.client.cookies.set("me", planted, path="/me")
    assert "Open your record" in other.get("/me").text


def test_a_new_link_ends_the_session_before_it(api: Api, new_browser: NewBrowser) -> None:
    first, second = Persona(api), Persona(api)
    report = first.reported()
    browser = new_browser().open(first.code())
    old = browser.client.cookies["me"]
    assert report in browser.get("/me").text
    assert report not in browser.open(second.code()).get("/me").text
    thief = new_browser()
    thief.client.cookies.set("me", old, path="/me")
    assert thief.get("/me/download").status_code == 401


def test_an_ended_session_is_over_for_every_copy_of_its_cookie(api: Api, new_browser: NewBrowser) -> None:
    browser = new_browser().open(Persona(api).code())
    token = browser.client.cookies["me"]
    answer = browser.post("/me/end")
    assert (answer.status_code, answer.headers["location"]) == (303, "/me/ended")
    copy = new_browser()
    copy.client.cookies.set("me", token, path="/me")
    assert copy.get("/me/download").status_code == 401


def test_what_was_written_survives_the_end_of_the_session(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    began = api.rt.now() - timedelta(minutes=api.settings.subject_session_minutes, seconds=1)
    browser = new_browser()
    token = redeem(api.rt.engine, api.settings, somebody.code(now=began), began, secrets.token_bytes)
    browser.client.cookies.set("me", token, path="/me")
    answer = browser.post("/me/appeal", report=report, grounds="other", text="All that I had to say.")
    assert answer.status_code == 401
    assert "All that I had to say." in answer.text
    assert "ask for a new link" in answer.text


def test_the_record_in_plain_words(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report = somebody.reported(amount_minor=12_900)
    text = new_browser().open(somebody.code()).get("/me").text
    for said in (
        "No refund may be refused automatically because of this.",
        "A tracking number for a return that was not sent",
        "another member (its name is not shown here)",
        "The carrier’s record",
        "Opened through beta",
        "Your own record was opened for you",
        "This is not me",
        "50 to 200 CNY",
        report,
    ):
        assert said in text, said
    assert "acme" not in text


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en", ("Pictures that were found again", "told neither which report that was", "another member")),
        ("zh-CN", ("图片再次出现的记录", "该平台不会获知是哪一份报告", "其他成员平台")),
    ],
)
def test_who_found_a_picture_again(api: Api, new_browser: NewBrowser, locale: str, said: tuple[str, ...]) -> None:
    somebody, pdq = Persona(api), some_hash()
    report = somebody.reported(ACME, **pictured_evidence(pdq))
    assert said[0] not in new_browser().open(somebody.code(locale=locale)).get("/me").text
    for platform in (BETA, READER):
        api.request("POST", "/v1/pictures/search", platform, json=search_body(pdq))
    text = new_browser().open(somebody.code(locale=locale)).get(f"/me?lang={locale}").text
    result = text[text.index(f'<h2 id="pictures">{said[0]}') :]
    for item in (*said, "beta", f'<a href="#{report}">'):
        assert item in result, item
    assert f'id="{report}"' in text
    assert "reader" not in text


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        (
            "en",
            (
                "Found in the files",
                "China’s label: made by AI",
                "label_of_2031",
                "Another size than the camera wrote down",
            ),
        ),
        ("zh-CN", ("文件检验所见", "国家标准标识：由人工智能生成", "label_of_2031", "尺寸与相机所记录的不同")),
    ],
)
def test_what_inspections_found(api: Api, new_browser: NewBrowser, locale: str, said: tuple[str, ...]) -> None:
    somebody, created = Persona(api), pictured_evidence(some_hash())
    assert said[0] not in new_browser().open(somebody.code(locale=locale)).get("/me").text
    digest, tool = b64url(secrets.token_bytes(32)), "refund-ledger/9 inspect/9"
    for item, codes in zip(
        created["evidence"], (["size_differs", "aigc_generated"], ["size_differs", "label_of_2031"]), strict=False
    ):
        item["inspection"] = {"receipt_sha256": digest, "tool": tool, "findings": codes}
    report = somebody.reported(ACME, **created)
    text = new_browser().open(somebody.code(locale=locale)).get(f"/me?lang={locale}").text
    result = text[text.index(f'id="{report}"') :]
    for each in said:
        assert result.count(each) == 1, each
    record = somebody.open().ask("GET", "/record").json()
    assert record["reports"][0]["findings"] == ["aigc_generated", "label_of_2031", "size_differs"]


def test_trust_origin_and_answers_are_told_with_what_they_do_not_show(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    file, label, answer, reshoot = evidence("original_file", "ai_label", "issuer_confirmation", "live_reshoot_failed")
    merchant = {**evidence("original_file")[0], "origin": {"source": "handed_in_by_merchant"}}
    shown = {"receipt_sha256": b64url(bytes(32)), "tool": "refund-ledger/9 inspect/9"}
    file["inspection"] = {**shown, "findings": ["c2pa_captured", "size_differs"], "trust": "listed"}
    label["inspection"] = {**shown, "findings": ["c2pa_ai_generated", "c2pa_captured"], "trust": "unlisted"}
    answer["confirmation"] = {
        "issuer": "A provider <b>", "answered_at": "2024-02-01T09:00:00Z", "verdict": "generated",
        "file_sha256": file["sha256"],
    }  # fmt: skip
    items = [file, label, answer, reshoot, merchant]
    report = somebody.reported(ACME, conduct="ai_fabricated_image", evidence=items)
    text = " ".join(new_browser().open(somebody.code()).get("/me").text.split())
    result = text[text.index(f'id="{report}"') :]
    for item in (
        "uploaded with the claim",
        "handed in by the merchant",
        "Signed manifest: made by AI (signer on no trust list)",
        "Manifest: taken by a camera (signer on no trust list)",
        "Anybody can make one in any name, so the name proves nothing.",
        "It does not show who had it made, or what they knew.",
        "A provider &lt;b&gt;",
        "its service made the file",
        "This is the platform’s word on what was answered.",
    ):
        assert item in result, item
    record = somebody.open().ask("GET", "/record").json()["reports"][0]
    assert record["trust"] == {"c2pa_ai_generated": "unlisted", "c2pa_captured": "unlisted"}, "the weakest of each"
    assert record["origins"] == [
        {"source": "claim_upload", "received_at": "2024-01-01T00:00:00Z"},
        {"source": "handed_in_by_merchant", "received_at": None},
    ]
    assert record["confirmations"] == [
        {"issuer": "A provider <b>", "answered_at": "2024-02-01T09:00:00Z", "verdict": "generated"}
    ]
    assert record["former_label"] is False


def test_contesting_answering_and_the_decision(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    browser = new_browser().open(somebody.code())
    form = browser.get(f"/me/appeal?report={report}&grounds=not_me").text
    assert re.search(r'value="not_me"[^>]* checked', form)
    answer = browser.post("/me/appeal", report=report, grounds="not_me", text="It was not me.")
    case = answer.headers["location"].split("/")[3]
    filed = browser.get(answer.headers["location"]).text
    assert case in filed
    assert "You get our answer by" in filed
    assert browser.contest(report) == case, "sent twice, it leads to the same case"
    assert browser.get(f"/me/appeal?report={report}").headers["location"] == f"/me/cases/{case}"
    somebody.asked(case, "Which carrier was it?")
    assert "Which carrier was it?" in browser.get("/me").text
    assert browser.post(f"/me/cases/{case}/messages", text="SF, number 17.").status_code == 303
    assert browser.upload(case, PNG, "receipt.png").status_code == 303
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    page = browser.get(f"/me/cases/{case}").text
    for said in (
        "Not confirmed",
        "It cannot be shown.",
        "supervises credit reporting",
        "SF, number 17.",
        "receipt.png",
    ):
        assert said in page, said
    letter = browser.get(f"/me/cases/{case}/letters/decided")
    assert "Our decision in your case" in letter.text
    assert browser.post(f"/me/cases/{case}/reopen", text="I want it gone.").status_code == 303
    assert browser.post(f"/me/cases/{case}/withdraw").status_code == 303
    assert "Appeal withdrawn" in browser.get(f"/me/cases/{case}").text


def test_a_case_that_a_platform_filed_is_taken_over_or_contested_anew(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    case = filed(api, somebody.subjects, report)
    browser = new_browser().open(somebody.code())
    record = browser.get("/me").text
    assert "Appeal that a platform filed for you" in record
    assert f"/me/appeal?report={report}" in record
    assert "To contest reports for you" in record, "who tried, among those who looked"
    page = browser.get(f"/me/cases/{case}").text
    assert "Make it my own appeal" in page
    assert "A platform, for you" in page
    assert browser.contest(report) == case
    page = browser.get(f"/me/cases/{case}").text
    assert "Make it my own appeal" not in page
    assert "Appeal that a platform filed for you" not in browser.get("/me").text
    staff_actions.take(api.rt.context, case, ANNA)
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    assert browser.post(f"/me/cases/{case}/reopen", text="I want it gone.").status_code == 303
    page = browser.get(f"/me/cases/{case}").text
    assert f"/me/cases/{case}/letters/decided?round=1" in page
    assert "It cannot be shown." in browser.get(f"/me/cases/{case}/letters/decided?round=1").text
    other = somebody.reported(amount_minor=501)
    second = filed(api, somebody.subjects, other)
    staff_actions.take(api.rt.context, second, ANNA)
    staff_actions.decide(api.rt.context, second, ANNA, Outcome.UPHELD, "The carrier says so.")
    page = browser.get(f"/me/cases/{second}").text
    assert "Contest it myself" in page
    assert f"/me/cases/{second}/reopen" not in page
    own = browser.contest(other)
    assert own != second


def test_a_refused_form_comes_back_with_what_was_written(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    browser = new_browser().open(somebody.code())
    long = "An account of everything. " * 90
    answer = browser.post("/me/appeal", report=report, grounds="other", text=long)
    assert answer.status_code == 422
    assert long.strip() in answer.text
    assert re.search(r'value="other"[^>]* checked', answer.text)
    assert 'href="#text"' in answer.text
    answer = browser.post("/me/appeal", report=report, text="No reason chosen.")
    assert answer.status_code == 422
    assert "No reason chosen." in answer.text
    assert 'href="#grounds"' in answer.text
    case = browser.contest(report)
    answer = browser.post(f"/me/cases/{case}/messages", text=long)
    assert answer.status_code == 422
    assert long.strip() in answer.text
    answer = browser.upload(case, b"MZ\x90\x00 a program", "receipt.png")
    assert answer.status_code == 422
    assert 'id="file-error"' in answer.text


def test_a_withdrawn_case_takes_no_message(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    browser = new_browser().open(somebody.code())
    case = browser.contest(somebody.reported())
    browser.post(f"/me/cases/{case}/withdraw")
    answer = browser.post(f"/me/cases/{case}/messages", text="One more thing.")
    assert answer.status_code == 422
    assert "The case has moved on" in answer.text


def test_every_page_has_strict_headers_and_is_kept_by_nobody(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    browser = new_browser().open(somebody.code())
    case = browser.contest(somebody.reported())
    for path in ("/me", "/me/open", "/me/ended", f"/me/cases/{case}", f"/me/cases/{case}/letters/received", "/me/no"):
        headers = browser.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] in ("same-origin", "no-referrer")
    assert browser.get("/me/download").headers["cache-control"] == "no-store"


def test_no_page_and_no_log_line_holds_a_code_token_tag_or_element(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    code = somebody.code()
    browser = new_browser().open(code)
    new_browser().post("/me/open", code=code)
    browser.get(f"/me/open?code={code}")
    case = browser.contest(somebody.reported(ACME))
    pages = "".join(browser.get(path).text for path in ("/me", f"/me/cases/{case}", "/me/download"))
    logs = api.logs.getvalue().decode()
    assert '"/me/open"' in logs
    secret = [code, browser.client.cookies["me"], *(element.hex() for _, element in somebody.subjects)]
    for item in secret:
        assert item not in logs
        assert item not in pages


def test_both_languages_and_the_switch(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    somebody.reported()
    browser = new_browser("zh-CN,zh;q=0.9")
    assert 'lang="zh-CN"' in browser.get("/me").text
    browser.open(somebody.code(locale="zh-CN"))
    text = browser.get("/me").text
    assert "任何平台都不得据此自动拒绝退款" in text
    assert "/me?lang=en" in text
    assert "No refund may be refused automatically" in browser.get("/me?lang=en").text
    assert "No refund may be refused automatically" in browser.get("/me").text, "the choice is kept"
    page = browser.get("/me?lang=zh-CN").text
    words = re.sub(r"<[^>]+>|&\w+;", " ", re.sub(r"<head>.*?</head>", "", page, flags=re.S))
    english = set(re.findall(r"[A-Za-z]{3,}", words)) - {"English", "beta", "JSON", "CNY"}
    assert {word for word in english if word not in page.partition("rp_")[2][:9] and not word.startswith("rp")} <= ids(
        page
    )


def ids(page: str) -> set[str]:
    """Runs of letters in the public ids of a page."""
    return {run for item in re.findall(r"\b[a-z]{2}_\w+", page) for run in re.findall(r"[A-Za-z]{3,}", item)}
