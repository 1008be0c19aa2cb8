"""Reports whose label identified its file by former rules: found by the migration, told to their reporter, to the
person whom they are about, and to supervisors, and counted as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alembic import command
from sqlalchemy import insert, text

from ledger.core.checklist import NeedState, best_state, checklist
from ledger.core.conduct import Conduct, Reading
from ledger.core.encoding import b64url, canonical_json
from ledger.core.ids import decode_id
from ledger.core.support import Support
from ledger.service import migrate
from ledger.service.appeals.case_file import CaseFile, case_file
from ledger.service.former_labels import FormerLabels, all_former_labels, former_labels
from ledger.service.reports import get_report, list_reports
from ledger.service.staff import StaffMember
from ledger.store import former_labels as store
from ledger.store.engine import open_engine, writing
from ledger.store.evidence_tables import FormerLabel
from tests.service.conftest import Town
from tests.service.desk import contest, staff_of
from tests.support import evidence

CODES = {"receipt_sha256": b64url(bytes(32)), "tool": "refund-ledger/0.1.0 inspect/1"}


def evidence_of(*items: dict[str, Any]) -> bytes:
    return canonical_json({"body": {"evidence": [{"type": "original_file", "sha256": "x"}, *items]}})


def label(*codes: str, **more: Any) -> dict[str, Any]:
    return {"type": "ai_label", "sha256": "x", "inspection": {**CODES, "findings": list(codes)}, **more}


FINDING = {"code": "x", "strength": "identifies", "tool_version": "1"}
OTHER_TOOL: dict[str, Any] = {"type": "ai_label", "sha256": "x", "finding": FINDING}
BODIES: dict[int, tuple[str, bool, bytes]] = {
    1: ("ai_fabricated_image", True, evidence_of(label("aigc_generated"))),
    2: ("ai_fabricated_image", True, evidence_of(label("size_differs", "c2pa_ai_generated"))),
    3: ("edited_image", True, evidence_of(OTHER_TOOL)),
    4: ("edited_image", False, evidence_of(label("aigc_generated"))),
    5: ("ai_fabricated_image", True, evidence_of(label("iptc_ai_generated"))),
    6: ("edited_image", True, evidence_of({**label("aigc_generated"), "type": "original_file"})),
    7: ("wardrobing", True, evidence_of(label("aigc_generated"))),
    8: (
        "edited_image",
        True,
        evidence_of({"type": "ai_label", "sha256": "x", "finding": {**FINDING, "strength": "hint"}}),
    ),
}
"""By report: conduct, whether it stands, and its body. 1 to 4 have a label of former rules, 4 was taken back."""


def test_the_migration_finds_them_and_changes_nothing_else(database_url: str) -> None:
    command.upgrade(migrate.alembic_config(database_url), "0011")
    engine, at = open_engine(database_url), datetime(2026, 1, 2, 3, tzinfo=UTC)
    insert_report = text(
        "INSERT INTO report (id, platform, control_group, order_ref, conduct, amount_minor, currency, outcome,"
        " act_ended_at, notice_sent_at, recorded_at, effective_hour, expires_day, act_id, live) VALUES (:id, :platform,"
        " 'east', :ref, :conduct, 1, 'CNY', 'refund_refused', :at, :at, :at, 1, 90000, :id, :live)"
    )
    insert_body = text("INSERT INTO entry_body VALUES (:id, 'report', :at, :salt, :body)")
    with engine.begin() as connection:
        for report, (conduct, live, body) in BODIES.items():
            platform, ref = ("beta" if report == 3 else "acme"), bytes([report]) * 32
            values = {"id": report, "platform": platform, "ref": ref, "conduct": conduct, "at": at, "live": live}
            connection.execute(insert_report, values)
            connection.execute(insert_body, {"id": report, "at": at, "salt": bytes(32), "body": body})
        before = connection.execute(text("SELECT * FROM report ORDER BY id")).all()
    migrate.upgrade(database_url)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT * FROM report ORDER BY id")).all() == before
        assert store.among(connection, BODIES) == {1, 2, 3, 4}
        assert store.page(connection, "acme", limit=9) == [2, 1], "those that stand, newest first"
        assert store.page(connection, "acme", limit=9, before_id=2) == [1]
        assert store.counts(connection) == {"acme": 2, "beta": 1}
        store.erase(connection, [1])
        assert store.among(connection, BODIES) == {2, 3, 4}
    engine.dispose()


def staff(role: str, group: str | None = None) -> StaffMember:
    return StaffMember(1, "x", role, group, "en")


def test_they_are_told_to_those_whom_they_concern_and_count_as_before(town: Town) -> None:
    service, member = town.rt.settings.service, town.acme.member()
    digest = b64url(b"f" * 32)
    original = {**evidence("original_file")[0], "sha256": digest}
    written = {**label("aigc_generated"), "sha256": digest}
    items = [original, written, *evidence("live_reshoot_failed", "admission")]
    persons = [town.person(number) for number in (1, 2)]
    old, new = (
        town.report(town.acme, person, conduct="ai_fabricated_image", evidence=items)["id"] for person in persons
    )
    case, other = (contest(town, *pair)[0] for pair in zip(persons, (old, new), strict=True))
    with writing(town.rt.engine) as connection:  # as the migration left it
        connection.execute(insert(FormerLabel), {"report_id": decode_id("rp", old, service), "platform": "acme"})

    assert [get_report(town.rt, member, one)["former_label"] for one in (old, new)] == [True, False]
    listed = list_reports(town.rt, member, 10, None, None, former_label=True)
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([old], False)
    assert list_reports(town.rt, town.bolt.member(), 10, None, None, former_label=True)["data"] == []

    def labels(file: CaseFile) -> tuple[bool, NeedState]:
        reduced = [one for one in file.items if one.evidence.type != "live_reshoot_failed"]
        reading = Reading.FORMER if file.former_label else Reading.RECORDED
        found = checklist(file_conduct, [one.evidence for one in reduced], [one.state for one in reduced], {}, reading)
        return file.former_label, best_state(found)

    file_conduct = Conduct.AI_FABRICATED_IMAGE
    reviewer = staff_of(town, "anna")
    assert labels(case_file(town.rt.context, case, reviewer)) == (True, NeedState.ON_PAPER)
    assert labels(case_file(town.rt.context, other, reviewer)) == (False, NeedState.MISSING)
    assert case_file(town.rt.context, case, reviewer).items[1].support is Support.INDICATED, "no better mark than any"

    for who, seen in (
        (staff("supervisor"), (old,)),
        (staff("auditor"), (old,)),
        (staff("admin"), None),
        (staff("reviewer"), None),
        (staff("supervisor", "acme-group"), None),
    ):
        assert former_labels(town.rt.engine, service, "acme", who) == FormerLabels(1, seen)
    assert all_former_labels(town.rt.engine, service) == {"acme": [old]}
    assert town.withdraw(town.acme, old)["former_label"] is True
    assert all_former_labels(town.rt.engine, service) == {}, "only what stands is listed"
