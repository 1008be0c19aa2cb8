"""Jurisdictions: each row is whole, the page shows the rows, and an unknown profile gets no other law."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from ledger.client.identity.suite import parse_suite
from ledger.i18n import LOCALES, texts
from ledger.referral.audience import Audience
from ledger.rules.appeals import Outcome
from ledger.rules.deadlines import due_at
from ledger.rules.jurisdictions import Profile, Purpose, RouteAfter, find_jurisdiction
from ledger.server.texts.legal_routes import routes
from tests.client.test_suite import suite_json
from tests.referral.samples import referred, source
from tests.rules.worked_examples import DOCS, table_rows

PAGE = (DOCS / "jurisdictions.md").read_text("utf-8")


@pytest.mark.parametrize("profile", Profile)
def test_a_row_is_whole(profile: Profile) -> None:
    law = profile.spec
    assert law.code == profile.value
    assert bool(law.clock.days) != bool(law.clock.months)
    assert law.clock.days <= law.limits.days
    assert law.clock.months <= law.limits.months
    assert law.clock.extension_days <= law.limits.extension_days
    assert ZoneInfo(law.clock.time_zone).key == law.clock.time_zone
    always = {Purpose.SEE, Purpose.WHO_LOOKED, Purpose.CONTEST, Purpose.STATEMENT, Purpose.COMPLAIN}
    assert always | {Purpose.EXPLAIN_REFUSAL} <= law.statutes.keys()
    assert law.sources
    assert all(date(1970, 1, 1) < item.in_force <= date(2026, 11, 29) for item in law.sources)
    # Before a decision every law names an authority and a court, and the last route ends the sentence.
    assert len([route for route in law.routes if route.after is RouteAfter.FILING]) >= 2
    assert law.routes[-1].text.endswith(".")
    assert all(route.text.endswith(";") for route in law.routes[:-1])


@pytest.mark.parametrize("locale", LOCALES)
def test_every_text_of_a_row_is_in_every_language(locale: str) -> None:
    t = texts(locale)
    for profile in Profile:
        law = profile.spec
        cited = [*law.statutes.values(), *(route.text for route in law.routes)]
        for text in (law.clock_text, law.limit_text, law.handover, *cited):
            if text is not None and locale != "en" and not text.startswith("15 U.S.C."):
                assert t.gettext(text) != text


def test_routes_follow_the_decision() -> None:
    t = texts("en")
    for profile in Profile:
        filed = routes(t, profile, None)
        assert filed == [route.text for route in profile.spec.routes if route.after is RouteAfter.FILING]
        for outcome in Outcome:
            kept = [
                route.text
                for route in profile.spec.routes
                if route.after is not RouteAfter.RECORD_KEPT or outcome not in (Outcome.OVERTURNED, Outcome.VICTIM)
            ]
            assert routes(t, profile, outcome) == kept


def test_an_unknown_profile_is_no_other_law() -> None:
    assert find_jurisdiction("JP") is None
    assert find_jurisdiction("cn") is None
    with pytest.raises(ValueError, match="JP"):
        Profile("JP")


def test_a_client_of_this_version_serves_a_platform_of_a_later_profile() -> None:
    assert parse_suite({**suite_json(), "profile": "JP"}).profile == "JP"
    file = referred(Audience.AUTHORITY, source(), profile="JP")
    assert (file.profile, file.laws) == ("JP", ())


def test_the_uk_month_begins_with_the_day_of_receipt() -> None:
    law = Profile.UK.spec
    zone = ZoneInfo(law.clock.time_zone)
    for opened, last in (("2026-09-03", "2026-10-02"), ("2026-10-31", "2026-11-30"), ("2028-01-30", "2028-02-29")):
        noon = datetime.fromisoformat(f"{opened}T12:00:00").replace(tzinfo=zone)
        due = due_at(noon, Profile.UK, law.clock, zone).astimezone(zone)
        assert (due.date() - date.fromisoformat(last)).days == 1
        assert due.hour == 0


def test_the_page_shows_the_rows() -> None:
    rows = table_rows(PAGE, "What each law says")
    columns = [row[0] for row in table_rows(PAGE, "Clocks and consent")]
    assert columns == list(Profile)
    for row, profile in zip(table_rows(PAGE, "Clocks and consent"), Profile, strict=True):
        law = profile.spec
        time = "one month" if law.clock.months else f"{law.clock.days} days"
        extension = f"{law.limits.extension_days} days" if law.limits.extension_days else "none"
        assert row[1:] == [
            time,
            extension,
            "counts" if law.receipt_day_counts else "does not count",
            law.clock.time_zone,
            "yes" if law.consent_for_reports else "no",
            "yes" if law.consent_for_lookups else "no",
        ]
    assert [row[0] for row in table_rows(PAGE, "Purposes")] == list(Purpose)
    assert [row[0] for row in rows] == list(Purpose)
    for row, purpose in zip(rows, Purpose, strict=True):
        assert row[1:] == [profile.spec.statutes.get(purpose, "") for profile in Profile]
    assert table_rows(PAGE, "Sources") == [
        [profile.value, item.title, item.published, item.in_force.isoformat()]
        for profile in Profile
        for item in profile.spec.sources
    ]


def test_the_consumers_page_cites_the_rows() -> None:
    table = table_rows((DOCS / "consumers.md").read_text("utf-8"), "Where this comes from")
    cited = {purpose: [profile.spec.statutes.get(purpose, "") for profile in Profile] for purpose in Purpose}
    assert all(row[1:] in cited.values() for row in table)
    assert (
        len(table) == len({tuple(row[1:]) for row in table}) == len(Purpose) - 1
    )  # all but what makes reporting lawful
    assert "Order 116" in (DOCS / "consumers.md").read_text("utf-8")
