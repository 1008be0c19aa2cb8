"""Platforms, dashboard and simulator in a real browser: plots that are drawn, tables that open, forms that work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from ledger.protocol.encoding import day_floor
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import writing
from ledger.server.staff import passwords
from ledger.server.stats import queries as store
from tests.api.conftest import ACME, BETA, person, running
from tests.api.console_fixture import ConsoleFixture
from tests.browser.conftest import LOOKS, NewPage, fits, is_examined, no_barriers, sign_in_as
from tests.counts import trials
from tests.staffing import cheap
from tests.support import new_ledger

Visit = Callable[..., Page]

WIDTHS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleFixture]:
    """A server with a few reports, ten counted days, and an admin for each language."""
    folder = tmp_path_factory.mktemp("stats")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    for platform in (ACME, BETA):
        platform.enrol(settings)
    with running(settings) as api:
        console_fixture = ConsoleFixture(api)
        console_fixture.add("boss-en", "admin")
        console_fixture.add("boss-zh", "admin", language="zh-CN")
        for _ in range(5):
            assert api.report(ACME, [(Kind.PAYMENT, person())]).status_code == 201
        day = day_floor(api.rt.now())
        with writing(api.rt.engine) as connection:
            for before in range(1, 11):
                counts = {"clear": 4, "watch": 30 - before, "review": 4, "high": 1}
                store.insert_daily_tiers(connection, day - before, counts)
        yield console_fixture
        console_fixture.close_clients()


@pytest.fixture
def visit(new_page: NewPage, console: ConsoleFixture) -> Visit:
    """`visit(name, width)` gives a page in which `name` is signed in."""

    def go(name: str, width: str = "desktop") -> Page:
        page = new_page(viewport=WIDTHS[width])
        sign_in_as(page, console.signed_in(name))
        return page

    return go


@pytest.mark.parametrize(("locale", "width"), trials(LOOKS[:1], LOOKS))
def test_every_page_is_readable(console: ConsoleFixture, visit: Visit, locale: str, width: str) -> None:
    page = visit(f"boss-{locale[:2]}", width)
    paths = ("dashboard?days=30", "platforms", "platforms/acme", "platforms/acme/suspend", "platforms/acme/quota")
    for path in (*paths, "simulator"):
        page.goto(f"{console.api.url}/console/{path}")
        for details in page.locator("details").all():
            details.locator("summary").click()
        fits(page)
        if is_examined(path, LOOKS.index((locale, width))):
            no_barriers(page)


@pytest.mark.parametrize(("width", "size"), [("desktop", 900), ("phone", 400)])
def test_a_plot_is_drawn_and_fits_the_screen(console: ConsoleFixture, visit: Visit, width: str, size: int) -> None:
    page = visit("boss-en", width)
    page.goto(f"{console.api.url}/console/dashboard?days=30")
    plot = page.get_by_alt_text("Plot: Listed identifiers by tier")
    plot.scroll_into_view_if_needed()
    expect(plot).not_to_have_js_property("naturalWidth", 0)  # loaded; a page's own policy forbids functions to wait for
    assert plot.evaluate("img => img.currentSrc").endswith("size=wide" if width == "desktop" else "size=narrow")
    box = plot.bounding_box()
    assert box is not None
    assert box["width"] > 0.7 * min(size, WIDTHS[width]["width"])
    # By itself too, under the pages' policy: shapes keep their colours without any style sheet.
    page.goto(f"{console.api.url}/console/dashboard/tiers.svg?days=30")
    colours = page.evaluate("[...document.querySelectorAll('rect')].map(rect => getComputedStyle(rect).fill)")
    assert "rgb(240, 199, 94)" in colours
    assert page.evaluate("getComputedStyle(document.querySelector('text')).fontFamily").startswith("-apple-system")


def test_suspending_a_platform_takes_a_reason_and_a_tick(console: ConsoleFixture, visit: Visit) -> None:
    page = visit("boss-en")
    page.goto(f"{console.api.url}/console/platforms/beta")
    page.get_by_role("link", name="Suspend…").click()
    page.get_by_label("Reason").fill("Keys were stolen.")
    page.get_by_role("button", name="Suspend beta").click()
    assert page.url.endswith("/suspend"), "the browser itself asks for the tick"
    page.get_by_label("I have read what this does.").check()
    page.get_by_role("button", name="Suspend beta").click()
    page.locator("h1 .badge", has_text="suspended").wait_for()
    page.get_by_role("link", name="Resume…").click()
    page.get_by_label("Reason").fill("They have new keys.")
    page.get_by_label("I have read what this does.").check()
    page.get_by_role("button", name="Resume beta").click()
    page.locator("h1 .badge", has_text="active").wait_for()


def test_simulating_a_policy(console: ConsoleFixture, visit: Visit) -> None:
    page = visit("boss-en")
    page.goto(f"{console.api.url}/console/simulator")
    page.get_by_label("Watch from a total of").fill("2600")
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("alert").filter(has_text="must rise").wait_for()
    fits(page)
    no_barriers(page)
    page.get_by_label("Watch from a total of").fill("900")
    page.get_by_role("button", name="Simulate").click()
    page.get_by_role("heading", name="What would change").wait_for()
    assert page.get_by_text("500 → 900").is_visible()
    fits(page)
    no_barriers(page)
