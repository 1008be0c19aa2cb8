"""The SDK refuses a lookup or check without consent by itself, wherever it knows that the policy asks for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from ledger.client import Query, RefundLedger
from ledger.client.lookups.local_standing import POLICIES
from ledger.errors import ConsentMissing
from ledger.protocol.encoding import b64url, format_time
from ledger.rules.policy.shipped import policy_text
from tests.client.small_ledger import SmallLedger
from tests.support import CONSENT

WHO = {"phone": "+86 138 0013 8000"}
LISTED = ("phone", WHO["phone"])


def connect(ledger: SmallLedger, state: str = "state", **changes: Any) -> RefundLedger:
    """An SDK of a platform under the CN profile. `changes` are in its suite file and in what the service answers."""
    served = json.dumps({**ledger.suite_json(), **changes}).encode()
    ledger.forge("/v1/suite", lambda _: served)
    return ledger.connect(state, ledger.suite_file(profile="CN", **changes))


def ways(acme: RefundLedger, buyer: Any, consent_ref: str | None) -> dict[str, Callable[[], object]]:
    """Every way to ask about one person."""

    def many() -> object:
        (outcome,) = acme.lookup_many([Query(buyer, "A-1", consent_ref=consent_ref)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return {
        "lookup": lambda: acme.lookup(buyer, order="A-1", consent_ref=consent_ref),
        "lookup_many": many,
        **{
            policy: lambda policy=policy: acme.check(buyer, policy=policy, consent_ref=consent_ref)  # type: ignore[misc]
            for policy in POLICIES
        },
    }


@pytest.mark.parametrize("missing", [None, " ", "\u3164"])
def test_nothing_is_sent_without_consent(ledger: SmallLedger, missing: str | None) -> None:
    ledger.publish({LISTED: [ledger.event()]})
    with connect(ledger) as acme:
        for call in ways(acme, ledger.buyer(WHO), missing).values():
            with pytest.raises(ConsentMissing, match=r"CN profile a (lookup|check) needs consent_ref") as refused:
                call()
            assert refused.value.details["field"] == "consent_ref"
        assert ledger.asked() == []
        for call in ways(acme, ledger.buyer(WHO), "同意 2026").values():
            call()


def test_an_outage_does_not_hide_it(ledger: SmallLedger) -> None:
    """Neither as `unavailable` nor as `clear` from the local filter."""
    ledger.publish()
    with connect(ledger) as acme:
        acme.check(ledger.buyer(WHO), consent_ref=CONSENT)
        ledger.broken = True
        assert acme.lookup(ledger.buyer(WHO), order="A-1", consent_ref=CONSENT).source == "local_filter"
        for call in ways(acme, ledger.buyer(WHO), None).values():
            with pytest.raises(ConsentMissing):
                call()


def test_a_snapshot_tells_where_the_suite_names_a_policy_that_is_not_known(ledger: SmallLedger) -> None:
    ledger.publish({LISTED: [ledger.event()]})
    buyer, unknown = ledger.buyer(WHO), {"policy": 99}
    for policy in POLICIES:
        with connect(ledger, policy, **unknown) as acme:
            ledger.asked()
            with pytest.raises(ConsentMissing):
                acme.check(buyer, policy=policy)
            assert not [path for path in ledger.asked() if "/buckets/" in path or "evaluate" in path]
            with pytest.raises(ConsentMissing):
                acme.lookup(buyer, order="A-1")
            assert ledger.asked() == []
    with connect(ledger, "another", **unknown) as acme:
        assert acme.lookup(buyer, order="A-1").tier == "clear", "the ledger itself refuses it"
    with connect(ledger, "download", **unknown) as acme:
        ledger.broken = True
        with pytest.raises(ConsentMissing):  # the filter that another process has fetched
            acme.lookup({"device": "device-0123456789abcdef"}, order="A-1")


def test_no_consent_is_needed_under_the_first_policy(ledger: SmallLedger) -> None:
    ledger.policy_version = 1
    ledger.publish({LISTED: [ledger.event()]})
    with connect(ledger, policy_sha256=b64url(sha256(policy_text(1).encode()).digest())) as acme:
        for call in ways(acme, ledger.buyer(WHO), None).values():
            call()


def test_it_is_needed_from_the_announced_moment_on(ledger: SmallLedger) -> None:
    first, second = [b64url(sha256(policy_text(version).encode()).digest()) for version in (1, 2)]
    moment = ledger.now + timedelta(days=3)
    following = {"version": 2, "sha256": second, "in_effect_at": format_time(moment)}
    with connect(ledger, policy=1, policy_sha256=first, next_policies=[following]) as acme:
        buyer = ledger.buyer(WHO)
        ledger.now = moment - timedelta(seconds=1)
        assert acme.lookup(buyer, order="A-1").available
        ledger.now = moment
        ledger.asked()
        for call in ways(acme, buyer, None).values():
            with pytest.raises(ConsentMissing):
                call()
        assert ledger.asked() == []
