"""The reviewers' console in a real browser: from signing in to the letter, by clicking, and by keyboard."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ledger.protocol.encoding import b64url
from ledger.rules.appeals import Outcome
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.participants import Party
from ledger.server.staff.accounts import as_staff
from tests.api.appealed import (
    GRAVE,
    PNG,
    Browsers,
    attach,
    case_row,
    contested,
    held,
    inspected,
    reported,
    send,
    session_of,
    set_due,
    somebody,
    staffed,
    state,
    with_file,
)  # fmt: skip
from tests.api.conftest import ACME, BETA, running
from tests.browser.conftest import DESKTOP, LOOKS, PHONE, NewPage, fits, is_examined, no_barriers, sign_in_as
from tests.counts import trials
from tests.evidence import files
from tests.support import ROOT, evidence, new_ledger

SCREENSHOTS = ROOT / "var" / "screenshots"
SEEN = [("reviewer" if lang == "en" else "chinese", DESKTOP if width == "desktop" else PHONE) for lang, width in LOOKS]
SHOWN = [f"{name}-{viewport['width']}" for name, viewport in SEEN]
IDS = ["-".join(look) for look in LOOKS]

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def at(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsers]:
    """A running console with its people, shared by the tests: each has cases of its own."""
    folder = tmp_path_factory.mktemp("console")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder, attachments_dir=folder / "attachments")
    for platform in (ACME, BETA):
        platform.enrol(settings)
    with running(settings) as api, staffed(api) as browsers:
        yield browsers


@pytest.fixture
def open_page(new_page: NewPage, at: Browsers) -> OpenPage:
    """`open_page(name, viewport=DESKTOP)` gives a page in which `name` is signed in."""

    def make(name: str, viewport: dict[str, int] | None = None) -> Page:
        page = new_page(viewport=viewport or DESKTOP)
        sign_in_as(page, at.client(name))
        return page

    return make


def looked_at(page: Page, name: str, shown: str | None = None) -> None:
    """The page has no barriers that axe knows and does not scroll sideways; a picture of it if `SCREENSHOTS` is set.

    `shown` is the look, one of `SHOWN`, of a page that is seen in several.
    """
    if shown is None or is_examined(name, SHOWN.index(shown)):
        no_barriers(page)
    fits(page)
    name = name if shown is None else f"{name}-{shown}"
    if os.environ.get("SCREENSHOTS"):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def go(page: Page, at: Browsers, path: str) -> None:
    page.goto(at.api.url + path)


def taken(at: Browsers, case: str, name: str = "reviewer") -> str:
    staff_actions.take(at.api.rt.context, case, as_staff(at.console.staff[name].staff))
    return case


def test_from_signing_in_to_the_letter(at: Browsers, browser: Browser) -> None:
    case = contested(at.api, statement="I sent it back on the third.")
    set_due(at.api, case, at.api.rt.now().replace(year=2020))
    context = browser.new_context()
    page = context.new_page()
    go(page, at, "/console/queue")
    for field, value in at.console.credentials("reviewer").items():
        page.locator(f"#{field}").fill(value)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=re.compile("^Overdue 1$")).wait_for()
    page.get_by_role("button", name="Take the most urgent case").click()
    page.get_by_role("heading", name=f"Case {case}").wait_for()
    expect(page.get_by_text("I sent it back on the third.")).to_be_visible()
    expect(page.get_by_text(re.compile("Overdue: .* days")).first).to_be_visible()
    page.get_by_text("Internal note").click()
    page.get_by_label("Note", exact=True).fill("Ask the carrier.")
    page.get_by_role("button", name="Add the note").click()
    expect(page.get_by_role("heading", name="Internal notes")).to_be_visible()
    page.get_by_label("Remove the record").check()
    page.get_by_label("Reasons").fill("The carrier has no record of it.")
    page.get_by_role("button", name="Read the letter first").click()
    page.get_by_role("heading", name="Is it right?").wait_for()
    page.get_by_role("button", name="Go on editing").click()
    expect(page.get_by_label("Reasons")).to_have_value("The carrier has no record of it.")
    expect(page.get_by_label("Remove the record")).to_be_checked()
    page.get_by_role("button", name="Read the letter first").click()
    page.get_by_role("button", name="中文").nth(1).click()
    expect(page.get_by_role("article")).to_contain_text("决定")
    page.get_by_role("button", name="Decide, and send this letter").click()
    page.get_by_text("The case is decided.").wait_for()
    page.get_by_role("link", name="The decision").click()
    expect(page.get_by_role("article")).to_contain_text("The carrier has no record of it.")
    page.emulate_media(media="print")
    expect(page.get_by_role("banner")).to_be_hidden()
    expect(page.get_by_role("heading", name="Letter", exact=True)).to_be_hidden()
    expect(page.get_by_role("article")).to_be_visible()
    context.close()
    assert case_row(at.api, case).outcome == "overturned"


LABELS: dict[Outcome, str] = {
    Outcome.UPHELD: "Keep the record",
    Outcome.AMENDED: "Correct the record",
    Outcome.OVERTURNED: "Remove the record",
    Outcome.UNCONFIRMED: "Keep it as not confirmed",
    Outcome.VICTIM: "Remove it: somebody else did it",
    Outcome.UNLINKED: "Unlink it from a detail of the person",
}


LOOKED_AT = trials((Outcome.AMENDED,), tuple(Outcome))
"""The outcome whose form and letter have the most parts, or all of them."""


# The two whose forms have parts of their own. Other tests of this file keep a record, remove one, and remove one of
# another member of staff.
CLICKED = trials((Outcome.AMENDED, Outcome.UNLINKED), tuple(Outcome))


@pytest.mark.parametrize("outcome", CLICKED)
def test_each_outcome_by_clicking(at: Browsers, open_page: OpenPage, outcome: Outcome) -> None:
    case = taken(at, contested(at.api))
    page = open_page("reviewer")
    go(page, at, f"/console/cases/{case}")
    page.get_by_label(LABELS[outcome]).check()
    expect(page.locator("#conduct")).to_be_visible(visible=outcome is Outcome.AMENDED)
    expect(page.locator(".with-slots")).to_be_visible(visible=outcome is Outcome.UNLINKED)
    if outcome is Outcome.AMENDED:
        page.get_by_label("Corrected record").select_option("wardrobing")
    if outcome is Outcome.UNLINKED:
        page.get_by_label("phone number").check()
    page.get_by_label("Reasons").fill("Because of the carrier's record.")
    page.get_by_role("button", name="Read the letter first").click()
    if outcome in LOOKED_AT:
        looked_at(page, f"decide-{outcome.value}")
    page.get_by_role("button", name="Decide, and send this letter").click()
    page.get_by_text("The case is decided.").wait_for()
    if outcome in LOOKED_AT:
        looked_at(page, f"decided-{outcome.value}")
    assert case_row(at.api, case).outcome == outcome.value


def test_four_eyes(at: Browsers, open_page: OpenPage) -> None:
    case = taken(at, contested(at.api, **GRAVE))
    first, second = open_page("reviewer"), open_page("signer")
    go(first, at, f"/console/cases/{case}")
    first.get_by_label("Keep the record").check()
    first.get_by_label("Reasons").fill("The serial numbers differ.")
    first.get_by_role("button", name="Read the letter first").click()
    first.get_by_role("button", name="Propose this decision").click()
    expect(first.get_by_text("You cannot sign this one.")).to_be_visible()
    go(second, at, "/console/queue?to_sign=1")
    second.get_by_role("link", name=case).click()
    looked_at(second, "sign")
    second.get_by_role("button", name="Sign", exact=True).click()
    assert case_row(at.api, case).state == "awaiting_signoff", "the box is not ticked"
    second.get_by_label("I have read the case").check()
    second.get_by_role("button", name="Sign", exact=True).click()
    second.get_by_text("You signed").wait_for()
    assert case_row(at.api, case).outcome == "upheld"


def test_a_case_of_ones_own_group(at: Browsers, open_page: OpenPage) -> None:
    case = contested(at.api, by=ACME)
    page = open_page("bound")
    go(page, at, f"/console/cases/{case}")
    expect(page.get_by_role("heading", name="Somebody else has to work on this case")).to_be_visible()
    looked_at(page, "conflict")


def test_the_session_ends_while_somebody_writes(at: Browsers, open_page: OpenPage) -> None:
    case = taken(at, contested(at.api), "supervisor")
    page = open_page("supervisor")
    go(page, at, f"/console/cases/{case}")
    page.get_by_label("Reasons").fill("A long text.")
    page.get_by_label("Keep the record").check()
    page.context.clear_cookies()
    page.get_by_role("button", name="Read the letter first").click()
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    expect(page.get_by_text("A long text.")).to_be_visible()
    looked_at(page, "session-ended")
    assert case_row(at.api, case).state == "under_review"


def test_the_case_moves_on_while_somebody_writes(at: Browsers, open_page: OpenPage) -> None:
    who = somebody()
    case = taken(at, contested(at.api, who))
    page = open_page("reviewer")
    go(page, at, f"/console/cases/{case}")
    page.get_by_label("Keep the record").check()
    page.get_by_label("Reasons").fill("As it was reported.")
    page.get_by_role("button", name="Read the letter first").click()
    consumer.add_message(at.api.rt.context, session_of(at.api, who), case, "Wait, look at this.")
    page.get_by_role("button", name="Decide, and send this letter").click()
    expect(page.get_by_role("alert")).to_contain_text("moved on")
    expect(page.get_by_label("Reasons")).to_have_value("As it was reported.")
    expect(page.get_by_text("Wait, look at this.").first).to_be_visible()
    looked_at(page, "moved-on")


@pytest.mark.parametrize(("name", "viewport"), trials(SEEN[1:], SEEN), ids=trials(IDS[1:], IDS))
def test_held_reports_are_read_and_requests_answered(
    at: Browsers, open_page: OpenPage, name: str, viewport: dict[str, int]
) -> None:
    report = held(at.api, somebody(), **GRAVE)
    send(at.api, f"/v1/reports/{report}/explain", {"text": "A second purchase, three weeks later."})
    case = taken(at, contested(at.api), "signer")
    decided = at.act("signer", case, "decide", outcome="unconfirmed", reasons="Neither is shown.", confirmed="yes")
    assert decided.is_redirect
    asked = {"evidence_sha256": b64url(bytes(32)), "text": "The carrier has sent the scan that was missing."}
    assert send(at.api, f"/v1/appeals/{case}/reopen-request", asked).status_code == 200
    page = open_page(name, viewport)
    go(page, at, "/console/held")
    looked_at(page, "held", f"{name}-{viewport['width']}")
    page.get_by_role("link", name=report).click()
    page.locator("#why").wait_for()
    looked_at(page, "held-report", f"{name}-{viewport['width']}")
    go(page, at, "/console/held")
    page.locator(f"#reasons-{case}").fill("This evidence is new.")
    page.locator(f"form[action$='{case}/grant'] button").first.click()
    page.locator(".notice.good").wait_for()
    assert state(at.api, case) == ("submitted", None)


@pytest.mark.parametrize(("name", "viewport"), trials(SEEN[:1], SEEN), ids=trials(IDS[:1], IDS))
def test_pages_are_without_barriers(at: Browsers, open_page: OpenPage, name: str, viewport: dict[str, int]) -> None:
    case = taken(at, contested(at.api, evidence=[reported(PNG, "carrier_record")]), name)
    with_file(at.api, case, PNG, "carrier.png", "image/png", place=0, party="reporter")
    contested(at.api, by=BETA)
    page = open_page(name, viewport)
    shown = f"{name}-{viewport['width']}"
    for path, title in (
        ("/console/queue", "queue"),
        ("/console/queue?platform=beta", "queue-filtered"),
        (f"/console/cases/{case}", "case"),
        (f"/console/cases/{case}/letter", "letter"),
    ):
        go(page, at, path)
        looked_at(page, title, shown)
    go(page, at, f"/console/cases/{case}")
    image = page.locator("img").first
    image.scroll_into_view_if_needed()  # it is loaded when it comes into view
    expect(image).to_have_js_property("naturalWidth", 1)
    for details in page.locator("details").all():
        details.locator("summary").click()
    looked_at(page, "case-open", shown)
    page.locator("input[name=outcome][value=victim]").check()
    page.locator("#reasons").fill("Because of what both sides sent.")
    page.locator("form.decide button").click()
    page.wait_for_selector("form.confirm")
    assert state(at.api, case) == ("under_review", None), "the letter comes first"
    looked_at(page, "decide", shown)
    page.locator("form.confirm button[name=confirmed]").click()
    page.wait_for_selector("#decided")
    assert state(at.api, case) == ("decided", "victim")
    go(page, at, f"/console/cases/{case}/letter?kind=decided")
    looked_at(page, "letter-decided", shown)


@pytest.mark.parametrize(("name", "viewport"), trials(SEEN[:1], SEEN), ids=trials(IDS[:1], IDS))
def test_a_file_is_inspected_again(at: Browsers, open_page: OpenPage, name: str, viewport: dict[str, int]) -> None:
    again = {"reviewer": "Inspect the file again", "chinese": "重新检验文件"}[name]
    claim = files.png(files.text_chunk("AIGC", files.LABEL.encode()), image=files.picture(600, 400))
    plain = files.jpeg(files.exif_segment(files.exif({0x0131: b"GIMP"})), image=files.picture(600, 400, 2))
    items = [inspected(claim, "original_file"), inspected(claim, "ai_label"), inspected(plain, "listing_match")]
    items[2]["inspection"].update(findings=["a_later_code", "c2pa_captured", "editing_software"])
    items[0].update(pdq="1e2d3c4b5a697887" * 4, pdq_quality=90)
    case = contested(at.api, conduct="edited_image", evidence=[*items, *evidence("source_image", "admission")])
    attach(at.api, case, claim, "claim.png", Party.REPORTER)
    attach(at.api, case, plain, "listing.jpg", Party.REPORTER)
    page = open_page(name, viewport)
    go(page, at, f"/console/cases/{case}")
    looked_at(page, f"evidence-{name}-{viewport['width']}")
    page.get_by_role("button", name=again).first.click()
    created = page.locator("#item-1 .inspection[role=status]")
    created.wait_for()
    assert page.evaluate("location.hash") == "#item-1", "the browser goes to the item"
    expect(created.locator(".badge.green")).to_be_visible()
    expect(page.locator("#item-2 > p .badge.green")).to_have_count(1)  # handed in: a written label has no better mark
    for details in created.locator("details").all():
        details.locator("summary").click()
    looked_at(page, f"evidence-again-{name}-{viewport['width']}")
    page.reload()  # sends the form again, and requests it in a browser that shows the page to a person
    created.wait_for()


def test_what_is_being_written_survives_an_inspection(at: Browsers, open_page: OpenPage) -> None:
    claim = files.png(files.text_chunk("AIGC", files.LABEL.encode()))
    items = [inspected(claim, "original_file"), *evidence("source_image", "admission")]
    case = contested(at.api, conduct="edited_image", evidence=items)
    attach(at.api, case, claim, "claim.png", Party.REPORTER)
    page = open_page("reviewer")
    go(page, at, f"/console/cases/{taken(at, case)}")
    page.locator("input[name=outcome][value=amended]").check()
    page.locator("#conduct").select_option("wardrobing")
    page.get_by_label("Reasons").fill("“Half” a sentence\n& its second line")
    page.get_by_text("Internal note").click()
    page.get_by_label("Note", exact=True).fill("编" * 2000)
    for _ in range(2):  # what came back goes along again
        page.get_by_role("button", name="Inspect the file again").click()
        page.locator("#item-1 .inspection[role=status]").wait_for()
        expect(page.locator("input[name=outcome][value=amended]")).to_be_checked()
        expect(page.locator("#conduct")).to_have_value("wardrobing")
        expect(page.get_by_label("Reasons")).to_have_value("“Half” a sentence\n& its second line")
        expect(page.get_by_label("Note", exact=True)).to_be_visible()
        expect(page.get_by_label("Note", exact=True)).to_have_value("编" * 2000)
        expect(page.get_by_label("Question to the platform")).to_be_hidden()
    page.get_by_role("button", name="Read the letter first").click()
    page.get_by_role("heading", name="Is it right?").wait_for()


def test_of_two_reviewers_one_is_told(at: Browsers, open_page: OpenPage) -> None:
    case = contested(at.api)
    first, other = open_page("reviewer"), open_page("signer")
    for page in (first, other):
        go(page, at, f"/console/cases/{case}")
    first.locator("form[action$='/take'] button").click()
    first.wait_for_selector("#decide")
    other.locator("form[action$='/take'] button").click()
    other.wait_for_selector("#problem")
    assert other.evaluate("document.activeElement.id") == "problem"
    assert other.locator("#decide").count() == 0


def test_shortcuts(at: Browsers, open_page: OpenPage) -> None:
    for _ in range(3):
        contested(at.api)
    page = open_page("reviewer")
    go(page, at, "/console/queue")
    cases = page.locator("#queue tbody tr a").all_inner_texts()
    keys = page.keyboard
    for key in ("j", "j", "j", "k"):
        keys.press(key)
    expect(page.locator("tr.marked a")).to_have_text(cases[1])
    keys.press("o")
    page.get_by_role("heading", name=f"Case {cases[1]}").wait_for()
    page.go_back()
    keys.press("j")
    keys.press("Enter")
    page.get_by_role("heading", name=f"Case {cases[0]}").wait_for()
    page.go_back()
    keys.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    looked_at(page, "shortcuts")
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    keys.press("/")
    expect(page.locator("#state")).to_be_focused()
    page.locator("#case").fill("")
    page.locator("#case").press_sequentially("njk?/o")
    expect(page.locator("#case")).to_have_value("njk?/o")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("tr.marked")).to_have_count(0)


def test_shortcuts_can_be_switched_off(at: Browsers, open_page: OpenPage) -> None:
    contested(at.api)
    page = open_page("reviewer")
    go(page, at, "/console/queue")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Shortcuts are on").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    page.keyboard.press("n")
    expect(page.locator("tr.marked")).to_have_count(0)
    expect(page.get_by_text("(off)")).to_be_visible()
    page.reload()
    expect(page.get_by_text("(off)")).to_be_visible()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Shortcuts are on").check()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("n")
    page.get_by_text("in your hands").wait_for()
