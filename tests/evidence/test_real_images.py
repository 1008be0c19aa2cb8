"""Real pictures, where they lie beside the checkout: three with labels of three kinds, four from cameras."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from ledger.evidence import finding_texts
from ledger.evidence.inspection import inspect_bytes, inspect_file
from ledger.evidence.listing.match import judge, matches, photo
from ledger.evidence.receipt import Conclusion
from ledger.rules.findings import About, FindingCode, Trust
from ledger.rules.pictures import MIN_QUALITY
from tests.counts import trials
from tests.evidence import files
from tests.evidence.features_once import features_once
from tests.evidence.scenes import written_on
from tests.support import SHARED

__all__ = ["features_once"]

IMAGES = SHARED / "data" / "images"
LABELLED = {
    "doubao.png": ("aigc_generated", "producer_name", "Doubao", None),
    "chatgpt.png": ("c2pa_ai_generated", "signer", "OpenAI", Trust.EXPIRED),
    "firefly.png": ("c2pa_ai_generated", "signer", "Adobe Inc.", Trust.EXPIRED),
}
"""The certificates of two were valid until 2026-04-15 and 2026-10-07. One has no time stamp, the other one of the older
kind, whose authority is not checked."""

CAMERAS = ("Canon_40D.jpg", "DSCN0010.jpg", "Nikon_D70.jpg", "Pentax_K10D.jpg")


def image(name: str) -> Path:
    path = IMAGES / name
    if not path.exists():
        pytest.skip(f"the real picture {name} is not beside this checkout (../shared/data/images)")
    return path


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_pictures_are_found_with_their_producer(name: str) -> None:
    code, fact, value, trust = LABELLED[name]
    receipt = inspect_file(image(name))
    assert [finding.code for finding in receipt.findings] == [code]
    assert str(receipt.findings[0].facts[fact]).startswith(value)
    assert receipt.findings[0].trust is trust
    assert receipt.conclusion is Conclusion.AI_INDICATED
    assert receipt.complete


@pytest.mark.parametrize("name", CAMERAS)
def test_camera_photos_give_no_finding_about_ai(name: str) -> None:
    receipt = inspect_file(image(name))
    assert {finding.about for finding in receipt.findings} <= {About.ALTERED}
    assert {finding.strength.value for finding in receipt.findings} <= {"hint"}
    assert "thumbnail_differs" not in [finding.code for finding in receipt.findings]
    assert receipt.complete


def test_a_picture_of_too_little_is_never_found_again() -> None:
    receipt = inspect_file(image("doubao.png"))
    assert receipt.pdq_quality < MIN_QUALITY
    assert "picture_unfit" in [note.code for note in receipt.notes]


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("name", ["DSCN0010.jpg", "chatgpt.png", "firefly.png"])
def test_an_altered_copy_is_found(name: str) -> None:
    original = Image.open(image(name)).convert("RGB")
    altered = photo(files.saved(written_on(original), "JPEG", quality=75))
    (finding,) = judge(altered, [photo(image(name).read_bytes())])
    assert finding.code is FindingCode.LISTING_ALTERED


def test_no_two_different_pictures_match() -> None:
    names = trials(("DSCN0010.jpg", "doubao.png"), (*LABELLED, *CAMERAS))
    photos = [photo(image(name).read_bytes()) for name in names]
    for claim in photos:
        others = [item for item in photos if item is not claim]
        assert matches(claim, others) == [None] * len(others)


@pytest.mark.parametrize("name", LABELLED)
def test_after_resizing_and_saving_anew_the_label_is_gone_and_it_says_so(name: str) -> None:
    with Image.open(image(name)) as opened:
        smaller = opened.convert("RGB").resize((opened.width * 6 // 10, opened.height * 6 // 10))
    out = io.BytesIO()
    smaller.save(out, "JPEG", quality=85)
    receipt = inspect_bytes(out.getvalue(), "claim.jpg")
    assert receipt.findings == ()
    assert receipt.conclusion is Conclusion.NOTHING_FOUND
    assert "labels are lost whenever a picture is resized" in finding_texts.conclusion(receipt, "en")
