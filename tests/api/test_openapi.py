"""The description, the guide and the server say the same."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import jsonschema_rs
import pytest

from api.app import create_app
from api.errors import (
    TABLE,
    HeadersTooLarge,
    MalformedHttp,
    MethodNotAllowed,
    RequestTimeout,
    TooManyConnections,
    UriTooLong,
)
from ledger.errors import LedgerError
from ledger.protocol.identifiers import Kind
from ledger.rules.reports import parse_body
from ledger.server.settings import Settings
from tests.api.conftest import ACME, Api, person
from tests.support import ROOT, report_payload

HOLDERS_ONLY = {"stale_generation", "not_admitted", "token_used", "invalid_public_key", "already_exists"}
"""Codes that the service of a key holder sends (docs/holders.md), and the ledger's API does not."""
PAGES_ONLY = {
    "case_taken", "cross_site", "decision_invalid", "link_invalid", "login_refused", "role_missing", "staff_changed",
    "staff_invalid", "too_many_attempts",
}  # fmt: skip
"""Codes that pages of /console and /me meet, and no operation of the API."""

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI description; no server is needed for it."""
    return create_app(Settings()).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of each operation."""
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def test_it_is_openapi_3_1_with_unique_named_tagged_operations(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) == 65
    tags = {tag["name"] for tag in document["tags"]}
    for _, path, operation in operations(document):
        assert set(operation["tags"]) <= tags, path
        assert operation["summary"], path
        assert operation["description"], path


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    names = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert names <= document["components"]["schemas"].keys()
    assert "Problem" in names
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_code_is_documented_where_it_occurs(document: dict[str, Any]) -> None:
    documented: set[str] = set()
    for _, _, operation in operations(document):
        for status, response in operation["responses"].items():
            examples = response["content"].get("application/problem+json", {}).get("examples", {})
            for code, example in examples.items():
                assert example["value"]["status"] == int(status)
                documented.add(code)
    everywhere = {
        item.code
        for item in (
            MethodNotAllowed, MalformedHttp, RequestTimeout, UriTooLong, HeadersTooLarge, TooManyConnections,
        )
    }  # fmt: skip
    assert all(f"`{code}`" in document["info"]["description"] for code in everywhere)
    assert documented == {each.code for each in TABLE} - everywhere - PAGES_ONLY - HOLDERS_ONLY | {LedgerError.code}


