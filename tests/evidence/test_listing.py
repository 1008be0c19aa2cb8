"""The match with a listing photo: copies are found with what was changed, and another photograph is no copy."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from ledger.client import inspect, inspected_evidence, match_picture, verify_inspection
from ledger.core.findings import CODES, FindingCode, Strength
from ledger.errors import ConfigurationError, InvalidRequest, ListingUnreadable
from ledger.evidence import inspection, listing, pixels, registration
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.limits import MAX_LISTINGS
from ledger.evidence.listing import Match, Photo, matches, photo
from ledger.evidence.receipt import compare
from tests.evidence import files
from tests.evidence.scenes import (
    ALTERATIONS,
    COPIES,
    HEIGHT,
    WIDTH,
    covered,
    encoded,
    photographed,
    picture,
    resized,
    scene,
    stained,
    texture,
)
from tests.support import ROOT


def read(image: Image.Image) -> Photo:
    return photo(files.saved(image, "PNG"))


def match(claim: Image.Image, other: Image.Image) -> Match | None:
    (found,) = matches(read(claim), [read(other)])
    return found


@pytest.fixture(scope="module")
def original() -> Image.Image:
    return picture(scene(1, 2))


def facts(claim: Image.Image, other: Image.Image) -> tuple[FindingCode, dict[str, Any]]:
    (found,) = listing.judge(read(claim), [read(other)])
    assert found.where == "pixels"
    return found.code, dict(found.facts)


@pytest.mark.parametrize("what", COPIES)
def test_a_copy_is_found_and_nothing_in_it_is_called_changed(what: str, original: Image.Image) -> None:
    code, found = facts(COPIES[what](original), original)
    assert code is FindingCode.LISTING_SAME
    assert found["mirrored"] == (what == "mirrored")
    scales = {"resized to 60 %, JPEG": 60, "screenshot with borders": 60, "resized to 25 %, JPEG": 25}
    assert abs(found["scale_percent"] - scales.get(what, 100)) <= 1
    assert found["rotation_degrees"] == {"turned by 90 degrees": -90, "turned by 3 degrees": -3}.get(what, 0)
    assert found["inliers"] >= registration.MIN_INLIERS
    assert "changed_box" not in found


@pytest.mark.parametrize("what", ALTERATIONS)
def test_what_was_changed_is_found(what: str, original: Image.Image) -> None:
    code, found = facts(ALTERATIONS[what](original), original)
    assert code is FindingCode.LISTING_ALTERED
    assert 1 <= found["changed_percent"] <= registration.MAX_CHANGED_PERCENT
    left, top, width, height = found["changed_box"]
    assert left >= 0
    assert top >= 0
    assert width > 0
    assert height > 0
    assert all(type(one) is int for one in found["changed_box"])


@pytest.mark.parametrize(
    ("change", "box"),
    [
        (lambda image: image, (100, 60, 130, 90)),
        (lambda image: resized(image, 0.5), (50, 30, 65, 45)),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (WIDTH - 230, 60, 130, 90)),
        (lambda image: image.crop((60, 20, WIDTH, HEIGHT)), (40, 40, 130, 90)),
        (lambda image: image.transpose(Image.Transpose.ROTATE_180), (WIDTH - 230, HEIGHT - 150, 130, 90)),
    ],
)
def test_the_changed_region_lies_where_it_was_put(change: Any, box: tuple[int, ...], original: Image.Image) -> None:
    altered = original.copy()
    altered.paste(picture(255 - np.asarray(original.crop((100, 60, 230, 150)), np.float64)), (100, 60))
    code, found = facts(encoded(change(altered), quality=90), original)
    assert code is FindingCode.LISTING_ALTERED
    assert np.abs(np.array(found["changed_box"]) - box).max() <= 12
    share = 130 * 90 / (WIDTH * HEIGHT)
    assert 100 * share - 1 <= found["changed_percent"] <= 100 * share * 1.5


@pytest.mark.parametrize("seed", range(4))
def test_another_photograph_of_the_scene_is_no_copy(seed: int) -> None:
    one = photographed(scene(seed, seed), 10 * seed)
    other = photographed(scene(seed, seed, shift=8), 10 * seed + 1)
    assert match(one, other) is None


@pytest.mark.parametrize("light", [0.0, 0.15])
def test_another_photograph_of_something_flat_is_no_copy(light: float) -> None:
    """Without depth only perspective, lens and light tell."""
    flat = texture(np.random.default_rng(5), 640, 480)
    one, other = (photographed(flat, seed, 0.02, light) for seed in (1, 2))
    assert match(one, other) is None


def test_other_things_before_the_same_background_are_no_copy() -> None:
    for seed in range(2):
        one, other = (photographed(scene(7, 20 + seed + 50 * place), seed * 2 + place) for place in (0, 1))
        assert match(one, other) is None


def page(seed: int) -> Image.Image:
    random, image = np.random.default_rng(seed), Image.new("RGB", (480, 480), "white")
    for line in range(15):
        words = ["".join(map(chr, random.integers(97, 123, random.integers(2, 9)))) for _ in range(9)]
        ImageDraw.Draw(image).text((30, 20 + 30 * line), " ".join(words), fill="black", font_size=18)
    return image


def tiles(seed: int) -> Image.Image:
    values = np.tile(texture(np.random.default_rng(3), 60, 60), (6, 8, 1))
    values[80:230, 120:300] = texture(np.random.default_rng(seed), 180, 150)
    return picture(np.roll(values, seed * 13, axis=(0, 1)))


def offer(seed: int) -> Image.Image:
    """The same shop's frame around another product on white."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    image.paste(picture(texture(np.random.default_rng(seed), 220, 250)), (130, 60))
    ImageDraw.Draw(image).text((20, 15), "SHOP of everything", fill="red", font_size=30)
    ImageDraw.Draw(image).rectangle((0, 330, WIDTH, HEIGHT), fill=(220, 30, 30))
    return image


