"""`check`: both policies say the same, and what is asked for does not depend on who is listed."""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import pytest

from ledger.client import Buyer, Check, Refund
from ledger.client.lookups.local_standing import POLICIES
from ledger.errors import ConfigurationError, InvalidRequest, SnapshotUnknown, StaleEpoch
from ledger.protocol.tags import prefix
from ledger.snapshots import sealed
from tests.client.small_ledger import SmallLedger

LISTED = {"phone": "+86 138 0013 8000", "payment": "alipay/2088123412341234"}
STRANGER = {"phone": "+86 138 0013 8001", "payment": "alipay/2088123412341235"}


def list_somebody(ledger: SmallLedger, several_groups: bool = False) -> None:
    events = [ledger.event(1, 1), ledger.event(2, 2 if several_groups else 1)]
    ledger.publish({("phone", LISTED["phone"]): events, ("payment", LISTED["payment"]): events})


def facts(check: Check) -> tuple[object, ...]:
    return (
        check.tier, check.credit, check.points, check.events, check.reporters, check.disputed, check.protected,
        check.reasons, check.guidance, check.matched_kinds, check.bounded, check.as_of_index, check.expires_at,
    )  # fmt: skip


def test_both_policies_say_the_same(ledger: SmallLedger) -> None:
    list_somebody(ledger, several_groups=True)
    refund = Refund(100, "CNY", "damaged")
    with ledger.connect() as acme:
        for who in (LISTED, STRANGER, {"payment": LISTED["payment"]}):
            buyer = acme.tag(**who)
            private = acme.check(buyer, policy="private", refund=refund)
            download = acme.check(buyer, policy="download", refund=refund)
            assert facts(private) == facts(download)
            assert (private.source, download.source) == ("private", "download")
            assert private.version == download.version
            assert facts(acme.check(who, policy="private", refund=refund)) == facts(private), "raw identifiers"
        clear = acme.check(STRANGER, refund=refund)
        assert (clear.tier, clear.credit, clear.guidance, clear.bounded) == ("clear", 100, ("approve",), False)
        assert clear.expires_at == ledger.now + timedelta(minutes=15)
        known = acme.check(LISTED, refund=refund)
        assert known.tier != "clear"
        assert known.bounded, "two identifiers are listed"
        assert all(reason.en and reason.zh_cn for reason in known.reasons)
        assert not acme.check({"payment": LISTED["payment"]}).bounded


def test_a_ledger_under_the_first_policy_is_read_as_before(ledger: SmallLedger) -> None:
    """Its entries are of format 1, and its weights are twentieths."""
    ledger.policy_version = 1
    ledger.publish({("payment", LISTED["payment"]): [ledger.event(weight=38)]})
    with ledger.connect() as acme:
        check = acme.check({"payment": LISTED["payment"]})
        assert (check.policy, check.tier, check.events) == ("1", "watch", 1)
        assert check.points == 2.49


