"""What PDQ and the listing match make of the pictures in a folder and of altered copies of them, as Markdown.

python -m tests.evidence.measured FOLDER
"""

from __future__ import annotations

import itertools
import statistics
import sys
from pathlib import Path

from PIL import Image

from ledger.evidence.listing.match import Photo, matches, photo
from ledger.rules.pictures import MAX_DISTANCE, MIN_QUALITY, distance
from tests.evidence.files import saved
from tests.evidence.scenes import ALTERATIONS, COPIES, photographed, scene

AGAIN = 40
"""Scenes made by code that are photographed twice."""

MIN_SIDE = 400
"""Smaller pictures are counted apart: there is too little in them for small changes."""


def table(folder: Path) -> str:
    """The tables, ready for the page."""
    originals = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png")}
    images = {name: Image.open(folder / name).convert("RGB") for name in originals}
    photos = {name: photo(data) for name, data in originals.items()}
    usable = [name for name, item in photos.items() if item.pdq.usable]
    large = [name for name in images if min(images[name].size) >= MIN_SIDE]
    lines = [
        f"| copy | PDQ distance, median | largest | at most {MAX_DISTANCE} | listing match, of {len(large)} large "
        f"| of {len(images) - len(large)} small |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, change in {**COPIES, **ALTERATIONS}.items():
        copies = {name: photo(saved(change(image), "PNG")) for name, image in images.items()}
        distances = [distance(copies[name].pdq.bits, photos[name].pdq.bits) for name in usable]
        near = sum(item <= MAX_DISTANCE for item in distances)
        hits = {name: _verdict(copies[name], photos[name]) for name in images}
        rows = (_count([hits[name] for name in images if (name in large) is item]) for item in (True, False))
        median = f"{statistics.median(distances):.0f}"
        lines.append(f"| {what} | {median} | {max(distances)} | {near} of {len(usable)} | {' | '.join(rows)} |")
    pairs = list(itertools.permutations(photos, 2))
    wrong = sum(_verdict(photos[pair], photos[other]) != "" for pair, other in pairs)
    nearest = min(distance(photos[pair].pdq.bits, photos[other].pdq.bits) for pair, other in pairs)
    lines += ["", f"Different pictures, {len(pairs)} ordered pairs: {wrong} matches; least PDQ distance {nearest}."]
    again = sum(_verdict(*_photographed_twice(seed)) != "" for seed in range(AGAIN))
    lines.append(f"Scenes photographed twice, from two places: {again} of {AGAIN} matched.")
    unfit = [f"`{name}` ({photos[name].pdq.quality})" for name in photos if name not in usable]
    lines.append(f"Quality below {MIN_QUALITY}, never used: {', '.join(unfit) or 'none'}.")
    return "\n".join(lines) + "\n"


def _photographed_twice(seed: int) -> tuple[Photo, Photo]:
    """A scene seen twice, from a little aside."""
    here, there = (photographed(scene(seed, seed, shift=shift), seed + shift) for shift in (0, 6))
    return photo(saved(here, "PNG")), photo(saved(there, "PNG"))


def _verdict(claim: Photo, listing: Photo) -> str:
    (match,) = matches(claim, [listing])
    return "" if match is None else "altered" if match.altered else "same"


def _count(verdicts: list[str]) -> str:
    said = [f"{verdicts.count(item)} {item}" for item in ("same", "altered") if item in verdicts]
    return ", ".join(said) or "none"


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])))
