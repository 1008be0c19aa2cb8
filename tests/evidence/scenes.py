"""Scenes made by code, copies of pictures as people make them, and photographs taken of one scene again."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from tests.evidence.files import saved

WIDTH, HEIGHT = 480, 360
Floats = NDArray[np.float64]
Change = Callable[[Image.Image], Image.Image]


def texture(random: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> Floats:
    """Something with structure at every size, in colour."""
    values: Floats = np.zeros((height, width, 3))
    for octave in range(6):
        columns = 2 ** (octave + 2)
        noise = random.normal(0, 1, (max(2, columns * height // width), columns, 3))
        grown = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
        values += grown * 40 / 1.6**octave
    clipped: Floats = np.clip(values + random.uniform(60, 190, 3), 0, 255)
    return clipped


def scene(background: int, objects: int, count: int = 5, shift: float = 0.0) -> Floats:
    """Things before a background, each by its seed. With `shift`, seen from elsewhere: what is nearer moves by as much
    in pixels, what is farther by less."""
    values = texture(np.random.default_rng(background))
    random = np.random.default_rng(objects)
    for number in range(count):
        size = int(random.uniform(0.1, 0.2) * WIDTH)
        left, top = (int(random.uniform(0, whole - size)) for whole in (WIDTH, HEIGHT))
        cover, thing = np.zeros((HEIGHT, WIDTH), np.uint8), texture(random, size, size)
        moved = np.array([[1, 0, left + shift * (number + 1) / count], [0, 1, top + shift * 0.4]])
        shape = np.zeros((size, size), np.uint8)
        cv2.ellipse(shape, (size // 2, size // 2), (size // 2 - 1, size // 3), 30.0 * number, 0, 360, 255, -1)
        cover = cv2.warpAffine(shape, moved, (WIDTH, HEIGHT)).astype(np.uint8)
        values = np.where(cover[:, :, None] > 127, cv2.warpAffine(thing, moved, (WIDTH, HEIGHT)), values)
    return values


def picture(values: Floats) -> Image.Image:
    """Values as a picture."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def photographed(values: Floats, seed: int, perspective: float = 0.02, light: float = 0.15) -> Image.Image:
    """A photograph of a scene, from a place and in a light of its own. The corners move by up to `perspective` of the
    side, brightness falls by up to `light` to one side; the lens bends, the sensor makes noise."""
    random = np.random.default_rng(seed)
    height, width = values.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = (corners + random.uniform(-perspective, perspective, (4, 2)) * (width, height)).astype(np.float32)
    seen = cv2.warpPerspective(values, cv2.getPerspectiveTransform(corners, moved), (width, height), borderMode=2)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = (across - width / 2) / width, (down - height / 2) / width
    bent = 1 + random.uniform(-0.01, 0.01) * (u * u + v * v) * 4
    seen = cv2.remap(seen, u * bent * width + width / 2, v * bent * width + height / 2, cv2.INTER_LINEAR, borderMode=2)
    slope = 1 + 2 * (random.uniform(-light, light) * u + random.uniform(-light, light) * v)
    seen = cv2.GaussianBlur(seen * slope[:, :, None] * random.uniform(0.9, 1.1, 3), (0, 0), 0.7)
    return encoded(picture(seen + random.normal(0, 4, seen.shape)), quality=88)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> Image.Image:
    """A picture saved and opened again."""
    return Image.open(io.BytesIO(saved(image.convert("RGB"), kind, **options))).convert("RGB")


def resized(image: Image.Image, scale: float) -> Image.Image:
    """A picture of another size."""
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, area: float) -> Image.Image:
    """This share of the area, not from the middle."""
    width, height = round(image.width * area**0.5), round(image.height * area**0.5)
    left, top = (image.width - width) * 2 // 5, (image.height - height) * 3 // 5
    return image.crop((left, top, left + width, top + height))


def screenshot(image: Image.Image) -> Image.Image:
    """A page with the picture on it."""
    small = resized(image, 0.6)
    page = Image.new("RGB", (round(small.width * 1.2), round(small.height * 1.5)), (245, 245, 245))
    ImageDraw.Draw(page).rectangle((0, 0, page.width, page.height // 12), fill=(30, 30, 30))
    page.paste(small, (small.width // 10, small.height // 4))
    return page


def written_on(image: Image.Image) -> Image.Image:
    """A line of text across the picture."""
    marked = image.copy()
    size = max(8, image.height // 10)
    ImageDraw.Draw(marked).text((image.width // 10, image.height * 2 // 5), "BROKEN!", fill="red", font_size=size)
    return encoded(marked, quality=85)


def _region(image: Image.Image, area: float) -> tuple[int, int, int, int]:
    width, height = round(image.width * area**0.5), round(image.height * area**0.5)
    left, top = (image.width - width) // 3, (image.height - height) // 2
    return left, top, left + width, top + height


def stained(image: Image.Image, area: float) -> Image.Image:
    """A dark stain with soft edges."""
    cover = Image.new("L", image.size)
    ImageDraw.Draw(cover).ellipse(_region(image, area * 1.27), fill=215)
    changed = image.copy()
    changed.paste((90, 50, 20), mask=cover.filter(ImageFilter.GaussianBlur(image.width / 150)))
    return encoded(changed, quality=85)


def covered(image: Image.Image, area: float) -> Image.Image:
    """Something else put there."""
    left, top, right, bottom = _region(image, area)
    changed = image.copy()
    changed.paste(picture(texture(np.random.default_rng(99), right - left, bottom - top)), (left, top))
    return encoded(changed, quality=80)


def blurred(image: Image.Image, area: float) -> Image.Image:
    """A region made unclear."""
    region = _region(image, area)
    changed = image.copy()
    changed.paste(image.crop(region).filter(ImageFilter.GaussianBlur(image.width / 50)), region)
    return encoded(changed, quality=85)


COPIES: dict[str, Change] = {
    "resized to 60 %, JPEG": lambda image: encoded(resized(image, 0.6), quality=75),
    "JPEG of quality 40": lambda image: encoded(image, quality=40),
    "WebP": lambda image: encoded(image, "WEBP", quality=80),
    "screenshot with borders": screenshot,
    "cropped to 80 %": lambda image: encoded(cropped(image, 0.8), quality=85),
    "mirrored": lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=85),
    "brighter by 30 %": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "turned by 90 degrees": lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90), quality=85),
    "resized to 25 %, JPEG": lambda image: encoded(resized(image, 0.25), quality=75),
    "cropped to 30 %": lambda image: encoded(cropped(image, 0.3), quality=85),
    "turned by 3 degrees": lambda image: encoded(image.rotate(3, Image.Resampling.BICUBIC), quality=85),
}
"""What leaves the content as it is."""

ALTERATIONS: dict[str, Change] = {
    "text written on it": written_on,
    "stain on 5 %": lambda image: stained(image, 0.05),
    "stain on 22 %": lambda image: stained(image, 0.22),
    "another thing on 10 %": lambda image: covered(image, 0.10),
    "another thing on 25 %": lambda image: covered(image, 0.25),
    "blurred on 20 %": lambda image: blurred(image, 0.20),
    "stain on 5 %, cropped, resized, mirrored": lambda image: encoded(
        resized(cropped(stained(image, 0.05), 0.7), 0.6).transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=60
    ),
}
"""What changes the content, and perhaps the rest as well."""
