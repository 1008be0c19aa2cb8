"""A person's way through /me in a real browser on a telephone: the link, the record, the appeal, the decision."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python import sync_playwright as axe_package  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from ledger.rules.appeals import Outcome
from ledger.server.appeals import staff_actions
from tests.api.conftest import ACME, BETA, Api, running
from tests.browser.conftest import NewPage, is_examined
from tests.personas import ANNA, PNG, Persona
from tests.support import new_ledger

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
AXE = (Path(axe_package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
RUN_AXE = """async () => {
    const found = await axe.run({resultTypes: ["violations"]})
    return found.violations.map(v => [v.impact, v.id, v.nodes[0].html])
}"""
SHOTS = os.environ.get("ME_SCREENSHOTS")
"""A folder to keep pictures of every page in, for people to look at."""

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "open": "Open my record",
        "not_me": "This is not me",
        "send": "Send my appeal",
        "look": "Look at the case",
        "answer": "Send the answer",
        "back": "Back to my record",
        "decided": "Not confirmed: the record stays but does not count",
        "refused": "No refund may be refused automatically because of this.",
        "again": "Contest once more",
        "end": "End the session",
        "ended": "Session ended",
        "switch": "中文",
    },
    "zh-CN": {
        "open": "查看我的记录",
        "not_me": "这不是我",
        "send": "提交申诉",
        "look": "查看案件",
        "answer": "提交答复",
        "back": "返回我的记录",
        "decided": "未获证实：记录保留，但不计分",
        "refused": "任何平台都不得据此自动拒绝退款。",
        "again": "再次申诉",
        "end": "结束本次访问",
        "ended": "本次访问已结束",
        "switch": "English",
    },
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running server with two platforms."""
    folder = tmp_path_factory.mktemp("me")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    for platform in (ACME, BETA):
        platform.enrol(settings)
    with running(settings) as server:
        yield server


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(new_page: NewPage) -> OpenPage:
    """`open_page(locale)` gives a page of a browser in this language, on a telephone unless `options` say otherwise."""

    def make(locale: str = "en", **options: Any) -> Page:
        return new_page(locale=locale, **{"viewport": PHONE, **options})

    return make


def examine(page: Page, name: str, locale: str, *, in_one_language: bool = False) -> None:
    """No serious fault of accessibility, nothing wider than the screen, the right language; and a picture if asked."""
    if in_one_language or is_examined(name, list(WORDS).index(locale)):
        page.evaluate(AXE)  # the content policy forbids script tags, not the debugger
        evaluation = page.evaluate(RUN_AXE)
        assert [item for item in evaluation if item[0] in ("serious", "critical")] == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert page.locator("html").get_attribute("lang") == locale
    assert page.locator("h1").count() == 1, name
    if SHOTS:
        for size in (PHONE, DESKTOP):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.screenshot(path=f"{SHOTS}/{name}-{locale}-{size['width']}.png", full_page=True)
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("locale", WORDS)
def test_from_the_link_to_the_decision(api: Api, open_page: OpenPage, locale: str) -> None:
    words, person = WORDS[locale], Persona(api)
    report = person.reported(ACME, amount_minor=45_900)
    person.reported(BETA, conduct="wardrobing", order=locale, **WARDROBING)
    api.request("POST", "/v1/lookups", ACME, json=api.lookup_body(*person.subjects))
    page, code = open_page(locale), person.code(locale=locale)

    page.goto(f"{api.url}/me#{code}")
    expect(page.get_by_role("button", name=words["open"])).to_be_focused()
    assert page.url == f"{api.url}/me", "the address bar holds no code"
    expect(page.get_by_label("#", exact=False)).not_to_be_visible()
    examine(page, "1-open", locale)
    page.get_by_role("button", name=words["open"]).click()

    expect(page.get_by_text(words["refused"])).to_be_visible()
    examine(page, "2-record", locale)
    page.locator(f"#{report}").get_by_role("link", name=words["not_me"]).click()
    expect(page.locator("#g-not_me")).to_be_checked()
    page.locator("#text").fill(
        "那天我在外地，手机被偷了。 It was stolen." if locale == "zh-CN" else "My phone was stolen."
    )
    examine(page, "3-appeal", locale)
    page.get_by_role("button", name=words["send"]).click()
    examine(page, "4-filed", locale)
    page.get_by_role("link", name=words["look"]).click()
    case = page.url.rpartition("/")[2]

    question = "您当天使用的是哪家快递？" if locale == "zh-CN" else "Which carrier was it that day?"
    person.asked(case, question)
    page.reload()
    expect(page.locator("#say ~ blockquote")).to_have_text(question)
    examine(page, "5-question", locale)
    page.locator("#text").fill("顺丰，单号末尾17。" if locale == "zh-CN" else "SF, its number ends in 17.")
    page.get_by_role("button", name=words["answer"]).click()
    page.locator("#file").set_input_files({"name": "receipt.png", "mimeType": "image/png", "buffer": PNG})
    page.locator("form[enctype] button").click()
    expect(page.get_by_role("link", name="receipt.png")).to_be_visible()
    reasons = "无法证明退货由本人寄出。" if locale == "zh-CN" else "It cannot be shown who sent the return."
    staff_actions.decide(api.rt.context, case, ANNA, Outcome.UNCONFIRMED, reasons)
    page.reload()
    expect(page.get_by_role("heading", name=words["decided"])).to_be_visible()
    expect(page.get_by_role("button", name=words["again"])).to_be_visible()
    examine(page, "6-decided", locale)
    page.goto(f"{page.url.partition('#')[0]}/letters/decided")
    examine(page, "7-letter", locale)
    page.goto(f"{api.url}/me")
    expect(page.locator(f"#{report}").get_by_text(reasons)).to_be_visible()
    examine(page, "8-record-decided", locale)
    page.locator("main").get_by_role("button", name=words["end"]).click()
    expect(page.get_by_role("heading", name=words["ended"])).to_be_visible()
    examine(page, "9-ended", locale)
    page.goto(f"{api.url}/me/cases/{case}")
    examine(page, "10-expired", locale)


