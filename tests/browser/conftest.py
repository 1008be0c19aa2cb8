"""Pages in a real browser: Debian's Chromium, driven by Playwright, against a server in this process."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import axe_playwright_python  # type: ignore[import-untyped]
import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from ledger.core.conduct import Conduct
from ledger.core.identifiers import Kind
from ledger.core.ids import encode_id
from ledger.core.tags import tag
from ledger.service import staff as staff_service
from ledger.service import staff_sessions
from ledger.service.appeals import subject
from ledger.service.reports import submit_report
from ledger.store.subject_sessions import SessionRow
from tests.api.conftest import ACME, BETA, Api, person, running
from tests.support import Platform, evidence, new_ledger, report_payload

PASSWORD = "correct horse battery"
ROLES = {"rita": "reviewer", "ravi": "reviewer", "sven": "supervisor", "anna": "auditor", "adam": "admin"}
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
OPENER = Platform("shop", "shop-group", "shop-1", scopes=("lookup", "report", "appeal"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; skips where there is none, unless `REQUIRE_BROWSER` is set: then it fails."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("REQUIRE_BROWSER is set, and there is no chromium on the PATH (or in CHROMIUM)")
        pytest.skip("no chromium: install Debian's package chromium, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page in it."""
    return context.new_page()


@dataclass
class Desk:
    """A running server with staff of every role, and people with contested reports."""

    api: Api
    seeds: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.api.url

    def enrol_staff(self, name: str, role: str, language: str = "en", control_group: str | None = None) -> None:
        """An account whose password was changed already."""
        rt = self.api.rt
        made = staff_service.add_staff(
            rt.engine,
            rt.keys.sealing_key,
            name=name,
            role=role,
            control_group=control_group,
            language=language,
            service=rt.settings.service,
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes,
        )
        staff_sessions.change_password(
            rt.engine, staff_id=made.staff.id, token="", old=made.password, new=PASSWORD, now=datetime.now(UTC)
        )
        self.seeds[name] = made.totp_uri

    def code(self, name: str) -> str:
        """The code that the account's app shows now."""
        code = pyotp.parse_uri(self.seeds[name])
        assert isinstance(code, pyotp.TOTP)
        return code.now()

    def sign_in(self, page: Page, name: str) -> None:
        """By the form, as a person does. Each account signs in once a test run step: a code is good once."""
        page.goto(f"{self.url}/console/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.locator("input[name=code]").fill(self.code(name))
        page.locator("main form button").click()
        page.wait_for_url("**/console/queue*")

    def report(self, platform: Platform = ACME, **changes: Any) -> tuple[list[tuple[Kind, bytes]], str]:
        """Somebody with a report; (their elements, its public id)."""
        somebody = [(Kind.PHONE, person()), (Kind.PAYMENT, person())]
        payload = report_payload(self.api.rt, platform, somebody, **changes)
        stored = submit_report(self.api.rt, platform.member(), payload, payload["signature"]).result(10)
        return somebody, str(json.loads(stored.body)["id"])

    def session(self, somebody: list[tuple[Kind, bytes]], opener: Platform = OPENER, locale: str = "en") -> SessionRow:
        """A session of theirs, without the browser."""
        subjects = tuple((kind.value, tag(kind, element)) for kind, element in somebody)
        epoch, now = self.api.rt.keys.epoch, datetime.now(UTC)
        return SessionRow(1, opener.name, opener.control_group, "CN", locale, epoch, subjects, None, now)

    def case(self, statement: str = "The parcel came broken.", **changes: Any) -> str:
        """A fresh case; its public id."""
        somebody, report = self.report(**changes)
        context = self.api.rt.context
        (row,) = subject.appeal(context, self.session(somebody), [report], "wrong_facts", statement, "en")
        return encode_id("ap", row.id, self.api.settings.service)

    def grave_case(self) -> str:
        """A case that is upheld by two people only."""
        return self.case(conduct=Conduct.SWITCHED_RETURN.value, evidence=evidence("serial_mismatch", "intake_photo"))


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One server for all browser tests of a process; each makes cases and people of its own."""
    folder = tmp_path_factory.mktemp("desk")
    settings = new_ledger(
        f"sqlite:///{folder / 'ledger.db'}",
        folder,
        attachments_dir=folder / "attachments",
        maintenance_interval_seconds=3600,
    )
    for platform in (ACME, BETA, OPENER):
        platform.enrol(settings)
    with running(settings) as api:
        made = Desk(api)
        for name, role in ROLES.items():
            made.enrol_staff(name, role)
        made.enrol_staff("gina", "reviewer", control_group=ACME.control_group)
        made.enrol_staff("mei", "reviewer", language="zh-CN")
        yield made


def violations(page: Page) -> list[str]:
    """Serious and critical findings of axe-core on the page. (Its policy lets no script in by a tag.)"""
    page.evaluate(AXE)
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{one['id']}: {one['help']} {[node['target'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def shot(page: Page, name: str) -> None:
    """A screenshot to look at, where `SCREENSHOTS` names a folder."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
