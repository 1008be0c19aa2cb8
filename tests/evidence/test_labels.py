"""China's label: every place it may stand in, tolerant reading, and what makes it valid."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion
from ledger.evidence.signals import aigc, credit_code
from ledger.rules.findings import FindingCode, Strength
from tests.counts import trials
from tests.evidence import files
from tests.evidence.files import LABEL

COMMENT = b"ASCII\0\0\0" + LABEL.encode()
WIDE = b"UNICODE\0" + LABEL.encode("utf-16-be")
PLACES = {
    "jpeg xmp": (files.jpeg(files.xmp_segment(files.label_packet())), "jpeg:APP1 xmp"),
    "jpeg comment": (files.jpeg(files.segment(0xFE, LABEL.encode())), "jpeg:COM"),
    "jpeg APP12": (files.jpeg(files.segment(0xEC, b"AIGC\0" + LABEL.encode())), "jpeg:APP12"),
    "jpeg exif": (files.jpeg(files.exif_segment(files.exif(comment=COMMENT))), "jpeg:APP1 UserComment"),
    "jpeg exif wide": (files.jpeg(files.exif_segment(files.exif(comment=WIDE))), "jpeg:APP1 UserComment"),
    "png tEXt": (files.png(files.text_chunk("AIGC", LABEL.encode())), "png:tEXt AIGC"),
    "png zTXt": (files.png(files.compressed_chunk("AIGC", LABEL.encode())), "png:zTXt AIGC"),
    "png iTXt": (files.png(files.international_chunk("AIGC", LABEL.encode())), "png:iTXt AIGC"),
    "png iTXt deflated": (files.png(files.international_chunk("AIGC", LABEL.encode(), True)), "png:iTXt AIGC"),
    "png xmp": (files.png(files.international_chunk("XML:com.adobe.xmp", files.label_packet())), "png:iTXt xmp"),
    "png eXIf": (files.png(files.chunk(b"eXIf", files.exif(comment=COMMENT))), "png:eXIf UserComment"),
    "webp xmp": (files.webp(files.riff_chunk(b"XMP ", files.label_packet()), flags=4), "webp:XMP xmp"),
    "webp exif": (files.webp(files.riff_chunk(b"EXIF", files.exif(comment=COMMENT)), flags=8), "webp:EXIF UserComment"),
    "mp4 keys": (files.mp4(files.keys_meta({"AIGC": LABEL})), "mp4:moov/udta/meta/ilst AIGC"),
    "mov keys": (
        files.mp4(files.keys_meta({"com.example.AIGC": LABEL}, iso=False), brand=b"qt  "),
        "mp4:moov/udta/meta/ilst com.example.AIGC",
    ),
    "mp4 box": (files.mp4(files.box(b"AIGC", LABEL.encode())), "mp4:moov/udta/AIGC AIGC"),
    "mp4 xmp": (
        files.mp4(top=files.box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), files.label_packet())),
        "mp4:uuid xmp",
    ),
    "heic xmp": (files.heic(xmp=files.label_packet()), "heif:item xmp xmp"),
    "avif exif": (files.heic(exif=files.exif(comment=COMMENT), brand=b"avif"), "heif:item exif UserComment"),
    "heic idat": (files.heic(xmp=files.label_packet(), in_idat=True), "heif:item xmp xmp"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_label_is_found_wherever_it_stands(place: str) -> None:
    data, where = PLACES[place]
    receipt = inspect_bytes(data)
    (finding,) = receipt.findings
    assert (finding.code, finding.where, finding.strength) == (FindingCode.AIGC_GENERATED, where, Strength.INDICATES)
    assert finding.facts["credit_code"] == "91440300708461136T"
    assert "Tencent" in str(finding.facts["producer_name"])
    assert receipt.conclusion is Conclusion.AI_INDICATED
    assert receipt.complete or place in ("heic xmp", "avif exif", "heic idat")  # the other item of these is empty


def record(**changes: object) -> str:
    fields = json.loads(LABEL) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (LABEL, []),
        (record(Label=1), []),
        (record(ContentProducer="某某公司"), []),
        (record(ReservedCode1=None, ReservedCode2=None), []),
        (record(Label="2", ContentProducer="", ProduceID="", ContentPropagator="p", PropagateID="1"), []),
        (f'{{"AIGC": {LABEL}}}', []),
        (json.dumps({"AIGC": LABEL}), []),
        (files.escaped(LABEL), []),
        (record(Label="AIGC"), ["label_unknown"]),
        (record(Label=None), ["label_missing"]),
        (record(ContentProducer=" "), ["producer_missing"]),
        (record(ProduceID=""), ["produce_id_missing"]),
        (record(Label="2"), []),
        (record(Label="3", ContentProducer=""), ["producer_missing"]),
        (record(ProduceID="x" * 1_025), ["too_long"]),
        (record(ProduceID="a\tb"), ["unprintable"]),
        (record(ContentProducer="001191440300708461136U1XGW3"), ["producer_code_wrong"]),
        (record(ContentPropagator="001191440300708461136U1XGW3"), ["producer_code_wrong"]),
        (LABEL.replace('"', "'"), ["not_json"]),
        ("Label: 1; ContentProducer=abc; ProduceID=9", ["not_json"]),
        (LABEL[:-1], ["not_json"]),
    ],
)
def test_reading_is_tolerant_and_judging_is_not(text: str, problems: list[str]) -> None:
    read = aigc.parse_record(text, "here")
    assert read is not None
    assert aigc.problems(read) == problems


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '"Label"', '{"a": 1}', "{" * 10_000, '{"AIGC": "x"}', "1" * 5000]
)
def test_what_holds_no_record_gives_none(text: str) -> None:
    assert aigc.parse_record(text, "here") is None


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("1", FindingCode.AIGC_GENERATED),
        ("2", FindingCode.AIGC_POSSIBLE),
        ("3", FindingCode.AIGC_SUSPECTED),
        ("4", FindingCode.AIGC_GENERATED_DEFECTIVE),
    ],
)
def test_the_three_words_of_a_label_weigh_differently(label: str, code: FindingCode) -> None:
    receipt = inspect_bytes(files.png(files.text_chunk("AIGC", record(Label=label).encode())))
    assert [finding.code for finding in receipt.findings] == [code]
    assert (receipt.conclusion is Conclusion.AI_INDICATED) == (label != "3")


@pytest.mark.parametrize(
    "inner",
    [
        '<T:AIGC rdf:parseType="Resource"><T:Label>1</T:Label><T:ContentProducer>p</T:ContentProducer>'
        "<T:ProduceID>9</T:ProduceID></T:AIGC>",
        '<T:AIGC T:Label="1" T:ContentProducer="p" T:ProduceID="9"/>',
        "<T:Label>1</T:Label><T:ContentProducer>p</T:ContentProducer><T:ProduceID>9</T:ProduceID>",
        "<T:AIGC><rdf:Bag><rdf:li>" + files.escaped(record()) + "</rdf:li></rdf:Bag></T:AIGC>",
        "<T:AIGC><![CDATA[" + record() + "]]></T:AIGC>",
    ],
)
def test_every_way_to_write_it_in_xmp(inner: str) -> None:
    receipt = inspect_bytes(files.jpeg(files.xmp_segment(files.packet(inner))))
    assert [finding.code for finding in receipt.findings] == [FindingCode.AIGC_GENERATED]


def test_as_an_attribute_of_the_description() -> None:
    content = files.packet(attributes=f'T:AIGC="{files.escaped(record())}"')
    receipt = inspect_bytes(files.webp(files.riff_chunk(b"XMP ", content), flags=4))
    assert [finding.code for finding in receipt.findings] == [FindingCode.AIGC_GENERATED]


def test_a_packet_that_is_not_well_formed_gives_a_defective_label() -> None:
    content = files.label_packet().replace(b"</rdf:RDF>", b"</rdf:RDFx>").replace(b"</T:AIGC>", b"</T:AIG>")
    receipt = inspect_bytes(files.jpeg(files.xmp_segment(content)))
    assert [finding.code for finding in receipt.findings] == [FindingCode.AIGC_GENERATED_DEFECTIVE]
    assert not receipt.complete


def test_two_copies_that_agree_are_one_finding() -> None:
    data = files.png(
        files.text_chunk("AIGC", LABEL.encode()), files.international_chunk("XML:com.adobe.xmp", files.label_packet())
    )
    (finding,) = inspect_bytes(data).findings
    assert finding.code is FindingCode.AIGC_GENERATED
    assert finding.facts["also_at"] == ["png:tEXt AIGC"]


def test_two_labels_that_disagree_identify_nothing() -> None:
    other = files.label_packet(record(ProduceID="another"))
    data = files.png(files.text_chunk("AIGC", LABEL.encode()), files.international_chunk("XML:com.adobe.xmp", other))
    receipt = inspect_bytes(data)
    assert sorted(finding.code for finding in receipt.findings) == [
        FindingCode.AIGC_CONFLICT,
        FindingCode.AIGC_GENERATED_DEFECTIVE,
        FindingCode.AIGC_GENERATED_DEFECTIVE,
    ]
    assert receipt.conclusion is Conclusion.AI_INDICATED


@pytest.mark.parametrize(
    "data",
    [
        files.png(files.text_chunk("AIGC", b"")),
        files.png(files.text_chunk("AIGC", b"{}")),
        files.jpeg(files.xmp_segment(files.packet("<T:AIGC></T:AIGC>"))),
        files.jpeg(files.xmp_segment(files.packet())),
        files.mp4(files.keys_meta({"AIGC": "  "})),
    ],
)
def test_a_place_without_its_label_is_a_hint(data: bytes) -> None:
    receipt = inspect_bytes(data)
    assert [finding.code for finding in receipt.findings] == [FindingCode.AIGC_EMPTIED]
    assert receipt.conclusion is Conclusion.OTHER_FINDINGS


def test_one_label_beside_an_emptied_place() -> None:
    data = files.png(
        files.text_chunk("AIGC", b"{}"), files.international_chunk("XML:com.adobe.xmp", files.label_packet())
    )
    assert [finding.code for finding in inspect_bytes(data).findings] == [
        FindingCode.AIGC_GENERATED,
        FindingCode.AIGC_EMPTIED,
    ]


def test_a_label_nobody_can_read_is_defective() -> None:
    (finding,) = inspect_bytes(files.png(files.text_chunk("AIGC", b"yes"))).findings
    assert finding.code is FindingCode.AIGC_GENERATED_DEFECTIVE
    assert "not_json" in list(finding.facts["problems"])  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["91440300708461136T", "91110102MACQD9K640"])
def test_real_credit_codes_are_valid_and_each_changed_character_is_noticed(code: str) -> None:
    assert credit_code.is_valid(code)
    for place in range(18):
        for other in credit_code.ALPHABET:
            changed = code[:place] + other + code[place + 1 :]
            assert credit_code.is_valid(changed) == (changed == code)


def check_character_by_the_standard(first: str) -> str:
    """GB 32100-2015: weights are powers of 3 modulo 31; the check character makes the weighted sum a multiple of 31."""
    total = sum(3**place * credit_code.ALPHABET.index(character) for place, character in enumerate(first))
    return credit_code.ALPHABET[(31 - total % 31) % 31]


@settings(max_examples=trials(120, 10_000))
@given(st.from_regex(rf"[{credit_code.ALPHABET}]{{2}}[0-9]{{6}}[{credit_code.ALPHABET}]{{10}}", fullmatch=True))
def test_a_credit_code_is_valid_exactly_if_the_standard_says_so(code: str) -> None:
    check = check_character_by_the_standard(code[:17])
    assert credit_code.is_valid(code) == (check == code[17])
    assert credit_code.is_valid(code[:17] + check)
    assert not credit_code.is_valid(f" {code[:17]}{check}")
    assert credit_code.is_valid((code[:17] + check).lower()) == (code[:17] + check).isdigit()


@given(st.text(max_size=30))
def test_any_text_may_be_asked(text: str) -> None:
    credit_code.is_valid(text)
    aigc.producer_credit_code(text)


@pytest.mark.parametrize("name", ["某某公司", "Minimax Agent AI", "002191440300708461136T", "0012" + "9" * 23, ""])
def test_producers_that_are_not_companies_by_code_have_no_credit_code(name: str) -> None:
    assert aigc.producer_credit_code(name) is None
