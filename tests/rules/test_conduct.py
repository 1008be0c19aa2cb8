"""Evidence minimums: each conduct tested both ways, and the docs' table against the code."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations, product
from typing import Any

import pytest

from ledger.client.reports.evidence import evidence_json
from ledger.errors import (
    EvidenceInsufficient,
    EvidenceInvalid,
    EvidenceOriginMissing,
    EvidenceRefused,
    EvidenceUntrusted,
)
from ledger.protocol.encoding import b64url
from ledger.rules.conduct import (
    MAX_EVIDENCE_ITEMS,
    MAX_INSPECTION_FINDINGS,
    MINIMUMS,
    Conduct,
    Evidence,
    EvidenceType,
    Finding,
    Inspection,
    Need,
    Reading,
    check_evidence,
    formerly_identified,
    is_met,
    known_codes,
    parse_evidence,
)
from ledger.rules.findings import CODES, About, FindingCode, Strength, Trust, strength_of
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.provenance import Confirmation, Origin, OriginSource, Verdict
from tests.rules.worked_examples import DOCS, table_rows

E = EvidenceType
IDENTIFIES = Finding("c2pa_ai_generated", Strength.IDENTIFIES, "1.0", Trust.LISTED)
UPLOADED = Origin(OriginSource.CLAIM_UPLOAD, datetime(2026, 1, 2, tzinfo=UTC))
CLAIM = b"c" * 32
"""The claim's file, in which its labels are."""


def item(kind: EvidenceType, number: int, finding: Finding | None = IDENTIFIES, report: int | None = None) -> Evidence:
    linked = kind is E.LINKED_INSTRUMENT
    answered = Confirmation("A provider", datetime(2026, 1, 3, tzinfo=UTC), Verdict.GENERATED, CLAIM)
    return Evidence(
        kind,
        CLAIM if kind in (E.ORIGINAL_FILE, E.AI_LABEL) else bytes([number]) * 32,
        finding=finding if kind is E.AI_LABEL else None,
        report_id=f"rp_{number if report is None else report:08}" if linked else None,
        origin=UPLOADED if kind is E.ORIGINAL_FILE else None,
        confirmation=answered if kind is E.ISSUER_CONFIRMATION else None,
    )


def items(*kinds: EvidenceType) -> list[Evidence]:
    return [item(kind, number) for number, kind in enumerate(kinds)]


OTHER_PROOFS = (E.LISTING_MATCH, E.LIVE_RESHOOT_FAILED, E.PHYSICAL_CONTRADICTION, E.ADMISSION)
ISSUERS = (E.AI_LABEL, E.ISSUER_CONFIRMATION)
WITH_POINTS = [conduct for conduct in Conduct if conduct is not Conduct.IMPERSONATED]

# Every smallest set that is enough, written from the specification's table and not from `MINIMUMS`.
ENOUGH: list[tuple[Conduct, tuple[EvidenceType, ...]]] = [
    *[
        (conduct, (E.ORIGINAL_FILE, *two))
        for conduct in (Conduct.AI_FABRICATED_IMAGE, Conduct.EDITED_IMAGE)
        for two in [
            *combinations(OTHER_PROOFS, 2),
            *product(ISSUERS, OTHER_PROOFS),
            *[(proof, proof) for proof in OTHER_PROOFS],
        ]
    ],
    *[(Conduct.EDITED_IMAGE, (E.ORIGINAL_FILE, E.SOURCE_IMAGE, proof)) for proof in (*ISSUERS, *OTHER_PROOFS)],
    *[(Conduct.TAMPERED_VIDEO, (E.ORIGINAL_FILE, entry)) for entry in (E.FRAME_CONTRADICTION, E.ADMISSION, *ISSUERS)],
    *[
        (Conduct.FALSE_NON_RECEIPT, (E.DELIVERY_SCAN, second))
        for second in (E.DELIVERY_GPS, E.DELIVERY_PHOTO, E.SIGNATURE, E.ADMISSION)
    ],
    (Conduct.EMPTY_PARCEL, (E.DISPATCH_WEIGHT, E.RETURN_WEIGHT, E.INTAKE_PHOTO)),
    (Conduct.SWITCHED_RETURN, (E.SERIAL_MISMATCH, E.INTAKE_PHOTO)),
    (Conduct.SWITCHED_RETURN, (E.INSPECTION_REPORT, E.INTAKE_PHOTO)),
    (Conduct.FAKE_RETURN_TRACKING, (E.CARRIER_RECORD,)),
    (Conduct.WARDROBING, (E.INTAKE_PHOTO, E.POLICY_CLAUSE)),
    (Conduct.FRIENDLY_CHARGEBACK, (E.UNDISPUTED_TRANSACTION, E.UNDISPUTED_TRANSACTION, E.IP_MATCH)),
    (Conduct.FRIENDLY_CHARGEBACK, (E.UNDISPUTED_TRANSACTION, E.UNDISPUTED_TRANSACTION, E.DEVICE_MATCH)),
    (Conduct.ACCOUNT_FARM, (E.LINKED_INSTRUMENT, E.LINKED_INSTRUMENT)),
    *[(Conduct.IMPERSONATED, (kind,)) for kind in EvidenceType if kind not in ISSUERS],
]