def test_a_conduct_of_a_later_ledger_gives_a_standing(ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot with a conduct byte that this version does not name: it folds by its severity."""
    monkeypatch.setitem(sealed.CONDUCT_BYTES, "sold_accounts", 200)
    monkeypatch.setitem(sealed._CONDUCTS, 200, "sold_accounts")
    event = ledger.event(conduct="sold_accounts", severity=6)
    ledger.publish({("payment", LISTED["payment"]): [event]})
    monkeypatch.undo()
    with ledger.connect() as acme:
        for policy in POLICIES:
            check = acme.check({"payment": LISTED["payment"]}, policy=policy)
            assert (check.tier, check.points, check.events, check.bounded) == ("watch", 2.49, 1, False)
            assert [reason.code for reason in check.reasons] == ["one_reporter_only", "other_confirmed_conduct"]


def test_without_the_extra_only_what_needs_the_filter_is_refused(
    ledger: SmallLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    with ledger.connect() as acme:
        assert acme.check(buyer).tier != "clear"
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "ledger.snapshots.fuse_filter")
    with ledger.connect() as acme:
        assert acme.check(buyer, policy="private").tier != "clear"
        ledger.asked()
        for refused in (lambda: acme.check(buyer), acme.refresh_snapshot, lambda: acme.check_tags(bytes(32), 1)):
            with pytest.raises(ConfigurationError, match=r"refund-credit-ledger\[filter\]") as raised:
                refused()
            assert raised.value.details["extra"] == "filter"
        assert [path for path in ledger.asked() if path.endswith("filter")] == [], "refused before the download"
        ledger.broken = True
        in_an_outage = acme.lookup(ledger.buyer(STRANGER), order="A-1")
        assert (in_an_outage.tier, in_an_outage.source) == ("unavailable", "direct"), (
            "the filter on the disk is not used"
        )


def test_private_asks_the_same_whoever_is_listed(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    people = [LISTED, STRANGER]
    buyers = [ledger.buyer(who) for who in people]
    for number, buyer in enumerate(buyers):
        with ledger.connect(f"state-{number}") as acme:
            acme.check(buyer, policy="private")
            asked = ledger.asked()
            numbers = dict.fromkeys([prefix(subject.tag, 3) for subject in buyer.subjects])
            buckets = [ledger.path(ledger.published[0], f"buckets/{number:08x}") for number in numbers]
            assert [path for path in asked if path.startswith("/v1/")] == ["/v1/snapshots/latest", *buckets]
            acme.check(buyer, policy="private")
            assert ledger.asked() == [], "what was fetched is kept"
        with ledger.connect(f"state-{number}") as again:
            again.check(buyer, policy="private")
            assert ledger.asked() == [], "for later processes too"


def test_download_asks_nothing_about_anybody(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    with ledger.connect() as acme:
        acme.check(ledger.buyer(STRANGER))
        first = [path for path in ledger.asked() if path.startswith("/v1/")]
        snapshot = ledger.published[0]
        assert first == ["/v1/snapshots/latest", ledger.path(snapshot, "filter"), ledger.path(snapshot, "buckets.bin")]
        for who in (LISTED, STRANGER):
            acme.check(ledger.buyer(who))
        assert ledger.asked() == []


def test_buyers_made_from_tags(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    listed, stranger = (Buyer.from_tags(1, ledger.buyer(who).tags()) for who in (LISTED, STRANGER))
    with ledger.connect() as acme:
        with pytest.raises(InvalidRequest, match="identifiers"):
            acme.check(stranger, policy="private")
        assert ledger.asked() == [], "refused before anything was asked"
        with pytest.raises(InvalidRequest, match="identifiers"):
            acme.check(listed)
        flags = acme.check_tags(np.frombuffer(listed.subjects[0].tag, np.uint8).reshape(1, 32), epoch=1)
        assert flags.tolist() == [True]
        tags = b"".join(subject.tag for subject in (*listed.subjects, *stranger.subjects))
        may_be = acme.check_tags(tags, epoch=1)
        assert may_be[:2].all()
        with pytest.raises(StaleEpoch):
            acme.check_tags(tags, epoch=0)
        if not may_be[2:].any():  # else the filter takes this stranger for a listed one
            assert acme.check(stranger).tier == "clear"


def test_wrong_arguments_and_no_snapshot(ledger: SmallLedger) -> None:
    with ledger.connect() as acme:
        with pytest.raises(SnapshotUnknown):
            acme.check(ledger.buyer(STRANGER))
        with pytest.raises(InvalidRequest):
            acme.check(ledger.buyer(STRANGER), policy="direct")  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest):
            acme.check(ledger.buyer(STRANGER), refund=Refund(1, "CNY", "boredom"))  # type: ignore[arg-type]


def test_a_version_that_the_server_has_dropped_is_replaced_once(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    some = [ledger.buyer({"device": f"device-{number:016}"}) for number in range(60)]
    first, second, third = list({prefix(buyer.subjects[0].tag, 3): buyer for buyer in some}.values())[:3]
    with ledger.connect() as acme:
        acme.check(first, policy="private")
        list_somebody(ledger)
        del ledger.published[0]
        assert acme.check(second, policy="private").as_of_index == ledger.published[0].manifest.cut
        ledger.published.clear()
        with pytest.raises(SnapshotUnknown):
            acme.check(third, policy="private")
