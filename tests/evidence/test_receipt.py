"""Receipts: the same file gives the same one, a reviewer can make it again, and reports take findings out of it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ledger.client import claim_upload, evidence, inspect, inspected_evidence, issuer_answer, verify_inspection
from ledger.client.reports.evidence import evidence_json
from ledger.errors import ConfigurationError, EvidenceInsufficient, InspectionReceiptInvalid, NewerFormat
from ledger.evidence import inspection
from ledger.evidence.findings import finding
from ledger.evidence.formats.metadata import Note, NoteCode
from ledger.evidence.perceptual_hash import pdq
from ledger.evidence.receipt import InspectionReceipt, check_form, compare, receipt_digest
from ledger.protocol.encoding import canonical_json
from ledger.rules.conduct import Conduct, check_evidence, parse_evidence
from ledger.rules.findings import FindingCode
from ledger.rules.pictures import MIN_QUALITY
from tests.evidence import files
from tests.evidence.files import LABEL
from tests.evidence.scenes import picture as picture_of
from tests.evidence.scenes import scene
from tests.evidence.signed import certificate, created, sign
from tests.support import ROOT


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "claim.png"
    path.write_bytes(files.png(files.text_chunk("AIGC", LABEL.encode())))
    return path


def test_a_receipt_is_canonical_and_always_the_same(picture: Path) -> None:
    first, second = inspect(picture), inspect(str(picture))
    assert first.canonical() == second.canonical()
    assert json.loads(first.canonical()) == first.to_json()
    assert check_form(json.loads(first.canonical())) == first.to_json()


def test_a_receipt_is_borne_out_by_its_file_under_any_name(picture: Path) -> None:
    receipt = inspect(picture).to_json()
    renamed = picture.rename(picture.with_suffix(".jpg"))
    agreement = verify_inspection(renamed, receipt)
    assert agreement.agrees
    assert agreement.same_file
    assert agreement.same_tool
    assert agreement.differences == ()


def test_one_changed_bit_is_another_file(picture: Path) -> None:
    receipt = inspect(picture).to_json()
    data = bytearray(picture.read_bytes())
    data[-20] ^= 1
    picture.write_bytes(data)
    agreement = verify_inspection(picture, receipt)
    assert not agreement.agrees
    assert not agreement.same_file
    assert "file.sha256" in agreement.differences


def test_an_invented_finding_is_noticed(picture: Path) -> None:
    picture.write_bytes(files.png())
    receipt = inspect(picture).to_json()
    made_up = {"code": "aigc_generated", "strength": "identifies", "where": "png:tEXt AIGC", "facts": {"label": "1"}}
    receipt["findings"] = [made_up]
    receipt["conclusion"] = "ai_identified"
    agreement = verify_inspection(picture, receipt)
    assert agreement.same_file
    assert set(agreement.differences) == {
        "conclusion",
        "findings: only in the receipt: aigc_generated",
        "strength: aigc_generated",
    }


def test_a_finding_left_out_or_made_stronger_is_noticed(picture: Path) -> None:
    receipt = inspect(picture).to_json()
    weaker = copy.deepcopy(receipt)
    weaker["findings"][0]["strength"] = "hint"
    assert verify_inspection(picture, weaker).differences == ("strength: aigc_generated",)
    receipt["findings"] = []
    assert verify_inspection(picture, receipt).differences == ("findings: only in the file: aigc_generated",)


def test_the_hash_is_that_of_searches_and_may_differ_by_a_few_bits() -> None:
    data = files.saved(picture_of(scene(3, 4)), "JPEG", quality=90)
    receipt = inspection.inspect_bytes(data)
    assert receipt.pdq == pdq.hash_bytes(data).hex
    assert receipt.pdq_quality >= MIN_QUALITY
    bits = int(receipt.pdq, 16)
    for flipped, quality, differences in (
        (8, 5, ()),
        (9, 0, ("file.pdq",)),
        (0, -6, ("file.pdq_quality",)),
    ):
        claimed = receipt.to_json()
        claimed["file"] |= {"pdq": f"{bits ^ (2**flipped - 1):064x}", "pdq_quality": receipt.pdq_quality + quality}
        assert compare(claimed, receipt).differences == differences
    claimed["file"]["pdq"] = ""
    assert "file.pdq" in compare(claimed, receipt).differences


def test_a_flat_picture_shows_its_hash_and_says_that_it_is_not_used() -> None:
    receipt = inspection.inspect_bytes(files.png(image=Image.new("RGB", (300, 300), "grey")))
    assert receipt.pdq_quality == 0
    assert "picture_unfit" in [note.code for note in receipt.notes]
    assert receipt.complete
    claimed = receipt.to_json()
    claimed["notes"] = [note for note in claimed["notes"] if note["code"] != "picture_unfit"]
    assert compare(claimed, receipt).agrees


@pytest.mark.parametrize(
    ("data", "noted"),
    [
        (files.png()[:-40], True),
        (files.webp()[:-30], True),
        (files.saved(files.picture(), "JPEG")[:-200], True),
        (files.mp4(), False),
        (files.heic(), False),
    ],
)
def test_without_pixels_there_is_no_hash_and_no_error(data: bytes, noted: bool) -> None:
    receipt = inspection.inspect_bytes(data)
    assert (receipt.pdq, receipt.pdq_quality) == ("", 0)
    assert ("picture_not_hashed" in [note.code for note in receipt.notes]) is noted


def test_the_hash_goes_into_items_by_which_a_picture_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "claim.jpg"
    path.write_bytes(files.saved(picture_of(scene(3, 4)), "JPEG", quality=90))
    receipt = inspect(path)
    for kind in ("original_file", "source_image"):
        item = inspected_evidence(kind, path)
        assert (item.pdq, item.pdq_quality) == (receipt.pdq, receipt.pdq_quality)
        assert parse_evidence([evidence_json(item)]) == (item,)
    assert inspected_evidence("ai_label", path).pdq is None
    film = tmp_path / "claim.mp4"
    film.write_bytes(files.mp4())
    assert inspected_evidence("original_file", film).pdq is None


def test_an_expired_certificate_and_another_tool_are_told_apart_from_disagreement(picture: Path) -> None:
    receipt = inspect(picture)
    claimed = receipt.to_json()
    claimed["notes"] = [{"code": "c2pa_credential", "where": "png:caBX", "detail": "signingCredential.expired"}]
    assert compare(claimed, receipt).agrees
    claimed["tool"] = "refund-ledger/9.9.9 inspect/99"
    agreement = compare(claimed, receipt)
    assert agreement.agrees
    assert not agreement.same_tool
    claimed["notes"] = [{"code": "truncated", "where": "", "detail": ""}]
    assert compare(claimed, receipt).differences == ("notes: only in the receipt: truncated",)


def changed(**changes: Any) -> dict[str, Any]:
    receipt = inspection.inspect_bytes(files.png()).to_json()
    for path, value in changes.items():
        target = receipt
        *parents, last = path.split("__")
        for name in parents:
            target = target[name]
        target[last] = value
    return receipt


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        changed(v=1),
        changed(v=True),
        changed(trust_lists=1),
        changed(tool=1),
        changed(complete=1),
        changed(conclusion="Genuine!"),
        changed(file__sha256="short"),
        changed(file__size_bytes=-1),
        changed(file__pdq="0" * 63),
        changed(file__pdq=None),
        changed(file__pdq_quality="100"),
        changed(opencv=None),
        changed(listings=None),
        changed(listings=["short"]),
        changed(listings=["A" * 43, "A" * 43]),
        changed(listings=[1]),
        changed(file__size_bytes=1.5),
        changed(file=None),
        changed(findings={}),
        changed(findings=[{"code": "x"}]),
        changed(findings=[{"code": "x", "strength": ["hint"], "where": "", "facts": {}}]),
        changed(findings=[{"code": "x", "strength": "hint", "where": "", "facts": []}]),
        changed(notes=[{"code": "x y", "where": "", "detail": ""}]),
        changed(notes=[{"code": "x", "where": 1, "detail": ""}]),
        changed(tool="x" * 300_000),
        changed(tool="e\u0301"),
    ],
)
def test_what_is_no_receipt_is_refused(value: object, picture: Path) -> None:
    with pytest.raises(InspectionReceiptInvalid):
        inspection.verify_file(picture, value)


@pytest.mark.parametrize(
    "value",
    [
        changed(more={"later": [1]}),
        changed(file__more=1),
        changed(conclusion="ai_disproved"),
        changed(findings=[{"code": "x_later", "strength": "proves", "where": "", "facts": {}, "more": 1}]),
        changed(notes=[{"code": "x_later", "where": "", "detail": "", "more": None}]),
    ],
)
def test_a_receipt_with_what_a_later_version_added_is_read(value: dict[str, Any], picture: Path) -> None:
    assert check_form(value) == value
    assert len(receipt_digest(value)) == 32
    inspection.verify_file(picture, value)


def test_a_receipt_of_a_later_version_is_named(picture: Path) -> None:
    with pytest.raises(NewerFormat):
        inspection.verify_file(picture, changed(v=3))


def test_the_answer_of_an_issuer_meets_the_minimum_of_a_report_and_a_label_or_trace_does_not(picture: Path) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    admission = evidence("admission", sha256=b"a" * 32)
    traced = picture.with_name("traced.jpg")
    traced.write_bytes(files.jpeg(files.xmp_segment(files.source_packet("trainedAlgorithmicMedia"))))
    for file in (picture, traced):
        original = inspected_evidence("original_file", file, origin=claim_upload(now))
        label = inspected_evidence("ai_label", file, origin=claim_upload(now))
        assert (original.origin, label.origin) == (claim_upload(now), None)
        with pytest.raises(EvidenceInsufficient):
            check_evidence(Conduct.AI_FABRICATED_IMAGE, [original, label, admission])
        said = issuer_answer("A provider", now, "generated", original.sha256)
        answer = evidence("issuer_confirmation", sha256=b"w" * 32, confirmation=said)
        check_evidence(Conduct.AI_FABRICATED_IMAGE, [original, label, answer, admission])
        assert parse_evidence([evidence_json(item) for item in (original, label, answer)]) == (original, label, answer)


FORMER: dict[str, Any] = {
    "v": 1,
    "tool": "refund-ledger/0.1.0 inspect/1",
    "c2pa_sdk": "",
    "opencv": "",
    "listings": [],
    "conclusion": "ai_identified",
    "complete": True,
    "notes": [],
}


def former(receipt: InspectionReceipt) -> dict[str, Any]:
    """The receipt that version 1 of the tool gave of the same file."""
    new = receipt.to_json()
    findings = [
        {**item, "facts": {name: value for name, value in item["facts"].items() if name != "trust"}}
        for item in new["findings"]
    ]
    for item in findings:
        if item["code"] in ("aigc_generated", "c2pa_ai_generated"):
            item["strength"] = "identifies"
    kept = {name: new[name] for name in ("c2pa_sdk", "file", "notes")}
    return {**FORMER, **kept, "findings": findings}


def test_a_receipt_of_version_1_is_still_borne_out_by_its_file(picture: Path) -> None:
    old = former(inspect(picture))
    agreement = verify_inspection(picture, old)
    assert (agreement.agrees, agreement.same_tool, agreement.differences) == (True, False, ())
    signed_picture = picture.with_name("signed.png")
    signed_picture.write_bytes(sign(files.png(), "image/png", [created("trainedAlgorithmicMedia")], **certificate()))
    old = former(inspect(signed_picture))
    assert verify_inspection(signed_picture, old).agrees
    old["findings"][0]["facts"]["signer"] = "Another maker"
    assert not verify_inspection(signed_picture, old).agrees


def test_the_digest_of_a_receipt_of_version_1_is_what_it_was(picture: Path) -> None:
    """As version 1 of the tool computed it: reports carry it."""
    old = former(inspect(picture))
    whole = copy.deepcopy(old)
    del whole["opencv"], whole["file"]["pdq"], whole["file"]["pdq_quality"]
    assert receipt_digest(old) == hashlib.sha256(canonical_json(whole)).digest()


@pytest.mark.parametrize(
    ("claimed", "now", "differs"),
    [
        ("listed", "listed", False),
        ("listed", "expired", False),
        ("unlisted", "expired", False),
        ("listed", "revoked", False),
        ("listed", "unlisted", True),
        ("unlisted", "listed", True),
        ("listed", "invalid", True),
        ("expired", "listed", True),
        (None, "listed", True),
    ],
)
def test_of_a_signers_trust_only_what_time_does_may_differ(claimed: str | None, now: str, differs: bool) -> None:
    def receipt(trust: str | None) -> InspectionReceipt:
        signed_finding = finding(FindingCode.C2PA_AI_GENERATED, "png:caBX", signer="A maker", trust=trust)
        return InspectionReceipt(
            "t", b"s" * 32, 1, "image/png", 1, 1, (signed_finding,), (), "1", trust_lists="2026-01-01"
        )

    claimed_receipt, own = receipt(claimed), receipt(now)
    assert claimed_receipt.in_report().receipt_sha256 == own.in_report().receipt_sha256, "the digest is not of the day"
    agreement = compare(check_form(claimed_receipt.to_json()), own)
    assert agreement.agrees is not differs
    assert any(difference.startswith("trust: ") for difference in agreement.differences) == differs


def test_a_strength_that_does_not_follow_from_its_trust_is_noticed() -> None:
    signed_finding = finding(FindingCode.C2PA_AI_GENERATED, "png:caBX", trust="unlisted")
    own = InspectionReceipt("t", b"s" * 32, 1, "image/png", 1, 1, (signed_finding,), (), "1")
    claimed_receipt = own.to_json()
    claimed_receipt["findings"][0]["strength"] = "identifies"
    claimed_receipt["conclusion"] = "ai_identified"
    assert set(compare(claimed_receipt, own).differences) == {"strength: c2pa_ai_generated", "conclusion"}


def test_a_report_carries_the_digest_of_the_receipt_and_its_codes(picture: Path) -> None:
    item = inspected_evidence("ai_label", picture)
    assert item.inspection is not None
    assert item.inspection.findings == ("aigc_generated",)
    assert item.inspection.tool == inspect(picture).tool
    assert parse_evidence([evidence_json(item)]) == (item,)


def test_the_digest_is_that_of_the_receipt_without_what_depends_on_day_and_name(tmp_path: Path, picture: Path) -> None:
    receipt = inspect(picture)
    whole = receipt.to_json()
    del whole["opencv"], whole["file"]["pdq"], whole["file"]["pdq_quality"], whole["conclusion"]
    for item in whole["findings"]:
        del item["strength"]
    assert receipt.in_report().receipt_sha256 == hashlib.sha256(canonical_json(whole)).digest()
    renamed = tmp_path / "renamed.jpg"
    renamed.write_bytes(picture.read_bytes())
    other = inspect(renamed)
    assert other.canonical() != receipt.canonical()
    assert other.in_report() == receipt.in_report()
    another = tmp_path / "another.png"
    another.write_bytes(files.png())
    assert inspect(another).in_report() != receipt.in_report()


def test_facts_are_fit_for_canonical_json_whatever_stands_in_the_file() -> None:
    nasty = '{"Label": "1", "ContentProducer": "e\u0301\\ud800\\u0000' + "x" * 500 + '", "ProduceID": "\u202e"}'
    receipt = inspection.inspect_bytes(files.png(files.international_chunk("AIGC", nasty.encode())))
    assert json.loads(receipt.canonical()) == receipt.to_json()
    assert len(str(receipt.findings[0].facts["producer"])) <= 200
    assert Note(NoteCode.TRUNCATED).detail == ""
    assert len(canonical_json(receipt.to_json())) < 4_000


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_sdk_loads_nothing_of_it_until_it_is_asked() -> None:
    loaded = python(
        "import sys; import ledger.client; from ledger.client.lookups.reasons import explained; "
        "assert '\\u6ca1\\u6709' in explained('no_record').text('zh-CN'); own = ('PIL', 'c2pa', 'cv2', 'babel'); "
        "print([m for m in sys.modules if m.split('.')[0] in own or m.startswith('ledger.evidence')])"
    )
    assert loaded == "[]"


def test_without_the_extra_it_says_what_to_install(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_NEEDED", ("PIL", "no_such_module"))
    with pytest.raises(ConfigurationError, match=r"refund-credit-ledger\[evidence\].*no_such_module") as raised:
        inspect(picture)
    assert raised.value.details == {"extra": "evidence"}
