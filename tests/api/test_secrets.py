"""No log line holds an element, tag, token, key or identifier, whatever is sent where and however it fails."""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.db.engine import writing
from tests.api.conftest import ACME, Api, person, running
from tests.support import new_ledger, report_payload

PHONE = "+8613800138000"
PATHS = [
    ("GET", "/v1/suite"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/v1/oprf/evaluate"),
    ("POST", "/v1/reports"),
    ("POST", "/v1/reports/batch"),
    ("GET", "/v1/reports"),
    ("GET", "/v1/reports/{secret}"),
    ("POST", "/v1/reports/{secret}/withdraw"),
    ("POST", "/v1/reports/{secret}/restitution"),
    ("GET", "/v1/reports/{secret}/receipt"),
    ("POST", "/v1/lookups"),
    ("POST", "/v1/lookups/batch"),
    ("GET", "/v1/snapshots/latest"),
    ("GET", "/v1/snapshots/{secret}/filter"),
    ("GET", "/v1/snapshots/{secret}/buckets.bin"),
    ("GET", "/v1/snapshots/{secret}/buckets/{secret}"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("GET", "/v1/webhooks/{secret}"),
    ("DELETE", "/v1/webhooks/{secret}"),
    ("POST", "/v1/webhooks/{secret}/rotate"),
    ("POST", "/v1/webhooks/{secret}/enable"),
    ("POST", "/v1/webhooks/{secret}/test"),
    ("GET", "/v1/webhooks/{secret}/deliveries"),
    ("POST", "/v1/webhooks/{secret}/deliveries/{secret}/replay"),
    ("GET", "/log/checkpoint"),
    ("GET", "/log/tile/entries/{secret}"),
    ("GET", "/log/tile/{secret}/000"),
    ("GET", "/log/tile/0/{secret}"),
    ("DELETE", "/v1/reports/{secret}"),
    ("GET", "/{secret}"),
]


def test_logs_hold_no_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn")
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    ACME.enrol(settings)
    element = person()
    with running(settings) as api:
        hidden = {b64url(element), b64url(tag(Kind.PHONE, element)), PHONE, PHONE[1:], api.token(ACME)}
        hidden |= _good(api, element)
        for secret in sorted(hidden):
            _bad(api, secret)
        _broken(api, element)
    written = {
        "server": api.logs.getvalue().decode(),
        "logging": "\n".join(record.getMessage() + (record.exc_text or "") for record in caplog.records),
        "process": "".join(capfd.readouterr()),
    }
    lines = [json.loads(line) for line in written["server"].splitlines()]
    assert len([line for line in lines if line["event"] == "request"]) > len(PATHS) * len(hidden)
    for where, output in written.items():
        for secret in hidden:
            assert secret not in output, where
            assert secret.removeprefix("Bearer ").rpartition(".")[2] not in output, where


def _good(api: Api, element: bytes) -> set[str]:
    """What succeeds, and the secrets that were in it."""
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, element)])
    accepted = api.request("POST", "/v1/reports", ACME, key="good-key", json=payload)
    assert accepted.status_code == 201
    item = {"idempotency_key": "other-key", **report_payload(api.rt, ACME, [(Kind.EMAIL, element)])}
    assert api.request("POST", "/v1/reports/batch", ACME, json={"reports": [item]}).json()["results"][0]["report"]
    lookup = api.lookup_body((Kind.PHONE, element), consent_ref="consent-secret")
    assert api.request("POST", "/v1/lookups", ACME, json=lookup).json()["tier"] == "watch"
    evaluation = api.request("POST", "/v1/oprf/evaluate", ACME, json={"epoch": 1, "blinded": [b64url(element)]})
    evaluated = evaluation.json()["shares"][0]["evaluated"][0]
    assert api.request("GET", "/v1/reports", ACME, params={"order_ref": lookup["order_ref"]}).status_code == 200
    return {
        payload["signature"],
        payload["subjects"][0]["salt"],
        payload["body"]["subjects"][0]["c"],
        payload["body"]["order_ref"],
        lookup["order_ref"],
        "consent-secret",
        "good-key",
        evaluated,
        api.tokens["acme"],
    }


def _bad(api: Api, secret: str) -> None:
    """The secret everywhere it does not belong: path, query, header, body, as a name, as the whole body."""
    bodies: list[Any] = [
        {"json": {secret: secret}},
        {"json": [secret]},
        {"json": {"epoch": 1, "blinded": [secret], "subjects": [{"kind": secret, "tag": secret}], "purpose": secret}},
        {"json": {"body": {"v": secret, secret: 1}, "signature": secret, "subjects": [{"element": secret}]}},
        {"json": {"reports": [{"idempotency_key": secret, "body": {secret: 1}, "signature": 1, "subjects": [secret]}]}},
        {"json": {"lookups": [{"epoch": secret}]}},
        {"content": secret.encode(), "headers": {"Content-Type": "application/json"}},
        {"content": secret.encode(), "headers": {"Content-Type": secret}},
    ]
    for method, template in PATHS:
        path = template.format(secret=secret)
        query = {"order_ref": secret, "limit": secret, secret: secret}
        for arguments in bodies if method == "POST" else [{}, {"params": query}]:
            status = api.request(method, path, ACME, key=secret, **arguments).status_code
            assert status < 500 or template == "/readyz", "which says 503 until the filter is there"
        headers = {"Authorization": f"Bearer {secret}", "X-Request-Id": f"{secret}!", "User-Agent": secret}
        assert api.request(method, path, headers=headers).status_code < 500 or template == "/readyz"


def _broken(api: Api, element: bytes) -> None:
    """A database whose schema is gone under the running server: the driver's errors quote what was being written."""
    with writing(api.rt.engine) as connection:
        connection.execute(text("DROP TABLE listing"))
        connection.execute(text("DROP TABLE oprf_use"))
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, element)])
    answers = [
        api.request("POST", "/v1/reports", ACME, key=secrets.token_hex(4), json=payload),
        api.request("POST", "/v1/lookups", ACME, json=api.lookup_body((Kind.PHONE, element))),
        api.request("POST", "/v1/oprf/evaluate", ACME, json={"epoch": 1, "blinded": [b64url(element)]}),
    ]
    assert all(answer.status_code >= 500 for answer in answers)
    batch = {"reports": [{"idempotency_key": "b", **payload}]}
    answer = api.request("POST", "/v1/reports/batch", ACME, json=batch)
    assert answer.json()["results"][0]["status"] >= 500


def test_a_driver_error_would_have_quoted_it(tmp_path: Path) -> None:
    """What the rule guards against: with parameters shown, an ordinary database error holds the row."""
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        connection.execute(text("INSERT INTO gone VALUES (:tag)"), {"tag": PHONE})
    engine.dispose()
    assert PHONE in str(caught.value)
