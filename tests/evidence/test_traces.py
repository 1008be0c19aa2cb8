"""Traces of generators, and hints of editing: what is found, how far it goes, and what is not mistaken for it."""

from __future__ import annotations

import json
import struct

import pytest
from PIL import Image, ImageDraw

from ledger.evidence.formats import jpeg
from ledger.evidence.formats.quantisation import standard_quality
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion
from ledger.rules.findings import FindingCode, Strength
from tests.evidence import files

C = FindingCode
PARAMETERS = "a broken cup\nNegative prompt: hands\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {}}, "4": {"class_type": "SaveImage"}})
RESIZE = json.dumps({"1": {"class_type": "LoadImage"}, "2": {"class_type": "ImageScale"}})
FLOW = json.dumps({"nodes": [{"type": "KSamplerAdvanced"}, {"type": "SaveImage"}], "links": []})


def codes(data: bytes) -> list[FindingCode]:
    return [finding.code for finding in inspect_bytes(data).findings]


@pytest.mark.parametrize(
    ("source", "expected", "conclusion"),
    [
        ("trainedAlgorithmicMedia", [C.IPTC_AI_GENERATED], Conclusion.AI_INDICATED),
        ("compositeWithTrainedAlgorithmicMedia", [C.IPTC_AI_EDITED], Conclusion.AI_INDICATED),
        ("algorithmicMedia", [C.IPTC_ALGORITHMIC], Conclusion.OTHER_FINDINGS),
        ("digitalCapture", [], Conclusion.NOTHING_FOUND),
        ("trainedAlgorithmicMediaX", [], Conclusion.NOTHING_FOUND),
    ],
)
def test_source_types_are_not_mixed_up(source: str, expected: list[FindingCode], conclusion: Conclusion) -> None:
    receipt = inspect_bytes(files.jpeg(files.xmp_segment(files.source_packet(source))))
    assert [finding.code for finding in receipt.findings] == expected
    assert receipt.conclusion is conclusion
    assert Strength.IDENTIFIES not in {finding.strength for finding in receipt.findings}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (files.png(files.text_chunk("parameters", PARAMETERS.encode())), C.GENERATOR_PARAMETERS),
        (files.png(files.international_chunk("parameters", PARAMETERS.encode(), True)), C.GENERATOR_PARAMETERS),
        (
            files.jpeg(files.exif_segment(files.exif(comment=b"UNICODE\0" + PARAMETERS.encode("utf-16-be")))),
            C.GENERATOR_PARAMETERS,
        ),
        (files.png(files.text_chunk("prompt", GRAPH.encode())), C.GENERATOR_WORKFLOW),
        (files.png(files.text_chunk("workflow", FLOW.encode())), C.GENERATOR_WORKFLOW),
        (
            files.webp(files.riff_chunk(b"EXIF", files.exif({0x0110: b"prompt:" + GRAPH.encode()})), flags=8),
            C.GENERATOR_WORKFLOW,
        ),
        (files.png(files.text_chunk("prompt", RESIZE.encode())), C.WORKFLOW_WITHOUT_SAMPLER),
        (files.png(files.text_chunk("invokeai_metadata", b"{}")), C.GENERATOR_PARAMETERS),
        (
            files.png(files.text_chunk("Description", b"a cup --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef")),
            C.GENERATOR_PARAMETERS,
        ),
        (
            files.png(files.text_chunk("Comment", b'{"steps": 28, "sampler": "k_euler", "seed": 5, "prompt": "cup"}')),
            C.GENERATOR_PARAMETERS,
        ),
        (files.png(files.text_chunk("Software", b"NovelAI")), C.GENERATOR_NAMED),
        (files.jpeg(files.exif_segment(files.exif({0x0131: b"Midjourney v6"}))), C.GENERATOR_NAMED),
        (
            files.jpeg(
                files.xmp_segment(
                    files.plain_packet(
                        attributes='xmlns:p="http://ns.adobe.com/photoshop/1.0/" p:Credit="Made with Google AI"'
                    )
                )
            ),
            C.GENERATOR_NAMED,
        ),
        (
            files.jpeg(files.xmp_segment(files.plain_packet("<I:AISystemUsed>Some model</I:AISystemUsed>"))),
            C.GENERATOR_NAMED,
        ),
        (files.mp4(files.keys_meta({"com.apple.quicktime.software": "ComfyUI"})), C.GENERATOR_NAMED),
    ],
)
def test_traces_of_generators_indicate(data: bytes, expected: FindingCode) -> None:
    receipt = inspect_bytes(data)
    assert [finding.code for finding in receipt.findings] == [expected]
    assert receipt.findings[0].strength is not Strength.IDENTIFIES


@pytest.mark.parametrize(
    "data",
    [
        files.png(files.text_chunk("Comment", b"Steps: 3 of the recipe")),
        files.png(files.text_chunk("Description", b"not made with Midjourney, I promise")),
        files.png(files.text_chunk("prompt", b"what is broken?")),
        files.png(files.text_chunk("prompt", b'{"a": "b"}')),
        files.png(files.text_chunk("workflow", b"{" * 100_000)),
        files.jpeg(files.exif_segment(files.exif({0x010E: b"like a stable diffusion picture"}))),
        files.jpeg(files.exif_segment(files.exif({0x0131: b"Camera firmware 1.0"}))),
        files.jpeg(files.segment(0xFE, b"CREATOR: gd-jpeg v1.0")),
    ],
)
def test_mentions_are_no_traces(data: bytes) -> None:
    assert codes(data) == []


