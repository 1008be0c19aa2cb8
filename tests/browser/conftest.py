"""A real browser for the pages: Chromium, driven by Playwright, against a real server; and what axe finds in a page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from tests.counts import LONG

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LOOKS = [
    ("en", "desktop"),
    ("zh-CN", "phone"),
    *([("en", "phone"), ("zh-CN", "desktop")] if os.environ.get("SCREENSHOTS") else []),
]
"""(language, width) of pages that are looked at: each language and each width once, and with `SCREENSHOTS` set, which
takes pictures, both languages at both widths."""

WCAG = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    # All that a page has right would otherwise be described too, which takes half of the time.
    "resultTypes": ["violations"],
}


def no_barriers(page: Page) -> None:
    """axe finds nothing of the rules of WCAG 2.2 A and AA."""
    result = Axe().run(page, options=WCAG)
    assert result.violations_count == 0, result.generate_report()


def fits(page: Page) -> None:
    """The page does not scroll sideways."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def is_examined(name: str, look: int) -> bool:
    """Whether axe examines the page of this name in look `look` of two: in one of them, which the name chooses, and in
    long runs in both. The rules judge structure and colours, which no language and no width changes much; that a page
    fits and is in its language is checked in both looks."""
    return LONG or crc32(name.encode()) % 2 == look % 2


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, named by `CHROMIUM` or found on the PATH: its headless shell, which has the same engine and takes 60 %
    of the processor time, or else the whole browser. Without one it skips, or fails if `REQUIRE_BROWSER` is 1.

    One for this folder and no longer: while it is open, Playwright keeps an event loop running in this thread, and
    tests of other folders start their own. Starting it costs two seconds of a processor.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None or not Path(program).exists():
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER is set, and there is no chromium on the PATH (or in CHROMIUM)")
        pytest.skip("no chromium: install it, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=program, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield opened
        finally:
            opened.close()


NewPage = Callable[..., Page]
HERE = re.compile(r"http://(127\.0\.0\.1|\w+\.localhost)[:/]")
"""This machine. Tests use `something.localhost` as another party's site."""


class Profiles:
    """Browser profiles by the options that they were made with, each with one page. Making both takes longer than
    loading a page of the ledger, so that a test gets those of an earlier test, emptied of cookies and of what the page
    stored. The page itself stays as it was left until it is led elsewhere."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: dict[str, list[Page]] = {}

    def take(self, options: dict[str, Any]) -> Page:
        """The page of an empty profile, which nothing else uses until it is given back."""
        free = self._free.setdefault(repr(sorted(options.items())), [])
        return free.pop() if free else self._browser.new_context(**options).new_page()

    def give_back(self, page: Page, options: dict[str, Any]) -> None:
        """Empty the page's profile, and close its other pages."""
        for other in page.context.pages:
            if (origin := re.match(r"https?://[^/]+", other.url)) is not None:
                session = other.context.new_cdp_session(other)
                session.send("Storage.clearDataForOrigin", {"origin": origin[0], "storageTypes": "all"})
                session.detach()
            if other is not page:
                other.close()
        # The next test may go to the same page with another fragment: under another address it is loaded anew.
        page.evaluate("sessionStorage.clear(), window.name = '', history.replaceState(null, '', '/left')")
        page.unroute_all()
        page.context.clear_cookies()
        self._free[repr(sorted(options.items()))].append(page)


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> Profiles:
    """The profiles of this folder's tests."""
    return Profiles(browser)


@pytest.fixture
def new_page(profiles: Profiles) -> Iterator[NewPage]:
    """`new_page(viewport=DESKTOP, **options)` gives a page in an empty browser profile, made with these options of
    Playwright's. A script error, anything that the content policy stops, a file that does not load and any request to
    elsewhere fails the test."""
    used: list[tuple[Page, dict[str, Any]]] = []
    complaints: list[str] = []

    def script_error(error: Error) -> None:
        complaints.append(str(error))

    def console(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not HERE.match(request.url):
            complaints.append(f"asked {request.url}")

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what the browser itself gives up when it leaves a page
            complaints.append(f"not loaded: {request.url}: {request.failure}")

    watching: dict[Any, Callable[[Any], None]] = {
        "pageerror": script_error, "console": console, "request": asked, "requestfailed": failed,
    }  # fmt: skip

    def make(viewport: Any = DESKTOP, **options: Any) -> Page:
        page = profiles.take(options)
        used.append((page, options))
        page.set_viewport_size(viewport)
        page.set_default_timeout(20_000)
        for event, handler in watching.items():
            page.on(event, handler)
        return page

    yield make
    for page, options in used:
        for event, handler in watching.items():
            page.remove_listener(event, handler)
        profiles.give_back(page, options)
    assert complaints == []


def sign_in_as(page: Page, client: httpx2.Client) -> None:
    """Give the page's browser the cookies of `client`, which has signed in to the console."""
    page.context.add_cookies(
        [
            {"name": name, "value": value, "domain": "127.0.0.1", "path": "/console"}
            for name, value in client.cookies.items()
        ]
    )
