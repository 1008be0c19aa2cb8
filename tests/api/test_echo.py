"""An answer shows which request it belongs to: lookups, writes, and each result of a batch."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

import httpx2
import pytest

from ledger.protocol.encoding import b64url, canonical_json, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.request_digest import question_digest
from tests.api.conftest import ACME, BETA, READER, Api, person
from tests.support import report_payload


def check_lookup(api: Api, sent: dict[str, Any], answer: dict[str, Any]) -> None:
    """The answer is to this question of READER's."""
    nonce = b"" if sent.get("nonce") is None else unb64url(sent["nonce"], 16)
    assert answer["question"] == b64url(question_digest(sent, nonce))
    assert answer["nonce"] == sent.get("nonce")
    assert (answer["service"], answer["environment"]) == (api.settings.service, api.settings.environment)
    assert (answer["platform"], answer["epoch"]) == (READER.name, sent["epoch"])
    assert (answer["key_id"], answer["signature"]) == (None, None)


def new_nonce() -> str:
    return b64url(secrets.token_bytes(16))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"nonce": None},
        {"nonce": "given"},
        {"nonce": "given", "consent_ref": 'a"b\\c', "refund": None, "min_index": 0},
        {"nonce": "given", "refund": {"claim": "damaged", "currency": "CNY", "amount_minor": 2**53 - 1}},
    ],
)
def test_a_lookups_answer_repeats_its_question(api: Api, listed: bool, more: dict[str, Any]) -> None:
    element = person()
    if listed:
        api.report(ACME, [(Kind.PHONE, element)])
    sent = api.lookup_body((Kind.PHONE, element), **more)
    if sent.get("nonce"):
        sent["nonce"] = new_nonce()
    for headers in ({}, {"Idempotency-Key": "leaves-it-to-the-route"}):
        answer = api.request("POST", "/v1/lookups", READER, json=sent, headers=headers)
        assert len(answer.content) == 3072
        check_lookup(api, sent, answer.json())
        assert answer.json()["tier"] == ("watch" if listed else "clear")


def test_each_lookup_of_a_batch_repeats_its_own(api: Api) -> None:
    api.report(ACME, [(Kind.PHONE, known := person())])
    people = [person(), known, person(), known]
    sent = [api.lookup_body((Kind.PHONE, item), nonce=new_nonce() if n else None) for n, item in enumerate(people)]
    answer = api.request("POST", "/v1/lookups/batch", READER, json={"lookups": sent})
    results = answer.json()["results"]
    for value, result in zip(sent, results, strict=True):
        check_lookup(api, value, result["lookup"])
    assert [each["lookup"]["tier"] for each in results] == ["clear", "watch", "clear", "watch"]
    pieces = answer.content.removeprefix(b'{"results":[').removesuffix(b"]}").split(b'{"status":200,"lookup":')[1:]
    assert [len(piece.removesuffix(b",").removesuffix(b"}")) for piece in pieces] == [3072] * 4


def keyed(api: Api, path: str, body: Any, key: str | None, **headers: str) -> httpx2.Response:
    return api.request("POST", path, ACME, key=key, json=body, headers=headers)


def test_a_report_is_answered_with_its_order_its_body_and_its_key(api: Api) -> None:
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    expected = b64url(hashlib.sha256(canonical_json(payload["body"])).digest())
    for replayed in (None, "true"):
        answer = keyed(api, "/v1/reports", payload, "K-1")
        assert answer.status_code == 201
        assert answer.headers["idempotency-key"] == "K-1"
        assert answer.headers.get("idempotency-replayed") == replayed
        accepted = answer.json()
        assert (accepted["order_ref"], accepted["body_sha256"]) == (payload["body"]["order_ref"], expected)
    refused = keyed(api, "/v1/reports", {**payload, "signature": "A" * 86}, "K-2")
    assert (refused.status_code, refused.headers["idempotency-key"]) == (422, "K-2")
    withdrawn = keyed(api, f"/v1/reports/{accepted['id']}/withdraw", {"reason": "wrong_facts"}, "K-3")
    assert withdrawn.headers["idempotency-key"] == "K-3"
    view = withdrawn.json()
    assert (view["id"], view["order_ref"]) == (accepted["id"], payload["body"]["order_ref"])
    assert view["withdrawal"]["reason"] == "wrong_facts"


def test_restitution_and_appeals_too(api: Api) -> None:
    element = person()
    report = api.report(ACME, [(Kind.PHONE, element)]).json()["id"]
    paid = {"received_at": "2026-01-02T03:04:05Z", "amount_minor": 1, "currency": "CNY"}
    refused = keyed(api, f"/v1/reports/{report}/restitution", paid, "K-4")
    assert (refused.status_code, refused.headers["idempotency-key"]) == (422, "K-4")
    subjects = api.lookup_body((Kind.PHONE, element))["subjects"]
    appeal = {
        "epoch": 1, "subjects": subjects, "reports": [report], "grounds": "not_me", "statement": "No.", "locale": "en",
    }  # fmt: skip
    answer = api.request("POST", "/v1/appeals", BETA, key="K-5", json=appeal)
    assert answer.headers["idempotency-key"] == "K-5"
    missing = api.request("POST", "/v1/appeals/ap_AAAAAAAA/withdraw", BETA, key="K-6")
    assert (missing.status_code, missing.headers["idempotency-key"]) == (404, "K-6")


def test_each_result_of_a_batch_of_reports_names_its_key(api: Api) -> None:
    good = {"idempotency_key": "B-1", **report_payload(api.rt, ACME, [(Kind.PHONE, person())])}
    bad = {"idempotency_key": "B-2", **report_payload(api.rt, ACME, [(Kind.PHONE, person())]), "signature": "A" * 86}
    more = {"idempotency_key": "B-3", "unknown": 1}
    unfit = {**good, "idempotency_key": "has blanks in it"}
    body = {"reports": [good, bad, more, unfit, 7, good]}
    answer = api.request("POST", "/v1/reports/batch", ACME, json=body)
    results = json.loads(answer.content)["results"]
    assert [result["idempotency_key"] for result in results] == ["B-1", "B-2", "B-3", None, None, "B-1"]
    assert [item["status"] for item in results] == [201, 422, 422, 422, 422, 201]
    assert results[0]["report"] == results[5]["report"]


@pytest.mark.parametrize("key", ["", "x" * 256, "has blanks", "caf\u00e9"])
def test_only_a_key_that_is_fit_is_repeated(api: Api, key: str) -> None:
    answer = api.client.request(
        "POST", "/v1/reports", content=b"{}",
        headers=[(b"Idempotency-Key", key.encode()), (b"Authorization", f"Bearer {api.token(ACME)}".encode())],
    )  # fmt: skip
    assert answer.status_code == 422
    assert "idempotency-key" not in answer.headers
    twice = [("Idempotency-Key", "one"), ("Idempotency-Key", "two"), ("Authorization", f"Bearer {api.token(ACME)}")]
    assert "idempotency-key" not in api.client.request("POST", "/v1/reports", content=b"{}", headers=twice).headers
    assert "idempotency-key" not in api.client.get("/healthz", headers={"Idempotency-Key": "k"}).headers
