"""Platforms, dashboard and simulator over HTTP: who may see and do what, forms from elsewhere, markup, plots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from api.console.figures import NAMES
from api.web.security import CONTENT_POLICY
from ledger.protocol.encoding import day_floor
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import writing
from ledger.server.log.policy_publication import publish_policy
from ledger.server.staff import audit, passwords
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import EventFilter
from ledger.server.stats import platform_health as health
from ledger.server.stats import queries as store
from ledger.server.stats import simulator
from ledger.server.stats.policy_draft import values_of
from tests.api.conftest import ACME, Api, person
from tests.api.console_fixture import ConsoleFixture, post, said
from tests.staffing import ROLES, cheap

SEERS = {"supervisor", "auditor", "admin"}
READS = {
    "/console/dashboard": set(ROLES),
    "/console/dashboard/tiers.svg": set(ROLES),
    "/console/platforms": SEERS,
    "/console/platforms/beta": SEERS,
    "/console/platforms/beta/suspend": {"supervisor", "admin"},
    "/console/platforms/beta/quota": {"admin"},
    "/console/simulator": SEERS,
}
WRITES = {
    "/console/platforms/beta/suspend": {"supervisor", "admin"},
    "/console/platforms/beta/resume": {"supervisor", "admin"},
    "/console/platforms/beta/quota": {"admin"},
    "/console/simulator": {"supervisor", "admin"},
    "/console/simulator/policy.toml": {"supervisor", "admin"},
}
EVIL = '"><script>alert(1)</script>'
NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "hasher", cheap)


@pytest.fixture(scope="module")
def console(api: Api) -> Iterator[ConsoleFixture]:
    """One of each role, one bound to beta's group, one who reads Chinese."""
    console_fixture = ConsoleFixture(api)
    console_fixture.add("bound", "supervisor", control_group="beta-group")
    console_fixture.add("wei", "admin", language="zh-CN")
    day = day_floor(api.rt.now())
    with writing(api.rt.engine) as connection:
        for before in range(1, 6):
            store.insert_daily_tiers(
                connection, day - before, {"clear": 3, "watch": 20 + before, "review": 4, "high": 1}
            )
    api.report(ACME, [(Kind.PAYMENT, person())])
    yield console_fixture
    console_fixture.close_clients()


@pytest.fixture
def _beta_active(api: Api) -> Iterator[None]:
    yield
    boss = StaffMember(99, "boss", "admin", None, "en")
    health.resume(api.rt.engine, boss, "beta", "After the test.", api.rt.now())


def actions(api: Api) -> list[tuple[str, str | None]]:
    """What is in the audit log of these pages."""
    rows = audit.page(api.rt.engine, EventFilter(), None).events
    expected = ("platform_suspended", "platform_resumed", "quota_changed", "policy_simulated")
    return [(row.action, row.detail) for row in reversed(rows) if row.action in expected]


def test_who_may_read(console: ConsoleFixture) -> None:
    anybody = console.client()
    for path in READS:
        assert anybody.get(path).headers["location"].startswith("/console/login"), path
    for role in ROLES:
        client = console.signed_in(role)
        for path, roles in READS.items():
            answer = client.get(path)
            assert answer.status_code == (200 if role in roles else 403), (role, path)
            assert answer.headers["content-security-policy"] == CONTENT_POLICY
            assert answer.headers["cache-control"] == "no-store"


def test_who_may_write(console: ConsoleFixture, api: Api) -> None:
    before = actions(api)
    for role in ROLES:
        client = console.signed_in(role)
        for path, roles in WRITES.items():
            answer = post(client, path, {"tiers.watch_total_millipoints": "x"})  # no box is ticked: nothing is done
            assert answer.status_code == (422 if role in roles else 403), (role, path)
    assert actions(api) == before


def test_forms_of_other_sites_are_refused(console: ConsoleFixture, api: Api) -> None:
    client, before = console.signed_in("admin"), actions(api)
    for path in WRITES:
        for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            data = {"confirm": "yes", "reason": "A reason.", "quota": "1"}
            answer = post(client, path, data, headers)
            assert answer.status_code == 403, (path, headers)
            assert "This form did not come from here" in said(answer)
    assert actions(api) == before


