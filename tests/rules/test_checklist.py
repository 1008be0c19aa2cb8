"""The minimum as a checklist: it says what `check_evidence` says, and how much of it is only on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import EvidenceInsufficient
from ledger.rules.checklist import FileState, NeedState, best_state, checklist
from ledger.rules.conduct import (
    MINIMUMS,
    Conduct,
    Evidence,
    EvidenceType,
    Finding,
    Inspection,
    Reading,
    check_evidence,
    is_met,
)
from ledger.rules.corroboration import Again, Corroboration, InspectionComparison, compare, corroborations
from ledger.rules.findings import SIGNED, Strength, Trust
from ledger.rules.provenance import Origin, OriginSource

MATCHES, ABSENT, DIFFERS = FileState.MATCHES, FileState.NOT_HANDED_IN, FileState.DIFFERS
CONTRADICTED = Corroboration.CONTRADICTED

_types = st.sampled_from(EvidenceType)
_findings = st.none() | st.sampled_from(
    [
        Finding("c2pa", Strength.IDENTIFIES, "1", Trust.LISTED),
        Finding("c2pa", Strength.INDICATES, "1"),
        Finding("c2pa", Strength.HINT, "1"),
    ]
)
_CODES = ["c2pa_ai_generated", "aigc_generated", "c2pa_captured", "listing_altered", "edit_history"]
_codes = st.lists(st.sampled_from(_CODES), unique=True)
_trusts = st.none() | st.sampled_from(Trust)
_UPLOADED = Origin(OriginSource.CLAIM_UPLOAD, datetime(2026, 1, 2, tzinfo=UTC))
_origins = st.sampled_from([None, _UPLOADED, _UPLOADED, Origin(OriginSource.HANDED_IN_BY_MERCHANT)])
_inspections = st.none() | st.builds(
    Inspection,
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["refund-ledger/1 inspect/1", "other/1"]),
    _codes.map(lambda codes: tuple(sorted(codes))),
    _trusts,
)


@st.composite
def _item(draw: st.DrawFn) -> Evidence:
    kind = draw(_types)
    linked = f"rp_{draw(st.integers(0, 2)):08d}" if kind is EvidenceType.LINKED_INSTRUMENT else None
    digest = bytes([draw(st.integers(0, 5))]) * 32
    origin = draw(_origins) if kind is EvidenceType.ORIGINAL_FILE else None
    return Evidence(kind, digest, None, draw(_findings), linked, inspection=draw(_inspections), origin=origin)


@st.composite
def _case(draw: st.DrawFn) -> tuple[Conduct, list[tuple[Evidence, FileState]]]:
    """A conduct, with items of the types it needs more often than others."""
    conduct = draw(st.sampled_from(Conduct))
    needed = [kind for alternative in MINIMUMS[conduct] for need in alternative for kind in need.of]
    fitting = st.builds(
        Evidence,
        st.sampled_from(needed),
        st.integers(0, 7).map(lambda number: bytes([number]) * 32),
        st.none(),
        _findings,
        st.none(),
        st.none(),
        _inspections,
        _origins,
    )
    return conduct, draw(st.lists(st.tuples(fitting | _item(), st.sampled_from(FileState)), max_size=7))


def reaches(conduct: Conduct, evidence: Sequence[Evidence]) -> bool:
    try:
        check_evidence(conduct, evidence)
    except EvidenceInsufficient:
        return False
    return True


def split(stated: list[tuple[Evidence, FileState]]) -> tuple[list[Evidence], list[FileState]]:
    return [item for item, _ in stated], [file for _, file in stated]


@given(_case())
def test_it_agrees_with_intake(case: tuple[Conduct, list[tuple[Evidence, FileState]]]) -> None:
    conduct, stated = case
    evidence, files = split(stated)
    best = best_state(checklist(conduct, evidence, files, reading=Reading.INTAKE))
    assert (best is not NeedState.MISSING) == reaches(conduct, evidence)
    assert (best is NeedState.MET) == reaches(conduct, [item for item, file in stated if file is MATCHES])
    without = [item for item, file in stated if file is not DIFFERS]
    assert (best in (NeedState.MET, NeedState.ON_PAPER)) == reaches(conduct, without)


@given(_case(), st.data())
def test_a_file_that_matches_never_makes_it_worse(
    case: tuple[Conduct, list[tuple[Evidence, FileState]]], data: st.DataObject
) -> None:
    conduct, stated = case
    if not stated:
        return
    evidence, files = split(stated)
    place = data.draw(st.integers(0, len(files) - 1))
    better = [MATCHES if number == place else file for number, file in enumerate(files)]
    order = list(NeedState)
    for entry, other in zip(checklist(conduct, evidence, better), checklist(conduct, evidence, files), strict=True):
        for new, old in zip(entry.checks, other.checks, strict=True):
            assert order.index(new.state) <= order.index(old.state)


def item(kind: EvidenceType, number: int) -> Evidence:
    return Evidence(kind, bytes([number]) * 32)


def test_each_state_by_example() -> None:
    evidence = [item(EvidenceType.DELIVERY_SCAN, 1), item(EvidenceType.SIGNATURE, 2)]
    for files, states in (
        ([MATCHES, MATCHES], [NeedState.MET, NeedState.MET]),
        ([MATCHES, ABSENT], [NeedState.MET, NeedState.ON_PAPER]),
        ([DIFFERS, ABSENT], [NeedState.FAILS, NeedState.ON_PAPER]),
    ):
        (only,) = checklist(Conduct.FALSE_NON_RECEIPT, evidence, files)
        assert [check.state for check in only.checks] == states
        assert [check.items for check in only.checks] == [(0,), (1,)]
        assert only.state == max(states, key=list(NeedState).index)
    (short,) = checklist(Conduct.FALSE_NON_RECEIPT, evidence[:1], [MATCHES])
    assert [check.state for check in short.checks] == [NeedState.MET, NeedState.MISSING]


def test_a_hint_of_a_detector_is_listed_and_does_not_count() -> None:
    hint = Evidence(EvidenceType.AI_LABEL, b"1" * 32, None, Finding("c2pa", Strength.HINT, "1"))
    evidence = [item(EvidenceType.ORIGINAL_FILE, 1), hint, item(EvidenceType.ADMISSION, 2)]
    first, second = checklist(Conduct.EDITED_IMAGE, evidence, [MATCHES] * 3)
    assert first.checks[1].state is NeedState.MISSING
    assert first.checks[1].items == (1, 2)
    assert second.checks[1].state is NeedState.MISSING, "no source image"


LABELLED = ("c2pa_ai_generated",)
WRITTEN = ("aigc_generated",)
CAPTURED = ("c2pa_captured",)


TOOL = "refund-ledger/1 inspect/1"


def inspection(*codes: str, tool: str = TOOL, receipt: bytes = b"r", trust: Trust | None = Trust.LISTED) -> Inspection:
    """An inspection with these codes; signed ones are under the official list unless the test says otherwise."""
    return Inspection(receipt * 32, tool, tuple(sorted(codes)), trust if SIGNED & set(codes) else None)


def label(
    *codes: str, finding: Strength | None = None, inspected: bool = True, trust: Trust | None = Trust.LISTED
) -> Evidence:
    """An `ai_label` with these codes in its inspection, and another tool's finding."""
    other = None if finding is None else Finding("detector", finding, "1", trust)
    inspected_file = inspection(*codes, trust=trust) if inspected else None
    return Evidence(EvidenceType.AI_LABEL, b"f" * 32, finding=other, inspection=inspected_file)