def test_every_conduct_is_tried() -> None:
    assert {conduct for conduct, _ in ENOUGH} == set(Conduct) == set(MINIMUMS)


@pytest.mark.parametrize(("conduct", "kinds"), ENOUGH)
def test_the_minimum_suffices_and_nothing_less(conduct: Conduct, kinds: tuple[EvidenceType, ...]) -> None:
    evidence = items(*kinds)
    check_evidence(conduct, evidence)
    check_evidence(conduct, list(reversed(evidence)))
    check_evidence(conduct, [*evidence, item(E.POLICY_CLAUSE, 99)])
    for left_out in range(len(evidence)):
        rest = evidence[:left_out] + evidence[left_out + 1 :]
        if any(entry.confirmation for entry in rest) and not any(entry.type is E.ORIGINAL_FILE for entry in rest):
            continue  # a confirmation without its file is refused for that
        with pytest.raises(EvidenceInsufficient) as raised:
            check_evidence(conduct, rest)
        assert raised.value.details["missing"]


@pytest.mark.parametrize("conduct", WITH_POINTS)
def test_evidence_for_something_else_does_not_suffice(conduct: Conduct) -> None:
    used = {kind for alternative in MINIMUMS[conduct] for need in alternative for kind in need.of}
    others = [item(kind, number) for number, kind in enumerate(EvidenceType) if kind not in used]
    others = [other for other in others if other.type is not E.ISSUER_CONFIRMATION or E.ORIGINAL_FILE not in used]
    assert others
    with pytest.raises(EvidenceInsufficient):
        check_evidence(conduct, others)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(EvidenceInsufficient) as raised:
        check_evidence(Conduct.EDITED_IMAGE, items(E.ORIGINAL_FILE, E.SOURCE_IMAGE))
    assert raised.value.details["missing"] == [
        "two of: ai_label, issuer_confirmation, listing_match, live_reshoot_failed, physical_contradiction, admission"
    ]
    with pytest.raises(EvidenceInsufficient) as raised:
        check_evidence(Conduct.EMPTY_PARCEL, items(E.RETURN_WEIGHT))
    assert raised.value.details["missing"] == ["dispatch_weight", "intake_photo"]
    assert "dispatch_weight" in str(raised.value)


@pytest.mark.parametrize("strength", [Strength.INDICATES, Strength.HINT, None])
def test_a_label_counts_only_if_it_identifies(strength: Strength | None) -> None:
    finding = None if strength is None else Finding("score", strength, "1.0")
    evidence = [item(E.ORIGINAL_FILE, 1), item(E.AI_LABEL, 2, finding), item(E.ADMISSION, 3)]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)


def inspected(*codes: str, trust: Trust | None = None, tool: str = "inspect/2") -> Evidence:
    return Evidence(E.AI_LABEL, CLAIM, inspection=Inspection(bytes(32), tool, tuple(sorted(codes)), trust))