@pytest.mark.usefixtures("_beta_active")
def test_suspending_and_resuming(console: ConsoleFixture, api: Api) -> None:
    client = console.signed_in("supervisor")
    asked = client.get("/console/platforms/beta/suspend")
    assert "All its tokens are refused" in said(asked)
    assert "No other member of its control group is active" in said(asked)
    before = actions(api)
    unticked = post(client, "/console/platforms/beta/suspend", {"reason": EVIL})
    assert (unticked.status_code, "Tick the box" in said(unticked)) == (422, True)
    assert EVIL not in unticked.text
    assert "&#34;&gt;&lt;script&gt;" in unticked.text, "what was typed is still there, as text"
    short = post(client, "/console/platforms/beta/suspend", {"confirm": "yes", "reason": "x"})
    assert (short.status_code, "3 to 150 characters" in said(short)) == (422, True)
    assert actions(api) == before
    done = post(client, "/console/platforms/beta/suspend", {"confirm": "yes", "reason": EVIL})
    assert (done.status_code, done.headers["location"]) == (303, "/console/platforms/beta")
    assert ">suspended</span>" in client.get("/console/platforms/beta").text
    assert "It is suspended already" in said(client.get("/console/platforms/beta/suspend"))
    log = console.signed_in("auditor").get("/console/audit")
    assert EVIL not in log.text
    assert "platform_suspended" in log.text
    post(client, "/console/platforms/beta/resume", {"confirm": "yes", "reason": "Put right."})
    assert ">active</span>" in client.get("/console/platforms/beta").text
    assert actions(api)[len(before) :] == [("platform_suspended", EVIL), ("platform_resumed", "Put right.")]


def test_staff_of_a_group_act_on_nobody(console: ConsoleFixture, api: Api) -> None:
    client, before = console.signed_in("bound"), actions(api)
    for name in ("acme", "beta"):
        assert "may not act on any platform" in said(client.get(f"/console/platforms/{name}"))
        answer = post(client, f"/console/platforms/{name}/suspend", {"confirm": "yes", "reason": "A reason."})
        assert answer.status_code == 403
        assert "<form" not in answer.text.partition("<main")[2]
    assert actions(api) == before


def test_a_quota(console: ConsoleFixture, api: Api) -> None:
    client = console.signed_in("admin")
    path = "/console/platforms/beta/quota"
    for typed in ("-1", "1.5", "\u0665", "99999999999", "4000000000"):
        assert post(client, path, {"confirm": "yes", "reason": "Because.", "quota": typed}).status_code == 422
    assert post(client, path, {"confirm": "yes", "reason": "Because.", "quota": "77"}).status_code == 303
    assert "0 of 77" in said(client.get("/console/platforms/beta"))
    assert post(client, path, {"confirm": "yes", "reason": "As before.", "quota": ""}).status_code == 303
    assert actions(api)[-1] == ("quota_changed", "77 -> default: As before.")


def test_what_is_not_there(console: ConsoleFixture) -> None:
    client = console.signed_in("admin")
    for path in ("platforms/nobody", "platforms/nobody/suspend", "dashboard/other.svg", "dashboard/tiers.svg?size=x"):
        assert client.get(f"/console/{path}").status_code == 404, path
    assert client.get("/console/platforms/beta/delete").status_code in (404, 422)
    assert client.get("/console/dashboard?days=31").status_code == 422
    assert client.get("/console/dashboard/tiers.svg?days=1e3").status_code == 422


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["wide", "half", "narrow"])
def test_plots_are_shapes_and_nothing_else(console: ConsoleFixture, name: str, size: str) -> None:
    client = console.signed_in("wei")
    for days in (30, 90, 365):
        answer = client.get(f"/console/dashboard/{name}.svg?days={days}&size={size}")
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        root = ElementTree.fromstring(answer.content)
        tags = {element.tag.removeprefix(NAMESPACE) for element in root.iter()}
        assert tags <= {"svg", "title", "g", "path", "rect", "circle", "text"}, tags
        for element in root.iter():
            assert not {key for key in element.attrib if key in ("style", "class", "id") or key.startswith("on")}
            assert not any("href" in key or "url(" in value or "//" in value for key, value in element.attrib.items())
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_a_plot_has_the_numbers_of_its_table(console: ConsoleFixture) -> None:
    client = console.signed_in("reviewer")
    page = client.get("/console/dashboard?days=30").text
    table = page.partition('id="tiers"')[2].partition("</table>")[0]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr>")[2:]]
    assert rows[-6:-1] == [["3", str(20 + before), "4", "1"] for before in range(5, 0, -1)]
    assert rows[0] == ["not counted"] * 4
    svg = ElementTree.fromstring(client.get("/console/dashboard/tiers.svg?days=30").content)
    heights = [float(rect.attrib["height"]) for rect in svg.iter(f"{NAMESPACE}rect") if rect.get("fill") == "#f0c75e"]
    tallest = sorted((height for height in heights if height > 20), reverse=True)[:5]
    assert [round(height / tallest[0] * 25) for height in tallest] == [25, 24, 23, 22, 21]


