"""A real browser for the pages: Chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, sync_playwright


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


def failed(request: Request) -> list[str]:
    """The complaint about a request that failed. What the browser itself gives up when it leaves a page did not."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"not loaded: {request.url}: {request.failure}"]
