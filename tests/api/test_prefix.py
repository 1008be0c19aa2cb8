"""The pages behind a proxy that serves the ledger below a path prefix and takes the prefix off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx2
import pytest

from api.app import create_app
from ledger.errors import ConfigurationError
from ledger.protocol.urls import path_prefix
from tests.api.browser_client import NewBrowser, browser_clients
from tests.api.conftest import ACME, BETA, READER, Api, running
from tests.api.console_fixture import ConsoleFixture, post
from tests.personas import PNG, Persona
from tests.prefixed import PREFIX, PrefixProxy, prefix_proxy
from tests.support import ROOT, new_ledger

LINKS = re.compile(r'\s(?:href|src|srcset)="([^"]*)"')
TARGETS = re.compile(r'\s(?:action|formaction|data-open-page)="([^"]*)"')
LANGUAGES = ("en", "zh-CN")


@pytest.fixture(scope="module")
def proxy() -> Iterator[PrefixProxy]:
    """See `prefix_proxy`."""
    with prefix_proxy() as created:
        yield created


@pytest.fixture(scope="module")
def api(proxy: PrefixProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server whose public address is below the proxy's prefix; `url` is that address."""
    folder: Path = tmp_path_factory.mktemp("prefix")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder, public_url=f"{proxy.url}/")
    for platform in (ACME, BETA, READER):
        platform.enrol(settings)
    with running(settings) as server:
        proxy.target = server.url
        yield replace(server, url=proxy.url)


@pytest.fixture(scope="module")
def staff(api: Api) -> Iterator[ConsoleFixture]:
    """One member of staff of each role."""
    console_fixture = ConsoleFixture(api)
    yield console_fixture
    console_fixture.close_clients()


@pytest.fixture
def new_browser(api: Api) -> Iterator[NewBrowser]:
    """See `browser_clients`."""
    with browser_clients(api) as make:
        yield make


def links(answer: httpx2.Response) -> list[str]:
    """Every address that the page loads or links to, each once; those within the page are left out. All of them, and
    where its forms go, lie below the prefix."""
    for target in TARGETS.findall(answer.text):
        assert target.startswith(f"{PREFIX}/"), (answer.url, target)
    result = dict.fromkeys(unescape(each) for each in LINKS.findall(answer.text))
    return [item for item in result if not item.startswith(("#", "otpauth:", "data:"))]


def walk(client: httpx2.Client, start: str, proxy: PrefixProxy, limit: int = 30) -> set[str]:
    """Open `start` and all that its pages link to. Every address lies below the prefix; none is missing."""
    waiting, seen = [start], set[str]()
    while waiting and len(seen) < limit:
        address = waiting.pop(0)
        if address.partition("#")[0] in seen:
            continue
        seen.add(address.partition("#")[0])
        answer = client.get(f"{proxy.origin}{address}")
        assert answer.status_code in (200, 303, 403), (address, answer.status_code)  # 403: not for this role
        if answer.status_code == 303:
            waiting.append(answer.headers["location"])
        if answer.status_code == 200 and answer.headers["content-type"].startswith("text/html"):
            waiting += links(answer)
        assert all(item.startswith(f"{PREFIX}/") for item in waiting), (address, waiting)
    assert proxy.strays == []
    return seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_whole_way_of_a_person_lies_below_the_prefix(
    api: Api, proxy: PrefixProxy, new_browser: NewBrowser, language: str
) -> None:
    person = Persona(api)
    report = person.reported()
    browser = new_browser(language)
    assert f"{PREFIX}/static/me.js?v=" in browser.get("/me").text
    answer = browser.post("/me/open", code=f"{api.url}/me#{person.code(locale=language)}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PREFIX}/me"), answer.text
    assert f"Path={PREFIX}/me;" in answer.headers["set-cookie"]
    answer = browser.post("/me/appeal", report=report, grounds="wrong_facts", text="It came back. 已退回。")
    assert answer.headers["location"].startswith(f"{PREFIX}/me/cases/")
    case = answer.headers["location"].split("/")[5]
    assert browser.upload(case, PNG, "a.png").headers["location"] == f"{PREFIX}/me/cases/{case}#files"
    assert browser.client.get(f"{proxy.origin}{answer.headers['location']}").status_code == 200
    person.asked(case)
    seen = walk(browser.client, f"{PREFIX}/me", proxy)
    assert {f"{PREFIX}/me/cases/{case}", f"{PREFIX}/me/download", f"{PREFIX}/me/statement?report={report}"} <= seen
    assert any("lang=" in item for item in seen)
    log = browser.get("/me/download").json()["verify"]
    assert log["checkpoint"] == f"{PREFIX}/log/checkpoint"
    ended = browser.post("/me/end")
    assert ended.headers["location"] == f"{PREFIX}/me/ended"
    assert f"Path={PREFIX}/me;" in ended.headers["set-cookie"]
    assert f'href="{PREFIX}/me"' in browser.get("/me/cases/ap_abcdefgh").text


