"""The course of an appeal over HTTP: answers, taking back, reopening, letters, statements; and a silent log."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.rules.appeals import Outcome
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, staff_actions
from ledger.server.db.engine import writing
from ledger.server.db.tables.appeals import AppealCase
from ledger.server.db.tables.lookups import LookupLog
from tests.api.cases import (
    ANNA,
    BEN,
    STATEMENT,
    about,
    appeal_body,
    case,
    decide,
    enrolled,
    filed,
    get,
    in_session,
    key,
    reported,
    say,
    somebody,
    view,
)
from tests.api.conftest import ACME, BETA, Api
from tests.processes import until

# --- acting -------------------------------------------------------------------------------------------------------


def test_an_answer_ends_the_wait_and_is_replayed(api: Api) -> None:
    appeal, _, _ = case(api)
    staff_actions.take(api.rt.context, appeal, ANNA)
    staff_actions.ask_reporter(api.rt.context, appeal, ANNA, "Where is the carrier's record?")
    assert view(api, appeal, ACME)["state"] == "awaiting_reporter"
    once = key()
    first = say(api, appeal, ACME, "reporter", "Attached.", key=once)
    assert (first.status_code, first.json()["state"]) == (200, "under_review")
    assert first.json()["timeline"][-1]["action"] == "reporter_answered"
    again = say(api, appeal, ACME, "reporter", "Attached.", key=once)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert say(api, appeal, ACME, "reporter", "Another.", key=once).json()["code"] == "idempotency_mismatch"
    assert [event["text"] for event in view(api, appeal, BETA)["timeline"]].count("Attached.") == 1
    assert say(api, appeal, ACME, "subject", "x").status_code == 404
    assert say(api, appeal, BETA, "reporter", "x").status_code == 404


def test_the_person_is_asked_and_answers_through_the_filer(api: Api) -> None:
    appeal, _, _ = case(api)
    staff_actions.take(api.rt.context, appeal, ANNA)
    staff_actions.ask_subject(api.rt.context, appeal, ANNA, "Do you have the receipt?")
    assert view(api, appeal, BETA)["question"]["text"] == "Do you have the receipt?"
    assert view(api, appeal, ACME)["question"] is None
    letter = get(api, f"/v1/appeals/{appeal}/letters/question", BETA).json()
    assert "Do you have the receipt?" in letter["text"]
    assert {"style": "quote", "text": "Do you have the receipt?"} in letter["paragraphs"]
    assert say(api, appeal, BETA, "subject", "Yes.").json()["state"] == "under_review"
    assert get(api, f"/v1/appeals/{appeal}/letters/question", BETA).status_code == 404


def test_messages_have_limits(api: Api) -> None:
    appeal, _, _ = case(api)
    assert say(api, appeal, BETA, "subject", "x" * 2001).json()["code"] == "invalid_request"
    assert say(api, appeal, BETA, "subject", "\n").json()["code"] == "appeal_invalid"
    for _ in range(50):
        assert say(api, appeal, BETA, "subject", "x").status_code == 200
    assert say(api, appeal, BETA, "subject", "x").json()["code"] == "appeal_invalid"
    assert say(api, appeal, ACME, "reporter", "x").status_code == 200, "one party leaves the other its room"


def test_withdrawing_counts_again_and_the_reporters_group_may_not(api: Api) -> None:
    subjects = somebody()
    appeal = filed(api, subjects, reported(api, subjects))
    once = key()
    done = api.request("POST", f"/v1/appeals/{appeal}/withdraw", BETA, key=once)
    assert (done.status_code, done.json()["state"]) == (200, "withdrawn")
    again = api.request("POST", f"/v1/appeals/{appeal}/withdraw", BETA, key=once)
    assert again.content == done.content
    late = api.request("POST", f"/v1/appeals/{appeal}/withdraw", BETA, key=key())
    assert (late.status_code, late.json()["code"]) == (409, "action_refused")
    assert api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*subjects)).json()["tier"] == "watch"
    sister = enrolled(api, "sister", "acme-group")
    others = somebody()
    body = appeal_body([reported(api, others)], **about(api, others))
    for platform in (ACME, sister):
        refused = api.request("POST", "/v1/appeals", platform, key=key(), json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "conflict_of_interest")


def test_a_decision_is_reopened_once_for_the_person(api: Api) -> None:
    appeal, _, _ = case(api)
    path, body = f"/v1/appeals/{appeal}/reopen", {"text": "You forgot the receipt."}
    assert api.request("POST", path, BETA, key=key(), json=body).json()["code"] == "action_refused"
    decide(api, appeal, Outcome.UNCONFIRMED)
    result = view(api, appeal, BETA)
    assert (result["decision"]["outcome"], result["decision"]["conduct"]) == ("unconfirmed", None)
    assert api.request("POST", path, ACME, key=key(), json=body).status_code == 404, "not for the reporter"
    once = key()
    opened = api.request("POST", path, BETA, key=once, json=body)
    assert (opened.status_code, opened.json()["round"], opened.json()["state"]) == (200, 2, "submitted")
    assert api.request("POST", path, BETA, key=once, json=body).headers["idempotency-replayed"] == "true"
    decide(api, appeal, Outcome.UNCONFIRMED, BEN)
    assert api.request("POST", path, BETA, key=key(), json=body).json()["code"] == "action_refused"


# --- letters ------------------------------------------------------------------------------------------------------


def kinds(api: Api, appeal: str) -> list[str]:
    return [item["kind"] for item in get(api, f"/v1/appeals/{appeal}/letters", BETA).json()["data"]]


def test_letters_follow_the_case_and_come_in_both_languages(api: Api) -> None:
    appeal, report, _ = case(api)
    assert kinds(api, appeal) == ["received"]
    english = get(api, f"/v1/appeals/{appeal}/letters/received", BETA).json()
    assert english["locale"] == "en"
    assert {appeal, report} <= set(english["text"].replace(",", " ").replace(".", " ").split())
    assert "beta" in english["text"]
    chinese = get(api, f"/v1/appeals/{appeal}/letters/received", BETA, locale="zh-CN").json()
    assert chinese["locale"] == "zh-CN"
    assert get(api, f"/v1/appeals/{appeal}/letters/received", BETA, locale="fr").status_code == 422
    for kind in ("decided", "overdue", "question", "RECEIVED", "invoice"):
        assert get(api, f"/v1/appeals/{appeal}/letters/{kind}", BETA).status_code == 404
    number = decode_id("ap", appeal, api.settings.service)
    with writing(api.rt.engine) as connection:
        connection.execute(update(AppealCase).where(AppealCase.id == number).values(overdue=True))
    assert kinds(api, appeal) == ["received", "overdue"]
    decide(api, appeal)
    assert kinds(api, appeal) == ["received", "decided"]
    decided = get(api, f"/v1/appeals/{appeal}/letters/decided", BETA).json()
    assert "Because of the carrier's record." in decided["text"]
    assert "acme" not in json.dumps(decided)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_decision_has_its_letter(api: Api, outcome: Outcome) -> None:
    subjects = [*somebody(), (Kind.PAYMENT, somebody()[0][1])]
    appeal = filed(api, subjects, reported(api, subjects))
    more: dict[str, Any] = {}
    if outcome is Outcome.AMENDED:
        more["conduct"] = Conduct.WARDROBING
    if outcome is Outcome.UNLINKED:
        more["slots"] = [1]
    decide(api, appeal, outcome, **more)
    for locale in ("en", "zh-CN"):
        letter = get(api, f"/v1/appeals/{appeal}/letters/decided", BETA, locale=locale)
        assert letter.status_code == 200, letter.text
        assert appeal in letter.json()["subject"] + letter.json()["text"]
    assert view(api, appeal, BETA)["decision"]["outcome"] == outcome.value
    assert view(api, appeal, ACME)["decision"]["reasons"] == "Because of the carrier's record."


# --- statements ---------------------------------------------------------------------------------------------------


def test_a_lookups_statements_are_read_by_who_asked_for_a_day(api: Api) -> None:
    subjects = somebody()
    report = reported(api, subjects)
    consumer.add_statement(api.rt.context, in_session(api, subjects), report, "I sent it back.", "en")
    lookup = api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*subjects)).json()
    assert lookup["has_statement"]
    path = f"/v1/lookups/{lookup['id']}/statement"
    body = get(api, path, BETA).json()
    assert [statement["text"] for statement in body["statements"]] == ["I sent it back."]
    assert body["statements"][0].keys() == {"text", "locale", "made_at"}
    assert "acme" not in json.dumps(body)
    assert "rp_" not in json.dumps(body)
    assert get(api, path, ACME).status_code == 404, "another platform's lookup"
    number = decode_id("lk", lookup["id"], api.settings.service)
    with writing(api.rt.engine) as connection:
        asked_at = api.rt.now() - timedelta(hours=24, seconds=1)
        connection.execute(update(LookupLog).where(LookupLog.id == number).values(asked_at=asked_at))
    assert get(api, path, BETA).status_code == 404


def test_statements_of_what_the_lookup_did_not_disclose_stay_out(api: Api) -> None:
    subjects = somebody()
    reported(api, subjects)
    lookup = api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*subjects)).json()
    path = f"/v1/lookups/{lookup['id']}/statement"
    assert get(api, path, BETA).json() == {"statements": []}
    later = reported(api, subjects)
    consumer.add_statement(api.rt.context, in_session(api, subjects), later, "Not this either.", "en")
    assert get(api, path, BETA).json() == {"statements": []}


def test_clean_lookups_and_odd_ids_have_no_statements(api: Api) -> None:
    clean = api.request("POST", "/v1/lookups", BETA, json=api.lookup_body(*somebody())).json()["id"]
    for lookup in (clean, "lk_abcdefgh", "ap_abcdefgh", "x", "%00"):
        assert get(api, f"/v1/lookups/{lookup}/statement", BETA).status_code == 404
    assert api.request("HEAD", f"/v1/lookups/{clean}/statement", BETA).status_code == 404


def test_logs_hold_nothing_of_a_case(api: Api) -> None:
    appeal, _, _ = case(api)
    say(api, appeal, BETA, "subject", "A very private sentence.")
    route = '"route":"/v1/appeals/{appeal_id}/messages"'  # which is logged after the answer has gone
    until(lambda: route in api.logs.getvalue().decode().replace(" ", ""), "the request is logged")
    logs = api.logs.getvalue().decode()
    for secret in (appeal, "private sentence", STATEMENT):
        assert secret not in logs
