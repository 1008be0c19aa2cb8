"""Lookups and blinded evaluation over HTTP."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest

from ledger.protocol import sodium, voprf
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.platforms.members import set_quota
from tests.api.conftest import ACME, BETA, READER, Api, person


def test_a_listed_person_is_found_and_a_stranger_is_clear_in_as_many_bytes(api: Api) -> None:
    element = person()
    api.report(ACME, [(Kind.PHONE, element)])
    hit = api.request("POST", "/v1/lookups", READER, json=api.lookup_body((Kind.PHONE, element)))
    miss = api.request("POST", "/v1/lookups", READER, json=api.lookup_body((Kind.PHONE, person())))
    assert (hit.status_code, miss.status_code) == (200, 200)
    assert (hit.json()["tier"], hit.json()["matched_kinds"]) == ("watch", ["phone"])
    assert (miss.json()["tier"], miss.json()["credit"], miss.json()["guidance"]) == ("clear", 100, ["approve"])
    assert len(hit.content) == len(miss.content)
    assert hit.headers.keys() == miss.headers.keys()


def test_a_tag_of_another_kind_never_matches(api: Api) -> None:
    element = person()
    api.report(ACME, [(Kind.PHONE, element)])
    body = api.lookup_body((Kind.PAYMENT, element))
    assert api.request("POST", "/v1/lookups", READER, json=body).json()["tier"] == "clear"
    body = api.lookup_body()
    body["subjects"] = [{"kind": "payment", "tag": b64url(tag(Kind.PHONE, element))}]
    assert api.request("POST", "/v1/lookups", READER, json=body).json()["tier"] == "clear"


def test_all_context_is_accepted(api: Api) -> None:
    body = api.lookup_body(
        *((kind, person()) for kind in Kind),
        purpose="appeal",
        consent_ref="consent-7",
        refund={"amount_minor": 0, "currency": "CNY", "claim": "not_received"},
        min_index=0,
    )
    assert api.request("POST", "/v1/lookups", READER, json=body).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": []},
        {"subjects": [{"kind": "phone", "tag": "A" * 43}] * 9},
        {"subjects": [{"kind": "account", "tag": "A" * 43}]},
        {"subjects": [{"kind": "phone", "tag": "A" * 42 + "B"}]},
        {"subjects": [{"kind": "phone", "tag": "A" * 43, "more": 1}]},
        {"purpose": "marketing"},
        {"order_ref": "A-1001"},
        {"consent_ref": "e\u0301"},
        {"consent_ref": "a" * 129},
        {"consent_ref": "\u0000"},
        {"refund": {"amount_minor": -1, "currency": "CNY", "claim": "damaged"}},
        {"refund": {"amount_minor": True, "currency": "CNY", "claim": "damaged"}},
        {"refund": {"amount_minor": 1, "currency": "cny", "claim": "damaged"}},
        {"refund": {"amount_minor": 1, "currency": "CNY", "claim": "bored"}},
        {"min_index": -1},
        {"min_index": 2**53},
        {"epoch": 0},
        {"epoch": "1"},
        {"unknown": 1},
    ],
)
def test_unfit_lookups_are_refused(api: Api, changes: dict[str, object]) -> None:
    body = api.lookup_body((Kind.PHONE, person()), **changes)
    answer = api.request("POST", "/v1/lookups", READER, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_another_epoch_is_stale(api: Api) -> None:
    answer = api.request("POST", "/v1/lookups", READER, json=api.lookup_body((Kind.PHONE, person()), epoch=2))
    assert (answer.status_code, answer.json()["code"], answer.json()["epoch"]) == (409, "stale_epoch", 1)


def test_what_was_just_written_is_seen_and_the_future_is_not_waited_for(api: Api) -> None:
    element = person()
    index = api.report(ACME, [(Kind.PHONE, element)]).json()["entry_index"]
    seen = api.request("POST", "/v1/lookups", READER, json=api.lookup_body((Kind.PHONE, element), min_index=index + 1))
    assert seen.json()["tier"] == "watch"
    assert seen.json()["as_of_index"] >= index + 1
    later = api.lookup_body((Kind.PHONE, element), min_index=10**9)
    answer = api.request("POST", "/v1/lookups", READER, json=later)
    assert (answer.status_code, answer.json()["code"]) == (503, "index_not_reached")
    assert answer.headers["retry-after"]


def test_a_batch_answers_each_by_itself(api: Api) -> None:
    element = person()
    api.report(ACME, [(Kind.PHONE, element)])
    items = [
        api.lookup_body((Kind.PHONE, element)),
        api.lookup_body((Kind.PHONE, person()), epoch=2),
        {"nonsense": 1},
        api.lookup_body((Kind.PHONE, person())),
    ]
    answer = api.request("POST", "/v1/lookups/batch", READER, json={"lookups": items})
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [200, 409, 422, 200]
    assert [results[0]["lookup"]["tier"], results[3]["lookup"]["tier"]] == ["watch", "clear"]
    assert results[1]["problem"]["code"] == "stale_epoch"


def test_a_full_batch_of_lookups(api: Api) -> None:
    items = [api.lookup_body((Kind.PHONE, person())) for _ in range(1000)]
    answer = api.request("POST", "/v1/lookups/batch", READER, json={"lookups": items})
    assert {result["status"] for result in answer.json()["results"]} == {200}
    assert len({result["lookup"]["id"] for result in answer.json()["results"]}) == 1000


def test_an_evaluation_verifies_against_the_suite(api: Api) -> None:
    suite = api.request("GET", "/v1/suite").json()
    holder = suite["epochs"][0]["holders"][0]
    blinded = [sodium.point_from_hash(secrets.token_bytes(64)) for _ in range(5)]
    body = {"epoch": suite["epochs"][0]["epoch"], "blinded": [b64url(element) for element in blinded]}
    answer = api.request("POST", "/v1/oprf/evaluate", READER, json=body)
    assert answer.status_code == 200
    [share] = answer.json()["shares"]
    assert share["holder"] == holder["id"]
    evaluated = [unb64url(element, 32) for element in share["evaluated"]]
    voprf.verify(unb64url(holder["public_key"], 32), blinded, evaluated, unb64url(share["proof"], 64))


@pytest.mark.parametrize(
    ("blinded", "code"),
    [
        (["A" * 43], "identity_point"),
        (["_" * 42 + "8"], "invalid_point"),
        (["A" * 42], "invalid_request"),
        ([], "batch_size_invalid"),
        (["A" * 43] * 1001, "batch_size_invalid"),
    ],
)
def test_unfit_blinded_elements_are_refused(api: Api, blinded: list[str], code: str) -> None:
    answer = api.request("POST", "/v1/oprf/evaluate", READER, json={"epoch": 1, "blinded": blinded})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_spent_quota_says_when_it_renews(api: Api) -> None:
    set_quota(api.rt.engine, platform="beta", quota=2)
    api.rt.members.refresh()
    point = b64url(sodium.point_from_hash(secrets.token_bytes(64)))
    body = {"epoch": 1, "blinded": [point, point]}
    assert api.request("POST", "/v1/oprf/evaluate", BETA, json=body).status_code == 200
    before = datetime.now(UTC)
    answer = api.request("POST", "/v1/oprf/evaluate", BETA, json=body)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    midnight = 86_400 - (before.hour * 3600 + before.minute * 60 + before.second)
    assert midnight - 10 <= int(answer.headers["retry-after"]) <= midnight
