"""The demo's second part: a buyer contests a report, a reviewer decides in the console, the standing is corrected.

All requests go over HTTP as in production: the platform requests a link, the buyer's browser opens it and sends forms,
the reviewer signs in with a password and a one-time code and sends forms.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pyotp

from ledger.client import Buyer, RefundLedger
from ledger.errors import UnexpectedAnswer
from ledger.server.demo.local_ledger import local_settings

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class DemoDecision:
    """The decision: the case's id, the outcome, and the heading of the letter to the buyer."""

    case: str
    outcome: str
    letter: str


def contest(platform: RefundLedger, buyer: Buyer, report: str, statement: str, locale: str) -> str:
    """Open the buyer's record through `platform`, contest `report` there, and return the case's id.

    Raises UnexpectedAnswer if a page refuses a form, and the errors of `RefundLedger.open_record`.
    """
    link = platform.appeals.open_record(buyer, locale)
    page, _, code = link.url.partition("#")
    with _browser(page.removesuffix("/me")) as browser:
        _sent(browser, "/me/open", {"code": code})
        form = {"report": report, "grounds": "wrong_facts", "text": statement}
        filed = _sent(browser, "/me/appeal", form).headers["location"]
        return filed.removeprefix("/me/cases/").partition("/")[0]


def decide(folder: Path, service: str, url: str, case: str, reasons: str, locale: str) -> DemoDecision:
    """Overturn the report in `case` as a reviewer whose account is created for this run.

    Raises UnexpectedAnswer if a page of the console is not as expected.
    """
    name, password, code = _reviewer(folder, service, locale)
    with _browser(url) as browser:
        _sent(browser, "/console/login", {"name": name, "password": password, "code": code})
        fresh = secrets.token_urlsafe(16)
        _sent(browser, "/console/password", {"old": password, "new": fresh, "again": fresh})
        for action, form in (
            ("take", {}),
            ("decide", {"outcome": "overturned", "reasons": reasons, "confirmed": "yes"}),
        ):
            page = browser.get(f"/console/cases/{case}").text
            seen = re.search(r'name="seen" value="(\d+)"', page)
            if seen is None:
                raise UnexpectedAnswer("The demo's own console did not show the case.")
            _sent(browser, f"/console/cases/{case}/{action}", {"seen": seen[1], **form})
        letter = browser.get(f"/console/cases/{case}/letter?kind=decided&locale={locale}").text
    heading = re.search(r"<article.*?<h2>(.*?)</h2>", letter, re.S)
    if heading is None:
        raise UnexpectedAnswer("The demo's own console did not show the letter.")
    return DemoDecision(case, "overturned", heading[1])


def _reviewer(folder: Path, service: str, locale: str) -> tuple[str, str, str]:
    """Create an account like `refund-ledger staff add`; return its name, first password and one-time code."""
    from ledger.server.db.engine import reading
    from ledger.server.db.opening import open_database
    from ledger.server.log.logged_keys import load_server_keys
    from ledger.server.staff.accounts import add_staff

    settings = local_settings(folder, service)
    engine = open_database(settings, pool_size=1)
    try:
        with reading(engine) as connection:
            keys = load_server_keys(settings, connection)
        enrolment = add_staff(
            engine,
            keys.sealing_key,
            name=f"demo-{secrets.token_hex(4)}",
            role="reviewer",
            language=locale,
            service=service,
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes,
        )
    finally:
        engine.dispose()
    seed = pyotp.parse_uri(enrolment.totp_uri)
    assert isinstance(seed, pyotp.TOTP)
    return enrolment.staff.name, enrolment.password, seed.now()


def _browser(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=SECONDS, headers={"Origin": url}, follow_redirects=False)


def _sent(browser: httpx2.Client, path: str, form: Mapping[str, str]) -> httpx2.Response:
    """Send a form and return the redirect. Raises UnexpectedAnswer for any other answer."""
    answer = browser.post(path, data=dict(form))
    if answer.status_code != 303:
        raise UnexpectedAnswer("The demo's own server did not accept a form.", status=answer.status_code)
    return answer
