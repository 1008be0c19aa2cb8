"""Searches for reused pictures over HTTP."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.server.pictures.search import ANSWER_BYTES
from ledger.server.platforms.members import set_status
from ledger.tlog.entries import PlatformState
from tests.api.conftest import ACME, BETA, READER, Api, person, running
from tests.support import evidence, new_ledger

SEARCH = "/v1/pictures/search"


def some_hash() -> str:
    """Return a new hash: half of its bits are set."""
    half = secrets.token_bytes(16)
    return (half + bytes(255 - byte for byte in half)).hex()


def body(*hashes: str, quality: int = 80, **changes: Any) -> dict[str, Any]:
    pictures = [{"pdq": pdq, "quality": quality} for pdq in hashes]
    return {"pictures": pictures, "order_ref": b64url(secrets.token_bytes(32)), **changes}


def pictured_evidence(pdq: str, quality: int = 80) -> dict[str, Any]:
    """What makes a report one with this picture."""
    items = evidence("original_file", "listing_match", "admission")
    items[0] |= {"pdq": pdq, "pdq_quality": quality}
    return {"conduct": "edited_image", "evidence": items}


def pictured(api: Api, pdq: str, quality: int = 80) -> str:
    answer = api.report(ACME, [(Kind.PHONE, person())], **pictured_evidence(pdq, quality))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_used_picture_is_found_by_others_and_told_apart_from_ones_own(api: Api) -> None:
    pdq = some_hash()
    report = pictured(api, pdq)
    answer = api.request("POST", SEARCH, READER, json=body(pdq, some_hash()))
    assert answer.status_code == 200
    assert [(result["reports"], result["platforms"]) for result in answer.json()["results"]] == [(1, 1), (0, 0)]
    clean = api.request("POST", SEARCH, READER, json=body(some_hash()))
    assert len(answer.content) == len(clean.content) == ANSWER_BYTES
    own = api.request("POST", SEARCH, ACME, json=body(pdq)).json()["results"]
    assert [(item["reports"], item["own_reports"]) for item in own] == [(0, 1)]
    rest = api.request("GET", f"/v1/reports/{report}/pictures", ACME)
    assert (rest.status_code, [each["reports"] for each in rest.json()["results"]]) == (200, [0])
    assert api.request("GET", f"/v1/reports/{report}/pictures", BETA).status_code == 404


def test_a_report_of_low_quality_is_taken_and_not_found(api: Api) -> None:
    pdq = some_hash()
    pictured(api, pdq, quality=49)
    assert api.request("POST", SEARCH, READER, json=body(pdq)).json()["results"][0]["reports"] == 0


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (body("0" * 64), "picture_unfit"),
        (body(some_hash(), quality=49), "picture_unfit"),
        (body(some_hash(), quality=101), "invalid_request"),
        (body(some_hash().upper() + "x"), "invalid_request"),
        (body(), "invalid_request"),
        (body(*[some_hash()] * 9), "invalid_request"),
        (body(some_hash(), subjects=[]), "invalid_request"),
        (body(some_hash(), order_ref="x"), "invalid_request"),
    ],
)
def test_what_is_refused(api: Api, sent: dict[str, Any], code: str) -> None:
    answer = api.request("POST", SEARCH, READER, json=sent)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_scopes(api: Api) -> None:
    assert api.request("GET", "/v1/reports/rp_Xk3mPq9a/pictures", READER).status_code == 403
    assert api.request("POST", SEARCH, json=body(some_hash())).status_code == 401


def test_a_quota_is_used_up_by_hashes_for_the_day(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, pictures_daily_quota_hashes=3)
    for platform in (ACME, READER):
        platform.enrol(settings)
    with running(settings) as api:
        report = pictured(api, some_hash())
        assert api.request("POST", SEARCH, READER, json=body(some_hash(), some_hash())).status_code == 200
        refused = api.request("POST", SEARCH, READER, json=body(some_hash(), some_hash()))
        assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (
            429,
            "quota_exceeded",
            "daily",
        )
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        assert api.request("POST", SEARCH, READER, json=body(some_hash())).status_code == 200, "one was left"
        for _ in range(3):
            assert api.request("GET", f"/v1/reports/{report}/pictures", ACME).status_code == 200
        assert api.request("GET", f"/v1/reports/{report}/pictures", ACME).status_code == 429


def test_a_suspended_member_may_not_search_and_is_not_counted(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    for platform in (ACME, READER):
        platform.enrol(settings)
    with running(settings) as api:
        pdq = some_hash()
        pictured(api, pdq)
        assert api.request("POST", SEARCH, READER, json=body(pdq)).json()["results"][0]["reports"] == 1
        set_status(api.rt.engine, platform=ACME.name, status=PlatformState.SUSPENDED, now=api.rt.now(), urgent=True)
        api.rt.members.refresh()
        assert api.request("POST", SEARCH, ACME, json=body(pdq)).json()["code"] == "platform_suspended"
        assert api.request("POST", SEARCH, READER, json=body(pdq)).json()["results"][0]["reports"] == 0
