"""Files of cases over HTTP: what is taken, from whom, who reads it, and what is left when it is refused."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from api.route_table import ITEM_BYTES
from ledger.protocol.encoding import b64url
from ledger.protocol.public_ids import encode_id
from ledger.server.appeals import staff_actions
from ledger.server.db.engine import reading
from ledger.server.db.tables.appeals import CaseAttachment
from tests.api.cases import ANNA, attach, case, decide, enrolled, filed, get, item, key, reported, somebody, view
from tests.api.conftest import ACME, BETA, Api


def kept(api: Api) -> set[Path]:
    """Files on disk."""
    return {path for path in api.settings.attachments_dir.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _rows_and_files_agree(api: Api) -> Iterator[None]:
    """Whatever a test does, no file is left without a row."""
    yield
    with reading(api.rt.engine) as connection:
        named = set(connection.scalars(select(CaseAttachment.file)))
    assert {path.name for path in kept(api)} == named


def picture() -> bytes:
    """A small PNG, never the same."""
    bytes_io = io.BytesIO()
    Image.frombytes("RGB", (8, 8), secrets.token_bytes(192)).save(bytes_io, "PNG")
    return bytes_io.getvalue()


def text() -> bytes:
    return f"Receipt {secrets.token_hex(8)}\n".encode()


def test_a_file_of_the_person_is_read_by_both_parties(api: Api) -> None:
    appeal, _, _ = case(api)
    data = picture()
    answer = attach(api, appeal, BETA, "subject", data, "photo.png")
    assert answer.status_code == 201
    body = answer.json()
    assert (body["party"], body["name"], body["media_type"], body["evidence_index"]) == (
        "subject", "photo.png", "image/png", None,
    )  # fmt: skip
    assert (body["size_bytes"], body["sha256"]) == (len(data), b64url(hashlib.sha256(data).digest()))
    for platform in (ACME, BETA):
        assert view(api, appeal, platform)["attachments"] == [body]
        response = get(api, f"/v1/appeals/{appeal}/attachments/{body['id']}", platform)
        assert (response.status_code, response.content) == (200, data)
        assert response.headers["content-type"] == "image/png"
        assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
    event = view(api, appeal, ACME)["timeline"][-1]
    assert (event["action"], event["by"], event["text"]) == ("add", "person", "photo.png")


def test_a_replay_and_the_same_bytes_are_one_attachment(api: Api) -> None:
    appeal, _, _ = case(api)
    data, once = text(), key()
    before = kept(api)
    first = attach(api, appeal, BETA, "subject", data, key=once)
    again = attach(api, appeal, BETA, "subject", data, key=once)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other_key = attach(api, appeal, BETA, "subject", data, "another.txt")
    assert (other_key.status_code, other_key.json()) == (200, first.json())
    assert len(kept(api) - before) == 1
    changed = attach(api, appeal, BETA, "subject", text(), key=once)
    assert (changed.status_code, changed.json()["code"]) == (409, "idempotency_mismatch")


def test_a_reporter_hands_in_what_it_reported_and_nothing_else(api: Api) -> None:
    evidence = [text(), text()]
    items = [item(evidence[0]), item(evidence[1], "delivery_scan")]
    appeal, _, _ = case(api, evidence=items)
    result = attach(api, appeal, ACME, "reporter", evidence[1])
    assert (result.status_code, result.json()["evidence_index"], result.json()["party"]) == (201, 1, "reporter")
    named = attach(api, appeal, ACME, "reporter", evidence[0], evidence_index=0)
    assert (named.status_code, named.json()["evidence_index"]) == (201, 0)
    wrong_places: list[tuple[bytes, dict[str, Any]]] = [
        (text(), {}),
        (evidence[0], {"evidence_index": 1}),
        (evidence[0], {"evidence_index": 2}),
    ]
    for data, more in wrong_places:
        refused = attach(api, appeal, ACME, "reporter", data, **more)
        assert (refused.status_code, refused.json()["code"]) == (422, "attachment_refused")
        assert refused.json()["reason"] == "digest_mismatch"
    assert [attachment["evidence_index"] for attachment in view(api, appeal, BETA)["attachments"]] == [1, 0]
    theirs = attach(api, appeal, BETA, "subject", evidence[0])
    assert (theirs.status_code, theirs.json()["evidence_index"]) == (201, None), "the person's is another attachment"
    wrong = attach(api, appeal, BETA, "subject", text(), evidence_index=0)
    assert wrong.json()["code"] == "appeal_invalid"


def test_an_answer_with_its_file_leaves_the_question_open_until_it_is_given(api: Api) -> None:
    data = text()
    appeal, _, _ = case(api, evidence=[item(data)])
    staff_actions.take(api.rt.context, appeal, ANNA)
    staff_actions.ask_reporter(api.rt.context, appeal, ANNA, "The record, please.")
    assert attach(api, appeal, ACME, "reporter", data).status_code == 201
    assert view(api, appeal, ACME)["state"] == "awaiting_reporter"


def test_only_parties_hand_in_and_read(api: Api) -> None:
    appeal, _, _ = case(api)
    other, _, _ = case(api)
    created = attach(api, appeal, BETA, "subject", text()).json()["id"]
    before = kept(api)
    for platform, party in ((ACME, "subject"), (BETA, "reporter")):
        assert attach(api, appeal, platform, party, text()).status_code == 404
    unknown = encode_id("ap", 2**40, api.settings.service)
    assert attach(api, unknown, BETA, "subject", text()).status_code == 404
    assert kept(api) == before
    for path in (
        f"{other}/attachments/{created}",  # a file of another case, of which one is a party too
        f"{unknown}/attachments/{created}",
        f"{appeal}/attachments/{encode_id('at', 2**40, api.settings.service)}",
        f"{appeal}/attachments/{appeal}",
        f"{appeal}/attachments/..%2f..%2fledger.db",
    ):
        assert get(api, f"/v1/appeals/{path}", BETA).status_code == 404, path
    mine = somebody()
    own = filed(api, mine, reported(api, mine, ACME), platform=enrolled(api, "gamma"))
    assert get(api, f"/v1/appeals/{own}/attachments/{created}", BETA).status_code == 404
    head = api.request("HEAD", f"/v1/appeals/{appeal}/attachments/{created}", BETA)
    assert (head.status_code, head.content) == (200, b"")


BAD = [
    (b"", "empty"),
    (b"MZ\x90\x00\x03" + bytes(60), "type_not_taken"),
    (b"<html><script>alert(1)</script>", "markup"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "broken"),
]


@pytest.mark.parametrize(("data", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_files_are_refused_and_leave_nothing(api: Api, data: bytes, reason: str) -> None:
    appeal, _, _ = case(api)
    before = kept(api)
    answer = attach(api, appeal, BETA, "subject", data, "fine.png")
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (422, "attachment_refused", reason)
    assert kept(api) == before
    assert len(view(api, appeal, BETA)["timeline"]) == 1


def test_files_have_a_limit_of_their_own_and_other_bodies_keep_theirs(api: Api) -> None:
    appeal, _, _ = case(api)
    limit = api.settings.attachment_limit_bytes
    assert limit > api.settings.body_limit_bytes
    line = b"x" * 63 + b"\n"
    whole = line * (limit // len(line))
    assert len(whole) == limit
    answer = attach(api, appeal, BETA, "subject", whole)
    assert (answer.status_code, answer.json()["size_bytes"]) == (201, limit)
    path, query = f"/v1/appeals/{appeal}/attachments", {"party": "subject", "name": "a.txt"}
    declared = api.request("POST", path, BETA, key=key(), params=query, content=whole + b"x")
    chunked = api.request("POST", path, BETA, key=key(), params=query, content=iter([whole, b"x"]))
    for refused in (declared, chunked):
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert refused.json()["limit_bytes"] == limit
    message = {"party": "subject", "text": "x" * ITEM_BYTES}
    refused = api.request("POST", f"/v1/appeals/{appeal}/messages", BETA, key=key(), json=message)
    assert (refused.status_code, refused.json()["limit_bytes"]) == (413, ITEM_BYTES)


def test_each_party_has_room_of_its_own(api: Api) -> None:
    data = text()
    appeal, _, _ = case(api, evidence=[item(data)])
    for _ in range(api.settings.attachments_per_case):
        assert attach(api, appeal, BETA, "subject", text()).status_code == 201
    refused = attach(api, appeal, BETA, "subject", text())
    assert (refused.status_code, refused.json()["reason"]) == (422, "too_many_files")
    assert attach(api, appeal, ACME, "reporter", data).status_code == 201


NAMES = [
    ("../../etc/passwd", "passwd.txt"),
    ("C:\\Users\\a\\receipt.txt", "receipt.txt"),
    ("gpj.\u202etxt.exe", "gpj.txt.exe.txt"),
    ("\u6536\u636e.txt", "\u6536\u636e.txt"),
    ("Cafe\u0301.txt", "Caf\u00e9.txt"),
    ("\u200b\ufeff", "file.txt"),
    ('a";\r\nSet-Cookie: x=1.txt', "a_;Set-Cookie_ x=1.txt"),
]


@pytest.mark.parametrize(("name", "shown"), NAMES, ids=range(len(NAMES)))
def test_names_are_made_harmless(api: Api, name: str, shown: str) -> None:
    appeal, _, _ = case(api)
    body = attach(api, appeal, BETA, "subject", text(), name).json()
    assert body["name"] == shown
    response = get(api, f"/v1/appeals/{appeal}/attachments/{body['id']}", ACME)
    assert "set-cookie" not in response.headers
    assert response.headers["content-disposition"].startswith("attachment; filename=")


@pytest.mark.parametrize("query", [{"name": ""}, {"name": "x" * 256}, {"party": "judge"}, {"evidence_index": -1}])
def test_odd_parameters_are_refused(api: Api, query: dict[str, str]) -> None:
    appeal, _, _ = case(api)
    sent = {"party": "subject", "name": "a.txt", **query}
    answer = api.request("POST", f"/v1/appeals/{appeal}/attachments", BETA, key=key(), params=sent, content=text())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    missing = api.request("POST", f"/v1/appeals/{appeal}/attachments", BETA, params=sent, content=text())
    assert missing.json()["code"] == "invalid_request"


def test_a_decided_case_takes_no_more_files(api: Api) -> None:
    appeal, _, _ = case(api)
    decide(api, appeal)
    before = kept(api)
    answer = attach(api, appeal, BETA, "subject", text())
    assert (answer.status_code, answer.json()["code"]) == (409, "action_refused")
    assert kept(api) == before
