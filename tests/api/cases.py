"""Cases for the API's tests: people, reports about them, appeals, and reviewers who work on them."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import httpx2

from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.platforms.members import list_platforms
from tests.api.conftest import ACME, BETA, Api, person
from tests.support import Platform

ANNA, BEN = Staff(71, "reviewer"), Staff(72, "reviewer")
STATEMENT = "The parcel did come back."
Subjects = list[tuple[Kind, bytes]]


def somebody() -> Subjects:
    """Return a new person, by their phone."""
    return [(Kind.PHONE, person())]


def key() -> str:
    """A fresh idempotency key."""
    return secrets.token_hex(8)


def about(api: Api, subjects: Subjects, **changes: Any) -> dict[str, Any]:
    """The epoch and tags of a person, as they are sent."""
    tags = [{"kind": kind.value, "tag": b64url(tag(kind, element))} for kind, element in subjects]
    return {"epoch": api.rt.keys.epoch, "subjects": tags, **changes}


def appeal_body(reports: list[str], **changes: Any) -> dict[str, Any]:
    """An appeal, without the person's tags."""
    return {"reports": reports, "grounds": "wrong_facts", "statement": STATEMENT, "locale": "en", **changes}


def reported(api: Api, subjects: Subjects, platform: Platform = ACME, **changes: Any) -> str:
    """The id of a new report about the person."""
    answer = api.report(platform, subjects, **changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def filed(api: Api, subjects: Subjects, *reports: str, platform: Platform = BETA, **changes: Any) -> str:
    """The id of a new case against the (first) report, filed by `platform` for the person."""
    body = appeal_body(list(reports), **about(api, subjects), **changes)
    answer = api.request("POST", "/v1/appeals", platform, key=key(), json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["appeals"][0]["id"])


def case(api: Api, **changes: Any) -> tuple[str, str, Subjects]:
    """(case, report, person): BETA has appealed for the person against a report of ACME."""
    subjects = somebody()
    report = reported(api, subjects, **changes)
    return filed(api, subjects, report), report, subjects


def get(api: Api, path: str, platform: Platform, **query: Any) -> httpx2.Response:
    """GET with a query."""
    return api.request("GET", path, platform, params=query)


def view(api: Api, appeal: str, platform: Platform, **query: Any) -> dict[str, Any]:
    """The case as the platform sees it."""
    answer = get(api, f"/v1/appeals/{appeal}", platform, **query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def say(api: Api, appeal: str, platform: Platform, party: str, text: str, **arguments: Any) -> httpx2.Response:
    """A message in a case."""
    arguments.setdefault("key", key())
    body = {"party": party, "text": text}
    return api.request("POST", f"/v1/appeals/{appeal}/messages", platform, json=body, **arguments)


def decide(api: Api, appeal: str, outcome: Outcome = Outcome.UPHELD, staff: Staff = ANNA, **more: Any) -> None:
    """Have the case decided."""
    staff_actions.take(api.rt.context, appeal, staff)
    staff_actions.decide(api.rt.context, appeal, staff, outcome, "Because of the carrier's record.", **more)


def attach(
    api: Api, appeal: str, platform: Platform, party: str, data: bytes, name: str = "file.txt", **more: Any
) -> httpx2.Response:
    """Hand in a file; `more` are further query parameters, `key` the idempotency key."""
    idempotency_key = more.pop("key", None) or key()
    query = {"party": party, "name": name, **more}
    path = f"/v1/appeals/{appeal}/attachments"
    return api.request("POST", path, platform, key=idempotency_key, params=query, content=data)


def item(data: bytes, kind: str = "carrier_record") -> dict[str, str]:
    """The item of evidence that `data` is."""
    return {"type": kind, "sha256": b64url(hashlib.sha256(data).digest())}


def in_session(api: Api, subjects: Subjects, platform: Platform = BETA) -> SubjectSessionRow:
    """A session of the person that `platform` opened."""
    tags = tuple((kind.value, tag(kind, element)) for kind, element in subjects)
    return SubjectSessionRow(
        1, platform.name, platform.control_group, "CN", "en", api.rt.keys.epoch, tags, None, api.rt.now()
    )


def narrowed(api: Api, platform: Platform, scope: str) -> dict[str, str]:
    """The header with a token of the platform that is narrowed to `scope`."""
    return {"Authorization": f"Bearer {api.token(platform, scope=scope)}"}


_MORE: dict[tuple[int, str], Platform] = {}


def enrolled(api: Api, name: str, group: str | None = None, scopes: tuple[str, ...] = ACME.scopes) -> Platform:
    """One more platform."""
    known = {member.platform for member, _ in list_platforms(api.rt.engine)}
    platform = _MORE.setdefault((id(api), name), Platform(name, group or f"{name}-group", f"{name}-1", scopes=scopes))
    if name not in known:
        platform.enrol(api.settings)
        api.rt.members.refresh()
    return platform