def again(
    *codes: str,
    complete: bool = True,
    with_listing: bool = False,
    tool: str | None = None,
    trust: Trust | None = Trust.LISTED,
) -> Again:
    inspected_file = inspection(*codes, tool=tool or TOOL, trust=trust)
    alone = [code for code in codes if not code.startswith("listing_")]
    return Again(inspected_file, complete, inspection(*alone, trust=trust) if with_listing else None)


def support(item: Evidence, again_seen: Again | None = None) -> Corroboration:
    return corroborations([item], {} if again_seen is None else {item.sha256: again_seen})[0]


@pytest.mark.parametrize(
    ("item", "again_seen", "level"),
    [
        (label(*LABELLED), None, Corroboration.FOUND),
        (label(*LABELLED), again(*LABELLED), Corroboration.FOUND_AGAIN),
        (label(*LABELLED), again(), Corroboration.CONTRADICTED),
        (label(*LABELLED), again("editing_software"), Corroboration.CONTRADICTED),
        (label(*LABELLED), again(complete=False), Corroboration.ASSERTED),
        (label(*LABELLED), again(tool="refund-ledger/2 inspect/2"), Corroboration.ASSERTED),
        (label(*LABELLED), again(*CAPTURED, tool="refund-ledger/2 inspect/2"), Corroboration.CONTRADICTED),
        (label("a_later_code"), None, Corroboration.ASSERTED),
        (label("iptc_ai_generated"), None, Corroboration.INDICATED),
        (label("iptc_ai_generated"), again("iptc_ai_generated"), Corroboration.INDICATED),
        (label("aigc_suspected"), again("aigc_suspected"), Corroboration.ASSERTED),
        (label(*WRITTEN), None, Corroboration.INDICATED),
        (label(*WRITTEN), again(*WRITTEN), Corroboration.INDICATED),
        (label(*LABELLED), again(*LABELLED, trust=Trust.INTERIM), Corroboration.FOUND_AGAIN),
        (label(*LABELLED), again(*LABELLED, trust=Trust.UNLISTED), Corroboration.CONTRADICTED),
        (label(*LABELLED), again(*LABELLED, trust=Trust.INVALID), Corroboration.CONTRADICTED),
        (label(*LABELLED), again(*LABELLED, trust=Trust.EXPIRED), Corroboration.INDICATED),
        (label(*LABELLED), again(*LABELLED, trust=Trust.REVOKED), Corroboration.INDICATED),
        (label(*LABELLED), again(*LABELLED, trust=None, tool="refund-ledger/0 inspect/0"), Corroboration.INDICATED),
        *[
            (label(*LABELLED, trust=trust), entry, Corroboration.INDICATED)
            for trust in (None, Trust.UNLISTED, Trust.EXPIRED, Trust.INVALID, Trust.REVOKED)
            for entry in (None, again(*LABELLED, trust=trust))
        ],
        (label(*CAPTURED, *WRITTEN), None, Corroboration.CONTRADICTED),
        *[
            (label(*CAPTURED, trust=trust), entry, Corroboration.ASSERTED)
            for trust in (None, Trust.UNLISTED, Trust.EXPIRED, Trust.INVALID, Trust.REVOKED)
            for entry in (None, again(*CAPTURED, trust=trust))
        ],
        (label(inspected=False, finding=Strength.IDENTIFIES, trust=None), None, Corroboration.INDICATED),
        (label(inspected=False, finding=Strength.IDENTIFIES, trust=Trust.UNLISTED), again(), Corroboration.INDICATED),
        (label(*CAPTURED), None, Corroboration.CONTRADICTED),
        (label(*CAPTURED, finding=Strength.IDENTIFIES), None, Corroboration.CONTRADICTED),
        (label(*CAPTURED, *LABELLED), None, Corroboration.FOUND),
        (label(inspected=False), None, Corroboration.ASSERTED),
        (label(inspected=False), again(), Corroboration.ASSERTED),
        (label(inspected=False), again(*LABELLED), Corroboration.FOUND_AGAIN),
        (label(inspected=False, finding=Strength.IDENTIFIES), None, Corroboration.FOUND),
        (label(inspected=False, finding=Strength.IDENTIFIES), again(), Corroboration.FOUND),
        (label(inspected=False, finding=Strength.INDICATES, trust=None), None, Corroboration.INDICATED),
        (label(inspected=False, finding=Strength.HINT, trust=None), None, Corroboration.ASSERTED),
    ],
)
def test_what_bears_an_ai_label_out(item: Evidence, again_seen: Again | None, level: Corroboration) -> None:
    assert support(item, again_seen) is level