@pytest.mark.parametrize("kind", [page, tiles, offer, lambda seed: picture(scene(seed, seed))])
def test_different_pictures_of_one_kind_are_no_copies(kind: Any) -> None:
    assert match(kind(1), kind(2)) is None


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 20), (5, 5), (40, 30), (400, 300)])
def test_flat_and_tiny_pictures_match_nothing(size: tuple[int, int], original: Image.Image) -> None:
    flat = Image.new("RGB", size, (120, 130, 140))
    for one, other in ((flat, flat), (flat, original), (original, flat)):
        assert match(one, other) is None


def test_hashes_alone_decide_where_there_is_too_little_to_compare() -> None:
    """Broad shapes of a few pixels: no features, and a hash of full quality."""
    small = picture(scene(4, 4)).resize((40, 30))
    (found,) = listing.judge(read(small), [read(small.resize((20, 15)))])
    assert found.code is FindingCode.LISTING_SAME
    assert found.facts["pdq_distance"] is not None
    assert "changed_percent" not in found.facts


def test_the_findings_never_identify() -> None:
    assert CODES[FindingCode.LISTING_SAME][0] is Strength.HINT
    assert CODES[FindingCode.LISTING_ALTERED][0] is Strength.INDICATES


def test_the_same_pictures_give_the_same_facts_whatever_the_machine_was_doing(original: Image.Image) -> None:
    claim, other = read(stained(original, 0.05)), read(original)
    first = listing.judge(claim, [other])
    threads = cv2.getNumThreads()
    found: list[Any] = []
    try:
        cv2.setNumThreads(3)
        cv2.setRNGSeed(12345)
        workers = [threading.Thread(target=lambda: found.append(listing.judge(claim, [other]))) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(threads)
    assert found == [first] * 3


def test_threads_are_given_back_after_an_error() -> None:
    before = cv2.getNumThreads()
    with pytest.raises(ValueError, match="stop"), registration.one_thread():
        raise ValueError("stop")
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("seed", range(4))
def test_places_without_a_map_register_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    one = np.repeat(random.uniform(0, 500, (1, 2)), 40, axis=0).astype(np.float32)
    line = np.column_stack([np.arange(40.0), np.arange(40.0)]).astype(np.float32)
    free = random.uniform(0, 500, (40, 2)).astype(np.float32)
    folded = (free * (-1, 1)).astype(np.float32)
    for pairs in ((one, one), (one, free), (free, one), (line, free), (free, folded), (free[:3], free[:3])):
        assert registration.register(pairs) is None


# --- Files, receipts ----------------------------------------------------------------------------------------------


@pytest.fixture
def case(tmp_path: Path, original: Image.Image) -> tuple[Path, Path, Path]:
    """(claim, its listing, another listing)"""
    paths = tmp_path / "claim.jpg", tmp_path / "front.jpg", tmp_path / "back.webp"
    stained(original, 0.05).save(paths[0], quality=85)
    original.save(paths[1], quality=92)
    picture(scene(8, 9)).save(paths[2], quality=90)
    return paths


def test_a_receipt_names_its_listings_and_is_borne_out_with_them_alone(case: tuple[Path, Path, Path]) -> None:
    claim, front, back = case
    receipt = inspect(claim, listing=[back, front, front])
    assert [one.code for one in receipt.findings] == [FindingCode.LISTING_ALTERED]
    assert len(receipt.listings) == 2
    assert receipt == inspect(claim, listing=[front, back])
    assert receipt.opencv == cv2.__version__
    assert inspect(claim).opencv == ""
    assert verify_inspection(claim, receipt.to_json(), listing=[front, back]).agrees
    missing = verify_inspection(claim, receipt.to_json(), listing=[front])
    assert [one.split(": ")[:2] for one in missing.differences] == [["listings", "only in the receipt"]]
    none = verify_inspection(claim, receipt.to_json())
    assert "findings: only in the receipt: listing_altered" in none.differences
    more = verify_inspection(claim, inspect(claim).to_json(), listing=[back])
    assert [one.split(": ")[:2] for one in more.differences] == [["listings", "only given now"]]


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
    (found,) = listing.judge(shown, [read(original)])
    assert (found.code, found.facts["rotation_degrees"]) == (FindingCode.LISTING_SAME, 0)


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
    made = read(picture(values))
    start = time.process_time()
    matches(made, [made])
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
    from ledger.evidence import match_picture as pictures

    claim = read(covered(original, 0.1).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    (found,) = matches(claim, [read(original)])
    assert found is not None
    assert found.mirrored
    image = np.asarray(Image.open(io.BytesIO(pictures.draw(claim, read(original), found)))).astype(int)
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