@pytest.mark.parametrize("trust", [None, *Trust])
def test_of_an_inspection_only_what_is_signed_under_a_trust_list_counts(trust: Trust | None) -> None:
    for code in FindingCode:
        evidence = [item(E.ORIGINAL_FILE, 1), inspected(code, trust=trust), item(E.ADMISSION, 3)]
        if code is FindingCode.C2PA_AI_GENERATED and trust in (Trust.LISTED, Trust.INTERIM):
            assert CODES[code] == (Strength.IDENTIFIES, About.MADE_BY_AI)
            check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)
        else:
            assert strength_of(code, trust) is not Strength.IDENTIFIES
            with pytest.raises(EvidenceInsufficient):
                check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)


@pytest.mark.parametrize("trust", [None, Trust.UNLISTED, Trust.EXPIRED, Trust.INVALID, Trust.REVOKED])
@pytest.mark.parametrize("code", ["c2pa_ai_generated", "aigc_generated", "a_detector_of_ours"])
def test_no_tool_identifies_without_a_trusted_signer(code: str, trust: Trust | None) -> None:
    claimed = item(E.AI_LABEL, 2, Finding(code, Strength.IDENTIFIES, "1.0", trust))
    with pytest.raises(EvidenceUntrusted):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), claimed, item(E.ADMISSION, 3)])
    with pytest.raises(EvidenceUntrusted):
        check_evidence(Conduct.FAKE_RETURN_TRACKING, [item(E.CARRIER_RECORD, 1), claimed])


def test_a_label_in_some_other_picture_does_not_count() -> None:
    other = replace(item(E.AI_LABEL, 2), sha256=b"o" * 32)
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), other, item(E.ADMISSION, 3)])


@pytest.mark.parametrize(
    ("origin", "raised"),
    [
        (UPLOADED, None),
        (None, EvidenceOriginMissing),
        (Origin(OriginSource.HANDED_IN_BY_MERCHANT), EvidenceInsufficient),
        (Origin(OriginSource.HANDED_IN_BY_MERCHANT, datetime(2026, 1, 2, tzinfo=UTC)), EvidenceInsufficient),
    ],
)
@pytest.mark.parametrize("conduct", [Conduct.AI_FABRICATED_IMAGE, Conduct.EDITED_IMAGE, Conduct.TAMPERED_VIDEO])
def test_only_what_was_uploaded_with_the_claim_is_an_original_file(
    conduct: Conduct, origin: Origin | None, raised: type[EvidenceInsufficient] | None
) -> None:
    file = replace(item(E.ORIGINAL_FILE, 1), origin=origin)
    evidence = [file, item(E.ADMISSION, 2), item(E.LISTING_MATCH, 3)]
    if raised is None:
        check_evidence(conduct, evidence)
        return
    with pytest.raises(EvidenceInsufficient) as refused:
        check_evidence(conduct, evidence)
    assert type(refused.value) is raised
    assert refused.value.details["missing"] == ["original_file"]
    recorded = is_met(Need((E.ORIGINAL_FILE,)), evidence, Reading.RECORDED)
    assert recorded == (origin is None), "reports from before keep what they had, and a merchant's file never counts"


@pytest.mark.parametrize("verdict", Verdict)
def test_of_an_issuer_only_that_it_made_the_file_counts(verdict: Verdict) -> None:
    answer = item(E.ISSUER_CONFIRMATION, 2)
    assert answer.confirmation is not None
    answer = replace(answer, confirmation=replace(answer.confirmation, verdict=verdict))
    evidence = [item(E.ORIGINAL_FILE, 1), answer, item(E.ADMISSION, 3)]
    if verdict is Verdict.GENERATED:
        check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)
        check_evidence(Conduct.TAMPERED_VIDEO, evidence[:2])
    else:
        with pytest.raises(EvidenceInsufficient):
            check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)


def test_a_confirmation_is_about_a_file_of_the_claim() -> None:
    answer = item(E.ISSUER_CONFIRMATION, 2)
    assert answer.confirmation is not None
    other = replace(answer, confirmation=replace(answer.confirmation, file_sha256=bytes(32)))
    with pytest.raises(EvidenceInvalid):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), other, item(E.ADMISSION, 3)])


