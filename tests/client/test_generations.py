"""Sharings of a key: the SDK follows a refresh, a resharing and a rotation that the log proves, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import RefundLedger, buyers
from ledger.errors import (
    HolderMismatch,
    InvalidLeaf,
    InvalidProof,
    InvalidSignature,
    LedgerError,
    NewerFormat,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.protocol import sodium, voprf
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.rotation import prove_multiple
from ledger.tlog.ceremony_files import MULTIPLE_CONTEXT
from ledger.tlog.entries import GovernanceType
from ledger.tlog.key_statement import endorse, endorsement_json
from tests.client.shared_ledger import PLATFORM_KEY, SharedLedger, SmallHolder, fresh_scalar, serving
from tests.client.test_epochs import WHO
from tests.client.test_holders import OTHER, expected


def scalar_one() -> bytes:
    return (1).to_bytes(32, "little")


def generation(acme: RefundLedger) -> int:
    return acme.key_holders.generation


def test_a_refresh_is_followed_while_the_sdk_runs(shared: SharedLedger) -> None:
    with shared.connect(lookup_budget_seconds=5) as acme:
        buyer = acme.tag(**WHO)
        shared.refresh()
        acme.tag(**OTHER)
        assert generation(acme) == 1, "holders serve both for a day, so nothing has to be done"
        shared.destroy(1)
        asked = [len(holder.asked) for holder in shared.group]
        assert acme.tag(**WHO) == buyer
        assert [len(holder.asked) for holder in shared.group] == asked, "the element is the same, so it is remembered"
        assert acme.tag(device="device-0123456789abcdef") == expected(shared, {"device": "device-0123456789abcdef"})
        assert generation(acme) == 2
        assert acme.lookup({"device": "device-1123456789abcdef"}, order="1").tier == "clear"


def test_a_lookup_follows_a_refresh_within_its_budget(shared: SharedLedger) -> None:
    with shared.connect(lookup_budget_seconds=5) as acme:
        acme.connect()
        shared.refresh()
        shared.destroy(1)
        assert acme.lookup(WHO, order="1").tier == "clear"


def test_what_was_proven_is_kept_and_cards_may_be_long_out_of_date(shared: SharedLedger) -> None:
    suite, cards = shared.suite_file(), shared.cards()
    for _ in range(3):
        shared.refresh()
    for old in (1, 2, 3):
        shared.destroy(old)
    with shared.connect(suite=suite, cards=cards) as acme:
        acme.connect()
        assert generation(acme) == 4
        assert acme.tag(**WHO) == expected(shared)
    shared.asked()
    with shared.connect(suite=suite, cards=cards) as acme:
        acme.connect()
        assert acme.tag(**WHO) == expected(shared)
        assert not [path for path in shared.asked() if path.startswith("/log/")], "verified from what was kept"
    path = shared.folder / "state" / "epochs.json"
    kept = json.loads(path.read_text())
    assert [entry["generation"] for entry in kept["epochs"]] == [2, 3, 4]
    for place in range(3):  # each step is needed, and none is believed unproven
        damaged = json.loads(path.read_text())
        damaged["epochs"][place]["leaf"] = damaged["epochs"][place]["leaf"].replace("north Ltd", "evil Ltd")
        path.write_text(json.dumps(damaged))
        with shared.connect(suite=suite, cards=cards) as acme:
            assert generation(acme) == place + 1
            acme.connect()
            assert generation(acme) == 4
    for text in (b"", b"[" * 200_000, b"9" * 5000):
        path.write_bytes(text)
        with shared.connect(suite=suite, cards=cards) as acme:
            assert generation(acme) == 1, "a damaged file is as none"


def test_newer_cards_than_the_suite(shared: SharedLedger) -> None:
    suite = shared.suite_file()
    shared.refresh()
    with shared.connect(suite=suite) as acme:
        assert generation(acme) == 2
        assert acme.tag(**WHO) == expected(shared)


def test_cards_of_a_generation_that_is_not_logged_yet(shared: SharedLedger, caplog: pytest.LogCaptureFixture) -> None:
    """Holders do not use it yet; what they use has the same public key."""
    shared.refresh(log=False)
    for holder in shared.group:
        holder.shares = {(1, 1): holder.shares[1, 1]}
    with shared.connect() as acme, caplog.at_level(logging.INFO, "refund_ledger"):
        assert generation(acme) == 2
        assert acme.tag(**WHO) == expected(shared)
        count = len(caplog.records)
        assert acme.tag(**OTHER) == expected(shared, OTHER)
        assert len(caplog.records) == count, "the one in use is asked for first, for a minute"


def test_holders_at_two_generations_are_never_mixed(shared: SharedLedger) -> None:
    """North has the old share only, south the new one only; west has both, so either pair works."""
    north, south, west = shared.group
    with shared.connect() as acme:
        acme.connect()
        shared.refresh()
        north.shares.pop((1, 2))
        south.shares.pop((1, 1))
        assert acme.tag(**WHO) == expected(shared), "of the first generation"
        west.shares.pop((1, 1))
        assert acme.tag(**OTHER) == expected(shared, OTHER), "of the second"
        assert generation(acme) == 2
        west.shares.clear()
        west.refusal = (503, "overloaded", {"retry_after_seconds": 3600})
        with pytest.raises(Unavailable) as caught:
            acme.tag(device="device-0123456789abcdef")
        assert "stale_generation" in str(caught.value)


def test_a_resharing_to_other_holders_is_followed(shared: SharedLedger) -> None:
    with ExitStack() as stack, shared.connect() as acme:
        acme.connect()
        public = PLATFORM_KEY.public_key().public_bytes_raw()
        new = [SmallHolder(n, name, admitted={"acme-1": public}) for n, name in ((4, "east"), (5, "centre"))]
        for holder in new:
            stack.enter_context(serving(holder))
        leaving = shared.group[:1]
        shared.reshare([*shared.group[1:], *new], 3)
        for holder in [*leaving, *shared.group]:
            holder.shares.pop((1, 1), None)
        shared.group[0].refusal = (503, "overloaded", {})
        assert acme.tag(**WHO) == expected(shared)
        described = acme.key_holders
        assert (described.threshold, [holder.id for holder in described.holders]) == (
            3,
            ["south", "west", "east", "centre"],
        )
        assert not leaving[0].shares
        assert all(holder.asked for holder in new), "their addresses are those that the service lists"


def test_a_rotation_is_followed(shared: SharedLedger) -> None:
    suite, cards = shared.suite_file(), shared.cards()
    with shared.connect(suite=suite, cards=cards, lookup_budget_seconds=5) as acme:
        old = acme.tag(**WHO)
        shared.refresh()
        shared.announce(2)
        (ahead,) = buyers(acme.tag_many([WHO], epoch="next"))
        assert (ahead.epoch, acme.current_epoch()) == (2, 1)
        shared.switch(2)
        for holder in shared.group:
            holder.shares = {(2, 1): holder.shares[2, 1]}
        new = acme.tag(device="device-0123456789abcdef")
        assert (new.epoch, acme.current_epoch()) == (2, 2)
        assert acme.tag(**WHO) == ahead == expected(shared)
        for buyer in (old, new):  # grace
            assert acme.lookup(buyer, order="1").tier == "clear"
    with shared.connect(suite=suite, cards=cards) as acme:
        assert acme.key_holders.epoch == 2, "what was proven is kept"
        assert acme.tag(**WHO) == ahead


def test_a_new_platform_during_a_rotation(shared: SharedLedger) -> None:
    """Its cards may be of the epoch that follows; the one before has the key that they name as the one before."""
    before = shared.cards()
    shared.announce(2)
    for name, cards in (("a", before), ("b", shared.cards((2, 1)))):
        with shared.connect(name, cards=cards) as acme:
            assert acme.tag(**WHO) == expected(shared)
            assert buyers(acme.tag_many([WHO], epoch="next"))[0] == shared.buyer(WHO, 2)


def _other_factor(shared: SharedLedger) -> dict[str, Any]:
    """A key of which no multiple is known: the operator's own."""
    factor = fresh_scalar()
    new = voprf.public_key(factor)
    return {
        "multiple_proof": prove_multiple(factor, sodium.scalarmult_base(scalar_one()), new, MULTIPLE_CONTEXT, bytes(64))
    }


