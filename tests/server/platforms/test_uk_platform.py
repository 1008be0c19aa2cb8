"""A platform under the law of the United Kingdom, in a ledger whose policy was written before the ledger knew it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from ledger.errors import ConsentMissing, InvalidRequest
from ledger.i18n import texts
from ledger.rules.deadlines import due_at
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.shipped import policy_text
from ledger.server.appeals import consumer
from ledger.server.appeals.consumer import own_letter
from ledger.server.platforms.members import list_platforms
from ledger.server.stats.dashboard import dashboard
from tests.server.appeals.test_appeals import public, session_of
from tests.server.conftest import LedgerFixture
from tests.support import Platform


@pytest.fixture
def crown(ledger: LedgerFixture) -> Platform:
    """The platform, enrolled beside the ledger's."""
    platform = Platform("crown", "crown-group", "crown-1", profile="UK").join(ledger.rt.engine)
    ledger.rt.members.refresh()
    return platform


def test_its_reports_need_no_consent_and_its_cases_run_on_the_uk_clock(ledger: LedgerFixture, crown: Platform) -> None:
    assert "clocks.UK" not in policy_text(1)
    person = ledger.person()
    with pytest.raises(ConsentMissing, match="CN"):
        ledger.report(ledger.acme, person, consent_ref=None)
    report = ledger.report(crown, person, consent_ref=None)
    session = replace(session_of(ledger, person, "crown"), profile="UK")
    (row,) = consumer.open_cases(ledger.rt.context, session, [report["id"]], "wrong_facts", "It came broken.", "en")
    clock, london = Profile.UK.spec.clock, ZoneInfo("Europe/London")
    assert (row.profile, row.due_at) == ("UK", due_at(row.opened_at, Profile.UK, clock, london))
    assert timedelta(27) <= row.due_at - row.opened_at <= timedelta(31)
    for locale, named in (("en", "section 164A"), ("zh-CN", "第 164A 条")):
        text = own_letter(ledger.rt.context, session, public(ledger, row), "received", locale).to_text()
        assert named in text
        assert "1681" not in text
        assert texts(locale).last_day(row.due_at, london) in text
    times = dashboard(ledger.rt.engine, ledger.rt.policy, ledger.clock(), 30).times
    assert [period.limit_days for period in times if period.profile is Profile.UK] == [(27, 31)]


@pytest.mark.one_engine
def test_the_platforms_own_list_names_its_law(ledger: LedgerFixture, crown: Platform) -> None:
    assert {member.platform: member.profile for member, _ in list_platforms(ledger.rt.engine)}["crown"] == "UK"
    with pytest.raises(InvalidRequest, match="one of CN, EU, UK, US"):
        Platform("other", "other-group", "other-1", profile="JP").join(ledger.rt.engine)
