"""Looking into the files of a case: who may, what is written down, and what counts for the checklist."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import pytest

from ledger.client.reports.evidence import inspection_json
from ledger.errors import ConflictOfInterest, NotFound, Overloaded, RoleMissing
from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.receipt import Conclusion
from ledger.protocol.encoding import b64url, parse_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.checklist import FileState
from ledger.rules.corroboration import Corroboration
from ledger.server.appeals import attachments, inspection
from ledger.server.appeals.attachments import NewAttachment
from ledger.server.appeals.case_page import case_file
from ledger.server.appeals.inspection import InspectionAttempt, InspectionFailure, inspect_again
from ledger.server.db.engine import writing
from tests.evidence import files
from tests.server.appeals.contested import contest, staff_of
from tests.server.appeals.test_appeals import case_row
from tests.server.appeals.test_case_file import audited
from tests.server.conftest import LedgerFixture
from tests.support import UPLOADED, evidence

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

LABELLED = files.png(files.text_chunk("AIGC", files.LABEL.encode()))


def item(kind: str, data: bytes, **inspection: Any) -> dict[str, Any]:
    """An item of evidence with what an inspection of its file finds, changed."""
    report = {**inspection_json(inspect_bytes(data).in_report()), **inspection}
    named = {"type": kind, "sha256": b64url(hashlib.sha256(data).digest()), "inspection": report}
    return {**named, "origin": UPLOADED} if kind == "original_file" else named


def contested(
    ledger: LedgerFixture,
    *items: dict[str, Any],
    rest: tuple[str, ...] = ("original_file", "live_reshoot_failed", "admission"),
) -> str:
    """A contested report of an AI-made photo with these items and others of the types `rest`."""
    person = ledger.person()
    report = ledger.report(ledger.acme, person, conduct="ai_fabricated_image", evidence=[*items, *evidence(*rest)])
    return contest(ledger, person, report)[0]


def hand_in(ledger: LedgerFixture, case: str, data: bytes, place: int | None = 0, party: str = "reporter") -> str:
    """A file of the case with its bytes on disk; its public id."""
    kept = attachments.save(ledger.rt.settings, data, lambda size: hashlib.sha256(data + case.encode()).digest()[:size])
    new = NewAttachment(
        case_id=case_row(ledger, case).id, party=party, platform="acme", name="claim.png", media_type="image/png",
        size_bytes=len(data), width_px=64, height_px=48, sha256=hashlib.sha256(data).digest(),
        file=kept, evidence_index=place, added_at=ledger.clock(),
    )  # fmt: skip
    with writing(ledger.rt.engine) as connection:
        number = attachments.insert_file_row(connection, new)
    return encode_id("at", number, ledger.rt.settings.service)


def look_into(ledger: LedgerFixture, case: str, file: str, name: str = "anna") -> InspectionAttempt:
    return inspect_again(ledger.rt.context, ledger.rt.settings, case, file, staff_of(ledger, name))


def test_an_inspection_made_again_is_written_down_and_counts(ledger: LedgerFixture) -> None:
    case = contested(ledger, item("ai_label", LABELLED))
    file = hand_in(ledger, case, LABELLED)
    look = look_into(ledger, case, file)
    receipt = inspect_bytes(LABELLED)
    assert look.inspected is not None
    assert look.sha256 == receipt.sha256
    assert look.inspected.again.inspection == receipt.in_report()
    assert look.inspected.conclusion is Conclusion.AI_INDICATED
    assert (look.inspected.findings, look.inspected.notes) == (receipt.findings, receipt.notes)
    digest = b64url(receipt.in_report().receipt_sha256)
    assert audited(ledger) == [("file_read", case, file), ("file_inspected", case, f"{file} {digest}")]
    anna = staff_of(ledger, "ben")
    assert case_file(ledger.rt.context, case, anna).items[0].support is Corroboration.INDICATED
    again = {look.sha256: look.inspected.again}
    assert case_file(ledger.rt.context, case, anna, again).items[0].support is Corroboration.INDICATED


def test_the_time_of_receipt_that_the_report_states_goes_into_the_inspection(ledger: LedgerFixture) -> None:
    """A signature under the former interim list may count by it."""
    case = contested(ledger, item("original_file", LABELLED), rest=("live_reshoot_failed", "admission"))
    files_of = inspection._reported_files(
        ledger.rt.context, case, hand_in(ledger, case, LABELLED), staff_of(ledger, "anna")
    )
    assert files_of.received_at == parse_time(UPLOADED["received_at"])
    other = contested(ledger, item("ai_label", LABELLED))
    files_of = inspection._reported_files(
        ledger.rt.context, other, hand_in(ledger, other, LABELLED), staff_of(ledger, "ben")
    )
    assert files_of.received_at is None


def test_what_is_not_in_the_file_contradicts_the_report(ledger: LedgerFixture) -> None:
    plain = files.png()
    claimed = {"findings": ["c2pa_ai_generated"], "trust": "listed", "receipt_sha256": b64url(bytes(32))}
    items = [item("ai_label", plain, **claimed), item("original_file", plain)]
    case = contested(ledger, *items, rest=("admission",))
    look = look_into(ledger, case, hand_in(ledger, case, plain))
    assert look.inspected is not None
    file = case_file(ledger.rt.context, case, staff_of(ledger, "ben"), {look.sha256: look.inspected.again})
    assert file.items[0].support is Corroboration.CONTRADICTED
    assert file.checks[0].checks[1].support is Corroboration.CONTRADICTED


def test_the_same_bytes_serve_every_item_that_names_them(ledger: LedgerFixture) -> None:
    case = contested(ledger, item("original_file", LABELLED), item("ai_label", LABELLED))
    hand_in(ledger, case, LABELLED, 0)
    shown = case_file(ledger.rt.context, case, staff_of(ledger, "anna")).items
    assert [item.state for item in shown[:2]] == [FileState.MATCHES] * 2
    assert [len(item.files) for item in shown[:2]] == [1, 0]
    assert shown[2].state is FileState.NOT_HANDED_IN


def test_only_what_the_report_names_is_looked_into(ledger: LedgerFixture) -> None:
    case = contested(ledger, item("ai_label", LABELLED))
    mine = hand_in(ledger, case, LABELLED, None, "subject")
    other = hand_in(ledger, case, files.png(), 0)
    for file in (mine, other, "at_nonsense"):
        with pytest.raises(NotFound):
            look_into(ledger, case, file, f"anna-{file[-4:].lower()}")
    assert "file_inspected" not in [action for action, _, _ in audited(ledger)]


def test_who_may_not_see_the_case_may_not_look_into_its_files(ledger: LedgerFixture) -> None:
    case = contested(ledger, item("ai_label", LABELLED))
    file = hand_in(ledger, case, LABELLED)
    for name, role, group, error in (
        ("bound", "reviewer", "acme-group", ConflictOfInterest),
        ("root", "admin", None, RoleMissing),
    ):
        with pytest.raises(error):
            inspect_again(ledger.rt.context, ledger.rt.settings, case, file, staff_of(ledger, name, role, group))
    assert {action for action, _, _ in audited(ledger)} == {"case_refused"}


def test_one_file_at_a_time(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "WAIT_SECONDS", 0.05)
    case = contested(ledger, item("ai_label", LABELLED))
    file = hand_in(ledger, case, LABELLED)
    inside, leave = threading.Event(), threading.Event()

    def occupy() -> None:
        with inspection.alone(1):
            inside.set()
            leave.wait(30)

    other = threading.Thread(target=occupy)
    other.start()
    try:
        assert inside.wait(10)
        with pytest.raises(Overloaded):
            look_into(ledger, case, file)
    finally:
        leave.set()
        other.join()
    assert look_into(ledger, case, file, "ben").inspected is not None


def answer(data: bytes = LABELLED, **changes: Any) -> bytes:
    """What the process says, changed."""
    receipt = inspect_bytes(data)
    as_reported = receipt.in_report()
    report = {
        "receipt_sha256": b64url(as_reported.receipt_sha256),
        "tool": as_reported.tool,
        "findings": list(as_reported.findings),
    }
    said = {"receipt": {**receipt.to_json(), **changes}, "report": report, "alone": report, "compared": 0}
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (None, InspectionFailure.STOPPED),
        (b"", InspectionFailure.STOPPED),
        (b"[]", InspectionFailure.STOPPED),
        (b"[" * 100_000, InspectionFailure.STOPPED),
        (b'{"receipt": {}, "report": {}}', InspectionFailure.STOPPED),
        (answer(files.png()), InspectionFailure.STOPPED),
        (answer(conclusion="genuine"), InspectionFailure.STOPPED),
        (answer(notes=[{"code": "nonsense", "where": "", "detail": ""}]), InspectionFailure.STOPPED),
        (answer(findings=[{"code": "x", "strength": "hint", "where": "", "facts": {}}]), InspectionFailure.STOPPED),
        (
            answer(findings=[{"code": "edit_history", "strength": "hint", "where": "", "facts": {"steps": {}}}]),
            InspectionFailure.STOPPED,
        ),
        (b'{"error": "configuration_error"}', InspectionFailure.EXTRA_MISSING),
        (b'{"error": "evidence_malformed"}', InspectionFailure.UNFIT),
    ],
)
def test_an_answer_that_is_no_inspection_of_this_file_is_not_believed(
    said: bytes | None, failure: InspectionFailure
) -> None:
    look = inspection._read_answer(hashlib.sha256(LABELLED).digest(), said)
    assert (look.inspected, look.failure) == (None, failure)
    assert inspection._read_answer(hashlib.sha256(LABELLED).digest(), answer()).inspected is not None