def test_a_label_and_its_issuers_answer_are_one_proof() -> None:
    both = [item(E.ORIGINAL_FILE, 1), item(E.AI_LABEL, 1), item(E.ISSUER_CONFIRMATION, 2)]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, both)
    check_evidence(Conduct.AI_FABRICATED_IMAGE, [*both, item(E.ADMISSION, 3)])


@pytest.mark.parametrize(
    "label",
    [
        inspected("aigc_generated", tool="inspect/1"),
        inspected("c2pa_ai_generated", tool="inspect/1"),
        item(E.AI_LABEL, 2, Finding("other", Strength.IDENTIFIES, "1")),
        item(E.AI_LABEL, 2, Finding("aigc_generated", Strength.IDENTIFIES, "1")),
    ],
)
def test_labels_of_former_reports_keep_what_they_were(label: Evidence) -> None:
    need = Need((E.AI_LABEL,))
    assert formerly_identified(label)
    assert [is_met(need, [label], reading) for reading in Reading] == [False, False, True]
    assert parse_evidence([evidence_json(label)]) == (label,), "what was recorded is still read"


@pytest.mark.parametrize("trust", Trust)
def test_what_was_judged_by_trust_is_no_former_label(trust: Trust) -> None:
    label = inspected("c2pa_ai_generated", trust=trust)
    assert not formerly_identified(label)
    assert not formerly_identified(inspected("iptc_ai_generated"))


def test_an_inspection_has_room_for_every_code() -> None:
    assert len(FindingCode) <= MAX_INSPECTION_FINDINGS


def test_codes_of_a_later_version_are_carried_and_count_for_nothing() -> None:
    later = inspected("watermark_of_2031", "hint_of_2031")
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), later, item(E.ADMISSION, 3)])
    assert later.inspection is not None
    assert known_codes(later.inspection.findings) == []
    assert known_codes(["aigc_emptied", "x", "size_differs"]) == [FindingCode.AIGC_EMPTIED, FindingCode.SIZE_DIFFERS]


def test_a_finding_of_ours_has_the_strength_of_its_code() -> None:
    finding = {"code": "aigc_suspected", "strength": "hint", "tool_version": "1"}
    parse_evidence([{**RAW, "finding": finding}])
    for strength in ("indicates", "identifies"):
        with pytest.raises(EvidenceInvalid, match="strength of aigc_suspected is hint"):
            parse_evidence([{**RAW, "finding": {**finding, "strength": strength}}])
    signed = {"code": "c2pa_ai_generated", "strength": "identifies", "tool_version": "1"}
    parse_evidence([{**RAW, "finding": {**signed, "trust": "listed"}}])
    with pytest.raises(EvidenceInvalid, match="strength of c2pa_ai_generated is indicates"):
        parse_evidence([{**RAW, "finding": {**signed, "trust": "unlisted"}}])


@pytest.mark.parametrize("conduct", WITH_POINTS)
def test_detectors_alone_never_suffice(conduct: Conduct) -> None:
    labels = [item(E.AI_LABEL, number) for number in range(2, 20)]
    enough_alone = conduct is Conduct.TAMPERED_VIDEO  # of a video an issuer's word suffices
    for evidence in (labels, [item(E.ORIGINAL_FILE, 1), *labels])[: 1 if enough_alone else 2]:
        with pytest.raises(EvidenceInsufficient):
            check_evidence(conduct, evidence)


def test_many_labels_are_one_proof() -> None:
    files = [replace(item(E.ORIGINAL_FILE, 1), sha256=bytes([number]) * 32) for number in range(2, 12)]
    labels = [replace(item(E.AI_LABEL, 1), sha256=file.sha256) for file in files]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [*files, *labels])
    check_evidence(Conduct.AI_FABRICATED_IMAGE, [*files, *labels, item(E.LISTING_MATCH, 50)])


