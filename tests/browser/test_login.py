"""Signing in with password and one-time code in a real browser, and the frame's pages as people see them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import update

from ledger.server.db.engine import writing
from ledger.server.db.tables.staff import StaffAccount
from ledger.server.platforms import queries as members
from ledger.server.staff import audit, passwords
from tests.api.conftest import running
from tests.api.console_fixture import ConsoleFixture
from tests.browser.conftest import DESKTOP, LOOKS, PHONE, NewPage, fits, is_examined, no_barriers
from tests.counts import trials
from tests.staffing import cheap
from tests.support import ROOT, new_ledger

SCREENSHOTS = ROOT / "var" / "screenshots"

SignIn = Callable[[Page, str], None]
Shoot = Callable[[Page, str], None]


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(new_page: NewPage) -> OpenPage:
    """`open_page(locale="en", viewport=DESKTOP)` gives a page of a browser in this language."""

    def make(locale: str = "en", viewport: dict[str, int] | None = None) -> Page:
        return new_page(locale=locale, viewport=viewport or DESKTOP)

    return make


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleFixture]:
    """A running server with one member of staff of each role, named after it."""
    folder = tmp_path_factory.mktemp("frame")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    with running(settings) as api:
        console_fixture = ConsoleFixture(api)
        yield console_fixture
        console_fixture.close_clients()


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)


@pytest.fixture
def sign_in(frame: ConsoleFixture) -> Callable[[Page, str], None]:
    """`sign_in(page, name)` fills in the form as that person does."""

    def fill(page: Page, name: str) -> None:
        typed = frame.credentials(name)
        page.goto(f"{frame.api.url}/console/login")
        for field, value in typed.items():
            page.locator(f"#{field}").fill(value)
        page.locator("main form button").click()
        page.wait_for_url(lambda url: not url.endswith("/console/login"))

    return fill


@pytest.fixture
def shoot() -> Callable[[Page, str], None]:
    """`shoot(page, name)` writes a picture of the whole page to var/screenshots, if `SCREENSHOTS` is set."""

    def write(page: Page, name: str) -> None:
        if os.environ.get("SCREENSHOTS"):
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return write


def test_signing_in_and_out(frame: ConsoleFixture, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(f"{frame.api.url}/console/audit")
    assert page.url.endswith("/console/login?next=/console/audit")
    typed = frame.credentials("auditor")
    page.get_by_label("Name").fill(typed["name"])
    page.get_by_label("Password").fill("wrong")
    page.get_by_label("One-time code").fill(typed["code"])
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert page.get_by_label("Name").input_value() == "auditor"
    assert page.get_by_label("Password").input_value() == ""
    page.get_by_label("Password").fill(typed["password"])
    page.get_by_label("One-time code").fill(typed["code"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Audit log").wait_for()
    assert page.url == f"{frame.api.url}/console/audit"
    assert page.evaluate("document.cookie") == "", "no script sees the session"
    page.get_by_role("button", name="中文").click()
    page.get_by_role("heading", name="审计日志").wait_for()
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(f"{frame.api.url}/console/audit")
    assert "/console/login" in page.url


def test_a_new_colleague_from_the_account_to_their_own_password(
    frame: ConsoleFixture, open_page: OpenPage, sign_in: SignIn
) -> None:
    admin = open_page()
    sign_in(admin, "admin")
    admin.goto(f"{frame.api.url}/console/staff")
    admin.get_by_label("Name", exact=True).fill("newcomer")
    admin.locator("#role").select_option("supervisor")
    admin.get_by_role("button", name="Make the account").click()
    admin.get_by_role("heading", name="Link for newcomer").wait_for()
    link = admin.locator("code.secret").inner_text()

    theirs = open_page()
    theirs.goto(link)
    theirs.get_by_text("Your link is ready").wait_for()
    assert "#" not in theirs.url
    theirs.get_by_role("button", name="Go on").click()
    theirs.get_by_role("heading", name="Authenticator app").wait_for()
    assert theirs.locator(".qr").bounding_box()["width"] > 150  # type: ignore[index]
    theirs.get_by_text("Address for apps without a camera").click()
    totp = pyotp.parse_uri(theirs.locator("code.secret").inner_text())
    assert isinstance(totp, pyotp.TOTP)
    theirs.get_by_label("Code that the app shows now").fill(totp.now())
    for label in ("New password", "New password again"):
        theirs.get_by_label(label, exact=True).fill("a password of my own")
    theirs.get_by_role("button", name="Set up the account").click()
    theirs.get_by_role("heading", name="Your account is set up").wait_for()
    theirs.get_by_role("link", name="Sign in").click()
    theirs.get_by_label("Name").fill("newcomer")
    theirs.get_by_label("Password").fill("a password of my own")
    with writing(frame.api.rt.engine) as connection:  # the code of this half minute was used for enrolling
        connection.execute(update(StaffAccount).where(StaffAccount.name == "newcomer").values(totp_last_step=None))
    theirs.get_by_label("One-time code").fill(totp.now())
    theirs.get_by_role("button", name="Sign in").click()
    theirs.goto(f"{frame.api.url}/console/audit")
    theirs.get_by_role("heading", name="Audit log").wait_for()


def test_a_form_on_another_site_cannot_sign_anybody_out(
    frame: ConsoleFixture, open_page: OpenPage, sign_in: SignIn
) -> None:
    page = open_page()
    sign_in(page, "admin")
    for number, path in enumerate(("/console/logout", "/console/staff/reviewer/disable")):
        attack = f'<form method="post" action="{frame.api.url}{path}"><button>x</button></form>'
        lure = f"http://evil{number}.localhost/"
        page.route(lure, lambda route, _, body=attack: route.fulfill(body=body, content_type="text/html"))
        page.goto(lure)
        page.get_by_role("button").click()
        page.get_by_role("heading", name="This form did not come from here").wait_for()
    page.goto(f"{frame.api.url}/console/staff")
    page.get_by_role("heading", name="Staff").wait_for()
    assert page.locator("tr", has_text="reviewer").locator(".badge").first.inner_text() == "active"


def test_no_other_page_may_frame_the_console(frame: ConsoleFixture, browser: Browser) -> None:
    body = f'<iframe src="{frame.api.url}/console/login"></iframe>'
    context = browser.new_context()
    try:
        page = context.new_page()
        page.route("http://evil.localhost/", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto("http://evil.localhost/")
        page.wait_for_load_state()
        assert len(page.frames) == 2
        assert page.frame_locator("iframe").get_by_label("Name").count() == 0
    finally:
        context.close()


@pytest.mark.parametrize(("locale", "size"), trials(LOOKS[1:], LOOKS))
def test_every_page_of_the_frame_is_readable(
    frame: ConsoleFixture, open_page: OpenPage, sign_in: SignIn, shoot: Shoot, locale: str, size: str
) -> None:
    engine = frame.api.rt.engine
    with writing(engine) as connection:
        members.ensure_control_group(connection, "east")
        for number in range(3):
            audit.record(
                connection,
                frame.api.rt.now(),
                None,
                "case_read",
                "appeal",
                f"ap_Xk3mPq9{number}",
                "case file",
                about_group="east",
            )
    page = open_page(locale, DESKTOP if size == "desktop" else PHONE)

    def look(name: str) -> None:
        assert page.locator("html").get_attribute("lang") == locale
        fits(page)
        if is_examined(name, LOOKS.index((locale, size))):
            no_barriers(page)
        shoot(page, f"{name}-{locale}-{size}")

    page.goto(f"{frame.api.url}/console/login")
    look("login")
    for field in ("name", "password", "code"):
        page.locator(f"#{field}").fill("123456")
    page.locator("main form button").click()
    page.get_by_role("alert").wait_for()
    look("login-refused")
    sign_in(page, "admin")
    page.goto(f"{frame.api.url}/console/audit")
    if locale == "zh-CN":
        page.get_by_role("button", name="中文").click()
        page.get_by_role("heading", name="审计日志").wait_for()
    try:
        look("audit")
        page.goto(f"{frame.api.url}/console/staff")
        look("staff")
        page.goto(f"{frame.api.url}/console/password")
        look("password")
        page.goto(f"{frame.api.url}/console/nothing")
        look("error")
        page.goto(f"{frame.api.url}/console/staff")
        page.locator("#name").fill(f"shown-{locale}-{size}".lower())
        page.locator("section.card form button").click()
        link = page.locator("code.secret").inner_text()
        look("link")
        page.goto(f"{frame.api.url}/console/staff/reviewer/reset")
        look("reset")
        page.goto(link)
        page.locator("form[data-open] button").click()
        page.locator(".qr").wait_for()
        look("enrolment")
    finally:
        if locale == "zh-CN":
            page.goto(f"{frame.api.url}/console/audit")
            page.get_by_role("button", name="English").click()
            page.get_by_role("heading", name="Audit log").wait_for()
