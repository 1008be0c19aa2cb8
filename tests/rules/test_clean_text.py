"""Texts as people paste them: nothing unseen stays, nothing seen goes, and what shows nothing is empty."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.clean_text import cleaned, shows

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSEEN = BIDI + "\ufeff\u200b\u2060\u00ad\u2061\u180e\x00\x07\x1b\x7f\x9f\ufff9\U000e0001\U000e0041\ufffe\ufdd0"
ENDS = "\r\x0b\x0c\x85\u2028\u2029"

ANY_TEXT = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(UNSEEN + ENDS + "\n\t \u3000\u00a0\u200c\u200d\ufe0f\ufe0e\u180b\U000e0101\u0301\u3164\u2800"),
        st.sampled_from("aé中\U0001f525❤م‌क्ष\U0001f3f4\U000e0067\U000e007f"),
    ),
    max_size=40,
)


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert cleaned(cleaned(text)) == cleaned(text)


@given(ANY_TEXT)
def test_what_stays_can_be_stored_and_seen(text: str) -> None:
    clean = cleaned(text)
    clean.encode("utf-8")
    assert unicodedata.is_normalized("NFC", clean)
    assert clean == clean.strip()
    assert not set(clean) & (set(UNSEEN) - {"\U000e0041"} | set(ENDS) | {"\t"})
    assert {unicodedata.category(item) for item in clean if item != "\n"}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert not clean or any(shows(item) for item in clean)


@given(ANY_TEXT)
def test_what_shows_stays(text: str) -> None:
    """Each character with a shape is there afterwards, in its order, as NFC has it."""
    shown = [item for item in unicodedata.normalize("NFD", cleaned(text)) if shows(item)]
    given = [item for item in unicodedata.normalize("NFD", text) if shows(item) and not _noncharacter(item)]
    assert shown == given


def _noncharacter(character: str) -> bool:
    return ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF


@given(
    st.text(
        st.sampled_from(UNSEEN + ENDS + BIDI + "\n\t \u3000\u200c\u200d\ufe0f\u0301\u3164\u115f\u2800"), max_size=20
    )
)
def test_what_shows_nothing_is_empty(text: str) -> None:
    assert cleaned(text) == ""


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("\u2068+86 138 0013 8000\u2069", "+86 138 0013 8000"),  # a contact's number from a phone
        ("\ufeffIt came broken.\r\nTwice.\r", "It came broken.\nTwice."),
        ("one\x0btwo\x0cthree\x85four\u2028five\u2029six", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("a\u202egnp.exe\u202c", "agnp.exe"),
        ("co\u00adop\u200berate", "cooperate"),
        ("a\tb", "a b"),
        ("\x1b[31mred", "[31mred"),
        ("half \ud83d of a pair", "half  of a pair"),
        ("e\u200b\u0301", "é"),  # composes once the space between is gone
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian: the non-joiner is spelling
        ("क\u094d\u200dष", "क\u094d\u200dष"),  # Devanagari: a half form
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("❤\ufe0f\u200d\U0001f525 1\ufe0f\u20e3", "❤\ufe0f\u200d\U0001f525 1\ufe0f\u20e3"),
        ("葛\U000e0100", "葛\U000e0100"),  # an ideographic variant, in Japanese names
        ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",) * 2,
        ("hidden\U000e0069\U000e0067\U000e006e", "hidden"),  # tags that are no flag
        ("a\u200d b \u200cc \ufe0f", "a b c"),
        ("\u3164\u2800hi\u3164", "hi"),
        ("\u0600\u0661", "\u0600\u0661"),  # the Arabic number sign has a shape
        ("\u200b\u200b", ""),
        ("\u2028", ""),
        (" \n ", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_examples(pasted: str, expected: str) -> None:
    assert cleaned(pasted) == expected
