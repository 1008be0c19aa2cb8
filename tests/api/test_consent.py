"""Consent in lookups: one rule for what a reference is, and 422 `consent_missing` on every way to a lookup."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from api.json_io import parse_briefly, parse_small
from api.platform.questions import read_lookup
from ledger.client.inputs import check_consent_ref
from ledger.errors import InvalidInput
from ledger.protocol.identifiers import Kind
from ledger.rules.reports import parse_body
from ledger.server.db.engine import reading
from ledger.server.db.tables.lookups import LookupLog
from tests.api.conftest import ACME, READER, Api, person
from tests.api.test_hotpath import THE_LONG_WAY, send, shown
from tests.counts import trials
from tests.rules.test_reports import body as report_body
from tests.support import CONSENT, Platform

GOOD = {
    "epoch": 1,
    "subjects": [{"kind": "phone", "tag": "A" * 43}],
    "purpose": "refund_review",
    "order_ref": "A" * 43,
}
ISLE = Platform("isle", "isle-group", "isle-1", profile="UK", scopes=("lookup",))
MISSING: list[dict[str, Any]] = [
    {"consent_ref": None},
    {"consent_ref": " "},
    {"consent_ref": "\u3164"},
    {"consent_ref": None, "purpose": "appeal"},
    {"consent_ref": None, "epoch": 2},
    {"consent_ref": None, "min_index": 10**9},
]


def takes(read: Any, *given: Any, **named: Any) -> bool:
    with suppress(InvalidInput):
        read(*given, **named)
        return True
    return False


@settings(max_examples=trials(90, 150))
@given(st.text(min_size=0, max_size=132) | st.text("ab 意\u0301\u3164é~\x7f", max_size=8))
@example("同意-2026")
@example("terms 2026")
@example("a" * 128)
@example("a" * 129)
@example("\U0001f600" * 128)
@example("e\u0301")
@example("\u2028")
@example("\ud800")
def test_a_lookup_takes_what_a_report_takes(ref: str) -> None:
    asked = {**GOOD, "consent_ref": ref}
    expected = takes(parse_body, report_body(consent_ref=ref))
    for parser in (parse_small, parse_briefly):
        assert takes(read_lookup, asked, parser) is expected
    assert takes(read_lookup, asked) is expected
    assert takes(check_consent_ref, ref) is expected


@pytest.fixture(scope="module")
def isle(api: Api) -> Platform:
    """A platform under a law that asks for no consent."""
    ISLE.join(api.rt.engine)
    api.rt.members.refresh()
    return ISLE


def logged(api: Api) -> int:
    with reading(api.rt.engine) as connection:
        return connection.execute(select(func.count()).select_from(LookupLog)).scalar_one()


@pytest.mark.parametrize("changes", MISSING, ids=str)
def test_both_ways_refuse_alike_and_record_nothing(api: Api, changes: dict[str, Any]) -> None:
    element = person()
    api.report(ACME, [(Kind.PHONE, element)])
    before = logged(api)
    for who in (element, person()):
        body = json.dumps(api.lookup_body((Kind.PHONE, who), **changes)).encode()
        short, long = send(api, body), send(api, body, *THE_LONG_WAY)
        assert shown(short) == shown(long)
        problem = short.json()
        assert (short.status_code, problem["code"], problem["profile"]) == (422, "consent_missing", "CN")
    assert logged(api) == before


@pytest.mark.parametrize("ref", [CONSENT, "同意-2026", "terms 2026"])
def test_both_ways_take_the_same_references(api: Api, ref: str) -> None:
    body = json.dumps(api.lookup_body((Kind.PHONE, person()), consent_ref=ref, nonce="A" * 22)).encode()
    short, long = send(api, body), send(api, body, *THE_LONG_WAY)
    assert shown(short) == shown(long)
    assert short.status_code == 200


def test_each_item_of_a_batch_needs_its_own(api: Api) -> None:
    items = [
        api.lookup_body((Kind.PHONE, person())),
        *(api.lookup_body((Kind.PHONE, person()), **changes) for changes in MISSING),
        api.lookup_body((Kind.PHONE, person()), consent_ref="同意-2026"),
        api.lookup_body((Kind.PHONE, person()), consent_ref="a\nb"),
    ]
    results = api.request("POST", "/v1/lookups/batch", READER, json={"lookups": items}).json()["results"]
    codes = [result["problem"]["code"] if "problem" in result else result["status"] for result in results]
    assert codes == [200, *["consent_missing"] * len(MISSING), 200, "invalid_request"]


def test_a_platform_whose_law_asks_for_none_needs_none(api: Api, isle: Platform) -> None:
    def status(**changes: Any) -> tuple[int, str]:
        body = api.lookup_body((Kind.PHONE, person()), **changes)
        answer = api.request("POST", "/v1/lookups", isle, json=body)
        return answer.status_code, answer.json().get("code", "")

    assert status(consent_ref=None) == (200, "")
    assert status(consent_ref="terms 2026") == (200, "")
    assert status(consent_ref="\u3164") == (422, "invalid_request")