@pytest.mark.parametrize(
    ("codes", "again_seen", "level"),
    [
        (("listing_altered",), None, Corroboration.FOUND),
        (("listing_altered",), again("listing_altered", with_listing=True), Corroboration.FOUND_AGAIN),
        (("listing_altered",), again(with_listing=True), Corroboration.CONTRADICTED),
        (("listing_altered",), again(), Corroboration.FOUND),
        (("listing_same",), None, Corroboration.ASSERTED),
        (("listing_same",), again("listing_same", with_listing=True), Corroboration.ASSERTED),
        (CAPTURED, None, Corroboration.CONTRADICTED),
        (CAPTURED, again(*CAPTURED, with_listing=True, trust=Trust.UNLISTED), Corroboration.ASSERTED),
        ((), None, Corroboration.ASSERTED),
    ],
)
def test_what_bears_a_listing_match_out(codes: tuple[str, ...], again_seen: Again | None, level: Corroboration) -> None:
    assert support(Evidence(EvidenceType.LISTING_MATCH, b"f" * 32, inspection=inspection(*codes)), again_seen) is level


def test_what_no_inspection_tells_of_is_to_be_read() -> None:
    for kind in set(EvidenceType) - {EvidenceType.AI_LABEL, EvidenceType.LISTING_MATCH}:
        item_read = Evidence(
            kind, b"f" * 32, finding=Finding("x", Strength.IDENTIFIES, "1"), inspection=inspection(*CAPTURED)
        )
        assert support(item_read, again(*LABELLED)) is Corroboration.TO_BE_READ


