"""Which hashes of a report others may find."""

from __future__ import annotations

import pytest

from ledger.core.conduct import Conduct, Evidence, EvidenceType
from ledger.core.pictures import Unsearched, distance, is_degenerate, searchable, why_unsearched

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