def test_pages_are_in_the_readers_language(console: ConsoleFixture) -> None:
    client = console.signed_in("wei")
    assert "各等级的在册标识数" in client.get("/console/dashboard").text
    assert "各等级的在册标识数" in client.get("/console/dashboard/tiers.svg").text
    assert "所属控制集团没有其他启用的成员" in client.get("/console/platforms/beta/suspend").text
    answer = post(client, "/console/simulator", {"tiers.watch_total_millipoints": "2600"})
    assert "各等级的门槛必须逐级升高" in answer.text


def test_simulating(console: ConsoleFixture, api: Api) -> None:
    client, before = console.signed_in("supervisor"), actions(api)
    _, policy = simulator.policy_in_force(api.rt.engine, api.rt.now())
    form = {name: "" if value is None else str(value) for name, value in values_of(policy).items()}
    wrong = {**form, "severity.wardrobing": EVIL, "weights.prior_reports": "0"}
    refused = post(client, "/console/simulator", wrong)
    assert refused.status_code == 422
    assert EVIL not in refused.text
    assert refused.text.count('aria-invalid="true"') == 2
    assert actions(api) == before
    same = post(client, "/console/simulator", form)
    assert "No number differs from the policy in force" in said(same)
    changed = post(client, "/console/simulator", {**form, "tiers.watch_total_millipoints": "900"})
    text = said(changed)
    assert "500 → 900" in text
    assert "watch_total_millipoints = 900" in text
    assert "7 days after publication at the earliest" in text
    assert "acme" not in changed.text.partition("<main")[2]
    assert actions(api)[len(before) :] == [
        ("policy_simulated", "no change"),
        ("policy_simulated", "tiers.watch_total_millipoints 500 -> 900"),
    ]
    auditors = console.signed_in("auditor").get("/console/simulator").text
    assert auditors.count("<fieldset") == auditors.count(" disabled>") == 4
    assert ">Simulate</button>" not in auditors


def test_a_draft_is_downloaded_as_a_file_that_can_be_published(console: ConsoleFixture, api: Api) -> None:
    client = console.signed_in("supervisor")
    rt = api.rt
    page = client.get("/console/simulator").text
    assert 'formaction="/console/simulator/policy.toml"' in page
    path = "/console/simulator/policy.toml"
    refused = post(client, path, {"tiers.watch_total_millipoints": "0"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "text/html; charset=utf-8")
    answer = post(client, path, {"tiers.watch_total_millipoints": "900"})
    newest = rt.policies.timeline.newest
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="policy-{newest.version + 1}.toml"'
    done = publish_policy(rt.engine, answer.text, rt.now())
    assert done.policy is not None
    assert done.policy.tiers.watch_total_millipoints == 900
    rt.policies.refresh()
    announced = said(client.get("/console/simulator"))
    assert f"Policy {done.version} is announced" in announced
    again = post(client, path, {"tiers.watch_total_millipoints": "800"})
    assert f"version = {done.version + 1}\n" in again.text, "the next version that can be published"
    assert "政策文件" in console.signed_in("wei").get("/console/simulator").text
