"""Pages of the console: errors, staff, audit log, texts in two languages, and what is never markup."""

from __future__ import annotations

import ast
import html
import json
import re
import time
from collections.abc import Iterator

import httpx2
import pyotp
import pytest
from babel.messages.extract import extract_from_dir
from sqlalchemy import text

from api.web.forms import FORM_LIMIT_BYTES
from ledger.i18n import texts
from ledger.server.db.engine import writing
from ledger.server.staff import audit, passwords
from ledger.server.staff.audit import EventFilter
from tests.api.conftest import Api
from tests.api.console_fixture import ConsoleFixture, assert_shell, post, said
from tests.staffing import ROLES, cheap
from tests.support import ROOT

READS = {
    "/console": set(ROLES),
    "/console/password": set(ROLES),
    "/console/staff": {"admin"},
    "/console/audit": {"auditor", "supervisor", "admin"},
    "/console/audit/export.csv": {"auditor", "supervisor", "admin"},
    "/console/audit/export.jsonl": {"auditor", "supervisor", "admin"},
}


@pytest.fixture(scope="module")
def shared_console(api: Api) -> ConsoleFixture:
    return ConsoleFixture(api)


@pytest.fixture
def console(shared_console: ConsoleFixture) -> Iterator[ConsoleFixture]:
    yield shared_console
    shared_console.close_clients()


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)


