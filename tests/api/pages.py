"""For tests of pages: staff who are signed in, and people with an open session, over real HTTP."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from ledger.core.encoding import b64url
from ledger.core.identifiers import Kind
from ledger.core.ids import encode_id
from ledger.core.tags import tag
from ledger.service.appeals import subject
from ledger.service.reports import submit_report
from ledger.service.staff_sessions import token_hash
from ledger.store import staff as store
from ledger.store.engine import writing
from ledger.store.subject_sessions import SessionRow
from tests.api.conftest import ACME, BETA, Api, person
from tests.support import Platform, report_payload

Somebody = list[tuple[Kind, bytes]]


@dataclass
class Visitor:
    """A browser in so far as it sends its cookies and says where its forms come from."""

    api: Api
    cookie: str

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        headers = {"Cookie": self.cookie, **arguments.pop("headers", {})}
        self.api.client.cookies.clear()  # what one visitor was given is not another's
        return self.api.client.get(path, headers=headers, follow_redirects=False, **arguments)

    def post(self, path: str, data: dict[str, str] | None = None, **arguments: Any) -> httpx2.Response:
        headers = {"Cookie": self.cookie, "Origin": self.api.url, **arguments.pop("headers", {})}
        self.api.client.cookies.clear()
        return self.api.client.post(path, data=data or {}, headers=headers, follow_redirects=False, **arguments)


def staff_visitor(api: Api, role: str, control_group: str | None = None, language: str = "en") -> tuple[Visitor, int]:
    """A member of staff with an open session, and their number. (Signing in has tests of its own.)"""
    now, token = datetime.now(UTC), b64url(secrets.token_bytes(32))
    with writing(api.rt.engine) as connection:
        number = store.insert_staff(
            connection,
            name=f"{role}-{secrets.token_hex(4)}",
            role=role,
            control_group=control_group,
            language=language,
            password_hash="none",
            totp_secret=b"none",
            totp_last_step=None,
            must_change_password=False,
            disabled_at=None,
            failed_count=0,
            locked_until=None,
            created_at=now,
        )
        store.insert_session(connection, token_hash(token), number, now, now + timedelta(hours=12))
    return Visitor(api, f"console={token}"), number


def reported(api: Api, platform: Platform = ACME, **changes: Any) -> tuple[Somebody, str]:
    """Somebody with a report; its public id."""
    somebody = [(Kind.PHONE, person()), (Kind.PAYMENT, person())]
    return somebody, report_about(api, somebody, platform, **changes)


def report_about(api: Api, somebody: Somebody, platform: Platform = ACME, **changes: Any) -> str:
    """One more report about them."""
    payload = report_payload(api.rt, platform, somebody, **changes)
    stored = submit_report(api.rt, platform.member(), payload, payload["signature"]).result(10)
    return str(json.loads(stored.body)["id"])


def session_row(api: Api, somebody: Somebody) -> SessionRow:
    """Their session, without a browser."""
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in somebody)
    now = datetime.now(UTC)
    return SessionRow(1, BETA.name, BETA.control_group, "CN", "en", api.rt.keys.epoch, subjects, None, now)


def contested(api: Api, statement: str = "The parcel came broken.", **changes: Any) -> tuple[Somebody, str]:
    """Somebody with a case; its public id."""
    somebody, report = reported(api, **changes)
    (row,) = subject.appeal(api.rt.context, session_row(api, somebody), [report], "wrong_facts", statement, "en")
    return somebody, encode_id("ap", row.id, api.settings.service)
