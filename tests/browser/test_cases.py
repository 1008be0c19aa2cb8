"""Whole cases at the console in a real browser, and the supervisors' pages; both languages, desk and phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Page

from tests.api.appealed import state
from tests.api.conftest import ACME, BETA, READER, Api, running
from tests.api.pages import Visitor, contested, staff_visitor
from tests.browser.conftest import NewPage
from tests.support import ROOT, new_ledger

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
SCREENSHOTS = ROOT / "var" / "screenshots"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of this module's own; what the database is makes no difference to a browser."""
    folder = tmp_path_factory.mktemp("browser")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder, attachments_dir=folder / "attachments")
    for platform in (ACME, BETA, READER):
        platform.enrol(settings)
    with running(settings) as server:
        yield server


def opened(new_page: NewPage, visitor: Visitor | None, api: Api, size: dict[str, int] = DESK) -> Page:
    """A page in a profile of its own, with the visitor's session."""
    page = new_page(viewport=size, locale="en-GB")
    if visitor is not None:
        name, _, value = visitor.cookie.partition("=")
        path = "/console" if name == "console" else "/me"
        host = api.url.split("//")[1].split(":")[0]
        page.context.add_cookies(
            [{"name": name, "value": value, "domain": host, "path": path, "httpOnly": True, "sameSite": "Strict"}]
        )
    return page


def check(page: Page, name: str) -> None:
    """No serious or critical finding of axe-core, no sideways scrolling; a picture in var/screenshots on request."""
    if os.environ.get("SCREENSHOTS"):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    page.evaluate(AXE)  # the page's policy lets no script in by a tag
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


@pytest.mark.parametrize(("language", "size"), [("en", DESK), ("zh-CN", PHONE)], ids=["desk-en", "phone-zh"])
def test_a_whole_case(new_page: NewPage, api: Api, language: str, size: dict[str, int]) -> None:
    _, case = contested(api)
    page = opened(new_page, staff_visitor(api, "reviewer", language=language)[0], api, size)
    page.goto(f"{api.url}/console/queue")
    page.locator(f"a[href='/console/cases/{case}']").click()
    page.locator("form[action$='/take'] button").click()
    page.wait_for_selector("#decide")
    page.locator("input[name=outcome][value=victim]").check()
    page.locator("#reasons").fill("Because of what both sides sent.")
    page.locator("form.decide button").click()
    page.wait_for_selector("form.confirm")
    assert state(api, case)[0] == "under_review", "the letter comes first"
    check(page, f"decide-{language}")
    page.locator("form.confirm button[name=confirmed]").click()
    page.wait_for_selector("#decided")
    assert state(api, case) == ("decided", "victim")
    check(page, f"case-{language}")
    page.locator(f"a[href='/console/cases/{case}/letter?kind=decided']").click()
    page.locator("a[lang='zh-CN'][href*='kind=decided']").click()
    page.wait_for_selector("article.letter[lang='zh-CN']")
    check(page, f"letter-{language}")


def test_of_two_reviewers_one_is_told(new_page: NewPage, api: Api) -> None:
    _, case = contested(api)
    one, other = (opened(new_page, staff_visitor(api, "reviewer")[0], api) for _ in range(2))
    for page in (one, other):
        page.goto(f"{api.url}/console/cases/{case}")
    one.locator("form[action$='/take'] button").click()
    one.wait_for_selector("#decide")
    other.locator("form[action$='/take'] button").click()
    other.wait_for_selector("#problem")
    assert other.evaluate("document.activeElement.id") == "problem"
    assert other.locator("#decide").count() == 0


def test_the_supervisors_pages(new_page: NewPage, api: Api) -> None:
    contested(api)
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        page = opened(new_page, staff_visitor(api, "supervisor", language="zh-CN")[0], api, size)
        for path in ("queue", "dashboard", "platforms", "platforms/acme", "simulator", "audit"):
            answer = page.goto(f"{api.url}/console/{path}")
            assert answer is not None
            assert answer.status == 200, path
            check(page, f"{path.replace('/', '-')}-{name}")
