"""PDQ against the reference implementation's hashes of synthetic pictures, and against altered pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ledger.errors import PictureUnfit, PictureUnreadable
from ledger.evidence.perceptual_hash import pdq, pixels
from ledger.evidence.perceptual_hash.pixels import open_picture
from ledger.rules.pictures import MAX_DISTANCE, distance
from tests.support import SHARED

IMAGES = SHARED / "data" / "images"


def scene(rows: int, columns: int, seed: int = 1) -> NDArray[np.uint8]:
    """Discs and slopes, the same on every machine: integers only."""
    y, x = (
        (places * 1000 // length).astype(np.int32)
        for places, length in zip(np.ogrid[0:rows, 0:columns], (rows, columns), strict=True)
    )
    shade = (x * 3 + y * 5 + seed * 37) % 256
    for number in range(1, 14):
        at = (number * 379 * seed) % 1000, (number * 611 + seed * 97) % 1000
        inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 < (30 + number * 9) ** 2
        shade = np.where(inside, (number * 83) % 256, shade)
    return np.stack([shade, shade[::-1], (shade + 90) % 256], axis=-1).astype(np.uint8)


def luma(rows: int, columns: int, seed: int = 1) -> NDArray[np.float32]:
    brightness: NDArray[np.float32] = scene(rows, columns, seed).astype(np.float32) @ np.array(
        [0.299, 0.587, 0.114], "f4"
    )
    return brightness


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


REFERENCE = {
    (64, 64, 1): ("d846b1c661f3e30ca7ccaf2b181a9cd036637944b69ae73bcf1c52ce24a73c32", 100),
    (480, 640, 1): ("9b64b0c661e3c308a65c4d33183abcd174e37b44b49acf3b8f1cd2ce64a73c72", 100),
    (512, 512, 2): ("b3b69df796ac812011686a0f6933677337b2c116b0b21f3749af0ca9e0e9965e", 100),
    (211, 300, 3): ("6925128767a1ace4f5c99c9afc17f12138c3c73e84fca27cc4544adb525b39c6", 100),
    (130, 65, 4): ("8e8b0ff20db0f704db24eb4bcbc999373859901391936efc1b7c676cb024b3a4", 100),
    (17, 900, 5): ("976e2434a6159a4b7c38f34ef219e496a3bef539f4c700a9018bf1bbc434c996", 100),
    (1200, 900, 6): ("350b9f2ec79294f4d1a966e50b72c4c9b0ee681a3538952fee931a644fa986e3", 100),
    (5, 5, 7): ("3b0e64d9c4f19b2661d8c6f16b5a390e962764d93b0e64d9c4f19b2661d8c6f1", 100),
}
"""(rows, columns, seed): what the reference implementation (C++, compiled apart) says of `luma`: hash and quality."""


@pytest.mark.parametrize("size", REFERENCE)
def test_the_reference_says_the_same(size: tuple[int, int, int]) -> None:
    expected, quality = REFERENCE[size]
    computed = pdq.hash_luma(luma(*size))
    # Sums in double precision round otherwise than its single precision: a bit at the median may fall either way.
    assert distance(computed.bits, bytes.fromhex(expected)) <= 2
    assert abs(computed.quality - quality) <= 1


def test_a_picture_stays_the_same_when_it_is_shrunk_or_encoded_again() -> None:
    image = Image.fromarray(scene(900, 1200))
    original = pdq.hash_bytes(encoded(image))
    assert original.usable
    shrunk = image.resize((720, 540))
    for data in (encoded(image, "JPEG", quality=60), encoded(shrunk, "JPEG", quality=80), encoded(shrunk, "WEBP")):
        assert distance(pdq.hash_bytes(data).bits, original.bits) <= MAX_DISTANCE
    other = pdq.hash_bytes(encoded(Image.fromarray(scene(900, 1200, 5))))
    assert distance(other.bits, original.bits) > MAX_DISTANCE


def test_it_is_hashed_as_it_is_shown() -> None:
    image = Image.fromarray(scene(600, 800))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    assert distance(pdq.hash_bytes(lying).bits, pdq.hash_bytes(encoded(image)).bits) <= MAX_DISTANCE
    layer = image.convert("RGBA")
    layer.putalpha(0)
    assert pdq.hash_bytes(encoded(layer)).quality == 0


def test_a_flat_picture_is_not_used() -> None:
    computed = pdq.hash_bytes(encoded(Image.new("RGB", (300, 300), "grey")))
    assert computed.quality == 0
    with pytest.raises(PictureUnfit) as caught:
        computed.need_usable()
    assert caught.value.details["quality"] == 0
    assert pdq.hash_bytes(encoded(Image.new("RGB", (4, 300)))) == pdq.Pdq(bytes(32), 0)
    with pytest.raises(PictureUnfit):
        pdq.hash_luma(np.zeros((4, 9), np.float32))


def test_what_is_no_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(Image.fromarray(scene(90, 90)))
    for bad in (b"", b"GIF89a", good[: len(good) // 2], b"\x89PNG\r\n\x1a\n" + bytes(99)):
        with pytest.raises(PictureUnreadable):
            pdq.hash_bytes(bad)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 90 * 90 - 1)
    with pytest.raises(PictureUnreadable, match="pixels"):
        pdq.hash_bytes(good)
    monkeypatch.setattr(pixels, "MAX_FILE_BYTES", 10)
    with pytest.raises(PictureUnreadable, match="large"):
        pdq.hash_bytes(good)


@pytest.mark.skipif(not IMAGES.is_dir(), reason="the real pictures are not beside this checkout")
@pytest.mark.parametrize("name", ["DSCN0010.jpg", "chatgpt.png", "firefly.png"])
def test_real_pictures_survive_a_resize_to_60_per_cent(name: str) -> None:
    data = (IMAGES / name).read_bytes()
    image = open_picture(data).image
    small = image.resize((image.width * 6 // 10, image.height * 6 // 10))
    before, after = pdq.hash_bytes(data), pdq.hash_bytes(encoded(small, "JPEG", quality=75))
    assert before.usable
    assert distance(before.bits, after.bits) <= MAX_DISTANCE
