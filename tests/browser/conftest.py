"""A real browser for the pages: Chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LOOKS = [
    ("en", "desktop"),
    ("zh-CN", "phone"),
    *([("en", "phone"), ("zh-CN", "desktop")] if os.environ.get("SCREENSHOTS") else []),
]
"""(language, width) of pages that are looked at: each language and each width once, and with `SCREENSHOTS` set, which
takes pictures, both languages at both widths."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, named by `CHROMIUM` or found on the PATH. Without one it skips, or fails if `REQUIRE_BROWSER` is 1.

    One for each module and no longer: while it is open, Playwright keeps an event loop running in this thread, and
    tests of other modules start their own.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
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
"""This machine; tests call a site of somebody else's `something.localhost`."""


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """`new_page(**options)` gives a page in a browser profile of its own, made with these options of Playwright's. A
    script error, anything that the content policy stops, a file that does not load and any request to elsewhere fails
    the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what the browser itself gives up when it leaves a page
            complaints.append(f"not loaded: {request.url}: {request.failure}")

    def make(**options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None,
        )
        page.on(
            "request",
            lambda request: None if HERE.match(request.url) else complaints.append(f"asked {request.url}"),
        )
        page.on("requestfailed", failed)
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []
