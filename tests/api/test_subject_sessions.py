"""Links to a person's own record: made by a platform, good once, for minutes, and counted."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import SessionExpired
from ledger.protocol.public_ids import decode_id
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.sessions import redeem, session_of
from ledger.server.db.engine import reading
from ledger.server.db.tables.appeals import SubjectSession
from tests.api.cases import about, reported, somebody
from tests.api.conftest import ACME, BETA, READER, Api
from tests.support import Platform

LATER = timedelta(minutes=10)


def opened(api: Api, person: Any, platform: Platform = BETA, /, **changes: Any) -> Any:
    body = {**about(api, person), "locale": "en", **changes}
    return api.request("POST", "/v1/subject-sessions", platform, json=body)


def code_of(link: dict[str, str]) -> str:
    return link["url"].partition("#")[2]


def test_a_link_opens_the_record_once(api: Api) -> None:
    subjects = somebody()
    report = reported(api, subjects)
    answer = opened(api, subjects)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    link = answer.json()
    assert link["url"].startswith(f"{api.url}/me#")
    assert link["id"].startswith("ss_")
    settings, now = api.settings, api.rt.now()
    token = redeem(api.rt.engine, settings, code_of(link), now, secrets.token_bytes)
    session = session_of(api.rt.engine, token, now)
    record = own_record(api.rt.context, api.rt.members.weights(), session)
    assert [item["id"] for item in record["reports"]] == [report]
    assert [(lookup["asked_by"], lookup["purpose"]) for lookup in record["lookups"]] == [("beta", "subject_session")]
    with pytest.raises(SessionExpired):
        redeem(api.rt.engine, settings, code_of(link), now, secrets.token_bytes)


def test_a_link_ends_after_ten_minutes(api: Api) -> None:
    link = opened(api, somebody()).json()
    with pytest.raises(SessionExpired):
        redeem(api.rt.engine, api.settings, code_of(link), api.rt.now() + LATER, secrets.token_bytes)


def test_neither_the_database_nor_the_log_holds_the_code(api: Api) -> None:
    link = opened(api, somebody()).json()
    number = decode_id("ss", link["id"], api.settings.service)
    with reading(api.rt.engine) as connection:
        row = connection.execute(select(SubjectSession).where(SubjectSession.id == number)).one()
    code = code_of(link)
    assert len(code) == 43
    assert code not in json.dumps([str(value) for value in row])
    assert code not in api.logs.getvalue().decode()


def test_two_requests_are_two_links(api: Api) -> None:
    subjects = somebody()
    answers = [opened(api, subjects) for _ in range(2)]
    assert answers[0].json()["url"] != answers[1].json()["url"]
    assert "idempotency-replayed" not in answers[1].headers


def test_a_session_of_one_platform_does_not_show_in_anothers_name(api: Api) -> None:
    subjects = somebody()
    reported(api, subjects)
    opened(api, subjects, ACME)
    token = redeem(
        api.rt.engine, api.settings, code_of(opened(api, subjects).json()), api.rt.now(), secrets.token_bytes
    )
    record = own_record(api.rt.context, api.rt.members.weights(), session_of(api.rt.engine, token, api.rt.now()))
    assert sorted(str(lookup["asked_by"]) for lookup in record["lookups"]) == ["None", "beta"]
    assert "acme" not in json.dumps(record)


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": []},
        {"subjects": [{"kind": "phone", "tag": "A" * 43}] * 9},
        {"subjects": [{"kind": "account", "tag": "A" * 43}]},
        {"subjects": [{"kind": "phone", "tag": "A" * 42}]},
        {"locale": "de"},
        {"locale": None},
        {"epoch": 0},
        {"epoch": None},
        {"phone": "+86"},
    ],
)
def test_what_breaks_the_rules_is_refused(api: Api, changes: dict[str, Any]) -> None:
    answer = opened(api, somebody(), **changes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_stale_epoch_and_a_missing_scope_are_refused(api: Api) -> None:
    answer = opened(api, somebody(), epoch=9)
    assert (answer.status_code, answer.json()["code"], answer.json()["epoch"]) == (409, "stale_epoch", 1)
    assert opened(api, somebody(), READER).json()["code"] == "scope_missing"
    assert api.request("GET", "/v1/subject-sessions", BETA).headers["allow"] == "POST"


def test_links_of_a_day_are_counted(api: Api) -> None:
    eager = Platform("eager", "eager-group", "eager-1", scopes=("appeal",)).enrol(api.settings)
    api.rt.members.refresh()
    subjects = somebody()
    for _ in range(api.settings.subject_sessions_daily_quota):
        assert opened(api, subjects, eager).status_code == 201
    refused = opened(api, subjects, eager)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 86_401
    assert opened(api, subjects).status_code == 201, "each platform has its own"
