"""The reader of catalogues that needs no package: it reads what Babel writes, and refuses what is no catalogue."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict, replace

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.catalogue import ANSWERS, FOLDER, advice_text, parse_po, reason_text
from ledger.client import Reason
from ledger.client.lookups.reasons import explained, unexplained
from ledger.i18n import texts
from ledger.rules.guidance import ADVICE_TEXTS, Advice
from ledger.rules.languages import DEFAULT_LOCALE, LANGUAGES, LOCALES
from ledger.rules.reasons import REASON_TEXTS
from ledger.rules.reasons import Reason as Code
from tests.counts import trials

TEXT = st.text(st.sampled_from('abc \\"\n\t#~|%{}«中、é\u2028\x0b'), min_size=1, max_size=90)


def written(catalogue: Catalog, width: int = 76) -> str:
    target = io.BytesIO()
    write_po(target, catalogue, width=width)
    return target.getvalue().decode("utf-8")


@settings(max_examples=trials(36, 60))
@given(entries=st.dictionaries(TEXT, TEXT, max_size=4), width=st.sampled_from([20, 76, 120]))
def test_what_babel_writes_is_read(entries: dict[str, str], width: int) -> None:
    catalogue = Catalog(locale="fr")
    for message, string in entries.items():
        catalogue.add(message, string)
    assert parse_po(written(catalogue, width)) == entries


def test_only_finished_translations_count() -> None:
    catalogue = Catalog(locale="fr")
    catalogue.add("a", "A")
    catalogue.add("guessed", "G", flags=["fuzzy"])
    catalogue.add("empty", "")
    catalogue.add(("%(num)s day", "%(num)s days"), ("j", "jj"))
    catalogue.add("in a context", "C", context="menu")
    catalogue.add("formatted %(a)s", "F %(a)s", auto_comments=["fuzzy"], user_comments=["x"])
    assert parse_po(written(catalogue) + '\n#~ msgid "old"\n#~ msgstr "O"\n') == {
        "a": "A",
        "formatted %(a)s": "F %(a)s",
    }
    assert parse_po('msgid "a"\r\nmsgstr "A"\r\nmsgid "b"\r\nmsgstr "B"') == {"a": "A", "b": "B"}


@pytest.mark.parametrize("text", ["hello", '"a"', 'msgid "a', 'msgid "a" x', 'msgid "a"\nmsgtxt "b"', "msgid a"])
def test_a_malformed_line_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"Line \d+ of the catalogue is malformed"):
        parse_po(text)


@pytest.mark.parametrize("language", LOCALES)
def test_both_readers_read_the_same(language: str) -> None:
    said = texts(language)
    for code in Code:
        assert reason_text(code.value, language) == said.gettext(REASON_TEXTS[code])
        assert (reason_text(code, language) == REASON_TEXTS[code]) is (language == DEFAULT_LOCALE)
    for advice in Advice:
        assert advice_text(advice.value, language) == said.gettext(ADVICE_TEXTS[advice])
        assert (advice_text(advice, language) == ADVICE_TEXTS[advice]) is (language == DEFAULT_LOCALE)
    assert (FOLDER / LANGUAGES[language].folder / ANSWERS).is_file() is (language != DEFAULT_LOCALE)


def test_there_is_no_text_of_an_unknown_code_or_language() -> None:
    for lookup in (reason_text, advice_text):
        with pytest.raises(ValueError, match="nonsense"):
            lookup("nonsense", DEFAULT_LOCALE)
        with pytest.raises(KeyError):
            lookup(next(iter(Code if lookup is reason_text else Advice)), "tlh")


def test_a_reason_has_a_text_for_each_language() -> None:
    first = explained("no_record")
    chinese = "没有任何对此人不利的有效记录。"
    english = "Nothing on record counts against this person."
    assert first == Reason("no_record", english, chinese) == Reason(code="no_record", en=english, zh_cn=chinese)
    assert repr(first) == f"Reason(code='no_record', en={english!r}, zh_cn={chinese!r})"
    assert asdict(first) == {"code": "no_record", "en": english, "zh_cn": chinese}
    assert first.texts() == (first.en, first.zh_cn) == tuple(first.text(language) for language in LOCALES)
    assert pickle.loads(pickle.dumps(first)) == first
    assert hash(first) == hash(replace(first))
    with pytest.raises(AttributeError):
        first.en = ""  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        first.text("tlh")
    assert unexplained("of_the_future").texts() == ("of_the_future",) * len(LOCALES)
