"""The upgrade finds the reports whose label identified its file by former rules, and changes nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alembic import command
from sqlalchemy import text

from ledger.protocol.encoding import b64url, canonical_json
from ledger.server.db import migrate
from ledger.server.db.engine import open_engine
from ledger.server.records import former_label_queries as store

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
