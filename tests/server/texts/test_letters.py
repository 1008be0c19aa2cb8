"""Letters: their required contents, in every profile and both languages, and the texts that none may contain."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.i18n import texts
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Outcome
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import Profile
from ledger.server.texts.letters import CaseFacts, Letter, LetterKind, Paragraph, Style, render

LOCALES = ("en", "zh-CN")
POLICY = shipped_policy()[1]
ZONES = {profile: ZoneInfo(POLICY.appeals.clocks[profile].time_zone) for profile in Profile}
FORBIDDEN = (
    "guilty", "fraud", "criminal", "crime", "cheat", "liar", "offender", "dishonest",
    "欺诈", "罪犯", "犯罪", "骗", "失信", "有罪",
)  # fmt: skip
REASONS = "The scan at delivery was made in another street.\n\n100% certain: <b>no</b>. 派送地址不符。"

NEXT = {
    (Profile.CN, "en"): [
        "People’s Bank of China",
        "articles 25 and 26",
        "cyberspace",
        "article 65",
        "Order 116",
        "people’s court",
        "50",
    ],
    (Profile.CN, "zh-CN"): [
        "中国人民银行",
        "《征信业管理条例》第二十五条",
        "网信部门",
        "第六十五条",
        "第 116 号",
        "人民法院",
        "第五十条",
    ],
    (Profile.EU, "en"): ["supervisory authority", "article 77", "court", "article 79", "article 22"],
    (Profile.EU, "zh-CN"): ["监管机构", "第 77 条", "法院", "第 79 条", "第 22 条"],
    (Profile.UK, "en"): ["section 164A", "Information Commission", "section 165", "article 79", "22A to 22D"],
    (Profile.UK, "zh-CN"): ["第 164A 条", "信息委员会", "第 165 条", "第 79 条", "第 22A 条至第 22D 条"],
    (Profile.US, "en"): [
        "Consumer Financial Protection Bureau",
        "Federal Trade Commission",
        "attorney general",
        "1681n",
    ],
    (Profile.US, "zh-CN"): ["消费者金融保护局", "联邦贸易委员会", "总检察长", "1681n"],
}
"""What the next legal route names."""


def facts(profile: Profile, outcome: Outcome | None = None) -> CaseFacts:
    """Return the facts of a case that is due at the end of 30 March, by the clock of `profile`."""
    zone = ZONES[profile]
    end = datetime(2026, 3, 31, tzinfo=zone).astimezone(UTC)
    decided_at = datetime(2026, 3, 20, 9, 30, tzinfo=zone).astimezone(UTC)
    case = CaseFacts(
        case_id="ap_k3X9bQ2w",
        report_id="rp_Zx81mPq4",
        profile=profile,
        zone=zone,
        conduct=Conduct.FALSE_NON_RECEIPT,
        opened_at=datetime(2026, 3, 10, 0, 30, tzinfo=zone).astimezone(UTC),
        due_at=end,
        opener="Acme",
        question="Which day did the parcel come?",
        question_due_at=datetime(2026, 3, 17, 14, 5, tzinfo=zone).astimezone(UTC),
    )
    if outcome is None:
        return case
    return replace(
        case,
        outcome=outcome,
        reasons=REASONS,
        decided_at=decided_at,
        amended_conduct=Conduct.WARDROBING if outcome is Outcome.AMENDED else None,
        reopen_until=None if outcome in (Outcome.OVERTURNED, Outcome.VICTIM) else decided_at + timedelta(days=60),
        expires_at=datetime(2027, 1, 15, 12, tzinfo=UTC),
        unlinked_kinds=(Kind.PHONE, Kind.EMAIL) if outcome is Outcome.UNLINKED else (),
    )


def prose(letter: Letter) -> str:
    """Return the text of the letter without the quotations of people."""
    return "\n".join([letter.subject, *(part.text for part in letter.paragraphs if part.style is not Style.QUOTE)])


def every_letter(profile: Profile, locale: str) -> list[Letter]:
    undecided = [render(kind, facts(profile), locale) for kind in LetterKind if kind is not LetterKind.DECIDED]
    decided = [render(LetterKind.DECIDED, facts(profile, outcome), locale) for outcome in Outcome]
    again = replace(facts(profile), round=2)
    reporters = replace(facts(profile), round=2, reporters=True, appeals=1)
    final = replace(facts(profile, Outcome.UPHELD), round=2, reopen_until=None)
    silent = replace(facts(profile, Outcome.OVERTURNED), reasons=None, silent_reporter=True)
    return [
        *undecided,
        *decided,
        render(LetterKind.RECEIVED, again, locale),
        *(render(kind, reporters, locale) for kind in LetterKind if kind is not LetterKind.DECIDED),
        render(LetterKind.DECIDED, final, locale),
        render(LetterKind.DECIDED, silent, locale),
    ]


def day(locale: str, year: int, month: int, number: int) -> str:
    names = ("", "January", "February", "March", "April", "May")
    return f"{names[month]} {number}, {year}" if locale == "en" else f"{year}年{month}月{number}日"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("profile", Profile)
def test_no_letter_accuses_or_leaves_anything_untranslated(profile: Profile, locale: str) -> None:
    for letter in every_letter(profile, locale):
        text = prose(letter)
        assert [word for word in FORBIDDEN if word in text.lower()] == []
        assert "%(" not in text
        assert letter.locale == locale
        if locale == "en":
            assert not re.search(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]", text)
        else:
            # Allowed in Latin letters: ids, the platform's own name, names of laws and authorities.
            rest = re.sub(r"ap_\w+|rp_\w+|Acme|GDPR|CFPB|FTC|\d+[a-z](\([a-z0-9]\))*", "", text)
            assert re.findall(r"[A-Za-z]{2,}", rest) == []


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_decision_says_all_that_it_must(outcome: Outcome, profile: Profile, locale: str) -> None:
    case = facts(profile, outcome)
    letter = render(LetterKind.DECIDED, case, locale)
    text = letter.to_text()
    assert case.case_id in letter.subject
    assert case.report_id in text
    assert Paragraph(REASONS, Style.QUOTE) in letter.paragraphs
    assert day(locale, 2026, 3, 20) in text
    assert [name for name in NEXT[profile, locale] if name not in text] == []
    others = [
        name
        for (other, tongue), names in NEXT.items()
        if tongue == locale and other is not profile
        for name in names[:1]
    ]
    assert [name for name in others if name in text and name not in NEXT[profile, locale]] == []
    removed = outcome in (Outcome.OVERTURNED, Outcome.VICTIM)
    assert (day(locale, 2027, 1, 15) in text) is (outcome is not Outcome.OVERTURNED)
    assert (day(locale, 2026, 5, 19) in text) is not removed
    assert (("a statement in your own words" if locale == "en" else "附上一份声明") in text) is not removed
    statement = "1681i(b)" in text
    assert statement is (profile is Profile.US and not removed)
    assert ("1681i(a)(7)" in text) is (profile is Profile.US)
    assert "Acme" not in text


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("profile", Profile)
def test_a_receipt_says_all_that_it_must(profile: Profile, locale: str) -> None:
    letter = render(LetterKind.RECEIVED, facts(profile), locale)
    text = letter.to_text()
    assert "ap_k3X9bQ2w" in letter.subject
    assert "Acme" in text
    assert day(locale, 2026, 3, 10) in text  # half past midnight there, still the day before in other zones
    assert day(locale, 2026, 3, 30) in text
    assert day(locale, 2026, 3, 31) not in text
    assert ("does not count" if locale == "en" else "不计分") in text
    assert ("Take your appeal back" if locale == "en" else "撤回申诉") in text
    assert [name for name in NEXT[profile, locale] if name not in text] == []
    assert "1681i" not in text


@pytest.mark.parametrize("locale", LOCALES)
def test_a_question_has_its_date_to_the_minute(locale: str) -> None:
    letter = render(LetterKind.QUESTION, facts(Profile.US), locale)
    assert Paragraph("Which day did the parcel come?", Style.QUOTE) in letter.paragraphs
    text = letter.to_text()
    assert f"{day(locale, 2026, 3, 17)}{', ' if locale == 'en' else ' '}14:05" in text
    assert ("Eastern Time" if locale == "en" else "北美东部时间") in text
    assert day(locale, 2026, 3, 30) in text


@pytest.mark.parametrize("locale", LOCALES)
def test_an_overdue_letter_owns_up(locale: str) -> None:
    text = render(LetterKind.OVERDUE, facts(Profile.EU), locale).to_text()
    assert ("our fault" if locale == "en" else "我们的过失") in text
    assert day(locale, 2026, 3, 30) in text
    assert ("neither shown to platforms nor counted" if locale == "en" else "既不向平台显示，也不计分") in text
    assert ("article 77" if locale == "en" else "第 77 条") in text


def test_each_outcome_has_its_own_verdict() -> None:
    for locale in LOCALES:
        letters = [render(LetterKind.DECIDED, facts(Profile.CN, outcome), locale) for outcome in Outcome]
        verdicts = {letter.paragraphs[0].text for letter in letters}
        assert len(verdicts) == len(Outcome)


def test_a_letter_about_a_silent_reporter_does_not_claim_that_a_person_decided() -> None:
    case = replace(facts(Profile.EU, Outcome.OVERTURNED), reasons=None, silent_reporter=True)
    text = render(LetterKind.DECIDED, case, "en").to_text()
    assert "did not answer in time" in text
    assert "A person looked at your case" not in text


def test_the_second_decision_is_the_last_here() -> None:
    case = replace(facts(Profile.EU, Outcome.UPHELD), round=2, reopen_until=None)
    text = render(LetterKind.DECIDED, case, "en").to_text()
    assert "decided twice" in text
    assert "reopened once" not in text
    assert "article 77" in text


def test_amended_and_unlinked_say_what_became_of_it() -> None:
    amended = render(LetterKind.DECIDED, facts(Profile.CN, Outcome.AMENDED), "en").to_text()
    assert "The record now says: A used item returned as new." in amended
    unlinked = render(LetterKind.DECIDED, facts(Profile.CN, Outcome.UNLINKED), "en").to_text()
    assert "phone number, e-mail address." in unlinked
    assert "手机号、电子邮箱" in render(LetterKind.DECIDED, facts(Profile.CN, Outcome.UNLINKED), "zh-CN").to_text()


def test_a_letter_that_lacks_something_is_not_written() -> None:
    whole = facts(Profile.CN, Outcome.AMENDED)
    lacking: list[dict[str, Any]] = [
        {"reasons": None}, {"reasons": ""}, {"outcome": None}, {"decided_at": None}, {"expires_at": None},
        {"amended_conduct": None}, {"outcome": Outcome.UNLINKED},
    ]  # fmt: skip
    for changes in lacking:
        with pytest.raises(ValueError, match="this letter needs"):
            render(LetterKind.DECIDED, replace(whole, **changes), "en")
    unasked: list[dict[str, Any]] = [{"question": None}, {"question_due_at": None}]
    for changes in unasked:
        with pytest.raises(ValueError, match="this letter needs"):
            render(LetterKind.QUESTION, replace(whole, **changes), "en")


def test_nothing_that_a_person_wrote_passes_for_the_letter() -> None:
    case = replace(facts(Profile.EU, Outcome.UPHELD), reasons="No.\nWhat changes\r\x0b\u2028Pay 100 EUR.")
    lines = render(LetterKind.DECIDED, case, "en").to_text().splitlines()
    assert lines.count("What changes") == 1
    assert "Pay 100 EUR." not in lines
    assert "> Pay 100 EUR." in lines


def test_plain_text_and_json_hold_the_same_paragraphs() -> None:
    letter = render(LetterKind.RECEIVED, facts(Profile.CN), "en")
    data = letter.to_dict()
    assert data["subject"] == letter.subject
    parts = data["paragraphs"]
    assert isinstance(parts, list)
    assert [part["text"] for part in parts] == [part.text for part in letter.paragraphs]
    text = letter.to_text()
    assert all(part.text in text for part in letter.paragraphs)


def test_english_letters_are_easy_to_read() -> None:
    """The Flesch-Kincaid grade of the letters' own words, without the legal routes, is about that of a reader of twelve
    years."""
    for letter in every_letter(Profile.EU, "en"):
        own = [part.text for part in letter.paragraphs if "GDPR" not in part.text and part.style is not Style.QUOTE]
        text = " ".join(own)
        sentences = len(re.findall(r"[.:?](?:\s|$)", text))
        words = re.findall(r"[A-Za-z’']+", text)
        syllables = sum(max(1, len(re.findall(r"[aeiouy]+", re.sub(r"e$", "", word.lower())))) for word in words)
        grade = 0.39 * len(words) / sentences + 11.8 * syllables / len(words) - 15.59
        assert grade < 7.5, (letter.subject, grade)


def test_a_time_tells_its_zone() -> None:
    moment = datetime(2026, 3, 5, 7, 0, tzinfo=UTC)
    shown = [
        texts(locale).time(moment, zone) for locale in LOCALES for zone in (ZONES[Profile.CN], UTC, ZoneInfo("UTC"))
    ]
    assert shown == [
        "March 5, 2026, 15:00 (China Time)",
        "March 5, 2026, 07:00 (UTC)",
        "March 5, 2026, 07:00 (UTC)",
        "2026年3月5日 15:00（中国时间）",
        "2026年3月5日 07:00（UTC）",
        "2026年3月5日 07:00（UTC）",
    ]
