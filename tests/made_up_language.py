"""A made-up third language, French with each text in guillemets, and everything that must offer it.

`tests.made_up_rows` puts ROW into the table of languages of a process of its own and calls `check_language` there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

if TYPE_CHECKING:
    from fastapi import FastAPI

CODE = "fr"
ROW = """\
        Language("fr", "fr", "Français", "d MMMM y, HH:mm", "{text} ({note})", ", ", " ", False),
"""
PLURAL_FORMS = 2


def in_guillemets(text: str) -> str:
    """What the made-up language says for an English text."""
    return f"«{text}»"


@contextmanager
def catalogue() -> Iterator[None]:
    """A folder of catalogues with those that are shipped and one of the made-up language for each, until the end."""
    from ledger import catalogue as catalogues
    from ledger.rules.languages import LANGUAGES

    shipped = catalogues.FOLDER
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / CODE).mkdir()
        for code in [code for code in LANGUAGES if catalogues.catalogue_files(code)]:
            (folder / LANGUAGES[code].folder).symlink_to(str(shipped / LANGUAGES[code].folder))
            for file in catalogues.catalogue_files(code):
                with file.open("rb") as source:
                    known = read_po(source)
                catalog = Catalog(locale=CODE)
                for message in known:
                    if isinstance(message.id, str):
                        catalog.add(message.id, in_guillemets(message.id) if message.id else None)
                    else:
                        catalog.add(message.id, tuple(in_guillemets(message.id[-1]) for _ in range(PLURAL_FORMS)))
                with (folder / CODE / file.name).open("wb") as target:
                    write_po(target, catalog)
        catalogues.FOLDER = folder
        try:
            yield
        finally:
            catalogues.FOLDER = shipped


def check_language() -> list[str]:
    """Tags, schemas, answers, the SDK's texts, letters, pages, the referral and the choices of commands."""
    from ledger.i18n import negotiate
    from ledger.rules.languages import LOCALES, language_for

    assert LOCALES[-1] == CODE
    assert language_for("fr_CA.UTF-8") == CODE
    assert negotiate("fr-CH, zh;q=0.9") == CODE
    with catalogue():
        sdk()
        letter()
        referral()
        commands()
        served()
    return []


def schemas(app: FastAPI) -> None:
    """The OpenAPI description names it wherever it names the others."""
    text = json.dumps(app.openapi())
    assert text.count(f'"enum": ["en", "zh-CN", "{CODE}"]') > 0
    assert '"enum": ["en", "zh-CN"]' not in text
    reason = json.loads(text)["components"]["schemas"]["OwnReason"]
    assert reason["required"] == ["code", "en", "zh_cn", CODE]
    assert f"`en` or `zh-CN` or `{CODE}`" in text


def sdk() -> None:
    """Reasons of every kind of answer, and of a ledger that has not this language."""
    from ledger.client.lookups.reasons import Reason, explained
    from ledger.rules.reasons import REASON_TEXTS
    from tests.client.small_ledger import small_ledger

    known = explained("no_record")
    assert known.fr == known.text(CODE) == in_guillemets(REASON_TEXTS[known.code])  # type: ignore[index]
    assert (known.en, known.zh_cn) == (known.text("en"), known.text("zh-CN")) == known.texts()[:2]
    assert known == Reason("no_record", known.en, known.zh_cn, fr=known.fr)
    with tempfile.TemporaryDirectory() as name, small_ledger(Path(name)) as ledger:
        ledger.forge("/v1/lookups", lambda body: json.dumps({**json.loads(body), "reasons": ["new"]}).encode())
        for locale, text in (("en", "New."), ("zh-CN", "新的。")):
            texts = json.dumps({"locale": locale, "reasons": {"new": text}}).encode()
            ledger.replace[f"/v1/texts/{locale}"] = lambda _, texts=texts: (200, {}, texts)  # type: ignore[misc]
        missing = b'{"code": "not_found", "detail": "There are texts in en and zh-CN."}'
        ledger.replace[f"/v1/texts/{CODE}"] = lambda _: (404, {}, missing)
        with ledger.connect(lookup_budget_seconds=20) as acme:
            result = acme.lookup(ledger.buyer({"phone": "+86 138 0013 8000"}), order="1")
    assert [(reason.code, reason.en, reason.zh_cn, reason.text(CODE)) for reason in result.reasons] == [
        ("new", "New.", "新的。", "new")
    ]


