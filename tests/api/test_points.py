"""Over HTTP: elements in other spellings, and tokens and reports under keys for which every party can sign."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.protocol.encoding import b64url, day_floor, unix_seconds
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import reading, writing
from ledger.server.oprf import budget_queries
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.members import set_quota
from ledger.tlog.entries import LEDGER_REASONS
from tests import edwards
from tests.api.browser_client import browser_clients
from tests.api.conftest import ACME, BETA, READER, Api, person
from tests.api.test_me import valid
from tests.malformed import record
from tests.personas import Persona
from tests.spellings import IDENTITIES, SMALL, other_spellings, with_bit_255
from tests.support import report_payload


def all_spellings() -> list[bytes]:
    return [spelled for item in (person(), SMALL[0]) for spelled in other_spellings(item)] + IDENTITIES


def used(api: Api) -> int:
    with reading(api.rt.engine) as connection:
        return budget_queries.read_oprf_use(connection, "reader", day_floor(api.rt.now()))


def test_no_other_spelling_is_evaluated_and_none_costs_anything(api: Api) -> None:
    """The spelling stands last in its batch: all points are checked before the budget is touched."""
    set_quota(api.rt.engine, platform="reader", quota=1000)
    before, good = used(api), [b64url(person()) for _ in range(3)]
    for spelled in all_spellings():
        body = {"epoch": 1, "blinded": [*good, b64url(spelled)]}
        answer = api.request("POST", "/v1/oprf/evaluate", READER, json=body)
        expected = "identity_point" if spelled in IDENTITIES else "invalid_point"
        assert (answer.status_code, answer.json()["code"]) == (422, expected)
    assert used(api) == before
    assert api.request("POST", "/v1/oprf/evaluate", READER, json={"epoch": 1, "blinded": good}).status_code == 200
    assert used(api) == before + 3


def test_no_report_is_taken_under_another_spelling(api: Api) -> None:
    for spelled in all_spellings():
        for subjects in ([(Kind.PHONE, spelled)], [(Kind.PAYMENT, person()), (Kind.PHONE, spelled)]):
            answer = api.report(ACME, subjects)
            expected = "identity_point" if spelled in IDENTITIES else "invalid_point"
            assert (answer.status_code, answer.json()["code"]) == (422, expected)
    element = person()
    for spelled in other_spellings(element):
        answer = api.report(ACME, [(Kind.PHONE, element), (Kind.PHONE, spelled)])
        assert answer.json()["code"] == "invalid_point", "the same identifier cannot stand twice by being spelled twice"


def test_a_person_is_shown_what_was_taken_back(api: Api) -> None:
    somebody = Persona(api)
    hidden = [(kind, with_bit_255(value)) for kind, value in somebody.subjects]
    created = record(api.rt, ACME, hidden)
    somebody.open()
    assert somebody.ask("GET", "/record").json()["reports"] == []
    api.rt.maintenance.round()
    body = somebody.ask("GET", "/record").json()
    valid(api, "OwnRecord", body)
    (first,) = body["reports"]
    assert (first["id"], first["status"], first["withdrawal_reason"]) == (
        created["id"],
        "withdrawn",
        "malformed_subject",
    )
    assert somebody.ask("GET", "/export").json()["record"]["reports"] == [first]
    view = api.request("GET", f"/v1/reports/{created['id']}", ACME).json()
    valid(api, "ReportView", view)
    assert view["withdrawal"]["reason"] == "malformed_subject"
    with browser_clients(api) as new_browser:
        for language, said in (
            ("en", ("It never counts", "Taken back by the ledger")),
            ("zh-CN", ("该报告永不计分", "已由账本撤回")),
        ):
            page = new_browser(language).open(somebody.code(locale=language)).get("/me").text
            assert all(text in page for text in said)
            assert "Taken back by the platform" not in page
            assert created["id"] in page
            assert f"/me/appeal?report={created['id']}" not in page


def test_a_platform_takes_nothing_back_for_the_ledgers_own_reasons(api: Api) -> None:
    report = api.report(ACME, [(Kind.PHONE, person())]).json()["id"]
    for reason in LEDGER_REASONS:
        body = {"reason": reason.value}
        answer = api.request("POST", f"/v1/reports/{report}/withdraw", ACME, key=secrets.token_hex(8), json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


# --- keys that an earlier version enrolled ------------------------------------------------------------------------

ANYBODYS = edwards.encode(edwards.IDENTITY)
"""The public key for which R = the identity, s = 0 is a signature over everything."""
FORGED = ANYBODYS + bytes(32)


@pytest.fixture(scope="module")
def weak(api: Api) -> str:
    """Enrol a key of acme's under which every party can sign. Return its id."""
    with writing(api.rt.engine) as connection:
        member_store.insert_key(
            connection, kid="acme-weak", platform="acme", public_key=ANYBODYS, created_at=datetime.now(UTC)
        )
    api.rt.members.refresh()
    return "acme-weak"


def token(api: Api, kid: str) -> str:
    now = unix_seconds(datetime.now(UTC))
    claims = {"iss": "acme", "aud": api.settings.service, "iat": now, "exp": now + 600}
    parts: list[dict[str, Any]] = [{"alg": "EdDSA", "typ": "JWT", "kid": kid}, claims]
    signed = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{signed}.{b64url(FORGED)}"


@pytest.mark.parametrize("path", ["/v1/reports", "/v1/lookups"], ids=["router", "hot path"])
def test_a_token_that_anybody_can_make_opens_nothing(api: Api, weak: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {token(api, weak)}"}
    if path == "/v1/reports":
        answer = api.request("GET", path, headers=headers)
    else:
        answer = api.request("POST", path, headers=headers, json=api.lookup_body((Kind.PHONE, person())))
    assert (answer.status_code, answer.json()["code"]) == (401, "unknown_key")


def test_a_report_that_anybody_can_sign_is_refused(api: Api, weak: str) -> None:
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())], kid=weak)
    payload["signature"] = b64url(FORGED)
    answer = api.request("POST", "/v1/reports", ACME, key=secrets.token_hex(8), json=payload)
    assert answer.json()["code"] == "invalid_signature"
    assert "names no active key" in answer.json()["detail"]


def test_other_keys_of_the_platform_stay_good(api: Api, weak: str) -> None:
    assert api.report(ACME, [(Kind.PHONE, person())]).status_code == 201
    assert api.request("GET", "/v1/reports", BETA).status_code == 200