@pytest.mark.parametrize(("role", "language", "start"), [("reviewer", "en", "queue"), ("admin", "zh-CN", "staff")])
def test_the_console_lies_below_the_prefix(
    api: Api, proxy: PrefixProxy, staff: ConsoleFixture, role: str, language: str, start: str
) -> None:
    client = staff.client()
    sent_to = client.get(f"/console/{start}").headers["location"]
    assert sent_to == f"{PREFIX}/console/login?next=/console/{start}"
    answer = post(client, "/console/login", {**staff.credentials(role), "next": f"/console/{start}"})
    assert answer.headers["location"] == f"{PREFIX}/console/{start}"
    assert f"Path={PREFIX}/console;" in answer.headers["set-cookie"]
    chosen = post(client, "/console/language", {"language": language, "back": f"/console/{start}"})
    assert chosen.headers["location"] == f"{PREFIX}/console/{start}"
    elsewhere = post(client, "/console/language", {"language": language, "back": f"//evil.example{PREFIX}"})
    assert elsewhere.headers["location"] == f"{PREFIX}/console/queue"
    if role == "reviewer":
        person = Persona(api)
        case = person.open().contest(person.reported())
        event = re.search(r'name="seen" value="(\d+)"', client.get(f"/console/cases/{case}").text)
        assert event is not None
        taken = post(client, f"/console/cases/{case}/take", {"seen": event[1]})
        assert taken.headers["location"] == f"{PREFIX}/console/cases/{case}?done=take"
        start = f"cases/{case}"
    assert len(walk(client, f"{PREFIX}/console/{start}", proxy, limit=12)) == 12
    out = post(client, "/console/logout")
    assert out.headers["location"] == f"{PREFIX}/console/login"


def test_links_that_are_handed_out_carry_the_prefix(proxy: PrefixProxy, staff: ConsoleFixture) -> None:
    client = staff.client()
    post(client, "/console/login", staff.credentials("admin"))
    response = post(
        client, "/console/staff", {"name": "cleo", "role": "auditor", "control_group": "", "language": "en"}
    )
    assert f"{proxy.url}/console/enrol#" in response.text


@pytest.mark.usefixtures("api")
def test_headers_of_a_request_do_not_move_the_pages(proxy: PrefixProxy) -> None:
    forged = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"}
    page = httpx2.get(f"{proxy.url}/me", headers=forged, trust_env=False)
    assert page.status_code == 200
    assert "evil" not in page.text
    assert "gopher" not in page.text


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://ledger.example", ""),
        ("https://ledger.example/", ""),
        ("https://ledger.example:8443/risk/ledger/", "/risk/ledger"),
        ("https://ledger.example/a-b/c.d_e~1", "/a-b/c.d_e~1"),
    ],
)
def test_the_prefix_is_the_path_of_the_public_address(url: str, prefix: str) -> None:
    assert path_prefix(url) == prefix


@pytest.mark.parametrize(
    "path",
    [
        "/a//b",
        "//",
        "/a/../b",
        "/./a",
        "/a b",
        "/a;Path=/",
        '/"onload',
        "/a?b",
        "/a#b",
        "/中",
        "/a%2Fb",
        "/" + "a" * 201,
    ],
)
def test_a_path_that_would_need_escaping_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="REFUND_LEDGER_PUBLIC_URL"):
        path_prefix(f"https://ledger.example{path}")


@pytest.mark.parametrize("path", ["/a b", "/a//b", "/../me"])
def test_an_application_with_such_an_address_does_not_start(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_LEDGER_PUBLIC_URL", f"https://ledger.example{path}")
    with pytest.raises(ConfigurationError, match="REFUND_LEDGER_PUBLIC_URL"):
        create_app()


def test_no_template_names_a_path_without_the_prefix() -> None:
    bare = re.compile(r'(?:href|src|action|formaction|srcset)="/|\{% set \w+ = "/')
    templates = sorted((ROOT / "api").glob("*/templates/*.html"))
    assert len(templates) > 30
    for template in templates:
        assert not bare.search(template.read_text(encoding="utf-8")), template.name
    for script in (ROOT / "api" / "web" / "static").glob("*.js"):
        assert not re.search(r"[\"'`]/(?:me|console|static|v1)\b", script.read_text(encoding="utf-8")), script.name