def test_errors_are_pages_here_and_problems_elsewhere(console: ConsoleFixture) -> None:
    client = console.client()
    for method, path, status in (
        ("GET", "/console/nothing", 404),
        ("DELETE", "/console/login", 405),
        ("GET", "/console/logout", 405),
        ("GET", "/me/nothing", 404),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-request-id"] in answer.text
        assert_shell(answer)
    assert client.request("GET", "/console/logout").headers["allow"] == "POST"
    assert client.get("/v1/nothing").headers["content-type"] == "application/problem+json"
    assert client.get("/consoles").headers["content-type"] == "application/problem+json"
    big = client.post("/console/login", content=b"a=" + b"x" * FORM_LIMIT_BYTES, headers=FORM | console.origin())
    assert big.status_code == 413
    huge = client.post("/console/login", content=b"x" * 3_000_000, headers=FORM | console.origin())
    assert huge.status_code == 413
    assert_shell(huge)
    for body in (b"name=%ff", b"a=1&a=2", b"name=%00", "name=é".encode()):
        assert client.post("/console/login", content=body, headers=FORM | console.origin()).status_code == 422, body
    assert client.post("/console/login", json={"name": "x"}, headers=console.origin()).status_code == 422
    chinese = client.get("/console/nothing", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"})
    assert "找不到该页面" in chinese.text


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_fault_is_a_page_too_and_says_nothing(console: ConsoleFixture) -> None:
    client = console.signed_in("auditor")
    engine = console.api.rt.engine
    with writing(engine) as connection:
        connection.execute(text("ALTER TABLE staff_event RENAME TO away"))
    try:
        answer = client.get("/console/audit")
    finally:
        with writing(engine) as connection:
            connection.execute(text("ALTER TABLE away RENAME TO staff_event"))
    assert answer.status_code == 500
    assert "Something went wrong here" in said(answer)
    assert "staff_event" not in answer.text
    assert_shell(answer)


def test_names_cannot_be_markup_wherever_they_come_from(console: ConsoleFixture) -> None:
    bad = '"><script>alert(1)</script>'
    admin = console.signed_in("admin")
    answers = [
        post(console.client(), "/console/login", {**console.credentials("reviewer"), "name": bad}),
        post(admin, "/console/staff", {"name": bad, "role": "reviewer", "language": "en"}),
        post(admin, "/console/staff", {"name": "ok", "role": bad, "language": "en", "control_group": bad}),
        admin.get("/console/audit", params={"staff": bad, "object": bad}),
        admin.get("/console/login", params={"next": bad, "lang": bad}),
    ]
    with writing(console.api.rt.engine) as connection:
        # as a fault elsewhere could have stored it
        connection.execute(text("UPDATE staff SET control_group = :bad WHERE name = 'reviewer'"), {"bad": bad})
        audit.record(connection, console.api.rt.now(), None, "case_read", "appeal", bad, bad, about_group="east")
    answers += [admin.get("/console/staff"), admin.get("/console/audit")]
    with writing(console.api.rt.engine) as connection:
        connection.execute(text("UPDATE staff SET control_group = NULL"))
    for answer in answers:
        assert "<script" not in answer.text
        assert_shell(answer)
    assert "&lt;script&gt;" in answers[-1].text
    assert "&lt;script&gt;" in answers[-2].text


def link_of(page: httpx2.Response) -> str:
    """The code of the enrolment link that the page shows."""
    (link,) = re.findall(r'<code class="secret">([^<]+)</code>', page.text)
    return str(link).rpartition("#")[2]


def opened(console: ConsoleFixture, code: str) -> tuple[str, str]:
    """(code of the form, address for authenticator apps) of what the link leads to."""
    form = post(console.client(), "/console/enrol/open", {"code": code})
    assert form.status_code == 200, said(form)
    assert_shell(form)
    assert "<svg" in form.text
    (uri,) = re.findall(r'<code class="secret">(otpauth://[^<]+)</code>', form.text)
    (own,) = re.findall(r'name="code" value="([^"]+)"', form.text)
    return own, html.unescape(uri)


def step_on(client: httpx2.Client, name: str, step: str, **fields: str) -> httpx2.Response:
    """Confirm a step on its page, as a person who read it would."""
    page = client.get(f"/console/staff/{name}/{step}")
    assert page.status_code == 200
    (revision,) = re.findall(r'name="revision" value="(\d+)"', page.text)
    sent = {"revision": revision, "confirm": "yes", **fields}
    return post(client, f"/console/staff/{name}/{step}", sent)


def test_an_account_from_its_link_to_the_second_admin(console: ConsoleFixture) -> None:
    admin = console.signed_in("admin")
    console.add("second", "admin")
    other = console.signed_in("second")
    response = post(admin, "/console/staff", {"name": "nova", "role": "supervisor", "language": "en"})
    assert response.status_code == 200
    assert_shell(response)
    code = link_of(response)
    assert code not in admin.get("/console/staff").text
    assert post(admin, "/console/staff", {"name": "nova", "role": "admin", "language": "en"}).status_code == 409
    assert "link not used" in said(admin.get("/console/staff"))
    own, uri = opened(console, code)
    assert "does not work" in said(post(console.client(), "/console/enrol/open", {"code": code}))
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    typed = {"code": own, "new": "a password of my own", "again": "a password of my own"}
    wrong = post(console.client(), "/console/enrol", {**typed, "one_time_code": "000000x"})
    assert (wrong.status_code, "not the code" in said(wrong)) == (422, True)
    differ = post(console.client(), "/console/enrol", {**typed, "again": "x", "one_time_code": totp.now()})
    assert "The two new passwords differ." in said(differ)
    done = post(console.client(), "/console/enrol", {**typed, "one_time_code": totp.now()})
    assert "A second admin has to confirm it" in said(done)
    assert_shell(done)
    login = {"name": "nova", "password": typed["new"], "code": totp.at(time.time() + 30)}
    assert post(console.client(), "/console/login", login).status_code == 401
    mine = step_on(admin, "nova", "confirm")
    assert (mine.status_code, "whose own account" in said(mine)) == (403, True)
    assert step_on(other, "nova", "confirm").status_code == 303
    assert post(console.client(), "/console/login", login).status_code == 303
    assert "enrolled by admin and second" in said(admin.get("/console/staff"))


def test_steps_are_confirmed_on_a_page_and_a_form_sent_twice_acts_once(console: ConsoleFixture) -> None:
    admin = console.signed_in("admin")
    console.add("stella", "auditor")
    for step in ("reset", "disable", "role", "enable", "confirm"):
        unticked = post(admin, f"/console/staff/stella/{step}", {"revision": "0", "role": "reviewer"})
        assert (unticked.status_code, "Tick the box" in said(unticked)) == (422, True), step
        assert post(admin, f"/console/staff/stella/{step}", {"confirm": "yes"}).status_code == 422
    first = step_on(admin, "stella", "reset")
    code = link_of(first)
    again = post(admin, "/console/staff/stella/reset", {"revision": "0", "confirm": "yes"})
    assert (again.status_code, "was changed since" in said(again)) == (409, True)
    assert "secret" not in again.text
    opened(console, code)
    assert step_on(admin, "stella", "role", role="boss").status_code == 422
    assert step_on(admin, "stella", "disable").status_code == 303
    assert "disabled" in said(admin.get("/console/staff"))
    assert step_on(admin, "stella", "enable").status_code == 303
    assert step_on(admin, "admin", "reset").status_code == 422
    for path in ("/console/staff/nobody/disable", "/console/staff/nobody/confirm"):
        assert admin.get(path).status_code == 404
    assert admin.get("/console/staff/stella/promote").status_code in (404, 422)
    events = audit.page(console.api.rt.engine, EventFilter(staff_name="admin", object_type="staff"), None).events
    actions = [event.action for event in events if (event.detail or "").startswith("stella")]
    assert actions == ["staff_enabled", "staff_disabled", "staff_reset"]


def test_a_language_is_chosen_and_kept(console: ConsoleFixture) -> None:
    console.add("reader", "auditor")
    client = console.signed_in("reader")
    answer = post(client, "/console/language", {"language": "zh-CN", "back": "/console/audit"})
    assert answer.headers["location"] == "/console/audit"
    page = console.signed_in("reader").get("/console/audit", headers={"Accept-Language": "en"})
    assert '<html lang="zh-CN">' in page.text
    assert "审计日志" in page.text
    assert post(client, "/console/language", {"language": "fr"}).status_code == 422
    away = post(client, "/console/language", {"language": "en", "back": "//evil.example"})
    assert away.headers["location"] == "/console/queue"


def test_the_audit_log_is_filtered_paged_and_exported(console: ConsoleFixture) -> None:
    client = console.signed_in("supervisor")
    with writing(console.api.rt.engine) as connection:
        for number in range(60):
            detail = "=1+1" if number == 59 else None
            audit.record(
                connection,
                console.api.rt.now(),
                None,
                "case_read",
                "appeal",
                f"ap_{number}",
                detail,
                about_group="east",
            )
    first = client.get("/console/audit", params={"action": "case_read"})
    assert first.text.count("<tr>") == 51
    older = re.search(r'href="(/console/audit\?[^"]*)" rel="next"', first.text)
    assert older is not None
    second = client.get(older[1].replace("&amp;", "&"))
    assert "ap_3<" in second.text
    assert "ap_59<" not in second.text
    assert said(client.get("/console/audit", params={"object": "appeal ap_7"})).count("ap_7") == 1
    table = client.get("/console/audit/export.csv", params={"object": "ap_59"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="audit-\d{4}-\d\d-\d\d\.csv"', table.headers["content-disposition"])
    assert ",'=1+1\r\n" in table.text
    lines = client.get("/console/audit/export.jsonl", params={"object": "ap_59"}).text.splitlines()
    assert [json.loads(line)["detail"] for line in lines] == ["=1+1"]
    for bad in ({"from": "yesterday"}, {"to": "9999-12-31"}, {"before": "x"}, {"before": "9" * 19}, {"staff": "a b"}):
        assert client.get("/console/audit", params=bad).status_code == 422, bad
    assert client.get("/console/audit/export.csv", params={"from": "x"}).status_code == 422


def test_static_files_are_kept_by_version(console: ConsoleFixture) -> None:
    client = console.client()
    match = re.search(r'href="(/static/base\.css\?v=[0-9a-f]{16})"', client.get("/console/login").text)
    assert match is not None
    file = client.get(match[1])
    assert (file.status_code, file.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert file.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/base.css").headers["cache-control"] == "no-cache"
    assert client.get("/static/base.css", headers={"If-None-Match": file.headers["etag"]}).status_code == 304
    for path in ("/static/nothing.css", "/static/..%2fpages.py", "/static/.css", "/static/"):
        assert client.get(path).status_code == 404, path


LABELS = r"<(?:h1|h2|label[^>]*|th scope=\"col\"|button(?! class=\"link\")[^>]*)>([^<]+)"


@pytest.mark.parametrize("role", ROLES)
def test_a_chinese_page_leaves_nothing_in_english(console: ConsoleFixture, role: str) -> None:
    client = console.signed_in(role)
    post(client, "/console/language", {"language": "zh-CN"})
    for path, roles in READS.items():
        if role in roles and path != "/console" and "export" not in path:
            page = client.get(path)
            assert '<html lang="zh-CN">' in page.text
            labels = re.findall(LABELS, page.text)
            assert labels
            assert [label for label in labels if not re.search(r"[\u4e00-\u9fff]", label)] == []
    post(client, "/console/language", {"language": "en"})


def test_every_text_of_these_pages_is_in_the_catalogue() -> None:
    templates = [("**/templates/**.html", "jinja2"), ("**.py", "python")]
    chinese = texts("zh-CN")
    values = set()
    for folder in ("api/console", "api/web"):
        for _, _, message, _, _ in extract_from_dir(ROOT / folder, templates, keywords={"_": None}):
            values.add(message)
    assert len(values) > 80
    assert sorted(message for message in values if chinese.gettext(str(message)) == message) == []


@pytest.mark.parametrize("module", ["accounts", "sessions", "passwords"])
def test_every_refusal_of_an_account_is_in_the_catalogue(module: str) -> None:
    """What the services refuse with is shown beside the form."""
    tree = ast.parse((ROOT / "ledger" / "server" / "staff" / f"{module}.py").read_text("utf-8"))
    raised = {
        argument.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for argument in node.args
        if isinstance(argument, ast.Constant) and str(argument.value).endswith(".") and " " in str(argument.value)
    }
    assert raised
    shown = {str(text) for text in raised} - OTHER_MESSAGES
    assert sorted(text for text in shown if texts("zh-CN").gettext(text) == text) == []


OTHER_MESSAGES = {
    "You are not signed in.",
    "Your session has ended. Sign in again.",
    "Too many people are signing in. Try again.",
}
"""Shown as the page of their code, in words of its own."""
