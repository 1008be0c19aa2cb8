"""Checks and key rotations against a real server: what `check` folds equals what `lookup` answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from ledger.client import Buyer, Check, Lookup, Refund, RefundLedger, evidence
from ledger.client.lookups.local_standing import POLICIES
from ledger.errors import LedgerError, StaleEpoch
from ledger.rules.standing import Tier
from ledger.server.keys.files import load_log_key
from ledger.server.rotation.run import announce, rotate
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from tests.kit import Connect, Running, make_running, person, report_arguments
from tests.support import CONSENT

REFUND = Refund(12_900, "CNY", "damaged")
ORDER = list(Tier)


@contextmanager
def operating(settings: Settings) -> Iterator[Engine]:
    """An engine as the operator's commands have it."""
    engine = builder_engine(settings)
    try:
        yield engine
    finally:
        engine.dispose()


def publish(settings: Settings, ledger: RefundLedger, buyer: Buyer) -> None:
    """Publish a snapshot of the buyer's epoch and wait until `ledger` answers from it."""
    with operating(settings) as engine:
        key = load_log_key(settings)
        # The server's own snapshotter may be building at this moment.
        version = _soon(
            lambda: build_and_publish(settings, engine, key, datetime.now(UTC), random_bytes=secrets.token_bytes)
        )

    def fetched() -> None:
        ledger.refresh_snapshot()
        assert ledger.check(buyer, consent_ref=CONSENT).as_of_index >= version.manifest.cut

    _soon(fetched)


def facts(standing: Check | Lookup) -> dict[str, Any]:
    """What both must say alike."""
    names = (
        "tier", "credit", "points", "events", "reporters", "disputed", "protected", "has_statement", "reasons",
        "guidance", "matched_kinds", "policy",
    )  # fmt: skip
    return {name: getattr(standing, name) for name in names}


def looked_up(ledger: RefundLedger, buyer: Buyer, seen: int = 0) -> Lookup:
    """A direct answer, asked again while the machine is too slow for it."""
    for _ in range(50):
        lookup = ledger.lookup(buyer, order="A-1", consent_ref=CONSENT, refund=REFUND, min_index=seen)
        if lookup.source == "direct" and lookup.available:
            return lookup
    raise AssertionError("no answer in time")


def report(ledger: RefundLedger, who: dict[str, str], **changes: Any) -> int:
    sent = ledger.reports.create(ledger.tag(**who), **report_arguments(**changes)).report
    assert sent is not None
    return sent.entry_index


def test_checks_say_what_lookups_say(running: Running, connect: Connect) -> None:
    acme, corner, bazaar = (connect(name) for name in ("acme", "corner", "bazaar"))
    asker = connect("asker", lookup_budget_seconds=5)
    once, often, nobody, paid = (person() for _ in range(4))
    report(acme, once)
    for ledger in (acme, corner, bazaar):
        seen = report(ledger, often)
    acme.reports.restitute(str(acme.reports.list(limit=1).reports[0].id), datetime.now(UTC), 12_900, "CNY")
    seen = report(bazaar, paid, conduct="impersonated", evidence=[evidence("admission", sha256=bytes(32))])
    publish(running.settings, asker, asker.tag(**nobody))
    for who in (once, often, nobody, paid):
        for kind, value in who.items():
            buyer = asker.tag(**{kind: value})
            direct = looked_up(asker, buyer, seen + 1)
            for policy in POLICIES:
                check = asker.check(buyer, policy=policy, refund=REFUND, consent_ref=CONSENT)
                assert facts(check) == facts(direct)
                assert not check.bounded
        whole = asker.tag(**who)
        direct = looked_up(asker, whole, seen + 1)
        check = asker.check(whole, refund=REFUND, consent_ref=CONSENT)
        assert facts(check) == facts(asker.check(whole, policy="private", refund=REFUND, consent_ref=CONSENT))
        assert ORDER.index(Tier(check.tier)) <= ORDER.index(Tier(direct.tier))
        assert check.bounded or facts(check) == facts(direct)
        tags = b"".join(subject.tag for subject in whole.subjects)
        if direct.events or direct.protected:
            assert asker.check_tags(tags, whole.epoch).all()


def test_the_sdk_lives_through_a_rotation(tmp_path: Path) -> None:
    for running in make_running(tmp_path):
        suite = running.suite("acme")
        with RefundLedger(suite, running.key("acme"), state_dir=tmp_path / "state", lookup_budget_seconds=5) as acme:
            _rotate_under(acme, running.settings)
        with RefundLedger(suite, running.key("acme"), state_dir=tmp_path / "fresh") as acme:
            assert acme.current_epoch() == 2, "an old suite file, no state: the log proves it"


def _rotate_under(acme: RefundLedger, settings: Settings) -> None:
    who = person()
    old = acme.tag(**who)
    seen = report(acme, who) + 1
    before = looked_up(acme, old, seen)
    assert before.events == 1
    publish(settings, acme, old)
    with operating(settings) as engine:
        announce(settings, engine, datetime.now(UTC))
        ahead = _soon(lambda: acme.tag_many([who], epoch="next")[0])
        rotate(settings, engine, lambda: datetime.now(UTC))
    assert (ahead.epoch, acme.check(old, consent_ref=CONSENT).events) == (2, 1)
    _soon(lambda: _moved(acme))
    for buyer in (old, ahead):
        assert facts(_soon(lambda buyer=buyer: looked_up(acme, buyer, seen))) == facts(before)
    waited = acme.reports.create(acme.tag(**person()), **report_arguments()).report
    assert waited is not None
    late = acme.reports.create(old, **report_arguments()).report
    assert late is not None
    for buyer in (old, ahead):
        assert looked_up(acme, buyer, late.entry_index + 1).events == 2
    assert acme.reports.receipt(late).receipt.entry["body"]["epoch"] == 1
    publish(settings, acme, ahead)
    assert acme.check(ahead, consent_ref=CONSENT).events == 2
    with pytest.raises(StaleEpoch):
        acme.check(old, consent_ref=CONSENT)


def _moved(acme: RefundLedger) -> None:
    """A new person is blinded under the new epoch, once the server evaluates under no other."""
    assert (acme.tag(**person()).epoch, acme.current_epoch()) == (2, 2)


def _soon(work: Any) -> Any:
    """`work()`, once the server has noticed what the operator did."""
    until = time.monotonic() + 20
    while True:
        try:
            return work()
        except (LedgerError, AssertionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
