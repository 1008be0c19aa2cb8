"""The pages of /me against people who mean harm: forms of other sites, markup, names of files, others' cases."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.api.browser_client import NewBrowser, browser_clients
from tests.api.conftest import BETA, Api
from tests.personas import PNG, Persona

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&{{987*789}}"


@pytest.fixture
def new_browser(api: Api) -> Iterator[NewBrowser]:
    """See `browser_clients`."""
    with browser_clients(api) as make:
        yield make


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
def test_forms_of_other_pages_do_nothing(api: Api, new_browser: NewBrowser, form: str, headers: dict[str, str]) -> None:
    somebody = Persona(api)
    first, second = somebody.reported(), somebody.reported(BETA)
    browser = new_browser().open(somebody.code())
    case = browser.contest(first)
    sent = {name: value.format(own=api.url) for name, value in headers.items()}
    fields = {"text": "Hello.", "report": second, "grounds": "other", "code": Persona(api).code()}
    path = f"/me/{form}" if form in FORMS[:4] else f"/me/cases/{case}/{form}"
    if form == "files":
        files = {"file": ("a.png", PNG, "image/png")}
        answer = browser.client.post(path, files=files, headers=sent)
    else:
        answer = browser.client.post(path, data=fields, headers=sent)
    assert answer.status_code == 403
    assert "This form did not come from here" in answer.text
    record = browser.get("/me/download").json()["record"]["reports"]
    assert [item["case"] is None for item in record] == [True, False], "the session lives, the other report has no case"
    assert (record[1]["case"]["state"], len(record[1]["case"]["timeline"])) == ("submitted", 1)
    assert record[0]["statement"] is None


def test_forms_from_our_own_origin_work_in_browsers_without_fetch_metadata(api: Api, new_browser: NewBrowser) -> None:
    answer = new_browser().post("/me/open", {"Origin": api.url}, code=Persona(api).code())
    assert answer.status_code == 303


def test_text_stays_text(api: Api, new_browser: NewBrowser) -> None:
    somebody = Persona(api)
    report, other = somebody.reported(), somebody.reported(BETA)
    browser = new_browser().open(somebody.code())
    browser.post("/me/statement", report=other, text=NASTY)
    case = browser.contest(report, NASTY)
    browser.post(f"/me/cases/{case}/messages", text=NASTY)
    browser.upload(case, PNG, NASTY + ".png")
    somebody.asked(case, NASTY)
    pages = [browser.get(path) for path in ("/me", f"/me/cases/{case}", f"/me/cases/{case}/letters/question")]
    pages += [browser.post("/me/open", code=NASTY), browser.get(f"/me?lang={NASTY}")]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert re.findall(r"<script(?![^>]* src=\"/static/)", page.text) == []
        assert " onerror=alert(2)>" not in page.text
        assert "778743" not in page.text, "what braces say is not worked out"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages[0].text


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.png", "..\\..\\boot.png", "/abs/olute.png", "a\u202egnp.exe", "\x01.png"]
)
def test_names_of_files_lead_nowhere(api: Api, new_browser: NewBrowser, name: str) -> None:
    somebody = Persona(api)
    browser = new_browser().open(somebody.code())
    case = browser.contest(somebody.reported())
    browser.upload(case, PNG, name)
    kept = somebody.open().ask("GET", f"/appeals/{case}").json()["attachments"][0]
    assert kept["name"].endswith(".png")
    assert not re.search(r"[/\\\u202e\x01]|\.\.", kept["name"])
    served = browser.get(f"/me/cases/{case}/files/{kept['id']}")
    assert served.content == PNG
    assert served.headers["content-security-policy"] == "sandbox; default-src 'none'"
    for path in ("..%2f..%2fledger.db", "at_..", "%00", f"{kept['id']}%2f.."):
        assert browser.get(f"/me/cases/{case}/files/{path}").status_code == 404


def test_a_page_never_shows_another_persons_things(api: Api, new_browser: NewBrowser) -> None:
    owner, other = Persona(api), Persona(api)
    report = owner.reported()
    mine = new_browser().open(owner.code())
    case = mine.contest(report)
    mine.upload(case, PNG, "a.png")
    file = owner.open().ask("GET", f"/appeals/{case}").json()["attachments"][0]["id"]
    browser = new_browser().open(other.code())
    for path in (
        f"/me/cases/{case}",
        f"/me/cases/{case}/filed",
        f"/me/cases/{case}/letters/received",
        f"/me/cases/{case}/files/{file}",
        f"/me/appeal?report={report}",
        f"/me/statement?report={report}",
    ):
        assert browser.get(path).status_code == 404, path
    for action in ("messages", "reopen", "withdraw"):
        assert browser.post(f"/me/cases/{case}/{action}", text="Hello.").status_code == 404
    for form in ("appeal", "statement"):
        assert browser.post(f"/me/{form}", report=report, grounds="other", text="Hello.").status_code == 404
    assert browser.upload(case, PNG, "b.png").status_code == 404
    assert len(owner.ask("GET", f"/appeals/{case}").json()["timeline"]) == 2
