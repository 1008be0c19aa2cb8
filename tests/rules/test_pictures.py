"""Which hashes of a report others may find."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.conduct import Conduct, Evidence, EvidenceType
from ledger.rules.pictures import (
    COMMON_GROUPS,
    COMMON_PEOPLE,
    FORGED,
    Unsearched,
    Use,
    distance,
    is_common,
    is_degenerate,
    people,
    searchable,
    why_unsearched,
)

PDQ = "0f" * 32
OTHER = "f0" * 32


def item(kind: EvidenceType = EvidenceType.ORIGINAL_FILE, pdq: str = PDQ, quality: int | None = 50) -> Evidence:
    return Evidence(kind, bytes(32), pdq, pdq_quality=quality)


def found(*items: Evidence, conduct: Conduct = Conduct.EDITED_IMAGE) -> list[str]:
    return [pdq.hex() for pdq in searchable(conduct, items)]


def test_the_claimants_own_files_each_once_in_order() -> None:
    assert found(item(pdq=OTHER), item(), item(pdq=OTHER)) == [OTHER, PDQ]
    assert found(Evidence(EvidenceType.ORIGINAL_FILE, bytes(32))) == []


@pytest.mark.parametrize("quality", [None, 0, 49])
def test_without_sufficient_quality_it_is_not_found(quality: int | None) -> None:
    assert found(item(quality=quality)) == []


@pytest.mark.parametrize("kind", set(EvidenceType) - {EvidenceType.ORIGINAL_FILE})
def test_nobody_elses_picture_is_found(kind: EvidenceType) -> None:
    assert found(item(kind)) == []


def test_what_looks_like_the_merchants_photo_is_not_found() -> None:
    source = int(PDQ, 16)
    near, far = (f"{source ^ ((1 << bits) - 1):064x}" for bits in (31, 32))
    assert found(item(), item(EvidenceType.SOURCE_IMAGE, near, None)) == []
    assert found(item(), item(EvidenceType.SOURCE_IMAGE, far)) == [PDQ]


def test_a_protective_report_is_not_found() -> None:
    assert found(item(), conduct=Conduct.IMPERSONATED) == []


def test_degenerate_bits() -> None:
    for bits, bad in ((0, True), (111, True), (112, False), (128, False), (144, False), (145, True), (256, True)):
        assert is_degenerate(((1 << bits) - 1).to_bytes(32)) is bad
    assert found(item(pdq="0" * 64)) == []
    assert distance(bytes(32), b"\x03" + bytes(31)) == 2


def test_each_reason_why_a_hash_is_not_searched() -> None:
    items = [
        item(pdq=OTHER), item(), item(quality=None), item(quality=49), item(pdq="0" * 64),
        item(EvidenceType.SOURCE_IMAGE), item(EvidenceType.INTAKE_PHOTO),
        Evidence(EvidenceType.ORIGINAL_FILE, bytes(32)),
    ]  # fmt: skip
    assert why_unsearched(Conduct.EDITED_IMAGE, items) == [
        None, Unsearched.MERCHANTS_PHOTO, Unsearched.NO_QUALITY, Unsearched.LOW_QUALITY, Unsearched.FLAT,
        Unsearched.NOT_THE_CLAIMANTS, Unsearched.NOT_THE_CLAIMANTS, None,
    ]  # fmt: skip
    assert why_unsearched(Conduct.IMPERSONATED, items[:1]) == [Unsearched.PROTECTIVE]
    assert found(*items) == [OTHER]


def use(number: int, *tags: bytes, conduct: Conduct = Conduct.EMPTY_PARCEL) -> Use:
    return Use(conduct, f"group-{number % COMMON_GROUPS}", tags or (bytes([number]),))


def test_common_takes_enough_people_and_groups() -> None:
    uses = [use(number) for number in range(COMMON_PEOPLE)]
    assert is_common(uses)
    assert not is_common(uses[1:])
    assert not is_common([replace(entry, control_group="group-0") for entry in uses])
    assert not is_common([*uses[1:], use(0, bytes([1]), bytes([9]))])
    for conduct in FORGED:
        assert not is_common([*uses, use(9, conduct=conduct)])
    assert is_common([*uses, use(9)])


def connected(sets: list[set[bytes]]) -> int:
    """Brute force: join any two sets that share something until none do."""
    for entry in sets:
        for other in sets:
            if entry is not other and entry & other:
                return connected([rest for rest in sets if rest is not entry and rest is not other] + [entry | other])
    return len(sets)


@given(st.lists(st.sets(st.integers(0, 12).map(lambda entry: bytes([entry])), min_size=1, max_size=4), max_size=12))
def test_people_are_what_shared_tags_connect(sets: list[set[bytes]]) -> None:
    assert people(sets) == connected(sets)
