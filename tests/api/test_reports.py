"""Reports over HTTP: recorded once, read by their own platform only, taken back, proved."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.tlog.proof import parse_proof
from tests.api.conftest import ACME, BETA, Api, person
from tests.support import UPLOADED, evidence, report_payload


def test_a_report_is_recorded_and_read_back(api: Api) -> None:
    answer = api.report(ACME, [(Kind.PHONE, person()), (Kind.PAYMENT, person())])
    assert answer.status_code == 201
    accepted = answer.json()
    assert accepted["status"] == "counting"
    assert accepted["receipt_url"] == f"/v1/reports/{accepted['id']}/receipt"
    assert "idempotency-replayed" not in answer.headers
    view = api.request("GET", f"/v1/reports/{accepted['id']}", ACME).json()
    assert {name: view[name] for name in accepted if name != "body_sha256"} == {
        name: value for name, value in accepted.items() if name != "body_sha256"
    }
    assert (view["conduct"], view["amount_minor"], view["currency"]) == ("fake_return_tracking", 12_900, "CNY")
    assert (view["withdrawal"], view["restitution"], view["replaces"]) == (None, None, None)


def test_other_platforms_see_nothing(api: Api) -> None:
    report_id = api.report(ACME, [(Kind.PHONE, person())]).json()["id"]
    for path in (f"/v1/reports/{report_id}", f"/v1/reports/{report_id}/receipt"):
        assert api.request("GET", path, BETA).status_code == 404
    withdrawal = api.request(
        "POST", f"/v1/reports/{report_id}/withdraw", BETA, key=secrets.token_hex(8), json={"reason": "other"}
    )
    assert withdrawal.status_code == 404
    listed = api.request("GET", "/v1/reports", BETA, params={"limit": 100}).json()["data"]
    assert report_id not in {item["id"] for item in listed}


def test_the_same_request_replays_and_another_one_conflicts(api: Api) -> None:
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    first = api.request("POST", "/v1/reports", ACME, key="replay-1", json=payload)
    again = api.request("POST", "/v1/reports", ACME, key="replay-1", json=payload)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    refused = api.request("POST", "/v1/reports", ACME, key="replay-1", json=other)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_mismatch")
    beta = report_payload(api.rt, BETA, [(Kind.PHONE, person())])
    assert api.request("POST", "/v1/reports", BETA, key="replay-1", json=beta).status_code == 201


def test_the_same_request_many_times_at_once_is_recorded_once(api: Api) -> None:
    payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())])
    answers: list[Any] = []
    barrier = threading.Barrier(8)

    def send() -> None:
        barrier.wait()
        answers.append(api.request("POST", "/v1/reports", ACME, key="at-once", json=payload))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 7


def test_a_client_that_hangs_up_loses_nothing_by_asking_again(api: Api) -> None:
    """The connection is cut right after the request was sent. Recorded or not, the retry makes it one report."""
    host, port = api.url.removeprefix("http://").split(":")
    for number in range(5):
        payload = report_payload(api.rt, ACME, [(Kind.PHONE, person())], order=f"cut-{number}")
        body = json.dumps(payload).encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: cut-{number}\r\nAuthorization: Bearer {api.token(ACME)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        answer = api.request("POST", "/v1/reports", ACME, key=f"cut-{number}", json=payload)
        assert answer.status_code == 201
        order = payload["body"]["order_ref"]
        listed = api.request("GET", "/v1/reports", ACME, params={"order_ref": order}).json()["data"]
        assert [item["id"] for item in listed] == [answer.json()["id"]]


def test_a_second_report_of_an_order_names_the_first(api: Api) -> None:
    first = api.report(ACME, [(Kind.PHONE, person())], order="A-1").json()
    second = api.report(ACME, [(Kind.PHONE, person())], order="A-1")
    assert (second.status_code, second.json()["code"]) == (409, "order_already_reported")
    assert second.json()["report"] == first["id"]
    assert api.report(BETA, [(Kind.PHONE, person())], order="A-1").status_code == 201


def test_evidence_that_falls_short_says_what_is_missing(api: Api) -> None:
    answer = api.report(ACME, [(Kind.PHONE, person())], conduct="empty_parcel")
    assert (answer.status_code, answer.json()["code"]) == (422, "evidence_insufficient")
    assert answer.json()["missing"]


def fabricated(*codes: str, origin: dict[str, Any] | None = UPLOADED, **inspection: Any) -> list[dict[str, Any]]:
    """Evidence of an AI-made photo: its file, a label with these codes, and a new photo that does not show it."""
    file, label, reshoot = evidence("original_file", "ai_label", "live_reshoot_failed")
    label["sha256"], receipt = file["sha256"], b64url(secrets.token_bytes(32))
    shown = {"receipt_sha256": receipt, "tool": "refund-ledger/9 inspect/9", "findings": list(codes), **inspection}
    plain = {name: value for name, value in file.items() if name != "origin"}
    return [plain if origin is None else {**plain, "origin": origin}, {**label, "inspection": shown}, reshoot]


def test_a_label_is_one_proof_if_its_signer_is_on_a_trust_list(api: Api) -> None:
    def answer(items: list[dict[str, Any]]) -> tuple[int, str | None]:
        response = api.report(ACME, [(Kind.PHONE, person())], conduct="ai_fabricated_image", evidence=items)
        return response.status_code, response.json().get("code")

    weak: list[tuple[str, ...]] = [(), ("aigc_suspected",), ("iptc_ai_generated", "generator_parameters")]
    for codes in (*weak, ("label_of_2031",), ("aigc_generated",), ("c2pa_ai_generated",)):
        assert answer(fabricated(*codes)) == (422, "evidence_insufficient")
    for trust in ("unlisted", "expired", "invalid", "revoked"):
        assert answer(fabricated("c2pa_ai_generated", trust=trust)) == (422, "evidence_insufficient")
    for trust in ("listed", "interim"):
        assert answer(fabricated("c2pa_ai_generated", "size_differs", trust=trust)) == (201, None)
    other = fabricated("aigc_generated")
    other[1]["finding"] = {"code": "our-own", "strength": "identifies", "tool_version": "1"}
    assert answer(other) == (422, "evidence_untrusted")


def test_an_original_file_says_that_it_came_with_the_claim(api: Api) -> None:
    """A client from before origins were required gets a code of its own."""
    for origin, code in (
        (None, "evidence_origin_missing"),
        ({"source": "handed_in_by_merchant"}, "evidence_insufficient"),
        ({"source": "claim_upload", "received_at": "2999-01-01T00:00:00Z"}, "evidence_invalid"),
        ({"source": "claim_upload"}, "evidence_invalid"),
    ):
        items = fabricated("c2pa_ai_generated", trust="listed", origin=origin)
        answer = api.report(ACME, [(Kind.PHONE, person())], conduct="ai_fabricated_image", evidence=items)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert api.report(
        ACME, [(Kind.PHONE, person())], evidence=evidence("carrier_record", "original_file")[::-1]
    ).is_success


def test_the_answer_of_an_issuer_counts_like_a_label(api: Api) -> None:
    file, answered, admission = evidence("original_file", "issuer_confirmation", "admission")
    answered["confirmation"] = {
        "issuer": "A provider", "answered_at": "2024-02-01T09:00:00Z", "verdict": "generated",
        "file_sha256": file["sha256"],
    }  # fmt: skip
    items = [file, answered, admission]
    assert api.report(ACME, [(Kind.PHONE, person())], conduct="ai_fabricated_image", evidence=items).status_code == 201
    answered["confirmation"]["file_sha256"] = b64url(bytes(32))
    refused = api.report(ACME, [(Kind.PHONE, person())], conduct="ai_fabricated_image", evidence=items)
    assert (refused.status_code, refused.json()["code"]) == (422, "evidence_invalid")


def test_another_epoch_is_stale_and_names_the_current_one(api: Api) -> None:
    answer = api.report(ACME, [(Kind.PHONE, person())], epoch=9)
    assert (answer.status_code, answer.json()["code"], answer.json()["epoch"]) == (409, "stale_epoch", 1)


def test_a_batch_with_bad_reports_records_the_others(api: Api) -> None:
    good = [
        {"idempotency_key": f"batch-{number}", **report_payload(api.rt, ACME, [(Kind.PHONE, person())])}
        for number in range(3)
    ]
    forged = {**good[1], "idempotency_key": "batch-forged", "signature": "A" * 86}
    items = [good[0], forged, "nonsense", {**good[1], "idempotency_key": "no good"}, good[1], {}, good[2]]
    answer = api.request("POST", "/v1/reports/batch", ACME, json={"reports": items})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [item["status"] for item in results] == [201, 422, 422, 422, 201, 422, 201]
    assert results[1]["problem"]["code"] == "invalid_signature"
    assert results[1]["problem"]["request_id"] == answer.headers["x-request-id"]
    for result in (results[0], results[4], results[6]):
        view = api.request("GET", f"/v1/reports/{result['report']['id']}", ACME)
        assert view.status_code == 200
    again = api.request("POST", "/v1/reports/batch", ACME, json={"reports": good}).json()["results"]
    assert again == [results[0], results[4], results[6]], "each item is idempotent by its own key"


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_holds_1_to_1000(api: Api, count: int) -> None:
    for path, name in (("/v1/reports/batch", "reports"), ("/v1/lookups/batch", "lookups")):
        answer = api.request("POST", path, ACME, json={name: [{}] * count})
        assert (answer.status_code, answer.json()["code"]) == (422, "batch_size_invalid")
    assert api.request("POST", "/v1/reports/batch", ACME, json={"reports": [{}] * 1000}).status_code == 200


def test_a_full_batch_is_recorded_in_order(api: Api) -> None:
    element = person()
    items = [
        {"idempotency_key": secrets.token_hex(8), **report_payload(api.rt, BETA, [(Kind.EMAIL, element)])}
        for _ in range(300)
    ]
    results = api.request("POST", "/v1/reports/batch", BETA, json={"reports": items}).json()["results"]
    assert {result["status"] for result in results} == {201}
    indexes = [result["report"]["entry_index"] for result in results]
    assert indexes == sorted(indexes)


def test_pages_follow_each_other_newest_first(api: Api) -> None:
    created = [api.report(ACME, [(Kind.PHONE, person())]).json()["id"] for _ in range(5)]
    first = api.request("GET", "/v1/reports", ACME, params={"limit": 2}).json()
    assert [item["id"] for item in first["data"]] == [created[4], created[3]]
    assert first["has_more"]
    second = api.request("GET", "/v1/reports", ACME, params={"limit": 2, "starting_after": created[3]}).json()
    assert [each["id"] for each in second["data"]] == [created[2], created[1]]
    view = first["data"][0]
    by_order = api.request("GET", "/v1/reports", ACME, params={"order_ref": view["order_ref"]}).json()
    assert by_order == {"data": [view], "has_more": False}


def test_withdrawal_happens_once_and_is_idempotent(api: Api) -> None:
    report_id = api.report(ACME, [(Kind.PHONE, person())]).json()["id"]
    path = f"/v1/reports/{report_id}/withdraw"
    done = api.request("POST", path, ACME, key="withdraw-1", json={"reason": "wrong_person"})
    assert (done.status_code, done.json()["status"]) == (200, "withdrawn")
    assert done.json()["withdrawal"]["reason"] == "wrong_person"
    again = api.request("POST", path, ACME, key="withdraw-1", json={"reason": "wrong_person"})
    assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")
    refused = api.request("POST", path, ACME, key="withdraw-2", json={"reason": "wrong_person"})
    assert (refused.status_code, refused.json()["code"]) == (409, "already_reversed")
    assert api.request("GET", f"/v1/reports/{report_id}", ACME).json() == done.json()


def test_a_correction_replaces_the_report(api: Api) -> None:
    element = person()
    first = api.report(ACME, [(Kind.PHONE, element)], order="A-2").json()["id"]
    shown = format_time(datetime.now(UTC))
    second = api.report(ACME, [(Kind.PHONE, element)], order="A-2", replaces=first, notice_sent_at=shown)
    assert second.status_code == 201
    assert api.request("GET", f"/v1/reports/{first}", ACME).json()["replaced_by"] == second.json()["id"]
    assert api.request("GET", f"/v1/reports/{second.json()['id']}", ACME).json()["replaces"] == first


def test_restitution_is_of_the_full_amount_and_once(api: Api) -> None:
    report_id = api.report(ACME, [(Kind.PHONE, person())]).json()["id"]
    view = api.request("GET", f"/v1/reports/{report_id}", ACME).json()
    path = f"/v1/reports/{report_id}/restitution"
    paid = {"received_at": view["recorded_at"], "amount_minor": 12_900, "currency": "CNY"}
    partly = api.request("POST", path, ACME, key="pay-1", json={**paid, "amount_minor": 100})
    assert (partly.status_code, partly.json()["code"]) == (422, "restitution_invalid")
    done = api.request("POST", path, ACME, key="pay-2", json=paid)
    assert (done.status_code, done.json()["restitution"]["received_at"]) == (200, view["recorded_at"])
    refused = api.request("POST", path, ACME, key="pay-3", json=paid)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_restituted")


def test_a_receipt_is_pending_until_a_checkpoint_covers_the_report(api: Api) -> None:
    accepted = api.report(ACME, [(Kind.PHONE, person())]).json()
    pending = api.request("GET", accepted["receipt_url"], ACME)
    assert (pending.status_code, pending.json()["code"]) == (202, "receipt_pending")
    assert pending.headers["retry-after"] == "1"
    api.publish()
    receipt = api.request("GET", accepted["receipt_url"], ACME)
    assert receipt.status_code == 200
    assert receipt.headers["content-type"] == "text/plain; charset=utf-8"
    assert parse_proof(receipt.text).index == accepted["entry_index"]
