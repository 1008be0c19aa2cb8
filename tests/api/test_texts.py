"""The texts of codes over HTTP: both languages, cacheable, and with a text for every code that answers carry."""

from __future__ import annotations

from enum import StrEnum

import pytest

from ledger.catalogue import advice_text, reason_text
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Action, CaseState, Grounds, Outcome
from ledger.rules.conduct import Conduct, EvidenceType
from ledger.rules.findings import FindingCode
from ledger.rules.guidance import ADVICE_TEXTS, Advice, Claim
from ledger.rules.reasons import Reason
from ledger.rules.reports import RefundOutcome, Status
from ledger.rules.standing import Tier
from ledger.tlog.entries import WithdrawalReason
from tests.api.conftest import ACME, READER, Api, person

CODES: dict[str, type[StrEnum]] = {
    "reasons": Reason, "guidance": Advice, "tier": Tier, "matched_kinds": Kind, "conduct": Conduct, "status": Status,
    "evidence": EvidenceType, "findings": FindingCode, "outcome": RefundOutcome, "reason": WithdrawalReason,
    "grounds": Grounds, "state": CaseState, "action": Action, "case_outcome": Outcome, "claim": Claim,
}  # fmt: skip
"""Every code that a member of an answer may have."""


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_every_code_has_its_text_in_both_languages(api: Api, locale: str) -> None:
    answer = api.client.get(f"/v1/texts/{locale}")
    texts = answer.json()
    assert (answer.status_code, texts["locale"]) == (200, locale)
    for member, codes in CODES.items():
        assert set(texts[member]) == {code.value for code in codes}, member
    chinese = any("\u4e00" <= letter <= "\u9fff" for letter in answer.text)
    assert chinese is (locale == "zh-CN")
    assert all(text.strip() for codes in texts.values() if isinstance(codes, dict) for text in codes.values())
    if locale == "zh-CN":
        for member in ("reasons", "guidance", "reason"):
            assert all(not text.isascii() for text in texts[member].values()), member


def test_the_codes_of_a_lookup_are_in_the_texts(api: Api) -> None:
    element = person()
    api.report(ACME, [(Kind.PHONE, element)])
    body = api.request("POST", "/v1/lookups", READER, json=api.lookup_body((Kind.PHONE, element))).json()
    texts = api.client.get("/v1/texts/en").json()
    assert body["reasons"]
    assert [texts["reasons"][code] for code in body["reasons"]] == [reason_text(code, "en") for code in body["reasons"]]
    assert [texts["guidance"][code] for code in body["guidance"]] == [
        advice_text(code, "en") for code in body["guidance"]
    ]


def test_they_are_kept_by_caches_and_asked_for_again_by_etag(api: Api) -> None:
    first = api.client.get("/v1/texts/zh-CN")
    assert first.headers["cache-control"] == "public, max-age=3600"
    etag = first.headers["etag"]
    again = api.client.get("/v1/texts/zh-CN", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = api.client.get("/v1/texts/en", headers={"If-None-Match": etag})
    assert (other.status_code, other.json()["locale"]) == (200, "en")
    assert other.headers["etag"] != etag


@pytest.mark.parametrize("locale", ["zh", "zh-cn", "EN", "fr", "zh_CN", "%00", "x" * 300])
def test_there_are_no_texts_in_another_locale(api: Api, locale: str) -> None:
    answer = api.client.get(f"/v1/texts/{locale}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_no_advice_is_to_refuse() -> None:
    assert set(ADVICE_TEXTS) == set(Advice)
    for code in Advice:
        assert not any(word in advice_text(code, "en").lower() for word in ("refuse", "deny", "reject"))
        assert not any(word in advice_text(code, "zh-CN") for word in ("拒绝", "拒付"))
