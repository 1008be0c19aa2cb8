"""The evidence panel over real HTTP: what findings say, a file inspected again, reused pictures, the minimum."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.sandbox import inspection as sandbox
from ledger.protocol.encoding import b64url
from ledger.server.appeals import inspection
from ledger.server.appeals.participants import Party
from ledger.server.db.engine import reading
from ledger.server.staff import audit_queries as staff_events
from ledger.server.staff.audit_queries import EventFilter
from tests.api.appealed import XSS, Browsers, attach, contested, inspected, report_about, reported, somebody, staffed
from tests.api.conftest import BETA, Api
from tests.api.console_fixture import assert_shell, post, said
from tests.evidence import files
from tests.evidence.inspections_once import inspections_once
from tests.evidence.signed import certificate, created, sign
from tests.support import evidence

__all__ = ["inspections_once"]

LABELLED = files.png(files.text_chunk("AIGC", files.LABEL.encode()))
PLAIN = files.png()

# The pages and the inspection of files are the same on both engines; the rows behind them are tests/server's matter.
pytestmark = [pytest.mark.sqlite, pytest.mark.parametrize("api", ["sqlite"], indirect=True)]


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        yield browsers


def case_of(api: Api, *items: dict[str, Any], **changes: Any) -> str:
    """A contested report of an edited image with these items and what its minimum needs beside them."""
    rest = evidence("original_file", "source_image", "admission")
    return contested(api, **{"conduct": "edited_image", "evidence": [*items, *rest], **changes})


def inspect(at: Browsers, case: str, file: str, name: str = "reviewer") -> Any:
    return post(at.client(name), f"/console/cases/{case}/inspect", {"file": file})


def item(page: Any, number: int) -> str:
    """What the page says of the item of this number, without markup."""
    match = re.search(rf'<li id="item-{number}">(.*?)(?=<li id="item-|<h3>The minimum|<h3>此类行为)', page.text, re.S)
    assert match is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", match[1]))


def test_findings_say_for_whom_they_speak_how_far_and_what_they_do_not_show(api: Api, at: Browsers) -> None:
    keys = certificate()
    former = inspected(files.png(image=files.picture(seed=2)), "original_file")
    del former["origin"]
    camera = sign(files.jpeg(), "image/jpeg", [created("digitalCapture")], **keys)
    selfie = sign(files.jpeg(image=files.picture(seed=5)), "image/jpeg", [created("digitalCapture")], **keys)
    generated = sign(files.png(image=files.picture(seed=6)), "image/png", [created("trainedAlgorithmicMedia")], **keys)
    other = {"code": "deepdetect/9", "strength": "indicates", "tool_version": "DeepDetect 3.2"}
    case = case_of(
        api,
        inspected(LABELLED, "ai_label"),
        {**inspected(camera, "ai_label", trust="listed"), "finding": other},
        inspected(PLAIN, "listing_match", findings=["a_later_code", "editing_software"]),
        former,
        inspected(selfie, "ai_label"),
        inspected(generated, "ai_label", trust="listed"),
    )
    page = at.client("reviewer").get(f"/console/cases/{case}")
    assert "Speaks for AI indicates China’s label: made by AI aigc_generated" in item(page, 1)
    assert "It does not show that the named producer made it, or all of it" in item(page, 1)
    listed = "(signer on the official trust list) c2pa_captured The signer’s certificate is under the official C2PA"
    assert f"Speaks for the person indicates Manifest: taken by a camera {listed}" in item(page, 2)
    assert "A trust list says who the signer is, not who used its service or device" in item(page, 2)
    assert "By another tool, cannot be made again here: indicates deepdetect/9 (DeepDetect 3.2)" in item(page, 2)
    assert "Speaks for alteration hint Saved by an editor editing_software" in item(page, 3)
    assert "Not known to this version a_later_code" in item(page, 3)
    assert "It found nothing. That is usual for honest and dishonest pictures alike." in item(page, 4)
    nobody = "A camera’s statement without a trusted signer: speaks for nobody indicates"
    assert f"{nobody} Manifest: taken by a camera (signer on no trust list) c2pa_captured" in item(page, 5)
    assert "Anybody can make one in any name, so the name proves nothing." in item(page, 5)
    assert "Speaks for the person" not in item(page, 5)
    assert "Origin unknown: the report is from before it was asked for" in item(page, 4)
    assert "Uploaded with the claim, received" in item(page, 7)
    marks = (
        *("Signs that anybody can write", "Findings speak against it", "Claimed, and no finding supports it"),
        "Found, by the reporter’s word",
    )
    for number, mark in ((1, marks[0]), (2, marks[1]), (3, marks[2]), (5, marks[2]), (6, marks[3])):
        assert mark in item(page, number)
        assert not any(other in item(page, number) for other in marks if other != mark)
    assert "Findings speak against no. 2. Ask the platform" in said(page)
    tool, digest = inspect_bytes(LABELLED).tool, inspect_bytes(LABELLED).in_report().receipt_sha256
    assert f"{tool} Receipt {digest.hex()}" in item(page, 1)
    chinese = at.client("chinese").get(f"/console/cases/{case}")
    assert "表明使用了人工智能 有迹象 国家标准标识：由人工智能生成 aigc_generated" in item(chinese, 1)
    assert "对当事人有利" in item(chinese, 2)
    assert "不对任何一方有利" in item(chinese, 5)
    assert_shell(page)


def test_a_file_that_was_handed_in_is_inspected_again(api: Api, at: Browsers) -> None:
    case = case_of(api, inspected(LABELLED, "original_file"), inspected(LABELLED, "ai_label"))
    before = at.client("reviewer").get(f"/console/cases/{case}")
    assert "Inspect the file again" not in said(before), "it was not handed in"
    file = attach(api, case, LABELLED, "claim.png", Party.REPORTER)
    page = inspect(at, case, file)
    assert page.status_code == 200
    assert "Inspected here just now Agrees with the report" in item(page, 1)
    assert "do not identify how it came about" in item(page, 1)
    assert "Place in the file png:tEXt" in item(page, 1)
    assert "credit_code" in item(page, 1)
    assert "Signs that anybody can write" in item(page, 2), "it is there, and anybody may have put it there"
    assert "The same file as no. 1." in item(page, 2)
    assert "Found again here" not in said(page)
    assert at.audited(case)[-3:] == ["file_read", "file_inspected", "case_read"]
    digest = b64url(inspect_bytes(LABELLED).in_report().receipt_sha256)
    with reading(api.rt.engine) as connection:
        rows = staff_events.read_events(connection, EventFilter(object_id=case, action="file_inspected"), None, 9)
    assert [row.detail for row in rows] == [f"{file} {digest}"]
    after = at.client("reviewer").get(f"/console/cases/{case}")
    assert "Inspected here just now" not in said(after), "nothing is kept"
    assert_shell(page)


@pytest.mark.parametrize(
    ("changes", "shown", "mark"),
    [
        ({"findings": ["c2pa_ai_generated"], "trust": "listed"}, "Differs: other findings",
         "Findings speak against it"),
        ({"findings": ["c2pa_ai_generated"], "trust": "listed", "tool": "refund-ledger/9 inspect/9"},
         "Differs: another version", "Claimed, and no finding supports it"),
        ({}, "The same findings, other details", "Claimed, and no finding supports it"),
    ],
)  # fmt: skip
def test_what_does_not_agree(api: Api, at: Browsers, changes: dict[str, Any], shown: str, mark: str) -> None:
    data = files.png(image=files.picture(seed=3))
    case = case_of(api, inspected(data, "ai_label", receipt_sha256=b64url(bytes(32)), **changes))
    page = inspect(at, case, attach(api, case, data, "claim.png", Party.REPORTER))
    assert shown in item(page, 1)
    assert mark in item(page, 1)
    assert "does not mean that the picture is genuine, nor that it is not" in item(page, 1)


def test_a_trust_that_the_lists_do_not_bear_out_speaks_against_the_report(api: Api, at: Browsers) -> None:
    """A certificate in a famous name, which the reporter calls listed."""
    data = sign(files.png(), "image/png", [created("trainedAlgorithmicMedia")], **certificate("OpenAI OpCo, LLC"))
    case = case_of(api, inspected(data, "ai_label", trust="listed"))
    before = at.client("reviewer").get(f"/console/cases/{case}")
    assert "Found, by the reporter’s word" in item(before, 1)
    page = inspect(at, case, attach(api, case, data, "claim.png", Party.REPORTER))
    assert "The same findings, another trust in the signer" in item(page, 1)
    assert "Findings speak against it" in item(page, 1)
    assert "Anybody can make one in any name" in item(page, 1)


def test_an_issuers_answer_and_a_merchants_file_are_shown_as_what_they_are(api: Api, at: Browsers) -> None:
    upload, merchant = evidence("original_file", "original_file")
    merchant["origin"] = {"source": "handed_in_by_merchant"}
    answer = {
        **evidence("issuer_confirmation")[0],
        "confirmation": {
            "issuer": f"A provider {XSS}", "answered_at": "2024-02-01T09:00:00Z", "verdict": "generated",
            "file_sha256": upload["sha256"],
        },
    }  # fmt: skip
    proofs = [answer, *evidence("admission")]
    case = contested(api, conduct="ai_fabricated_image", evidence=[upload, merchant, *proofs])
    page = at.client("reviewer").get(f"/console/cases/{case}")
    assert "Uploaded with the claim, received" in item(page, 1)
    assert "Handed in by the merchant: counts for no minimum" in item(page, 2)
    assert "its service made the file." in item(page, 3)
    assert "By the platform’s word" in item(page, 3)
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text


def test_a_file_without_a_reported_inspection_and_one_of_another_type(api: Api, at: Browsers) -> None:
    note = b"They wrote that they had made it up."
    case = case_of(api, reported(PLAIN, "original_file"), reported(note, "admission"))
    picture = attach(api, case, PLAIN, "claim.png", Party.REPORTER)
    text = attach(api, case, note, "chat.txt", Party.REPORTER)
    page = inspect(at, case, picture)
    assert "The report has no inspection of this file to compare with" in item(page, 1)
    assert "Inspect the file again" not in item(page, 2)
    assert "This file cannot be inspected" in item(inspect(at, case, text), 2)


def test_a_text_for_which_there_is_no_form_any_more_is_shown(api: Api, at: Browsers) -> None:
    case = case_of(api, inspected(LABELLED, "ai_label"))
    file = attach(api, case, LABELLED, "claim.png", Party.REPORTER)
    written = {"file": file, "reasons": f"Half a sentence {XSS}"}
    page = post(at.client("reviewer"), f"/console/cases/{case}/inspect", written)
    shown = "there is no form any more for what you wrote. Half a sentence"
    assert shown in said(page), "the case is in nobody's hands"
    assert XSS not in page.text
    assert "Inspected here just now" in item(page, 1)


def test_who_may_have_a_file_inspected(api: Api, at: Browsers) -> None:
    case = case_of(api, inspected(LABELLED, "ai_label"))
    file, mine = attach(api, case, LABELLED, "claim.png", Party.REPORTER), attach(api, case, PLAIN, "mine.png")
    elsewhere = case_of(api, inspected(LABELLED, "ai_label"), by=BETA)
    assert inspect(at, case, file, "auditor").status_code == 200, "it reads, and changes nothing"
    assert inspect(at, case, file, "admin").status_code == 403
    refused = inspect(at, case, file, "bound")
    assert (refused.status_code, "Somebody else has to work" in said(refused)) == (403, True)
    for where, which in ((elsewhere, file), (case, mine), (case, "at_nonsense"), (case, ""), ("ap_nonsense", file)):
        assert inspect(at, where, which).status_code == 404
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    path, form = f"/console/cases/{case}/inspect", {"file": file}
    assert post(at.client("reviewer"), path, form, foreign).status_code == 403
    with at.console.client() as nobody:
        signed_out = post(nobody, path, form)
    assert (signed_out.status_code, "session has ended" in said(signed_out)) == (401, True)
    assert at.audited(case).count("file_inspected") == 1
    assert at.client("reviewer").get(path).headers["location"] == f"/console/cases/{case}"


def test_somebody_else_is_inspecting(api: Api, at: Browsers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "WAIT_SECONDS", 0.05)
    case = case_of(api, inspected(LABELLED, "ai_label"))
    file = attach(api, case, LABELLED, "claim.png", Party.REPORTER)
    with inspection.alone(1):
        english, chinese = inspect(at, case, file), inspect(at, case, file, "chinese")
    assert english.status_code == 503
    assert "Another file is being inspected. Try again in a few seconds." in said(english)
    assert "正在检验另一个文件" in said(chinese)
    assert inspect(at, case, file).status_code == 200


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("sys.modules['c2pa'] = None; runpy.run_path(REAL, run_name='__main__')", "is not installed"),
        ("os.kill(os.getpid(), 9)", "took too much time or memory"),
    ],
)
def test_where_no_inspection_can_be_made_the_page_says_why(
    api: Api, at: Browsers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, shown: str
) -> None:
    script = tmp_path / "child.py"
    script.write_text(f"import os, runpy, sys\nREAL = {os.fspath(sandbox.CHILD)!r}\n{code}\n", "utf-8")
    case = case_of(api, inspected(LABELLED, "ai_label"))
    file = attach(api, case, LABELLED, "claim.png", Party.REPORTER)
    monkeypatch.setattr(sandbox, "CHILD", script)
    page = inspect(at, case, file)
    assert page.status_code == 200
    assert shown in item(page, 1)
    assert "Signs that anybody can write" in item(page, 1), "the mark is that of the report: nothing is held against it"


def test_what_stands_in_a_file_never_becomes_markup(api: Api, at: Browsers) -> None:
    data = files.jpeg(files.exif_segment(files.exif({0x0131: f"GIMP {XSS}".encode()})))
    case = case_of(api, inspected(data, "original_file"))
    page = inspect(at, case, attach(api, case, data, "claim.jpg", Party.REPORTER))
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    assert "&lt;script&gt;alert" in page.text
    assert "unsafe" not in page.headers["content-security-policy"]


def pictured(pdq: str, kind: str = "original_file", quality: int | None = 80) -> dict[str, Any]:
    stated = {} if quality is None else {"pdq_quality": quality}
    return {**evidence(kind)[0], "pdq": pdq, **stated}


def test_reused_pictures_are_counted_and_nobody_is_named(api: Api, at: Browsers) -> None:
    pdq, other, source = ("1e2d3c4b5a697887" * 4, "2d3c4b5a6978871e" * 4, "3c4b5a6978871e2d" * 4)
    near = f"{int(pdq, 16) ^ 0x3:064x}"
    for _ in range(2):
        report_about(api, somebody(), BETA, conduct="edited_image",
                     evidence=[pictured(near), *evidence("listing_match", "admission")])  # fmt: skip
    case = contested(
        api,
        conduct="edited_image",
        evidence=[
            pictured(pdq), pictured(other), pictured(source), pictured(source, "source_image"),
            pictured(pdq, quality=49), pictured(pdq, quality=None), pictured("0" * 64),
            *evidence("original_file", "admission"),
        ],
    )  # fmt: skip
    page = at.client("reviewer").get(f"/console/cases/{case}")
    for number, words in enumerate(
        (
            "was used in 2 other confirmed reports. They are by 1 platform.",
            "No other confirmed report used this picture",
            "it is the merchant’s own photo",
            "only the claimant’s own files are",
            "a quality below 50",
            "does not give the quality",
            "no picture with anything in it",
            "the report gives no hash",
        ),
        1,
    ):
        assert words in item(page, number)
    assert "for reuse" not in item(page, 9), "an admission is no picture"
    assert "beta" not in item(page, 1)
    chinese = item(at.client("chinese").get(f"/console/cases/{case}"), 1)
    assert "曾用于另外 2 份已确认的报告。 这些报告来自 1 个平台。" in chinese
