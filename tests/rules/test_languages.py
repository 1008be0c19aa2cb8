"""Languages: tags find their row, and every row has a catalogue and formats."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.catalogue import catalogue_files
from ledger.i18n import negotiate, texts
from ledger.rules.languages import LANGUAGES, LOCALES, MAX_CODE_CHARS, language_for

AT = datetime(2026, 11, 29, 18, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("en_US.UTF-8", "en"),
        ("zh", "zh-CN"),
        ("zh-Hant-TW", "zh-CN"),
        ("ZH_CN.UTF-8", "zh-CN"),
        ("fr", None),
        ("eng", None),
        ("C.UTF-8", None),
        ("", None),
        ("*", None),
    ],
)
def test_a_tag_finds_its_language(tag: str, code: str | None) -> None:
    assert language_for(tag) == code


def test_a_browser_gets_what_it_prefers() -> None:
    assert negotiate("fr, zh-TW;q=0.7, en;q=0.8") == "en"
    assert negotiate("fr, zh-TW;q=0.9, en;q=0.8") == "zh-CN"
    assert negotiate("zh;q=0, fr") == "en"


@pytest.mark.parametrize("code", LOCALES)
def test_a_language_has_formats_and_a_catalogue(code: str) -> None:
    t = texts(code)
    assert t.locale == t.language.code == code
    assert "11" in t.time(AT, UTC) or "November" in t.time(AT, UTC)
    assert t.month_day(AT)
    assert t.with_note("x", "y") not in ("x", "y")
    assert code == LOCALES[0] or catalogue_files(code)


@pytest.mark.parametrize("code", LOCALES)
def test_a_language_fits_the_columns_and_names_of_its_kind(code: str) -> None:
    assert len(code) <= MAX_CODE_CHARS, "the columns `locale` and `language` hold no more"
    assert LANGUAGES[code].member.isidentifier()
    assert sum(LANGUAGES[code].primary == language.primary for language in LANGUAGES.values()) == 1, (
        "a tag finds one row"
    )
