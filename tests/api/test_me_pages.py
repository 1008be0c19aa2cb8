"""The pages of /me over real HTTP: who may send forms, what a cookie is, whose cases there are, what text becomes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

from ledger.core.appeals import Outcome
from ledger.service.appeals import staff_actions as desk
from ledger.service.appeals.sessions import redeem
from tests.api.conftest import ACME, BETA, Api, running
from tests.people import ANNA, PNG, Person
from tests.support import new_ledger

SAME = {"Sec-Fetch-Site": "same-origin"}
NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&{{7*7}}"


class Visitor:
    """A browser without a screen: it keeps its cookies, and its forms come from our own page."""

    def __init__(self, api: Api, language: str = "en") -> None:
        self.client = httpx2.Client(base_url=api.url, timeout=30, headers={"Accept-Language": language})

    def get(self, path: str) -> httpx2.Response:
        """A page."""
        return self.client.get(path)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx2.Response:
        """A form."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(SAME if headers is None else headers)}
        return self.client.post(path, content=urlencode(fields), headers=sent)

    def open(self, code: str) -> Visitor:
        """Open the record behind a code."""
        answer = self.post("/me/open", code=code)
        assert (answer.status_code, answer.headers["location"]) == (303, "/me"), answer.text
        return self

    def contest(self, report: str, text: str = "I sent it back.", grounds: str = "wrong_facts") -> str:
        """File an appeal; the case."""
        answer = self.post("/me/appeal", report=report, grounds=grounds, text=text)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].split("/")[3]

    def upload(self, case: str, data: bytes, name: str) -> httpx2.Response:
        """A file."""
        files = {"file": (name, data, "application/octet-stream")}
        return self.client.post(f"/me/cases/{case}/files", files=files, headers=SAME)


@pytest.fixture
def visit(api: Api) -> Iterator[Visit]:
    """`visit()` is one more browser; `visit("zh-CN")` one of somebody who reads Chinese."""
    visitors: list[Visitor] = []

    def make(language: str = "en") -> Visitor:
        visitors.append(Visitor(api, language))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.client.close()


Visit = Callable[..., Visitor]


def test_nobody_without_a_link_sees_anything(api: Api, visit: Visit) -> None:
    page = visit().get("/me")
    assert page.status_code == 200
    assert "Open your record" in page.text
    assert "<noscript>" in page.text
    for path in ("/me/download", "/me/appeal?report=x", "/me/cases/ap_abcdefgh", "/me/statement?report=x"):
        refused = visit().get(path)
        assert refused.status_code == 401
        assert "ask for a new link" in refused.text


def test_a_link_is_opened_by_a_form_and_only_once(api: Api, visit: Visit) -> None:
    code = Person(api).code()
    for path in (f"/me?code={code}", f"/me/open?code={code}", f"/me/{code}"):
        assert "set-cookie" not in visit().get(path).headers, "a preview of the link uses nothing up"
    page = visit().open(code).get("/me")
    assert "Your record" in page.text
    again = visit().post("/me/open", code=code)
    assert again.status_code == 401
    assert "This link no longer works" in again.text


def test_the_whole_link_may_be_pasted(api: Api, visit: Visit) -> None:
    visit().open(f"  {api.url}/me#{Person(api).code()} ")


@pytest.mark.parametrize("code", ["", "nonsense", "x" * 5000, "päpp", "a\x00b"])
def test_no_other_code_opens_anything(api: Api, visit: Visit, code: str) -> None:
    answer = visit().post("/me/open", code=code)
    assert answer.status_code in (401, 422)
    assert not answer.headers.get("set-cookie", "").startswith("me=") or "Max-Age=0" in answer.headers["set-cookie"]


def test_an_old_code_opens_nothing(api: Api, visit: Visit) -> None:
    then = api.rt.now() - timedelta(minutes=api.settings.subject_link_minutes, seconds=1)
    assert visit().post("/me/open", code=Person(api).code(now=then)).status_code == 401


def test_the_cookie_is_for_us_alone(api: Api, visit: Visit) -> None:
    cookie = visit().post("/me/open", code=Person(api).code()).headers["set-cookie"]
    assert re.fullmatch(r"me=[A-Za-z0-9_-]{43}; HttpOnly; Path=/me; SameSite=strict", cookie)


