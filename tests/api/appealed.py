"""Contested reports on a running server, for tests of the console."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert, select, update

from ledger.client.reports.evidence import inspection_json
from ledger.evidence.inspection import inspect_bytes
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id, encode_id
from ledger.protocol.tags import tag
from ledger.server.appeals import attachments, consumer, staff_actions
from ledger.server.appeals.attachments import check_file, written_file
from ledger.server.appeals.case_changes import changing, load_case
from ledger.server.appeals.participants import Participant, Party, add_file
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import AppealCase, CaseAttachment
from ledger.server.db.tables.reports import Listing
from ledger.server.records import case_queries as store
from ledger.server.records.case_queries import CaseRow
from ledger.server.staff import audit_queries as staff_events
from ledger.server.staff import passwords
from ledger.server.staff.accounts import as_staff
from ledger.server.staff.audit_queries import EventFilter
from tests.api.conftest import ACME, BETA, Api, person
from tests.api.console_fixture import ConsoleFixture, post
from tests.staffing import cheap
from tests.support import UPLOADED, Platform, evidence

GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
XSS = "<script>alert(1)</script><img src=x onerror=alert(2)>"
PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\x0f\x00\x01\x01\x01\x00\x1b\xb6\xeeV\x00\x00\x00\x00IEND\xaeB`\x82"
)


Somebody = list[tuple[Kind, bytes]]


def somebody() -> Somebody:
    """Return phone and payment of a new person."""
    return [(Kind.PHONE, person()), (Kind.PAYMENT, person())]


def session_of(api: Api, who: Somebody, locale: str = "en", profile: str = "CN") -> SubjectSessionRow:
    """A session of this person, as a platform would have it opened."""
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in who)
    return SubjectSessionRow(
        1, BETA.name, BETA.control_group, profile, locale, api.rt.keys.epoch, subjects, None, api.rt.now()
    )


def report_about(api: Api, who: Somebody, by: Platform = ACME, **changes: Any) -> str:
    """A report about them; its public id."""
    return str(api.report(by, who, **changes).json()["id"])


def contested(
    api: Api,
    who: Somebody | None = None,
    *,
    by: Platform = ACME,
    statement: str = "The parcel came broken.",
    locale: str = "en",
    profile: str = "CN",
    **report: Any,
) -> str:
    """Report a person and let them appeal. Return the case's public id."""
    who = who or somebody()
    session, ids = session_of(api, who, locale, profile), [report_about(api, who, by, **report)]
    (row,) = consumer.open_cases(api.rt.context, session, ids, "wrong_facts", statement, locale)
    return encode_id("ap", row.id, api.settings.service)


def send(api: Api, path: str, body: dict[str, Any]) -> httpx2.Response:
    """What acme sends under a fresh idempotency key."""
    return api.request("POST", path, ACME, key=secrets.token_hex(8), json=body)


def held(api: Api, who: Somebody, **report: Any) -> str:
    """A report that repeats, under another order, one that its reporter withdrew while it was contested."""
    case = contested(api, who, **report)
    first = api.request("GET", f"/v1/appeals/{case}", ACME).json()["report"]
    assert send(api, f"/v1/reports/{first}/withdraw", {"reason": "other"}).status_code == 200
    body = api.report(ACME, who, **report).json()
    assert body["status"] == "held"
    return str(body["id"])


def case_row(api: Api, case: str) -> CaseRow:
    """The case as stored."""
    with reading(api.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, api.settings.service))
    assert row is not None
    return row


def state(api: Api, case: str) -> tuple[str, str | None]:
    """State and outcome of the case."""
    row = case_row(api, case)
    return row.state, row.outcome


def newest(api: Api, case: str) -> str:
    """The `seen` of a page that shows everything."""
    with reading(api.rt.engine) as connection:
        return str(store.newest_event(connection, decode_id("ap", case, api.settings.service)))


def set_due(api: Api, case: str, due_at: datetime) -> None:
    """Let the case be due at another time."""
    with writing(api.rt.engine) as connection:
        number = decode_id("ap", case, api.settings.service)
        connection.execute(update(AppealCase).where(AppealCase.id == number).values(due_at=due_at))


