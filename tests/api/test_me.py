"""A person's own session over JSON: what they see and do, and what other callers cannot do with it."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest

from ledger.rules.appeals import Outcome
from ledger.server.appeals import staff_actions
from ledger.server.appeals.sessions import redeem
from tests.api.browser_client import browser_clients
from tests.api.conftest import ACME, BETA, READER, Api
from tests.api.test_pictures import body as search_body
from tests.api.test_pictures import pictured_evidence as pictured
from tests.api.test_pictures import some_hash
from tests.personas import ANNA, PNG, Persona

OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/appeals/{case}", {}),
    ("POST", "/appeals/{case}/messages", {"json": {"text": "Hello."}}),
    ("POST", "/appeals/{case}/withdraw", {}),
    ("POST", "/appeals/{case}/reopen", {"json": {"text": "Hello."}}),
    ("POST", "/appeals/{case}/attachments?name=a.png", {"content": PNG}),
    ("GET", "/appeals/{case}/attachments/{file}", {}),
    ("GET", "/appeals/{case}/letters/received", {}),
    ("POST", "/statements", {"json": {"report": "{report}", "text": "Hello.", "locale": "en"}}),
    (
        "POST",
        "/appeals",
        {"json": {"reports": ["{report}"], "grounds": "other", "statement": "Hello.", "locale": "en"}},
    ),
]


def valid(api: Api, model: str, value: object) -> None:
    """Whether `value` has the published form."""
    document = api.app.openapi()
    schema = {"$ref": f"#/components/schemas/{model}", "components": document["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(value)


def test_a_code_opens_one_session_once(api: Api) -> None:
    code = Persona(api).code(locale="zh-CN")
    first = api.request("POST", "/v1/me/session", json={"code": code})
    assert first.status_code == 201
    valid(api, "OwnSession", first.json())
    assert first.json()["locale"] == "zh-CN"
    assert first.headers["cache-control"] == "no-store"
    again = api.request("POST", "/v1/me/session", json={"code": code})
    unknown = api.request("POST", "/v1/me/session", json={"code": secrets.token_urlsafe(32)})
    for refused in (again, unknown):
        assert (refused.status_code, refused.json()["code"]) == (401, "session_expired")
    assert again.json()["detail"] == unknown.json()["detail"], "nobody learns which codes there were"


def test_an_old_code_and_an_old_session_open_nothing(api: Api) -> None:
    somebody = Persona(api)
    settings = api.settings
    old = api.rt.now() - timedelta(minutes=settings.subject_link_minutes, seconds=1)
    late = api.request("POST", "/v1/me/session", json={"code": somebody.code(now=old)})
    assert (late.status_code, late.json()["code"]) == (401, "session_expired")
    began = api.rt.now() - timedelta(minutes=settings.subject_session_minutes, seconds=1)
    code = somebody.code(now=began)
    somebody.token = redeem(api.rt.engine, settings, code, began, secrets.token_bytes)
    assert somebody.ask("GET", "/record").json()["code"] == "session_expired"


def test_a_session_that_was_ended_is_over(api: Api) -> None:
    somebody = Persona(api).open()
    assert somebody.ask("GET", "/record").status_code == 200
    assert somebody.ask("DELETE", "/session").status_code == 204
    assert somebody.ask("GET", "/record").json()["code"] == "session_expired"


def test_the_record_tells_everything_and_names_the_opener_only(api: Api) -> None:
    somebody = Persona(api)
    mine, other = somebody.reported(BETA), somebody.reported(ACME, amount_minor=7_700)
    lookup = api.request("POST", "/v1/lookups", ACME, json=api.lookup_body(*somebody.subjects))
    assert lookup.status_code == 200
    record = somebody.open().ask("GET", "/record").json()
    valid(api, "OwnRecord", record)
    assert {report["id"]: report["reported_by"] for report in record["reports"]} == {mine: "beta", other: None}
    assert [item["asked_by"] for item in record["lookups"]] == ["beta", None]
    assert record["lookups"][0]["purpose"] == "subject_session"
    assert record["standing"]["tier"] in ("watch", "review", "high")
    assert "acme" not in str(record)
    assert record["reports"][0]["matched_kinds"] == ["payment", "phone"]


def test_repeated_lookups_are_one_line_on_the_page_too(api: Api) -> None:
    somebody = Persona(api)
    somebody.reported()
    body = api.lookup_body(*somebody.subjects, refund={"amount_minor": 1, "currency": "CNY", "claim": "damaged"})
    for _ in range(3):
        assert api.request("POST", "/v1/lookups", ACME, json=body).status_code == 200
    somebody.open()
    by_acme = somebody.ask("GET", "/record").json()["lookups"][1:]
    assert sum(item["times"] for item in by_acme) == 3
    assert len(by_acme) <= 2, "two at midnight"
    assert {(row["claim"], row["orders"], row["asked_by"], row["consent"]) for row in by_acme} == {
        ("damaged", "one", None, True)
    }
    with browser_clients(api) as new_browser:
        page = new_browser().open(somebody.code()).get("/me").text
        assert "times since" in page
        assert "次" in new_browser("zh-CN").open(somebody.code()).get("/me?lang=zh-CN").text


def test_the_record_tells_who_found_a_picture_again(api: Api) -> None:
    somebody, else_ = Persona(api), Persona(api)
    pdq = some_hash()
    first, second = (item.reported(ACME, **pictured(pdq)) for item in (somebody, somebody))
    else_.reported(ACME, **pictured(pdq))
    for platform in (READER, BETA, ACME):  # ACME matches its own reports, which is not disclosed
        assert api.request("POST", "/v1/pictures/search", platform, json=search_body(pdq)).status_code == 200
    record = somebody.open().ask("GET", "/record").json()
    valid(api, "OwnRecord", record)
    assert [
        (picture_search["asked_by"], picture_search["reports"]) for picture_search in record["picture_searches"]
    ] == [
        ("beta", [first, second]),
        (None, [first, second]),
    ]
    document = somebody.ask("GET", "/export").json()
    valid(api, "OwnExport", document)
    assert document["record"]["picture_searches"] == record["picture_searches"]
    assert Persona(api).open().ask("GET", "/record").json()["picture_searches"] == []


def test_a_clean_person_sees_that_there_is_nothing(api: Api) -> None:
    record = Persona(api).open().ask("GET", "/record").json()
    assert (record["standing"]["tier"], record["reports"], record["lookups"]) == ("clear", [], [])


def test_the_export_stands_by_itself(api: Api) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    somebody.open(locale="zh-CN")
    case = somebody.contest(report, statement="我已经寄回。")
    answer = somebody.ask("GET", "/export")
    document = answer.json()
    valid(api, "OwnExport", document)
    assert answer.headers["content-disposition"] == 'attachment; filename="refund-credit-record.json"'
    assert answer.headers["cache-control"] == "no-store"
    (first,) = document["record"]["reports"]
    assert first["case"]["id"] == case
    assert first["case"]["timeline"][0]["text"] == "我已经寄回。"
    meanings = document["meanings"]
    assert meanings["status"][first["status"]] != first["status"]
    assert meanings["conduct"][first["conduct"]]
    assert all(event["by"] in meanings["by"] for event in first["case"]["timeline"])
    assert document["verify"]["log_key"] == api.request("GET", "/v1/suite").json()["log"]["key"]


def test_the_export_says_in_the_language_of_the_session_how_to_check_it(api: Api) -> None:
    def how(locale: str) -> str:
        return str(Persona(api).open(locale=locale).ask("GET", "/export").json()["verify"]["how"])

    english, chinese = how("en"), how("zh-CN")
    assert english.startswith("Each entry_index is the place of an entry in a public log")
    assert chinese.startswith("每个 entry_index 是一条记录在公开日志中的位置")
    for name in ("log_key", "RFC 6962", "256"):
        assert name in english
        assert name in chinese


def test_the_indexes_of_the_export_are_in_the_public_log(api: Api) -> None:
    somebody = Persona(api)
    somebody.reported()
    index = somebody.open().ask("GET", "/record").json()["reports"][0]["entry_index"]
    api.publish()
    size = int(api.request("GET", "/log/checkpoint").text.splitlines()[1])
    assert index < size < 256, "one partial tile"
    bundle = api.request("GET", f"/log/tile/entries/000.p/{size}").content
    leaves = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        leaves.append(json.loads(bundle[2 : 2 + length]))
        bundle = bundle[2 + length :]
    assert (leaves[index]["index"], leaves[index]["sort"]) == (index, "event")


def test_an_appeal_from_filing_to_the_second_decision(api: Api) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    case = somebody.open().contest(report, grounds="not_me", statement="Somebody used my phone.")
    view = somebody.ask("GET", f"/appeals/{case}").json()
    valid(api, "OwnCase", view)
    assert (view["state"], view["letters"], view["can_withdraw"]) == ("submitted", ["received"], True)
    assert somebody.ask("GET", "/record").json()["reports"][0]["status"] == "disputed"
    somebody.asked(case)
    view = somebody.ask("GET", f"/appeals/{case}").json()
    assert view["question"]["text"] == "Which carrier was it?"
    assert view["letters"] == ["received", "question"]
    view = somebody.ask("POST", f"/appeals/{case}/messages", json={"text": "SF, number 17."}).json()
    assert (view["state"], view["question"]) == ("under_review", None)
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, "It cannot be shown.")
    letter = somebody.ask("GET", f"/appeals/{case}/letters/decided").json()
    valid(api, "OwnLetter", letter)
    assert {"style": "quote", "text": "It cannot be shown."} in letter["paragraphs"]
    view = somebody.ask("POST", f"/appeals/{case}/reopen", json={"text": "I want it gone."}).json()
    assert (view["state"], view["round"], view["can_reopen"]) == ("submitted", 2, False)
    view = somebody.ask("POST", f"/appeals/{case}/withdraw").json()
    assert view["state"] == "withdrawn"


def test_a_second_appeal_is_told_of_the_first(api: Api) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    case = somebody.open().contest(report)
    body = {"reports": [report], "grounds": "other", "statement": "Again.", "locale": "en"}
    refused = somebody.ask("POST", "/appeals", json=body)
    assert (refused.status_code, refused.json()["code"], refused.json()["case"]) == (409, "case_exists", case)


def test_a_statement_is_kept_and_worded_anew_five_times(api: Api) -> None:
    somebody = Persona(api)
    report = somebody.reported()
    somebody.open()
    for number in range(5):
        body = {"report": report, "text": f"Words {number}", "locale": "en"}
        response = somebody.ask("POST", "/statements", json=body)
        assert response.status_code == 201
        valid(api, "OwnStatement", response.json())
    assert somebody.ask("GET", "/record").json()["reports"][0]["statement"]["text"] == "Words 4"
    assert somebody.ask("POST", "/statements", json=body).json()["code"] == "appeal_invalid"


def test_files_are_kept_and_served_harmlessly(api: Api) -> None:
    somebody = Persona(api)
    case = somebody.open().contest(somebody.reported())
    answer = somebody.ask("POST", f"/appeals/{case}/attachments?name=..%2F..%2Fetc%2Freceipt.png", content=PNG)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    valid(api, "Attachment", body)
    assert (body["name"], body["media_type"], body["party"]) == ("receipt.png", "image/png", "subject")
    served = somebody.ask("GET", f"/appeals/{case}/attachments/{body['id']}")
    assert served.content == PNG
    assert served.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert served.headers.get_list("x-content-type-options") == ["nosniff"]
    html = somebody.ask("POST", f"/appeals/{case}/attachments?name=x.txt", content=b"<script>alert(1)</script>")
    assert (html.status_code, html.json()["code"]) == (422, "attachment_refused")


def test_a_file_may_be_larger_than_other_bodies_but_not_than_its_own_limit(api: Api) -> None:
    somebody = Persona(api)
    case = somebody.open().contest(somebody.reported())
    assert api.settings.body_limit_bytes < api.settings.attachment_limit_bytes
    text = b"a line of text\n" * (api.settings.body_limit_bytes // 10)
    path = f"/appeals/{case}/attachments?name=log.txt"
    assert somebody.ask("POST", path, content=text).status_code == 201
    refused = somebody.ask("POST", path, content=b"x" * (api.settings.attachment_limit_bytes + 1))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    refused = somebody.ask("POST", f"/appeals/{case}/messages", json={"text": "x" * api.settings.body_limit_bytes})
    assert refused.status_code == 413


@pytest.mark.parametrize(("method", "path", "arguments"), OTHERS)
def test_another_persons_case_does_not_exist(api: Api, method: str, path: str, arguments: dict[str, Any]) -> None:
    owner = Persona(api)
    report = owner.reported()
    case = owner.open().contest(report)
    file = owner.ask("POST", f"/appeals/{case}/attachments?name=a.png", content=PNG).json()["id"]
    names = {"case": case, "file": file, "report": report}
    other = Persona(api).open()
    sent = dict(arguments)
    if "json" in sent:
        sent["json"] = filled(sent["json"], names)
    answer = other.ask(method, path.format(**names), **sent)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    mine = owner.ask("GET", f"/appeals/{case}").json()
    assert (mine["state"], len(mine["attachments"]), len(mine["timeline"])) == ("submitted", 1, 2)


def filled(value: Any, names: dict[str, str]) -> Any:
    """`value` with the names in its texts filled in."""
    if isinstance(value, dict):
        return {key: filled(content, names) for key, content in value.items()}
    if isinstance(value, list):
        return [filled(item, names) for item in value]
    return value.format(**names) if isinstance(value, str) else value


def test_a_file_of_another_case_of_ones_own_is_not_in_this_one(api: Api) -> None:
    somebody = Persona(api)
    first, second = somebody.reported(), somebody.reported(BETA)
    somebody.open()
    case, other = somebody.contest(first), somebody.contest(second)
    file = somebody.ask("POST", f"/appeals/{case}/attachments?name=a.png", content=PNG).json()["id"]
    assert somebody.ask("GET", f"/appeals/{other}/attachments/{file}").status_code == 404


@pytest.mark.parametrize("token", ["nonsense", "x" * 500, "päpp"])
def test_no_other_token_opens_a_record(api: Api, token: str) -> None:
    headers = {b"Authorization": f"Bearer {token}".encode()}
    answer = api.client.get("/v1/me/record", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_platforms_token_and_a_cookie_are_no_session(api: Api) -> None:
    assert api.request("GET", "/v1/me/record", ACME).json()["code"] == "session_expired"
    somebody = Persona(api).open()
    for name in ("me", "session", "me_session"):
        answer = api.client.get("/v1/me/record", headers={"Cookie": f"{name}={somebody.token}"})
        assert answer.json()["code"] == "unauthenticated"


def test_no_log_line_and_no_answer_holds_a_secret(api: Api) -> None:
    somebody = Persona(api)
    code = somebody.code()
    token = api.request("POST", "/v1/me/session", json={"code": code}).json()["token"]
    somebody.token = token
    api.request("POST", "/v1/me/session", json={"code": code})
    record = somebody.ask("GET", "/export")
    logs = api.logs.getvalue().decode()
    assert "/v1/me/session" in logs
    for secret in (code, token, *(element.hex() for _, element in somebody.subjects)):
        assert secret not in logs
        assert secret not in record.text
