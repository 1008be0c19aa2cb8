"""Names of codes in both languages, and bands of amounts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import code_names as case_texts
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Action, Actor, CaseState, Grounds, Outcome
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.reports import Status
from ledger.rules.standing import Tier

TOLD: list[tuple[Callable[[str, str], str], Iterable[str]]] = [
    (case_texts.conduct_text, Conduct),
    (case_texts.grounds_text, Grounds),
    (case_texts.state_text, CaseState),
    (case_texts.outcome_text, Outcome),
    (case_texts.evidence_text, EvidenceType),
    (case_texts.action_text, Action),
    (case_texts.actor_text, Actor),
    (case_texts.tier_text, Tier),
    (case_texts.kind_text, Kind),
    (case_texts.status_text, Status),
]


@pytest.mark.parametrize(("tell", "codes"), TOLD, ids=[tell.__name__ for tell, _ in TOLD])
def test_every_code_has_a_text_in_both_languages(tell: Callable[[str, str], str], codes: Iterable[str]) -> None:
    chinese = {code: tell(code, "zh-CN") for code in codes}
    english = {code: tell(code, "en") for code in codes}
    assert [code for code, text in english.items() if not text or re.search(r"[\u4e00-\u9fff]", text)] == []
    assert [code for code, text in chinese.items() if not re.search(r"[\u4e00-\u9fff]", text)] == []
    assert [code for code in codes if chinese[code] == english[code]] == []
    for texts in (english, chinese):
        assert len(set(texts.values())) == len(texts)
        assert not [text for text in texts.values() if "_" in text or "%" in text]


@pytest.mark.parametrize(("tell", "codes"), TOLD, ids=[tell.__name__ for tell, _ in TOLD])
def test_an_unknown_code_is_refused(tell: Callable[[str, str], str], codes: Iterable[str]) -> None:
    with pytest.raises(ValueError, match="no"):
        tell("no_such_code", "en")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "band"),
    [
        (0, "CNY", (0, 50)),
        (5_000, "CNY", (0, 50)),
        (5_001, "CNY", (50, 200)),
        (12_900, "CNY", (50, 200)),
        (20_001, "EUR", (200, 1000)),
        (100_001, "USD", (1000, 5000)),
        (500_000, "USD", (1000, 5000)),
        (500_001, "USD", (5000, None)),
        (5_000, "JPY", (0, 5_000)),
        (5_001, "JPY", (5_000, 20_000)),
        (50_000, "KRW", (0, 50_000)),
        (200_001, "KRW", (200_000, 1_000_000)),
        (500_000, "VND", (0, 500_000)),
        (50_000_001, "VND", (50_000_000, None)),
        (50_000_000, "IDR", (0, 500_000)),
        (50_000_001, "IDR", (500_000, 2_000_000)),
        (50_000, "KWD", (0, 50)),
        (50_001, "KWD", (50, 200)),
        (50_100, "TWD", (500, 2000)),
        (5_001, "XXX", (50, 200)),
    ],
)
def test_bands(amount_minor: int, currency: str, band: tuple[int, int | None]) -> None:
    assert case_texts.amount_band(amount_minor, currency) == band


@given(st.integers(0, 2**53 - 1), st.sampled_from(sorted(MINOR_DIGITS)))
def test_an_amount_lies_in_its_band(amount_minor: int, currency: str) -> None:
    low, high = case_texts.amount_band(amount_minor, currency)
    unit = 10 ** MINOR_DIGITS[currency]
    assert low * unit < amount_minor or low == 0
    assert high is None or amount_minor <= high * unit


def test_scaled_currencies_exist_and_are_scaled_once() -> None:
    listed = [code for codes in case_texts._SCALES.values() for code in codes.split()]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(MINOR_DIGITS)


def test_bands_in_words() -> None:
    tell = case_texts.band_text
    assert tell((0, 50), "CNY", "en") == "up to 50 CNY"
    assert tell((1000, 5000), "EUR", "en") == "1,000 to 5,000 EUR"
    assert tell((5000, None), "USD", "en") == "over 5,000 USD"
    assert tell((50, 200), "CNY", "zh-CN") == "50 至 200 CNY"
    assert tell((0, 5000), "JPY", "zh-CN") == "5,000 JPY 及以下"
    assert tell((5000, None), "USD", "zh-CN") == "5,000 USD 以上"