def test_two_means_two_files() -> None:
    same = [item(E.ORIGINAL_FILE, 1), item(E.LISTING_MATCH, 2), item(E.ADMISSION, 2)]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.AI_FABRICATED_IMAGE, same)
    check_evidence(Conduct.AI_FABRICATED_IMAGE, [*same, item(E.LISTING_MATCH, 3)])
    with pytest.raises(EvidenceInsufficient):
        check_evidence(
            Conduct.FRIENDLY_CHARGEBACK,
            [item(E.UNDISPUTED_TRANSACTION, 1), item(E.UNDISPUTED_TRANSACTION, 1), item(E.IP_MATCH, 2)],
        )


def test_a_label_may_be_found_in_the_original_file_itself() -> None:
    check_evidence(
        Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), item(E.AI_LABEL, 1), item(E.LIVE_RESHOOT_FAILED, 2)]
    )


def test_linked_accounts_need_two_reports() -> None:
    one_report = [item(E.LINKED_INSTRUMENT, 1, report=1), item(E.LINKED_INSTRUMENT, 2, report=1)]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.ACCOUNT_FARM, one_report)
    one_file = [item(E.LINKED_INSTRUMENT, 1, report=1), item(E.LINKED_INSTRUMENT, 1, report=2)]
    with pytest.raises(EvidenceInsufficient):
        check_evidence(Conduct.ACCOUNT_FARM, one_file)
    check_evidence(Conduct.ACCOUNT_FARM, [*one_report, item(E.LINKED_INSTRUMENT, 3, report=2)])


def test_the_number_of_items_is_limited() -> None:
    many = [item(E.CARRIER_RECORD, number) for number in range(MAX_EVIDENCE_ITEMS + 1)]
    check_evidence(Conduct.FAKE_RETURN_TRACKING, many[1:])
    with pytest.raises(EvidenceInvalid):
        check_evidence(Conduct.FAKE_RETURN_TRACKING, many)


RAW: dict[str, Any] = {"type": "original_file", "sha256": b64url(bytes(32))}
FINDING = {"code": "c2pa_ai", "strength": "identifies", "tool_version": "2.1"}


CONFIRMATION = {
    "issuer": "A provider",
    "answered_at": "2026-01-03T00:00:00Z",
    "verdict": "generated",
    "file_sha256": b64url(bytes(32)),
}
INSPECTION = {
    "receipt_sha256": b64url(b"r" * 32),
    "tool": "refund-ledger/0.1.0 inspect/1",
    "findings": ["aigc_generated", "size_differs"],
}


