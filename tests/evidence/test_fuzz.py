"""Hostile files: whatever the bytes, an inspection ends soon, with a receipt or a documented error."""

from __future__ import annotations

import random
import struct
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import EvidenceFormatUnknown, EvidenceMalformed
from ledger.evidence.formats import exif, xmp
from ledger.evidence.formats.containers import read
from ledger.evidence.formats.metadata import ParsedFile
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import check_form
from ledger.evidence.sandbox.c2pa import C2paAnswer
from ledger.evidence.signals import c2pa_claims
from ledger.evidence.signals.aigc import parse_record
from ledger.evidence.signals.signers import Times, shipped
from tests.counts import trials
from tests.evidence import files
from tests.evidence.test_containers import RICH_EXIF, SMALL

SECONDS = 5.0
FUZZ = settings(max_examples=trials(18, 3000), deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEADS = {
    "jpeg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "webp": b"RIFF\xff\0\0\0WEBP",
    "mp4": struct.pack(">I", 16) + b"ftypisom\0\0\0\0",
    "mov": b"\0\0\0\x08wide",
    "heic": struct.pack(">I", 16) + b"ftypheic\0\0\0\0",
}
WORDS = [
    *(b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0", b"JP", b"\xff\xe1"),
    *(b"\xff\xdb", b"\xff\xc0", b"\xff\xda", b"\xff\xd9", b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"IEND"),
    *(b"AIGC\0", b"EXIF", b"XMP ", b"VP8X", b"moov", b"udta", b"meta", b"keys", b"ilst", b"data", b"----", b"iinf"),
    *(b"infe", b"iloc", b"idat", b"uuid", b"\0\0\0\x01", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
    *(b"\0\0\0\x10", b"II*\0", b"MM\0*", b"\x87\x69"),
]
PIECES = st.one_of(st.sampled_from(WORDS), st.binary(max_size=40))


def survives(data: bytes) -> None:
    start = time.perf_counter()
    try:
        receipt = inspect_bytes(data)
    except (EvidenceFormatUnknown, EvidenceMalformed):
        pass
    else:
        check_form(receipt.to_json())
    assert time.perf_counter() - start < SECONDS


@FUZZ
@given(head=st.sampled_from(sorted(HEADS)), body=st.lists(PIECES, max_size=60).map(b"".join))
def test_random_bytes_behind_a_head(head: str, body: bytes) -> None:
    survives(HEADS[head] + body)


@FUZZ
@given(kind=st.sampled_from(sorted(SMALL)), seed=st.integers(0, 2**32), changes=st.integers(1, 30))
def test_mutated_files(kind: str, seed: int, changes: int) -> None:
    chance = random.Random(seed)
    data = bytearray(SMALL[kind])
    for _ in range(changes):
        at = chance.randrange(len(data))
        what = chance.randrange(4)
        if what == 0:
            data[at] = chance.randrange(256)
        elif what == 1:
            data[at : at + 4] = struct.pack(">I", chance.choice([0, 1, 7, 8, 2**16, 2**31 - 1, 2**32 - 1]))
        elif what == 2:
            del data[at : at + chance.randrange(1, 20)]
        else:
            data[at:at] = data[at // 2 : at // 2 + chance.randrange(1, 60)]
        if not data:
            return
    survives(bytes(data))


@FUZZ
@given(st.binary(max_size=300))
def test_exif_of_any_bytes(body: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        exif.parse(head + body, "here", ParsedFile("image/jpeg"))


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_exif_with_changed_bytes(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(RICH_EXIF)
    for _ in range(chance.randrange(1, 12)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    exif.parse(bytes(data), "here", ParsedFile("image/jpeg"))


TAGS = st.sampled_from(
    [
        *(
            "<a>",
            "</a>",
            "<T:AIGC>",
            "</T:AIGC>",
            "<rdf:li>",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "&amp;",
            "&x;",
            "<?p?>",
        ),
        *("<!DOCTYPE a [", "<a b='c'/>"),
    ]
)


@FUZZ
@given(st.lists(st.one_of(TAGS, st.text(max_size=20)), max_size=30).map("".join))
def test_xmp_of_any_text(inner: str) -> None:
    packet = files.packet().replace(b"</rdf:Description>", inner.encode("utf-8", "replace") + b"</rdf:Description>")
    xmp.parse(packet, "here", ParsedFile("image/png"))
    xmp.parse(inner.encode("utf-8", "replace"), "here", ParsedFile("image/png"))


@FUZZ
@given(
    st.one_of(
        st.text(max_size=300), st.lists(st.sampled_from([*'{}":,[]', "Label", "AIGC", "1", "&quot;"])).map("".join)
    )
)
def test_records_of_any_text(text: str) -> None:
    parse_record(text, "here")


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=10), st.sampled_from(["a", "parentOf", "c2pa.created"])
)
KEYS = st.sampled_from(
    [
        *("active_manifest", "manifests", "a", "assertions", "label", "data", "actions", "action", "ingredients"),
        *("digitalSourceType", "relationship", "validation_results", "activeManifest", "success", "failure", "code"),
        *("ingredientDeltas", "validationDeltas", "signature_info", "issuer", "claim_generator_info"),
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=40,
)


@FUZZ
@given(store=st.dictionaries(st.sampled_from(["active_manifest", "manifests", "validation_results"]), JSON))
def test_manifest_stores_of_any_json(store: dict[str, object]) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    signatures = store.get("manifests")
    store_signatures = signatures if isinstance(signatures, dict) else {}
    c2pa_claims.judge(
        C2paAnswer(store, "here", "1", store_signatures), ParsedFile("image/png"), shipped(), Times(now, now)
    )


@pytest.mark.parametrize("seed", range(trials(2, 200)))
def test_mutated_manifests_do_no_harm(seed: int, signed_png: bytes) -> None:
    """The library itself, in its own process, on damaged manifests."""
    chance = random.Random(seed)
    data = bytearray(signed_png)
    start = data.index(b"caBX") + 4
    end = start + int.from_bytes(data[start - 8 : start - 4])
    for _ in range(chance.randrange(1, 40)):
        data[chance.randrange(start, end)] = chance.randrange(256)
    receipt = inspect_bytes(bytes(data))
    assert "c2pa_ai_generated" not in [finding.code for finding in receipt.findings] or bytes(data) == signed_png


def slow(kind: str) -> bytes:
    """Files made to keep a reader busy."""
    many = trials(60_000, 200_000)  # more than any limit
    return {
        "fill bytes": b"\xff\xd8" + b"\xff" * 2_000_000,
        "markers": b"\xff\xd8" + b"\xff\xd0" * many,
        "scan without end": files.jpeg()[:-2] + b"\xff\x00" * 2_000_000,
        "empty chunks": files.png()[:33] + files.chunk(b"abcD", b"") * many,
        "headers only": files.mp4(top=struct.pack(">I4s", 8, b"free") * many),
        "nested braces": files.png(files.text_chunk("AIGC", b'{"a":' * many)),
        "quotes": files.png(files.text_chunk("AIGC", b'Label="' * many)),
        "colons": files.png(files.text_chunk("AIGC", b"Label        " * 50_000)),
        "tags": files.webp(files.riff_chunk(b"XMP ", b"<a>" + b"<b c='d'/>" * 180_000 + b"</a>")),
        "attributes": files.webp(
            files.riff_chunk(b"XMP ", b"<a " + b" ".join(b'k%d="v"' % number for number in range(90_000)) + b"/>")
        ),
        "entries": files.jpeg(files.exif_segment(b"II*\0\x08\0\0\0\0\2" + b"\x0f\1\2\0\xf0\xff\0\0\0\0\0\0" * 512)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("fill bytes", "markers", "scan without end", "empty chunks", "headers only", "nested braces", "quotes"),
        *("colons", "tags", "attributes", "entries"),
    ],
)
def test_files_made_to_be_slow_are_not(kind: str) -> None:
    survives(slow(kind))


def test_readers_never_raise_anything_else() -> None:
    """Each head with each word, and each word cut."""
    for head in HEADS.values():
        for word in WORDS:
            for end in range(len(word) + 1):
                try:
                    read(head + word[:end])
                except (EvidenceFormatUnknown, EvidenceMalformed):
                    continue
