"""The pages of /me against people who mean harm: forms of other sites, markup, names of files, others' cases."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.api.conftest import BETA, Api
from tests.api.visitors import Visit, visitors
from tests.people import PNG, Person

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&{{987*789}}"


@pytest.fixture
def visit(api: Api) -> Iterator[Visit]:
    """See `visitors`."""
    with visitors(api) as make:
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
        assert "778743" not in page.text, "what braces say is not worked out"
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