def test_a_rotation_to_a_key_that_is_no_proven_multiple(shared: SharedLedger) -> None:
    suite, cards = shared.suite_file(), shared.cards()
    shared.announce(2, **_other_factor(shared))
    shared.switch(2)
    with shared.connect(suite=suite, cards=cards) as acme, pytest.raises(InvalidProof):
        acme.tag(**WHO)


# --- what is not followed -----------------------------------------------------------------------------------------


def _replace_entry(shared: SharedLedger, **members: Any) -> None:
    """Log the refresh once more, with other members of the entry."""
    leaf = json.loads(shared.leaves[shared.announced[1]])
    shared.announced[1] = shared.append(GovernanceType.KEY_ROTATION, leaf["body"] | members)


def _own_holders(shared: SharedLedger) -> None:
    """The operator's own holders, for a key of its own, which sign what it likes."""
    shared.oprf[1] = fresh_scalar()
    for holder in shared.group:
        holder.signing_key = Ed25519PrivateKey.generate()
    shared.share(1, 2, CeremonyKind.REFRESH, (1, 1))
    shared.log_sharing(1, 2)


def _own_holders_of_the_same_key(shared: SharedLedger) -> None:
    for holder in shared.group:
        holder.signing_key = Ed25519PrivateKey.generate()
    shared.share(1, 2, CeremonyKind.REFRESH, (1, 1))
    shared.log_sharing(1, 2)


