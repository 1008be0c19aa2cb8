"""Hints that a file was edited, saved anew or stripped: never more than hints, because honest people do all of it.

Phones crop and brighten, chats and mail programs save anew, and a cut-out photo of a parcel is still a photo of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ledger.evidence.findings import InspectionFinding, finding, folded
from ledger.evidence.formats import xmp
from ledger.evidence.formats.exif import Exif
from ledger.evidence.formats.metadata import BlockType, NoteCode, ParsedFile, decode
from ledger.evidence.formats.quantisation import standard_quality
from ledger.evidence.signals.traces import SOFTWARE_KEYS
from ledger.rules.findings import FindingCode

EDITORS = (
    *("photoshop", "lightroom", "gimp", "snapseed", "picsart", "pixlr", "canva", "meitu", "美图", "醒图", "xingtu"),
    *("facetune", "vsco", "paint.net", "affinity photo", "capture one", "acdsee", "polarr", "pixelmator", "photopea"),
    *("inshot", "capcut", "剪映", "faceapp", "photoscape", "imagemagick", "luminar", "krita", "轻颜", "无他相机"),
)
"""Names that software fields of editors hold, as whole words, without regard to case."""

CAMERA_MAKERS = ("canon", "nikon", "sony", "pentax", "ricoh", "olympus", "om digital", "fujifilm", "panasonic", "leica")
"""Makers whose cameras write quantisation tables of their own. Phones are not among them: many use the standard's."""

_NAMES = re.compile(r"(?<![a-z])(?:" + "|".join(re.escape(name) for name in EDITORS) + r")(?![a-z])")
_SOFTWARE_TAGS = ("Software", "ProcessingSoftware", "ImageEditingSoftware", "RAWDevelopingSoftware")


def judge(parsed: ParsedFile, exifs: list[tuple[str, Exif]], packets: list[xmp.Xmp]) -> Iterator[InspectionFinding]:
    """Yield hints from everything that was read, except the pixels."""
    yield from _software(parsed, exifs, packets)
    for packet in packets:
        yield from _history(packet)
        yield from _missing(packet, parsed)
    for sort in sorted(parsed.promised):
        if not parsed.of(sort):
            yield finding(FindingCode.METADATA_REMOVED, "webp:VP8X", missing=sort.value)
    for where, exif in exifs:
        yield from _size(parsed, exif, where)
        yield from _tables(parsed, exif)


def _software(parsed: ParsedFile, exifs: list[tuple[str, Exif]], packets: list[xmp.Xmp]) -> Iterator[InspectionFinding]:
    named: list[tuple[str, str]] = []
    for where, exif in exifs:
        named += [(f"{where} {tag}", exif.texts.get(tag, "")) for tag in _SOFTWARE_TAGS]
    for packet in packets:
        named += [(f"{packet.where} xmp CreatorTool", value) for value in packet.values(xmp.BASIC, "CreatorTool")]
        named += [(f"{packet.where} xmp softwareAgent", value) for value in packet.values(xmp.EVENT, "softwareAgent")]
    for block in parsed.of(BlockType.TEXT):
        if folded(block.key) in SOFTWARE_KEYS:
            named.append((f"{block.where} {block.key}", decode(block.data[:1_000])))
    for block in parsed.of(BlockType.SEGMENT):
        if block.data.startswith((b"Photoshop 3.0\0", b"Ducky")):
            named.append((block.where, "Photoshop"))
    seen: set[str] = set()
    for where, value in named:
        match = _NAMES.search(folded(value[:1_000]))
        if match is not None and match[0] not in seen:
            seen.add(match[0])
            yield finding(FindingCode.EDITING_SOFTWARE, where, name=match[0], value=value)


def _history(packet: xmp.Xmp) -> Iterator[InspectionFinding]:
    """Yield a finding for XMP's own record of saving: the first entry is the creation of the file, later ones are
    edits."""
    saved = [value for value in packet.values(xmp.EVENT, "action") if value in ("saved", "converted", "derived")]
    if len(saved) > 1:
        yield finding(FindingCode.EDIT_HISTORY, f"{packet.where} xmp History", steps=len(saved))


def _missing(packet: xmp.Xmp, parsed: ParsedFile) -> Iterator[InspectionFinding]:
    """Yield a finding for each reference of a packet to something that is missing."""
    where = f"{packet.where} xmp"
    for value in packet.values(xmp.DC_TERMS, "provenance"):
        if parsed.of(BlockType.C2PA):
            continue
        if value.startswith(("http://", "https://")):
            parsed.note(NoteCode.C2PA_REMOTE, where, value)
        else:
            yield finding(FindingCode.C2PA_MANIFEST_MISSING, where, reference=value)
    for digest in packet.values(xmp.NOTE, "HasExtendedXMP"):
        if digest.strip() not in parsed.extended_xmp:
            yield finding(FindingCode.METADATA_REMOVED, where, missing="extended xmp")


def _size(parsed: ParsedFile, exif: Exif, where: str) -> Iterator[InspectionFinding]:
    """Yield a finding if the size that the camera recorded is not the size of the picture."""
    said = sorted((exif.numbers.get("PixelXDimension", 0), exif.numbers.get("PixelYDimension", 0)))
    real = sorted((parsed.width_px, parsed.height_px))
    if all(said) and all(real) and said != real:
        yield finding(
            FindingCode.SIZE_DIFFERS,
            where,
            said=f"{exif.numbers['PixelXDimension']} x {exif.numbers['PixelYDimension']}",
            real=f"{parsed.width_px} x {parsed.height_px}",
        )


def _tables(parsed: ParsedFile, exif: Exif) -> Iterator[InspectionFinding]:
    maker = folded(exif.texts.get("Make", ""))
    quality = standard_quality(parsed.tables)
    if quality is not None and maker.startswith(CAMERA_MAKERS):
        yield finding(FindingCode.SAVED_BY_SOFTWARE, "jpeg:DQT", quality=quality, maker=exif.texts.get("Make"))