def test_evidence_is_read() -> None:
    raw = [
        RAW,
        {**RAW, "inspection": INSPECTION},
        {**RAW, "type": "ai_label", "finding": FINDING, "pdq": "0f" * 32},
        {**RAW, "type": "linked_instrument", "report_id": "rp_abcdefgh"},
    ]
    assert parse_evidence(raw) == (
        Evidence(E.ORIGINAL_FILE, bytes(32)),
        Evidence(
            E.ORIGINAL_FILE,
            bytes(32),
            inspection=Inspection(b"r" * 32, "refund-ledger/0.1.0 inspect/1", ("aigc_generated", "size_differs")),
        ),
        Evidence(E.AI_LABEL, bytes(32), "0f" * 32, Finding("c2pa_ai", Strength.IDENTIFIES, "2.1")),
        Evidence(E.LINKED_INSTRUMENT, bytes(32), report_id="rp_abcdefgh"),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"type": "hearsay"},
        {"type": None},
        {"type": ["original_file"]},
        {"sha256": b64url(bytes(31))},
        {"sha256": "00" * 32},
        {"sha256": None},
        {"extra": 1},
        {"pdq": "0F" * 32},
        {"pdq": "0f" * 31},
        {"pdq": None},
        {"report_id": "rp_abcdefgh"},
        {"type": "linked_instrument"},
        {"type": "linked_instrument", "report_id": "lk_abcdefgh"},
        {"type": "linked_instrument", "report_id": None},
        {"inspection": None},
        {"inspection": {**INSPECTION, "facts": {}}},
        {"inspection": {**INSPECTION, "receipt_sha256": b64url(bytes(31))}},
        {"inspection": {**INSPECTION, "receipt_sha256": None}},
        {"inspection": {**INSPECTION, "tool": "x\n"}},
        {"inspection": {**INSPECTION, "tool": 1}},
        {"inspection": {**INSPECTION, "findings": "aigc_generated"}},
        {"inspection": {**INSPECTION, "findings": ["size_differs", "size_differs"]}},
        {"inspection": {**INSPECTION, "findings": ["Size"]}},
        {"inspection": {**INSPECTION, "findings": [1]}},
        {"inspection": {**INSPECTION, "findings": [f"c{number:03}" for number in range(65)]}},
        {"finding": None},
        {"finding": {**FINDING, "score": 1}},
        {"finding": {**FINDING, "strength": "proves"}},
        {"finding": {**FINDING, "strength": ["hint"]}},
        {"finding": {**FINDING, "code": "x" * 65}},
        {"finding": {**FINDING, "code": ""}},
        {"finding": {**FINDING, "tool_version": "1\n"}},
        {"finding": {"code": "x"}},
        {"finding": {**FINDING, "trust": "sure"}},
        {"finding": {**FINDING, "trust": None}},
        {"inspection": {**INSPECTION, "trust": "sure"}},
        {"inspection": {**INSPECTION, "trust": None}},
        {"origin": None},
        {"origin": {}},
        {"origin": {"source": "claim_upload"}},
        {"origin": {"source": "found"}},
        {"origin": {"source": ["claim_upload"], "received_at": "2026-01-02T00:00:00Z"}},
        {"origin": {"source": "claim_upload", "received_at": "2026-01-02"}},
        {"origin": {"source": "claim_upload", "received_at": "2026-01-02T00:00:00Z", "by": "x"}},
        {"origin": {"source": "handed_in_by_merchant"}, "type": "source_image"},
        {"confirmation": CONFIRMATION},
        {"type": "issuer_confirmation"},
        *[
            {"type": "issuer_confirmation", "confirmation": {**CONFIRMATION, **change}}
            for change in (
                {"issuer": ""},
                {"issuer": " x"},
                {"issuer": "x" * 129},
                {"issuer": "a\nb"},
                {"issuer": 1},
                {"issuer": "e\u0301"},
                {"answered_at": "today"},
                {"verdict": "guilty"},
                {"verdict": None},
                {"file_sha256": "x"},
                {"file_sha256": None},
                {"more": 1},
            )
        ],
    ],
)
def test_unfit_items_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceInvalid):
        parse_evidence([{**RAW, **change}])


@pytest.mark.parametrize("evidence", [None, {}, "x", [], [1], [RAW] * 33, [{"type": "admission"}]])
def test_unfit_lists_are_refused(evidence: object) -> None:
    with pytest.raises(EvidenceInvalid):
        parse_evidence(evidence)
    assert [len(parse_evidence([RAW] * count)) for count in (1, MAX_EVIDENCE_ITEMS)] == [1, 32]


def test_police_penalty_records_are_refused() -> None:
    with pytest.raises(EvidenceRefused):
        parse_evidence([RAW, {**RAW, "type": "police_penalty_record"}])


def test_a_need_reads_well() -> None:
    assert str(Need((E.ADMISSION,))) == "admission"
    assert str(Need((E.ADMISSION, E.SIGNATURE))) == "one of: admission, signature"
    assert str(Need((E.ADMISSION,), 2)) == "two admission"


def test_the_table_in_the_docs_is_the_code() -> None:
    policy = shipped_policy()[1]
    rows = table_rows((DOCS / "reports.md").read_text(encoding="utf-8"), "Conduct and minimum evidence")
    expected = [
        [
            conduct,
            str(policy.severity[conduct]),
            str(policy.retention_days[policy.severity[conduct]]),
            " **or** ".join("; ".join(map(str, needs)) for needs in alternatives),
        ]
        for conduct, alternatives in MINIMUMS.items()
    ]
    assert [[row[0], *row[2:]] for row in rows] == expected