def letter() -> None:
    """A letter with its dates."""
    from ledger.rules.jurisdictions import Profile
    from ledger.server.texts.letters import LetterKind, render
    from tests.server.texts.test_letters import facts

    written = render(LetterKind.RECEIVED, facts(Profile("EU")), CODE).to_text()
    assert in_guillemets("What happens now") in written
    assert "30 mars 2026" in written


def referral() -> None:
    """A referral may be written in this language."""
    from ledger.i18n import texts
    from ledger.referral.audience import Audience
    from ledger.referral.bundle import _check_arguments
    from ledger.referral.texts import TITLE

    _check_arguments(["rp_Xk3mPq9002"], CODE, {}, Audience.AUTHORITY)
    assert texts(CODE).gettext(TITLE) == in_guillemets(TITLE)


def commands() -> None:
    """What commands offer, and the demo's sentences."""
    from typer.testing import CliRunner

    from ledger.cli import app
    from ledger.cli.platform import inspect as inspect_command
    from ledger.i18n import texts
    from ledger.server.demo import demo
    from ledger.server.demo import texts as demo_texts

    shown = CliRunner()
    for command in (["staff", "add"], ["referral"]):
        text = shown.invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
        assert f"en or zh-CN or {CODE}" in text, (command, text)
    assert demo._language(CODE) == inspect_command._locale(CODE) == CODE
    story = demo._Story(texts(CODE))
    assert story.text("title") == in_guillemets(demo_texts.TEXTS["title"])


def served() -> None:
    """Answers and pages of a server: a person's record and its languages, texts of codes, staff and the console."""
    from ledger.rules.guidance import ADVICE_TEXTS, Advice
    from ledger.rules.reasons import REASON_TEXTS, Reason
    from ledger.server.staff.accounts import set_language
    from tests.api.browser_client import browser_clients
    from tests.api.conftest import ACME, BETA, running
    from tests.personas import Persona
    from tests.staffing import enrol
    from tests.support import new_ledger

    with tempfile.TemporaryDirectory() as name:
        settings = new_ledger(f"sqlite:///{Path(name) / 'ledger.db'}", Path(name))
        for platform in (ACME, BETA):
            platform.enrol(settings)
        with running(settings) as api, browser_clients(api) as new_browser:
            schemas(api.app)
            body = api.client.get(f"/v1/texts/{CODE}").json()
            assert body["reasons"] == {code.value: in_guillemets(REASON_TEXTS[code]) for code in Reason}
            assert body["guidance"] == {code.value: in_guillemets(ADVICE_TEXTS[code]) for code in Advice}
            person = Persona(api)
            report = person.reported()
            person.open(locale=CODE)
            reasons = person.ask("GET", "/record").json()["standing"]["reasons"]
            assert reasons
            assert all(reason[CODE] == in_guillemets(reason["en"]) for reason in reasons)
            own = {"report": report, "text": "Je l'ai renvoyé.", "locale": CODE}
            assert person.ask("POST", "/statements", json=own).status_code == 201
            browser = new_browser("en").open(person.code(locale=CODE))
            page = browser.get("/me").text
            assert f'<html lang="{CODE}"' in page
            assert all(item[CODE].replace("'", "&#39;") in page for item in reasons)
            assert f"/me?lang={CODE}" in browser.get("/me?lang=zh-CN").text
            assert "Français" in browser.get("/console/login").text
            assert f'<html lang="{CODE}"' in new_browser("fr-BE").get("/console/login").text
            staff = enrol(api.rt.engine, "anne", "admin", language=CODE, sealing_key=api.rt.keys.sealing_key)
            set_language(api.rt.engine, staff.staff.id, CODE)
