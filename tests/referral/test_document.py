"""The PDF as another reader reads it: whole, in both languages, for all recipients, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pypdfium2  # type: ignore[import-untyped]
import pytest

from ledger.errors import AlreadyExists, ConfigurationError
from ledger.evidence.findings import finding
from ledger.evidence.receipt import InspectionReceipt
from ledger.i18n import LOCALES, texts
from ledger.referral import law, pdf
from ledger.referral import texts as referral_texts
from ledger.referral.audience import GIVEN, Audience, Part
from ledger.referral.bundle import bundle, write
from ledger.referral.facts import Referral
from ledger.rules.findings import FindingCode
from ledger.rules.jurisdictions import Profile
from tests.referral.samples import (
    CLAIM,
    LOG_KEY,
    PLATFORM_PEM,
    PRODUCE_ID,
    STATEMENT,
    digest,
    disputed,
    evidence_json,
    inspection,
    receipts,
    referred,
    source,
)

CAMERA = inspection(b"cam", captured=True)


@cache
def made(audience: Audience, profile: str = "CN", environment: str = "live") -> Referral:
    """Four reports: one that stands, one contested, one recent in another currency, one paid back."""
    return referred(
        audience,
        source(1, order="A-1001"),
        disputed(2, evidence=evidence_json(CAMERA, b"cam")),
        source(3, status="cooling", currency="JPY", amount_minor=4200, outcome="refund_refused"),
        source(4, restituted=True),
        profile=profile,
        environment=environment,
        known=receipts(inspection(), CAMERA),
    )


@cache
def files(audience: Audience, locale: str, profile: str = "CN", environment: str = "live") -> dict[str, bytes]:
    return bundle(made(audience, profile, environment), locale, PLATFORM_PEM)


@cache
def pages(data: bytes) -> tuple[str, ...]:
    """The text of each page, without the breaks of lines."""
    document = pypdfium2.PdfDocument(data)
    return tuple(page.get_textpage().get_text_range().replace("\r\n", " ") for page in document)


def text_of(data: bytes) -> str:
    return "".join(" ".join(pages(data)).split())


def packed(text: str) -> str:
    """Without spaces, and with the straight quotation marks of English pages."""
    return "".join(text.translate({0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2026: "..."}).split())


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("audience", Audience)
def test_each_recipient_reads_their_parts_in_either_language(audience: Audience, locale: str) -> None:
    text, said = text_of(files(audience, locale)["referral.pdf"]), texts(locale)

    def told(message: str) -> bool:
        return "".join(said.gettext(message).split()) in text

    assert told(referral_texts.APPEAL_NONE)
    assert PRODUCE_ID in text
    assert digest(CLAIM).hex() in text
    headings = {
        Part.LAW: referral_texts.LAW,
        Part.MONEY: referral_texts.LOSS,
        Part.STATEMENTS: referral_texts.APPEAL_SAID,
    }
    for part, message in headings.items():
        assert told(message) == (audience in GIVEN[part]), part
    assert told(referral_texts.NUMBERS) == (audience is Audience.AI_PROVIDER)
    assert ("A-1001" in text) == (audience in GIVEN[Part.ORDER])
    assert ("129.00" in text) == (audience in GIVEN[Part.MONEY])
    assert ("separate-consent-2026-11-03-8842" in text) == (audience in GIVEN[Part.REFERENCES])
    assert (packed(STATEMENT) in packed(text)) == (audience in GIVEN[Part.STATEMENTS])
    assert told(referral_texts.FOR_PERSON)


@pytest.mark.parametrize("locale", LOCALES)
def test_page_one_says_what_it_is_not_and_marks_in_both_languages(locale: str) -> None:
    first = packed(pages(files(Audience.AUTHORITY, locale)["referral.pdf"])[0])
    for notice in referral_texts.NOTICES:
        assert packed(texts(locale).gettext(notice, platform="acme")) in first
    for status, report in (("disputed", "rp_Xk3mPq9002"), ("cooling", "rp_Xk3mPq9003")):
        for item in LOCALES:
            mark = next(text for key, text in referral_texts.MARKS.items() if key == status)
            assert packed(texts(item).gettext(mark, reports=report)) in first
    assert "rp_Xk3mPq9004" in first


@pytest.mark.parametrize("locale", LOCALES)
def test_pages_are_numbered_and_the_outline_leads_through(locale: str) -> None:
    data = files(Audience.AUTHORITY, locale)["referral.pdf"]
    document = pypdfium2.PdfDocument(data)
    said = texts(locale)
    for number, text in enumerate(pages(data), 1):
        assert f"{number} / {len(document)}" in text
        assert tuple(round(side) for side in document[number - 1].get_size()) == (595, 842)
    titles = [entry.get_title() for entry in document.get_toc()]
    assert titles[0] == said.gettext(referral_texts.TITLE)
    assert f"2. {said.gettext(referral_texts.REPORT)} rp_Xk3mPq9002" in titles
    assert titles[-2:] == [said.gettext(referral_texts.LAW), said.gettext(referral_texts.CHECK)]
    metadata = document.get_metadata_dict()
    assert metadata["Title"] == said.gettext(referral_texts.TITLE)
    assert metadata["Author"] == "acme"
    assert metadata["CreationDate"].startswith("D:20261120093000")
    assert f"/Lang ({locale})".encode() in data


@pytest.mark.usefixtures("whole_font")
def test_only_the_characters_used_are_embedded() -> None:
    data = bundle(made(Audience.AUTHORITY), "zh-CN", PLATFORM_PEM)["referral.pdf"]
    assert b"NotoSansSC" in data
    assert len(data) < 500_000
    reduced = files(Audience.AUTHORITY, "zh-CN")["referral.pdf"]
    assert pages(data) == pages(reduced), "the font of the other tests has all that is needed"


def test_a_character_without_a_glyph_is_shown_by_its_code() -> None:
    referral = referred(Audience.MERCHANT, source(order="A-\N{GRINNING FACE}1"))
    text = text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"])
    assert "A-[U+1F600]1" in text
    assert "\N{REPLACEMENT CHARACTER}" not in text


def test_long_texts_and_tables_flow_over_pages_and_repeat_the_header() -> None:
    document = pdf.Document("t", "s", "a", "en", datetime(2026, 1, 1, tzinfo=UTC), b"")
    document.table(["Number", "Digest"], [(f"row{number}", "ab" * 32) for number in range(150)], (30, 70))
    document.table(["Tall", "Other"], [("word " * 3000, "x")], (50, 50))
    document.box(["A frame."])
    shown = pages(document.bytes())
    text = " ".join(shown)
    assert all(text.count(f"row{number} ") == 1 for number in range(150))
    assert all("Digest" in page for page in shown if "row" in page)
    assert text.count("word") == 3000
    assert all("Tall" in page for page in shown if "word" in page)


def test_a_referral_of_many_reports_marks_them_on_page_one() -> None:
    many = referred(Audience.MERCHANT, *[source(number, status="unconfirmed") for number in range(1, 51)])
    first = pages(bundle(many, "zh-CN", PLATFORM_PEM)["referral.pdf"])[0]
    assert all(f"rp_Xk3mPq9{number:03d}" in first for number in range(1, 51))


@pytest.mark.parametrize("locale", LOCALES)
def test_the_same_referral_gives_the_same_bytes(locale: str) -> None:
    again = bundle(made(Audience.AUTHORITY), locale, PLATFORM_PEM)
    assert again == files(Audience.AUTHORITY, locale)


def test_another_referral_has_another_identifier() -> None:
    locale, again = "en", files(Audience.AUTHORITY, "en")
    other = bundle(referred(Audience.AUTHORITY, source(1)), locale, PLATFORM_PEM)["referral.pdf"]
    identifiers = [re.search(rb"/ID \[(<\w+>)", item) for item in (again["referral.pdf"], other)]
    assert identifiers[0]
    assert identifiers[1]
    assert identifiers[0][1] != identifiers[1][1]


@pytest.mark.parametrize(("profile", "cited"), [("CN", "13"), ("EU", "GDPR"), ("UK", "2018"), ("US", "")])
def test_each_profile_has_its_own_caution_and_only_cn_has_bands(profile: str, cited: str) -> None:
    text = packed(text_of(files(Audience.AUTHORITY, "en", profile)["referral.pdf"]))
    cautions = {known.value: packed(known.spec.handover) for known in Profile if known.spec.handover is not None}
    assert {key for key, caution in cautions.items() if caution in text} == ({profile} if cited else set())
    assert (packed(referral_texts.LAW_NONE) in text) == (profile != "CN")
    assert ("法释〔2011〕7号" in text) == (profile == "CN")
    value = json.loads(files(Audience.AUTHORITY, "en", profile)["referral.json"])
    assert bool(value["law"]) == (profile == "CN")


def test_the_bands_are_those_of_the_sources() -> None:
    text = packed(text_of(files(Audience.AUTHORITY, "zh-CN")["referral.pdf"]))
    for amount in (
        "3,000元至10,000元以上",
        "30,000元至100,000元以上",
        "500,000元以上",
        "三千元以下罚款",
        "第一百四十八条",
    ):
        assert amount in text
    bands = {item.code: [(band.from_yuan, band.to_yuan) for band in item.bands] for item in law.LAWS if item.bands}
    assert bands == {
        "interpretation_2011": [(3_000, 10_000), (30_000, 100_000), (500_000, None)],
        "opinion_2016": [(3_000, None), (30_000, None), (500_000, None)],
    }


def test_a_test_environment_is_told_on_page_one() -> None:
    first = packed(pages(files(Audience.MERCHANT, "en", "CN", "test")["referral.pdf"])[0])
    assert packed(texts("en").gettext(referral_texts.ENVIRONMENT, environment="test")) in first


ACCUSING = (
    *(
        "fraudster",
        "criminal who",
        "the criminal",
        "offender",
        "culprit",
        "guilty",
        "scammer",
        "cheat",
        "thief",
        "suspect",
    ),
    *("罪犯", "骗子", "诈骗犯", "嫌疑人", "犯罪分子", "行骗", "骗取", "欺诈者", "惯犯", "黑名单", "诈骗", "作案"),
)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("audience", Audience)
def test_no_word_accuses_the_person(audience: Audience, locale: str) -> None:
    text = packed(text_of(files(audience, locale)["referral.pdf"])).lower()
    assert [word for word in ACCUSING if packed(word) in text] == []


def test_a_finding_that_this_version_does_not_know_is_told_by_its_code() -> None:
    value = inspection().to_json()
    value["findings"].append({"code": "of_tomorrow", "strength": "hint", "where": "x", "facts": {}})
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(None)), known={digest(CLAIM): value})
    assert "of_tomorrow" in text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"])


def test_an_inspection_without_findings_is_no_word_of_genuineness() -> None:
    nothing = InspectionReceipt("refund-ledger/0.1.0 inspect/1", digest(CLAIM), 9, "image/png", 1, 1, (), ())
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(nothing)), known={})
    text = packed(text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"]))
    assert packed(referral_texts.NOTHING_FOUND) in text
    assert packed(referral_texts.NUMBERS_NONE) in text


def test_a_propagator_can_look_up_its_own_number() -> None:
    label = finding(FindingCode.AIGC_POSSIBLE, "x", label="2", propagator="Chat", propagate_id="p-77")
    receipt = InspectionReceipt("refund-ledger/0.1.0 inspect/1", digest(CLAIM), 9, "image/png", 1, 1, (label,), ())
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(receipt)), known=receipts(receipt))
    assert "p-77" in text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"])


# --- the folder ---------------------------------------------------------------------------------------------------


def test_the_folder_is_whole_and_its_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(files(Audience.AUTHORITY, "en"), folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(
        ["SHA256SUMS", "log-key.txt", "platform-key.pem", "referral.json", "referral.pdf"]
        + [f"receipts/rp_Xk3mPq900{number}.txt" for number in range(1, 5)]
    )
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert (folder / "log-key.txt").read_text() == f"{LOG_KEY}\n"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(AlreadyExists):
        write({"a": b""}, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        write({"a": b"", "a/b": b""}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError):
        write({"a": b""}, tmp_path / "none" / "out")
