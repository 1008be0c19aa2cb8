"""Signing in at the console over real HTTP: sessions, cookies, headers, forms from elsewhere, and who may open what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from api.console import login_queue
from api.console.auth import COOKIE, COOKIE_PATH
from api.console.routes import routers
from api.web.cookies import cookie_name
from ledger.server.db.engine import reading, writing
from ledger.server.settings import Settings
from ledger.server.staff import accounts as service
from ledger.server.staff import passwords
from tests.api.conftest import Api, running
from tests.api.console_fixture import ConsoleFixture, assert_shell, post, said
from tests.staffing import PASSWORD, ROLES, cheap
from tests.support import new_ledger

CROSS_SITE = [
    {},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
    {"Origin": "OWN.evil.example"},
    {"Origin": "OWN:1"},
    {"Referer": "OWN/console/login"},
]
OWN_SITE = [
    {"Sec-Fetch-Site": "same-origin"},
    {"Origin": "OWN"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "OWN"},
]
READS = {
    "/console": set(ROLES),
    "/console/password": set(ROLES),
    "/console/staff": {"admin"},
    "/console/staff/{name}/{step}": {"admin"},
    "/console/audit": {"auditor", "supervisor", "admin"},
    "/console/audit/export.csv": {"auditor", "supervisor", "admin"},
    "/console/audit/export.jsonl": {"auditor", "supervisor", "admin"},
}
WRITES = {
    "/console/password": set(ROLES),
    "/console/language": set(ROLES),
    "/console/staff": {"admin"},
    "/console/staff/{name}/{step}": {"admin"},
}
STEPS = ("reset", "disable", "enable", "role", "confirm")
OPEN = {
    ("GET", "/console/login"),
    ("POST", "/console/login"),
    ("POST", "/console/logout"),
    ("GET", "/console/enrol"),
    ("POST", "/console/enrol"),
    ("POST", "/console/enrol/open"),
}
OWN_ROUTES = ("login", "enrol", "staff", "audit")


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
    monkeypatch.setattr(login_queue, "ANSWER_SECONDS", 0.02)


def test_every_route_here_is_in_the_tables() -> None:
    routes = {
        (method, route.path)
        for router in routers()
        for route in router.routes
        if isinstance(route, APIRoute) and route.endpoint.__module__.rpartition(".")[2] in OWN_ROUTES
        for method in route.methods or ()
    }
    assert routes == {("GET", path) for path in READS} | {("POST", path) for path in WRITES} | OPEN


def test_a_login_opens_a_session_and_a_logout_ends_it(console: ConsoleFixture) -> None:
    client = console.client()
    away = client.get("/console/audit")
    assert (away.status_code, away.headers["location"]) == (303, "/console/login?next=/console/audit")
    form = client.get(away.headers["location"])
    assert 'name="next" value="/console/audit"' in form.text
    answer = post(client, "/console/login", {**console.credentials("auditor"), "next": "/console/audit"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/audit")
    page = client.get("/console/audit")
    assert page.status_code == 200
    assert "auditor" in said(page)
    cookie = client.cookies[COOKIE]
    out = post(client, "/console/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/console/login")
    assert COOKIE not in client.cookies
    again = client.get("/console/audit", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert again.status_code == 303, "the session is over on the server, not only in the browser"


@pytest.mark.parametrize(
    "after", ["https://evil.example/", "//evil.example", "/console//evil", "/console/../x", "/me", "/console\\x", "x"]
)
def test_a_login_leads_to_no_other_place(console: ConsoleFixture, after: str) -> None:
    assert "evil" not in console.client().get("/console/login", params={"next": after}).text
    answer = post(console.client(), "/console/login", {**console.credentials("reviewer"), "next": after})
    assert answer.headers["location"] == "/console/queue"


@pytest.mark.parametrize("wrong", ["name", "password", "code"])
def test_a_refused_login_says_the_same_whatever_is_wrong(console: ConsoleFixture, wrong: str) -> None:
    person = console.add(f"typo-{wrong}", "reviewer")
    typed = {**console.credentials(person.name), wrong: "000000" if wrong == "code" else "nothing"}
    client = console.client()
    answer = post(client, "/console/login", typed)
    assert answer.status_code == 401
    assert "Name, password or code is wrong, or the account is locked." in said(answer)
    assert COOKIE not in client.cookies
    assert 'role="alert"' in answer.text
    assert PASSWORD not in answer.text


def test_a_locked_account_answers_like_a_wrong_password(console: ConsoleFixture) -> None:
    person = console.add("locked", "reviewer")
    wrong = {**console.credentials("locked"), "password": "wrong"}
    answers = [post(console.client(), "/console/login", wrong) for _ in range(5)]
    good = post(console.client(), "/console/login", console.credentials("locked"))
    assert {answer.status_code for answer in [*answers, good]} == {401}
    assert len({re.sub(r'value="[^"]*"', "", answer.text) for answer in [*answers, good]}) == 1
    service.enable_staff(console.api.rt.engine, person.name, console.api.rt.now())
    console.signed_in("locked")


def test_too_many_at_a_time_is_said_and_not_counted(console: ConsoleFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.01)
    with passwords.working(), passwords.working(), passwords.working():
        answer = post(console.client(), "/console/login", console.credentials("reviewer"))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    console.signed_in("reviewer")


def test_a_planted_session_gains_nothing(console: ConsoleFixture) -> None:
    planted = console.signed_in("reviewer").cookies[COOKIE]
    answer = post(
        console.client(),
        "/console/login",
        console.credentials("admin"),
        {"Sec-Fetch-Site": "same-origin", "Cookie": f"{COOKIE}={planted}"},
    )
    token = re.match(rf"{COOKIE}=([^;]+);", answer.headers["set-cookie"])
    assert token is not None
    assert token[1] != planted
    old = console.client().get("/console/password", headers={"Cookie": f"{COOKIE}={planted}"})
    assert old.status_code == 303, "the session that the browser had before is over"


def test_an_expired_session_shows_a_page_and_saves_nothing(console: ConsoleFixture) -> None:
    console.add("late", "admin")
    client = console.signed_in("late")
    with writing(console.api.rt.engine) as connection:
        connection.execute(text("UPDATE staff_session SET expires_at = created_at, seen_at = created_at"))
    assert client.get("/console/staff").status_code == 303
    answer = post(client, "/console/staff/reviewer/disable")
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "Your session has ended" in said(answer)
    assert not next(item for item in service.list_staff(console.api.rt.engine) if item.name == "reviewer").disabled


def test_a_first_password_must_be_changed_before_anything_else(console: ConsoleFixture) -> None:
    person = console.add("fresh", "admin", changed=False)
    client = console.signed_in("fresh")
    for path in ("/console", "/console/staff", "/console/audit"):
        answer = client.get(path)
        expected = "/console/queue" if path == "/console" else "/console/password"
        assert (answer.status_code, answer.headers["location"]) == (303, expected), path
    assert post(client, "/console/staff/reviewer/disable").headers["location"] == "/console/password"
    new = "a password of my own"
    assert post(client, "/console/password", {"old": person.password, "new": new, "again": "other"}).status_code == 422
    short = post(client, "/console/password", {"old": person.password, "new": "short", "again": "short"})
    assert "A password has 12 to 256 characters." in said(short)
    done = post(client, "/console/password", {"old": person.password, "new": new, "again": new})
    assert (done.status_code, done.headers["location"]) == (303, "/console/queue")
    assert client.get("/console/staff").status_code == 200


@pytest.mark.parametrize("path", READS)
def test_who_may_read(console: ConsoleFixture, path: str) -> None:
    where = path.replace("{name}", "reviewer").replace("{step}", "reset")
    assert console.client().get(where).status_code == 303
    for role in ROLES:
        answer = console.signed_in(role).get(where)
        if role in READS[path]:
            assert answer.status_code == (303 if path == "/console" else 200), role
        else:
            assert answer.status_code == 403, role
            assert "Your role may not do this" in said(answer)
        assert_shell(answer)


@pytest.mark.parametrize("path", WRITES)
def test_who_may_write(console: ConsoleFixture, path: str) -> None:
    clients = {role: console.signed_in(role) for role in ROLES}
    for step in STEPS if "{step}" in path else ("",):
        where = path.replace("{name}", "no-such-person").replace("{step}", step)
        assert post(console.client(), where).status_code == 401
        for role, client in clients.items():
            answer = post(client, where, {"language": "en", "role": "reviewer"})
            allowed = role in WRITES[path]
            assert (answer.status_code != 403) == allowed, (role, answer.status_code)
            assert answer.status_code < 500
            assert_shell(answer)


@pytest.mark.parametrize(
    "path", [*WRITES, "/console/login", "/console/logout", "/console/enrol", "/console/enrol/open"]
)
def test_forms_of_other_sites_are_refused(console: ConsoleFixture, path: str) -> None:
    client = console.signed_in("admin")
    before = service.list_staff(console.api.rt.engine)
    where = path.replace("{name}", "reviewer").replace("{step}", "disable")
    data = {
        "role": "admin",
        "language": "en",
        "confirm": "yes",
        "revision": "0",
        **(console.credentials("admin") if path.endswith("login") else {}),
    }
    for headers in CROSS_SITE:
        sent = {name: value.replace("OWN", console.api.url) for name, value in headers.items()}
        answer = post(client, where, data, sent)
        assert answer.status_code == 403, headers
        assert "This form did not come from here" in said(answer)
    assert service.list_staff(console.api.rt.engine) == before
    assert client.get("/console/staff").status_code == 200, "still signed in"


@pytest.mark.parametrize("headers", OWN_SITE)
def test_forms_of_our_own_pages_are_taken(console: ConsoleFixture, headers: dict[str, str]) -> None:
    sent = {name: value.replace("OWN", console.api.url) for name, value in headers.items()}
    answer = post(console.client(), "/console/login", console.credentials("reviewer"), sent)
    assert answer.status_code == 303


def test_every_post_of_the_console_asks_where_a_form_came_from(console: ConsoleFixture) -> None:
    """Whatever pages are added: none of them takes a form from elsewhere."""
    tried = 0
    for route in [route for router in routers() for route in router.routes]:
        path = getattr(route, "path", "")
        if "POST" in (getattr(route, "methods", None) or ()):
            answer = console.client().post(re.sub(r"\{[^}]*\}", "x", path), headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.status_code == 403, path
            assert "This form did not come from here" in said(answer), path
            tried += 1
    assert tried >= len(WRITES)


def test_cookies_are_for_one_path_and_out_of_reach_of_scripts(console: ConsoleFixture) -> None:
    answer = post(console.client(), "/console/login", console.credentials("reviewer"))
    parts = {part.strip().lower() for part in answer.headers.get_list("set-cookie")[0].split(";")[1:]}
    assert parts == {"httponly", "path=/console", "samesite=strict"}


@pytest.mark.parametrize(("path", "name"), [("/console", "__Secure-console"), ("/", "__Host-console")])
def test_cookie_names_behind_https(path: str, name: str) -> None:
    assert cookie_name(Settings(public_url="https://ledger.example"), COOKIE, path) == name
    assert cookie_name(Settings(public_url="http://ledger.example"), COOKIE, path) == COOKIE
    assert COOKIE_PATH == "/console"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleFixture]:
    """A server that people reach over https, through a proxy."""
    folder: Path = tmp_path_factory.mktemp("proxied")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder, public_url="https://Ledger.example:443/")
    with running(settings) as api:
        console = ConsoleFixture(api)
        yield console
        console.close_clients()


def test_behind_https_cookies_are_secure_and_the_public_address_counts(proxied: ConsoleFixture) -> None:
    good = post(proxied.client(), "/console/login", proxied.credentials("admin"), {"Origin": "https://ledger.example"})
    assert good.status_code == 303
    assert good.headers["set-cookie"].startswith("__Secure-console=")
    assert "secure" in {part.strip().lower() for part in good.headers["set-cookie"].split(";")}
    for origin in (proxied.api.url, "http://ledger.example", "https://ledger.example:8443"):
        answer = post(proxied.client(), "/console/login", proxied.credentials("admin"), {"Origin": origin})
        assert answer.status_code == 403, origin


def test_logs_hold_no_password_code_or_token(console: ConsoleFixture) -> None:
    person = console.add("quiet", "admin")
    typed = console.credentials("quiet")
    client = console.client()
    post(client, "/console/login", {**typed, "password": "a-wrong-password"})
    assert post(client, "/console/login", typed).status_code == 303
    token = client.cookies[COOKIE]
    response = post(client, "/console/staff", {"name": "quieter", "role": "admin", "language": "en"})
    shown = re.findall(r'<code class="secret">([^<]+)</code>', response.text)
    client.get("/console/audit", params={"staff": "quieter"})
    shown = [link.rpartition("#")[2] for link in shown]
    assert len(shown) == 1
    opened = post(console.client(), "/console/enrol/open", {"code": shown[0]})
    shown += re.findall(r'name="code" value="([^"]+)"', opened.text) + re.findall(r"secret=([A-Z2-7]+)", opened.text)
    assert len(shown) == 3
    logs = console.api.logs.getvalue().decode()
    for secret in ("a-wrong-password", PASSWORD, token, person.uri, *shown, "quieter"):
        assert secret not in logs
    with reading(console.api.rt.engine) as connection:
        rows = repr(list(connection.execute(text("SELECT * FROM staff_event"))))
    for secret in ("a-wrong-password", PASSWORD, token, *shown):
        assert secret not in rows
