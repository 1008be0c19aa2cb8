"""The console's cases over real HTTP: roles, conflicts, stale forms, races, other cases' files, hostile texts."""

from __future__ import annotations

import hashlib
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from ledger.core.appeals import Outcome
from ledger.core.encoding import b64url
from ledger.core.ids import decode_id, encode_id
from ledger.service.appeals.files import drafted, keep_file
from ledger.service.appeals.parties import Party, Speaker
from ledger.service.appeals.transaction import case_number, changing, load_case
from ledger.service.attachments import check_file
from ledger.service.audit import EventFilter
from ledger.service.audit import page as audit_page
from ledger.store import appeals as store
from ledger.store.engine import reading
from ledger.store.tables import Listing
from tests.api.conftest import ACME, Api
from tests.api.pages import Visitor, contested, staff_visitor
from tests.support import evidence

GRAVE: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
XSS = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def seen(visitor: Visitor, case: str) -> str:
    """What the case's forms carry."""
    page = visitor.get(f"/console/cases/{case}")
    assert page.status_code == 200, page.text
    found = re.search(r'name="seen" value="(\d+)"', page.text)
    assert found is not None, "no form on this page"
    return found[1]


def act(visitor: Visitor, case: str, action: str, **form: str) -> Any:
    return visitor.post(f"/console/cases/{case}/{action}", {"seen": seen(visitor, case), **form})


def state(api: Api, case: str) -> tuple[str, str | None]:
    with reading(api.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, api.settings.service))
    assert row is not None
    return row.state, row.outcome


def attach(api: Api, case: str, data: bytes = b"hello", name: str = "a.txt") -> str:
    """A file of the person's in the case; its public id."""
    with reading(api.rt.engine) as connection:
        row = store.case(connection, decode_id("ap", case, api.settings.service))
        assert row is not None
        tags = frozenset(tag for (tag,) in _tags(connection, row.report_id))
    checked = check_file(data, name, api.settings)
    speaker = Speaker(Party.SUBJECT, tags=tags)
    with drafted(api.settings, data, secrets.token_bytes) as draft, changing(api.rt.context) as batch:
        row = load_case(batch, case_number(api.rt.context, case))
        kept, _ = keep_file(batch, api.settings, row, speaker, checked, draft)
    return encode_id("at", kept.id, api.settings.service)


def _tags(connection: Any, report_id: int) -> Any:
    return connection.execute(select(Listing.tag).where(Listing.report_id == report_id)).all()


@pytest.mark.parametrize("outcome", Outcome)
def test_a_case_goes_from_the_queue_to_each_outcome(api: Api, outcome: Outcome) -> None:
    _, case = contested(api)
    rita, _ = staff_visitor(api, "reviewer")
    assert case in rita.get("/console/queue").text
    assert act(rita, case, "take").status_code == 303
    extra = {"amended": {"conduct": "wardrobing"}, "unlinked": {"slot0": "yes"}}.get(outcome.value, {})
    form = {"outcome": outcome.value, "reasons": "Because of the record.", **extra}
    unsure = act(rita, case, "decide", **form)
    assert (unsure.status_code, state(api, case)[0]) == (422, "under_review")
    assert "Because of the record." in unsure.text, "what was typed is kept"
    preview = rita.post(f"/console/letters/{case}/preview", {**form, "locale": "zh-CN"})
    assert preview.status_code == 200
    assert "Because of the record." in preview.text
    assert act(rita, case, "decide", **form, sure="yes").status_code == 303
    assert state(api, case) == ("decided", outcome.value)
    for locale in ("en", "zh-CN"):
        assert rita.get(f"/console/letters/{case}/decided?locale={locale}").status_code == 200


def test_a_grave_report_takes_a_second_signature(api: Api) -> None:
    _, case = contested(api, **GRAVE)
    (rita, _), (ravi, _) = staff_visitor(api, "reviewer"), staff_visitor(api, "reviewer")
    act(rita, case, "take")
    act(rita, case, "decide", outcome="upheld", reasons="Seen.", sure="yes")
    assert state(api, case) == ("awaiting_signoff", None)
    page = rita.get(f"/console/cases/{case}").text
    assert "/sign" not in page
    refused = rita.post(f"/console/cases/{case}/sign", {"seen": seen(ravi, case)})
    assert refused.status_code == 422
    assert state(api, case)[0] == "awaiting_signoff"
    assert case in ravi.get("/console/queue?view=sign").text
    assert act(ravi, case, "sign").status_code == 303
    assert state(api, case) == ("decided", "upheld")


def test_conflict_of_interest_is_refused_by_the_server(api: Api) -> None:
    _, case = contested(api)
    gina, _ = staff_visitor(api, "reviewer", control_group=ACME.control_group)
    for query in ("", f"?case={case}", "?view=all"):
        assert f"/console/cases/{case}" not in gina.get(f"/console/queue{query}").text
    assert gina.get(f"/console/cases/{case}").status_code == 403
    rita, _ = staff_visitor(api, "reviewer")
    newest = seen(rita, case)
    for action in ("take", "assign", "sign", "decide", "note"):
        answer = gina.post(f"/console/cases/{case}/{action}", {"seen": newest, "text": "x"})
        assert answer.status_code == 403, action
    assert gina.get(f"/console/letters/{case}/received").status_code == 403
    assert state(api, case)[0] == "submitted"


