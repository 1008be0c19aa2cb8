"""Evidence minimums: each conduct tested both ways, and the docs' table against the code."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from ledger.core.conduct import (
    MAX_EVIDENCE_ITEMS,
    MAX_INSPECTION_FINDINGS,
    MINIMUMS,
    Conduct,
    Evidence,
    EvidenceType,
    Finding,
    Inspection,
    Need,
    check_evidence,
    known_codes,
    parse_evidence,
)
from ledger.core.encoding import b64url
from ledger.core.findings import CODES, About, FindingCode, Strength
from ledger.errors import EvidenceInsufficient, EvidenceInvalid, EvidenceRefused
from ledger.policies import shipped_policy
from tests.core.worked_examples import DOCS, table_rows

E = EvidenceType
IDENTIFIES = Finding("c2pa_ai_generated", Strength.IDENTIFIES, "1.0")


def item(kind: EvidenceType, number: int, finding: Finding | None = IDENTIFIES, report: int | None = None) -> Evidence:
    linked = kind is E.LINKED_INSTRUMENT
    return Evidence(
        kind,
        bytes([number]) * 32,
        finding=finding if kind is E.AI_LABEL else None,
        report_id=f"rp_{number if report is None else report:08}" if linked else None,
    )


def items(*kinds: EvidenceType) -> list[Evidence]:
    return [item(kind, number) for number, kind in enumerate(kinds)]


IMAGE_PROOFS = (E.AI_LABEL, E.LISTING_MATCH, E.LIVE_RESHOOT_FAILED, E.PHYSICAL_CONTRADICTION, E.ADMISSION)
WITH_POINTS = [conduct for conduct in Conduct if conduct is not Conduct.IMPERSONATED]

# Every smallest set that is enough, written from the specification's table and not from `MINIMUMS`.
ENOUGH: list[tuple[Conduct, tuple[EvidenceType, ...]]] = [
    *[
        (conduct, (E.ORIGINAL_FILE, *two))
        for conduct in (Conduct.AI_FABRICATED_IMAGE, Conduct.EDITED_IMAGE)
        for two in [*combinations(IMAGE_PROOFS, 2), *[(proof, proof) for proof in IMAGE_PROOFS[1:]]]
    ],
    *[(Conduct.EDITED_IMAGE, (E.ORIGINAL_FILE, E.SOURCE_IMAGE, proof)) for proof in IMAGE_PROOFS],
    (Conduct.TAMPERED_VIDEO, (E.ORIGINAL_FILE, E.FRAME_CONTRADICTION)),
    (Conduct.TAMPERED_VIDEO, (E.ORIGINAL_FILE, E.ADMISSION)),
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
    *[(Conduct.IMPERSONATED, (kind,)) for kind in EvidenceType],
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
        with pytest.raises(EvidenceInsufficient) as raised:
            check_evidence(conduct, evidence[:left_out] + evidence[left_out + 1 :])
        assert raised.value.details["missing"]


@pytest.mark.parametrize("conduct", WITH_POINTS)
def test_evidence_for_something_else_does_not_suffice(conduct: Conduct) -> None:
    used = {kind for alternative in MINIMUMS[conduct] for need in alternative for kind in need.of}
    others = [item(kind, number) for number, kind in enumerate(EvidenceType) if kind not in used]
    assert others
    with pytest.raises(EvidenceInsufficient):
        check_evidence(conduct, others)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(EvidenceInsufficient) as raised:
        check_evidence(Conduct.EDITED_IMAGE, items(E.ORIGINAL_FILE, E.SOURCE_IMAGE))
    assert raised.value.details["missing"] == [
        "two of: ai_label, listing_match, live_reshoot_failed, physical_contradiction, admission"
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


def inspected(*codes: str) -> Evidence:
    return Evidence(E.AI_LABEL, bytes([2]) * 32, inspection=Inspection(bytes(32), "inspect/1", tuple(sorted(codes))))


@pytest.mark.parametrize("code", FindingCode)
def test_of_an_inspection_only_what_identifies_ai_counts(code: FindingCode) -> None:
    evidence = [item(E.ORIGINAL_FILE, 1), inspected(code), item(E.ADMISSION, 3)]
    if code in (FindingCode.AIGC_GENERATED, FindingCode.C2PA_AI_GENERATED):
        assert CODES[code] == (Strength.IDENTIFIES, About.MADE_BY_AI)
        check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)
    else:
        with pytest.raises(EvidenceInsufficient):
            check_evidence(Conduct.AI_FABRICATED_IMAGE, evidence)


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


@pytest.mark.parametrize("conduct", WITH_POINTS)
def test_detectors_alone_never_suffice(conduct: Conduct) -> None:
    labels = [item(E.AI_LABEL, number) for number in range(2, 20)]
    for evidence in (labels, [item(E.ORIGINAL_FILE, 1), *labels]):
        with pytest.raises(EvidenceInsufficient):
            check_evidence(conduct, evidence)


def test_many_labels_are_one_proof() -> None:
    labels = [item(E.AI_LABEL, number) for number in range(2, 20)]
    check_evidence(Conduct.AI_FABRICATED_IMAGE, [item(E.ORIGINAL_FILE, 1), *labels, item(E.LISTING_MATCH, 50)])


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
