"""Key epochs: the SDK follows a rotation that the log proves, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import Buyer, Lookup, Query, buyers
from ledger.client.identity.epochs import announced_keys
from ledger.client.identity.suite import parse_service
from ledger.errors import (
    Equivocation,
    HolderMismatch,
    InvalidInclusion,
    InvalidLeaf,
    InvalidRequest,
    InvalidTile,
    LedgerError,
    StaleEpoch,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.tlog import merkle
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.entries import GovernanceType, parse_leaf
from tests.client.small_ledger import ORIGIN, SmallLedger, canonical_text
from tests.kit import report_arguments

WHO = {"phone": "+86 138 0013 8000"}


def test_a_rotation_is_followed_while_the_sdk_runs(ledger: SmallLedger) -> None:
    with ledger.connect(lookup_budget_seconds=5) as acme:
        old = acme.tag(**WHO)
        ledger.announce(2)
        (ahead,) = buyers(acme.tag_many([WHO], epoch="next"))
        assert (old.epoch, ahead.epoch, acme.current_epoch()) == (1, 2, 1)
        assert ahead.subjects[0].tag != old.subjects[0].tag
        ledger.switch(2)
        new = acme.tag(device="device-0123456789abcdef")
        assert (new.epoch, acme.current_epoch()) == (2, 2)
        assert acme.tag(**WHO) == ahead, "it is the same tag as was made ahead"
        for buyer in (old, new, ahead):  # grace: both are answered
            assert acme.lookup(buyer, order="1").tier == "clear"
        ledger.states[1] = "retired"
        assert acme.lookup(WHO, order="1").tier == "clear"
        with pytest.raises(StaleEpoch, match="Blind again"):
            acme.lookup(old, order="1")


def test_a_lookup_of_raw_identifiers_moves_on_by_itself(ledger: SmallLedger) -> None:
    with ledger.connect(lookup_budget_seconds=5) as acme:
        acme.tag(**WHO)
        ledger.announce(2)
        ledger.switch(2, retire=True)
        assert acme.lookup(WHO, order="1").tier == "clear"
        assert acme.current_epoch() == 2


def test_what_was_proven_is_kept_and_a_suite_file_may_be_long_out_of_date(ledger: SmallLedger) -> None:
    suite = ledger.suite_file()
    for epoch in (2, 3):
        ledger.announce(epoch)
        ledger.switch(epoch, retire=True)
    with ledger.connect(suite=suite) as acme:
        assert acme.tag(**WHO).epoch == 3
    with ledger.connect(suite=suite) as acme:
        ledger.asked()
        buyer = acme.tag(**WHO)
        assert buyer.epoch == 3
        assert not [path for path in ledger.asked() if path.startswith("/log/")], (
            "it is proven again from what was kept"
        )
    ledger.broken = True
    with ledger.connect(suite=suite) as acme:  # offline, reports under the new epoch can be written down
        assert acme.reports.create(buyer, **report_arguments()).state == "pending"
    path = ledger.folder / "state" / "epochs.json"
    assert path.stat().st_mode & 0o777 == 0o600
    for damage in ("{", '{"epochs": [{}, 1, {"epoch": 3, "leaf": "{}", "proof": ""}], "current": "x"}'):
        path.write_text(damage)
        ledger.broken = False
        with ledger.connect(suite=suite) as acme:
            assert acme.current_epoch() == 3


def test_reports_of_both_epochs_are_sent_during_grace(ledger: SmallLedger) -> None:
    with ledger.connect() as acme:
        old = acme.tag(**WHO)
        ledger.announce(2)
        with pytest.raises(StaleEpoch):
            acme.reports.create(ledger.buyer(WHO, 2), **report_arguments())
        ledger.switch(2)
        new = acme.tag(**WHO)
        ledger.replace["/v1/reports"] = lambda _: (503, {}, b'{"code": "overloaded", "detail": "Busy."}')
        for buyer in (old, new):
            assert acme.reports.create(buyer, **report_arguments()).state == "pending"
            body = json.loads(acme.outbox.list()[-1].content)["body"]
            assert body["epoch"] == buyer.epoch


def test_after_a_stale_report_the_buyer_is_blinded_anew(ledger: SmallLedger) -> None:
    with ledger.connect() as acme:
        old = acme.tag(**WHO)
        ledger.announce(2)
        ledger.switch(2, retire=True)
        ledger.replace["/v1/reports"] = lambda _: ledger.stale()
        with pytest.raises(StaleEpoch):
            acme.reports.create(old, **report_arguments())
        assert [item.state for item in acme.outbox.list()] == ["refused"]
        assert acme.tag(**WHO).epoch == 2, "although it was remembered under the old epoch"


def test_a_server_that_lags_behind_is_an_outage(ledger: SmallLedger) -> None:
    with ledger.connect(lookup_budget_seconds=5) as acme:
        ledger.announce(2)
        (ahead,) = buyers(acme.tag_many([WHO], epoch="next"))
        ledger.switch(2)
        assert acme.tag(**WHO).epoch == 2
        ledger.states = {1: "current", 2: "next"}  # another process, that has not noticed yet
        lookup = acme.lookup(ahead, order="1")
        assert (lookup.tier, lookup.unavailable_because) == ("unavailable", "unavailable")
        stale = b'{"code": "stale_epoch", "detail": "Another epoch.", "epoch": 1}'
        ledger.replace["/v1/reports"] = lambda _: (409, {}, stale)
        assert acme.reports.create(ahead, **report_arguments()).state == "pending", "not refused for good"
        ledger.replace["/v1/reports"] = lambda _: (409, {}, stale.replace(b"1}", b"3}"))
        with pytest.raises(StaleEpoch):
            acme.reports.create(ahead, **report_arguments())


def test_many_lookups_move_on(ledger: SmallLedger) -> None:
    with ledger.connect() as acme:
        acme.connect()
        ledger.announce(2)
        ledger.switch(2)
        (outcome,) = acme.lookup_many([Query(ledger.buyer(WHO, 2), "1")])
        assert isinstance(outcome, Lookup)
        retired = Query(Buyer(7, ledger.buyer(WHO, 1).subjects), "2")
        good = Query(ledger.buyer(WHO, 2), "1")
        outcomes = acme.lookup_many([retired, good, retired, good])
        assert [type(outcome) for outcome in outcomes] == [StaleEpoch, Lookup, StaleEpoch, Lookup], "one stops no other"
        assert [type(outcome) for outcome in acme.lookup_many([retired])] == [StaleEpoch]


def test_snapshots_move_on(ledger: SmallLedger) -> None:
    ledger.publish({("phone", WHO["phone"]): [ledger.event()]})
    with ledger.connect() as acme:
        old = acme.tag(**WHO)
        assert acme.check(old).events == 1
        ledger.announce(2)
        ledger.switch(2)
        new = ledger.buyer(WHO, 2)
        with pytest.raises(Unavailable, match="yet"):
            acme.check(new)
        assert acme.check(WHO).events == 1, "remembered under the epoch of the snapshot"
        ledger.publish({("phone", WHO["phone"]): [ledger.event(1), ledger.event(2)]}, epoch=2)
        assert acme.check(new).events == 2
        with pytest.raises(StaleEpoch, match="Blind again"):
            acme.check(old)
        assert acme.check_tags(new.subjects[0].tag, epoch=2).all()
        with pytest.raises(StaleEpoch):
            acme.check_tags(old.subjects[0].tag, epoch=1)


# --- what is not followed -----------------------------------------------------------------------------------------


def _evil_holders(ledger: SmallLedger) -> None:
    """The suite shows a key that the log did not announce."""
    ledger.new_key(2)


def _other_entry(ledger: SmallLedger) -> None:
    ledger.announced[2] = 0


def _entry_of_another_sort(ledger: SmallLedger) -> None:
    body = ledger.rotation_body(1) | {"next": {"epoch": 2, "holders": ledger.holders(2)}}
    ledger.announced[2] = ledger.append(GovernanceType.POLICY, body)


def _entry_that_is_not_there(ledger: SmallLedger) -> None:
    ledger.announced[2] = 99


def _other_log(ledger: SmallLedger) -> None:
    other = verifier_key(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    body = ledger.rotation_body(1) | {"next": {"epoch": 2, "holders": ledger.holders(2)}}
    ledger.announced[2] = ledger.append(GovernanceType.KEY_ROTATION, body | {"log": {"origin": ORIGIN, "key": other}})


def _contradicting(ledger: SmallLedger) -> None:
    """An announcement that tells other holders of the pinned epoch."""
    body = {**ledger.rotation_body(1), "holders": ledger.holders(2), "next": {"epoch": 2, "holders": ledger.holders(2)}}
    ledger.announced[2] = ledger.append(GovernanceType.KEY_ROTATION, body)


def _false_tile(ledger: SmallLedger) -> None:
    path = "/log/" + merkle.tile_path(0, 0, len(ledger.leaves))
    ledger.forge(path, lambda data: bytes([data[0] ^ 1]) + data[1:])


def _false_bundle(ledger: SmallLedger) -> None:
    """The entry that is shown is not the one in the tree."""
    evil = [*ledger.leaves]
    shown = json.loads(evil[ledger.announced[2]])
    ledger.new_key(2)
    shown["body"]["next"]["holders"] = ledger.holders(2)
    evil[ledger.announced[2]] = canonical_text(shown).encode()
    path = "/log/" + merkle.tile_path("entries", 0, len(evil))
    ledger.forge(path, lambda data: merkle.encode_bundle(evil))


def _no_index(ledger: SmallLedger) -> None:
    def drop(body: bytes) -> bytes:
        value = json.loads(body)
        for epoch in value["epochs"]:
            del epoch["entry_index"]
        return json.dumps(value).encode()

    ledger.forge("/v1/suite", drop)


def _two_current(ledger: SmallLedger) -> None:
    ledger.states[1] = "current"


def _another_history(ledger: SmallLedger) -> None:
    body = ledger.leaves[1]
    ledger.leaves[1] = body.replace(b'"retired":[]', b'"retired":[9]')
    ledger.append(GovernanceType.PLATFORM_STATUS, {"n": 1})


FALSE: dict[str, tuple[Callable[[SmallLedger], Any], type[LedgerError]]] = {
    "another key than announced": (_evil_holders, HolderMismatch),
    "an entry that announces another": (_other_entry, InvalidLeaf),
    "an entry of another sort": (_entry_of_another_sort, InvalidLeaf),
    "an entry that is not there": (_entry_that_is_not_there, Unavailable),
    "another log": (_other_log, HolderMismatch),
    "contradicts what is pinned": (_contradicting, HolderMismatch),
    "false tile": (_false_tile, InvalidTile),
    "false bundle": (_false_bundle, InvalidInclusion),
    "no index": (_no_index, UnexpectedAnswer),
    "two current": (_two_current, UnexpectedAnswer),
    "another history": (_another_history, Equivocation),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_false_rotation_is_not_followed(ledger: SmallLedger, name: str) -> None:
    suite = ledger.suite_file()
    forge, error = FALSE[name]
    ledger.announce(2)
    budget = 1.0 if error is Unavailable else 20.0  # what may pass is asked for until the time is over
    with ledger.connect(suite=suite, subject_budget_seconds=budget) as acme:
        acme._session.seen.accept(ledger.note(), lambda path: b"")
        ledger.switch(2)
        forge(ledger)
        with pytest.raises(error):
            acme.tag(**WHO)
        assert not acme._session.epochs.holds(2)
    assert "/v1/oprf/evaluate" not in ledger.asked(), "nothing is blinded for a key that is not proven"


def test_the_service_cannot_go_back(ledger: SmallLedger) -> None:
    """A thief of a retired key, in the server's place, wants identifiers blinded under it."""
    suite = ledger.suite_file()
    ledger.announce(2)
    ledger.switch(2, retire=True)
    with ledger.connect(suite=suite) as acme:
        acme.connect()
    ledger.states = {1: "current"}
    with ledger.connect(suite=suite) as acme, pytest.raises(HolderMismatch, match="earlier"):
        acme.tag(**WHO)


