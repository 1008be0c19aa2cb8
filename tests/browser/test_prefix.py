"""A person's link in a real browser, behind a proxy that serves the ledger below a path prefix."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.api.conftest import ACME, BETA, running
from tests.browser.conftest import NewPage
from tests.personas import Persona
from tests.prefixed import PREFIX, prefix_proxy
from tests.support import new_ledger


def test_links_open_records_below_the_prefix(new_page: NewPage, tmp_path: Path) -> None:
    with prefix_proxy() as proxy:
        settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, public_url=proxy.url)
        for platform in (ACME, BETA):
            platform.enrol(settings)
        with running(settings) as api:
            proxy.target = api.url
            first, second = Persona(api), Persona(api)
            report = second.reported()
            page = new_page(locale="en-GB")
            page.goto(f"{proxy.url}/me#{first.code()}")
            page.get_by_role("button", name="Open my record").click()
            expect(page).to_have_url(f"{proxy.url}/me")
            page.goto(f"{proxy.url}/me#{second.code(locale='zh-CN')}")  # a link that arrives while a record is open
            page.reload()
            page.get_by_role("button", name="Open my record").click()
            expect(page.locator(f"#{report}")).to_be_visible()
            expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
            page.get_by_role("link", name="English").click()
            expect(page.locator("html")).to_have_attribute("lang", "en")
            page.get_by_role("link", name="This is not me").click()
            expect(page).to_have_url(f"{proxy.url}/me/appeal?report={report}&grounds=not_me")
            assert {cookie.get("path") for cookie in page.context.cookies()} == {f"{PREFIX}/me"}
            page.get_by_role("button", name="End the session").first.click()
            expect(page).to_have_url(f"{proxy.url}/me/ended")
            assert proxy.strays == []
