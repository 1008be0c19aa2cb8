"""The minimum as a checklist: it says what `check_evidence` says, and how much of it is only on paper."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.checklist import FileState, NeedState, best_state, checklist
from ledger.core.conduct import MINIMUMS, Conduct, Evidence, EvidenceType, Finding, check_evidence
from ledger.core.findings import Strength
from ledger.errors import EvidenceInsufficient

MATCHES, ABSENT, DIFFERS = FileState.MATCHES, FileState.NOT_HANDED_IN, FileState.DIFFERS

_types = st.sampled_from(EvidenceType)
_findings = st.none() | st.builds(Finding, st.just("c2pa"), st.sampled_from(Strength), st.just("1"))


@st.composite
def _item(draw: st.DrawFn) -> Evidence:
    kind = draw(_types)
    linked = f"rp_{draw(st.integers(0, 2)):08d}" if kind is EvidenceType.LINKED_INSTRUMENT else None
    return Evidence(kind, bytes([draw(st.integers(0, 5))]) * 32, None, draw(_findings), linked)


@st.composite
def _case(draw: st.DrawFn) -> tuple[Conduct, list[tuple[Evidence, FileState]]]:
    """A conduct, with items of the types it needs more often than others."""
    conduct = draw(st.sampled_from(Conduct))
    wanted = [kind for alternative in MINIMUMS[conduct] for need in alternative for kind in need.of]
    fitting = st.builds(
        Evidence,
        st.sampled_from(wanted),
        st.integers(0, 7).map(lambda number: bytes([number]) * 32),
        st.none(),
        _findings,
        st.none(),
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
    best = best_state(checklist(conduct, evidence, files))
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
    for one, other in zip(checklist(conduct, evidence, better), checklist(conduct, evidence, files), strict=True):
        for new, old in zip(one.checks, other.checks, strict=True):
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


def test_every_item_has_its_file() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        checklist(Conduct.WARDROBING, [item(EvidenceType.INTAKE_PHOTO, 1)], [])
