"""Whole cases in a real browser: reviewers at the console, a person at /me; both languages, desk and phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from playwright.sync_api import Browser, Page

from ledger.core.appeals import Outcome
from tests.api.conftest import ACME, BETA, READER, Api, running
from tests.api.pages import Visitor, contested, staff_visitor
from tests.api.test_console_cases import GRAVE, state
from tests.support import new_ledger

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
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


def opened(browser: Browser, visitor: Visitor | None, api: Api, size: dict[str, int] = DESK) -> Page:
    """A page in a profile of its own, with the visitor's session."""
    context = browser.new_context(viewport=size, locale="en-GB")  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    if visitor is not None:
        name, _, value = visitor.cookie.partition("=")
        path = "/console" if name == "console" else "/me"
        host = api.url.split("//")[1].split(":")[0]
        context.add_cookies(
            [{"name": name, "value": value, "domain": host, "path": path, "httpOnly": True, "sameSite": "Strict"}]
        )
    return context.new_page()


def check(page: Page, name: str) -> None:
    """No serious or critical finding of axe-core, no sideways scrolling; a screenshot where `SCREENSHOTS` asks."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
    page.evaluate(AXE)  # the page's policy lets no script in by a tag
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


def take_and_decide(page: Page, api: Api, case: str, outcome: Outcome) -> None:
    page.goto(f"{api.url}/console/queue")
    page.locator(f"a[href='/console/cases/{case}']").click()
    page.locator("form[action$='/take'] button").click()
    page.wait_for_selector("#decide")
    page.locator(f"input[name=outcome][value={outcome.value}]").check()
    if outcome is Outcome.AMENDED:
        page.locator("#conduct").select_option("wardrobing")
    if outcome is Outcome.UNLINKED:
        page.locator("input[name=slot0]").check()
    page.locator("#reasons").fill("Because of what both sides sent.")
    page.locator("input[name=sure]").check()
    page.locator("#decide button.danger").click()
    page.wait_for_load_state()


@pytest.mark.parametrize("outcome", Outcome)
def test_a_whole_case_to_each_outcome(browser: Browser, api: Api, outcome: Outcome) -> None:
    _, case = contested(api)
    visitor, _ = staff_visitor(api, "reviewer", language="zh-CN" if outcome is Outcome.VICTIM else "en")
    page = opened(browser, visitor, api)
    take_and_decide(page, api, case, outcome)
    assert state(api, case) == ("decided", outcome.value)
    check(page, f"case-{outcome.value}")
    page.locator(f"a[href='/console/letters/{case}/decided?locale=zh-CN']").click()
    page.wait_for_selector("article.letter")
    check(page, f"letter-{outcome.value}")
    page.context.close()


def test_four_eyes_and_conflict_of_interest(browser: Browser, api: Api) -> None:
    _, case = contested(api, **GRAVE)
    first = opened(browser, staff_visitor(api, "reviewer")[0], api)
    take_and_decide(first, api, case, Outcome.UPHELD)
    assert state(api, case)[0] == "awaiting_signoff"
    assert first.locator("form[action$='/sign']").count() == 0
    bound = opened(browser, staff_visitor(api, "reviewer", control_group=ACME.control_group)[0], api)
    answer = bound.goto(f"{api.url}/console/cases/{case}")
    assert answer is not None
    assert answer.status == 403
    check(bound, "conflict")
    second = opened(browser, staff_visitor(api, "reviewer")[0], api)
    second.goto(f"{api.url}/console/queue?view=sign")
    check(second, "queue")
    second.locator(f"a[href='/console/cases/{case}']").click()
    second.locator("form[action$='/sign'] button").click()
    second.wait_for_load_state()
    assert state(api, case) == ("decided", "upheld")
    for page in (first, bound, second):
        page.context.close()


def test_two_reviewers_and_a_session_that_ends(browser: Browser, api: Api) -> None:
    _, case = contested(api)
    one, other = (opened(browser, staff_visitor(api, "reviewer")[0], api) for _ in range(2))
    for page in (one, other):
        page.goto(f"{api.url}/console/cases/{case}")
    one.locator("form[action$='/take'] button").click()
    one.wait_for_selector("#decide")
    other.locator("form[action$='/take'] button").click()
    other.wait_for_selector("#problem")
    assert other.locator("#decide").count() == 0
    one.context.clear_cookies()
    one.locator("#reasons").fill("Typed before the session ended.")
    one.locator("input[name=outcome][value=overturned]").check()
    one.locator("input[name=sure]").check()
    one.locator("#decide button.danger").click()
    one.wait_for_load_state()
    assert "Your session has ended" in one.inner_text("main")
    assert state(api, case)[0] == "under_review"
    for page in (one, other):
        page.context.close()


def test_keys_of_the_queue(browser: Browser, api: Api) -> None:
    contested(api)
    page = opened(browser, staff_visitor(api, "reviewer")[0], api)
    page.goto(f"{api.url}/console/queue")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    page.keyboard.press("/")
    page.keyboard.type("jjo")
    assert page.locator("#case").input_value() == "jjo", "no key fires while somebody types"
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url("**/console/cases/ap_*")
    page.context.close()


def test_the_supervisors_pages(browser: Browser, api: Api) -> None:
    contested(api)
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        page = opened(browser, staff_visitor(api, "supervisor", language="zh-CN")[0], api, size)
        for path in ("queue", "dashboard", "platforms", "platforms/acme", "simulator", "audit"):
            answer = page.goto(f"{api.url}/console/{path}")
            assert answer is not None
            assert answer.status == 200, path
            check(page, f"{path.replace('/', '-')}-{name}")
        page.context.close()
