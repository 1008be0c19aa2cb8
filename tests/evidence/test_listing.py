"""The match with a listing photo: copies are found with what was changed, and another photograph is no copy."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from ledger.evidence.listing import match as listing
from ledger.evidence.listing import overlay, registration
from ledger.evidence.listing.match import Match, Photo, matches, photo
from ledger.rules.findings import CODES, FindingCode, Strength
from tests.counts import trials
from tests.evidence import files
from tests.evidence.features_once import afresh, features_once
from tests.evidence.scenes import (
    ALTERATIONS,
    COPIES,
    HEIGHT,
    WIDTH,
    encoded,
    photographed,
    picture,
    resized,
    scene,
    stained,
    texture,
)

__all__ = ["afresh", "features_once"]


def read(image: Image.Image) -> Photo:
    return photo(files.saved(image, "BMP"))


def match(claim: Image.Image, other: Image.Image) -> Match | None:
    (match_found,) = matches(read(claim), [read(other)])
    return match_found


@pytest.fixture(scope="module")
def original() -> Image.Image:
    return picture(scene(1, 2))


def facts(claim: Image.Image, other: Image.Image) -> tuple[FindingCode, dict[str, Any]]:
    (finding,) = listing.judge(read(claim), [read(other)])
    assert finding.where == "pixels"
    return finding.code, dict(finding.facts)


@pytest.mark.some_cases(5)
@pytest.mark.parametrize("what", COPIES)
def test_a_copy_is_found_and_nothing_in_it_is_called_changed(what: str, original: Image.Image) -> None:
    code, facts_found = facts(COPIES[what](original), original)
    assert code is FindingCode.LISTING_SAME
    assert facts_found["mirrored"] == (what == "mirrored")
    scales = {"resized to 60 %, JPEG": 60, "screenshot with borders": 60, "resized to 25 %, JPEG": 25}
    assert abs(facts_found["scale_percent"] - scales.get(what, 100)) <= 1
    assert facts_found["rotation_degrees"] == {"turned by 90 degrees": -90, "turned by 3 degrees": -3}.get(what, 0)
    assert facts_found["inliers"] >= registration.MIN_INLIERS
    assert "changed_box" not in facts_found


@pytest.mark.some_cases(4)
@pytest.mark.parametrize("what", ALTERATIONS)
def test_what_was_changed_is_found(what: str, original: Image.Image) -> None:
    code, facts_found = facts(ALTERATIONS[what](original), original)
    assert code is FindingCode.LISTING_ALTERED
    assert 1 <= facts_found["changed_percent"] <= overlay.MAX_CHANGED_PERCENT
    left, top, width, height = facts_found["changed_box"]
    assert left >= 0
    assert top >= 0
    assert width > 0
    assert height > 0
    assert all(type(item) is int for item in facts_found["changed_box"])


@pytest.mark.some_cases(3)
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
    code, facts_found = facts(encoded(change(altered), quality=90), original)
    assert code is FindingCode.LISTING_ALTERED
    assert np.abs(np.array(facts_found["changed_box"]) - box).max() <= 12
    share = 130 * 90 / (WIDTH * HEIGHT)
    assert 100 * share - 1 <= facts_found["changed_percent"] <= 100 * share * 1.5


def test_what_was_covered_does_not_decide_the_colours() -> None:
    """The only thing of its colour is under what was put there: nothing else may take on the colour put there."""
    values = texture(np.random.default_rng(6)) * (0.9, 0.9, 0.4)
    values[100:260, 150:330] = texture(np.random.default_rng(7), 180, 160) * (0.9, 0.7, 0.0) + (20, 10, 0)
    original = picture(values)
    values[100:260, 150:330] = texture(np.random.default_rng(8), 180, 160) * (0.6, 0.3, 1.0)
    _, facts_found = facts(encoded(picture(values), quality=85), original)
    assert abs(facts_found["changed_percent"] - 100 * 180 * 160 / (WIDTH * HEIGHT)) <= 2


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("seed", range(4))
def test_another_photograph_of_the_scene_is_no_copy(seed: int) -> None:
    first = photographed(scene(seed, seed), 10 * seed)
    other = photographed(scene(seed, seed, shift=8), 10 * seed + 1)
    assert match(first, other) is None


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("light", [0.0, 0.15])
def test_another_photograph_of_something_flat_is_no_copy(light: float) -> None:
    """Without depth only perspective, lens and light tell."""
    flat = texture(np.random.default_rng(5), 640, 480)
    first, other = (photographed(flat, seed, 0.02, light) for seed in (1, 2))
    assert match(first, other) is None


def test_other_things_before_the_same_background_are_no_copy() -> None:
    for seed in range(trials(1, 2)):
        first, other = (photographed(scene(7, 20 + seed + 50 * place), seed * 2 + place) for place in (0, 1))
        assert match(first, other) is None


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


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("kind", [page, tiles, offer, lambda seed: picture(scene(seed, seed))])
def test_different_pictures_of_one_kind_are_no_copies(kind: Any) -> None:
    assert match(kind(1), kind(2)) is None


@pytest.mark.some_cases(3)
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 20), (5, 5), (40, 30), (400, 300)])
def test_flat_and_tiny_pictures_match_nothing(size: tuple[int, int], original: Image.Image) -> None:
    flat = Image.new("RGB", size, (120, 130, 140))
    for item, other in ((flat, flat), (flat, original), (original, flat)):
        assert match(item, other) is None


def test_hashes_alone_decide_where_there_is_too_little_to_compare() -> None:
    """Broad shapes of a few pixels: no features, and a hash of full quality."""
    small = picture(scene(4, 4)).resize((40, 30))
    (finding,) = listing.judge(read(small), [read(small.resize((20, 15)))])
    assert finding.code is FindingCode.LISTING_SAME
    assert finding.facts["pdq_distance"] is not None
    assert "changed_percent" not in finding.facts


def test_the_findings_never_identify() -> None:
    assert CODES[FindingCode.LISTING_SAME][0] is Strength.HINT
    assert CODES[FindingCode.LISTING_ALTERED][0] is Strength.INDICATES


@pytest.mark.usefixtures("afresh")
def test_the_same_pictures_give_the_same_facts_whatever_the_machine_was_doing(original: Image.Image) -> None:
    claim, other = read(stained(original, 0.05)), read(original)
    first = listing.judge(claim, [other])
    threads = cv2.getNumThreads()
    answers: list[Any] = []
    try:
        cv2.setNumThreads(3)
        cv2.setRNGSeed(12345)
        workers = [
            threading.Thread(target=lambda: answers.append(listing.judge(claim, [other]))) for _ in range(trials(2, 3))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(threads)
    assert answers == [first] * len(workers)


def test_threads_are_given_back_after_an_error() -> None:
    before = cv2.getNumThreads()
    with pytest.raises(ValueError, match="stop"), registration.one_thread():
        raise ValueError("stop")
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("seed", range(4))
def test_places_without_a_map_register_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = np.repeat(random.uniform(0, 500, (1, 2)), 40, axis=0).astype(np.float32)
    line = np.column_stack([np.arange(40.0), np.arange(40.0)]).astype(np.float32)
    free = random.uniform(0, 500, (40, 2)).astype(np.float32)
    folded = (free * (-1, 1)).astype(np.float32)
    for pairs in ((first, first), (first, free), (free, first), (line, free), (free, folded), (free[:3], free[:3])):
        assert registration.register(pairs) is None
