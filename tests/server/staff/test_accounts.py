"""The rules for new accounts, and the contents and exports of the audit log."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from ledger.errors import AlreadyExists, NotFound, StaffInvalid
from ledger.protocol.encoding import format_time
from ledger.server.db.engine import open_engine, writing
from ledger.server.platforms import queries as members
from ledger.server.staff import accounts as service
from ledger.server.staff import audit, passwords
from ledger.server.staff import audit_queries as staff_events
from ledger.server.staff.audit import EventFilter
from tests.staffing import SEALING_KEY, cheap, enrol

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "＝1+1"]


@pytest.fixture
def engine(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(passwords, "hasher", cheap)
    opened = open_engine(migrated_url)
    yield opened
    opened.dispose()


@pytest.mark.parametrize(
    "name", ["a", "Ann", "ann smith", "ann@x", "-ann", "..", ".ann", "", "a" * 65, "ann\n", "<b>x</b>", "安娜"]
)
def test_names_that_are_none(engine: Engine, name: str) -> None:
    with pytest.raises(StaffInvalid, match="login name"):
        enrol(engine, name)


def test_an_account_has_a_known_role_language_and_group(engine: Engine) -> None:
    with pytest.raises(StaffInvalid, match="role"):
        enrol(engine, "ann", "boss")
    with pytest.raises(StaffInvalid, match="language"):
        enrol(engine, "ann", language="fr")
    with pytest.raises(StaffInvalid, match="control group"):
        enrol(engine, "ann", control_group="east")
    with writing(engine) as connection:
        members.ensure_control_group(connection, "east")
    enrol(engine, "ann", control_group="east", language="zh-CN")
    with pytest.raises(AlreadyExists):
        enrol(engine, "ann")
    (account,) = service.list_staff(engine)
    assert (account.name, account.control_group, account.language) == ("ann", "east", "zh-CN")
    assert service.control_groups(engine) == ["east"]


def test_what_is_not_there_cannot_be_changed(engine: Engine) -> None:
    for change in (
        lambda: service.disable_staff(engine, "nobody", T0),
        lambda: service.enable_staff(engine, "nobody", T0),
        lambda: service.set_role(engine, "nobody", "admin", T0),
        lambda: service.reset_staff(
            engine, SEALING_KEY, "nobody", service="x", now=T0, random_bytes=secrets.token_bytes
        ),
    ):
        with pytest.raises(NotFound):
            change()


def test_first_passwords_and_seeds_differ(engine: Engine) -> None:
    people = [enrol(engine, f"p{number}", changed=False) for number in range(4)]
    assert len({person.password for person in people}) == 4
    assert len({person.uri for person in people}) == 4
    assert all("issuer=refund-ledger.local" in person.uri for person in people)


def test_the_audit_log_filters_and_pages(engine: Engine) -> None:
    ann, bo = enrol(engine, "ann", now=T0), enrol(engine, "bo", now=T0)
    with writing(engine) as connection:
        for number in range(120):
            who = (ann, bo)[number % 2].staff.id
            audit.record(
                connection,
                T0 + timedelta(hours=number),
                who,
                "case_read",
                "appeal",
                f"ap_{number % 10}",
                about_group="east",
            )
    seen = []
    before = None
    while True:
        page = audit.page(engine, EventFilter(action="case_read"), None, before)
        seen += page.events
        if page.older is None:
            break
        before = page.older
    assert len(seen) == 120
    assert [event.at for event in seen] == sorted((event.at for event in seen), reverse=True)

    def count(**conditions: object) -> int:
        return len(audit.page(engine, EventFilter(**conditions), None, limit=500).events)  # type: ignore[arg-type]

    assert count(staff_name="ann") == 60
    assert count(staff_name="ann", object_id="ap_2") == 12
    assert count(object_id="ap_2", object_type="staff") == 0
    assert count(since=T0 + timedelta(hours=100)) == 20
    assert count(action="case_read", until=T0 + timedelta(hours=1)) == 1
    assert count(staff_name="nobody") == 0
    assert audit.actions(engine, None) == ["case_read", "staff_added"]


def test_an_export_holds_everything_and_no_formula(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "EXPORT_ROWS", 7)
    ann = enrol(engine, "ann", now=T0)
    details = [*FORMULAS, 'say "so", then\nend', "平", "<script>", *[f"n{number}" for number in range(20)]]
    with writing(engine) as connection:
        for detail in details:
            audit.record(connection, T0, ann.staff.id, "noted", "appeal", "ap_1", detail, about_group="east")
    table = b"".join(audit.export_csv(engine, EventFilter(), None)).decode()
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(rows) == len(details) + 1
    for cells in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝")) for cell in cells.values())
    assert [cells["detail"].removeprefix("'") for cells in reversed(rows)][1:] == details
    lines = b"".join(audit.export_lines(engine, EventFilter(action="noted"), None)).decode().splitlines()
    assert [json.loads(line)["detail"] for line in reversed(lines)] == details
    assert json.loads(lines[0])["at"] == format_time(T0)
    assert b"".join(audit.export_csv(engine, EventFilter(action="nothing"), None)).count(b"\n") == 1


@given(st.text(max_size=30))
def test_no_cell_begins_a_formula(text: str) -> None:
    cell = audit._cell(text)
    assert cell.removeprefix("'") == text.removeprefix("'") or cell == f"'{text}"
    assert cell[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}


def test_long_details_are_cut(engine: Engine) -> None:
    with writing(engine) as connection:
        audit.record(connection, T0, None, "noted", detail="x" * 500)
    (event,) = audit.page(engine, EventFilter(), None).events
    assert event.detail == "x" * 200


def test_nothing_in_the_program_changes_or_deletes_an_event() -> None:
    from tests.support import ROOT

    assert [name for name in vars(staff_events) if name.startswith(("update", "delete"))] == []
    for file in [*(ROOT / "ledger").rglob("*.py"), *(ROOT / "api").rglob("*.py")]:
        text = file.read_text("utf-8")
        assert "update(StaffEvent" not in text, file.name
        assert "delete(StaffEvent" not in text, file.name
