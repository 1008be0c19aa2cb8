"""Contested reports on a running server, for tests of the console."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import insert, update

from ledger.core.encoding import b64url
from ledger.core.identifiers import Kind
from ledger.core.ids import decode_id, encode_id
from ledger.core.tags import tag
from ledger.service import attachments
from ledger.service.appeals import subject
from ledger.store import appeals as store
from ledger.store.appeal_tables import AppealCase, CaseAttachment
from ledger.store.appeals import CaseRow
from ledger.store.engine import reading, writing
from ledger.store.subject_sessions import SessionRow
from tests.api.conftest import ACME, Api, person
from tests.support import Platform, evidence

GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
Subjects = list[tuple[Kind, bytes]]


def somebody() -> Subjects:
    """Phone and payment of somebody nobody has seen."""
    return [(Kind.PHONE, person()), (Kind.PAYMENT, person())]


def session_of(api: Api, subjects: Subjects, locale: str = "en", profile: str = "CN") -> SessionRow:
    """A session of this person, as a platform would have it opened."""
    tags = tuple((kind.value, tag(kind, element)) for kind, element in subjects)
    return SessionRow(1, "beta", "beta-group", profile, locale, api.rt.keys.epoch, tags, None, api.rt.now())


def contested(
    api: Api,
    subjects: Subjects | None = None,
    *,
    by: Platform = ACME,
    statement: str = "The parcel came broken.",
    locale: str = "en",
    profile: str = "CN",
    **report: Any,
) -> str:
    """Report somebody and let them appeal; the case's public id."""
    subjects = subjects or somebody()
    answer = api.report(by, subjects, **report)
    assert answer.status_code == 201, answer.text
    session = session_of(api, subjects, locale, profile)
    (row,) = subject.appeal(api.rt.context, session, [answer.json()["id"]], "wrong_facts", statement, locale)
    return encode_id("ap", row.id, api.settings.service)


def case_row(api: Api, case: str) -> CaseRow:
    """The case as stored."""
    with reading(api.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, api.settings.service))
    assert row is not None
    return row


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
        made = connection.execute(insert(CaseAttachment).values(**values).returning(CaseAttachment.id)).scalar_one()
    return encode_id("at", made, api.settings.service)


def reported(data: bytes, kind: str) -> dict[str, Any]:
    """An item of evidence whose file is `data`."""
    return {"type": kind, "sha256": b64url(hashlib.sha256(data).digest())}
