"""Reports whose label identified its file by former rules: told to their reporter, to the person whom they are about,
and to supervisors, and counted as they were."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from ledger.protocol.encoding import b64url
from ledger.protocol.public_ids import decode_id
from ledger.rules.checklist import NeedState, best_state, checklist
from ledger.rules.conduct import Conduct, Reading
from ledger.rules.corroboration import Corroboration
from ledger.server.appeals.case_page import CaseFile, case_file
from ledger.server.db.engine import writing
from ledger.server.db.tables.reports import FormerLabel
from ledger.server.reports.former_labels import FormerLabels, all_former_labels, former_labels
from ledger.server.reports.reports import get_report, list_reports
from ledger.server.staff.accounts import StaffMember
from tests.server.appeals.contested import contest, staff_of
from tests.server.conftest import LedgerFixture
from tests.support import evidence

pytestmark = pytest.mark.one_engine

CODES = {"receipt_sha256": b64url(bytes(32)), "tool": "refund-ledger/0.1.0 inspect/1"}


def label(*codes: str, **more: Any) -> dict[str, Any]:
    return {"type": "ai_label", "sha256": "x", "inspection": {**CODES, "findings": list(codes)}, **more}


def staff(role: str, group: str | None = None) -> StaffMember:
    return StaffMember(1, "x", role, group, "en")


def test_they_are_told_to_those_whom_they_concern_and_count_as_before(ledger: LedgerFixture) -> None:
    service, member = ledger.rt.settings.service, ledger.acme.member()
    digest = b64url(b"f" * 32)
    original = {**evidence("original_file")[0], "sha256": digest}
    written = {**label("aigc_generated"), "sha256": digest}
    items = [original, written, *evidence("live_reshoot_failed", "admission")]
    persons = [ledger.person(number) for number in (1, 2)]
    made = [ledger.report(ledger.acme, person, conduct="ai_fabricated_image", evidence=items) for person in persons]
    case, other = (contest(ledger, *pair)[0] for pair in zip(persons, made, strict=True))
    old, new = (str(one["id"]) for one in made)
    with writing(ledger.rt.engine) as connection:  # as the migration left it
        connection.execute(insert(FormerLabel), {"report_id": decode_id("rp", old, service), "platform": "acme"})

    assert [get_report(ledger.rt.context, member, one)["former_label"] for one in (old, new)] == [True, False]
    listed = list_reports(ledger.rt.context, member, 10, None, None, former_label=True)
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([old], False)
    assert list_reports(ledger.rt.context, ledger.bolt.member(), 10, None, None, former_label=True)["data"] == []

    def labels(file: CaseFile) -> tuple[bool, NeedState]:
        reduced = [one for one in file.items if one.evidence.type != "live_reshoot_failed"]
        reading = Reading.FORMER if file.former_label else Reading.RECORDED
        found = checklist(file_conduct, [one.evidence for one in reduced], [one.state for one in reduced], {}, reading)
        return file.former_label, best_state(found)

    file_conduct = Conduct.AI_FABRICATED_IMAGE
    reviewer = staff_of(ledger, "anna")
    assert labels(case_file(ledger.rt.context, case, reviewer)) == (True, NeedState.ON_PAPER)
    assert labels(case_file(ledger.rt.context, other, reviewer)) == (False, NeedState.MISSING)
    assert case_file(ledger.rt.context, case, reviewer).items[1].support is Corroboration.INDICATED, (
        "no better mark than any"
    )

    for who, seen in (
        (staff("supervisor"), (old,)),
        (staff("auditor"), (old,)),
        (staff("admin"), None),
        (staff("reviewer"), None),
        (staff("supervisor", "acme-group"), None),
    ):
        assert former_labels(ledger.rt.engine, service, "acme", who) == FormerLabels(1, seen)
    assert all_former_labels(ledger.rt.engine, service) == {"acme": [old]}
    assert ledger.withdraw(ledger.acme, old)["former_label"] is True
    assert all_former_labels(ledger.rt.engine, service) == {}, "only what stands is listed"