def _one_of_the_old_holders(shared: SharedLedger) -> None:
    """One holder helps the operator."""
    for holder in shared.group[1:]:
        holder.signing_key = Ed25519PrivateKey.generate()
    shared.share(1, 2, CeremonyKind.REFRESH, (1, 1))
    shared.log_sharing(1, 2)


def _unsigned(shared: SharedLedger) -> None:
    _replace_entry(shared, endorsements=[endorsement_json(part) for part in shared.endorsements[1, 2][:2]])


def _signed_by_another(shared: SharedLedger) -> None:
    other = endorse(shared.statements[1, 1], shared.group[0].signing_key)
    parts = [other, *shared.endorsements[1, 2][1:]]
    _replace_entry(shared, endorsements=[endorsement_json(part) for part in parts])


def _no_statement(shared: SharedLedger) -> None:
    _replace_entry(shared, statement=None)


def _no_endorsements(shared: SharedLedger) -> None:
    _replace_entry(shared, endorsements=None)


def _newer_format(shared: SharedLedger) -> None:
    _replace_entry(shared, statement={**shared.statements[1, 2].json, "format": 2})


def _leads_nowhere(shared: SharedLedger) -> None:
    _replace_entry(shared, previous_entry=None)


def _leads_in_a_circle(shared: SharedLedger) -> None:
    _replace_entry(shared, previous_entry=len(shared.leaves))


def _another_beginning(shared: SharedLedger) -> None:
    """The entry before it states other holders than the cards."""
    other = shared.share(1, 1, CeremonyKind.GENERATE, None)
    body = {**shared.rotation_body(1), "statement": other.json, "endorsements": [], "previous_entry": None}
    _replace_entry(shared, previous_entry=shared.append(GovernanceType.KEY_ROTATION, body))


def _another_sort(shared: SharedLedger) -> None:
    body = json.loads(shared.leaves[shared.announced[1]])["body"]
    shared.announced[1] = shared.append(GovernanceType.POLICY, body)


def _suite_lists_others(shared: SharedLedger) -> None:
    """The log is true; the suite lists another sharing of the same key."""
    shared.share(1, 2, CeremonyKind.REFRESH, (1, 1))