@pytest.mark.parametrize(("role", "page", "action"), [("auditor", 200, 403), ("admin", 403, 403), (None, 303, 401)])
def test_who_may_read_and_who_may_act(api: Api, role: str | None, page: int, action: int) -> None:
    _, case = contested(api)
    visitor = Visitor(api, "") if role is None else staff_visitor(api, role)[0]
    for path in ("/console/queue", f"/console/cases/{case}", f"/console/letters/{case}/received"):
        assert visitor.get(path).status_code == page, path
    paths = [
        f"/console/cases/{case}/{name}" for name in ("take", "skip", "note", "decide", "sign", "decline", "assign")
    ]
    for path in (*paths, "/console/queue/next", f"/console/letters/{case}/preview"):
        assert visitor.post(path, {"seen": "1"}).status_code == action, path
    assert state(api, case)[0] == "submitted"


def test_forms_of_other_sites_are_refused(api: Api) -> None:
    _, case = contested(api)
    rita, _ = staff_visitor(api, "reviewer")
    form = {"seen": seen(rita, case)}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": api.url},
        {"Sec-Fetch-Site": "none"},
    ):
        assert rita.post(f"/console/cases/{case}/take", form, headers=headers).status_code == 403, headers
    bare = api.client.post(f"/console/cases/{case}/take", data=form, headers={"Cookie": rita.cookie})
    assert bare.status_code == 403
    assert state(api, case)[0] == "submitted"
    assert rita.post(f"/console/cases/{case}/take", form, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_of_two_reviewers_one_gets_the_case(api: Api) -> None:
    visitors = [staff_visitor(api, "reviewer")[0] for _ in range(4)]
    for _ in range(3):
        _, case = contested(api)
        path, form = f"/console/cases/{case}/take", {"seen": seen(visitors[0], case)}
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(one.post, path, form) for one in visitors]
        assert sorted(one.result().status_code for one in answers) == [303, 409, 409, 409]


def test_a_form_of_an_old_view_does_nothing(api: Api) -> None:
    _, case = contested(api)
    rita, _ = staff_visitor(api, "reviewer")
    act(rita, case, "take")
    old = seen(rita, case)
    act(rita, case, "note", text="First I looked at the record.")
    form = {"seen": old, "outcome": "overturned", "reasons": "My careful words.", "sure": "yes"}
    answer = rita.post(f"/console/cases/{case}/decide", form)
    assert answer.status_code == 409
    assert "My careful words." in answer.text
    assert state(api, case)[0] == "under_review"


def test_nothing_that_anybody_wrote_becomes_markup(api: Api) -> None:
    _, case = contested(api, XSS)
    attach(api, case, b"hello", f"{XSS}.txt")
    rita, _ = staff_visitor(api, "reviewer")
    act(rita, case, "take")
    act(rita, case, "note", text=XSS)
    act(rita, case, "ask-subject", text=XSS)
    page = rita.get(f"/console/cases/{case}")
    refused = act(rita, case, "decide", outcome="upheld", reasons=XSS)
    preview = rita.post(f"/console/letters/{case}/preview", {"outcome": "upheld", "reasons": XSS, "locale": "en"})
    for answer in (page, refused, preview):
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "&lt;script&gt;" in answer.text or "_script_" in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


def test_a_file_is_read_through_its_own_case_only(api: Api) -> None:
    _, case = contested(api)
    _, other = contested(api)
    file = attach(api, case)
    rita, _ = staff_visitor(api, "reviewer")
    answer = rita.get(f"/console/files/{case}/{file}")
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for path in (f"{other}/{file}", f"{case}/at_zzzzzzzz", f"{case}/../../etc/passwd", f"{case}/{file}x"):
        assert rita.get(f"/console/files/{path}").status_code == 404, path


def test_the_next_case_is_the_most_urgent_one_that_one_may_take(api: Api) -> None:
    rita, _ = staff_visitor(api, "reviewer")
    _, case = contested(api)
    act(rita, case, "skip")
    taken = set()
    for _ in range(30):
        location = rita.post("/console/queue/next").headers["location"]
        if "empty=1" in location:
            break
        taken.add(location.rsplit("/", 1)[1])
    assert case not in taken, "passed over until tomorrow"
    ravi, _ = staff_visitor(api, "reviewer")
    assert ravi.post("/console/queue/next").headers["location"].endswith(case)


def test_every_read_of_a_case_is_in_the_audit_log(api: Api) -> None:
    _, case = contested(api)
    rita, _ = staff_visitor(api, "auditor")
    rita.get(f"/console/cases/{case}")
    rita.get(f"/console/letters/{case}/received")
    page = audit_page(api.rt.engine, EventFilter(object_id=case))
    assert [one.action for one in page.events] == ["letter_read", "case_read"]


def test_reported_files_tick_the_checklist_off(api: Api) -> None:
    data = b"The carrier's record."
    items = [{"type": "carrier_record", "sha256": b64url(hashlib.sha256(data).digest())}]
    _, case = contested(api, evidence=items)
    rita, _ = staff_visitor(api, "reviewer")
    assert "met on paper" in rita.get(f"/console/cases/{case}").text
    checked = check_file(data, "record.txt", api.settings)
    speaker = Speaker(Party.REPORTER, ACME.name, ACME.control_group)
    with drafted(api.settings, data, secrets.token_bytes) as draft, changing(api.rt.context) as batch:
        row = load_case(batch, case_number(api.rt.context, case))
        keep_file(batch, api.settings, row, speaker, checked, draft)
    page = rita.get(f"/console/cases/{case}").text
    assert "digest matches" in page
    assert "The minimum is met by files" in page


def test_odd_queries_of_the_queue_are_harmless(api: Api) -> None:
    rita, _ = staff_visitor(api, "reviewer", language="zh-CN")
    for query in ("page=0", "page=-1", "page=99999999", "view=%3Cb%3E", "case=ap_", "severity=9999", "profile=XX",
                  "platform=%27%20OR%201=1", "conduct=none", "view=decided", "view=all", "view=soon"):  # fmt: skip
        answer = rita.get(f"/console/queue?{query}")
        assert answer.status_code == 200, query
        assert "<b>" not in answer.text