def test_findings_of_a_file_count_for_every_item_that_names_it() -> None:
    claim = label(inspected=False, finding=Strength.IDENTIFIES)
    original = Evidence(EvidenceType.ORIGINAL_FILE, claim.sha256, inspection=inspection(*CAPTURED))
    assert corroborations([original, claim]) == (Corroboration.TO_BE_READ, Corroboration.CONTRADICTED)
    elsewhere = replace(original, sha256=b"o" * 32)
    assert corroborations([elsewhere, claim]) == (Corroboration.TO_BE_READ, Corroboration.FOUND)


def test_a_need_says_the_worst_that_it_rests_on() -> None:
    evidence = [item(EvidenceType.ORIGINAL_FILE, 1), label(*LABELLED), item(EvidenceType.ADMISSION, 2)]
    files = [MATCHES, MATCHES, ABSENT]
    for entry, two_proofs, one_proof in (
        (None, Corroboration.TO_BE_READ, Corroboration.FOUND),
        (again(*LABELLED), Corroboration.TO_BE_READ, Corroboration.FOUND_AGAIN),
        (again(), Corroboration.CONTRADICTED, Corroboration.TO_BE_READ),
    ):
        (first, second) = checklist(Conduct.EDITED_IMAGE, evidence, files, {b"f" * 32: entry} if entry else None)
        assert [check.support for check in first.checks] == [Corroboration.TO_BE_READ, two_proofs]
        assert [check.support for check in second.checks] == [Corroboration.TO_BE_READ, None, one_proof]
        assert [check.state for check in first.checks] == [NeedState.MET, NeedState.ON_PAPER], "files are judged apart"


_again = st.dictionaries(
    st.integers(0, 7).map(lambda number: bytes([number]) * 32),
    st.builds(
        again, st.sampled_from(_CODES), complete=st.booleans(), with_listing=st.booleans(),
        tool=st.sampled_from([None, "other/1"]), trust=_trusts,
    ),
)  # fmt: skip


@given(_case(), _again)
def test_findings_never_change_what_files_say(
    case: tuple[Conduct, list[tuple[Evidence, FileState]]], seen: dict[bytes, Again]
) -> None:
    conduct, stated = case
    evidence, files = split(stated)
    with_findings = [check for entry in checklist(conduct, evidence, files, seen) for check in entry.checks]
    plain = [check for entry in checklist(conduct, evidence, files) for check in entry.checks]
    assert [(check.state, check.items) for check in with_findings] == [(check.state, check.items) for check in plain]
    for check in with_findings:
        assert (check.support is None) == (check.state is NeedState.MISSING)