def _suite_without_index(shared: SharedLedger) -> None:
    def drop(body: bytes) -> bytes:
        value = json.loads(body)
        value["epochs"][0]["entry_index"] = None
        return json.dumps(value).encode()

    shared.forge("/v1/suite", drop)


FALSE: dict[str, tuple[Callable[[SharedLedger], Any], type[LedgerError]]] = {
    "the operator's own key": (_own_holders, HolderMismatch),
    "the operator's own holders": (_own_holders_of_the_same_key, InvalidSignature),
    "one of the old holders only": (_one_of_the_old_holders, InvalidSignature),
    "a signature is missing": (_unsigned, InvalidSignature),
    "a signature of another statement": (_signed_by_another, InvalidSignature),
    "no statement": (_no_statement, InvalidLeaf),
    "no endorsements": (_no_endorsements, InvalidLeaf),
    "a newer format": (_newer_format, NewerFormat),
    "leads nowhere": (_leads_nowhere, HolderMismatch),
    "leads in a circle": (_leads_in_a_circle, HolderMismatch),
    "another beginning": (_another_beginning, HolderMismatch),
    "another sort of entry": (_another_sort, InvalidLeaf),
    "the suite lists others": (_suite_lists_others, HolderMismatch),
    "no index": (_suite_without_index, UnexpectedAnswer),
}


def test_holders_that_call_the_current_epoch_stale_are_an_outage(shared: SharedLedger) -> None:
    """Not the fault of the buyer, who would have to be tagged again."""
    for holder in shared.group[:2]:
        holder.refusal = (409, "stale_epoch", {"epoch": 7})
    with shared.connect(lookup_budget_seconds=1) as acme:
        with pytest.raises(Unavailable, match="stale_epoch"):
            acme.tag(**WHO)
        assert acme.lookup(WHO, order="1").tier == "unavailable"


@pytest.mark.parametrize("name", FALSE)
def test_a_false_sharing_is_not_followed(shared: SharedLedger, name: str) -> None:
    forge, error = FALSE[name]
    suite, cards = shared.suite_file(), shared.cards()
    shared.refresh()
    truth = {holder.id: holder.shares[1, 1] for holder in shared.group}
    forge(shared)
    with shared.connect(suite=suite, cards=cards) as acme:
        with pytest.raises(error):
            acme.connect()
        assert generation(acme) == (2 if forge is _suite_lists_others else 1), "what the log proves is no lie"
        for holder in shared.group:
            holder.shares = {(1, 1): truth[holder.id]}
        shared.replace.clear()


@pytest.mark.parametrize("entry", ["of the earlier sharing", "of the newest sharing"])
def test_holders_of_an_earlier_generation_announce_no_epoch(shared: SharedLedger, entry: str) -> None:
    """They may have left, or their signing keys may have been stolen since."""
    suite, cards = shared.suite_file(), shared.cards()
    shared.refresh()
    with shared.connect(suite=suite, cards=cards) as acme:
        acme.connect()
        assert generation(acme) == 2
        newest, place = shared.statements.pop((1, 2)), shared.entries.pop((1, 2))
        if entry == "of the newest sharing":
            shared.entries[1, 1] = place
        shared.announce(2)
        shared.statements[1, 2], shared.entries[1, 2] = newest, place
        with pytest.raises(HolderMismatch):
            acme.tag_many([WHO], epoch="next")


def test_the_sdk_never_goes_back_to_an_earlier_generation(shared: SharedLedger) -> None:
    suite, cards = shared.suite_file(), shared.cards()
    shared.refresh()
    with shared.connect(suite=suite, cards=cards) as acme:
        acme.connect()
        assert generation(acme) == 2
    shared.forge("/v1/suite", lambda body: json.dumps({**json.loads(body), "epochs": suite["epochs"]}).encode())
    with shared.connect(suite=suite, cards=cards) as acme:
        acme.connect()
        assert generation(acme) == 2
        assert buyers(acme.tag_many([WHO])) == [expected(shared)]