def with_file(
    api: Api, case: str, data: bytes, name: str, media_type: str, *, place: int | None = None, party: str = "subject"
) -> str:
    """A file in the case; its public id."""
    values = {
        "case_id": decode_id("ap", case, api.settings.service), "party": party, "platform": None, "name": name,
        "media_type": media_type, "size_bytes": len(data), "width_px": 1, "height_px": 1,
        "sha256": hashlib.sha256(data).digest(), "file": attachments.save(api.settings, data, secrets.token_bytes),
        "evidence_index": place, "added_at": api.rt.now(),
    }  # fmt: skip
    with writing(api.rt.engine) as connection:
        created = connection.execute(insert(CaseAttachment).values(**values).returning(CaseAttachment.id)).scalar_one()
    return encode_id("at", created, api.settings.service)


def attach(api: Api, case: str, data: bytes = b"hello", name: str = "a.txt", party: Party = Party.SUBJECT) -> str:
    """A file that a party handed in through the service, which judges it; its public id."""
    row = case_row(api, case)
    if party is Party.REPORTER:
        participant = Participant(party, row.platform, row.control_group)
    else:
        with reading(api.rt.engine) as connection:
            tags = connection.scalars(select(Listing.tag).where(Listing.report_id == row.report_id))
            participant = Participant(party, tags=frozenset(tags))
    checked = check_file(data, name, api.settings)
    with written_file(api.settings, data, secrets.token_bytes) as draft, changing(api.rt.context) as batch:
        kept, _ = add_file(batch, api.settings, load_case(batch, row.id), participant, checked, draft)
    return encode_id("at", kept.id, api.settings.service)


def reported(data: bytes, kind: str) -> dict[str, Any]:
    """An item of evidence whose file is `data`; an original file came with the claim."""
    item = {"type": kind, "sha256": b64url(hashlib.sha256(data).digest())}
    return {**item, "origin": UPLOADED} if kind == "original_file" else item


def inspected(data: bytes, kind: str, **changes: Any) -> dict[str, Any]:
    """The same with an inspection of the file, in which `changes` stand instead of what is true."""
    result = inspect_bytes(data).in_report()
    return {**reported(data, kind), "inspection": {**inspection_json(result), **changes}}


@dataclass
class Browsers:
    """Who works at the console of `api`: one of each role, `signer` and `chinese` (reviewers), `bound` (to acme's
    group). `client(name)` is a browser in which this person is signed in, the same one each time."""

    api: Api
    console: ConsoleFixture
    clients: dict[str, httpx2.Client] = field(default_factory=dict)

    def client(self, name: str) -> httpx2.Client:
        if name not in self.clients:
            self.clients[name] = self.console.signed_in(name)
        return self.clients[name]

    def act(self, name: str, case: str, action: str, **fields: str) -> httpx2.Response:
        """Send the form of an action, as a page that shows everything would."""
        return post(self.client(name), f"/console/cases/{case}/{action}", {"seen": newest(self.api, case), **fields})

    def taken(self, case: str, name: str = "reviewer") -> str:
        """Return the case, assigned to this member of staff."""
        staff_actions.take(self.api.rt.context, case, as_staff(self.console.staff[name].staff))
        return case

    def audited(self, case: str) -> list[str]:
        """Actions in the audit log about this case, oldest first."""
        with reading(self.api.rt.engine) as connection:
            rows = staff_events.read_events(connection, EventFilter(object_id=case), None, 100)
        return [row.action for row in reversed(rows)]


@contextmanager
def staffed(api: Api) -> Iterator[Browsers]:
    """The console of `api` with its people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "hasher", cheap)  # logins have tests of their own
        console = ConsoleFixture(api)
        console.add("signer", "reviewer")
        console.add("bound", "reviewer", control_group="acme-group")
        console.add("chinese", "reviewer", language="zh-CN")
        browsers = Browsers(api, console)
        yield browsers
        for client in browsers.clients.values():
            client.close()
