"""Budgets of control groups: shared by all platforms, epochs and generations, and what `holder status` says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from ledger.errors import InvalidRequest, NotFound
from ledger.holder import admission, budgets
from ledger.holder.shares import active_shares
from ledger.holder.status import CANDIDATES, Reach, holder_status
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url
from ledger.protocol.threshold import verify_share
from tests.counts import trials
from tests.holder.kit import START, Caller, Consortium, HolderService, as_scalar, points, share_of


def refusal(service: HolderService, caller: Caller, count: int, **changes: Any) -> tuple[str, int]:
    """Limit and Retry-After of a batch that must be refused."""
    answer = service.evaluate(caller, points(count), **changes)
    assert (answer.status, answer.code) == (429, "quota_exceeded")
    return answer.json["limit"], int(answer.headers["retry-after"])


def status(service: HolderService) -> dict[str, Any]:
    """The status of the holder."""
    shares = active_shares(service.settings.dir)
    return holder_status(service.settings, service.rt.engine, "north", shares, service.clock())


def group(service: HolderService, name: str = "acme-group") -> dict[str, Any]:
    """The part of the status about a control group."""
    (row,) = [row for row in status(service)["control_groups"] if row["control_group"] == name]
    return dict(row)


def test_a_control_group_has_one_budget_for_its_platforms_epochs_and_generations(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    sister, bolt = Caller("acme2", "acme-group"), Caller("bolt", "bolt-group")
    for caller in (sister, bolt):
        caller.admitted(service.rt.engine)
    consortium.refresh()
    consortium.rotate()
    service.rt.follower.follow()
    service.rt.shares.refresh(service.rt.state.current(), service.clock())
    assert service.evaluate(acme, points(40), generation=1).status == 200
    assert service.evaluate(sister, points(30), generation=2).status == 200
    assert service.evaluate(acme, points(20), epoch=2).status == 200
    assert refusal(service, sister, 11) == ("burst", 1)
    assert service.evaluate(bolt, points(100)).status == 200, "another group has its own"
    assert group(service)["used_today"] == 90
    assert group(service)["today"] == 910


def test_a_burst_renews_and_a_day_ends(service: HolderService, acme: Caller) -> None:
    for _ in range(10):
        assert service.evaluate(acme, points(100)).status == 200
        assert refusal(service, acme, 55) == ("burst", 6), "5.5 seconds, rounded up"
        service.clock.turn(seconds=10)
    assert refusal(service, acme, 1) == ("daily", 12 * 3600 - 100)
    service.clock.turn(hours=12)
    assert service.evaluate(acme, points(1)).status == 200
    assert refusal(service, acme, 101)[0] == "burst"


def test_a_clock_that_is_set_back_does_not_lock_a_group_out(service: HolderService, acme: Caller) -> None:
    service.evaluate(acme, points(100))
    service.clock.turn(hours=-5)
    assert refusal(service, acme, 1)[0] == "burst"
    service.clock.turn(seconds=5)
    assert service.evaluate(acme, points(50)).status == 200


def test_grants_cover_what_the_day_does_not_and_end(service: HolderService, acme: Caller) -> None:
    admission.set_daily_budget(service.rt.engine, control_group="acme-group", daily_elements=30)
    service.rt.state.refresh()
    for elements, days in ((50, 2), (40, 1)):
        budgets.grant_elements(
            service.rt.engine,
            control_group="acme-group",
            elements=elements,
            reason="first tagging",
            days=days,
            now=START,
        )
    assert service.evaluate(acme, points(60)).status == 200  # 30 of the day, 30 of the grant that ends first
    assert {row["elements"]: row["used"] for row in group(service)["grants"]} == {50: 0, 40: 30}
    service.clock.turn(days=1)
    assert group(service)["granted"] == 50, "a grant that has ended counts no longer"
    assert service.evaluate(acme, points(80)).status == 200
    service.clock.turn(seconds=10)
    assert refusal(service, acme, 1)[0] == "daily"


def test_what_is_malformed_or_stale_costs_nothing(service: HolderService, acme: Caller) -> None:
    good = points(1)[0]
    bad = [
        (sodium.IDENTITY, "identity_point"),
        (bytes([1]) * 31 + b"\xff", "invalid_point"),
        (good[:31] + bytes([good[31] | 0x80]), "invalid_point"),
        (next(n for n in map(as_scalar, range(2, 99, 2)) if not sodium.is_valid_point(n)), "invalid_point"),
        (good[:31], "invalid_encoding"),
    ]
    for element, code in bad:
        assert service.evaluate(acme, [good, element]).code == code
    assert service.evaluate(acme, []).code == "batch_size_invalid"
    assert service.evaluate(acme, [good], epoch=2).code == "stale_epoch"
    assert service.evaluate(acme, [good], generation=2).code == "stale_generation"
    malformed: list[Any] = [
        {"epoch": "1", "blinded": []}, {"epoch": 1}, {"epoch": True, "blinded": []}, {"epoch": 1, "blinded": "x"},
        {"epoch": 1, "blinded": [b64url(good)], "more": 1}, {"epoch": 1, "generation": 0, "blinded": []},
        {"epoch": 1, "generation": "1", "blinded": []}, [], 5,
    ]  # fmt: skip
    for members in malformed:
        body = json.dumps(members).encode()
        answer = service.post("/v1/oprf/evaluate", acme.token("north", body, service.clock()), body)
        assert (answer.status, answer.code) == (422, "invalid_request")
    assert group(service)["used_today"] == 0


def test_a_group_that_was_refused_is_checked_and_counted_before_it_costs_work(
    service: HolderService, acme: Caller
) -> None:
    good, refused = points(2), service.rt.evaluator.refused
    assert share_of(service.evaluate(acme, good)).index == 1
    assert not refused
    assert refusal(service, acme, 101)[0] == "burst"
    assert refused == {"acme-group": service.clock()}
    service.clock.turn(seconds=20)
    assert service.evaluate(acme, [good[0], sodium.IDENTITY]).code == "identity_point"
    assert group(service)["used_today"] == 2
    share = share_of(service.evaluate(acme, good))
    assert verify_share(service.rt.shares.shares[0].statement.keys, good, share).evaluated == share.evaluated
    assert group(service)["used_today"] == 4


def test_the_status_says_what_a_group_reaches_and_it_reaches_that(service: HolderService, acme: Caller) -> None:
    admission.set_daily_budget(service.rt.engine, control_group="acme-group", daily_elements=150)
    budgets.grant_elements(
        service.rt.engine, control_group="acme-group", elements=70, reason="first tagging", days=40, now=START
    )
    service.rt.state.refresh()
    service.evaluate(acme, points(25))
    said = group(service)
    assert (said["today"], said["granted"], said["daily"]) == (125, 70, 150)
    assert said["within_30_days"] == 125 + 70 + 30 * 150
    reached, days = 0, trials(2, 30)
    for _ in range(days + 1):
        for count in (100, 50, 20, 5):
            while service.evaluate(acme, points(count)).status == 200:
                reached += count
                service.clock.turn(seconds=10)
            service.clock.turn(seconds=10)
        service.clock.moment = service.clock.moment.replace(hour=0, minute=0, second=0)
        service.clock.turn(days=1)
    assert reached == said["within_30_days"] - (30 - days) * 150


def test_the_days_for_a_billion_candidates() -> None:
    assert Reach(0, 0, 0).days_for(CANDIDATES) is None
    assert Reach(0, 10**9, 0).days_for(CANDIDATES) == Reach(10**9 - 1, 1, 0).days_for(CANDIDATES) == 1
    assert Reach(100_000, 0, 100_000).days_for(CANDIDATES) == 10_000
    assert Reach(0, 0, 100_000).days_for(CANDIDATES) == 10_001
    assert Reach(1, 0, 100_000).days_for(CANDIDATES) == 10_001
    assert Reach(0, 0, 100_000).days_for(CANDIDATES, Fraction(3, 2)) == 1 + 6_667
    assert Reach(10, 20, 5).within(30) == 180


def test_the_status_adds_groups_up_and_counts_active_ones_only(service: HolderService, acme: Caller) -> None:
    for name, number in (("bolt", 200), ("coda", 300)):
        Caller(name, f"{name}-group").admitted(service.rt.engine, daily_elements=number)
    admission.set_suspension(service.rt.engine, platform="coda", suspended=True, now=START)
    service.evaluate(acme, points(10))
    value = status(service)
    assert [(row["control_group"], row["today"], row["active"]) for row in value["control_groups"]] == [
        ("acme-group", 990, True), ("bolt-group", 200, True), ("coda-group", 0, False),
    ]  # fmt: skip
    assert value["all_groups"]["today"] == 1190
    assert value["all_groups"]["within_30_days"] == 1190 + 30 * 1200
    assert value["at_all_holders"]["within_30_days"] == (1190 + 30 * 1200) * 3 // 2
    assert value["at_all_holders"]["days_for_1e9"] < value["all_groups"]["days_for_1e9"]
    admission.revoke_key(service.rt.engine, platform="bolt", kid="k1", now=START)
    assert group(service, "bolt-group")["today"] == 0, "no key can sign"


def test_a_suspension_by_the_log_does_not_lower_what_a_group_reaches(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    consortium.log.status("acme", suspended=True)
    service.rt.follower.follow()
    assert group(service)["today"] == 1000, "the operator can end it"
    (platform,) = status(service)["platforms"]
    assert (platform["suspended"], platform["suspended_by_log"]) == (True, True)
    admission.set_suspension(service.rt.engine, platform="acme", suspended=True, now=START)
    assert group(service)["today"] == 0


def test_grants_and_budgets_follow_rules(service: HolderService, acme: Caller) -> None:
    good: dict[str, Any] = {"control_group": "acme-group", "elements": 1, "reason": "x", "days": 1, "now": START}
    for change in ({"elements": 0}, {"elements": 10**9 + 1}, {"days": 0}, {"days": 367}, {"reason": ""}):
        with pytest.raises(InvalidRequest):
            budgets.grant_elements(service.rt.engine, **{**good, **change})
    with pytest.raises(NotFound):
        budgets.grant_elements(service.rt.engine, **{**good, "control_group": "no-group"})
    with pytest.raises(NotFound):
        admission.set_daily_budget(service.rt.engine, control_group="no-group", daily_elements=1)
    admission.set_daily_budget(service.rt.engine, control_group="acme-group", daily_elements=0)
    service.rt.state.refresh()
    assert refusal(service, acme, 1)[0] == "daily"
    admission.set_daily_budget(service.rt.engine, control_group="acme-group", daily_elements=None)
    service.rt.state.refresh()
    assert service.evaluate(acme, points(1)).status == 200
    assert replace(Reach(1, 2, 3), today=2) + Reach(1, 1, 1) == Reach(3, 3, 4)
