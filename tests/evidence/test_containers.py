"""Containers: types by content, limits, damage. What is not read is always said."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import (
    EvidenceFormatUnknown,
    EvidenceMalformed,
    EvidenceTooLarge,
    EvidenceUnreadable,
    InspectionInvalid,
)
from ledger.evidence import inspection, limits
from ledger.evidence.formats.containers import EXTENSIONS, media_type, read
from ledger.evidence.formats.metadata import BlockType, NoteCode
from ledger.evidence.inspection import inspect_bytes, inspect_file
from ledger.rules.findings import FindingCode
from tests.counts import trials
from tests.evidence import files
from tests.evidence.files import LABEL

N = NoteCode
THUMBNAIL = files.saved(files.picture(32, 24), "JPEG")
RICH_EXIF = files.exif(
    {0x010F: b"Canon", 0x0131: b"GIMP"}, comment=b"ASCII\0\0\0" + LABEL.encode(), thumbnail=THUMBNAIL
)
SMALL = {
    "image/jpeg": files.jpeg(files.exif_segment(RICH_EXIF), files.xmp_segment(files.label_packet())),
    "image/png": files.png(
        files.chunk(b"eXIf", RICH_EXIF), files.compressed_chunk("AIGC", LABEL.encode()), image=files.picture(8, 8)
    ),
    "image/webp": files.webp(
        files.riff_chunk(b"EXIF", RICH_EXIF), files.riff_chunk(b"XMP ", files.label_packet()), flags=12
    ),
    "image/heic": files.heic(RICH_EXIF, files.label_packet()),
    "image/avif": files.heic(RICH_EXIF, files.label_packet(), brand=b"avif", in_idat=True),
    "video/mp4": files.mp4(files.keys_meta({"AIGC": LABEL, "com.apple.quicktime.software": "CapCut"})),
    "video/quicktime": files.mp4(files.box(b"\xa9swr", b"\0\6\0\0CapCut"), brand=b"qt  "),
}


def notes(data: bytes, name: str | None = None) -> list[NoteCode]:
    return [note.code for note in inspect_bytes(data, name).notes]


@pytest.mark.parametrize("kind", SMALL)
def test_the_type_is_what_the_bytes_say(kind: str) -> None:
    data = SMALL[kind]
    assert media_type(data) == kind
    good, bad = f"claim{EXTENSIONS[kind][0].upper()}", "claim.txt"
    assert N.EXTENSION_DIFFERS not in notes(data, good)
    assert N.EXTENSION_DIFFERS in notes(data, bad)
    assert inspect_bytes(data, bad).findings == inspect_bytes(data, good).findings


@pytest.mark.parametrize("kind", SMALL)
def test_the_size_is_read(kind: str) -> None:
    receipt = inspect_bytes(SMALL[kind])
    expected = {"image/png": (8, 8), "video/mp4": (640, 480), "video/quicktime": (640, 480)}.get(kind, (64, 48))
    assert (receipt.width_px, receipt.height_px) == expected
    assert receipt.complete


@pytest.mark.parametrize("kind", SMALL)
def test_cut_off_anywhere_it_is_a_clear_error_or_a_partial_result(kind: str) -> None:
    """Each third place, with LONG_TESTS=1 every place, and every place near the end. What was found in a part is also
    found in the whole."""
    data = SMALL[kind]
    whole = {finding.code for finding in inspect_bytes(data).findings}
    for end in (*range(0, len(data) - 12, trials(3, 1)), *range(len(data) - 12, len(data))):
        try:
            receipt = inspect_bytes(data[:end])
        except (EvidenceFormatUnknown, EvidenceMalformed):
            continue
        # A damaged packet still shows its label, as a defective one.
        codes = {finding.code for finding in receipt.findings} - {FindingCode.AIGC_GENERATED_DEFECTIVE}
        assert codes <= whole | {FindingCode.METADATA_REMOVED}, end
        if kind != "video/mp4" and kind != "video/quicktime":
            assert receipt.notes or end >= len(data) - 8, end


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"GIF89a", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"\0" * 64, b"<svg/>", b"PK\3\4"]
)
def test_other_types_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceFormatUnknown):
        inspect_bytes(data)


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\x10JF", files.png()[:20], SMALL["image/heic"][:30]]
)
def test_nothing_but_a_beginning_is_malformed(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed) as raised:
        inspect_bytes(data)
    assert isinstance(raised.value, InspectionInvalid)
    assert raised.value.details["media_type"]


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.jpg", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(EvidenceUnreadable):
            inspect_file(path)
    large = tmp_path / "large.jpg"
    with large.open("wb") as opened:
        opened.truncate(limits.MAX_FILE_BYTES + 1)
    with pytest.raises(EvidenceTooLarge) as raised:
        inspect_file(large)
    assert raised.value.details == {"size_bytes": limits.MAX_FILE_BYTES + 1}
    monkeypatch.setattr(inspection, "MAX_FILE_BYTES", 10)
    with pytest.raises(EvidenceTooLarge):
        inspect_bytes(b"x" * 11)


def peak_and_seconds(data: bytes) -> tuple[int, float]:
    """Memory that Python took and processor time, which other work of the machine does not change, in an inspection."""
    tracemalloc.start()
    start = time.process_time()
    try:
        inspect_bytes(data)
    finally:
        seconds = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, seconds


INFLATED_BYTES = trials(64_000_000, 200_000_000)
BOMBS: dict[str, Callable[[], list[bytes]]] = {
    "zTXt": lambda: [files.chunk(b"zTXt", b"AIGC\0\0" + zlib.compress(b"a" * INFLATED_BYTES))],
    "iTXt": lambda: [files.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"a" * INFLATED_BYTES))],
    "many": lambda: [files.compressed_chunk(f"k{number}", b"b" * 900_000) for number in range(40)],
}


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("bomb", BOMBS)
def test_inflation_bombs_cost_no_more_than_the_limit(bomb: str) -> None:
    data = files.png(*BOMBS[bomb]())
    peak, seconds = peak_and_seconds(data)
    assert peak < 40 * 2**20 < INFLATED_BYTES
    assert seconds < 10
    assert N.PIECE_TOO_LARGE in notes(data)


def test_a_picture_that_claims_to_be_huge_is_not_decoded() -> None:
    data = bytearray(files.jpeg(files.exif_segment(files.exif({}, thumbnail=THUMBNAIL))))
    frame = data.rindex(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    peak, seconds = peak_and_seconds(bytes(data))
    assert peak < 20 * 2**20
    assert seconds < 5
    assert N.PIXELS_NOT_COMPARED in notes(bytes(data))


def test_a_jpeg_of_thousands_of_scans_is_not_decoded() -> None:
    plain = files.saved(files.picture(), "JPEG", progressive=True)
    start = plain.rindex(b"\xff\xda")
    scan = plain[start:-2]
    data = plain[:2] + files.exif_segment(files.exif({}, thumbnail=THUMBNAIL)) + plain[2:-2] + scan * 900 + plain[-2:]
    _, seconds = peak_and_seconds(data)
    assert seconds < 5
    assert N.PIXELS_NOT_COMPARED in notes(data)


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (lambda: files.jpeg(*[files.segment(0xFE, b"x")] * 1_100), N.LIMIT_REACHED),
        (lambda: files.jpeg(*[files.segment(0xFE, b"x")] * 300), N.LIMIT_REACHED),
        (lambda: files.png(*[files.chunk(b"teST", b"")] * 50_100), N.LIMIT_REACHED),
        (lambda: files.webp(files.riff_chunk(b"junk", b"") * 50_100), N.LIMIT_REACHED),
        (lambda: files.mp4(*[files.box(b"free")] * 20_100), N.LIMIT_REACHED),
        (lambda: files.png(files.chunk(b"eXIf", b"x" * (limits.MAX_EXIF_BYTES + 1))), N.PIECE_TOO_LARGE),
        (lambda: files.png(files.text_chunk("k", b"x" * (limits.MAX_TEXT_BYTES + 1))), N.PIECE_TOO_LARGE),
        (lambda: files.webp(files.riff_chunk(b"XMP ", b"x" * (limits.MAX_XMP_BYTES + 1))), N.PIECE_TOO_LARGE),
        (
            lambda: files.webp(files.riff_chunk(b"XMP ", b"<a>" + b"<b/>" * trials(20_000, 500_000) + b"</a>") * 40),
            N.LIMIT_REACHED,
        ),
        (lambda: files.webp(files.riff_chunk(b"EXIF", files.exif({0x010F: b"Phone"})) * 40), N.LIMIT_REACHED),
    ],
)
def test_limits_are_kept_and_told(make: Callable[[], bytes], note: NoteCode) -> None:
    data = make()
    start = time.perf_counter()
    assert note in notes(data)
    assert time.perf_counter() - start < 10


def test_boxes_within_boxes_end() -> None:
    deep = b""
    for _ in range(1_000):
        deep = files.box(b"udta", deep)
    assert N.LIMIT_REACHED in notes(files.mp4(deep))


def test_a_box_never_reaches_beyond_its_parent() -> None:
    """The inner box claims the label that is after its parent."""
    liar = struct.pack(">I", 60_000) + b"\xa9cmt"
    data = files.mp4(liar, top=files.box(b"free", LABEL.encode()))
    receipt = inspect_bytes(data)
    assert receipt.findings == ()
    assert N.TRUNCATED in [note.code for note in receipt.notes]


def test_a_64_bit_length_and_a_length_of_zero() -> None:
    wide = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"abcde"
    moov = files.mp4(files.keys_meta({"AIGC": LABEL}))
    assert [finding.code for finding in inspect_bytes(moov + wide).findings] == [FindingCode.AIGC_GENERATED]
    assert [finding.code for finding in inspect_bytes(moov + struct.pack(">I4s", 0, b"mdat") + b"rest").findings] == [
        FindingCode.AIGC_GENERATED
    ]


def test_itunes_items_carry_their_names() -> None:
    named = files.box(
        b"----",
        files.box(b"mean", b"\0\0\0\0com.example"),
        files.box(b"name", b"\0\0\0\0AIGC"),
        files.box(b"data", struct.pack(">II", 1, 0), LABEL.encode()),
    )
    data = files.mp4(files.box(b"meta", b"\0" * 4, files.box(b"hdlr", b"\0" * 25), files.box(b"ilst", named)))
    assert [finding.code for finding in inspect_bytes(data).findings] == [FindingCode.AIGC_GENERATED]


def test_extended_xmp_is_put_together_in_any_order() -> None:
    content = files.label_packet().ljust(70_000)
    digest = b"0123456789ABCDEF0123456789ABCDEF"

    def part(start: int, end: int) -> bytes:
        head = b"http://ns.adobe.com/xmp/extension/\0" + digest + struct.pack(">II", len(content), start)
        return files.segment(0xE1, head + content[start:end])

    main = files.xmp_segment(
        files.plain_packet(attributes=f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{digest.decode()}"')
    )
    whole = files.jpeg(main, part(40_000, 70_000), part(0, 40_000))
    assert [finding.code for finding in inspect_bytes(whole).findings] == [FindingCode.AIGC_GENERATED]
    half = inspect_bytes(files.jpeg(main, part(0, 40_000)))
    assert [finding.code for finding in half.findings] == [FindingCode.METADATA_REMOVED]
    assert N.TRUNCATED in [note.code for note in half.notes]
    assert not half.complete


@pytest.mark.parametrize("name", ["exif", "APP1", "xmp"])
def test_raw_profiles_of_imagemagick(name: str) -> None:
    profile = {
        "exif": b"Exif\0\0" + RICH_EXIF,
        "APP1": b"http://ns.adobe.com/xap/1.0/\0" + files.label_packet(),
        "xmp": files.label_packet(),
    }[name]
    text = f"\n{name}\n{len(profile):8}\n{profile.hex()}\n".encode()
    receipt = inspect_bytes(files.png(files.compressed_chunk(f"Raw profile type {name}", text)))
    assert FindingCode.AIGC_GENERATED in [finding.code for finding in receipt.findings]


@pytest.mark.parametrize(
    "attack",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/"> %p;]><x/>',
        b"<a>" * 5_000,
        b'<?xml version="1.0" encoding="made-up"?><x/>',
        b"\xff\xfe<\0x\0>",
        b"",
    ],
)
def test_xml_attacks_are_a_note(attack: bytes) -> None:
    data = files.webp(files.riff_chunk(b"XMP ", attack))
    receipt = inspect_bytes(data)
    assert receipt.findings == ()
    assert N.XMP_UNREADABLE in [note.code for note in receipt.notes]


def test_too_many_properties_end_the_packet() -> None:
    content = files.plain_packet("<I:a>b</I:a>" * 30_000)
    assert N.XMP_UNREADABLE in notes(files.webp(files.riff_chunk(b"XMP ", content)))


def directory(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + struct.pack("<I", after)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"XX*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        directory(after=8),  # the next IFD is this one
        directory((0x8769, 4, 1, 8)),  # a sub-IFD that is this one
        directory((0x010F, 2, 2**31, 8)),
        directory((0x010F, 2, 100, 60_000)),
        directory((0x0201, 4, 1, 8), (0x0202, 4, 1, 2**31)),
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 100,
    ],
)
def test_broken_exif_is_a_note(block: bytes) -> None:
    receipt = inspect_bytes(files.jpeg(files.exif_segment(block)))
    assert N.EXIF_UNREADABLE in [note.code for note in receipt.notes]
    assert not receipt.complete


def test_a_wrong_checksum_is_told_and_the_text_still_read() -> None:
    label = bytearray(files.text_chunk("AIGC", LABEL.encode()))
    label[-1] ^= 1
    receipt = inspect_bytes(files.png(bytes(label)))
    assert [finding.code for finding in receipt.findings] == [FindingCode.AIGC_GENERATED]
    # Pillow decodes no picture with such a chunk.
    assert [note.code for note in receipt.notes] == [N.CHECKSUM_WRONG, N.PICTURE_NOT_HASHED]
    assert receipt.complete


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/webp"])
def test_what_lies_behind_the_picture_is_told(kind: str) -> None:
    assert N.TRAILING_DATA in notes(SMALL[kind] + b"another file")


def test_without_metadata_it_says_so() -> None:
    assert notes(files.png()) == [N.NO_METADATA]


def test_blocks_keep_their_place() -> None:
    parsed = read(SMALL["image/jpeg"])
    assert [(block.type, block.where) for block in parsed.blocks] == [
        (BlockType.EXIF, "jpeg:APP1"),
        (BlockType.XMP, "jpeg:APP1"),
    ]
