"""What a file is: honest files of every type, and all the ways of pretending."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from ledger.errors import AttachmentRefused
from ledger.server.appeals.attachments import check_file
from ledger.server.appeals.file_types import EXTENSIONS
from ledger.server.settings import Settings
from tests.counts import trials

SETTINGS = Settings(database_url="sqlite:///unused.db")
PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\nstartxref\n9\n%%EOF\n"


def picture(form: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def moving(form: str, frames: int) -> bytes:
    shades = [Image.new("RGB", (16, 16), (9 * number, 0, 0)) for number in range(frames)]
    target = io.BytesIO()
    shades[0].save(target, form, save_all=True, append_images=shades[1:])
    return target.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def film(brand: bytes = b"isom") -> bytes:
    return box(b"ftyp", brand + bytes(4) + b"isomavc1") + box(b"moov", bytes(100)) + box(b"mdat", bytes(500))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def archive(head: bytes = b"") -> bytes:
    target = io.BytesIO()
    target.write(head)
    with zipfile.ZipFile(target, "a") as file:
        file.writestr("a.class", b"\xca\xfe\xba\xbe" * 50)
    return target.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


HONEST: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg": ("image/jpeg", lambda: picture("JPEG")),
    "progressive": ("image/jpeg", lambda: picture("JPEG", progressive=True)),
    "with restarts": ("image/jpeg", lambda: picture("JPEG", restart_marker_blocks=2)),
    "with a trailer, as phones append": ("image/jpeg", lambda: picture("JPEG") + b"SEFT" + bytes(900)),
    "two pictures in one JPEG": ("image/jpeg", lambda: moving("MPO", 2)),
    "png": ("image/png", lambda: picture("PNG")),
    "moving png": ("image/png", lambda: moving("PNG", 3)),
    "webp": ("image/webp", lambda: picture("WEBP")),
    "lossless webp": ("image/webp", lambda: picture("WEBP", lossless=True)),
    "webp with metadata": ("image/webp", lambda: picture("WEBP", exif=Image.Exif().tobytes() + bytes(21))),
    "moving webp": ("image/webp", lambda: moving("WEBP", 3)),
    "pdf": ("application/pdf", lambda: PDF),
    "mp4": ("video/mp4", film),
    "mp4 of a phone": ("video/mp4", lambda: film(b"mp42")),
    "text": ("text/plain", lambda: "Tracking 12\t3 < 4\r\n包裹没有到。".encode()),
    "text with a byte order mark": ("text/plain", lambda: b"\xef\xbb\xbfHello"),
}

PHOTO = picture("JPEG")
DAMAGED: dict[str, tuple[str, bytes]] = {
    "nothing": ("empty", b""),
    "zip": ("type_not_taken", archive()),
    "exe": ("type_not_taken", b"MZ\x90\x00" + bytes(200)),
    "gif": ("type_not_taken", moving("GIF", 2)),
    "gif that is text": ("type_not_taken", b"GIF89a/*"),
    "bmp": ("type_not_taken", picture("BMP")),
    "tiff": ("type_not_taken", picture("TIFF")),
    "avif": ("type_not_taken", film(b"avif")),
    "heic": ("type_not_taken", film(b"heic")),
    "quicktime": ("type_not_taken", film(b"qt  ")),
    "gzip": ("type_not_taken", b"\x1f\x8b\x08" + bytes(50)),
    "utf-16": ("type_not_taken", "hello there".encode("utf-16")),
    "gbk": ("type_not_taken", "包裹没有到".encode("gbk")),
    "rich text": ("type_not_taken", b"{\\rtf1 hello}"),
    "html": ("markup", b"\n <html><script>alert(1)</script>"),
    "svg": ("markup", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    "xml behind a mark": ("markup", b"\xef\xbb\xbf<?xml version='1.0'?><svg/>"),
    "comment": ("markup", b"<!-- --><script>alert(1)</script>"),
    "terminal escape": ("not_plain_text", b"hello \x1b[2J"),
    "c1 control": ("not_plain_text", "a\x9bb".encode()),
    "html before a photo": ("type_not_taken", b"<html>" + PHOTO),
    "photo inside a gif": ("type_not_taken", b"GIF89a" + PHOTO),
    "jar behind a gif": ("type_not_taken", archive(moving("GIF", 2))),
    "jar behind a photo": ("polyglot", archive(PHOTO)),
    "zip behind a pdf": ("polyglot", archive(PDF)),
    "zip in a png": ("polyglot", archive(picture("PNG"))),
    "half a photo": ("broken", PHOTO[: len(PHOTO) // 2]),
    "photo without its end": ("broken", PHOTO[:-2]),
    "head of a photo": ("broken", b"\xff\xd8\xff\xe0"),
    "photo without a frame": ("broken", b"\xff\xd8" + segment(0xE0, b"JFIF\0") + b"\xff\xd9"),
    "photo with a segment beyond its end": ("broken", b"\xff\xd8\xff\xe0\xff\xff" + bytes(30)),
    "photo of no width": ("broken", b"\xff\xd8" + segment(0xC0, b"\x08\0\x10\0\0\x01\x01\x11\0") + b"\xff\xd9"),
    "half a png": ("broken", picture("PNG")[:-30]),
    "png with a wrong checksum": ("broken", png(10, 10)[:-14] + b"\0\0" + png(10, 10)[-12:]),
    "png with more behind it": ("broken", picture("PNG") + b"<script>"),
    "png without pixels": ("broken", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b"")),
    "half a webp": ("broken", picture("WEBP")[:-10]),
    "webp of another size": ("broken", picture("WEBP") + bytes(10)),
    "webp of nothing": ("broken", b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0"),
    "half a pdf": ("broken", PDF[:60]),
    "half a film": ("broken", film()[:-100]),
    "film without a film": ("broken", box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", bytes(50))),
    "film with a box of no size": ("broken", box(b"ftyp", b"isom" + bytes(4)) + b"\0\0\0\x04moov"),
    "png of too many pixels": ("too_many_pixels", png(60_000, 60_000)),
    "photo of too many pixels": (
        "too_many_pixels",
        b"\xff\xd8" + segment(0xC0, b"\x08\xff\xff\xff\xff\x01\x01\x11\0") + b"\xff\xd9",
    ),
    "webp of too many pixels": (
        "too_many_pixels",
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\xff" + b"\xff\xff\xff",
    ),
    "frames that add up": (
        "too_many_pixels",
        png(5_000, 1_000, chunk(b"acTL", struct.pack(">II", 12, 0))),
    ),
    "png of many frames": ("too_many_frames", png(1, 1, chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)))),
    "webp film": ("too_many_frames", moving("WEBP", 20)),
    "more photos than one": ("too_many_frames", moving("MPO", 20)),
}


REASONS = {expected for expected, _ in DAMAGED.values()} | {"too_large"}


def reason(data: bytes, settings: Settings = SETTINGS) -> object:
    with pytest.raises(AttachmentRefused) as refusal:
        check_file(data, "file", settings)
    return refusal.value.details["reason"]


@pytest.mark.parametrize("name", HONEST)
def test_honest_files_are_taken(name: str) -> None:
    media_type, make = HONEST[name]
    checked = check_file(make(), "file", SETTINGS)
    assert checked.media_type == media_type
    assert checked.name == "file" + EXTENSIONS[media_type][0]
    if media_type.startswith("image/"):
        assert (checked.width_px, checked.height_px) in {(64, 48), (16, 16)}
    else:
        assert checked.width_px is checked.height_px is None


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_refused_and_why(name: str) -> None:
    expected, data = DAMAGED[name]
    assert reason(data) == expected


def test_limits_are_the_settings() -> None:
    small = SETTINGS.model_copy(update={"attachment_limit_bytes": 1024, "attachment_pixels_max": 64 * 48})
    assert reason(b"a" * 1025, small) == "too_large"
    assert check_file(b"a" * 1024, "a", small).size_bytes == 1024
    assert check_file(png(64, 48), "a", small).width_px == 64
    assert reason(png(64, 49), small) == "too_many_pixels"


def cost(data: bytes) -> tuple[float, int]:
    """(seconds of processor time, peak bytes) of checking `data`, whatever comes out."""
    tracemalloc.start()
    started = time.process_time()
    try:
        check_file(data, "bomb", SETTINGS)
    except AttachmentRefused:
        pass
    finally:
        seconds = time.process_time() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return seconds, peak


FULL = SETTINGS.attachment_limit_bytes
JPEG_END = segment(0xC0, b"\x08\0\x10\0\x10\x01\x01\x11\0") + segment(0xDA, bytes(8)) + b"\xff\xd9"
BOMBS: dict[str, Callable[[], bytes]] = {
    "fill bytes": lambda: b"\xff\xd8" + b"\xff" * (FULL - 100) + JPEG_END[1:],
    "fill bytes in a scan": lambda: b"\xff\xd8" + JPEG_END[:-2] + b"\xff" * (FULL - 100) + b"\0",
    "stuffed zeros": lambda: b"\xff\xd8" + JPEG_END[:-2] + b"\xff\0" * (FULL // 2 - 50) + b"\xff\xd9",
    "tiny segments": lambda: b"\xff\xd8" + segment(0xFE, b"") * (FULL // 4 - 50) + JPEG_END,
    "exif in pieces": lambda: b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + bytes(10_400)) * 990 + JPEG_END,
    "tiny chunks": lambda: png(9, 9, chunk(b"tEXt", b"a\0b") * (FULL // 15 - 50)),
    "compressed text": lambda: png(9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1))) * 900),
    "compressed profile": lambda: png(9, 9, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26)))),
    "tiny boxes": lambda: box(b"ftyp", b"isom" + bytes(4)) + box(b"free", b"") * (FULL // 8 - 50) + box(b"moov", b""),
    "tiny riff chunks": lambda: b"RIFF" + struct.pack("<I", FULL - 8) + b"WEBP" + b"ANMF\0\0\0\0" * ((FULL - 12) // 8),
    "webp canvas": lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\x6d\x1b\0" + b"\x6d\x1b\0",
    "pdf heads": lambda: b"%PDF-1.7\n" * (FULL // 9),
    "spaces": lambda: b" " * FULL,
    "ends of archives": lambda: PHOTO + b"PK\x05\x06" * 500_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_file_costs_no_more_than_an_honest_one(name: str) -> None:
    seconds, peak = cost(BOMBS[name]())
    assert seconds < 3  # tracing allocations makes everything several times slower
    assert peak < 100 * 2**20


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "mp4", "pdf", "two pictures in one JPEG", "moving webp"])
def test_every_cut_and_every_flip_ends_in_an_answer(name: str) -> None:
    """Exhaustive where the headers are, sampled behind them; only two outcomes exist."""
    whole = HONEST[name][1]()
    draw = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(min(len(data), 600))] = draw.randrange(256)
        answer(bytes(data[: draw.randint(1, len(data))] if draw.random() < 0.3 else data))


@hypothesis_settings(max_examples=trials(36, 3000))
@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP", b"%PDF-1.4\n", b"\0\0\0\x10ftypisom", b""]
    ),
    st.binary(max_size=300),
)
def test_arbitrary_bytes_end_in_an_answer(head: bytes, rest: bytes) -> None:
    answer(head + rest)


def answer(data: bytes) -> None:
    """That `data` is either taken as one of the six types or refused with a reason."""
    outcome: object
    try:
        outcome = check_file(data, "x", SETTINGS).media_type
    except AttachmentRefused as refusal:
        outcome = refusal.details["reason"]
    assert outcome in EXTENSIONS or outcome in REASONS
