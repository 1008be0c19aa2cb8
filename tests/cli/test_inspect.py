"""`inspect`: for people and machines, several files, receipts, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ledger.cli import app, output
from ledger.client import inspected_evidence
from ledger.client.reports.building import arguments_from_json
from ledger.client.reports.evidence import evidence_json
from ledger.evidence import inspection
from ledger.rules.conduct import parse_evidence
from tests.evidence import files
from tests.evidence.features_once import features_once
from tests.evidence.files import LABEL
from tests.evidence.scenes import picture, scene, stained

__all__ = ["features_once"]

REPORT: dict[str, Any] = {
    "conduct": "ai_fabricated_image",
    "order": "A-1001",
    "amount_minor": 12_900,
    "currency": "CNY",
    "outcome": "refund_refused",
    "act_ended_at": "2026-11-01T00:00:00Z",
    "notice_sent_at": "2026-11-02T00:00:00Z",
    "notice_ref": "n-1",
    "decided_by": "agent-7",
}


def run(*arguments: object, language: str = "en_US.UTF-8") -> Result:
    output.reset()
    return CliRunner().invoke(
        app, ["inspect", *(str(argument) for argument in arguments)], env={"LANG": language, "COLUMNS": "200"}
    )


def machine(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "label[ed].png"
    path.write_bytes(files.png(files.text_chunk("AIGC", LABEL.encode())))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.jpg"
    path.write_bytes(files.jpeg())
    return path


def test_people_read_sentences_in_their_language(labelled: Path, plain: Path) -> None:
    english = run(labelled, plain)
    assert english.exit_code == 0
    assert "label[ed].png" in english.output
    assert "indicates" in english.output
    assert "identifies" not in english.output
    assert "It does not show that the named producer made it" in " ".join(english.output.split())
    assert "Tencent / 腾讯" in english.output
    assert "aigc_generated · png:tEXt AIGC" in english.output
    assert "This does not mean that the picture is genuine" in english.output
    for chinese in (run(labelled, plain, "--lang", "zh-CN"), run(labelled, plain, language="zh_CN.UTF-8")):
        assert "有迹象" in chinese.output
        assert "任何人都能写入该标识" in "".join(chinese.output.split())
        assert "这不表示图片是真实的" in chinese.output
        assert "genuine" not in chinese.output
    assert run(labelled, "--lang", "fr").exit_code == 2


def test_machines_read_codes_apart_from_words(labelled: Path, plain: Path) -> None:
    first, second = machine(labelled, plain)["files"]
    assert first["file"] == "label[ed].png"
    assert first["receipt"] == inspection.inspect_file(labelled).to_json()
    assert second["receipt"]["conclusion"] == "nothing_found"
    assert first["words"].keys() == {"en", "zh-CN"}
    assert len(first["words"]["zh-CN"]["findings"]) == len(first["receipt"]["findings"]) == 1


def test_what_it_prints_goes_into_a_report(labelled: Path, original: Image.Image, tmp_path: Path) -> None:
    shown = tmp_path / "shown.jpg"
    original.save(shown)
    for kind, path in (("ai_label", labelled), ("original_file", shown)):
        members = machine(path)["files"][0]["evidence"]
        (read,) = arguments_from_json(REPORT | {"evidence": [{"type": kind, **members}]})["evidence"]
        item = inspected_evidence(kind, path)
        assert (read.sha256, read.inspection) == (item.sha256, item.inspection)
        assert parse_evidence([evidence_json(read)]) == (read,)
    assert (read.pdq, read.pdq_quality) == (item.pdq, item.pdq_quality)
    assert read.pdq is not None


def test_a_file_that_cannot_be_inspected_does_not_stop_the_others(labelled: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    answer = machine(text, labelled, tmp_path / "none.png", code=2)["files"]
    assert [item.get("error", {}).get("code") for item in answer] == [
        "evidence_format_unknown",
        None,
        "evidence_unreadable",
    ]
    shown = run(text, labelled)
    assert shown.exit_code == 2
    assert "error: The file is none of" in shown.output
    assert "indicates" in shown.output


def test_a_receipt_is_checked_against_its_file(labelled: Path, plain: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(machine(labelled)))
    assert machine(labelled, "--receipt", receipt) == {
        "agrees": True,
        "same_file": True,
        "same_tool": True,
        "differences": [],
    }
    receipt.write_text(json.dumps(machine(labelled)["files"][0]["receipt"]))
    assert run(labelled, "--receipt", receipt).exit_code == 0
    refused = machine(plain, "--receipt", receipt, code=1)
    assert not refused["same_file"]
    assert "findings: only in the receipt: aigc_generated" in refused["differences"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": [1]}', '{"files": []}', "[" * 100_000])
def test_what_is_no_receipt_is_refused(content: str, labelled: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    receipt.write_text(content)
    assert machine(labelled, "--receipt", receipt, code=2)["error"]["code"] == "inspection_receipt_invalid"


def test_one_receipt_is_about_one_file(labelled: Path, plain: Path) -> None:
    assert machine(labelled, plain, "--receipt", plain, code=2)["error"]["code"] == "invalid_request"


@pytest.fixture(scope="module")
def original() -> Image.Image:
    return picture(scene(1, 2))


@pytest.fixture
def claim_and_listing(tmp_path: Path, original: Image.Image) -> tuple[Path, Path]:
    paths = tmp_path / "claim.jpg", tmp_path / "front [1].jpg"
    stained(original, 0.05).save(paths[0], quality=85)
    original.save(paths[1], quality=92)
    return paths


def test_a_listing_is_compared_and_shown_by_its_name(claim_and_listing: tuple[Path, Path]) -> None:
    claim, listing = claim_and_listing
    english = run(claim, "--listing", listing)
    assert english.exit_code == 0
    assert "The picture was made from the merchant’s photo" in english.output
    assert "listing_altered · pixels · front [1].jpg" in english.output
    assert "图片由商家的照片制成" in run(claim, "--listing", listing, "--lang", "zh-CN").output
    (answer,) = machine(claim, "--listing", listing)["files"]
    assert answer["receipt"] == inspection.inspect_file(claim, [listing]).to_json()


def test_a_receipt_is_checked_with_the_same_listings(claim_and_listing: tuple[Path, Path], tmp_path: Path) -> None:
    claim, listing = claim_and_listing
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(machine(claim, "--listing", listing)))
    assert machine(claim, "--listing", listing, "--receipt", receipt)["agrees"]
    refused = machine(claim, "--receipt", receipt, code=1)
    assert any(difference.startswith("listings: only in the receipt") for difference in refused["differences"])


def test_the_match_is_drawn(claim_and_listing: tuple[Path, Path], plain: Path, tmp_path: Path) -> None:
    claim, listing = claim_and_listing
    target = tmp_path / "match.png"
    assert machine(claim, "--listing", listing, "--picture", target)["pictures"] == {listing.name: "match.png"}
    assert target.read_bytes().startswith(b"\x89PNG")
    both = machine(claim, "--listing", plain, "--listing", listing, "--picture", target)
    assert both["pictures"] == {listing.name: "match-2.png"}
    assert (tmp_path / "match-2.png").read_bytes() == target.read_bytes()
    assert "No match, so no picture was written." in run(plain, "--listing", listing, "--picture", target).output
    for wrong in (
        (claim, "--picture", target),
        (claim, plain, "--listing", listing, "--picture", target),
        (claim, "--listing", listing, "--picture", tmp_path / "nowhere" / "match.png"),
    ):
        assert machine(*wrong, code=2)["error"]["code"] == "invalid_request"


def test_a_listing_that_cannot_be_read_is_an_error_of_its_own(labelled: Path, tmp_path: Path) -> None:
    error = machine(labelled, "--listing", tmp_path / "none.jpg", code=2)["error"]
    assert error["code"] == "listing_unreadable"
    assert error["message"].startswith("none.jpg: ")


def test_without_opencv_it_names_the_extra(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_NEEDED_TO_COMPARE", ("no_such_module",))
    assert machine(labelled)["files"]
    assert machine(labelled, "--listing", labelled, code=3)["error"]["extra"] == "evidence"


def test_without_the_extra_it_names_it(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_NEEDED", ("no_such_module",))
    error = machine(labelled, code=3)["error"]
    assert (error["code"], error["extra"]) == ("extra_missing", "evidence")
    assert "refund-credit-ledger[evidence]" in error["message"]
