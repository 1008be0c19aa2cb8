"""The policy that the SDK checks a report by: the one in effect, where it is known, and else none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger.client.identity.suite import NamedPolicy, Service, parse_service
from ledger.client.policies import REFRESH, RETRY, Policies
from ledger.errors import AlreadyExpired, Unavailable, UnexpectedAnswer
from ledger.protocol.encoding import b64url
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.policy.values import parse_policy
from tests.client.small_ledger import Answer, SmallLedger
from tests.kit import report_arguments
from tests.policies import changed_policy

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MOMENT = datetime(2026, 5, 5, tzinfo=UTC)
TEXT, SHIPPED = shipped_policy()
CHANGED = changed_policy(SHIPPED.version + 1, retention_days__3=5, intake__clock_skew_minutes=1)


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


NAMED = NamedPolicy(str(SHIPPED.version + 1), digest(CHANGED), MOMENT)


@pytest.fixture
def service(ledger: SmallLedger) -> Service:
    """Names the shipped policy, and announces another one."""
    served = parse_service(ledger.suite_json())
    return replace(served, policy_sha256=digest(TEXT), next_policies=(NAMED,))


def never(version: str) -> str:
    raise AssertionError(f"policy {version} was fetched")


def test_the_policy_changes_at_its_moment_without_another_question(service: Service) -> None:
    policies, asked = Policies(service), list[str]()

    def fetch(version: str) -> str:
        asked.append(version)
        return CHANGED

    policies.take(service, NOW)
    assert policies.at(NOW, never) == SHIPPED
    assert policies.at(MOMENT - timedelta(microseconds=1), never) == SHIPPED
    assert asked == []
    for _ in range(3):
        assert policies.at(MOMENT, fetch) == parse_policy(CHANGED)
    assert asked == [NAMED.version], "a text that did not come with the package is fetched once"


def test_it_is_unknown_seven_days_after_the_last_answer(service: Service) -> None:
    policies = Policies(service)
    policies.take(service, NOW)
    assert policies.at(NOW + timedelta(days=7) - timedelta(seconds=1), lambda _: CHANGED) is not None
    assert policies.at(NOW + timedelta(days=7), never) is None
    assert policies.at(NOW - timedelta(seconds=1), never) is None, "the clock was set back"


@pytest.mark.parametrize("text", ["not TOML ][", "another text", CHANGED + "#"])
def test_a_text_that_cannot_be_read_or_is_another_leaves_it_unknown(service: Service, text: str) -> None:
    announced = NAMED if text != "not TOML ][" else replace(NAMED, sha256=digest(text))
    policies = Policies(service)
    policies.take(replace(service, next_policies=(announced,)), NOW)
    assert policies.at(MOMENT, lambda _: text) is None
    assert policies.at(MOMENT - timedelta(seconds=1), never) == SHIPPED


def test_a_text_that_cannot_be_fetched_is_asked_for_once_an_hour(service: Service) -> None:
    policies, asked = Policies(service), list[str]()

    def away(version: str) -> str:
        asked.append(version)
        raise Unavailable("Down.")

    policies.take(service, NOW)
    for seconds in (0, 1, RETRY.total_seconds() - 1):
        assert policies.at(MOMENT + timedelta(seconds=seconds), away) is None
    assert len(asked) == 1
    assert policies.at(MOMENT + RETRY, lambda _: CHANGED) == parse_policy(CHANGED)


def test_the_service_is_asked_again_once_a_day(service: Service) -> None:
    policies = Policies(service)
    assert not policies.is_due(NOW), "the suite file serves until the service was asked"
    policies.take(service, NOW)
    assert not policies.is_due(NOW + REFRESH - timedelta(seconds=1))
    assert policies.is_due(NOW + REFRESH)
    assert not policies.is_due(NOW + REFRESH + RETRY - timedelta(seconds=1))
    assert policies.is_due(NOW + REFRESH + RETRY)


def test_a_service_of_an_earlier_version_names_a_version_only(ledger: SmallLedger) -> None:
    served = parse_service(ledger.suite_json())
    assert served.policy_sha256 is None
    assert Policies(served).at(NOW, never) == SHIPPED
    assert Policies(replace(served, policy="99")).at(NOW, never) is None


@pytest.mark.parametrize(
    ("member", "value"),
    [("policy_sha256", "short"), ("policy_sha256", 7), ("next_policies", {}), ("next_policies", [{"version": 2}])],
)
def test_what_is_malformed_is_no_suite(ledger: SmallLedger, member: str, value: object) -> None:
    if value == {}:
        value = {"version": 2}
    with pytest.raises(UnexpectedAnswer):
        parse_service({**ledger.suite_json(), member: value})


def test_reports_are_checked_by_the_policy_in_effect(ledger: SmallLedger) -> None:
    """Here by one whose text did not come with the package, under which the act is past retention."""
    suite = {**ledger.suite_json(), "policy": int(NAMED.version), "policy_sha256": b64url(digest(CHANGED))}
    ledger.replace["/v1/suite"] = _json(suite)
    ledger.replace[f"/v1/policies/{NAMED.version}"] = _json({"version": int(NAMED.version), "toml": CHANGED})
    with ledger.connect() as acme:
        buyer = acme.tag(phone="+86 138 0013 8000")
        with pytest.raises(AlreadyExpired):
            acme.reports.create(buyer, **report_arguments())


def _json(value: object) -> Callable[[Answer], Answer]:
    import json

    return lambda _: (200, {}, json.dumps(value).encode())
