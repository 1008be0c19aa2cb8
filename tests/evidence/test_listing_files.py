"""The match with a listing photo in files: receipts, errors, hostile pictures, and the picture that shows a match."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ledger.client import inspect, inspected_evidence, match_picture, verify_inspection
from ledger.errors import ConfigurationError, InvalidRequest, ListingUnreadable
from ledger.evidence import inspection
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.limits import MAX_LISTINGS
from ledger.evidence.listing import match as listing
from ledger.evidence.listing.match import Photo, matches, photo
from ledger.evidence.perceptual_hash import pixels
from ledger.evidence.receipt import compare
from ledger.rules.findings import FindingCode
from tests.evidence import files
from tests.evidence.features_once import afresh, features_once
from tests.evidence.scenes import (
    WIDTH,
    covered,
    picture,
    scene,
    stained,
)
from tests.support import ROOT

__all__ = ["afresh", "features_once"]


def read(image: Image.Image) -> Photo:
    return photo(files.saved(image, "BMP"))


@pytest.fixture(scope="module")
def original() -> Image.Image:
    return picture(scene(1, 2))


@pytest.fixture(scope="module")
def contents(original: Image.Image) -> dict[str, bytes]:
    """A claim, its listing, and another listing, by their names."""
    return {
        "claim.jpg": files.saved(stained(original, 0.05), "JPEG", quality=85),
        "front.jpg": files.saved(original, "JPEG", quality=92),
        "back.webp": files.saved(picture(scene(8, 9)), "WEBP", quality=90),
    }


@pytest.fixture
def case(tmp_path: Path, contents: dict[str, bytes]) -> tuple[Path, Path, Path]:
    """(claim, its listing, another listing)"""
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    claim, front, back = (tmp_path / name for name in contents)
    return claim, front, back


def test_a_receipt_names_its_listings_and_is_borne_out_with_them_alone(case: tuple[Path, Path, Path]) -> None:
    claim, front, back = case
    receipt = inspect(claim, listing=[back, front, front])
    assert [finding.code for finding in receipt.findings] == [FindingCode.LISTING_ALTERED]
    assert len(receipt.listings) == 2
    assert receipt == inspect(claim, listing=[front, back])
    assert receipt.opencv == cv2.__version__
    assert inspect(claim).opencv == ""
    assert verify_inspection(claim, receipt.to_json(), listing=[front, back]).agrees
    missing = verify_inspection(claim, receipt.to_json(), listing=[front])
    assert [difference.split(": ")[:2] for difference in missing.differences] == [["listings", "only in the receipt"]]
    none = verify_inspection(claim, receipt.to_json())
    assert "findings: only in the receipt: listing_altered" in none.differences
    more = verify_inspection(claim, inspect(claim).to_json(), listing=[back])
    assert [difference.split(": ")[:2] for difference in more.differences] == [["listings", "only given now"]]


def test_measurements_have_room_and_no_more(case: tuple[Path, Path, Path]) -> None:
    claim, front, _ = case
    receipt = inspect(claim, listing=[front])
    for name, change, agrees in (
        ("inliers", 15, True),
        ("inliers", 1_000, False),
        ("changed_percent", 2, True),
        ("changed_percent", 9, False),
        ("rotation_degrees", 90, False),
        ("mirrored", 1, False),
    ):
        claimed = receipt.to_json()
        claimed["findings"][0]["facts"][name] += change
        assert compare(claimed, receipt).agrees is agrees, name
    claimed = receipt.to_json()
    claimed["findings"][0]["facts"]["changed_box"] = [0, 0, 450, 350]
    assert not compare(claimed, receipt).agrees
    claimed["findings"][0]["facts"]["changed_box"] = "everywhere"
    assert not compare(claimed, receipt).agrees


def test_the_digest_holds_the_listing_and_not_what_was_measured(case: tuple[Path, Path, Path]) -> None:
    claim, front, back = case
    receipt = inspect(claim, listing=[front])
    assert receipt.in_report() != inspect(claim, listing=[back]).in_report()
    item = inspected_evidence("listing_match", claim, listing=[front])
    assert item.pdq is None
    assert item.inspection == receipt.in_report()
    assert item.inspection.findings == ("listing_altered",)


def test_a_listing_that_cannot_be_read_is_named(case: tuple[Path, Path, Path], tmp_path: Path) -> None:
    claim, front, _ = case
    bad = {
        "none.jpg": None,
        "text.jpg": b"no picture",
        "film.mp4": files.mp4(),
        "cut.png": files.png()[:60],
        "gif.gif": files.saved(Image.new("RGB", (9, 9)), "GIF"),
    }
    for name, content in bad.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ListingUnreadable, match=name) as raised:
            inspect(claim, listing=[front, path])
        assert raised.value.details["file"] == name
    with pytest.raises(InvalidRequest, match=str(MAX_LISTINGS)):
        inspect(claim, listing=[front] * (MAX_LISTINGS + 1))


@pytest.mark.parametrize("data", [files.mp4(), files.heic(), files.png()[:-40]])
def test_a_claim_that_cannot_be_decoded_is_inspected_all_the_same(data: bytes, original: Image.Image) -> None:
    receipt = inspect_bytes(data, None, [read(original)])
    assert receipt.findings == ()
    assert "listing_not_compared" in [note.code for note in receipt.notes]
    assert len(receipt.listings) == 1


def test_a_photo_is_compared_the_way_it_is_shown(original: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = files.saved(original.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=92, exif=exif)
    shown = photo(lying)
    assert (shown.width_px, shown.height_px) == original.size
    (finding,) = listing.judge(shown, [read(original)])
    assert (finding.code, finding.facts["rotation_degrees"]) == (FindingCode.LISTING_SAME, 0)


def test_hostile_pictures_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, original: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / "listing.jpg"
    path.write_bytes(files.saved(original, "JPEG", progressive=True))
    for limit, value in (("MAX_PIXELS", 1000), ("MAX_SCANS", 2), ("MAX_PROGRESSIVE_PIXELS", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(pixels, limit, value)
            with pytest.raises(ListingUnreadable, match="many"):
                inspection.read_listings([path])
    assert inspection.read_listings([path])[0].width_px == WIDTH


@pytest.mark.usefixtures("afresh")
@pytest.mark.some_cases(1)
@pytest.mark.parametrize("kind", ["noise", "lines", "dots"])
def test_pictures_made_to_be_slow_are_not(kind: str) -> None:
    random = np.random.default_rng(1)
    values = np.zeros((1000, 1200, 3))
    if kind == "noise":
        values[:] = random.integers(0, 256, (1000, 1200, 1))
    elif kind == "lines":
        values[:, ::8] = 255
    else:
        values[::12, ::12] = 255
    photo_read = read(picture(values))
    start = time.process_time()
    matches(photo_read, [photo_read])
    assert time.process_time() - start < 8


# --- The picture of a match -----------------------------------------------------------------------------------------


def test_the_picture_shows_both_and_outlines_what_was_changed(case: tuple[Path, Path, Path]) -> None:
    claim, front, back = case
    shown = match_picture(claim, front)
    assert shown is not None
    assert shown == match_picture(claim, front)
    image = Image.open(io.BytesIO(shown))
    assert image.format == "PNG"
    assert image.info == {}
    assert image.width <= 1600
    colours = np.asarray(image).astype(int)
    red = (colours[:, :, 0] > 200) & (colours[:, :, 1] < 80) & (colours[:, :, 2] < 90)
    half = image.width // 2
    ours, theirs = (np.argwhere(part) for part in (red[:, :half], red[:, half:]))
    assert len(ours) > 100
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0) + (0, 10)).max() < 25
    assert match_picture(claim, back) is None


def test_the_picture_of_a_mirrored_claim_joins_what_belongs_together(original: Image.Image) -> None:
    from ledger.evidence.listing import match_drawing as pictures

    claim = read(covered(original, 0.1).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    (match,) = matches(claim, [read(original)])
    assert match is not None
    assert match.mirrored
    image = np.asarray(Image.open(io.BytesIO(pictures.draw(claim, read(original), match)))).astype(int)
    red = (image[:, :, 0] > 200) & (image[:, :, 1] < 80) & (image[:, :, 2] < 90)
    half = image.shape[1] // 2
    ours, theirs = (np.argwhere(part)[:, 1].mean() for part in (red[:, :half], red[:, half:]))
    assert abs(ours + theirs - half) < 30


def test_opencv_is_loaded_only_for_a_comparison(case: tuple[Path, Path, Path]) -> None:
    program = (
        "import sys; from ledger.client import inspect; inspect(sys.argv[1]); print('cv2' in sys.modules); "
        "inspect(sys.argv[1], listing=[sys.argv[2]]); print('cv2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, case[:2])], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_without_opencv_it_says_what_to_install(case: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_NEEDED_TO_COMPARE", ("PIL", "no_such_module"))
    assert inspect(case[0]).listings == ()
    for call in (lambda: inspect(case[0], listing=[case[1]]), lambda: match_picture(*case[:2])):
        with pytest.raises(ConfigurationError, match="no_such_module") as raised:
            call()
        assert raised.value.details == {"extra": "evidence"}