HISTORY = (
    '<M:History xmlns:M="http://ns.adobe.com/xap/1.0/mm/" xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
    "<rdf:Seq>{}</rdf:Seq></M:History>"
)
SAVED = '<rdf:li e:action="saved" e:softwareAgent="Adobe Photoshop 26.0"/>'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (files.jpeg(files.exif_segment(files.exif({0x0131: "美图秀秀".encode()}))), [C.EDITING_SOFTWARE]),
        (files.jpeg(files.segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 3)), [C.EDITING_SOFTWARE]),
        (files.png(files.text_chunk("Software", b"Adobe ImageReady, GIMP")), [C.EDITING_SOFTWARE]),
        (files.mp4(files.box(b"\xa9swr", b"\0\6\0\0CapCut")), [C.EDITING_SOFTWARE]),
        (
            files.jpeg(files.xmp_segment(files.plain_packet(HISTORY.format(SAVED * 2)))),
            [C.EDITING_SOFTWARE, C.EDIT_HISTORY],
        ),
        (files.jpeg(files.xmp_segment(files.plain_packet(HISTORY.format(SAVED)))), [C.EDITING_SOFTWARE]),
        (files.webp(flags=8), [C.METADATA_REMOVED]),
        (files.jpeg(files.exif_segment(files.exif(size=(4000, 3000)))), [C.SIZE_DIFFERS]),
        (files.jpeg(files.exif_segment(files.exif(size=(48, 64)))), []),
        (files.jpeg(files.exif_segment(files.exif({0x010F: b"Canon"}))), [C.SAVED_BY_SOFTWARE]),
        (files.jpeg(files.exif_segment(files.exif({0x010F: b"Xiaomi"}))), []),
    ],
)
def test_hints_of_editing_are_hints(data: bytes, expected: list[FindingCode]) -> None:
    receipt = inspect_bytes(data)
    assert [finding.code for finding in receipt.findings] == expected
    assert {finding.strength for finding in receipt.findings} <= {Strength.HINT}
    assert receipt.conclusion in (Conclusion.OTHER_FINDINGS, Conclusion.NOTHING_FOUND)


def scene(changed: bool = False) -> Image.Image:
    image = Image.linear_gradient("L").resize((800, 600)).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((150, 120, 420, 430), fill=(200, 60, 40))
    draw.rectangle((500, 80, 700, 300), fill=(30, 90, 160))
    if changed:
        draw.polygon([(180, 150), (390, 180), (300, 400)], fill=(255, 255, 255))
        draw.rectangle((450, 320, 780, 580), fill=(0, 0, 0))
    return image


def with_thumbnail(image: Image.Image, small: Image.Image, order: str = "<") -> bytes:
    block = files.exif({0x010F: b"Phone"}, thumbnail=files.saved(small, "JPEG"), order=order)
    return files.jpeg(files.exif_segment(block), image=image, quality=90)


def barred(image: Image.Image) -> Image.Image:
    """A thumbnail of another shape, filled up with black."""
    small = Image.new("RGB", (160, 160))
    small.paste(image.resize((160, 120)), (0, 20))
    return small


def test_a_thumbnail_that_fits_is_no_finding() -> None:
    image = scene()
    for small in (image.resize((160, 120)), barred(image)):
        assert codes(with_thumbnail(image, small)) == []
    turned = image.transpose(Image.Transpose.ROTATE_90)
    assert codes(with_thumbnail(turned, image.resize((160, 120)), ">")) == []


def test_a_thumbnail_of_something_else_is_a_hint() -> None:
    image = scene()
    assert codes(with_thumbnail(scene(changed=True), image.resize((160, 120)))) == [C.THUMBNAIL_DIFFERS]
    assert codes(with_thumbnail(image, files.picture(160, 120))) == [C.THUMBNAIL_DIFFERS]


def test_the_decoder_sees_pixels_only() -> None:
    """A date outside the EXIF block, which we do not read: Pillow would warn when it looks there for a resolution."""
    image = scene()
    block = files.exif({0x0132: b"2026:01:01 00:00:00"}, thumbnail=files.saved(image.resize((160, 120)), "JPEG"))
    at = block.index(struct.pack("<HHI", 0x0132, 2, 20)) + 8
    block = block[:at] + struct.pack("<I", 60_000) + block[at + 4 :]
    plain = files.saved(image, "JPEG", quality=90)
    without_jfif = plain[:2] + plain[4 + int.from_bytes(plain[4:6]) :]
    data = without_jfif[:2] + files.exif_segment(block) + files.segment(0xE2, b"MPF\0II*\0") + without_jfif[2:]
    receipt = inspect_bytes(data)
    assert receipt.findings == ()
    assert receipt.notes == ()
    assert jpeg.bare(data) == without_jfif
    assert jpeg.bare(b"\xff\xd8") == jpeg.bare(b"\xff\xd8\xff\xd9") == b""


def test_empty_pictures_are_not_compared() -> None:
    white = Image.new("RGB", (400, 300), "white")
    assert codes(with_thumbnail(white, Image.new("RGB", (160, 120), "white"))) == []


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 90, 100])
def test_standard_tables_are_known_at_each_quality(quality: int) -> None:
    data = files.saved(files.picture(), "JPEG", quality=quality)
    start = data.index(b"\xff\xdb") + 5
    assert standard_quality([struct.unpack_from("64B", data, start)]) == quality


def test_other_tables_are_not() -> None:
    assert standard_quality([tuple(range(1, 65))]) is None
    assert standard_quality([]) is None
