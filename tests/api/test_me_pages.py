"""The consumer's pages over real HTTP: the link, sessions, other people's things, hostile texts and files, logs."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from ledger.core.encoding import b64url
from ledger.core.ids import decode_id, encode_id
from ledger.core.tags import tag
from ledger.store import appeals as store
from ledger.store.engine import reading
from tests.api.appealed import XSS, attach, state
from tests.api.conftest import BETA, Api
from tests.api.pages import Visitor, contested, link_of, me_visitor, report_about, reported


def png() -> bytes:
    """A small picture."""
    made = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(made, "PNG")
    return made.getvalue()


PNG = png()


def upload(visitor: Visitor, case: str, name: str, data: bytes, **headers: str) -> Any:
    own = {"Cookie": visitor.cookie, "Origin": visitor.api.url, **headers}
    files = {"file": (name, data, "application/octet-stream")}
    visitor.api.client.cookies.clear()
    return visitor.api.client.post(f"/me/cases/{case}/attachments", files=files, headers=own, follow_redirects=False)


def test_a_link_opens_the_record_once_and_no_log_or_page_keeps_its_code(api: Api) -> None:
    somebody, report = reported(api)
    link = link_of(api, somebody)
    code = link.split("#")[1]
    assert "code" in api.client.get("/me").text
    first = Visitor(api, "").post("/me/open", {"code": link})
    assert (first.status_code, first.headers["location"]) == (303, "/me")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/me" in cookie
    again = Visitor(api, "").post("/me/open", {"code": code})
    assert again.status_code == 401
    assert "set-cookie" not in again.headers
    page = Visitor(api, cookie.partition(";")[0]).get("/me")
    assert report in page.text
    secrets = [code, cookie.partition("=")[2].partition(";")[0]]
    secrets += [b64url(tag(kind, element)) for kind, element in somebody] + [b64url(one) for _, one in somebody]
    logs = api.logs.getvalue().decode()
    for one in secrets:
        assert one not in logs
        assert one not in page.text
        assert one not in again.text


def test_a_planted_cookie_opens_nothing_and_is_not_taken_over(api: Api) -> None:
    somebody, _ = reported(api)
    planted = Visitor(api, "me=planted-by-somebody")
    assert "/me/open" in planted.get("/me").text
    opened = planted.post("/me/open", {"code": link_of(api, somebody)})
    assert "planted-by-somebody" not in opened.headers["set-cookie"]
    assert "/me/open" in planted.get("/me").text, "the planted one still opens nothing"


def test_an_old_session_ends_when_another_is_opened_or_it_is_closed(api: Api) -> None:
    somebody, report = reported(api)
    visitor = me_visitor(api, somebody)
    visitor.post("/me/open", {"code": link_of(api, somebody)})
    assert report not in visitor.get("/me").text
    other = me_visitor(api, somebody)
    other.post("/me/end")
    assert report not in other.get("/me").text
    assert other.get("/me/record.json").status_code == 401


def test_contesting_answering_and_taking_back(api: Api) -> None:
    somebody, report = reported(api)
    also = report_about(api, somebody, BETA)
    visitor = me_visitor(api, somebody)
    page = visitor.get("/me")
    assert "another member" in page.text
    assert "acme" not in page.text
    assert f"/me/appeal?report={report}" in page.text
    refused = visitor.post("/me/appeal", {"report": report, "grounds": "nonsense", "statement": "My own words."})
    assert refused.status_code == 422
    assert "My own words." in refused.text
    form = {"report": report, "grounds": "not_me", "statement": "My own words.", f"also_{also}": "yes"}
    done = visitor.post("/me/appeal", form)
    assert done.status_code == 303
    case = done.headers["location"].rsplit("/", 1)[1].partition("?")[0]
    assert "We have your appeal" in visitor.get(done.headers["location"]).text
    assert visitor.get(f"/me/appeal?report={report}").status_code == 404
    assert visitor.post(f"/me/cases/{case}/messages", {"text": "One more thing."}).status_code == 303
    assert "One more thing." in visitor.get(f"/me/cases/{case}").text
    assert visitor.get(f"/me/cases/{case}/letters/received").status_code == 200
    assert visitor.get(f"/me/cases/{case}/letters/decided").status_code == 404
    assert visitor.post(f"/me/cases/{case}/withdraw").status_code == 422
    assert visitor.post(f"/me/cases/{case}/withdraw", {"sure": "yes"}).status_code == 303
    assert state(api, case)[0] == "withdrawn"
    assert visitor.post(f"/me/cases/{case}/reopen", {"text": "After all."}).status_code == 303
    assert state(api, case)[0] == "submitted"
    assert visitor.post("/me/statements", {"report": also, "text": "I sent it back."}).status_code == 303
    assert "I sent it back." in visitor.get("/me").text


def test_the_export_is_whole_and_names_nobody_else(api: Api) -> None:
    somebody, case = contested(api, "Broken on arrival.")
    report_about(api, somebody, BETA)
    answer = me_visitor(api, somebody, "zh-CN").get("/me/record.json")
    assert answer.headers["content-disposition"].startswith("attachment;")
    record = json.loads(answer.content)
    assert record["format"] == "refund-credit-record/1"
    assert {one["reported_by"] for one in record["reports"]} == {None, "beta"}
    assert [one["case"]["id"] for one in record["reports"] if one["case"]] == [case]
    assert "acme" not in answer.text
    assert record["lookups"][0]["purpose"] == "subject_session"
    assert record["words"]["tier"]


def test_other_peoples_things_are_not_there(api: Api) -> None:
    somebody, case = contested(api)
    file = attach(api, case)
    stranger, _ = contested(api)
    other = me_visitor(api, stranger)
    with reading(api.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, api.settings.service))
    assert row is not None
    report = encode_id("rp", row.report_id, api.settings.service)
    for path in (f"/me/cases/{case}", f"/me/cases/{case}/attachments/{file}", f"/me/cases/{case}/letters/received",
                 f"/me/appeal?report={report}", "/me/cases/ap_zzzzzzzz", "/me/cases/x"):  # fmt: skip
        assert other.get(path).status_code == 404, path
    for path in ("messages", "withdraw", "reopen"):
        assert other.post(f"/me/cases/{case}/{path}", {"text": "x", "sure": "yes"}).status_code == 404, path
    assert upload(other, case, "a.txt", b"x").status_code == 404
    assert other.post("/me/appeal", {"report": report, "grounds": "other", "statement": "x"}).status_code == 404
    assert other.post("/me/statements", {"report": report, "text": "x"}).status_code == 422
    assert state(api, case)[0] == "submitted"
    mine = me_visitor(api, somebody)
    assert mine.get(f"/me/cases/{case}/attachments/{file}").content == b"hello"


def test_forms_of_other_sites_are_refused(api: Api) -> None:
    somebody, report = reported(api)
    visitor = me_visitor(api, somebody)
    form = {"report": report, "grounds": "other", "statement": "Mine."}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert visitor.post("/me/appeal", form, headers=headers).status_code == 403
        assert visitor.post("/me/open", {"code": "x"}, headers=headers).status_code == 403
    assert f"/me/appeal?report={report}" in visitor.get("/me").text


def test_nothing_that_anybody_wrote_becomes_markup(api: Api) -> None:
    somebody, report = reported(api)
    visitor = me_visitor(api, somebody)
    case = visitor.post("/me/appeal", {"report": report, "grounds": "other", "statement": XSS}).headers["location"]
    case = case.rsplit("/", 1)[1].partition("?")[0]
    visitor.post(f"/me/cases/{case}/messages", {"text": XSS})
    visitor.post("/me/statements", {"report": report, "text": XSS})
    assert upload(visitor, case, f"{XSS}.txt", b"hello").status_code == 303
    for path in ("/me", f"/me/cases/{case}", f"/me/appeal?report={report}&grounds={XSS}"):
        page = visitor.get(path)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("photo.png", PNG, 303),
        ("../../../etc/passwd.txt", b"plain", 303),
        ("..\\..\\x.txt", b"plain two", 303),
        ("nul\x01.txt", b"plain three", 303),
        ("page.html", b"<!doctype html><script>alert(1)</script>", 422),
        ("picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 422),
        ("archive.zip", b"PK\x03\x04" + bytes(60), 422),
        ("empty.txt", b"", 422),
        ("broken.png", PNG[:40], 422),
    ],
)
def test_files_are_judged_by_their_bytes_and_never_named_on_disk(api: Api, name: str, data: bytes, status: int) -> None:
    somebody, case = contested(api)
    visitor = me_visitor(api, somebody)
    answer = upload(visitor, case, name, data)
    assert answer.status_code == status, answer.text
    folder = api.settings.attachments_dir
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in names)
    page = visitor.get(f"/me/cases/{case}").text
    assert "../" not in page.replace('href="../', "")


def test_a_file_over_the_limit_is_refused_before_it_is_read_whole(api: Api) -> None:
    somebody, case = contested(api)
    visitor = me_visitor(api, somebody)
    limit = api.settings.attachment_limit_bytes
    assert upload(visitor, case, "big.txt", b"a" * (limit + 1)).status_code == 422
    assert upload(visitor, case, "huge.txt", b"a" * (limit + 200_000)).status_code == 413


def test_pages_speak_both_languages(api: Api) -> None:
    somebody, case = contested(api)
    visitor = me_visitor(api, somebody, "zh-CN")
    assert "关于您的记录" in visitor.get("/me").text
    assert '<html lang="zh-CN">' in visitor.get(f"/me/cases/{case}").text
    chosen = visitor.post("/me/language", {"language": "en"}).headers["set-cookie"].partition(";")[0]
    assert "What is recorded about you" in Visitor(api, f"{visitor.cookie}; {chosen}").get("/me").text
    api.client.cookies.clear()
    assert "打开我的记录" in api.client.get("/me", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).text