@given(_case(), _again)
def test_a_need_is_contradicted_exactly_if_it_is_not_met_without_what_is(
    case: tuple[Conduct, list[tuple[Evidence, FileState]]], seen: dict[bytes, Again]
) -> None:
    conduct, stated = case
    evidence, files = split(stated)
    kept = [
        entry
        for entry, element in zip(evidence, corroborations(evidence, seen), strict=True)
        if element is not CONTRADICTED
    ]
    for alternative in checklist(conduct, evidence, files, seen):
        for check in alternative.checks:
            if check.support is not None:
                assert (check.support is CONTRADICTED) == (not is_met(check.need, kept, Reading.RECORDED))


@given(_case(), _again, st.data())
def test_finding_it_in_the_file_never_makes_an_item_worse(
    case: tuple[Conduct, list[tuple[Evidence, FileState]]], seen: dict[bytes, Again], data: st.DataObject
) -> None:
    evidence, _ = split(case[1])
    if not evidence:
        return
    place = data.draw(st.integers(0, len(evidence) - 1))
    proof = again("c2pa_ai_generated", "listing_altered", with_listing=True)
    better = corroborations(evidence, {**seen, evidence[place].sha256: proof})
    order = list(Corroboration)
    for new, old in zip(better, corroborations(evidence, seen), strict=True):
        assert order.index(new) <= order.index(old)
    assert better[place] in (Corroboration.FOUND_AGAIN, Corroboration.TO_BE_READ)


@given(_case(), _again)
def test_nothing_but_a_trusted_signer_is_ever_found_again_or_speaks_for_the_person(
    case: tuple[Conduct, list[tuple[Evidence, FileState]]], seen: dict[bytes, Again]
) -> None:
    """Whatever is reported and level: without a signature under a list no label has the best mark, and no camera's word
    is held against one."""
    evidence, _ = split(case[1])
    untrusted = {
        digest: replace(entry, inspection=replace(entry.inspection, trust=None), alone=None)
        for digest, entry in seen.items()
    }
    weak = [
        replace(entry, inspection=None if entry.inspection is None else replace(entry.inspection, trust=Trust.UNLISTED))
        for entry in evidence
    ]
    for entry, element in zip(weak, corroborations(weak, untrusted), strict=True):
        if entry.type is EvidenceType.AI_LABEL:
            assert element not in (Corroboration.FOUND_AGAIN, CONTRADICTED)


OTHER = b"o"
ALTERED = "listing_altered"


@pytest.mark.parametrize(
    ("reported", "again_seen", "level"),
    [
        (["x"], Again(inspection("x"), True), InspectionComparison.AGREES),
        (["x"], Again(inspection("x", receipt=OTHER), True), InspectionComparison.OTHER_DETAILS),
        (["x"], Again(inspection("y", receipt=OTHER), True), InspectionComparison.OTHER_FINDINGS),
        (["x"], Again(inspection("y", receipt=OTHER, tool="other/1"), True), InspectionComparison.OTHER_VERSION),
        (["x"], Again(inspection("x", receipt=OTHER, tool="other/1"), True), InspectionComparison.OTHER_VERSION),
        (["x"], Again(inspection("x", ALTERED, receipt=OTHER), True, inspection("x")), InspectionComparison.AGREES),
        (
            [ALTERED, "x"],
            Again(inspection("x", ALTERED), True, inspection("x", receipt=OTHER)),
            InspectionComparison.AGREES,
        ),
        ([ALTERED], Again(inspection(receipt=OTHER), True), InspectionComparison.NO_LISTING),
        ([ALTERED], Again(inspection(receipt=OTHER, tool="other/1"), True), InspectionComparison.OTHER_VERSION),
        (
            [ALTERED],
            Again(inspection(receipt=OTHER), True, inspection(receipt=OTHER)),
            InspectionComparison.OTHER_FINDINGS,
        ),
    ],
)
def test_two_inspections_beside_each_other(reported: list[str], again_seen: Again, level: InspectionComparison) -> None:
    assert compare(inspection(*reported), again_seen) is level


def test_every_item_has_its_file() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        checklist(Conduct.WARDROBING, [item(EvidenceType.INTAKE_PHOTO, 1)], [])
