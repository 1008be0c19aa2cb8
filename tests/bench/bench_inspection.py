"""How long an inspection takes, against decoding the same picture: a 12-megapixel JPEG as a phone makes it.

The picture has EXIF with a thumbnail and an XMP packet, so that every part of an inspection has work to do, and noise
like a sensor's. With a C2PA manifest a process of its own is started to read it; that row stands apart. The listing
rows compare such a photo with the one it was made from, and with another one, against a second, the target for a pair.
Repeats of both sides alternate, and the best of each counts.

    python -m tests.bench inspection
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.listing import match as listings
from tests.evidence import files
from tests.evidence.scenes import picture, stained, texture
from tests.evidence.signed import certificate, created, sign

WIDTH, HEIGHT = 4000, 3000
TARGET = 1.5
PAIR_MS = 1000
REPEATS = 9


def run(repeats: int = REPEATS) -> list[dict[str, Any]]:
    """Rows {name, ours, baseline, ratio, unit, target, met}; `ratio` = ours / baseline, at most the target."""
    plain = photo()
    signed = sign(plain, "image/jpeg", [created("digitalCapture")], **certificate())
    rows = [_row("EXIF, thumbnail, XMP", plain, repeats), _row("and a C2PA manifest", signed, repeats)]
    original = picture(texture(np.random.default_rng(1), WIDTH, HEIGHT))
    copy, other = stained(original, 0.05), picture(texture(np.random.default_rng(2), WIDTH, HEIGHT))
    listing = files.saved(original, "JPEG", quality=90)
    return rows + [
        _pair_row(what, files.saved(claim, "JPEG", quality=90), listing, max(1, repeats // 3))
        for what, claim in (("an altered copy", copy), ("another picture", other))
    ]


def photo() -> bytes:
    """The JPEG."""
    random = np.random.default_rng(2025)
    across, down = np.meshgrid(np.linspace(0, 6, WIDTH), np.linspace(0, 5, HEIGHT))
    shapes = 110 + 60 * np.sin(across * 2) * np.cos(down * 3)
    noise = random.normal(0, 5, (HEIGHT, WIDTH, 3))
    pixels = np.clip(shapes[:, :, None] * np.array([1.0, 0.9, 0.8]) + noise, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    thumbnail = files.saved(image.resize((160, 120)), "JPEG")
    block = files.exif({0x010F: b"Phone", 0x0110: b"One"}, size=(WIDTH, HEIGHT), thumbnail=thumbnail)
    return files.jpeg(
        files.exif_segment(block), files.xmp_segment(files.source_packet("digitalCapture")), image=image, quality=90
    )


def _decode(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def _row(what: str, data: bytes, repeats: int) -> dict[str, Any]:
    sides: list[Callable[[], object]] = [lambda: inspect_bytes(data), lambda: _decode(data)]
    best = [float("inf")] * 2
    for _ in range(repeats):
        for side, task in enumerate(sides):
            start = time.perf_counter()
            task()
            best[side] = min(best[side], time.perf_counter() - start)
    ratio = best[0] / best[1]
    return {
        "name": f"inspecting a 12-megapixel JPEG of {len(data) / 2**20:.1f} MiB ({what}), against decoding it",
        "ours": round(1000 * best[0], 1),
        "baseline": round(1000 * best[1], 1),
        "ratio": round(ratio, 3),
        "unit": "ms",
        "target": TARGET,
        "met": ratio <= TARGET,
    }


def _pair_row(what: str, claim: bytes, listing: bytes, repeats: int) -> dict[str, Any]:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        listings.judge(listings.photo(claim), [listings.photo(listing)])
        best = min(best, time.perf_counter() - start)
    return {
        "name": f"comparing a 12-megapixel JPEG with a listing photo of that size ({what}), against the time allowed",
        "ours": round(1000 * best),
        "baseline": PAIR_MS,
        "ratio": round(1000 * best / PAIR_MS, 3),
        "unit": "ms",
        "target": 1.0,
        "met": 1000 * best <= PAIR_MS,
    }


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, NumPy {np.__version__}")
    for row in run():
        print(row)
