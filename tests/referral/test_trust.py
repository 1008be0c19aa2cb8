"""Trust, origins and issuers' answers in a referral: told beside what they belong to, never better than they are."""

from __future__ import annotations

import pytest

from ledger.errors import InspectionMismatch
from ledger.evidence import finding_texts
from ledger.evidence.receipt import check_form
from ledger.protocol.encoding import b64url
from ledger.referral import texts as referral_texts
from ledger.referral.audience import Audience
from ledger.referral.bundle import bundle
from ledger.rules.findings import TRUSTED, FindingCode, Trust
from tests.referral.samples import (
    CLAIM,
    PLATFORM_PEM,
    digest,
    evidence_json,
    inspection,
    receipts,
    referred,
    source,
)
from tests.referral.test_document import packed, text_of
from tests.referral.test_facts import value_of


def test_a_receipt_of_another_trust_than_the_reported_one_is_refused() -> None:
    """The digest leaves trust out, because certificates expire; a report says it beside the digest."""
    reported, other = (inspection(captured=True, trust=trust) for trust in ("unlisted", "listed"))
    assert reported.in_report().receipt_sha256 == other.in_report().receipt_sha256
    reports = source(evidence=evidence_json(reported))
    referred(Audience.AI_PROVIDER, reports, known=receipts(reported))
    with pytest.raises(InspectionMismatch):
        referred(Audience.AI_PROVIDER, reports, known=receipts(other))


@pytest.mark.parametrize("trust", Trust)
def test_trust_and_limits_stand_beside_each_finding(trust: Trust) -> None:
    camera = inspection(captured=True, trust=trust.value)
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(camera)), known={})
    [value] = value_of(referral)["reports"][0]["inspections"][0]["findings"]
    assert value["trust"] == trust.value
    assert "a screen can be photographed" in value["does_not_show"]
    printed = packed(text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"]))
    for text in (finding_texts.TRUSTS[trust], finding_texts.LIMITS[FindingCode.C2PA_CAPTURED]):
        assert packed(text) in printed
    assert (packed(referral_texts.FOR_PERSON) in printed) == (trust in TRUSTED)


def test_a_receipt_of_version_1_is_shown_with_the_strength_of_now() -> None:
    value = inspection().to_json()
    old = {name: part for name, part in value.items() if name != "trust_lists"} | {
        "v": 1,
        "conclusion": "ai_identified",
    }
    old["findings"] = [{**value["findings"][0], "strength": "identifies"}]
    checked = check_form(old)
    referral = referred(Audience.AI_PROVIDER, source(evidence=evidence_json(None)), known={digest(CLAIM): checked})
    [item] = value_of(referral)["reports"][0]["inspections"]
    assert (item["conclusion"], item["findings"][0]["strength"]) == ("ai_indicated", "indicates")


def test_origins_and_answers_are_in_the_file() -> None:
    items = evidence_json(inspection())
    answer = {
        "type": "issuer_confirmation",
        "sha256": b64url(digest(b"answer")),
        "confirmation": {
            "issuer": "Provider Ltd.", "answered_at": "2026-11-11T08:00:00Z", "verdict": "generated",
            "file_sha256": b64url(digest(CLAIM)),
        },
    }  # fmt: skip
    unknown = {"type": "original_file", "sha256": b64url(digest(b"older"))}
    referral = referred(Audience.AUTHORITY, source(evidence=[*items, answer, unknown]))
    shown = {
        item["sha256"]: item for item in value_of(referral)["reports"][0]["evidence"] if item["type"] != "ai_label"
    }
    assert shown[digest(CLAIM).hex()]["origin"] == {"source": "claim_upload", "received_at": "2026-11-09T08:00:00Z"}
    assert shown[digest(b"older").hex()]["origin"] == {"source": "unknown"}
    assert shown[digest(b"answer").hex()]["confirmation"]["file_sha256"] == digest(CLAIM).hex()
    printed = packed(text_of(bundle(referral, "en", PLATFORM_PEM)["referral.pdf"]))
    for text in (
        referral_texts.ORIGIN_UNKNOWN,
        "Provider Ltd.",
        "its service made the file",
        "uploaded with the claim",
    ):
        assert packed(text) in printed
