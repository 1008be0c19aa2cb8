"""Every code has its sentence in both languages, and the page lists exactly what the code can find."""

from __future__ import annotations

import re

import pytest

from ledger.evidence import finding_texts
from ledger.evidence.findings import finding
from ledger.evidence.formats.metadata import INCOMPLETE, Note, NoteCode
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion
from ledger.i18n import texts
from ledger.rules.findings import CODES, SIGNED, TRUSTED, FindingCode, Trust
from tests.evidence import files
from tests.messages import placeholders
from tests.support import ROOT

PAGE = (ROOT / "docs" / "evidence.md").read_text("utf-8")
LOCALES = ("en", "zh-CN")


@pytest.mark.parametrize("code", FindingCode)
@pytest.mark.parametrize("locale", LOCALES)
def test_every_finding_has_a_sentence_with_and_without_facts(code: FindingCode, locale: str) -> None:
    bare = finding_texts.sentence(finding(code, "here"), locale)
    assert bare
    assert "%(" not in bare
    names = {name[2:-2] for name in placeholders(finding_texts.FINDINGS[code])} - {"trust", "for_person"}
    full = finding_texts.sentence(finding(code, "here", **{name: f"<{name}>" for name in names}), locale)
    assert all(f"<{name}>" in full for name in names)
    assert re.search(r"[\u4e00-\u9fff]", full) if locale == "zh-CN" else full.isprintable()
    assert finding_texts.strength(finding(code, "here"), locale)
    assert finding_texts.limit(code, locale)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("trust", [None, *Trust])
def test_trust_is_told_with_what_rests_on_it_and_with_nothing_else(trust: Trust | None, locale: str) -> None:
    said = texts(locale).gettext
    trust_text = said(finding_texts.NOT_SIGNED if trust is None else finding_texts.TRUSTS[trust])
    for code in FindingCode:
        sentence = finding_texts.sentence(finding(code, "here", trust=None if trust is None else trust.value), locale)
        assert (trust_text in sentence) == (code in SIGNED)
        assert finding_texts.trust_sentence(code, trust, locale) == (trust_text if code in SIGNED else "")
        for_person = said(finding_texts.FOR_PERSON) in sentence
        assert for_person == (code is FindingCode.C2PA_CAPTURED and trust in TRUSTED)


@pytest.mark.parametrize("code", FindingCode)
def test_every_code_has_a_title_and_what_it_does_not_show(code: FindingCode) -> None:
    for tell in (finding_texts.title, finding_texts.limit):
        english, chinese = tell(code.value, "en"), tell(code.value, "zh-CN")
        assert english != code.value
        assert re.search(r"[\u4e00-\u9fff]", chinese)
        assert not re.search(r"genuine|authentic|fraudster|fake", english)
    assert len(finding_texts.title(code.value, "en")) <= 60


def test_a_later_versions_code_is_told_as_it_is() -> None:
    assert (finding_texts.title("a_later_code", "zh-CN"), finding_texts.limit("a_later_code", "en")) == (
        "a_later_code",
        "",
    )
    assert finding_texts.TITLES.keys() == finding_texts.LIMITS.keys()


def test_everything_has_words() -> None:
    assert finding_texts.FINDINGS.keys() == CODES.keys() == set(FindingCode)
    assert finding_texts.NOTES.keys() == set(NoteCode)
    assert finding_texts.CONCLUSIONS.keys() == set(Conclusion)
    for code in NoteCode:
        assert finding_texts.note_sentence(Note(code), "en") != finding_texts.note_sentence(Note(code), "zh-CN")


def test_nothing_found_is_never_told_as_genuine() -> None:
    for data in (files.png(), files.jpeg(files.exif_segment(files.exif({0x0131: b"GIMP"})))):
        receipt = inspect_bytes(data)
        assert "does not mean that the picture is genuine, nor that it is not" in finding_texts.conclusion(
            receipt, "en"
        )
        assert "这不表示图片是真实的，也不表示图片不真实" in finding_texts.conclusion(receipt, "zh-CN")
    said = [*finding_texts.FINDINGS.values(), *finding_texts.NOTES.values()]
    assert not [text for text in said if re.search(r"genuine|authentic|fraudster|fake", text)]


def test_what_was_not_read_is_said_with_the_conclusion() -> None:
    receipt = inspect_bytes(files.png()[:-12])
    assert not receipt.complete
    assert finding_texts.conclusion(receipt, "en").endswith("A label may lie there.")
    assert finding_texts.conclusion(receipt, "zh-CN").endswith("未读取的部分中可能有标识。")


def test_the_page_lists_every_finding_with_its_strength() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (identifies|indicates|hint) \| (\w+) \|", PAGE, re.MULTILINE)
    assert rows == [(code.value, strength.value, about.value) for code, (strength, about) in CODES.items()]


def test_the_page_lists_every_note_and_conclusion() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (yes|no) \|", PAGE, re.MULTILINE)
    assert rows == [(code.value, "yes" if code in INCOMPLETE else "no") for code in NoteCode]
    assert [code for code in Conclusion if f"`{code.value}`" not in PAGE] == []