WARDROBING: dict[str, Any] = {
    "evidence": [
        {"type": "intake_photo", "sha256": "A" * 43},
        {"type": "policy_clause", "sha256": "A" * 42 + "E"},
    ]
}


def test_without_a_script_the_code_is_pasted(api: Api, open_page: OpenPage) -> None:
    person = Persona(api)
    report = person.reported()
    page = open_page(java_script_enabled=False)
    page.goto(f"{api.url}/me")
    page.locator("#code").fill(f"{api.url}/me#{person.code()}")
    page.get_by_role("button", name="Open my record").click()
    page.locator(f"#{report}").get_by_role("link", name="Contest it").click()
    page.locator("#g-paid_back").check()
    page.locator("#text").fill("I paid on Monday.")
    page.get_by_role("button", name="Send my appeal").click()
    expect(page.get_by_text("You get our answer by")).to_be_visible()


def test_a_refused_form_is_shown_again_with_its_fault_in_focus(api: Api, open_page: OpenPage) -> None:
    person = Persona(api)
    report = person.reported()
    page = open_page()
    page.goto(f"{api.url}/me#{person.code()}")
    page.get_by_role("button", name="Open my record").click()
    page.goto(f"{api.url}/me/appeal?report={report}")
    page.locator("#g-other").check()
    page.locator("#text").fill("word " * 401)
    expect(page.locator("[data-count]")).to_have_text("Characters: 2004 of 2000")
    page.get_by_role("button", name="Send my appeal").click()
    expect(page.locator("#errors")).to_be_focused()
    examine(page, "11-refused", "en", in_one_language=True)
    assert page.locator("#text").input_value().startswith("word word")
    expect(page.locator("#g-other")).to_be_checked()


def test_a_new_link_opens_beside_an_open_record(api: Api, open_page: OpenPage) -> None:
    first, second = Persona(api), Persona(api)
    mine = second.reported()
    page = open_page()
    page.goto(f"{api.url}/me#{first.code()}")
    page.get_by_role("button", name="Open my record").click()
    expect(page.get_by_role("heading", name="Your record")).to_be_visible()
    page.goto("about:blank")
    page.goto(f"{api.url}/me#{second.code()}")
    page.get_by_role("button", name="Open my record").click()
    expect(page.locator(f"#{mine}")).to_be_visible()
    assert "#" not in page.url


def test_the_switch_of_language_keeps_the_code(api: Api, open_page: OpenPage) -> None:
    person = Persona(api)
    page = open_page()
    page.goto(f"{api.url}/me#{person.code()}")
    page.get_by_role("link", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.get_by_role("button", name=WORDS["zh-CN"]["open"]).click()
    expect(page.get_by_text(WORDS["zh-CN"]["refused"])).to_be_visible()