def test_behind_https_the_cookie_is_secure(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, public_url="https://ledger.example")
    BETA.enrol(settings)
    with running(settings) as api:
        visitor = Visitor(api)
        answer = visitor.post("/me/open", code=Person(api).code())
        visitor.client.close()
        assert re.match(r"__Secure-me=[\w-]{43}; .*\bSecure\b", answer.headers["set-cookie"])


def test_a_planted_cookie_is_never_taken_over(api: Api, visit: Visit) -> None:
    somebody, planted = Person(api), secrets.token_urlsafe(32)
    visitor = visit()
    visitor.client.cookies.set("me", planted, path="/me")
    assert "Your session has ended" in visitor.get("/me").text
    answer = visitor.post("/me/open", code=somebody.code())
    token = re.match(r"me=([\w-]+)", answer.headers["set-cookie"])
    assert token is not None
    assert token[1] != planted
    other = visit()
    other.client.cookies.set("me", planted, path="/me")
    assert "Open your record" in other.get("/me").text


def test_a_new_link_ends_the_session_before_it(api: Api, visit: Visit) -> None:
    first, second = Person(api), Person(api)
    report = first.reported()
    visitor = visit().open(first.code())
    old = visitor.client.cookies["me"]
    assert report in visitor.get("/me").text
    assert report not in visitor.open(second.code()).get("/me").text
    thief = visit()
    thief.client.cookies.set("me", old, path="/me")
    assert thief.get("/me/download").status_code == 401


def test_an_ended_session_is_over_for_every_copy_of_its_cookie(api: Api, visit: Visit) -> None:
    visitor = visit().open(Person(api).code())
    token = visitor.client.cookies["me"]
    answer = visitor.post("/me/end")
    assert (answer.status_code, answer.headers["location"]) == (303, "/me/ended")
    copy = visit()
    copy.client.cookies.set("me", token, path="/me")
    assert copy.get("/me/download").status_code == 401


def test_what_was_written_survives_the_end_of_the_session(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    report = somebody.reported()
    began = api.rt.now() - timedelta(minutes=api.settings.subject_session_minutes, seconds=1)
    visitor = visit()
    token = redeem(api.rt.engine, api.settings, somebody.code(now=began), began, secrets.token_bytes)
    visitor.client.cookies.set("me", token, path="/me")
    answer = visitor.post("/me/appeal", report=report, grounds="other", text="All that I had to say.")
    assert answer.status_code == 401
    assert "All that I had to say." in answer.text
    assert "ask for a new link" in answer.text


FORGED = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
    {"Referer": "{own}/me"},
]
FORMS = ["open", "end", "appeal", "statement", "messages", "reopen", "withdraw", "files"]


FORGERIES = [*(("messages", headers) for headers in FORGED), *((form, FORGED[1]) for form in FORMS)]


@pytest.mark.parametrize(("form", "headers"), FORGERIES, ids=str)
def test_forms_of_other_pages_do_nothing(api: Api, visit: Visit, form: str, headers: dict[str, str]) -> None:
    somebody = Person(api)
    first, second = somebody.reported(), somebody.reported(BETA)
    visitor = visit().open(somebody.code())
    case = visitor.contest(first)
    sent = {name: value.format(own=api.url) for name, value in headers.items()}
    fields = {"text": "Hello.", "report": second, "grounds": "other", "code": Person(api).code()}
    path = f"/me/{form}" if form in FORMS[:4] else f"/me/cases/{case}/{form}"
    if form == "files":
        files = {"file": ("a.png", PNG, "image/png")}
        answer = visitor.client.post(path, files=files, headers=sent)
    else:
        answer = visitor.client.post(path, data=fields, headers=sent)
    assert answer.status_code == 403
    assert "This form did not come from here" in answer.text
    record = visitor.get("/me/download").json()["record"]["reports"]
    assert [one["case"] is None for one in record] == [True, False], "the session lives, the other report has no case"
    assert (record[1]["case"]["state"], len(record[1]["case"]["timeline"])) == ("submitted", 1)
    assert record[0]["statement"] is None


def test_forms_from_our_own_origin_work_in_browsers_without_fetch_metadata(api: Api, visit: Visit) -> None:
    answer = visit().post("/me/open", {"Origin": api.url}, code=Person(api).code())
    assert answer.status_code == 303