def test_every_operation_says_who_may_use_it(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        own = path.startswith("/v1/me/")
        opening = (method, path) == ("post", "/v1/me/session")
        public = path.startswith(("/v1/suite", "/v1/texts/", "/v1/policies"))
        protected = path.startswith("/v1/") and not opening and not public
        assert bool(operation["security"]) == protected, path
        assert all(("subject" in item) == own for item in operation["security"]), path
        assert ("401" in operation["responses"]) == (protected or opening), path
        writes = "Idempotency-Key" in str(operation.get("parameters", ""))
        kept = path.startswith(("/v1/reports", "/v1/appeals")) and "batch" not in path
        assert writes == (method == "post" and kept), path


def test_the_guide_describes_exactly_these_operations(document: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    described = {f"{method.upper()} {path}" for method, path, _ in operations(document)}
    assert set(re.findall(r"^### `(\w+ \S+)`$", text, re.MULTILINE)) == described
    table = dict(re.findall(r"^\| `((?:GET|POST|DELETE) \S+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert table.keys() == described
    for method, path, operation in operations(document):
        scopes = [scope for item in operation["security"] for scope in item.get("token", ())]
        own = any("subject" in each for each in operation["security"])
        expected = "own session" if own else " or ".join(f"`{scope}`" for scope in scopes) or "none"
        assert table[f"{method.upper()} {path}"].strip() == expected


def test_examples_have_the_form_they_illustrate(document: dict[str, Any]) -> None:
    checked = 0
    validators: dict[str, Any] = {}

    def check(schema: dict[str, Any], example: Any) -> None:
        """Validate the example; hundreds of answers have the same few schemas, each of which is read once."""
        text = json.dumps(schema)
        if text not in validators:
            validators[text] = validator_of(document, schema)
        validators[text].validate(example)

    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [response["content"] for response in operation["responses"].values()]
        for content in contents:
            for media in content.values():
                examples = [media["example"]] if "example" in media else []
                examples += [item["value"] for item in media.get("examples", {}).values()]
                for example in examples:
                    check(media["schema"], example)
                    checked += 1
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            check({"$ref": f"#/components/schemas/{name}"}, example)
            checked += 1
    assert checked > 100


def validator_of(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A JSON Schema 2020-12 validator of `schema` within the description."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def inspected(**changes: Any) -> dict[str, Any]:
    inspection = {"receipt_sha256": "A" * 43, "tool": "refund-ledger/0.1.0 inspect/1", "findings": ["aigc_generated"]}
    return {"type": "ai_label", "sha256": "A" * 43, "inspection": {**inspection, **changes}}


def original(**origin: str) -> dict[str, Any]:
    return {"type": "original_file", "sha256": "A" * 43, "origin": origin}


def answered(**changes: str) -> dict[str, Any]:
    said = {"issuer": "A provider", "answered_at": "2026-01-03T00:00:00Z", "verdict": "generated"}
    return {
        "type": "issuer_confirmation",
        "sha256": "A" * 43,
        "confirmation": {**said, "file_sha256": "A" * 43, **changes},
    }


FOUND: dict[str, Any] = {
    "type": "ai_label",
    "sha256": "A" * 43,
    "finding": {"code": "c2pa.ai", "strength": "identifies", "tool_version": "rcl 1.0"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no consent": {"consent_ref": None},
    "replaces": {"replaces": "rp_abcdefgh"},
    "other currency": {"currency": "JPY"},
    "free of charge": {"amount_minor": 0},
    "largest amount": {"amount_minor": 2**53 - 1},
    "Chinese reference": {"notice_ref": "通知-8"},
    "inspection": {"evidence": [inspected()]},
    "inspection without findings": {"evidence": [inspected(findings=[])]},
    "finding": {
        "evidence": [
            {
                "type": "ai_label",
                "sha256": "A" * 43,
                "pdq": "0" * 64,
                "finding": {"code": "c2pa.ai", "strength": "identifies", "tool_version": "rcl 1.0"},
            }
        ]
    },
    "finding with trust": {"evidence": [{**FOUND, "finding": {**FOUND["finding"], "trust": "listed"}}]},
    "inspection with trust": {"evidence": [inspected(trust="unlisted")]},
    "upload": {"evidence": [original(source="claim_upload", received_at="2026-01-02T00:00:00Z")]},
    "handed in by the merchant": {"evidence": [original(source="handed_in_by_merchant")]},
    "confirmation": {"evidence": [answered()]},
    "linked": {"evidence": [{"type": "linked_instrument", "sha256": "A" * 43, "report_id": "rp_abcdefgh"}]},
    "finding with another trust": {"evidence": [{**FOUND, "finding": {**FOUND["finding"], "trust": "sure"}}]},
    "inspection with another trust": {"evidence": [inspected(trust="sure")]},
    "upload without a time": {"evidence": [original(source="claim_upload")]},
    "origin of another sort": {"evidence": [original(source="found")]},
    "origin with more": {"evidence": [original(source="handed_in_by_merchant", by="x")]},
    "origin of a label": {"evidence": [{**original(source="handed_in_by_merchant"), "type": "ai_label"}]},
    "confirmation that says nothing": {"evidence": [{"type": "issuer_confirmation", "sha256": "A" * 43}]},
    "confirmation of another type": {"evidence": [{**answered(), "type": "admission"}]},
    "confirmation with another verdict": {"evidence": [answered(verdict="guilty")]},
    "confirmation by nobody": {"evidence": [answered(issuer="")]},
    "confirmation of a short digest": {"evidence": [answered(file_sha256="A" * 42)]},
    "inspection without a tool": {"evidence": [inspected(tool="")]},
    "inspection with facts": {"evidence": [inspected(facts={})]},
    "inspection with a short digest": {"evidence": [inspected(receipt_sha256="A" * 42)]},
    "inspection that finds a thing twice": {"evidence": [inspected(findings=["size_differs", "size_differs"])]},
    "inspection with strengths": {"evidence": [inspected(findings=[{"code": "size_differs", "strength": "hint"}])]},
    "inspection is null": {"evidence": [{"type": "original_file", "sha256": "A" * 43, "inspection": [None]}]},
    "unknown version": {"v": 2},
    "version is a bool": {"v": True},
    "unknown member": {"note": "x"},
    "missing member": {"decided_by": None},
    "empty service": {"service": ""},
    "platform with a space": {"platform": "a b"},
    "kid with a space": {"kid": "a b"},
    "epoch zero": {"epoch": 0},
    "epoch is text": {"epoch": "1"},
    "epoch too large": {"epoch": 2**53},
    "no subjects": {"subjects": []},
    "nine subjects": {"subjects": [{"kind": "phone", "c": "A" * 42 + x} for x in "AEIMQUYcg"]},
    "unknown kind": {"subjects": [{"kind": "account", "c": "A" * 43}]},
    "opened in the body": {"subjects": [{"kind": "phone", "c": "A" * 43, "element": "A" * 43}]},
    "subject without commitment": {"subjects": [{"kind": "phone"}]},
    "stray bits": {"order_ref": "A" * 42 + "B"},
    "padded": {"order_ref": "A" * 43 + "="},
    "standard alphabet": {"order_ref": "A" * 42 + "+"},
    "unknown conduct": {"conduct": "rude"},
    "conduct is null": {"conduct": [None]},
    "no evidence": {"evidence": []},
    "too much evidence": {"evidence": [{"type": "carrier_record", "sha256": "A" * 43}] * 33},
    "unknown evidence": {"evidence": [{"type": "hearsay", "sha256": "A" * 43}]},
    "refused evidence": {"evidence": [{"type": "police_penalty_record", "sha256": "A" * 43}]},
    "evidence without digest": {"evidence": [{"type": "carrier_record"}]},
    "pdq in capitals": {"evidence": [{"type": "carrier_record", "sha256": "A" * 43, "pdq": "A" * 64}]},
    "stray link": {"evidence": [{"type": "carrier_record", "sha256": "A" * 43, "report_id": "rp_abcdefgh"}]},
    "no link": {"evidence": [{"type": "linked_instrument", "sha256": "A" * 43}]},
    "weak finding": {
        "evidence": [
            {"type": "ai_label", "sha256": "A" * 43, "finding": {"code": "x", "strength": "sure", "tool_version": "1"}}
        ]
    },
    "finding with a note": {
        "evidence": [
            {
                "type": "ai_label",
                "sha256": "A" * 43,
                "finding": {"code": "x", "strength": "hint", "tool_version": "1", "note": "?"},
            }
        ]
    },
    "negative amount": {"amount_minor": -1},
    "fractional amount": {"amount_minor": 1.5},
    "amount too large": {"amount_minor": 2**53},
    "no such currency": {"currency": "ABC"},
    "currency in small letters": {"currency": "cny"},
    "unknown outcome": {"outcome": "pending"},
    "time with an offset": {"act_ended_at": "2026-01-01T00:00:00+00:00"},
    "time with a fraction": {"act_ended_at": "2026-01-01T00:00:00.5Z"},
    "month 13": {"notice_sent_at": "2026-13-01T00:00:00Z"},
    "hour 24": {"notice_sent_at": "2026-01-01T24:00:00Z"},
    "empty reference": {"notice_ref": ""},
    "long reference": {"decided_by": "x" * 129},
    "control character": {"decided_by": "a\u0000b"},
    "line break": {"consent_ref": "a\nb"},
    "replaces a lookup": {"replaces": "lk_abcdefgh"},
}


GOOD = list(CHANGES)[: list(CHANGES).index("linked") + 1]


def test_the_published_report_schema_and_the_strict_parser_agree(api: Api, document: dict[str, Any]) -> None:
    validator = validator_of(document, {"$ref": "#/components/schemas/ReportBody"})
    good = report_payload(api.rt, ACME, [(Kind.PHONE, person())])["body"]
    verdicts: dict[str, tuple[bool, bool]] = {}
    for name, changes in CHANGES.items():
        body = copy.deepcopy(good)
        for member, value in changes.items():
            if value is None:
                body.pop(member)
            else:
                body[member] = value
        verdicts[name] = (validator.is_valid(body), parses(body))
    assert {name: both for name, both in verdicts.items() if both[0] != both[1]} == {}
    assert [name for name, both in verdicts.items() if both[0]] == GOOD


def parses(body: dict[str, Any]) -> bool:
    """Whether the strict parser accepts `body`."""
    try:
        parse_body(body)
    except LedgerError:
        return False
    return True


def test_real_answers_have_the_published_form(api: Api, document: dict[str, Any]) -> None:
    schemas = {
        "/v1/suite": "Suite",
        "/healthz": "Health",
        "/readyz": "Readiness",
        "/readyz/write": "Readiness",
        "/v1/reports": "ReportPage",
    }
    element = person()
    accepted = api.report(ACME, [(Kind.PHONE, element)]).json()
    validator_of(document, {"$ref": "#/components/schemas/ReportAccepted"}).validate(accepted)
    lookup = api.request("POST", "/v1/lookups", ACME, json=api.lookup_body((Kind.PHONE, element))).json()
    validator_of(document, {"$ref": "#/components/schemas/LookupAnswer"}).validate(lookup)
    for path, name in schemas.items():
        answer = api.request("GET", path, ACME).json()
        validator_of(document, {"$ref": f"#/components/schemas/{name}"}).validate(answer)


def test_the_served_description_is_this_one(api: Api, document: dict[str, Any]) -> None:
    assert api.request("GET", "/openapi.json").json() == document