def test_an_announcement_that_is_not_covered_yet_is_waited_for(ledger: SmallLedger) -> None:
    suite, old = ledger.suite_file(), ledger.note()
    ledger.announce(2)
    ledger.forge("/log/checkpoint", lambda body: old.encode())
    with ledger.connect(suite=suite) as acme:
        with pytest.raises(Unavailable):
            acme.tag_many([WHO], epoch="next")
        ledger.replace.clear()
        assert buyers(acme.tag_many([WHO], epoch="next"))[0].epoch == 2


def test_no_next_epoch(ledger: SmallLedger) -> None:
    with ledger.connect() as acme:
        with pytest.raises(InvalidRequest, match="next"):
            acme.tag_many([WHO], epoch="next")
        with pytest.raises(StaleEpoch):
            acme.tag_many([WHO], epoch=5)


def test_the_first_epoch_is_announced_by_its_own_entry(ledger: SmallLedger) -> None:
    pinned = parse_service(ledger.suite_json())
    leaf = parse_leaf(ledger.leaves[0])
    assert announced_keys(leaf, 1, pinned, {}) == pinned.epochs[0].keys
    with pytest.raises(InvalidLeaf):
        announced_keys(leaf, 2, pinned, {})
    ledger.append(GovernanceType.KEY_ROTATION, {"epoch": 1})
    with pytest.raises(InvalidLeaf, match="malformed"):
        announced_keys(parse_leaf(ledger.leaves[-1]), 1, pinned, {})
