"""What an order remembers, over HTTP: refusals that name the case, held reports, concessions and further rounds."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from ledger.protocol.encoding import b64url, format_time
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.reports import held
from tests.api.cases import ANNA, decide, filed, get, key, reported, somebody, view
from tests.api.conftest import ACME, BETA, Api
from tests.personas import Persona
from tests.support import Platform

HEAD = Staff(77, "supervisor")


def post(api: Api, path: str, platform: Platform, body: Any = None, **more: Any) -> Any:
    arguments = {} if body is None else {"json": body}
    return api.request("POST", path, platform, key=more.get("key", key()), **arguments)


def told_now() -> str:
    return format_time(datetime.now(UTC))


def test_refusals_name_the_case(api: Api) -> None:
    who, order = somebody(), secrets.token_hex(6)
    report = reported(api, who, order=order)
    case = filed(api, who, report)
    refused = api.report(ACME, who, order=order, replaces=report, notice_sent_at=told_now())
    assert (refused.status_code, refused.json()["code"], refused.json()["case"]) == (409, "report_disputed", case)
    decide(api, case, Outcome.OVERTURNED)
    refused = api.report(ACME, who, order=order)
    assert (refused.status_code, refused.json()["code"], refused.json()["case"]) == (409, "order_decided", case)
    free = reported(api, somebody(), order=order + "-2")
    refused = api.report(ACME, who, order=order + "-2", replaces=free)
    assert (refused.status_code, refused.json()["code"]) == (422, "notice_outdated")
    assert refused.json()["not_before"].endswith("Z")
    assert api.report(ACME, who, order=order + "-3", replaces=free).json()["code"] == "replacement_invalid"


def test_a_held_report_is_explained_and_released(api: Api) -> None:
    who = somebody()
    case = filed(api, who, reported(api, who))
    decide(api, case, Outcome.OVERTURNED)
    answer = api.report(ACME, who)
    assert (answer.status_code, answer.json()["status"]) == (201, "held")
    path = f"/v1/reports/{answer.json()['id']}"
    hold = get(api, path, ACME).json()["hold"]
    assert (hold["case"], hold["explanation"], hold["released_at"]) == (case, None, None)
    once = key()
    first = post(api, f"{path}/explain", ACME, {"text": "Another purchase."}, key=once)
    assert (first.status_code, first.json()["hold"]["explanation"]) == (200, "Another purchase.")
    again = post(api, f"{path}/explain", ACME, {"text": "Another purchase."}, key=once)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert post(api, f"{path}/explain", BETA, {"text": "x"}).status_code == 404
    assert post(api, f"{path}/explain", ACME, {"text": ""}).json()["code"] == "invalid_request"
    for _ in range(4):
        assert post(api, f"{path}/explain", ACME, {"text": "Put better."}).status_code == 200
    assert post(api, f"{path}/explain", ACME, {"text": "Once more."}).json()["code"] == "action_refused"
    held.release(api.rt.context, answer.json()["id"], HEAD, "It is another order.", seen=5)
    body = get(api, path, ACME).json()
    assert (body["status"], body["hold"]["reasons"]) == ("counting", "It is another order.")
    assert post(api, f"{path}/explain", ACME, {"text": "x"}).json()["code"] == "action_refused"


def test_a_concession_is_made_and_agreed_to(api: Api) -> None:
    who = somebody()
    case = filed(api, who, reported(api, who))
    path = f"/v1/appeals/{case}"
    assert post(api, f"{path}/concede", BETA, {"conduct": "wardrobing"}).status_code == 404
    assert post(api, f"{path}/concede", ACME, {"conduct": "edited_image"}).json()["code"] == "appeal_invalid"
    assert post(api, f"{path}/concede", ACME, {"conduct": "nothing"}).json()["code"] == "unknown_conduct"
    assert post(api, f"{path}/agree", BETA).json()["code"] == "action_refused"
    done = post(api, f"{path}/concede", ACME, {"conduct": "wardrobing"}).json()
    assert (done["concession"]["conduct"], done["timeline"][-1]["action"]) == ("wardrobing", "concede")
    assert post(api, f"{path}/concede", ACME, {"conduct": "wardrobing"}).json()["code"] == "action_refused"
    assert post(api, f"{path}/agree", ACME).status_code == 404
    agreed = post(api, f"{path}/agree", BETA).json()
    assert agreed["concession"]["agreed_at"] is not None
    assert view(api, case, ACME)["concession"] == agreed["concession"]


def test_a_person_agrees_in_their_own_session(api: Api) -> None:
    person = Persona(api)
    report = person.reported()
    person.open()
    case = person.contest(report)
    assert person.ask("POST", f"/appeals/{case}/agree").json()["code"] == "action_refused"
    assert post(api, f"/v1/appeals/{case}/concede", ACME, {"conduct": "wardrobing"}).status_code == 200
    assert person.ask("GET", f"/appeals/{case}").json()["can_agree"] is True
    done = person.ask("POST", f"/appeals/{case}/agree")
    assert (done.status_code, done.json()["can_agree"]) == (200, False)
    stranger = Persona(api).open()
    assert stranger.ask("POST", f"/appeals/{case}/agree").status_code == 404


def test_a_further_round_is_asked_for_and_granted(api: Api) -> None:
    who = somebody()
    case = filed(api, who, reported(api, who))
    body = {"evidence_sha256": b64url(secrets.token_bytes(32)), "text": "The scan came."}
    path = f"/v1/appeals/{case}/reopen-request"
    assert post(api, path, ACME, body).json()["code"] == "action_refused"
    staff_actions.take(api.rt.context, case, ANNA)
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    assert post(api, path, BETA, body).status_code == 404
    assert post(api, path, ACME, {**body, "evidence_sha256": "x"}).json()["code"] == "invalid_request"
    done = post(api, path, ACME, body).json()
    assert (done["reopening_request"]["granted"], done["state"]) == (None, "decided")
    staff_actions.grant_reopening(api.rt.context, case, HEAD, "It is new.")
    result = view(api, case, ACME)
    assert (result["round"], result["state"], result["reopening_request"]["granted"]) == (2, "submitted", True)
    assert view(api, case, BETA)["reopening_request"] == result["reopening_request"]
