"""The demo's second act: a buyer contests a report, a reviewer decides in the console, the standing is healed.

Everything goes over HTTP as it would in life: the platform asks for a link, the buyer's browser opens it and sends
forms, the reviewer signs in with password and one-time code and sends forms too.
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
class Decided:
    """What came of it: the case's number and the letter to the buyer."""

    case: str
    outcome: str
    letter: str


def contest(platform: RefundLedger, buyer: Buyer, report: str, statement: str, locale: str) -> str:
    """The buyer opens their record through `platform` and contests `report`; the case's number."""
    link = platform.open_record(buyer, locale)
    page, _, code = link.url.partition("#")
    with _browser(page.removesuffix("/me")) as browser:
        _sent(browser, "/me/open", {"code": code})
        form = {"report": report, "grounds": "wrong_facts", "text": statement}
        filed = _sent(browser, "/me/appeal", form).headers["location"]
        return filed.removeprefix("/me/cases/").partition("/")[0]


def decide(folder: Path, service: str, url: str, case: str, reasons: str, locale: str) -> Decided:
    """A reviewer, made for this run, takes the case and overturns the report."""
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
    return Decided(case, "overturned", heading[1])


def _reviewer(folder: Path, service: str, locale: str) -> tuple[str, str, str]:
    """(name, first password, code) of a new account, as `refund-ledger staff add` makes it."""
    from ledger.server.db.engine import reading
    from ledger.server.db.opening import open_database
    from ledger.server.log.logged_keys import load_server_keys
    from ledger.server.staff.accounts import add_staff

    settings = local_settings(folder, service)
    engine = open_database(settings, pool_size=1)
    try:
        with reading(engine) as connection:
            keys = load_server_keys(settings, connection)
        made = add_staff(
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
    seed = pyotp.parse_uri(made.totp_uri)
    assert isinstance(seed, pyotp.TOTP)
    return made.staff.name, made.password, seed.now()


def _browser(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=SECONDS, headers={"Origin": url}, follow_redirects=False)


def _sent(browser: httpx2.Client, path: str, form: Mapping[str, str]) -> httpx2.Response:
    """Send a form; a page that answers it with anything but a redirect refused it."""
    answer = browser.post(path, data=dict(form))
    if answer.status_code != 303:
        raise UnexpectedAnswer("The demo's own server did not take a form.", status=answer.status_code)
    return answer