def test_the_record_in_plain_words(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    report = somebody.reported(amount_minor=12_900)
    text = visit().open(somebody.code()).get("/me").text
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


def test_contesting_answering_and_the_decision(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    report = somebody.reported()
    visitor = visit().open(somebody.code())
    form = visitor.get(f"/me/appeal?report={report}&grounds=not_me").text
    assert re.search(r'value="not_me"[^>]* checked', form)
    answer = visitor.post("/me/appeal", report=report, grounds="not_me", text="It was not me.")
    case = answer.headers["location"].split("/")[3]
    filed = visitor.get(answer.headers["location"]).text
    assert case in filed
    assert "You get our answer by" in filed
    assert visitor.contest(report) == case, "sent twice, it leads to the same case"
    assert visitor.get(f"/me/appeal?report={report}").headers["location"] == f"/me/cases/{case}"
    somebody.asked(case, "Which carrier was it?")
    assert "Which carrier was it?" in visitor.get("/me").text
    assert visitor.post(f"/me/cases/{case}/messages", text="SF, number 17.").status_code == 303
    assert visitor.upload(case, PNG, "receipt.png").status_code == 303
    desk.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    page = visitor.get(f"/me/cases/{case}").text
    for said in (
        "Not confirmed",
        "It cannot be shown.",
        "supervises credit reporting",
        "SF, number 17.",
        "receipt.png",
    ):
        assert said in page, said
    letter = visitor.get(f"/me/cases/{case}/letters/decided")
    assert "Our decision in your case" in letter.text
    assert visitor.post(f"/me/cases/{case}/reopen", text="I want it gone.").status_code == 303
    assert visitor.post(f"/me/cases/{case}/withdraw").status_code == 303
    assert "Appeal withdrawn" in visitor.get(f"/me/cases/{case}").text


def test_a_refused_form_comes_back_with_what_was_written(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    report = somebody.reported()
    visitor = visit().open(somebody.code())
    long = "An account of everything. " * 90
    answer = visitor.post("/me/appeal", report=report, grounds="other", text=long)
    assert answer.status_code == 422
    assert long.strip() in answer.text
    assert re.search(r'value="other"[^>]* checked', answer.text)
    assert 'href="#text"' in answer.text
    answer = visitor.post("/me/appeal", report=report, text="No reason chosen.")
    assert answer.status_code == 422
    assert "No reason chosen." in answer.text
    assert 'href="#grounds"' in answer.text
    case = visitor.contest(report)
    answer = visitor.post(f"/me/cases/{case}/messages", text=long)
    assert answer.status_code == 422
    assert long.strip() in answer.text
    answer = visitor.upload(case, b"MZ\x90\x00 a program", "receipt.png")
    assert answer.status_code == 422
    assert 'id="file-error"' in answer.text


def test_a_withdrawn_case_takes_no_message(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    visitor = visit().open(somebody.code())
    case = visitor.contest(somebody.reported())
    visitor.post(f"/me/cases/{case}/withdraw")
    answer = visitor.post(f"/me/cases/{case}/messages", text="One more thing.")
    assert answer.status_code == 422
    assert "The case has moved on" in answer.text


def test_text_stays_text(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    report, other = somebody.reported(), somebody.reported(BETA)
    visitor = visit().open(somebody.code())
    visitor.post("/me/statement", report=other, text=NASTY)
    case = visitor.contest(report, NASTY)
    visitor.post(f"/me/cases/{case}/messages", text=NASTY)
    visitor.upload(case, PNG, NASTY + ".png")
    somebody.asked(case, NASTY)
    pages = [visitor.get(path) for path in ("/me", f"/me/cases/{case}", f"/me/cases/{case}/letters/question")]
    pages += [visitor.post("/me/open", code=NASTY), visitor.get(f"/me?lang={NASTY}")]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert re.findall(r"<script(?![^>]* src=\"/static/)", page.text) == []
        assert " onerror=alert(2)>" not in page.text
        assert "49" not in re.findall(r"\{\{7\*7\}\}|(?<!\d)49(?!\d)", page.text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[0].text


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.png", "..\\..\\boot.png", "/abs/olute.png", "a\u202egnp.exe", "\x01.png"]
)
def test_names_of_files_lead_nowhere(api: Api, visit: Visit, name: str) -> None:
    somebody = Person(api)
    visitor = visit().open(somebody.code())
    case = visitor.contest(somebody.reported())
    visitor.upload(case, PNG, name)
    kept = somebody.open().ask("GET", f"/appeals/{case}").json()["attachments"][0]
    assert kept["name"].endswith(".png")
    assert not re.search(r"[/\\\u202e\x01]|\.\.", kept["name"])
    served = visitor.get(f"/me/cases/{case}/files/{kept['id']}")
    assert served.content == PNG
    assert served.headers["content-security-policy"] == "sandbox; default-src 'none'"
    for path in ("..%2f..%2fledger.db", "at_..", "%00", f"{kept['id']}%2f.."):
        assert visitor.get(f"/me/cases/{case}/files/{path}").status_code == 404


def test_a_page_never_shows_another_persons_things(api: Api, visit: Visit) -> None:
    owner, other = Person(api), Person(api)
    report = owner.reported()
    mine = visit().open(owner.code())
    case = mine.contest(report)
    mine.upload(case, PNG, "a.png")
    file = owner.open().ask("GET", f"/appeals/{case}").json()["attachments"][0]["id"]
    visitor = visit().open(other.code())
    for path in (
        f"/me/cases/{case}",
        f"/me/cases/{case}/filed",
        f"/me/cases/{case}/letters/received",
        f"/me/cases/{case}/files/{file}",
        f"/me/appeal?report={report}",
        f"/me/statement?report={report}",
    ):
        assert visitor.get(path).status_code == 404, path
    for action in ("messages", "reopen", "withdraw"):
        assert visitor.post(f"/me/cases/{case}/{action}", text="Hello.").status_code == 404
    for form in ("appeal", "statement"):
        assert visitor.post(f"/me/{form}", report=report, grounds="other", text="Hello.").status_code == 404
    assert visitor.upload(case, PNG, "b.png").status_code == 404
    assert len(owner.ask("GET", f"/appeals/{case}").json()["timeline"]) == 2


def test_every_page_has_strict_headers_and_is_kept_by_nobody(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    visitor = visit().open(somebody.code())
    case = visitor.contest(somebody.reported())
    for path in ("/me", "/me/open", "/me/ended", f"/me/cases/{case}", f"/me/cases/{case}/letters/received", "/me/no"):
        headers = visitor.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] in ("same-origin", "no-referrer")
    assert visitor.get("/me/download").headers["cache-control"] == "no-store"


def test_no_page_and_no_log_line_holds_a_code_token_tag_or_element(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    code = somebody.code()
    visitor = visit().open(code)
    visit().post("/me/open", code=code)
    visitor.get(f"/me/open?code={code}")
    case = visitor.contest(somebody.reported(ACME))
    pages = "".join(visitor.get(path).text for path in ("/me", f"/me/cases/{case}", "/me/download"))
    logs = api.logs.getvalue().decode()
    assert '"/me/open"' in logs
    secret = [code, visitor.client.cookies["me"], *(element.hex() for _, element in somebody.subjects)]
    for one in secret:
        assert one not in logs
        assert one not in pages


def test_both_languages_and_the_switch(api: Api, visit: Visit) -> None:
    somebody = Person(api)
    somebody.reported()
    visitor = visit("zh-CN,zh;q=0.9")
    assert 'lang="zh-CN"' in visitor.get("/me").text
    visitor.open(somebody.code(locale="zh-CN"))
    text = visitor.get("/me").text
    assert "任何平台都不得据此自动拒绝退款" in text
    assert "/me?lang=en" in text
    assert "No refund may be refused automatically" in visitor.get("/me?lang=en").text
    assert "No refund may be refused automatically" in visitor.get("/me").text, "the choice is kept"
    page = visitor.get("/me?lang=zh-CN").text
    words = re.sub(r"<[^>]+>|&\w+;", " ", re.sub(r"<head>.*?</head>", "", page, flags=re.S))
    english = set(re.findall(r"[A-Za-z]{3,}", words)) - {"English", "beta", "JSON", "CNY"}
    assert {word for word in english if word not in page.partition("rp_")[2][:9] and not word.startswith("rp")} <= ids(
        page
    )


def ids(page: str) -> set[str]:
    """Runs of letters in the public ids of a page."""
    return {run for one in re.findall(r"\b[a-z]{2}_\w+", page) for run in re.findall(r"[A-Za-z]{3,}", one)}
